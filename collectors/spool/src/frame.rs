//! How one entry of the spool is written: length, checksum, what it is, and a document.

use std::ops::Range;

/// What an entry stands for, and so what its version means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A document: others of its version or before may still come.
    Unordered = 0,
    /// A document: everything up to its version is here or was stored before.
    InOrder = 1,
    /// No document: everything up to its version is here or was stored before.
    Mark = 2,
    /// No document: versions begin anew. What is before it says nothing of what follows.
    Reset = 3,
}

/// One entry: a document and what is known of it besides, or what is to be known of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it stands for.
    pub kind: Kind,
    /// Its place in the order of whoever makes documents; grows until there is a [`Kind::Reset`].
    pub version: u64,
    /// When it happened, nanoseconds since the Unix epoch.
    pub time: i64,
    /// When it was put here, nanoseconds since the Unix epoch.
    pub observed: i64,
    /// The document's id: the same for the same observation, however often it is made. Up to 512 bytes.
    pub id: &'a str,
    /// The document: a JSON object of up to 63 MiB; empty when there is none.
    pub body: &'a [u8],
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// An entry; where its body lies; and its length in all.
    Whole(Frame<'a>, Range<usize>, usize),
    /// The beginning of one that is this long.
    Begun(usize),
    /// Nothing that was written whole.
    Damaged,
}

const HEAD: usize = 8;
const FIXED: usize = 1 + 8 + 8 + 8 + 2;
/// The largest that anybody makes is an event: at most 1.5 MiB in etcd, and a few times that with escapes.
const LONGEST: usize = 64 << 20;

impl<'a> Frame<'a> {
    /// An entry without a document.
    #[must_use]
    pub fn bare(kind: Kind, version: u64) -> Self {
        Frame { kind, version, time: 0, observed: 0, id: "", body: b"" }
    }

    /// Whether there is a document in it.
    #[must_use]
    pub fn is_document(&self) -> bool {
        matches!(self.kind, Kind::Unordered | Kind::InOrder)
    }

    pub(crate) fn length(&self) -> usize {
        HEAD + FIXED + self.id.len() + self.body.len()
    }

    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let start = into.len();
        into.extend_from_slice(&[0; HEAD]);
        into.push(self.kind as u8);
        into.extend_from_slice(&self.version.to_le_bytes());
        into.extend_from_slice(&self.time.to_le_bytes());
        into.extend_from_slice(&self.observed.to_le_bytes());
        into.extend_from_slice(&u16::try_from(self.id.len()).unwrap_or(0).to_le_bytes());
        into.extend_from_slice(self.id.as_bytes());
        into.extend_from_slice(self.body);
        let payload = &into[start + HEAD..];
        let (length, sum) = (payload.len() as u32, crc32fast::hash(payload));
        into[start..start + 4].copy_from_slice(&length.to_le_bytes());
        into[start + 4..start + HEAD].copy_from_slice(&sum.to_le_bytes());
    }
}

/// What stands at the beginning of `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Found<'_> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Found::Begun(HEAD) };
    let length = u32::from_le_bytes(*length) as usize;
    if !(FIXED..=LONGEST).contains(&length) {
        return Found::Damaged;
    }
    let whole = HEAD + length;
    let (Some((sum, _)), Some(payload)) = (rest.split_first_chunk::<4>(), bytes.get(HEAD..whole)) else {
        return Found::Begun(whole);
    };
    if crc32fast::hash(payload) != u32::from_le_bytes(*sum) {
        return Found::Damaged;
    }
    parts(payload).map_or(Found::Damaged, |frame| {
        let body = whole - frame.body.len()..whole;
        Found::Whole(frame, body, whole)
    })
}

fn parts(payload: &[u8]) -> Option<Frame<'_>> {
    let (kind, rest) = payload.split_first()?;
    let (version, rest) = rest.split_first_chunk()?;
    let (time, rest) = rest.split_first_chunk()?;
    let (observed, rest) = rest.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (id, body) = rest.split_at_checked(usize::from(u16::from_le_bytes(*id)))?;
    let kind = match kind {
        0 => Kind::Unordered,
        1 => Kind::InOrder,
        2 => Kind::Mark,
        3 => Kind::Reset,
        _ => return None,
    };
    Some(Frame {
        kind,
        version: u64::from_le_bytes(*version),
        time: i64::from_le_bytes(*time),
        observed: i64::from_le_bytes(*observed),
        id: std::str::from_utf8(id).ok()?,
        body,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_frame_reads_back_and_no_part_of_it_does(body in prop::collection::vec(any::<u8>(), 0..200), id in "[a-z:]{0,20}") {
            let frame = Frame { kind: Kind::InOrder, version: 7, time: -1, observed: 3, id: &id, body: &body };
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), frame.length());
            let at = bytes.len() - body.len()..bytes.len();
            prop_assert_eq!(decode(&bytes), Found::Whole(frame, at, bytes.len()));
            for cut in 0..bytes.len() {
                prop_assert!(matches!(decode(&bytes[..cut]), Found::Begun(_)), "{}", cut);
            }
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 0x41;
                prop_assert!(!matches!(decode(&other), Found::Whole(..)), "byte {}", at);
            }
        }

        #[test]
        fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn zeros_are_damage() {
        assert_eq!(decode(&[0; 100]), Found::Damaged);
    }
}
