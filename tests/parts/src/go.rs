//! Programs that Go builds from published modules: the same result whatever the user's own settings.
//!
//! All of them are built without cgo, so that they share what Go has compiled already.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{packages, tools};

/// The sources of a program: its module, the checksums of what it requires, and its one file.
pub(crate) struct Source {
    /// `go.mod`.
    pub(crate) module: &'static str,
    /// `go.sum`.
    pub(crate) sums: &'static str,
    /// `main.go`.
    pub(crate) main: &'static str,
}

impl Source {
    /// The version of a module that this one requires.
    pub(crate) fn version_of(&self, module: &str) -> &'static str {
        let required = self.module.split(&format!("{module} ")).nth(1).unwrap_or_default();
        required.split_whitespace().next().unwrap_or("unknown")
    }

    /// Builds it into the file `program`, with sources and all else in `folder`.
    pub(crate) fn build(&self, folder: &Path, program: &str, linked: &str) -> Result<()> {
        packages::find("go")
            .with_context(|| format!("building {program} takes Go 1.26 or newer, which is not on PATH"))?;
        let source = folder.join("source");
        tools::create_folder(&source)?;
        for (name, text) in [("go.mod", self.module), ("go.sum", self.sums), ("main.go", self.main)] {
            tools::write(&source.join(name), text)?;
        }
        let mut go = go();
        go.current_dir(&source).args(["build", "-trimpath", "-ldflags"]).arg(format!("-s -w {linked}"));
        tools::run(go.arg("-o").arg(folder.join(program)).arg(".")).map(drop)
    }
}

/// The folder of a published module's files, with this checksum.
pub(crate) fn module(name: &str, version: &str, sum: &str) -> Result<PathBuf> {
    packages::find("go").with_context(|| format!("{name} takes Go, which is not on PATH"))?;
    let downloaded = tools::run(go().args(["mod", "download", "-json"]).arg(format!("{name}@{version}")))?;
    let said: serde_json::Value = serde_json::from_slice(&downloaded)?;
    ensure!(said["Sum"] == sum, "{name}@{version} has the checksum {}, not {sum}", said["Sum"]);
    Ok(PathBuf::from(said["Dir"].as_str().context("go did not say where the module is")?))
}

/// Go with settings that decide what is built and from where.
fn go() -> Command {
    let mut go = Command::new("go");
    go.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=readonly -buildvcs=false");
    let asked = tools::run(Command::new("go").args(["env", "GOPROXY"])).unwrap_or_default();
    let proxy = String::from_utf8_lossy(&asked).trim().to_owned();
    // What the proxy does not have is a mistake in go.mod: no reason to go looking for repositories.
    if let Some(proxy) = proxy.strip_suffix(",direct").or(proxy.strip_suffix("|direct")) {
        go.env("GOPROXY", proxy);
    }
    go
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_required_module_is_read() {
        let module = "module x\n\nrequire (\n\texample/a v1.2.3\n\texample/b v0.1.0 // indirect\n)\n";
        let source = Source { module, sums: "", main: "" };
        assert_eq!(source.version_of("example/a"), "v1.2.3");
        assert_eq!(source.version_of("example/b"), "v0.1.0");
        assert_eq!(source.version_of("example/c"), "unknown");
    }
}
