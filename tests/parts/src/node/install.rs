//! The node's programs: built by Go once, from the modules that the Kubernetes and etcd projects publish.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::cache::Entry;
use crate::go::Source;
use crate::{image, packages, tools};

const SOURCE: Source = Source {
    module: include_str!("../../node/go.mod"),
    sums: include_str!("../../node/go.sum"),
    main: include_str!("../../node/main.go"),
};
const PAUSE: &str = include_str!("../../node/pause.c");

/// The node's place in the cache.
pub(crate) const ENTRY: Entry<'static> =
    Entry { part: "node", pins: &[SOURCE.module, SOURCE.sums, SOURCE.main, PAUSE] };

/// The image of the first process of every pod, by the full name that containerd looks for.
pub(crate) const PAUSE_IMAGE: &str = "docker.io/taffrail/pause:parts";

/// The version of Kubernetes in the module.
pub(crate) fn version() -> &'static str {
    SOURCE.version_of("k8s.io/kubernetes")
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
    eprintln!("parts: building Kubernetes {}, about seven minutes on two cores", version());
    let version = version();
    let (major, minor) = major_minor(version);
    let set = |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    let linked = [set("gitVersion", version), set("gitMajor", major), set("gitMinor", minor)].join(" ");
    SOURCE.build(folder, "kubernetes-node", &linked)
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
        let replaced: Vec<&str> = SOURCE.module.lines().filter(|line| line.contains(" => ")).collect();
        assert!(!replaced.is_empty());
        for line in replaced {
            assert!(line.ends_with(&staging), "{line}");
        }
    }
}
