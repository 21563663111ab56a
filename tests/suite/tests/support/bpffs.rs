//! A folder of bpffs of a test's own: probes that are pinned there go with it.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

/// Such a folder, mounted until it is dropped.
pub(crate) struct Bpffs(tempfile::TempDir);

impl Bpffs {
    pub(crate) fn mount() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(folder.path()).output()?;
        ensure!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
        Ok(Bpffs(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}
