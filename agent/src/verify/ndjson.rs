//! Records and statements from NDJSON files: what the file shipper wrote, whole or still being written, compressed or
//! not, or what somebody took out of a topic.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::read::MultiGzDecoder;

use super::session::{Message, Session};

/// The files that `path` stands for: itself, or the log and ledger files of a directory, by name.
///
/// # Errors
/// When it is not there or cannot be listed.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let listing = fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    let mut files = Vec::new();
    for entry in listing {
        let entry = entry.with_context(|| format!("cannot list {}", path.display()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if (name.starts_with("logs-") || name.starts_with("ledger-")) && name.contains(".ndjson") {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Reads one file to its end. What its last line lacks in a file that is still being written is no error.
///
/// # Errors
/// The output's are fatal and come as `Err`; what is wrong with the file itself comes as text, so that the others can
/// still be read.
pub(super) fn read(path: &Path, session: &mut Session) -> io::Result<Result<(), String>> {
    let trouble = |error: &io::Error| format!("{}: {error}", path.display());
    let mut reader = match open(path) {
        Ok(reader) => reader,
        Err(error) => return Ok(Err(trouble(&error))),
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(Ok(())),
            Ok(_) => {}
            Err(error) => return Ok(Err(trouble(&error))),
        }
        let whole = line.pop_if(|last| *last == b'\n').is_some();
        let torn = !whole && serde_json::from_slice::<serde::de::IgnoredAny>(&line).is_err();
        if !line.is_empty() && !torn {
            session.message(Message { value: &line, raw: None })?;
        }
    }
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    const BUFFER: usize = 1 << 18;
    let mut file = BufReader::with_capacity(BUFFER, File::open(path)?);
    // By content, not by name: a file may have been renamed on its way here.
    let compressed = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let reader: Box<dyn Read> =
        if compressed { Box::new(MultiGzDecoder::new(file)) } else { return Ok(Box::new(file)) };
    Ok(Box::new(BufReader::with_capacity(BUFFER, reader)))
}
