//! A part's folder, and the certainty that nothing of the part outlives it.
//!
//! Every part has a janitor: a small shell that waits for the end of a pipe held by this process and
//! then ends what is left, and removes the part's control groups and folder. The kernel closes
//! the pipe however this process ends, so there is one way of clearing up, for every ending.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

const SCRIPT: &str = include_str!("../scripts/janitor.sh");

/// The folder where a part keeps everything it writes; removed when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    janitor: Child,
}

impl Place {
    /// A new folder for a part, in the folder for temporary files.
    pub(crate) fn new(part: &str) -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix(&format!("taffrail-parts-{part}-"))
            .tempdir()
            .context("cannot create a folder for temporary files")?
            .keep();
        let janitor = Command::new("sh")
            .args(["-c", SCRIPT, "janitor"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot run sh")?;
        Ok(Self { path, janitor })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder inside.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The end of the folder's name, unique on this machine: a name for what a part creates elsewhere.
    pub(crate) fn unique_name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Has the janitor end all processes of a control group and remove it in the end.
    pub(crate) fn clears_cgroup(&mut self, path: &Path) -> Result<()> {
        let pipe = self.janitor.stdin.as_mut().context("the janitor has been told to clear up already")?;
        writeln!(pipe, "cgroup {}", path.display()).context("the part's janitor is gone")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        if !self.janitor.wait().is_ok_and(|status| status.success()) {
            eprintln!("parts: could not clear away all of {}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_with_the_value() -> Result<()> {
        let place = Place::new("test")?;
        let path = place.path().to_owned();
        crate::tools::create_folder(&place.join("below/deep"))?;
        drop(place);
        assert!(!path.exists());
        Ok(())
    }

    #[test]
    fn the_janitor_outlives_a_killed_process_and_clears_its_folder() -> Result<()> {
        let mut place = Place::new("test")?;
        let path = place.path().to_owned();
        // What the kernel does at a process's death, with the wait of `drop` left out.
        drop(place.janitor.stdin.take());
        let cleared = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            !path.exists()
        });
        assert!(cleared);
        Ok(())
    }
}
