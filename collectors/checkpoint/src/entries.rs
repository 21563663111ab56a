//! The entries in memory: one allocation and 16 bytes of table for each.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};

use crate::format::{read_varint, write_varint};

/// Key and value in one piece: the key's length as a varint, the key, the value.
struct Entry(Box<[u8]>);

impl Entry {
    fn new(key: &[u8], value: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(10 + key.len() + value.len());
        write_varint(&mut bytes, key.len() as u64);
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Entry(bytes.into_boxed_slice())
    }

    fn split(&self) -> (&[u8], &[u8]) {
        let mut rest = &*self.0;
        let length = read_varint(&mut rest).map_or(0, |length| length as usize);
        rest.split_at(length.min(rest.len()))
    }
}

impl Borrow<[u8]> for Entry {
    fn borrow(&self) -> &[u8] {
        self.split().0
    }
}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.split().0.hash(state);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.split().0 == other.split().0
    }
}

impl Eq for Entry {}

/// A map of bytes to bytes.
#[derive(Default)]
pub(crate) struct Entries(HashSet<Entry>);

impl Entries {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.0.get(key).map(|entry| entry.split().1)
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.replace(Entry::new(key, value));
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        self.0.remove(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(Entry::split)
    }

    pub(crate) fn reserve(&mut self, more: usize) {
        self.0.reserve(more);
    }
}
