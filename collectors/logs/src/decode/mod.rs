//! Container log formats, decoded in place: the hot path of the product.
//!
//! A [`Decoder`] takes blocks of one lane's files and says which bytes of the block are the bodies of which
//! records. It does no I/O and has no clock. It guarantees:
//!
//! - Every byte that it consumes lies in exactly one fragment of a record that it delivered, or of a part that it
//!   still holds ([`Decoder::pending`]).
//! - Records do not depend on how the files were cut into blocks.
//! - No line is dropped. What does not have the expected format is delivered as it stands, flagged
//!   [`Flags::CORRUPT`]; what is too long is cut and flagged [`Flags::TRUNCATED`].
//! - A line that lies whole in its block costs no allocation and, unless it has escapes, no copy.
//! - Between blocks a decoder holds no more than `max_line_bytes` for each stream that has parts, and as much for a
//!   line that has not ended (json-file: twice as much); otherwise nothing.
//!
//! A joined record has the time of its first part. A carriage return before the newline is no content. A body that
//! was cut ends at a character boundary when it is UTF-8.

mod cri;
mod json;
mod line;
mod overlong;
mod part;
mod text;
mod time;

use std::ops::Range;

use memchr::memchr;
use taffrail_record::{Extra, FileId, Flags, Fragment, Record, Span, Stream};

use json::scan::Scan;
use line::{Continuation, Head, Join};
use overlong::{Finished, Overlong};
use part::{MOST_FRAGMENTS, Part};
use text::{Text, whole_characters};
use time::Clock;

/// How much longer than the limit an unfinished line may be before it is consumed without its end. Longer than any
/// framing.
const SLACK: usize = 64 * 1024;

/// How the lines of a lane are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Each line by its first byte: `{` is Docker's json-file, anything else is CRI.
    Container,
    /// A line is a message.
    Plain,
}

/// What bounds the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest content of one record in bytes, joined and unescaped. At most [`Limits::MOST`], which larger values mean.
    pub max_line_bytes: usize,
}

impl Limits {
    /// The longest content, and the largest block, that a record's range can describe safely: 512 MiB.
    pub const MOST: usize = 1 << 29;
}

/// Parts of a record whose last part has not been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending<'a> {
    /// The stream; [`Stream::None`] for a line that is too long to hold and has not ended.
    pub stream: Stream,
    /// Where the first fragment lies.
    pub file: FileId,
    /// The first byte of the first fragment.
    pub start: u64,
    /// Bytes of all fragments, in all files.
    pub bytes: u64,
    /// The fragments in order.
    pub fragments: &'a [Fragment],
    /// The caller's clock when the first part was read; for a line too long to hold, when it last grew.
    pub seen: i64,
}

impl<'a> Pending<'a> {
    fn new(stream: Stream, fragments: &'a [Fragment], seen: i64) -> Option<Pending<'a>> {
        let first = fragments.first()?;
        let bytes = fragments.iter().map(|fragment| fragment.span.len()).sum();
        Some(Pending { stream, file: first.file, start: first.span.start, bytes, fragments, seen })
    }
}

/// Decodes one lane: the files that one container wrote, in order.
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    max: usize,
    /// By [`slot`].
    parts: [Option<Box<Part>>; 3],
    /// Used again within a block instead of a new one.
    spare: Option<Box<Part>>,
    /// Where lines are unescaped; none between blocks.
    scratch: Vec<u8>,
    overlong: Option<Box<Overlong>>,
    continuation: Option<Box<Continuation>>,
    mid_line: bool,
}

/// What time it is: once to write down, once to measure waiting by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Unix nanoseconds: the time of lines that carry none.
    pub unix: i64,
    /// Nanoseconds of a clock that nobody sets.
    pub steady: i64,
}

impl From<i64> for Now {
    /// Where nobody sets the clock.
    fn from(unix: i64) -> Self {
        Now { unix, steady: unix }
    }
}

/// One call's data, what is known of it, and where records go.
struct Block<'a> {
    data: &'a mut Vec<u8>,
    /// Bytes of `data` that are the file's; what is appended lies behind them.
    raw: usize,
    file: FileId,
    base: u64,
    now: Now,
    records: &'a mut Vec<Record>,
    clock: Clock,
}

impl Block<'_> {
    fn piece(&self, line: &Range<usize>, newline: bool) -> Fragment {
        let length = line.len() as u64 + u64::from(newline);
        Fragment { file: self.file, span: Span::at(self.base + line.start as u64, length) }
    }
}

impl Decoder {
    /// A decoder at the beginning of a lane.
    #[must_use]
    pub fn new(format: Format, limits: Limits) -> Decoder {
        Decoder {
            format,
            max: limits.max_line_bytes.min(Limits::MOST),
            parts: [None, None, None],
            spare: None,
            scratch: Vec::new(),
            overlong: None,
            continuation: None,
            mid_line: false,
        }
    }

    /// Decodes every complete line in `data`, whose first byte lies at `base` of `file`, and appends the records.
    ///
    /// Bodies are ranges of `data`, which may grow at its end; consumed bytes may be overwritten. Returns how many
    /// bytes were consumed: up to and including the last newline, or all when the line behind it is too long to
    /// hold. The caller presents the rest again in front of the next block of the same file. Blocks beyond
    /// [`Limits::MOST`] are not read to their end.
    pub fn decode(
        &mut self,
        data: &mut Vec<u8>,
        file: FileId,
        base: u64,
        now: impl Into<Now>,
        records: &mut Vec<Record>,
    ) -> usize {
        let (raw, now) = (data.len().min(Limits::MOST), now.into());
        let mut block = Block { data, raw, file, base, now, records, clock: Clock::new() };
        let consumed = self.block(&mut block);
        self.release();
        consumed
    }

    /// Decodes complete lines as [`Decoder::decode`] does and delivers the unfinished last one, flagged
    /// [`Flags::PARTIAL`], because it will not end: the file is finished, or it was waited for long enough. Call it
    /// with no data, too: the beginning of a line that is too long to hold may have been consumed before.
    ///
    /// What follows in the same file up to the next newline continues the line and is delivered as a further
    /// record with the same stream and time, flagged [`Flags::PARTIAL`]. Consumes all of `data`.
    pub fn decode_unfinished(
        &mut self,
        data: &mut Vec<u8>,
        file: FileId,
        base: u64,
        now: impl Into<Now>,
        records: &mut Vec<Record>,
    ) -> usize {
        let (raw, now) = (data.len(), now.into());
        let mut block = Block { data, raw, file, base, now, records, clock: Clock::new() };
        let at = self.block(&mut block);
        if let Some(long) = self.overlong.take() {
            self.give_up(&mut block, *long);
        } else if at < raw {
            let head = self.line(&mut block, at..raw, false);
            self.continuation = Some(Box::new(Continuation::of(head, file)));
        }
        self.release();
        raw
    }

    /// Delivers parts seen before `seen_before` (the caller's [`Now::steady`]) flagged [`Flags::PARTIAL`].
    ///
    /// `data` is only appended to. The batch is one of the file in which the first such [`Decoder::pending`] has
    /// its last fragment; records that do not lie in that file alone list their fragments.
    pub fn flush_parts(&mut self, data: &mut Vec<u8>, seen_before: i64, records: &mut Vec<Record>) {
        let Some(first) = self.pending().find(|pending| pending.seen < seen_before) else { return };
        let Some(file) = first.fragments.last().map(|fragment| fragment.file) else { return };
        // A line whose last part is known belongs to the parts before it.
        if let Some(long) = self.overlong.take_if(|long| long.seen.steady < seen_before) {
            let now = long.seen;
            let mut block = Block {
                data: &mut *data,
                raw: 0,
                file,
                base: 0,
                now,
                records: &mut *records,
                clock: Clock::new(),
            };
            self.give_up(&mut block, *long);
            self.release();
        }
        for slot in &mut self.parts {
            if let Some(mut part) = slot.take_if(|part| part.seen < seen_before) {
                part.flags |= Flags::PARTIAL;
                part.emit(false, file, data, records);
            }
        }
    }

    /// What waits for its end: at most one per stream, and a line that is too long to hold.
    pub fn pending(&self) -> impl Iterator<Item = Pending<'_>> {
        let parts = self
            .parts
            .iter()
            .flatten()
            .filter_map(|part| Pending::new(part.stream, &part.fragments, part.seen));
        let long = self
            .overlong
            .iter()
            .filter_map(|long| Pending::new(Stream::None, &long.fragments, long.seen.steady));
        parts.chain(long)
    }

    /// Reading starts in the middle of a line, which was delivered before: what comes up to the next newline is
    /// delivered flagged [`Flags::PARTIAL`].
    pub fn resume_mid_line(&mut self) {
        self.mid_line = true;
    }

    /// Forgets everything pending: the lane is read again from an earlier position.
    pub fn reset(&mut self) {
        *self = Decoder::new(self.format, Limits { max_line_bytes: self.max });
    }

    /// Gives back what is of use only within a block.
    fn release(&mut self) {
        self.spare = None;
        self.scratch = Vec::new();
    }

    /// Decodes complete lines, and begins one that is too long to hold.
    fn block(&mut self, block: &mut Block<'_>) -> usize {
        if block.raw == 0 {
            return 0;
        }
        let mut at = self.resume(block);
        while let Some(length) = memchr(b'\n', &block.data[at..block.raw]) {
            self.line(block, at..at + length, true);
            at += length + 1;
        }
        if block.raw - at > self.max + SLACK {
            self.begin_overlong(block, at);
            at = block.raw;
        }
        at
    }

    /// Goes on where the block before stopped. Returns how many bytes were consumed by that.
    fn resume(&mut self, block: &mut Block<'_>) -> usize {
        let mid_line = std::mem::take(&mut self.mid_line);
        if let Some(long) = self.overlong.take() {
            if long.continues_at(block.file, block.base) {
                return self.read_on(block, long);
            }
            self.give_up(block, *long);
        }
        if mid_line {
            let head = match self.format {
                Format::Plain => Head::plain(block.now.unix),
                Format::Container => Head::framed(None, block.now.unix, Stream::None, false),
            };
            self.continuation = Some(Box::new(Continuation::of(head, block.file)));
        }
        self.continuation.take_if(|continuation| continuation.file != block.file);
        0
    }

    /// Delivers a line, and returns what was known of it.
    #[inline]
    fn line(&mut self, block: &mut Block<'_>, line: Range<usize>, ended: bool) -> Head {
        let piece = block.piece(&line, ended);
        let (head, content) = if self.continuation.is_some() {
            self.read_continuation(block, line)
        } else if self.format == Format::Plain {
            (Head::plain(block.now.unix), line)
        } else if block.data[line.start] == b'{' {
            match json::fast(&mut block.data[line.clone()], &mut self.scratch, &mut block.clock) {
                Some(found) => {
                    let content = line.start + found.content.start..line.start + found.content.end;
                    (Head::framed(Some(found.time), block.now.unix, found.stream, !found.ended), content)
                }
                None => return self.scan(block, line, piece, ended),
            }
        } else {
            read_cri(block, line)
        };
        let head = if ended { head } else { head.unfinished() };
        self.deliver(block, head, content, piece, ended);
        head
    }

    #[cold]
    fn read_continuation(&mut self, block: &Block<'_>, line: Range<usize>) -> (Head, Range<usize>) {
        let head =
            self.continuation.take().map_or(Head::plain(block.now.unix), |continuation| continuation.head);
        (head, line)
    }

    /// A json-file line in an unusual layout, or none at all.
    #[cold]
    fn scan(&mut self, block: &mut Block<'_>, line: Range<usize>, piece: Fragment, ended: bool) -> Head {
        let mut scan = Scan::new();
        scan.feed(&block.data[line.clone()], self.max);
        let Some(found) = scan.finish(&mut block.clock) else {
            let head = Head::corrupt(block.now.unix);
            let head = if ended { head } else { head.unfinished() };
            self.deliver(block, head, line, piece, ended);
            return head;
        };
        let head = Head::framed(found.time, block.now.unix, found.stream, !found.ended);
        let head = if ended { head } else { head.unfinished() };
        self.deliver_text(block, head, &found.text, piece, ended);
        head
    }

    /// Delivers a content that lies in the block.
    #[inline]
    fn deliver(
        &mut self,
        block: &mut Block<'_>,
        head: Head,
        content: Range<usize>,
        piece: Fragment,
        ended: bool,
    ) {
        let alone =
            head.join == Join::Alone || head.join == Join::End && self.parts[slot(head.stream)].is_none();
        if !alone {
            let mut part = self.part(&head, block.now.steady);
            part.text.push(&block.data[content], self.max);
            return self.joined(block, head, part, piece, ended);
        }
        let mut flags = head.flags;
        let Range { start, mut end } = content;
        if end > start && block.data[end - 1] == b'\r' && ended && !flags.contains(Flags::CORRUPT) {
            end -= 1;
            flags |= Flags::CRLF;
        }
        let mut extra = None;
        if end - start > self.max {
            let kept = start + whole_characters(&block.data[start..start + self.max]);
            extra = Some(Box::new(Extra { cut: (end - kept) as u64, ..Extra::default() }));
            flags |= Flags::TRUNCATED;
            end = kept;
        }
        let (body, span) = (part::body(start, end), piece.span);
        block.records.push(Record { body, span, time: head.time, stream: head.stream, flags, extra });
    }

    /// Delivers a content that lies elsewhere.
    fn deliver_text(&mut self, block: &mut Block<'_>, head: Head, text: &Text, piece: Fragment, ended: bool) {
        let mut part = if head.join == Join::Alone {
            self.fresh_part(&head, block.now.steady)
        } else {
            self.part(&head, block.now.steady)
        };
        part.text.append(text, self.max);
        self.joined(block, head, part, piece, ended);
    }

    /// A part has got a further piece: it waits, or it is delivered.
    fn joined(
        &mut self,
        block: &mut Block<'_>,
        head: Head,
        mut part: Box<Part>,
        piece: Fragment,
        ended: bool,
    ) {
        part.extend(piece);
        let more = head.join == Join::More;
        if more && part.fragments.len() < MOST_FRAGMENTS {
            self.parts[slot(head.stream)] = Some(part);
            return;
        }
        if more || head.flags.contains(Flags::PARTIAL) {
            part.flags |= Flags::PARTIAL;
        }
        part.emit(ended && !more, block.file, block.data, block.records);
        self.spare = Some(part);
    }

    /// What is pending on the stream, or a new part.
    fn part(&mut self, head: &Head, now: i64) -> Box<Part> {
        match self.parts[slot(head.stream)].take() {
            Some(part) => part,
            None => self.fresh_part(head, now),
        }
    }

    fn fresh_part(&mut self, head: &Head, now: i64) -> Box<Part> {
        match self.spare.take() {
            Some(mut part) => {
                part.renew(head, now);
                part
            }
            None => Box::new(Part::new(head, now)),
        }
    }

    /// Consumes the beginning of a line that is too long to hold.
    #[cold]
    fn begin_overlong(&mut self, block: &mut Block<'_>, at: usize) {
        let line = at..block.raw;
        let json = self.continuation.is_none() && self.format == Format::Container && block.data[at] == b'{';
        let (head, content) = if self.continuation.is_some() {
            self.read_continuation(block, line)
        } else if self.format == Format::Plain {
            (Head::plain(block.now.unix), line)
        } else if json {
            (Head::corrupt(block.now.unix), line)
        } else {
            read_cri(block, line)
        };
        let mut long = Overlong::new(block.file, block.base + at as u64, head, json);
        long.feed(content.start - at, &block.data[content], block.now, self.max);
        self.overlong = Some(Box::new(long));
    }

    /// Reads a line that is too long to hold further towards its end.
    #[cold]
    fn read_on(&mut self, block: &mut Block<'_>, mut long: Box<Overlong>) -> usize {
        let newline = memchr(b'\n', &block.data[..block.raw]);
        let bytes = &block.data[..newline.unwrap_or(block.raw)];
        long.feed(0, bytes, block.now, self.max);
        let Some(newline) = newline else {
            self.overlong = Some(long);
            return block.raw;
        };
        let Finished { head, text, piece } = long.end(&mut block.clock);
        self.deliver_text(block, head, &text, piece, true);
        newline + 1
    }

    /// Delivers a line that is too long to hold without its end.
    #[cold]
    fn give_up(&mut self, block: &mut Block<'_>, long: Overlong) {
        let Finished { head, text, piece } = long.give_up(&mut block.clock);
        self.deliver_text(block, head, &text, piece, false);
        self.continuation = Some(Box::new(Continuation::of(head, piece.file)));
    }
}

#[inline]
fn read_cri(block: &mut Block<'_>, line: Range<usize>) -> (Head, Range<usize>) {
    match cri::header(&block.data[line.clone()], &mut block.clock) {
        Some(found) => {
            let head = Head::framed(Some(found.time), block.now.unix, found.stream, found.part);
            (head, line.start + found.content..line.end)
        }
        None => (Head::corrupt(block.now.unix), line),
    }
}

#[inline]
fn slot(stream: Stream) -> usize {
    match stream {
        Stream::None => 0,
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    }
}
