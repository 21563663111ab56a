//! The node's programs: built by Go once, from the modules that the Kubernetes and etcd projects publish.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::Entry;
use crate::{image, packages, tools};

const MODULE: &str = include_str!("../../node/go.mod");
const SUMS: &str = include_str!("../../node/go.sum");
const MAIN: &str = include_str!("../../node/main.go");
const PAUSE: &str = include_str!("../../node/pause.c");

/// The node's place in the cache.
pub(crate) const ENTRY: Entry<'static> = Entry { part: "node", pins: &[MODULE, SUMS, MAIN, PAUSE] };

/// The image of the first process of every pod, by the full name that containerd looks for.
pub(crate) const PAUSE_IMAGE: &str = "docker.io/taffrail/pause:parts";

/// The version of Kubernetes in the module.
pub(crate) fn version() -> &'static str {
    let required = MODULE.split("k8s.io/kubernetes ").nth(1).unwrap_or_default();
    required.lines().next().unwrap_or("unknown").trim()
}

/// The installed programs.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    folder: PathBuf,
}

impl Installed {
    /// Builds the programs unless the cache has them, and installs the packages they need.
    pub(crate) fn get() -> Result<Self> {
        packages::ensure(&[("containerd", "containerd"), ("ctr", "containerd"), ("runc", "runc")])?;
        packages::ensure_file(Path::new("/bin/busybox"), "busybox-static")?;
        Ok(Self { folder: ENTRY.get(build)? })
    }

    /// The file that is all of the programs.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("kubernetes-node")
    }

    /// A command of one of the programs.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.file());
        command.arg(name);
        command
    }

    /// The archive of [`PAUSE_IMAGE`].
    pub(crate) fn pause_image(&self) -> PathBuf {
        self.folder.join("pause.tar")
    }
}

fn build(folder: &Path) -> Result<()> {
    build_pause(folder)?;
    packages::find("go")
        .context("building the Kubernetes node takes Go 1.24 or newer, which is not on PATH")?;
    eprintln!("parts: building Kubernetes {}, about seven minutes on two cores", version());
    let source = folder.join("source");
    tools::create_folder(&source)?;
    for (name, text) in [("go.mod", MODULE), ("go.sum", SUMS), ("main.go", MAIN)] {
        tools::write(&source.join(name), text)?;
    }
    let version = version();
    let (major, minor) = major_minor(version);
    let set = |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    let flags = [set("gitVersion", version), set("gitMajor", major), set("gitMinor", minor)].join(" ");
    let mut go = go();
    go.current_dir(&source).args(["build", "-trimpath", "-ldflags"]).arg(format!("-s -w {flags}"));
    tools::run(go.arg("-o").arg(folder.join("kubernetes-node")).arg("."))?;
    Ok(())
}

/// Go with settings that decide what is built and from where, whatever the user's own.
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

fn build_pause(folder: &Path) -> Result<()> {
    let root = folder.join("pause");
    tools::create_folder(&root)?;
    let source = folder.join("pause.c");
    tools::write(&source, PAUSE)?;
    packages::ensure(&[("cc", "build-essential")])?;
    tools::run(
        Command::new("cc").args(["-static", "-Os", "-s", "-Wall", "-o"]).arg(root.join("pause")).arg(&source),
    )?;
    image::pack(&root, PAUSE_IMAGE, &["/pause"], &folder.join("pause.image"), &folder.join("pause.tar"))
}

fn major_minor(version: &str) -> (&str, &str) {
    let mut numbers = version.trim_start_matches('v').split('.');
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_module() {
        let version = version();
        assert!(version.starts_with("v1."), "{version}");
        let (major, minor) = major_minor(version);
        assert_eq!(major, "1");
        assert!(minor.parse::<u32>().is_ok(), "{minor}");
    }

    #[test]
    fn staging_modules_have_the_version_of_kubernetes() {
        let staging = version().replacen("v1.", "v0.", 1);
        let replaced: Vec<&str> = MODULE.lines().filter(|line| line.contains(" => ")).collect();
        assert!(!replaced.is_empty());
        for line in replaced {
            assert!(line.ends_with(&staging), "{line}");
        }
    }
}
