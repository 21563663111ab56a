//! One file of a sequence: being written under its temporary name, then closed and renamed, and never touched again.
//!
//! `logs-0000000001-20261121T101112Z.ndjson.open` becomes `logs-0000000001-20261121T101112Z.ndjson`. Numbers grow, so
//! that names sort in the order of writing whatever the clock does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use taffrail_envelope::utc;

const CLOSED: &str = ".ndjson";
const OPEN: &str = ".ndjson.open";

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    path: PathBuf,
    /// Bytes written, all of them whole lines.
    length: u64,
    /// Bytes known to be on the disk.
    durable: u64,
    since: Instant,
}

impl Segment {
    /// Makes the file, and sees to it that a crash does not lose its name.
    pub(crate) fn create(directory: &Path, kind: &str, number: u64) -> io::Result<Self> {
        let path = directory.join(format!("{kind}-{number:010}-{}{OPEN}", stamp()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        sync_directory(directory)?;
        Ok(Segment { file, path, length: 0, durable: 0, since: Instant::now() })
    }

    /// Writes whole lines. After an error nothing of them is in the file.
    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self.file.write_all_at(lines, self.length) {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.file.set_len(self.length)?;
                Err(error)
            }
        }
    }

    /// Sees to it that everything written is on the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.durable < self.length {
            self.file.sync_data()?;
            self.durable = self.length;
        }
        Ok(())
    }

    /// Takes back what is not known to be on the disk.
    pub(crate) fn roll_back(&mut self) -> io::Result<()> {
        self.length = self.durable;
        self.file.set_len(self.length)
    }

    /// Gives the file its final name; an empty one is removed instead. Everything must be synced.
    pub(crate) fn close(&self) -> io::Result<()> {
        finish(&self.path, self.length)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// When the file was begun.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }
}

/// A closed file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Closed {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// The closed files of a kind, oldest first, and the highest number that any file of it has.
pub(crate) fn list(directory: &Path, kind: &str) -> io::Result<(Vec<Closed>, u64)> {
    let mut closed = Vec::new();
    let mut highest = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((number, is_open)) = name.to_str().and_then(|name| parse(name, kind)) else { continue };
        highest = highest.max(number);
        if !is_open {
            closed.push(Closed { number, path: entry.path(), bytes: entry.metadata()?.len() });
        }
    }
    closed.sort();
    Ok((closed, highest))
}

/// Closes what an earlier process left open: a torn last line is cut off (nobody confirmed it), then the file gets its
/// final name. Returns how many bytes were cut.
pub(crate) fn recover(directory: &Path, kind: &str) -> io::Result<u64> {
    let mut cut = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_open =
            entry.file_name().to_str().and_then(|name| parse(name, kind)).is_some_and(|(_, open)| open);
        if is_open {
            cut += recover_file(&entry.path())?;
        }
    }
    Ok(cut)
}

fn recover_file(path: &Path) -> io::Result<u64> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let whole = whole_lines(&mut file, length)?;
    file.set_len(whole)?;
    file.sync_all()?;
    finish(path, whole)?;
    Ok(length - whole)
}

/// The length up to and including the last newline.
fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut end = length;
    let mut block = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(begin))?;
        block.clear();
        (&mut *file).take(end - begin).read_to_end(&mut block)?;
        if let Some(newline) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + newline as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

fn finish(path: &Path, length: u64) -> io::Result<()> {
    let name = path.to_string_lossy();
    match name.strip_suffix(".open").filter(|_| length > 0) {
        Some(closed) => fs::rename(path, closed)?,
        None => fs::remove_file(path)?,
    }
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A file name's number, and whether the file is open; None for a name that is not ours.
fn parse(name: &str, kind: &str) -> Option<(u64, bool)> {
    let rest = name.strip_prefix(kind)?.strip_prefix('-')?;
    let (rest, is_open) = match rest.strip_suffix(OPEN) {
        Some(rest) => (rest, true),
        None => (rest.strip_suffix(CLOSED)?, false),
    };
    let (number, _) = rest.split_once('-')?;
    Some((number.parse().ok()?, is_open))
}

/// `20261121T101112Z`.
fn stamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = utc(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
    let digits: String = text.chars().take(19).filter(|character| !matches!(character, '-' | ':')).collect();
    format!("{digits}Z")
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make files that need not survive")]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .expect("directory")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_final_name_only_when_it_is_closed() {
        let directory = tempfile::tempdir().expect("directory");
        let mut segment = Segment::create(directory.path(), "logs", 3).expect("created");
        segment.write(b"a\n").expect("written");
        segment.sync().expect("synced");
        assert!(names(directory.path())[0].ends_with("Z.ndjson.open"));
        segment.close().expect("closed");
        let (closed, highest) = list(directory.path(), "logs").expect("listed");
        assert_eq!((closed.len(), closed[0].number, closed[0].bytes, highest), (1, 3, 2, 3));
        assert!(names(directory.path())[0].starts_with("logs-0000000003-2"));
        let empty = Segment::create(directory.path(), "logs", 4).expect("created");
        empty.close().expect("closed");
        assert_eq!(names(directory.path()).len(), 1, "an empty file is not kept");
    }

    #[test]
    fn what_was_not_synced_can_be_taken_back() {
        let directory = tempfile::tempdir().expect("directory");
        let mut segment = Segment::create(directory.path(), "logs", 1).expect("created");
        segment.write(b"kept\n").expect("written");
        segment.sync().expect("synced");
        segment.write(b"taken back\n").expect("written");
        segment.roll_back().expect("rolled back");
        segment.write(b"next\n").expect("written");
        assert_eq!(fs::read(segment.path()).expect("read"), b"kept\nnext\n");
    }

    #[test]
    fn files_left_open_are_cut_to_whole_lines_and_closed() {
        let long = [b"x".repeat(200_000), b"\n".to_vec(), b"y".repeat(100_000)].concat();
        for (content, kept) in [
            (&b"a\nb\n"[..], Some(4)),
            (b"a\nb", Some(2)),
            (b"torn", None),
            (b"", None),
            (&long, Some(200_001)),
        ] {
            let directory = tempfile::tempdir().expect("directory");
            let path = directory.path().join("logs-0000000007-20260101T000000Z.ndjson.open");
            fs::write(&path, content).expect("written");
            fs::write(directory.path().join("other.ndjson.open"), "not ours").expect("written");
            let cut = recover(directory.path(), "logs").expect("recovered");
            let (closed, _) = list(directory.path(), "logs").expect("listed");
            assert_eq!(closed.first().map(|closed| closed.bytes), kept);
            assert_eq!(cut, content.len() as u64 - kept.unwrap_or(0));
            assert!(directory.path().join("other.ndjson.open").exists());
        }
    }
}
