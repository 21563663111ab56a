//! Images for containers, without a registry: archives that both Docker and containerd load.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{packages, tools};

/// An image with a shell and the usual commands, which engines and nodes have from the start.
pub const IMAGE: &str = "taffrail/busybox:parts";

/// Debian's busybox that needs no libraries.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// Writes the archive of [`IMAGE`]; `work` is a folder to build it in.
pub(crate) fn busybox(work: &Path, archive: &Path) -> Result<()> {
    let root = work.join("busybox");
    fill(&root)?;
    pack(&root, IMAGE, &["/bin/sh"], &work.join("busybox.image"), archive)
}

/// Writes the archive of an image with one layer, the folder `root`; `work` is a folder to build it in.
pub(crate) fn pack(root: &Path, name: &str, command: &[&str], work: &Path, archive: &Path) -> Result<()> {
    tools::create_folder(work)?;
    let layer = work.join("layer.tar");
    tar(root, &layer)?;
    let sum = tools::run(Command::new("sha256sum").arg(&layer))?;
    let sum = String::from_utf8_lossy(&sum);
    let sum = sum.split(' ').next().context("sha256sum printed nothing")?;
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": command },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]);
    tools::write(&work.join("config.json"), config.to_string())?;
    tools::write(&work.join("manifest.json"), manifest.to_string())?;
    tar(work, archive)
}

/// A root file system with busybox under the name of each of its commands.
fn fill(root: &Path) -> Result<()> {
    packages::ensure_file(Path::new(BUSYBOX), "busybox-static")?;
    for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"] {
        tools::create_folder(&root.join(folder))?;
    }
    let bin = root.join("bin");
    std::fs::copy(BUSYBOX, bin.join("busybox")).context("cannot copy busybox")?;
    let commands = tools::run(Command::new(BUSYBOX).arg("--list"))?;
    for command in String::from_utf8_lossy(&commands).lines().filter(|name| *name != "busybox") {
        symlink("busybox", bin.join(command)).with_context(|| format!("cannot link {command}"))?;
    }
    tools::write(
        &root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/tmp:/bin/sh\n",
    )?;
    tools::write(&root.join("etc/group"), "root:x:0:\nsailor:x:1000:\n")
}

/// Packs what is in a folder, the same bytes each time.
fn tar(folder: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-C"]);
    tools::run(tar.arg(folder).arg("-cf").arg(archive).arg("."))?;
    Ok(())
}
