//! What new containers of pods do, until it is known whether somebody looks into the pod by them: a container that was added to a
//! running pod is a session of who added it, any other one is not.
//!
//! Guarantee: what is held lies in the state directory, a file for each container, so that a next life decides about it. It is
//! bounded: the probe tells no more of it than a beginning, and what is not known in time, or is more than fits, is nobody's.

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::book::Book;
use crate::kept::of_boot;
use crate::wire::{Record, What};

/// How long to wait for what a pod's specification says.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much is held of a container.
const MOST: u64 = 1 << 20;

/// What a new container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Somebody looks into the pod by it.
    Debug,
    /// It does what the pod is there for.
    Own,
}

/// Containers of which that is not known, by the session of their first process.
pub(crate) struct Undecided {
    folder: PathBuf,
    held: HashMap<u64, Held>,
    /// Those of which it is known: more may be told of them.
    decided: HashSet<u64>,
}

struct Held {
    container: u64,
    since: Instant,
    bytes: u64,
}

impl Undecided {
    /// Goes on with what an earlier life of this boot has held.
    pub(crate) fn open(folder: &Path, boot: &str) -> io::Result<Undecided> {
        let folder = of_boot(folder, boot)?;
        let mut held = HashMap::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|name| u64::from_str_radix(name, 16).ok());
            let records = fs::read(entry.path())?;
            let first = records_in(&records).next().and_then(|bytes| Record::read(bytes).ok());
            match (number, first) {
                (Some(number), Some(record)) => {
                    let container = record.container;
                    held.insert(
                        number,
                        Held { container, since: Instant::now(), bytes: records.len() as u64 },
                    );
                }
                _ => fs::remove_file(entry.path())?,
            }
        }
        Ok(Undecided { folder, held, decided: HashSet::new() })
    }

    /// Whether a record is of a container of which it is not known.
    pub(crate) fn is_about(&mut self, record: &Record, book: &Book) -> bool {
        let number = record.session;
        if !record.flags.is_of_init() || book.is_somebodys(record) {
            return false;
        }
        if self.held.contains_key(&number) {
            return true;
        }
        if matches!(record.what, What::End(_)) {
            self.decided.remove(&number);
        }
        let is_new = record.flags.is_entry() && !self.decided.contains(&number);
        if is_new && book.is_ephemeral(record.container) == Some(false) {
            self.decided.insert(number);
        }
        is_new && !self.decided.contains(&number)
    }

    /// Holds a record.
    pub(crate) fn hold(&mut self, record: &Record, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().create(true).append(true).open(self.path(record.session))?.write_all(bytes)?;
        let new = Held { container: record.container, since: Instant::now(), bytes: 0 };
        self.held.entry(record.session).or_insert(new).bytes += bytes.len() as u64;
        Ok(())
    }

    /// What is known by now. What is decided is held no more, but lies on the disk until it is let go of.
    pub(crate) fn decide(&mut self, book: &Book) -> Vec<(u64, Verdict)> {
        let known = self.held.iter().filter_map(|(number, held)| {
            let too_late = held.since.elapsed() > PATIENCE || held.bytes > MOST;
            let verdict = match book.is_ephemeral(held.container) {
                Some(true) => Verdict::Debug,
                Some(false) => Verdict::Own,
                None if too_late => Verdict::Own,
                None => return None,
            };
            Some((*number, verdict))
        });
        let known: Vec<(u64, Verdict)> = known.collect();
        for (number, _) in &known {
            self.held.remove(number);
            self.decided.insert(*number);
        }
        known
    }

    /// Whether it is one of which it is not known.
    pub(crate) fn is_held(&self, number: u64) -> bool {
        self.held.contains_key(&number)
    }

    /// Whether it is one of which it is known.
    pub(crate) fn is_decided(&self, number: u64) -> bool {
        self.decided.contains(&number)
    }

    /// Those of which it is not known.
    pub(crate) fn held(&self) -> Vec<u64> {
        self.held.keys().copied().collect()
    }

    /// What was held of it.
    pub(crate) fn records(&mut self, number: u64) -> Vec<Record> {
        let bytes = fs::read(self.path(number)).unwrap_or_default();
        let records: Vec<Record> = records_in(&bytes).filter_map(|bytes| Record::read(bytes).ok()).collect();
        if records.iter().any(|record| matches!(record.what, What::End(_))) {
            self.decided.remove(&number);
        }
        records
    }

    /// Forgets what was held of it.
    pub(crate) fn let_go(&self, number: u64) {
        let _ = fs::remove_file(self.path(number));
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:x}"))
    }
}

/// Records that lie one behind the other; each begins with its length.
fn records_in(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let (record, rest) = bytes.split_at_checked(length).filter(|_| length > 0)?;
        bytes = rest;
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_there_is_read_as_far_as_it_is_whole() {
        let of = |length: u32, bytes: &[u8]| [&length.to_ne_bytes()[..], bytes].concat();
        let lie = [of(6, b"ab"), of(5, b"c"), of(9, b"torn")].concat();
        assert_eq!(records_in(&lie).collect::<Vec<_>>(), [of(6, b"ab"), of(5, b"c")]);
        assert_eq!(records_in(&[0; 9]).count() + records_in(&[1, 0]).count(), 0);
    }
}
