//! The files of one kind (`logs`, `ledger`, `events`, `audit`): which is being written, when the next begins, which are deleted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::metrics::Counters;
use crate::segment::{Closed, Segment, list, recover, sync_directory};
use crate::{FileConfig, FileError};

/// A failed operation on a file.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {cause}")]
pub(crate) struct Failed {
    what: &'static str,
    path: PathBuf,
    cause: io::Error,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failed {
    let path = path.to_owned();
    move |cause| Failed { what, path, cause }
}

/// A sequence of files.
#[derive(Debug)]
pub(crate) struct Series {
    kind: &'static str,
    directory: PathBuf,
    max_bytes: u64,
    max_age: Duration,
    keep_files: usize,
    keep_bytes: u64,
    current: Option<Segment>,
    number: u64,
    closed: Vec<Closed>,
    counters: Arc<Counters>,
}

impl Series {
    /// Takes over the directory's files of that kind; those left open are recovered and closed.
    pub(crate) fn open(
        kind: &'static str,
        config: &FileConfig,
        counters: &Arc<Counters>,
    ) -> Result<Self, FileError> {
        let directory = config.directory.clone();
        let cut = recover(&directory, kind).map_err(FileError::at(&directory))?;
        if cut > 0 {
            tracing::info!(
                kind,
                cut,
                "cut an unfinished line off a file that was left open; it is written again"
            );
        }
        let (closed, number) = list(&directory, kind).map_err(FileError::at(&directory))?;
        Ok(Series {
            kind,
            directory,
            max_bytes: config.max_file_bytes,
            max_age: Duration::from_secs(config.max_file_age_seconds),
            keep_files: config.keep_files as usize,
            keep_bytes: config.keep_bytes,
            current: None,
            number,
            closed,
            counters: Arc::clone(counters),
        })
    }

    /// Writes whole lines into the current file. Does not begin the next one: see [`Series::is_full`].
    pub(crate) fn write(&mut self, lines: &[u8]) -> Result<(), Failed> {
        let segment = match self.current.take() {
            Some(segment) => segment,
            None => self.create()?,
        };
        let segment = self.current.insert(segment);
        segment.write(lines).map_err(failed("cannot write", segment.path()))
    }

    fn create(&mut self) -> Result<Segment, Failed> {
        let number = self.number + 1;
        let segment = Segment::create(&self.directory, self.kind, number);
        let segment = segment.map_err(failed("cannot make a file in", &self.directory))?;
        self.number = number;
        Ok(segment)
    }

    /// Whether the file has to be closed before `more` bytes are written.
    pub(crate) fn is_full(&self, more: u64) -> bool {
        self.current.as_ref().is_some_and(|segment| {
            segment.length() > 0
                && (segment.length() + more > self.max_bytes || segment.since().elapsed() >= self.max_age)
        })
    }

    /// Sees to it that everything written is on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), Failed> {
        match &mut self.current {
            Some(segment) => segment.sync().map_err(failed("cannot sync", segment.path())),
            None => Ok(()),
        }
    }

    /// Takes back what is not known to be on the disk, and closes the file: after a failed sync the kernel may have
    /// dropped its pages, and syncing them again would prove nothing. A file on which even that fails is left to the
    /// recovery of the next start.
    pub(crate) fn roll_back(&mut self) {
        let Some(mut segment) = self.current.take() else { return };
        match segment.roll_back().and_then(|()| segment.close()) {
            Ok(()) => self.note_closed(&segment),
            Err(error) => tracing::warn!("{}: left as it is: {error}", segment.path().display()),
        }
    }

    /// Closes the current file, which must be synced, and deletes the oldest beyond the limits.
    pub(crate) fn close(&mut self) -> Result<(), Failed> {
        let Some(segment) = &self.current else { return Ok(()) };
        segment.close().map_err(failed("cannot rename", segment.path()))?;
        if let Some(segment) = self.current.take() {
            self.note_closed(&segment);
        }
        self.delete_oldest()
    }

    fn note_closed(&mut self, segment: &Segment) {
        if segment.length() > 0 {
            let path = segment.path().with_extension("");
            self.closed.push(Closed { number: self.number, path, bytes: segment.length() });
            self.counters.closed.fetch_add(1, Relaxed);
        }
    }

    /// Deletes closed files, oldest first, until the rest is within the limits. The current one is never touched.
    pub(crate) fn delete_oldest(&mut self) -> Result<(), Failed> {
        let mut bytes: u64 = self.closed.iter().map(|closed| closed.bytes).sum();
        let before = self.closed.len();
        while let Some(oldest) = self.closed.first() {
            if self.closed.len() <= self.keep_files && bytes <= self.keep_bytes {
                break;
            }
            match fs::remove_file(&oldest.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("cannot delete", &oldest.path)(error));
                }
                removed => {
                    if removed.is_ok() {
                        self.counters.deleted.fetch_add(1, Relaxed);
                        self.counters.deleted_bytes.fetch_add(oldest.bytes, Relaxed);
                    }
                    bytes -= oldest.bytes;
                    self.closed.remove(0);
                }
            }
        }
        if self.closed.len() < before {
            let deleted = before - self.closed.len();
            tracing::info!(
                kind = self.kind,
                deleted,
                "deleted the oldest closed files to stay within the limits"
            );
            sync_directory(&self.directory).map_err(failed("cannot sync", &self.directory))?;
        }
        Ok(())
    }
}
