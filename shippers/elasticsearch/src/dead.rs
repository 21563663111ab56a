//! Dead letters: documents that were refused for good, with the reason, to be mended and sent again.
//!
//! `dead-0000000001.ndjson`, a JSON object a line: `@timestamp` (of the refusal), `reason`, `type`, `status`, `index`, `id`,
//! `document`; a document that is no JSON object is a text in base64, and `encoding` says so.
//!
//! Guarantee: a letter is on the disk before its record is declared lost. The files together keep within their bound: the
//! oldest are deleted, and counted. Who sends letters again takes whole files away under a lock (`.taken`), so that none is
//! written to meanwhile.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ElasticsearchError;

const OPEN: &str = ".ndjson";
const TAKEN: &str = ".taken";

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Letter {
    #[serde(rename = "@timestamp")]
    pub(crate) time: String,
    pub(crate) reason: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: u16,
    pub(crate) index: String,
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) encoding: Option<String>,
    pub(crate) document: Box<RawValue>,
}

impl Letter {
    /// The document as JSON where it is an object, else in base64.
    pub(crate) fn enclose(document: &[u8]) -> (Option<String>, Box<RawValue>) {
        let object = document.trim_ascii_start().first() == Some(&b'{');
        let text = std::str::from_utf8(document).ok().filter(|_| object);
        let raw = text.and_then(|text| serde_json::from_str::<Box<RawValue>>(text).ok());
        match raw.filter(|raw| !raw.get().contains(['\n', '\r'])) {
            Some(raw) => (None, raw),
            None => {
                let text = format!("\"{}\"", BASE64_STANDARD.encode(document));
                (Some("base64".to_owned()), RawValue::from_string(text).unwrap_or_default())
            }
        }
    }
}

/// The directory, as the shipper writes to it.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    directory: PathBuf,
    limit: u64,
    current: Option<(File, PathBuf)>,
    /// Files deleted to keep within the bound, and bytes there are now.
    pub(crate) deleted: u64,
    pub(crate) bytes: u64,
}

impl DeadLetters {
    pub(crate) fn open(directory: &Path, limit: u64) -> Result<Self, ElasticsearchError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(ElasticsearchError::dead(directory))?;
        let all = list(directory).map_err(ElasticsearchError::dead(directory))?;
        let bytes = all.iter().map(|segment| segment.bytes).sum();
        Ok(DeadLetters { directory: directory.to_owned(), limit, current: None, deleted: 0, bytes })
    }

    /// Writes letters and sees to it that they are on the disk.
    pub(crate) fn write(&mut self, letters: &[Letter]) -> io::Result<()> {
        let mut lines = Vec::new();
        for letter in letters {
            serde_json::to_writer(&mut lines, letter)?;
            lines.push(b'\n');
        }
        let _lock = lock(&self.directory, ".lock", FlockArg::LockExclusive)?;
        let written = self.append(&lines);
        if written.is_err() {
            // What may be half a line is never written on: readers skip it.
            self.current = None;
        }
        written?;
        self.keep_within_bound()
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if !self.current_is_usable() {
            self.current = Some(create(&self.directory)?);
        }
        let Some((file, _)) = &mut self.current else { return Ok(()) };
        let before = file.metadata()?.len();
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if written.is_err() {
            file.set_len(before)?;
        }
        written
    }

    /// Whether the current file is still where it was, and not full.
    fn current_is_usable(&self) -> bool {
        let Some((file, path)) = &self.current else { return false };
        let (Ok(ours), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
        ours.ino() == there.ino() && ours.dev() == there.dev() && ours.len() < self.segment_bytes()
    }

    fn segment_bytes(&self) -> u64 {
        (self.limit / 8).clamp(64 << 10, 8 << 20)
    }

    fn keep_within_bound(&mut self) -> io::Result<()> {
        let all = list(&self.directory)?;
        self.bytes = all.iter().map(|segment| segment.bytes).sum();
        let newest = all.last().map(|segment| segment.number);
        for segment in all.iter().filter(|segment| !segment.taken && Some(segment.number) != newest) {
            if self.bytes <= self.limit {
                break;
            }
            fs::remove_file(&segment.path)?;
            self.bytes -= segment.bytes;
            self.deleted += 1;
            tracing::warn!(
                "elasticsearch: {} deleted, the oldest dead letters; send them again in time, or raise \
                 elasticsearch.dead_letter_bytes",
                segment.path.display()
            );
        }
        Ok(())
    }
}

/// A file of letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) taken: bool,
}

/// All files, oldest first.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<Segment>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((number, taken)) = name.to_str().and_then(parse) else { continue };
        all.push(Segment { number, path: entry.path(), bytes: entry.metadata()?.len(), taken });
    }
    all.sort_by_key(|segment| segment.number);
    Ok(all)
}

/// The ids of all documents that are kept in `directory`; none when it is not there.
///
/// # Errors
/// [`ElasticsearchError::DeadLetters`], when it cannot be read.
pub fn buried(directory: &Path) -> Result<HashSet<String>, ElasticsearchError> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    let segments = match list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        segments => segments.map_err(ElasticsearchError::dead(directory))?,
    };
    let mut ids = HashSet::new();
    for segment in segments {
        let text = match fs::read(&segment.path) {
            // Sent again meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text.map_err(ElasticsearchError::dead(&segment.path))?,
        };
        let letters = text.split(|byte| *byte == b'\n');
        ids.extend(letters.filter_map(|line| Some(serde_json::from_slice::<Named>(line).ok()?.id)));
    }
    Ok(ids)
}

fn parse(name: &str) -> Option<(u64, bool)> {
    let rest = name.strip_prefix("dead-")?;
    match rest.strip_suffix(OPEN) {
        Some(number) => Some((number.parse().ok()?, false)),
        None => Some((rest.strip_suffix(TAKEN)?.parse().ok()?, true)),
    }
}

fn create(directory: &Path) -> io::Result<(File, PathBuf)> {
    let number = list(directory)?.last().map_or(1, |segment| segment.number + 1);
    let path = directory.join(format!("dead-{number:010}{OPEN}"));
    let file = OpenOptions::new().append(true).create_new(true).open(&path)?;
    sync(directory)?;
    Ok((file, path))
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Keeps others out while the value lives.
pub(crate) fn lock(directory: &Path, name: &str, how: FlockArg) -> io::Result<Flock<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(directory.join(name))?;
    Flock::lock(file, how).map_err(|(_, error)| io::Error::from(error))
}

/// Takes all files away from the writer; those that an earlier process had taken come first.
pub(crate) fn take(directory: &Path) -> io::Result<Vec<Segment>> {
    let _lock = lock(directory, ".lock", FlockArg::LockExclusive)?;
    let mut all = list(directory)?;
    for segment in all.iter_mut().filter(|segment| !segment.taken) {
        let taken = segment.path.with_extension(&TAKEN[1..]);
        fs::rename(&segment.path, &taken)?;
        segment.path = taken;
        segment.taken = true;
    }
    sync(directory)?;
    Ok(all)
}

/// Puts back what is left of a file that was taken; nothing is left when `lines` is empty.
pub(crate) fn put_back(directory: &Path, segment: &Segment, lines: &[u8]) -> io::Result<()> {
    let _lock = lock(directory, ".lock", FlockArg::LockExclusive)?;
    if lines.is_empty() {
        fs::remove_file(&segment.path)?;
        return sync(directory);
    }
    let aside = segment.path.with_extension("aside");
    let mut file = File::create(&aside)?;
    file.write_all(lines)?;
    file.sync_all()?;
    // Over the taken file first: a crash in between leaves one of them and never both.
    fs::rename(&aside, &segment.path)?;
    fs::rename(&segment.path, segment.path.with_extension(&OPEN[1..]))?;
    sync(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(id: &str, document: &[u8]) -> Letter {
        let (encoding, document) = Letter::enclose(document);
        let text = |text: &str| text.to_owned();
        let (reason, kind, time) =
            (text("why"), text("mapper_parsing_exception"), text("2026-11-22T00:00:00Z"));
        Letter { time, reason, kind, status: 400, index: text("i"), id: text(id), encoding, document }
    }

    fn lines(directory: &Path) -> Vec<String> {
        let all = list(directory).expect("listed");
        let text = |segment: &Segment| fs::read_to_string(&segment.path).expect("read");
        all.iter().flat_map(|segment| text(segment).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn a_letter_has_the_document_as_it_was() {
        let folder = tempfile::tempdir().expect("folder");
        let mut dead = DeadLetters::open(folder.path(), 1 << 20).expect("opened");
        dead.write(&[letter("a", b"{\"n\": 1.10}"), letter("b", b"\xff"), letter("c", b"[1]")])
            .expect("written");
        let found = lines(folder.path());
        assert_eq!(
            found[0],
            r#"{"@timestamp":"2026-11-22T00:00:00Z","reason":"why","type":"mapper_parsing_exception","status":400,"index":"i","id":"a","document":{"n": 1.10}}"#
        );
        assert!(found[1].ends_with(r#""encoding":"base64","document":"/w=="}"#), "{}", found[1]);
        assert!(found[2].contains(r#""encoding":"base64""#));
        assert!(serde_json::from_str::<Letter>(&found[1]).is_ok());
    }

    #[test]
    fn the_oldest_files_go_when_there_is_too_much() {
        let folder = tempfile::tempdir().expect("folder");
        let mut dead = DeadLetters::open(folder.path(), 200 << 10).expect("opened");
        let document = format!("{{\"m\":\"{}\"}}", "x".repeat(10 << 10));
        for number in 0..60 {
            dead.write(&[letter(&number.to_string(), document.as_bytes())]).expect("written");
        }
        assert!(dead.bytes <= 200 << 10 && dead.deleted > 3, "{dead:?}");
        let found = lines(folder.path());
        assert!(found.len() > 10 && found.last().expect("letters").contains("\"id\":\"59\""));
        assert!(!found.iter().any(|line| line.contains("\"id\":\"0\"")));
    }

    #[test]
    fn the_writer_begins_a_new_file_when_its_own_was_taken() {
        let folder = tempfile::tempdir().expect("folder");
        let mut dead = DeadLetters::open(folder.path(), 1 << 20).expect("opened");
        dead.write(&[letter("a", b"{}")]).expect("written");
        let taken = take(folder.path()).expect("taken");
        dead.write(&[letter("b", b"{}")]).expect("written");
        assert_eq!(list(folder.path()).expect("listed").len(), 2);
        put_back(folder.path(), &taken[0], b"{\"rest\":1}\n").expect("put back");
        dead.write(&[letter("c", b"{}")]).expect("written");
        let found = lines(folder.path());
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[0], "{\"rest\":1}");

        let taken = take(folder.path()).expect("taken");
        for segment in &taken {
            put_back(folder.path(), segment, b"").expect("removed");
        }
        assert_eq!(list(folder.path()).expect("listed"), []);
    }
}
