//! One file of a chain: its held descriptor, how far it is read, and the bytes carried over between reads.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use taffrail_record::{FileId, LostSpan, Source};

use super::counters::Counters;
use super::identity::{FileKey, HEAD_BYTES};
use super::keeper::{Keeper, Kept};
use super::reader::{Got, OVERLAP, Reader};
use super::state::FileState;

/// A file under way.
#[derive(Debug)]
pub(crate) struct LogFile {
    /// The key of its tracker.
    pub(crate) key: u64,
    /// Its durable state and its tracker.
    pub(crate) kept: Arc<Kept>,
    /// `None` when the content is gone for good.
    pub(crate) reader: Option<Reader>,
    /// Bound once something was read.
    pub(crate) source: Option<Arc<Source>>,
    /// Everything before it has been read.
    pub(crate) read: u64,
    /// The unfinished line: the bytes before `read` that are not decoded yet.
    pub(crate) carry: Vec<u8>,
    /// When the carry last grew, by [`Now::steady`](crate::decode::Now::steady).
    pub(crate) carry_at: i64,
    /// Whether its name is the one that is written to.
    pub(crate) live: bool,
    /// Whether the last listing had it.
    pub(crate) listed: bool,
    /// When it was first seen without its live name.
    pub(crate) rotated_at: Option<Instant>,
    /// Data was seen in the next file: the next end of this one is final.
    pub(crate) successor_seen: bool,
    /// Read to its final end.
    pub(crate) drained: bool,
    /// The keeper's ticket for the identity. Nothing is sent before it is written down: whatever becomes of the file's
    /// name and form, what is sent twice has the same ids.
    pub(crate) ticket: Option<u64>,
    /// The carry waits for the ticket.
    pub(crate) undecoded: bool,
    /// The opened statement was sent in this life or an earlier one.
    pub(crate) opened: bool,
    /// The finished statement is under way.
    pub(crate) stated: bool,
    /// How far it was confirmed when that was last stated.
    pub(crate) progress: u64,
    /// Nobody has seen how it ended: see [`taffrail_record::StatementKind::Vanished`].
    pub(crate) vanished: bool,
    /// Reading began in the middle of a line.
    pub(crate) mid_line: bool,
    /// It was found to be written anew; the next read says so.
    rewritten: bool,
    /// Bytes at its end that were declared lost, and why.
    pub(crate) lost_tail: Option<LostSpan>,
    /// Reading failed; not before this moment again.
    pub(crate) retry: Option<(Instant, u32)>,
    before: [u8; OVERLAP],
    before_length: u8,
    /// Length of the head as it was last written down.
    head_written: u16,
    /// Size as it was last written down.
    size_written: u64,
}

impl LogFile {
    /// Takes a file in, from its state and its open descriptor.
    pub(crate) fn new(
        key: u64,
        state: FileState,
        reader: Option<Reader>,
        live: bool,
        keeper: &Keeper,
    ) -> LogFile {
        let read = state.position;
        let source = state.id.map(|id| source(id, &state));
        let opened = state.position > state.from;
        // What was sent in an earlier life was so under an identity that is written down.
        let ticket = opened.then_some(0);
        let kept = keeper.add(key, state);
        let mut file = LogFile {
            key,
            kept,
            reader,
            source,
            read,
            carry: Vec::new(),
            carry_at: 0,
            live,
            listed: true,
            rotated_at: (!live).then(Instant::now),
            successor_seen: false,
            drained: false,
            ticket,
            undecoded: false,
            opened,
            stated: false,
            progress: read,
            vanished: false,
            mid_line: false,
            rewritten: false,
            lost_tail: None,
            retry: None,
            before: [0; OVERLAP],
            before_length: 0,
            head_written: 0,
            size_written: 0,
        };
        file.approach();
        file
    }

    /// What the file system calls it.
    pub(crate) fn file_key(&self) -> FileKey {
        self.kept.state.lock().key
    }

    /// Its identity, once bound.
    pub(crate) fn id(&self) -> Option<FileId> {
        self.source.as_ref().map(|s| s.id)
    }

    /// Whether it unpacks.
    pub(crate) fn is_gzip(&self) -> bool {
        self.reader.as_ref().is_some_and(Reader::is_gzip)
    }

    /// Lets the descriptor go.
    pub(crate) fn close(&mut self, counters: &Counters) {
        if self.reader.take().is_some() {
            counters.open_files.add(1_u64.wrapping_neg());
        }
    }

    /// Reads the next bytes behind the carry into `data`.
    pub(crate) fn read_block(&mut self, data: &mut Vec<u8>, most: usize) -> io::Result<Got> {
        let Some(reader) = &mut self.reader else { return Ok(Got::Bytes(0)) };
        if std::mem::take(&mut self.rewritten) {
            return Ok(Got::Changed);
        }
        let before = &self.before[..usize::from(self.before_length)];
        data.extend_from_slice(&self.carry);
        let got = reader.read_after(before, data, self.read, most)?;
        if let Got::Bytes(count) = got {
            // Read from its first byte, it must begin as it began when it was looked at.
            if self.read == 0 && !self.kept.state.lock().head.matches(&data[data.len() - count..]) {
                return Ok(Got::Changed);
            }
            self.read += count as u64;
            self.remember(&data[data.len() - count..]);
        }
        Ok(got)
    }

    /// Keeps the last bytes read, by which the next read knows the file again.
    fn remember(&mut self, fresh: &[u8]) {
        let tail = &fresh[fresh.len().saturating_sub(OVERLAP)..];
        let old = usize::from(self.before_length).min(OVERLAP - tail.len());
        let from = usize::from(self.before_length) - old;
        self.before.copy_within(from..from + old, 0);
        self.before[old..old + tail.len()].copy_from_slice(tail);
        self.before_length = (old + tail.len()) as u8;
    }

    /// The last bytes read.
    pub(crate) fn before(&self) -> &[u8] {
        &self.before[..usize::from(self.before_length)]
    }

    /// Grows the head hash and binds the identity as soon as the first line is there (or, when `now`, with what
    /// there is). `data` is what was just read, which begins the file when `at_start`.
    pub(crate) fn identify(&mut self, data: &[u8], at_start: bool, now: bool) -> io::Result<()> {
        let head = self.kept.state.lock().head;
        if head.is_full() && self.source.is_some() {
            return Ok(());
        }
        let fetched;
        let bytes = match &mut self.reader {
            _ if at_start => data,
            Some(reader @ Reader::Plain(_)) => {
                fetched = reader.head()?;
                &fetched
            }
            _ => return Ok(()),
        };
        // A head that no longer begins as it did belongs to a rewritten file; the next read finds out.
        if !head.matches(bytes) {
            return Ok(());
        }
        let bytes = &bytes[..bytes.len().min(HEAD_BYTES)];
        let mut state = self.kept.state.lock();
        state.begins_with(bytes);
        let id = if now { Some(state.bind(bytes)) } else { state.id };
        if self.source.is_none() {
            self.source = id.map(|id| source(id, &state));
        }
        Ok(())
    }

    /// Binds an identity to what will never be read: what is declared lost of it needs a name.
    pub(crate) fn bind_unread(&mut self) {
        if self.source.is_some() {
            return;
        }
        let head = self.reader.as_mut().and_then(|reader| reader.head().ok()).unwrap_or_default();
        let mut state = self.kept.state.lock();
        let known = if state.head.matches(&head) { head.as_slice() } else { &[] };
        let id = state.bind(known);
        self.source = Some(source(id, &state));
    }

    /// Grows the head hash of a file that was shorter when it was last looked at; returns whether it has grown.
    pub(crate) fn learn_head(&mut self) -> bool {
        let known = self.kept.state.lock().head;
        let Some(reader @ Reader::Plain(_)) = self.reader.as_mut().filter(|_| !known.is_full()) else {
            return false;
        };
        let Ok(bytes) = reader.head() else { return false };
        let grown = known.matches(&bytes) && bytes.len() > usize::from(known.length);
        if grown {
            let mut state = self.kept.state.lock();
            state.begins_with(&bytes);
            self.head_written = state.head.length;
        }
        grown
    }

    /// Whether the identity or its hash has grown since this was last asked.
    pub(crate) fn identified_anew(&mut self) -> bool {
        let length = self.kept.state.lock().head.length;
        std::mem::replace(&mut self.head_written, length) != length
    }

    /// Whether its known size has changed since this was last asked.
    pub(crate) fn grown_since_written(&mut self) -> bool {
        let size = self.kept.state.lock().size;
        std::mem::replace(&mut self.size_written, size) != size
    }

    /// Size as it lies, and whether its last name is gone; updates what is remembered of the size.
    pub(crate) fn look(&mut self) -> (u64, bool) {
        let Some(Ok((size, unlinked))) = self.reader.as_ref().map(Reader::size_and_unlinked) else {
            return (self.read, true);
        };
        if !self.is_gzip() {
            let nameless = {
                let mut state = self.kept.state.lock();
                state.size = state.size.max(size);
                size > 0 && state.head.length == 0
            };
            // Of whatever has a size the head is known: it must be found again when it is compressed before it is read.
            if nameless {
                self.learn_head();
            }
        }
        (size, unlinked)
    }

    /// Whether something was ever written to it, even if it was emptied since.
    pub(crate) fn has_had_data(&mut self) -> bool {
        self.look();
        self.is_gzip() || self.read > 0 || self.kept.state.lock().size > 0
    }

    /// Bytes known to lie unread.
    pub(crate) fn lag(&mut self) -> u64 {
        if self.drained || self.is_gzip() {
            return 0;
        }
        self.look().0.saturating_sub(self.read)
    }

    /// Goes back to `position`, forgetting what was carried.
    pub(crate) fn rewind(&mut self, position: u64) {
        let (end, tail) = (self.read, self.before().to_vec());
        self.read = position;
        self.carry = Vec::new();
        self.drained = false;
        self.opened = position > self.kept.state.lock().from;
        self.stated = false;
        self.successor_seen = false;
        self.approach();
        // What was just approached is trusted only if the file still holds what was read of it since.
        self.rewritten = self.reader.as_mut().is_some_and(|reader| {
            let comparable = !reader.is_gzip() && !tail.is_empty();
            comparable && matches!(reader.read_after(&tail, &mut Vec::new(), end, 0), Ok(Got::Changed))
        });
        if self.rewritten {
            // A copy of what was read is not to be known by what stands here now.
            (self.before_length, self.mid_line) = (0, false);
        }
        self.undecoded = false;
    }

    /// Goes on in a copy of what was read.
    pub(crate) fn continue_in(&mut self, copy: Reader) {
        self.reader = Some(copy);
        self.live = false;
        if self.before_length == 0 {
            self.approach();
        }
    }

    /// Looks at the bytes before the read position: by them the next read knows the file again, and whether it
    /// begins in the middle of a line.
    fn approach(&mut self) {
        self.before_length = 0;
        self.mid_line = false;
        let Some(reader @ Reader::Plain(_)) = &mut self.reader else { return };
        let length = self.read.min(OVERLAP as u64);
        let mut before = Vec::with_capacity(OVERLAP);
        if length > 0 && reader.read(&mut before, self.read - length, length as usize).is_ok() {
            self.mid_line = before.last().is_some_and(|last| *last != b'\n');
            self.remember(&before);
        }
    }

    /// Notes a failed read; the next try comes later each time.
    pub(crate) fn failed(&mut self, now: Instant) -> u32 {
        let tries = self.retry.map_or(1, |(_, tries)| tries + 1);
        let pause = Duration::from_millis(500) * 2_u32.pow(tries.min(6));
        self.retry = Some((now + pause, tries));
        tries
    }
}

fn source(id: FileId, state: &FileState) -> Arc<Source> {
    Arc::new(Source { id, path: state.path.clone(), device: state.key.device, inode: state.key.inode })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use parking_lot::Mutex;
    use taffrail_checkpoint::{Options, Store};

    use super::super::identity::Head;
    use super::super::keeper::Rhythm;
    use super::*;

    #[test]
    fn a_file_that_was_seen_to_begin_has_had_data_although_it_was_empty_before_and_is_again() {
        let root = tempfile::tempdir().expect("a directory");
        let (store, _) = Store::open(root.path(), Options::default()).expect("a store");
        let rhythm = Rhythm { interval: Duration::from_millis(5), bytes: 1 << 20 };
        let keeper = Keeper::start(Arc::new(Mutex::new(store)), rhythm).expect("a keeper");
        let mut written = tempfile::tempfile().expect("a file");
        let reader = Reader::new(written.try_clone().expect("cloned"), false).expect("opened");
        let state = FileState {
            key: FileKey::of(&written).expect("a key").0,
            generation: 0,
            id: None,
            head: Head::default(),
            from: 0,
            position: 0,
            size: 0,
            finished: false,
            lane: "file:/a.log".into(),
            path: "/a.log".into(),
        };
        let mut file = LogFile::new(1, state, Some(reader), true, &keeper);
        assert!(!file.has_had_data());
        written.write_all(b"line\n").expect("written");
        assert!(file.learn_head());
        written.set_len(0).expect("truncated");
        assert!(file.has_had_data(), "its copy is waited for");
        assert_eq!(file.kept.current().size, 5, "should it not be found, so much is lost");
        let got = file.read_block(&mut Vec::new(), 4096).expect("read");
        assert_eq!(got, Got::Changed, "it does not begin as it did");
    }
}
