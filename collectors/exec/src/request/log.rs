//! The API server's audit log, read as it is written.
//!
//! Guarantee: each whole line behind the place that was reached before is read once, also after the file was renamed away, which is read
//! to its end, or cut off, as long as it is shorter then when it is looked at: five times a second. A line that
//! is longer than any that tells of a request is passed over. The place is remembered over lives.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Request;
use super::event::{events, may_tell};

/// How much is read at once.
const BLOCK: usize = 256 << 10;
/// The longest line that is read: a request of the size that an API server takes at most, and room for the rest.
const LONGEST: usize = 4 << 20;

/// Where in which file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    device: u64,
    inode: u64,
    offset: u64,
}

/// A log that is followed.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    /// Where the place is remembered.
    kept: PathBuf,
    file: Option<File>,
    place: Place,
    /// What was read of a line whose end was not.
    carried: Vec<u8>,
    /// Whether the rest of a line that is too long is passed over.
    skips: bool,
    /// Whether the file was not there when it was looked for: all of it is new then.
    was_missing: bool,
    /// Lines that could not be understood.
    malformed: u64,
}

impl AuditLog {
    /// The log at `path`, from where an earlier life has got to by what is remembered in `kept`; without that from its end. Nothing is
    /// opened yet.
    #[must_use]
    pub fn new(path: &Path, kept: &Path) -> AuditLog {
        AuditLog {
            path: path.to_owned(),
            kept: kept.to_owned(),
            file: None,
            place: Place::default(),
            carried: Vec::new(),
            skips: false,
            was_missing: false,
            malformed: 0,
        }
    }

    /// Whether there was such a file at any time, as far as is remembered.
    #[must_use]
    pub fn was_there(&self) -> bool {
        self.place != Place::default() || self.remembered().is_some()
    }

    /// Lines that could not be understood, since this was asked last.
    pub fn take_malformed(&mut self) -> u64 {
        std::mem::take(&mut self.malformed)
    }

    /// What was written since, as much as is read at once; whether there is more.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&mut self, tell: &mut dyn FnMut(Request)) -> io::Result<bool> {
        if self.file.is_none() {
            self.open()?;
        }
        let has_more = self.read_block(tell)?;
        if !has_more && self.was_replaced()? {
            // What was written between the last look and the renaming.
            while self.read_block(tell)? {}
            self.file = None;
            self.carried.clear();
            self.skips = false;
            return Ok(true);
        }
        Ok(has_more)
    }

    /// Opens the file where it was left, the beginning of one that came in its place, or at first the end.
    fn open(&mut self) -> io::Result<()> {
        let opened = File::open(&self.path);
        self.was_missing |= opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let mut file = opened?;
        let found = file.metadata()?;
        let is_first = self.place == Place::default();
        let known = if is_first { self.remembered() } else { Some(self.place) };
        let is_same = |place: &Place| (place.device, place.inode) == (found.dev(), found.ino());
        let offset = match known {
            Some(place) if is_same(&place) && place.offset <= found.size() => place.offset,
            Some(_) => 0,
            None if self.was_missing => 0,
            None => found.size(),
        };
        file.seek(SeekFrom::Start(offset))?;
        self.place = Place { device: found.dev(), inode: found.ino(), offset };
        self.file = Some(file);
        self.remember();
        Ok(())
    }

    fn read_block(&mut self, tell: &mut dyn FnMut(Request)) -> io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        if file.metadata()?.size() < self.place.offset {
            // Cut off, and begun anew.
            file.seek(SeekFrom::Start(0))?;
            self.place.offset = 0;
            self.carried.clear();
            self.skips = false;
        }
        let mut block = vec![0; BLOCK];
        let length = file.read(&mut block)?;
        self.place.offset += length as u64;
        self.take(&block[..length], tell);
        if length > 0 {
            self.remember();
        }
        Ok(length == BLOCK)
    }

    fn take(&mut self, mut block: &[u8], tell: &mut dyn FnMut(Request)) {
        while let Some(end) = block.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&block[..end], &block[end + 1..]);
            block = rest;
            if std::mem::take(&mut self.skips) {
                continue;
            }
            self.carried.extend_from_slice(line);
            let line = std::mem::take(&mut self.carried);
            self.line(&line, tell);
        }
        if !self.skips {
            self.carried.extend_from_slice(block);
            if self.carried.len() > LONGEST {
                self.carried = Vec::new();
                self.skips = true;
                self.malformed += 1;
            }
        }
    }

    fn line(&mut self, line: &[u8], tell: &mut dyn FnMut(Request)) {
        let Ok(text) = std::str::from_utf8(line) else {
            self.malformed += 1;
            return;
        };
        if may_tell(text) {
            match events(line) {
                Ok(requests) => requests.into_iter().for_each(tell),
                Err(_) => self.malformed += 1,
            }
        }
    }

    /// Whether another file is at the path by now.
    fn was_replaced(&self) -> io::Result<bool> {
        match fs::metadata(&self.path) {
            Ok(found) => Ok((found.dev(), found.ino()) != (self.place.device, self.place.inode)),
            // Renamed away, and not made anew yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn remembered(&self) -> Option<Place> {
        serde_json::from_slice(&fs::read(&self.kept).ok()?).ok()
    }

    /// A line that was begun is read again in the next life. It is worth no failure when it cannot be written down.
    fn remember(&self) {
        let offset = self.place.offset.saturating_sub(self.carried.len() as u64);
        let place = Place { offset, ..self.place };
        let aside = self.kept.with_extension("tmp");
        let written = serde_json::to_vec(&place).ok().and_then(|bytes| {
            let mut file = File::create(&aside).ok()?;
            io::Write::write_all(&mut file, &bytes).ok()
        });
        if written.is_some() {
            let _ = fs::rename(aside, &self.kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use super::*;

    fn line(pod: &str) -> String {
        format!(
            "{}\n",
            serde_json::json!({
                "auditID": pod, "stage": "ResponseStarted", "requestURI": format!("/api/v1/namespaces/shop/pods/{pod}/exec?command=ls"),
                "user": {"username": "ana"}, "objectRef": {"resource": "pods", "subresource": "exec", "namespace": "shop", "name": pod},
                "requestReceivedTimestamp": "2026-11-23T02:00:00Z", "stageTimestamp": "2026-11-23T02:00:00Z"
            })
        )
    }

    struct Log {
        folder: tempfile::TempDir,
    }

    impl Log {
        fn path(&self) -> PathBuf {
            self.folder.path().join("audit.log")
        }

        fn write(&self, text: &str) {
            let mut file = OpenOptions::new().append(true).create(true).open(self.path()).expect("a file");
            file.write_all(text.as_bytes()).expect("written");
        }

        fn reader(&self) -> AuditLog {
            AuditLog::new(&self.path(), &self.folder.path().join("place"))
        }
    }

    fn log() -> Log {
        Log { folder: tempfile::tempdir().expect("a folder") }
    }

    fn pods(log: &mut AuditLog) -> Vec<String> {
        let mut pods = Vec::new();
        while log.read(&mut |request| pods.push(request.pod)).expect("read") {}
        pods
    }

    #[test]
    fn only_what_is_written_from_now_on_is_read_and_each_line_once_also_over_lives() {
        let log = log();
        log.write(&line("old"));
        let mut reader = log.reader();
        assert!(pods(&mut reader).is_empty());
        let (begun, rest) = (line("b")[..20].to_owned(), line("b")[20..].to_owned());
        log.write(&(line("a") + "{\"requestURI\":\"/api/v1/pods\"}\n" + &begun));
        assert_eq!(pods(&mut reader), ["a"]);
        drop(reader);
        let mut again = log.reader();
        assert!(pods(&mut again).is_empty());
        log.write(&rest);
        assert_eq!(pods(&mut again), ["b"], "what was begun is read whole");
    }

    #[test]
    fn what_is_renamed_away_is_read_to_its_end_and_what_is_cut_off_from_its_beginning() {
        let log = log();
        log.write("");
        let mut reader = log.reader();
        assert!(pods(&mut reader).is_empty());
        log.write(&line("a"));
        fs::rename(log.path(), log.folder.path().join("audit-2026.log")).expect("renamed");
        assert_eq!(pods(&mut reader), ["a"]);
        log.write(&line("longer"));
        assert_eq!(pods(&mut reader), ["longer"]);
        File::create(log.path()).expect("cut off");
        log.write(&line("c"));
        assert_eq!(pods(&mut reader), ["c"]);
        drop(reader);
        fs::rename(log.path(), log.folder.path().join("audit-2027.log")).expect("renamed");
        log.write(&line("d"));
        assert_eq!(pods(&mut log.reader()), ["d"], "while no agent was there");
    }

    #[test]
    fn what_cannot_be_understood_is_counted_and_nothing_is_too_long() {
        let log = log();
        log.write("");
        let mut reader = log.reader();
        pods(&mut reader);
        log.write("{\"requestURI\":\"/exec\",\"user\":7}\n");
        log.write(&("x".repeat(LONGEST + BLOCK) + "\n"));
        let mut file = OpenOptions::new().append(true).open(log.path()).expect("a file");
        file.write_all(b"\xff/exec\n").expect("written");
        log.write(&line("a"));
        assert_eq!(pods(&mut reader), ["a"]);
        assert_eq!((reader.take_malformed(), reader.take_malformed()), (3, 0));
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_and_is_read_once_it_is() {
        let log = log();
        let mut reader = log.reader();
        assert!(reader.read(&mut drop).is_err() && !reader.was_there());
        log.write(&line("a"));
        assert_eq!(pods(&mut reader), ["a"], "all of it was written since");
        assert!(log.reader().was_there());
    }
}
