//! What is remembered of a file between two lives of the agent.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use taffrail_record::FileId;

use super::identity::{FileKey, Head};

/// Keys of this collector in the store begin so.
const PREFIX: &[u8; 4] = b"log\x01";

/// One file's durable state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileState {
    pub(crate) key: FileKey,
    /// How often this file was truncated since it was first seen.
    pub(crate) generation: u32,
    /// The content's identity, once something was read.
    pub(crate) id: Option<FileId>,
    pub(crate) head: Head,
    /// First byte the agent is answerable for.
    pub(crate) from: u64,
    /// Everything before it is settled.
    pub(crate) position: u64,
    /// Size when last looked at.
    pub(crate) size: u64,
    /// Drained, settled and stated: nothing is left to do unless it grows.
    pub(crate) finished: bool,
    /// The lane it belongs to.
    pub(crate) lane: String,
    /// The path it was last seen at.
    pub(crate) path: PathBuf,
}

impl FileState {
    /// Its key in the store.
    pub(crate) fn store_key(&self) -> Vec<u8> {
        let mut key = PREFIX.to_vec();
        for number in [self.key.device, self.key.inode, self.key.born] {
            key.extend_from_slice(&number.to_le_bytes());
        }
        key.extend_from_slice(&self.generation.to_le_bytes());
        key
    }

    /// Its value in the store.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let path = self.path.as_os_str().as_bytes();
        let mut value = Vec::with_capacity(64 + self.lane.len() + path.len());
        value.push(u8::from(self.finished) | u8::from(self.id.is_some()) << 1);
        value.extend_from_slice(&self.id.map_or(0, |id| id.0).to_le_bytes());
        value.extend_from_slice(&self.head.length.to_le_bytes());
        for number in [self.head.hash, self.from, self.position, self.size] {
            value.extend_from_slice(&number.to_le_bytes());
        }
        value.extend_from_slice(&(self.lane.len() as u32).to_le_bytes());
        value.extend_from_slice(self.lane.as_bytes());
        value.extend_from_slice(path);
        value
    }

    /// From the store; `None` for entries of others and for what does not parse.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<FileState> {
        let mut key = Cut(key.strip_prefix(PREFIX)?);
        let mut value = Cut(value);
        let file = FileKey { device: key.u64()?, inode: key.u64()?, born: key.u64()? };
        let generation = u32::from_le_bytes(key.array()?);
        let flags = u8::from_le_bytes(value.array()?);
        let id = u128::from_le_bytes(value.array()?);
        let head = Head { length: u16::from_le_bytes(value.array()?), hash: value.u64()? };
        let (from, position, size) = (value.u64()?, value.u64()?, value.u64()?);
        let lane_length = u32::from_le_bytes(value.array()?) as usize;
        let lane = std::str::from_utf8(value.take(lane_length)?).ok()?.to_owned();
        let path = Path::new(OsStr::from_bytes(value.0)).to_owned();
        let id = (flags & 2 != 0).then_some(FileId(id));
        let finished = flags & 1 != 0;
        Some(FileState { key: file, generation, id, head, from, position, size, finished, lane, path })
    }
}

/// Takes bytes off the front.
struct Cut<'a>(&'a [u8]);

impl<'a> Cut<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_state_survives_the_store() {
        let state = FileState {
            key: FileKey { device: 1, inode: 2, born: 3 },
            generation: 4,
            id: Some(FileId(5)),
            head: Head { length: 6, hash: 7 },
            from: 8,
            position: 9,
            size: 10,
            finished: true,
            lane: "kubernetes:/var/log/pods/x".to_owned(),
            path: PathBuf::from("/var/log/pods/x/0.log"),
        };
        assert_eq!(FileState::decode(&state.store_key(), &state.encode()), Some(state.clone()));
        let unbound = FileState { id: None, finished: false, ..state };
        assert_eq!(FileState::decode(&unbound.store_key(), &unbound.encode()), Some(unbound));
    }

    proptest! {
        #[test]
        fn arbitrary_entries_never_panic(key in prop::collection::vec(any::<u8>(), 0..64), value in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut prefixed = PREFIX.to_vec();
            prefixed.extend(&key);
            let _ = FileState::decode(&prefixed, &value);
            let _ = FileState::decode(&key, &value);
        }
    }
}
