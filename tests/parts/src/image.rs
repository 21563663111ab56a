//! Root file systems for containers, without a registry.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{packages, tools};

const BUSYBOX: &str = "/bin/busybox";

/// Packs a root file system with busybox and its commands into a tar archive.
///
/// `work` is a folder to build it in.
pub(crate) fn busybox(work: &Path, archive: &Path) -> Result<()> {
    packages::ensure_file(Path::new(BUSYBOX), "busybox-static")?;
    for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"] {
        tools::create_folder(&work.join(folder))?;
    }
    let bin = work.join("bin");
    std::fs::copy(BUSYBOX, bin.join("busybox")).context("cannot copy busybox")?;
    let commands = tools::run(Command::new(BUSYBOX).arg("--list"))?;
    for command in String::from_utf8_lossy(&commands).lines().filter(|name| *name != "busybox") {
        symlink("busybox", bin.join(command)).with_context(|| format!("cannot link {command}"))?;
    }
    tools::write(
        &work.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/tmp:/bin/sh\n",
    )?;
    tools::write(&work.join("etc/group"), "root:x:0:\nsailor:x:1000:\n")?;
    pack(work, archive)
}

/// Packs a folder, the same bytes each time.
pub(crate) fn pack(folder: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-C"]);
    tools::run(tar.arg(folder).arg("-cf").arg(archive).arg("."))?;
    Ok(())
}
