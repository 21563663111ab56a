//! Where `--dedup` writes: standard output, or a file that appears whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Whether `path` means standard output.
pub(super) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// The output of records.
pub(super) enum Output {
    /// Standard output.
    Stdout,
    /// A file, written aside as the second path until it is whole.
    File(PathBuf, PathBuf),
}

impl Output {
    /// Prepares to write to `path`.
    pub(super) fn create(path: &Path) -> Result<Self> {
        if is_stdout(path) {
            return Ok(Output::Stdout);
        }
        let name = path.file_name().with_context(|| format!("{} is not a file name", path.display()))?;
        let mut aside = name.to_owned();
        aside.push(".part");
        Ok(Output::File(path.to_owned(), path.with_file_name(aside)))
    }

    /// What the records are written to.
    pub(super) fn writer(&self) -> Result<Box<dyn Write>> {
        const BUFFER: usize = 1 << 18;
        Ok(match self {
            Output::Stdout => Box::new(BufWriter::with_capacity(BUFFER, io::stdout())),
            Output::File(_, aside) => {
                let file =
                    File::create(aside).with_context(|| format!("cannot create {}", aside.display()))?;
                Box::new(BufWriter::with_capacity(BUFFER, file))
            }
        })
    }

    /// Puts the file in place.
    pub(super) fn finish(self) -> Result<()> {
        let Output::File(path, aside) = self else { return Ok(()) };
        let synced = File::open(&aside).and_then(|file| file.sync_all());
        synced
            .and_then(|()| fs::rename(&aside, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
