//! One file as bytes. Pure: no file is opened here.
//!
//! All numbers are little endian; a varint has seven bits a byte, lowest first.
//!
//! ```text
//!  0  magic, 8 bytes
//!  8  format version, u32
//! 12  CRC32 of the 12 bytes before, u32       these 16 bytes are the same in every version, for ever
//! 16  kind, u8: 1 base, 2 delta; 3 bytes of zero
//! 20  sequence number of the commit, u64
//! 28  number of entries, u64
//! 36  length of the entries in bytes, u64
//! 44  entries, each: varint key length, key, varint (value length + 1, or 0 for removed), value
//!     CRC32 of everything before, u32
//! ```
//!
//! The short checksum tells a newer version (to be left alone) from a damaged version number (to be moved aside).

use std::io::{self, Write};

/// The version written here.
pub(crate) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"\x89TAFCP\r\n";
const PREFIX: usize = 16;
/// Bytes before the entries.
pub(crate) const HEADER: usize = 44;
const CHECKSUM: usize = 4;
/// No store gets here; a larger number would come from elsewhere and leave no room to count on.
const LARGEST_SEQUENCE: u64 = 1 << 62;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Every entry.
    Base = 1,
    /// What one commit changed.
    Delta = 2,
}

/// Why bytes are not a file of this store.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it is empty")]
    Empty,
    #[error("it does not begin with the mark of a checkpoint file")]
    Foreign,
    #[error("it has {0} bytes, fewer than any checkpoint file")]
    Short(usize),
    #[error("the checksum of its first 16 bytes does not match")]
    Prefix,
    #[error("format version {0} was never written by any release")]
    Version(u32),
    #[error("format version {0} is newer than this program")]
    Newer(u32),
    #[error("its header promises {promised} bytes, it has {found}")]
    Length { promised: u64, found: u64 },
    #[error("its checksum is {found:08x}, its content gives {computed:08x}")]
    Checksum { found: u32, computed: u32 },
    #[error("its header is not possible")]
    Header,
    #[error("entry {0} is not possible")]
    Entry(u64),
    #[error("it is {kind:?} {sequence} under another name")]
    Misnamed { kind: Kind, sequence: u64 },
}

/// A change of one key: its new value, or `None` when it was removed.
pub(crate) type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// A file that has passed every check.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) entries: u64,
    body: &'a [u8],
}

impl<'a> Document<'a> {
    /// The changes, in the order of the file.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change<'a>> {
        let mut rest = self.body;
        std::iter::from_fn(move || read_change(&mut rest))
    }
}

/// Checks `bytes` from the outside in.
///
/// # Errors
/// [`Refusal`] for anything but a whole, unaltered file of this version.
pub(crate) fn decode(bytes: &[u8]) -> Result<Document<'_>, Refusal> {
    check_prefix(bytes)?;
    if bytes.len() < HEADER + CHECKSUM {
        return Err(Refusal::Short(bytes.len()));
    }
    let promised = promised_length(bytes);
    if promised != bytes.len() as u64 {
        return Err(Refusal::Length { promised, found: bytes.len() as u64 });
    }
    let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
    let (found, computed) = (word(checksum, 0), crc32fast::hash(content));
    if found != computed {
        return Err(Refusal::Checksum { found, computed });
    }
    let kind = match content[16..20] {
        [1, 0, 0, 0] => Kind::Base,
        [2, 0, 0, 0] => Kind::Delta,
        _ => return Err(Refusal::Header),
    };
    let document =
        Document { kind, sequence: number(bytes, 20), entries: number(bytes, 28), body: &content[HEADER..] };
    check_entries(&document)?;
    Ok(document)
}

/// How long the file is that begins with these [`HEADER`] bytes; 0 when they begin no file of this version.
pub(crate) fn promised_length(head: &[u8]) -> u64 {
    if head.len() < HEADER || check_prefix(head).is_err() {
        return 0;
    }
    number(head, 36).saturating_add((HEADER + CHECKSUM) as u64)
}

fn check_prefix(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::Empty);
    }
    let head = bytes.len().min(MAGIC.len());
    if bytes[..head] != MAGIC[..head] {
        return Err(Refusal::Foreign);
    }
    if bytes.len() < PREFIX {
        return Err(Refusal::Short(bytes.len()));
    }
    if crc32fast::hash(&bytes[..12]) != word(bytes, 12) {
        return Err(Refusal::Prefix);
    }
    match word(bytes, 8) {
        VERSION => Ok(()),
        0 => Err(Refusal::Version(0)),
        newer => Err(Refusal::Newer(newer)),
    }
}

/// The checksum has matched, so only a program that writes nonsense gets refused here.
fn check_entries(document: &Document<'_>) -> Result<(), Refusal> {
    if document.sequence > LARGEST_SEQUENCE {
        return Err(Refusal::Header);
    }
    let mut rest = document.body;
    for index in 0..document.entries {
        match read_change(&mut rest) {
            Some((_, None)) if document.kind == Kind::Base => return Err(Refusal::Entry(index)),
            Some(_) => {}
            None => return Err(Refusal::Entry(index)),
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(Refusal::Entry(document.entries)) }
}

/// Writes a file. `changes` is called twice and must give the same changes both times. Returns the bytes written.
///
/// # Errors
/// What `out` says.
pub(crate) fn encode<'a, I: Iterator<Item = Change<'a>>>(
    out: &mut dyn Write,
    kind: Kind,
    sequence: u64,
    changes: impl Fn() -> I,
) -> io::Result<u64> {
    let (mut entries, mut body_length) = (0, 0);
    for (key, value) in changes() {
        entries += 1;
        body_length += change_length(key, value);
    }
    let mut out = Summing { out, sum: crc32fast::Hasher::new() };
    out.put(&header(kind, sequence, entries, body_length))?;
    let mut lengths = Vec::with_capacity(20);
    for (key, value) in changes() {
        lengths.clear();
        write_varint(&mut lengths, key.len() as u64);
        out.put(&lengths)?;
        out.put(key)?;
        lengths.clear();
        write_varint(&mut lengths, value.map_or(0, |value| value.len() as u64 + 1));
        out.put(&lengths)?;
        out.put(value.unwrap_or_default())?;
    }
    let sum = out.sum.finalize();
    out.out.write_all(&sum.to_le_bytes())?;
    Ok((HEADER + CHECKSUM) as u64 + body_length)
}

struct Summing<'a> {
    out: &'a mut dyn Write,
    sum: crc32fast::Hasher,
}

impl Summing<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.out.write_all(bytes)
    }
}

fn header(kind: Kind, sequence: u64, entries: u64, body_length: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
    header.extend_from_slice(&[kind as u8, 0, 0, 0]);
    for number in [sequence, entries, body_length] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    header
}

fn change_length(key: &[u8], value: Option<&[u8]>) -> u64 {
    let value_length = value.map_or(0, |value| value.len() as u64);
    let mark = value.map_or(0, |_| value_length + 1);
    varint_length(key.len() as u64) + key.len() as u64 + varint_length(mark) + value_length
}

fn read_change<'a>(rest: &mut &'a [u8]) -> Option<Change<'a>> {
    let key_length = read_varint(rest)?;
    let key = take(rest, key_length)?;
    match read_varint(rest)? {
        0 => Some((key, None)),
        more => Some((key, Some(take(rest, more - 1)?))),
    }
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = left;
    Some(taken)
}

/// Appends `value` as a varint.
pub(crate) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a varint off the front; `None` when it does not end or does not fit 64 bits.
pub(crate) fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, left) = rest.split_first()?;
        *rest = left;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn varint_length(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Owned = Vec<(Vec<u8>, Option<Vec<u8>>)>;

    fn written(kind: Kind, sequence: u64, changes: &Owned) -> Vec<u8> {
        let mut bytes = Vec::new();
        let length = encode(&mut bytes, kind, sequence, || {
            changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))
        });
        assert_eq!(length.unwrap(), bytes.len() as u64);
        bytes
    }

    fn sample() -> Vec<u8> {
        let changes = vec![
            (b"key".to_vec(), Some(b"value".to_vec())),
            (Vec::new(), None),
            (b"long".to_vec(), Some(vec![7; 300])),
            (b"empty".to_vec(), Some(Vec::new())),
        ];
        written(Kind::Delta, 9, &changes)
    }

    /// The sample with its version replaced and both checksums made right again.
    fn with_version(version: u32) -> Vec<u8> {
        let mut bytes = sample();
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..12]);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        let end = bytes.len() - 4;
        let sum = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = sample();
        let document = decode(&bytes).unwrap();
        assert_eq!((document.kind, document.sequence, document.entries), (Kind::Delta, 9, 4));
        let changes: Vec<_> = document.changes().collect();
        assert_eq!(
            changes,
            [
                (&b"key"[..], Some(&b"value"[..])),
                (b"", None),
                (b"long", Some(&[7; 300])),
                (b"empty", Some(b""))
            ]
        );
    }

    #[test]
    fn a_version_is_newer_only_when_its_number_is_intact() {
        assert_eq!(decode(&with_version(2)), Err(Refusal::Newer(2)));
        assert_eq!(decode(&with_version(0)), Err(Refusal::Version(0)));
        let mut flipped = sample();
        flipped[8] ^= 2;
        assert_eq!(decode(&flipped), Err(Refusal::Prefix));
        assert_eq!(decode(&with_version(2)[..PREFIX]), Err(Refusal::Newer(2)), "the prefix suffices");
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
        assert!(decode(&[&bytes[..], b"x"].concat()).is_err(), "one byte too many");
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let bytes = sample();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let refusal = decode(&flipped).unwrap_err();
            assert!(!matches!(refusal, Refusal::Newer(_)), "bit {bit} must not look like a newer version");
        }
    }

    #[test]
    fn a_base_holds_no_removals() {
        let bytes = written(Kind::Base, 1, &vec![(b"k".to_vec(), None)]);
        assert_eq!(decode(&bytes), Err(Refusal::Entry(0)));
    }

    #[test]
    fn varints_of_every_length_are_read_back() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                write_varint(&mut bytes, value);
                assert_eq!(bytes.len() as u64, varint_length(value), "{value}");
                assert_eq!(read_varint(&mut bytes.as_slice()), Some(value));
            }
        }
        assert_eq!(read_varint(&mut [0xff; 11].as_slice()), None);
    }

    /// Any bytes are refused or read, without a panic; bytes made to have right checksums get past the outer checks.
    #[test]
    fn fuzz_the_decoder_survives_any_bytes() {
        bolero::check!().with_iterations(20_000).for_each(|bytes: &[u8]| {
            let _ = decode(bytes).map(|document| document.changes().count());
            let mut file =
                header(Kind::Delta, 1, u64::from(bytes.first().copied().unwrap_or(0)), bytes.len() as u64);
            file.extend_from_slice(bytes);
            file.extend_from_slice(&crc32fast::hash(&file).to_le_bytes());
            if let Ok(document) = decode(&file) {
                let changes: Owned =
                    document.changes().map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec))).collect();
                assert_eq!(changes.len() as u64, document.entries);
                let again = written(Kind::Delta, 1, &changes);
                assert_eq!(decode(&again).map(|d| d.entries), Ok(document.entries));
            }
        });
    }
}
