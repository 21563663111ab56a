//! How a lane's files lie, in a few bytes: whether anything has happened to them since is asked with two system calls.

use std::fs::Metadata;
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use xxhash_rust::xxh3::xxh3_64;

use crate::find::{SETTLES, settled};
use crate::follow::{FileState, Lane, Reader};

/// What a lane's directory and its one file say of themselves, times of change included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(NonZeroU64);

impl Mark {
    /// Of a lane at rest, by what its last look and its last read found: `None` when something has happened since, or so
    /// lately that more may hide behind it.
    pub(super) fn of_lane(lane: &Lane) -> Option<Mark> {
        let known = lane.directory_changed.filter(|_| !lane.undecided && lane.known.is_empty())?;
        Mark::now(lane).filter(|_| settled(&lane.target.directory) == Some(known))
    }

    /// Of a lane that is awake, as its files lie now.
    pub(super) fn now(lane: &Lane) -> Option<Mark> {
        let directory = &lane.target.directory;
        let Some(file) = lane.chain.front() else {
            return lane.finished.is_empty().then(|| Mark::at(directory, None)).flatten();
        };
        let Some(Reader::Plain(open)) = &file.reader else { return None };
        if lane.chain.len() > 1 || !file.carry.is_empty() {
            return None;
        }
        // By its descriptor, which is cheaper: another file under its name shows in the directory.
        let (meta, state) = (open.metadata().ok()?, file.kept.state.lock());
        Mark::at(directory, Some((&meta, &state, file.read)))
    }

    /// Of a lane that is asleep, as its files lie now.
    pub(super) fn of_states(directory: &Path, states: &[FileState]) -> Option<Mark> {
        let state = states.iter().find(|state| !state.finished)?;
        Mark::at(directory, Some((&std::fs::metadata(&state.path).ok()?, state, state.position)))
    }

    fn at(directory: &Path, file: Option<(&Metadata, &FileState, u64)>) -> Option<Mark> {
        let mut numbers = [0; 8];
        numbers[0] = nanos(settled(directory)?);
        if let Some((meta, state, read)) = file {
            let age = SystemTime::now().duration_since(meta.modified().ok()?).unwrap_or_default();
            if age <= SETTLES || !is_at(meta, state, read) {
                return None;
            }
            let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
            numbers[1..5].copy_from_slice(&times.map(i64::cast_unsigned));
            numbers[5..].copy_from_slice(&[meta.ino(), meta.dev(), meta.len()]);
        }
        let mut bytes = [0; 64];
        bytes.chunks_exact_mut(8).zip(numbers).for_each(|(b, n)| b.copy_from_slice(&n.to_le_bytes()));
        NonZeroU64::new(xxh3_64(&bytes)).map(Mark)
    }
}

/// Whether the only file of a lane that was still being written lies as it was left, fully read. That says nothing of
/// what may lie beside it.
pub(super) fn is_as_left(states: &[FileState]) -> bool {
    let mut open = states.iter().filter(|state| !state.finished);
    let (Some(state), None) = (open.next(), open.next()) else { return false };
    std::fs::metadata(&state.path).is_ok_and(|meta| is_at(&meta, state, state.position))
}

fn is_at(meta: &Metadata, state: &FileState, read: u64) -> bool {
    meta.ino() == state.key.inode && meta.dev() == state.key.device && meta.len() == read
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
