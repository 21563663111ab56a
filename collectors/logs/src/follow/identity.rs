//! Which file is which: device, inode, birth time, and a growing hash of the first bytes.
//!
//! The three numbers follow a file through renames; the hash tells a reused inode or rewritten content apart and
//! recognises a file that was copied or compressed. All of it works from the first byte on.

use std::io;
use std::os::fd::AsRawFd;

use taffrail_record::FileId;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// How many first bytes the growing hash covers at most.
pub(crate) const HEAD_BYTES: usize = 1024;

/// What the file system says a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct FileKey {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Nanoseconds since the epoch; 0 where the file system keeps no birth time.
    pub(crate) born: u64,
}

impl FileKey {
    /// Key, size and kind (`S_IFMT` bits) of an open file.
    pub(crate) fn of(file: &impl AsRawFd) -> io::Result<(FileKey, u64, u32)> {
        let mut stat = std::mem::MaybeUninit::<libc::statx>::zeroed();
        let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
        // SAFETY: the descriptor is open for as long as `file` is borrowed, the path is an empty C string, and
        // `stat` is a buffer of the size that statx writes.
        let result = unsafe {
            libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, mask, stat.as_mut_ptr())
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: statx succeeded and every field is an integer, valid in whatever state.
        let stat = unsafe { stat.assume_init() };
        let born = if stat.stx_mask & libc::STATX_BTIME == 0 {
            0
        } else {
            u64::try_from(stat.stx_btime.tv_sec).unwrap_or(0) * 1_000_000_000
                + u64::from(stat.stx_btime.tv_nsec)
        };
        let device = libc::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        Ok((
            FileKey { device, inode: stat.stx_ino, born },
            stat.stx_size,
            u32::from(stat.stx_mode) & libc::S_IFMT,
        ))
    }

    /// The identity of this file's content: of the lane and the first line, when a container's runtime has written the
    /// time into that to the nanosecond; otherwise of these numbers, the generation (how often the file was
    /// truncated) and the first line, at most [`HEAD_BYTES`] of it.
    ///
    /// So a container's file is the same after it was compressed, even if nothing of it could be written down.
    pub(crate) fn content_id(&self, generation: u32, lane: &str, head: &[u8]) -> FileId {
        let end = memchr::memchr(b'\n', head);
        let line = &head[..end.unwrap_or(head.len().min(HEAD_BYTES))];
        let mut bytes = Vec::with_capacity(lane.len() + 32 + line.len());
        if is_dated(line, end.is_some()) {
            bytes.extend_from_slice(lane.as_bytes());
            bytes.push(b'\n');
        } else {
            for number in [self.device, self.inode, self.born] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&generation.to_le_bytes());
        }
        bytes.extend_from_slice(line);
        FileId(xxh3_128(&bytes))
    }
}

/// Whether a line has a time that no other line of its container has: CRI begins with it, json-file ends with it.
fn is_dated(line: &[u8], whole: bool) -> bool {
    let is_cri = || {
        let (time, rest) = line.split_at_checked(30)?;
        let digits = time.iter().filter(|byte| byte.is_ascii_digit()).count();
        let streams: [&[u8]; 2] = [b" stdout ", b" stderr "];
        let rest = &rest[rest.iter().position(|byte| *byte == b' ')?..];
        Some(
            digits >= 22
                && time[10] == b'T'
                && time[19] == b'.'
                && streams.iter().any(|s| rest.starts_with(s)),
        )
    };
    let is_json = || {
        let time = memchr::memmem::rfind(line, br#""time":""#)?;
        Some(whole && line.starts_with(b"{") && line.get(time + 27) == Some(&b'.'))
    };
    is_cri().or_else(is_json).unwrap_or(false)
}

/// Hash of a file's first bytes, as many as there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Head {
    pub(crate) length: u16,
    pub(crate) hash: u64,
}

impl Head {
    /// Of the beginning of a file, of which at most [`HEAD_BYTES`] count.
    pub(crate) fn of(bytes: &[u8]) -> Head {
        let bytes = &bytes[..bytes.len().min(HEAD_BYTES)];
        Head { length: bytes.len() as u16, hash: xxh3_64(bytes) }
    }

    /// Whether it covers all it ever will.
    pub(crate) fn is_full(self) -> bool {
        usize::from(self.length) == HEAD_BYTES
    }

    /// Whether `bytes` (the beginning of some file) begin with the bytes that this is the hash of.
    pub(crate) fn matches(self, bytes: &[u8]) -> bool {
        self.length == 0
            || bytes.get(..usize::from(self.length)).is_some_and(|head| xxh3_64(head) == self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_matches_a_file_that_has_grown_and_no_other() {
        let head = Head::of(b"first");
        assert!(head.matches(b"first line\n"));
        assert!(!head.matches(b"fir"));
        assert!(!head.matches(b"other line\n"));
        assert!(Head::default().matches(b"anything"), "an empty file may become any");
    }

    #[test]
    fn the_content_id_depends_on_the_first_line_alone() {
        let key = FileKey { device: 1, inode: 2, born: 3 };
        let other = FileKey { inode: 9, ..key };
        assert_eq!(key.content_id(0, "l", b"a\nb\n"), key.content_id(0, "l", b"a\nc"));
        assert_ne!(key.content_id(0, "l", b"a\n"), key.content_id(0, "l", b"b\n"));
        assert_ne!(key.content_id(0, "l", b"a\n"), key.content_id(1, "l", b"a\n"));
        assert_ne!(key.content_id(0, "l", b"a\n"), other.content_id(0, "l", b"a\n"));
    }

    #[test]
    fn the_key_of_a_file_survives_a_rename() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("a");
        let file = std::fs::File::create(&path).expect("a file");
        let before = FileKey::of(&file).expect("stat");
        std::fs::rename(&path, root.path().join("b")).expect("renamed");
        assert_eq!(FileKey::of(&file).expect("stat"), before);
    }

    #[test]
    fn a_dated_first_line_identifies_the_content_wherever_it_lies() {
        let (here, there) = (FileKey { device: 1, inode: 2, born: 3 }, FileKey::default());
        let dated: [&[u8]; 4] = [
            b"2026-01-02T03:04:05.678901234Z stdout F hello\n",
            b"2026-01-02T03:04:05.678901234+08:00 stderr P hello",
            br#"{"log":"hello\n","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}
"#,
            br#"{"log":"hello\n","stream":"stdout","attrs":{"a":"b"},"time":"2026-01-02T03:04:05.67890Z"}
"#,
        ];
        for line in dated {
            let text = String::from_utf8_lossy(line);
            assert_eq!(here.content_id(0, "l", line), there.content_id(4, "l", line), "{text}");
            assert_ne!(here.content_id(0, "l", line), here.content_id(0, "m", line), "{text}");
        }
        let undated: [&[u8]; 5] = [
            b"",
            b"2026-01-02T03:04:05.678901234Z hello\n",
            b"2026-01-02 03:04:05.678901234Z stdout F hello\n",
            br#"{"log":"hello\n","stream":"stdout","time":"2026-01-02T03:04:05.678901234Z"}"#,
            b"{\"message\":1}\n",
        ];
        for line in undated {
            let text = String::from_utf8_lossy(line);
            assert_ne!(here.content_id(0, "l", line), there.content_id(0, "l", line), "{text}");
        }
    }
}
