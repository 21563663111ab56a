//! A line too long to hold: read on to its newline, of its content only the beginning is kept.

use taffrail_record::{FileId, Fragment, Span};

use super::Now;
use super::json::scan::Scan;
use super::line::Head;
use super::text::Text;
use super::time::Clock;

/// A line whose end has not been seen, although more of it was read than is kept.
#[derive(Debug)]
pub(super) struct Overlong {
    /// One piece, growing.
    pub(super) fragments: [Fragment; 1],
    /// Caller's clock when it last grew.
    pub(super) seen: Now,
    head: Head,
    text: Text,
    /// For json-file: head and text are what the line becomes if it turns out not to be valid.
    scan: Option<Box<Scan>>,
}

/// A line that has been read to its end, or as far as it will be.
pub(super) struct Finished {
    pub(super) head: Head,
    pub(super) text: Text,
    pub(super) piece: Fragment,
}

impl Overlong {
    /// Begins at offset `start` of `file`.
    pub(super) fn new(file: FileId, start: u64, head: Head, json: bool) -> Overlong {
        Overlong {
            fragments: [Fragment { file, span: Span { start, end: start } }],
            seen: Now::from(i64::MIN),
            head,
            text: Text::default(),
            scan: json.then(|| Box::new(Scan::new())),
        }
    }

    /// Whether the byte at `offset` of `file` is its next.
    pub(super) fn continues_at(&self, file: FileId, offset: u64) -> bool {
        let [piece] = &self.fragments;
        piece.file == file && piece.span.end == offset
    }

    /// Takes over `framing` bytes of framing and the `bytes` behind it.
    pub(super) fn feed(&mut self, framing: usize, bytes: &[u8], now: Now, max: usize) {
        if let Some(scan) = &mut self.scan {
            scan.feed(bytes, max);
        }
        self.text.push(bytes, max);
        self.fragments[0].span.end += (framing + bytes.len()) as u64;
        self.seen = now;
    }

    /// The line has ended with a newline, which is counted.
    pub(super) fn end(mut self, clock: &mut Clock) -> Finished {
        self.fragments[0].span.end += 1;
        self.finish(clock)
    }

    /// The line is delivered as far as it is known.
    pub(super) fn give_up(self, clock: &mut Clock) -> Finished {
        let finished = self.finish(clock);
        Finished { head: finished.head.unfinished(), ..finished }
    }

    fn finish(self, clock: &mut Clock) -> Finished {
        let ([piece], now) = (self.fragments, self.head.time);
        match self.scan.and_then(|scan| scan.finish(clock)) {
            Some(line) => {
                let head = Head::framed(line.time, now, line.stream, !line.ended);
                Finished { head, text: line.text, piece }
            }
            None => Finished { head: self.head, text: self.text, piece },
        }
    }
}
