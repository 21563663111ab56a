//! What is remembered of a file between two lives of the agent.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use taffrail_record::FileId;

use super::identity::{FileKey, Head};

/// Keys of this collector in the store begin so.
const PREFIX: &[u8; 4] = b"log\x01";

/// Flags of a value.
const FINISHED: u8 = 1;
const BOUND: u8 = 1 << 1;
/// The path goes on from the lane's place.
const RELATIVE: u8 = 1 << 2;

/// The directory or file that a lane is named by; most paths begin with it.
fn place_of(lane: &str) -> &[u8] {
    lane.split_once(':').map_or(lane, |(_, place)| place).as_bytes()
}

/// One file's durable state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileState {
    pub(crate) key: FileKey,
    /// How often this file was truncated since it was first seen.
    pub(crate) generation: u32,
    /// The content's identity, from the moment on when its first line was seen.
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
    pub(crate) lane: Arc<str>,
    /// The path it was last seen at.
    pub(crate) path: PathBuf,
}

impl FileState {
    /// Takes up how the file begins. It is as long as that at least, whatever was found earlier or a moment later: who
    /// waits for this file's data must not miss what was here and is in a copy now.
    ///
    /// With its first line it has its identity: if it is never read, or was read in a life that could write nothing down,
    /// what is declared lost of it has the same name as what was delivered.
    pub(crate) fn begins_with(&mut self, bytes: &[u8]) {
        self.head = Head::of(bytes);
        self.size = self.size.max(u64::from(self.head.length));
        if self.head.is_full() || memchr::memchr(b'\n', bytes).is_some() {
            self.bind(bytes);
        }
    }

    /// The identity of a file that begins so, bound now if it was not.
    pub(crate) fn bind(&mut self, bytes: &[u8]) -> FileId {
        *self.id.get_or_insert_with(|| self.key.content_id(self.generation, &self.lane, bytes))
    }

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
        let relative = path.strip_prefix(place_of(&self.lane));
        let path = relative.unwrap_or(path);
        let mut value = Vec::with_capacity(64 + self.lane.len() + path.len());
        let flags = [(self.finished, FINISHED), (self.id.is_some(), BOUND), (relative.is_some(), RELATIVE)];
        value.push(flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
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
        let lane: Arc<str> = std::str::from_utf8(value.take(lane_length)?).ok()?.into();
        let mut path = if flags & RELATIVE == 0 { Vec::new() } else { place_of(&lane).to_vec() };
        path.extend_from_slice(value.0);
        let path = PathBuf::from(OsString::from_vec(path));
        let id = (flags & BOUND != 0).then_some(FileId(id));
        let finished = flags & FINISHED != 0;
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
            lane: "kubernetes:/var/log/pods/x".into(),
            path: PathBuf::from("/var/log/pods/x/0.log"),
        };
        assert_eq!(FileState::decode(&state.store_key(), &state.encode()), Some(state.clone()));
        let unbound = FileState { id: None, finished: false, ..state };
        assert_eq!(FileState::decode(&unbound.store_key(), &unbound.encode()), Some(unbound.clone()));
        for (lane, path) in
            [("file:/a.log", "/a.log"), ("file:/a.log", "/a.log.1"), ("docker:ab", "/d/ab.log")]
        {
            let other = FileState { lane: lane.into(), path: PathBuf::from(path), ..unbound.clone() };
            assert_eq!(FileState::decode(&other.store_key(), &other.encode()), Some(other));
        }
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
