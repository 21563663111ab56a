//! Documents on this node's disk, from when they are made until they are confirmed: files of a bounded size in a row.
//!
//! - An entry is whole or it is not there: the last one of a crash is cut off. Nothing is synced: a power cut may take what
//!   was appended last. What of it was not confirmed no position has passed: whoever can observe it again does.
//! - Places in the spool grow for ever, from file to file and from life to life.
//! - A file goes when all of it is confirmed. How far that is stands in a file of its own, written now and then.
//! - Of the files that would go, the latest with a document in it stays, put aside: so [`Spool::last`] knows the last document
//!   for as long as the disk does, confirmed or not, in whatever life.
//! - It takes no more than its bound on the disk, but for a few entries of some bytes that say how far its owner has come,
//!   for a single document that is larger than the bound, and for the one file that is put aside.
//! - [`Spool::newest`] is the version up to which everything is stored or here.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use taffrail_record::FileId;

use crate::confirmed::{self, Confirmed};
use crate::files::{self, Reader, Segment, create, path_aside, path_of};
use crate::frame::{Found, Frame, Kind, decode};

/// How much is read at once to be shown.
const BLOCK: usize = 1 << 20;

/// One writer's spool. One thread appends, one reads and confirms.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    id: FileId,
    limit: u64,
    /// At what size the next file begins.
    segment: u64,
    /// Before it, versions say nothing of what is after it.
    counts_from: Mutex<u64>,
    state: Mutex<State>,
    appended: Condvar,
    /// Held for as long as it is open.
    _lock: File,
}

#[derive(Debug)]
struct State {
    segments: VecDeque<Segment>,
    /// The last of them.
    file: File,
    newest: Option<u64>,
    confirmed: Confirmed,
    /// As it is on the disk.
    kept: Confirmed,
    /// A file that should have been put aside, and could not be.
    left: Option<PathBuf>,
    buffer: Vec<u8>,
}

/// The document that was appended last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastDocument {
    /// [`Frame::version`]
    pub version: u64,
    /// [`Frame::id`]
    pub id: String,
    /// [`Frame::body`]
    pub body: Vec<u8>,
}

/// What cannot be done with a spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process has it open.
    #[error("{0} is in use by another process; give each agent a state directory of its own")]
    InUse(PathBuf),
    /// The disk refuses.
    #[error("{path}: {error}; see that the state directory can be written to and has room")]
    Failed {
        /// What cannot be written or read.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Why an entry was not taken.
#[derive(Debug)]
pub enum Refusal {
    /// There is no room until something is confirmed.
    Full,
    /// The disk does not take it.
    Failed(SpoolError),
}

impl State {
    fn start(&self) -> u64 {
        self.segments.front().map_or(0, |first| first.start)
    }

    fn end(&self) -> u64 {
        self.segments.back().map_or(0, |last| last.end)
    }

    /// Whether everything is confirmed.
    fn is_drained(&self) -> bool {
        self.confirmed.offset >= self.end()
    }
}

impl Spool {
    /// Opens the spool in `folder`, which is made if it is not there, to take up to `limit` bytes on the disk. `alive` is
    /// called now and then meanwhile.
    ///
    /// # Errors
    /// [`SpoolError`]; nothing that was there is lost by it.
    pub fn open(folder: &Path, limit: u64, alive: &dyn Fn()) -> Result<Spool, SpoolError> {
        let failed = |error| SpoolError::Failed { path: folder.to_owned(), error };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let lock = files::lock(folder)?;
        let mut confirmed = Confirmed::read(folder);
        let found = files::scan(folder, &confirmed, alive).map_err(failed)?;
        let id = found.id.unwrap_or_else(files::new_id);
        let mut segments = VecDeque::from(found.segments);
        let end = if segments.is_empty() { found.end.max(confirmed.offset) } else { found.end };
        if segments.is_empty() {
            // Files go when they are confirmed, and how far that is is written down later.
            confirmed.offset = end;
        } else if !found.is_boundary {
            confirmed.offset = segments.front().map_or(confirmed.offset, |first| first.start);
        }
        // Nothing is appended to a file of another life: what may be torn at its end is cut off, but who knows.
        segments.retain(|segment| segment.end > segment.start);
        segments.push_back(Segment { start: end, end, has_documents: false });
        let file = create(folder, id, end).map_err(failed)?;
        let newest = found.newest;
        let (kept, buffer) = (Confirmed::default(), Vec::new());
        let state = State { segments, file, newest, kept, confirmed, left: None, buffer };
        Ok(Spool {
            folder: folder.to_owned(),
            id,
            limit,
            segment: (limit / 16).clamp(64 << 10, 8 << 20),
            counts_from: Mutex::new(if found.broken { end } else { 0 }),
            state: Mutex::new(state),
            appended: Condvar::new(),
            _lock: lock,
        })
    }

    /// Names places in it.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The place up to which everything is confirmed.
    #[must_use]
    pub fn confirmed(&self) -> Confirmed {
        self.state.lock().confirmed.clone()
    }

    /// The place of the next entry.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.state.lock().end()
    }

    /// The version up to which everything is stored or here; none when nobody knows.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.state.lock().newest
    }

    /// Bytes of entries that it has on the disk; up to a file's worth of them are confirmed. What is put aside does not count.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let state = self.state.lock();
        state.end() - state.start()
    }

    /// Whether it makes sense to append again after it was full.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.state.lock().is_drained() || self.bytes() + 2 * self.segment <= self.limit
    }

    /// The version up to which everything is stored, as far as this spool can tell.
    #[must_use]
    pub fn stored(&self) -> Option<u64> {
        let confirmed = self.confirmed();
        (confirmed.offset >= *self.counts_from.lock()).then_some(confirmed.version).flatten()
    }

    /// From now on versions count anew.
    ///
    /// # Errors
    /// [`Refusal::Failed`]; versions count as before.
    pub fn reset(&self) -> Result<(), Refusal> {
        self.append(&Frame::bare(Kind::Reset, 0))?;
        *self.counts_from.lock() = self.end();
        Ok(())
    }

    /// Says by whose count versions are from now on, such as a cluster's. Documents of another owner are still to be stored,
    /// but their versions say nothing of this one's.
    ///
    /// # Errors
    /// [`Refusal::Failed`].
    pub fn belongs_to(&self, owner: &str) -> Result<(), Refusal> {
        let known = self.state.lock().confirmed.owner.clone();
        if known == owner {
            return Ok(());
        }
        if !known.is_empty() || self.newest().is_some() {
            self.reset()?;
        }
        owner.clone_into(&mut self.state.lock().confirmed.owner);
        self.keep().map_err(Refusal::Failed)
    }

    /// Appends an entry. What is no document is taken even when it is full.
    ///
    /// # Errors
    /// [`Refusal`]; the spool is as it was.
    pub fn append(&self, frame: &Frame<'_>) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let length = frame.length() as u64;
        let is_full = state.end() - state.start() + length > self.limit && !state.is_drained();
        if frame.is_document() && is_full {
            return Err(Refusal::Full);
        }
        self.write(&mut state, frame)
            .map_err(|error| Refusal::Failed(SpoolError::Failed { path: self.folder.clone(), error }))?;
        match frame.kind {
            Kind::InOrder | Kind::Mark => state.newest = Some(frame.version),
            Kind::Reset => state.newest = None,
            Kind::Unordered => {}
        }
        drop(state);
        self.appended.notify_all();
        Ok(())
    }

    fn write(&self, state: &mut State, frame: &Frame<'_>) -> io::Result<()> {
        let end = state.end();
        let Some(last) = state.segments.back().copied() else { return Err(io::ErrorKind::NotFound.into()) };
        if last.end - last.start >= self.segment {
            state.file = create(&self.folder, self.id, end)?;
            state.segments.push_back(Segment { start: end, end, has_documents: false });
        }
        let mut buffer = std::mem::take(&mut state.buffer);
        buffer.clear();
        frame.encode(&mut buffer);
        let written = state.file.write_all(&buffer);
        let length = buffer.len() as u64;
        if buffer.capacity() <= 64 << 10 {
            state.buffer = buffer;
        }
        let Some(last) = state.segments.back_mut() else { return Ok(()) };
        if let Err(error) = written {
            files::cut(&state.file, last.start, last.end)?;
            return Err(error);
        }
        last.end += length;
        last.has_documents |= frame.is_document();
        Ok(())
    }

    /// Waits for an entry at `from`, for so long at most.
    pub(crate) fn wait(&self, from: u64, patience: Duration) {
        let mut state = self.state.lock();
        if state.end() <= from {
            self.appended.wait_for(&mut state, patience);
        }
    }

    /// The file that has `from` in it, or the first one behind it.
    pub(crate) fn segment(&self, from: u64) -> Option<Segment> {
        let state = self.state.lock();
        state.segments.iter().find(|segment| segment.end > from).copied()
    }

    /// Shows every entry from the place `from` on, in order, up to the first that cannot be read.
    ///
    /// # Errors
    /// What the disk says.
    pub fn for_each(&self, from: u64, mut show: impl FnMut(&Frame<'_>)) -> io::Result<()> {
        let (mut reader, mut data, mut at) = (Reader::default(), Vec::new(), from);
        while let Some(piece) = reader.read(self, at, BLOCK, &mut data)? {
            let mut used = 0;
            while let Found::Whole(frame, _, length) = decode(&data[used..]) {
                show(&frame);
                used += length;
            }
            if used == 0 {
                break;
            }
            at = piece.start + used as u64;
        }
        Ok(())
    }

    /// Where the file ends that has `from` in it.
    pub(crate) fn file_end(&self, from: u64) -> u64 {
        self.segment(from).map_or(from, |segment| segment.end)
    }

    /// Everything before the place `offset` is confirmed, and with it everything up to `version`. A
    /// [`Sender`](crate::Sender) says so of what it has sent.
    pub fn confirm(&self, offset: u64, version: Option<u64>) {
        let mut state = self.state.lock();
        state.confirmed.offset = offset;
        state.confirmed.version = version;
        while state.segments.len() > 1 && state.segments.front().is_some_and(|first| first.end <= offset) {
            let Some(first) = state.segments.pop_front() else { break };
            self.let_go(&mut state, first);
        }
    }

    /// Removes a file, or puts it aside in the place of the one before it.
    fn let_go(&self, state: &mut State, segment: Segment) {
        let path = path_of(&self.folder, segment.start);
        let gone = if segment.has_documents {
            std::fs::rename(&path, path_aside(&self.folder))
        } else {
            std::fs::remove_file(&path)
        };
        if let Err(error) = &gone {
            tracing::warn!(path = %path.display(), %error, "a file of what is confirmed stays; remove it");
        }
        if segment.has_documents {
            state.left = gone.is_err().then_some(path);
        }
    }

    /// The last document that was ever appended and is still whole, confirmed or not, in whatever life and whoever's it is.
    /// None when there never was one, or when it was damaged or taken away and no other is left. Since nothing is synced, a
    /// power cut may leave an earlier one than was confirmed.
    ///
    /// Reads a file of the spool, and appending waits meanwhile: to be asked for once, after opening.
    ///
    /// # Errors
    /// [`SpoolError::Failed`]: there may be one, and the disk does not give it.
    pub fn last(&self) -> Result<Option<LastDocument>, SpoolError> {
        let state = self.state.lock();
        let segments = state.segments.iter().rev().filter(|segment| segment.has_documents);
        let files = segments.map(|segment| path_of(&self.folder, segment.start));
        for path in files.chain(state.left.clone()).chain([path_aside(&self.folder)]) {
            let found = files::last_document(&path);
            if let Some(last) = found.map_err(|error| SpoolError::Failed { path, error })? {
                return Ok(Some(last));
            }
        }
        Ok(None)
    }

    /// Writes down what is confirmed, if it is not.
    ///
    /// # Errors
    /// [`SpoolError::Failed`]; a crash costs repeats then.
    pub fn keep(&self) -> Result<(), SpoolError> {
        let confirmed = self.confirmed();
        if confirmed == self.state.lock().kept {
            return Ok(());
        }
        confirmed
            .write(&self.folder)
            .map_err(|error| SpoolError::Failed { path: self.folder.join(confirmed::NAME), error })?;
        self.state.lock().kept = confirmed;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
