//! Pieces of recordings, and the account that the kernel keeps of each, as `probe/recording.h` lays them out.
//!
//! Whatever the bytes are, reading them neither fails in another way than by [`Malformed`] nor reads beyond them.

use crate::wire::{Fields, Malformed};

/// Which way it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Typed, or read from the standard input.
    Input,
    /// Shown, or written to the standard output.
    Output,
    /// Written to the standard error, where that is another file.
    Error,
}

/// What was moved by a system call, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// When, nanoseconds of `CLOCK_BOOTTIME`.
    pub(crate) time: u64,
    /// Whose it is.
    pub(crate) session: u64,
    /// Its number in the recording, from 0.
    pub(crate) number: u64,
    /// The kernfs id of the container's cgroup.
    pub(crate) container: u64,
    /// Which way it went.
    pub(crate) stream: Stream,
    /// The terminal did not echo it: its bytes are not told.
    pub(crate) is_redacted: bool,
    /// From here on nothing is told: the session has its bytes.
    pub(crate) is_cut: bool,
    /// How many bytes were moved.
    pub(crate) moved: u32,
    /// Rows and columns of the terminal; 0 for none.
    pub(crate) size: (u16, u16),
    /// What was moved.
    pub(crate) bytes: &'a [u8],
}

const KIND: u16 = 6;
const REDACTED: u16 = 1;
const CUT: u16 = 2;

impl<'a> Piece<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Piece<'a>, Malformed> {
        let mut fields = Fields(bytes);
        let (length, kind, _) = (fields.u32()? as usize, fields.u16()?, fields.u16()?);
        let (time, session, number, container) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        let _pid = fields.u32()?;
        let (stream, flags, moved) = (fields.u16()?, fields.u16()?, fields.u32()?);
        let size = (fields.u16()?, fields.u16()?);
        let head = bytes.len() - fields.0.len();
        let stream = match stream {
            0 => Stream::Input,
            1 => Stream::Output,
            2 => Stream::Error,
            _ => return Err(Malformed),
        };
        let bytes = fields.take(length.checked_sub(head).filter(|_| kind == KIND).ok_or(Malformed)?)?;
        let (is_redacted, is_cut) = (flags & REDACTED != 0, flags & CUT != 0);
        Ok(Piece { time, session, number, container, stream, is_redacted, is_cut, moved, size, bytes })
    }
}

/// What the kernel counts of a recording.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Pieces that got a number.
    pub(crate) pieces: u64,
    /// Of them, not told: the ring was full.
    pub(crate) lost: u64,
    /// Bytes of these.
    pub(crate) lost_bytes: u64,
    /// Bytes that went in, told or not.
    pub(crate) input: u64,
    /// Bytes that came out.
    pub(crate) output: u64,
    /// Bytes of either that were over the bound, or could not be read.
    pub(crate) cut: u64,
    /// Bytes of either that passed through no program's memory.
    pub(crate) unseen: u64,
    /// Bytes that were typed and not echoed.
    pub(crate) redacted: u64,
    /// The near end of the terminal that the session owns; 0 for none.
    pub(crate) terminal: u64,
    /// When nobody had that open any more; 0: not yet.
    pub(crate) closed: u64,
    /// When who came was there, and could have typed or shown anything.
    pub(crate) begun: u64,
}

impl Counted {
    /// Bytes of `struct recording`.
    pub(crate) const SIZE: usize = 160;

    /// Reads it.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(crate) fn read(bytes: &[u8; Self::SIZE]) -> Result<Counted, Malformed> {
        let mut fields = Fields(bytes);
        let _container = fields.u64()?;
        let (pieces, lost, lost_bytes, _charged) =
            (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        let (input, output, cut, unseen) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        let (redacted, terminal, closed, begun) =
            (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        Ok(Counted {
            pieces,
            lost,
            lost_bytes,
            input,
            output,
            cut,
            unseen,
            redacted,
            terminal,
            closed,
            begun,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(length: u32, stream: u16, flags: u16, bytes: &[u8]) -> Vec<u8> {
        let mut raw = [&length.to_ne_bytes()[..], &KIND.to_ne_bytes(), &[0; 2]].concat();
        (1..=4_u64).for_each(|field| raw.extend(field.to_ne_bytes()));
        raw.extend(7_u32.to_ne_bytes());
        [stream, flags].iter().for_each(|field| raw.extend(field.to_ne_bytes()));
        raw.extend(9_u32.to_ne_bytes());
        [24_u16, 80].iter().for_each(|field| raw.extend(field.to_ne_bytes()));
        raw.extend(bytes);
        raw
    }

    #[test]
    fn a_piece_is_read_as_it_lies_and_nothing_beyond_it() {
        let bytes = raw(58, 1, 0, b"hi");
        let piece = Piece::read(&bytes).expect("a piece");
        assert_eq!((piece.time, piece.session, piece.number, piece.container), (1, 2, 3, 4));
        assert_eq!(
            (piece.stream, piece.moved, piece.size, piece.bytes),
            (Stream::Output, 9, (24, 80), &b"hi"[..])
        );
        assert!(Piece::read(&raw(56, 0, REDACTED, b"")).expect("a piece").is_redacted);
        assert!(Piece::read(&raw(56, 0, CUT, b"")).expect("a piece").is_cut);
        for (length, stream) in [(59, 1), (10, 1), (u32::MAX, 0), (58, 3)] {
            assert_eq!(Piece::read(&raw(length, stream, 0, b"hi")), Err(Malformed));
        }
        for cut in 0..bytes.len() {
            assert_eq!(Piece::read(&bytes[..cut]), Err(Malformed));
        }
    }

    #[test]
    fn an_account_is_read_field_by_field() {
        let fields: Vec<u8> = (0..20_u64).flat_map(u64::to_ne_bytes).collect();
        let counted = Counted::read(&fields.try_into().expect("its size")).expect("an account");
        let expected = Counted {
            pieces: 1,
            lost: 2,
            lost_bytes: 3,
            input: 5,
            output: 6,
            cut: 7,
            unseen: 8,
            redacted: 9,
            terminal: 10,
            closed: 11,
            begun: 12,
        };
        assert_eq!(counted, expected);
    }
}
