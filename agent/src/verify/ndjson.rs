//! Records and statements from NDJSON files: what the file shipper wrote, whole or still being written, compressed or
//! not, or what somebody took out of a topic.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::read::MultiGzDecoder;

use super::audit;
use super::places::Place;
use super::session::{Message, Session};

/// The files that `paths` stand for: themselves, and of directories the log and ledger files, by name. Ledgers come
/// first: what a statement calls confirmed was written before it, so nothing looks missing while an agent writes.
///
/// # Errors
/// When one is not there or cannot be listed.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?;
        if metadata.is_dir() {
            files.append(&mut list(path, &["logs-", "ledger-"])?);
        } else if !is_of_audit(path) {
            files.push(path.clone());
        }
    }
    let is_ledger = |path: &PathBuf| path.file_name().is_some_and(|name| named(name, "ledger-"));
    files.sort_by_key(|path| !is_ledger(path));
    Ok(files)
}

/// The files of the audit that `paths` stand for.
///
/// # Errors
/// When one is not there or cannot be listed.
pub(super) fn audit_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?;
        if metadata.is_dir() {
            files.append(&mut list(path, &["audit-"])?);
        } else if is_of_audit(path) {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn is_of_audit(path: &Path) -> bool {
    path.file_name().is_some_and(|name| named(name, "audit"))
}

/// Gives the documents of all these files to `verifier`; what cannot be read goes to `unreadable`. Returns notes.
///
/// # Errors
/// None of its own.
pub(super) fn read_audit(
    files: &[PathBuf],
    verifier: &mut audit::Verifier,
    unreadable: &mut Vec<String>,
) -> io::Result<Vec<String>> {
    let mut places: BTreeMap<PathBuf, (audit::Place, u64)> = BTreeMap::new();
    for path in files {
        // A file that has another name may begin anywhere.
        let number = numbered(path, "audit-").map_or(u64::MAX, |numbered| numbered.number);
        let (place, first) = places.entry(directory(path)).or_insert_with(|| (verifier.place(), u64::MAX));
        *first = number.min(*first);
        let place = *place;
        let read = lines(path, |line| {
            verifier.document(line, place);
            Ok(())
        })?;
        unreadable.extend(read.err());
    }
    let mut notes = Vec::new();
    for (directory, (place, first)) in places.into_iter().filter(|(_, (_, first))| *first > 1) {
        verifier.truncate(place);
        if first < u64::MAX {
            let directory = directory.display();
            notes.push(format!(
                "the files of the audit in {directory} begin with number {first}: those before it were deleted"
            ));
        }
    }
    Ok(notes)
}

/// The files of a directory whose names the file shipper gave them and begin with one of `starts`, by name.
///
/// # Errors
/// When it cannot be listed.
pub(crate) fn list(directory: &Path, starts: &[&str]) -> Result<Vec<PathBuf>> {
    let why = || format!("cannot list {}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(why)? {
        let entry = entry.with_context(why)?;
        if is_ours(&entry.file_name(), starts) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Whether it has a name that the file shipper gives, or that name once compressed. Copies such as `.bak` would only
/// show every record as repeated.
fn is_ours(name: &OsStr, starts: &[&str]) -> bool {
    const ENDS: [&str; 3] = [".ndjson", ".ndjson.open", ".ndjson.gz"];
    let begins = starts.iter().any(|start| named(name, start));
    begins && ENDS.iter().any(|end| name.as_encoded_bytes().ends_with(end.as_bytes()))
}

fn named(name: &OsStr, start: &str) -> bool {
    name.as_encoded_bytes().starts_with(start.as_bytes())
}

/// The series that files of records belong to: those of one directory are written one after the other.
#[derive(Debug, Default)]
pub(super) struct Series {
    /// By directory.
    places: HashMap<PathBuf, Place>,
    /// Of files with other names.
    other: Place,
    /// What to know about them.
    pub(super) notes: Vec<String>,
}

impl Series {
    /// A series whose first file is not number 1 lacks those before it: the shipper numbers them, and deletes the
    /// oldest. All that these held was written before the first that is left was begun.
    pub(super) fn of(files: &[PathBuf], session: &mut Session) -> Self {
        let mut firsts: HashMap<PathBuf, Numbered> = HashMap::new();
        for (directory, numbered) in
            files.iter().filter_map(|path| Some((directory(path), numbered(path, "logs-")?)))
        {
            let first = firsts.entry(directory).or_insert(numbered);
            *first = numbered.min(*first);
        }
        let mut series = Series { other: session.place(), ..Series::default() };
        for (directory, first) in firsts {
            let place = session.place();
            if first.number > 1 {
                session.truncate(place, first.begun);
                let (directory, number) = (directory.display(), first.number);
                series.notes.push(format!(
                    "the files of records in {directory} begin with number {number}: those before it were deleted"
                ));
            }
            series.places.insert(directory, place);
        }
        series.notes.sort();
        series
    }

    fn place(&self, path: &Path) -> Place {
        numbered(path, "logs-").and_then(|_| self.places.get(&directory(path)).copied()).unwrap_or(self.other)
    }
}

fn directory(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// A file of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Numbered {
    number: u64,
    /// Nanoseconds since the Unix epoch.
    begun: Option<i64>,
}

/// The number and time in the name of a file of a series: `logs-0000000001-20261121T113429Z.ndjson`.
fn numbered(path: &Path, series: &str) -> Option<Numbered> {
    let name = path.file_name()?.to_str()?.strip_prefix(series)?;
    let (name, _) = name.split_once(".ndjson")?;
    let (number, stamp) = name.split_once('-').unwrap_or((name, ""));
    let begun = stamp.parse::<jiff::Timestamp>().ok();
    Some(Numbered {
        number: number.parse().ok()?,
        begun: begun.and_then(|begun| i64::try_from(begun.as_nanosecond()).ok()),
    })
}

/// Reads one file to its end.
///
/// # Errors
/// As [`lines`].
pub(super) fn read(path: &Path, series: &Series, session: &mut Session) -> io::Result<Result<(), String>> {
    let place = series.place(path);
    lines(path, |value| session.message(Message { value, place, ..Message::default() }))
}

/// Hands on every line of a file, be it compressed or not. What the last line of a file that is still being written lacks
/// is no error.
///
/// # Errors
/// Those of `take` are fatal and come as `Err`; what is wrong with the file itself comes as text, so that others can still
/// be read.
pub(crate) fn lines(
    path: &Path,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Result<(), String>> {
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
            take(&line)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_directory_only_what_the_file_shipper_named_is_read() {
        for (name, ours) in [
            ("logs-0000000001-20261121T113429Z.ndjson", true),
            ("ledger-0000000001-20261121T113429Z.ndjson.open", true),
            ("logs-0000000001-20261121T113429Z.ndjson.gz", true),
            ("logs-0000000001-20261121T113429Z.ndjson.bak", false),
            ("logs-notes.txt", false),
            (".lock", false),
        ] {
            assert_eq!(is_ours(OsStr::new(name), &["logs-", "ledger-"]), ours, "{name}");
        }
    }
    #[test]
    fn a_file_of_records_has_a_number_and_a_time_in_its_name() {
        let begun = "2026-11-21T11:34:29Z".parse::<jiff::Timestamp>().unwrap().as_nanosecond();
        let begun = Some(i64::try_from(begun).unwrap());
        for (name, expected) in [
            ("logs-0000000012-20261121T113429Z.ndjson", Some((12, begun))),
            ("logs-0000000012-20261121T113429Z.ndjson.open", Some((12, begun))),
            ("logs-7.ndjson.gz", Some((7, None))),
            ("logs-7-soon.ndjson", Some((7, None))),
            ("ledger-0000000012-20261121T113429Z.ndjson", None),
            ("logs-a.ndjson", None),
            ("logs-7", None),
        ] {
            let expected = expected.map(|(number, begun)| Numbered { number, begun });
            assert_eq!(numbered(&Path::new("/records").join(name), "logs-"), expected, "{name}");
        }
    }
}
