//! A record that is put together from several pieces of files.

use taffrail_record::{Extra, FileId, Flags, Fragment, Record, Span, Stream};

use super::line::Head;
use super::text::Text;

/// More pieces than this are not joined: a line that is interleaved with others byte by byte would cost more memory
/// for its pieces than for its content.
pub(super) const MOST_FRAGMENTS: usize = 1024;

/// What has been read of one record.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) text: Text,
    /// In the order read; neighbours in one file are one.
    pub(super) fragments: Vec<Fragment>,
    /// Of the first piece.
    pub(super) time: i64,
    pub(super) stream: Stream,
    pub(super) flags: Flags,
    /// Caller's clock when the first piece was read.
    pub(super) seen: i64,
}

impl Part {
    pub(super) fn new(head: &Head, seen: i64) -> Part {
        Part {
            text: Text::default(),
            fragments: Vec::new(),
            time: head.time,
            stream: head.stream,
            flags: head.flags,
            seen,
        }
    }

    /// Begins another record in the memory of one that is gone.
    pub(super) fn renew(&mut self, head: &Head, seen: i64) {
        self.text.clear();
        self.fragments.clear();
        (self.time, self.stream, self.flags, self.seen) = (head.time, head.stream, head.flags, seen);
    }

    /// Adds a piece of a file.
    pub(super) fn extend(&mut self, piece: Fragment) {
        match self.fragments.last_mut() {
            Some(last) if last.file == piece.file && last.span.end == piece.span.start => {
                last.span.end = piece.span.end;
            }
            _ => self.fragments.push(piece),
        }
    }

    /// Appends the content to `data` and the record to `records`. `ended`: nothing follows, so a carriage return at
    /// the end is the line's ending. `file` is the one that the records of this batch lie in.
    pub(super) fn emit(&mut self, ended: bool, file: FileId, data: &mut Vec<u8>, records: &mut Vec<Record>) {
        if ended && !self.flags.contains(Flags::CORRUPT) && self.text.strip_cr() {
            self.flags |= Flags::CRLF;
        }
        let (kept, cut) = self.text.delivered();
        let start = data.len();
        data.extend_from_slice(kept);
        let span = self.fragments.last().map_or(Span { start: 0, end: 0 }, |last| last.span);
        let alone = self.fragments.iter().all(|fragment| fragment.file == file) && self.fragments.len() == 1;
        let fragments = if alone { Vec::new() } else { std::mem::take(&mut self.fragments) };
        records.push(Record {
            body: body(start, data.len()),
            span,
            time: self.time,
            stream: self.stream,
            flags: if cut > 0 { self.flags | Flags::TRUNCATED } else { self.flags },
            extra: (cut > 0 || !alone).then(|| Box::new(Extra { fragments, cut, id: None })),
        });
    }
}

/// A body's range. `Limits::MOST` bounds blocks and contents so that every range fits.
#[inline]
pub(super) fn body(start: usize, end: usize) -> std::ops::Range<u32> {
    debug_assert!(u32::try_from(end).is_ok(), "a block of {end} bytes");
    start as u32..end as u32
}
