//! Where a record lay: a file by its identity, and a range of its bytes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The identity of one file's content: 128 bits, written as 32 hex digits (`log.file.fingerprint`).
///
/// How it is made is the collector's business. It must be the same for the same content after a restart and
/// different for other content, so that ([`FileId`], offset) names a record for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u128);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileId({self})")
    }
}

impl FromStr for FileId {
    type Err = std::num::ParseIntError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(s, 16).map(FileId)
    }
}

/// A half-open range of bytes of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Span {
    /// A span of `len` bytes from `start`.
    #[must_use]
    pub fn at(start: u64, len: u64) -> Self {
        Span { start, end: start + len }
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.end == self.start
    }
}

/// A file as records name it. Rotation changes a file's path, never its id: the path is the one it was opened by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Identity of the content.
    pub id: FileId,
    /// `log.file.path`.
    pub path: PathBuf,
    /// `log.file.device_id`.
    pub device: u64,
    /// `log.file.inode`.
    pub inode: u64,
}
