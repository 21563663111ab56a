//! Pieces in, documents out: what was typed and shown in a session, in the order of its pieces.
//!
//! Guarantee: a document says which pieces it has, by their numbers, so that who has the documents knows which are missing.
//! What waits to be put down is bounded by the pieces that fit the kernel's ring, which they do not leave before; what is held longer
//! than that has a bound of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::piece::{Piece, Stream};

/// How long pieces wait for more of them, and how many bytes of a session make a document.
const PATIENCE: Duration = Duration::from_secs(1);
const DOCUMENT: usize = 32 << 10;
/// Bytes that are put down at once, at most.
const WAITING: usize = 512 << 10;
/// Bytes of sessions of which it is not known whether they are wanted.
const HELD: usize = 4 << 20;
/// Pieces of one stream that come so close one after the other are one event, nanoseconds.
const TOGETHER: u64 = 5_000_000;

/// Part of a recording: pieces with consecutive numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Part {
    /// The number of its first piece.
    pub(crate) first: u64,
    /// How many there are.
    pub(crate) count: u64,
    /// When its last one was, nanoseconds of `CLOCK_BOOTTIME`.
    pub(crate) time: u64,
    /// Bytes that its pieces tell.
    pub(crate) bytes: u64,
    events: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq)]
struct Event {
    /// When it began and when it went on last.
    begun: u64,
    time: u64,
    what: What,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    Moved(Stream, Vec<u8>),
    Redacted(u64),
    Resized(u16, u16),
    Cut,
}

impl Part {
    fn add(&mut self, event: What, time: u64) {
        if let Some(last) = self.events.last_mut()
            && time.saturating_sub(last.time) <= TOGETHER
        {
            match (&mut last.what, &event) {
                (What::Moved(stream, bytes), What::Moved(of, more)) if stream == of => {
                    bytes.extend(more);
                    last.time = time;
                    return;
                }
                (What::Redacted(length), What::Redacted(more)) => {
                    *length += more;
                    last.time = time;
                    return;
                }
                _ => {}
            }
        }
        self.events.push(Event { begun: time, time, what: event });
    }

    /// Its events, as documents have them: seconds since the session began (`begun`, nanoseconds of `CLOCK_BOOTTIME`), what, and
    /// text, or base64 of what is none.
    pub(crate) fn events(&self, begun: u64) -> Value {
        self.events.iter().map(|event| event.value(begun)).collect()
    }
}

impl Event {
    fn value(&self, begun: u64) -> Value {
        let mut value = Map::new();
        let micros = self.begun.saturating_sub(begun) / 1000;
        value.insert("at".to_owned(), json!(micros as f64 / 1e6));
        let (code, key, what) = match &self.what {
            What::Moved(stream, bytes) => {
                let code = match stream {
                    Stream::Input => "i",
                    Stream::Output => "o",
                    Stream::Error => "e",
                };
                match std::str::from_utf8(bytes) {
                    Ok(text) => (code, "text", json!(text)),
                    Err(_) => (code, "base64", json!(STANDARD.encode(bytes))),
                }
            }
            What::Redacted(length) => ("i", "redacted", json!(length)),
            What::Resized(rows, columns) => ("r", "text", json!(format!("{columns}x{rows}"))),
            What::Cut => ("m", "text", json!("cut: audit.recording.session_bytes")),
        };
        value.insert("code".to_owned(), code.into());
        value.insert(key.to_owned(), what);
        Value::Object(value)
    }
}

/// What was not put down yet.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// Whether what goes in is told.
    input: bool,
    /// Bytes that are put down at once.
    most: usize,
    parts: HashMap<u64, Part>,
    sizes: HashMap<u64, (u16, u16)>,
    whole: Vec<(u64, Part)>,
    since: Option<Instant>,
    bytes: usize,
    /// Bytes that were not given when everything else was.
    held: usize,
}

impl Recorder {
    /// `most` bytes may wait where those that wait lie, in the ring.
    pub(crate) fn new(input: bool, most: usize) -> Recorder {
        Recorder { input, most: most.min(WAITING), ..Recorder::default() }
    }

    /// Takes a piece.
    pub(crate) fn take(&mut self, piece: &Piece<'_>) {
        self.since.get_or_insert_with(Instant::now);
        self.bytes += piece.bytes.len();
        let part = self.parts.entry(piece.session).or_default();
        if part.count > 0 && (part.first + part.count != piece.number || part.bytes as usize >= DOCUMENT) {
            self.whole.push((piece.session, std::mem::take(part)));
        }
        if part.count == 0 {
            part.first = piece.number;
        }
        part.count += 1;
        part.time = piece.time;
        if piece.size != (0, 0) && self.sizes.insert(piece.session, piece.size) != Some(piece.size) {
            part.add(What::Resized(piece.size.0, piece.size.1), piece.time);
        }
        let is_withheld = piece.stream == Stream::Input && !self.input;
        if piece.is_redacted || is_withheld {
            part.add(What::Redacted(u64::from(piece.moved)), piece.time);
        } else if !piece.bytes.is_empty() {
            part.bytes += piece.bytes.len() as u64;
            part.add(What::Moved(piece.stream, piece.bytes.to_vec()), piece.time);
        }
        if piece.is_cut {
            part.add(What::Cut, piece.time);
        }
    }

    /// Whether it is time to put down what there is.
    pub(crate) fn is_due(&self) -> bool {
        self.bytes >= self.most || self.since.is_some_and(|since| since.elapsed() >= PATIENCE)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// Whether there is room for what is held.
    pub(crate) fn has_room(&self) -> bool {
        self.held + self.bytes < HELD
    }

    /// All that there is but what is held, in the order of each session's pieces.
    pub(crate) fn give(&mut self, is_held: impl Fn(u64) -> bool) -> Vec<(u64, Part)> {
        (self.since, self.bytes) = (None, 0);
        let (held, mut all): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.whole).into_iter().partition(|(session, _)| is_held(*session));
        self.whole = held;
        all.extend(self.parts.extract_if(|session, _| !is_held(*session)));
        let held = self.whole.iter().map(|(_, part)| part).chain(self.parts.values());
        self.held = held.map(|part| part.bytes as usize).sum();
        all
    }

    /// A session has ended, or is not wanted.
    pub(crate) fn forget(&mut self, session: u64) {
        self.whole.retain(|(of, _)| *of != session);
        self.parts.remove(&session);
        self.sizes.remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(number: u64, time: u64, stream: Stream, bytes: &[u8]) -> Piece<'_> {
        Piece {
            time,
            session: 5,
            number,
            container: 1,
            stream,
            is_redacted: false,
            is_cut: false,
            moved: bytes.len() as u32,
            size: (24, 80),
            bytes,
        }
    }

    const MILLI: u64 = 1_000_000;

    #[test]
    fn pieces_become_events_and_those_that_are_close_are_one() {
        let mut recorder = Recorder::new(true, WAITING);
        recorder.take(&piece(0, 10 * MILLI, Stream::Output, b"$ "));
        recorder.take(&piece(1, 12 * MILLI, Stream::Output, b"l"));
        recorder.take(&piece(2, 12 * MILLI, Stream::Input, b"s\n"));
        let redacted =
            Piece { is_redacted: true, moved: 6, bytes: b"", ..piece(3, 40 * MILLI, Stream::Input, b"") };
        recorder.take(&redacted);
        recorder.take(&Piece { size: (30, 100), ..piece(4, 50 * MILLI, Stream::Error, b"\xff") });
        recorder.take(&Piece { is_cut: true, size: (30, 100), ..piece(5, 60 * MILLI, Stream::Output, b"") });
        let parts = recorder.give(|_| false);
        let [(5, part)] = &parts[..] else { panic!("{parts:?}") };
        assert_eq!((part.first, part.count, part.bytes, part.time), (0, 6, 6, 60 * MILLI));
        assert_eq!(
            part.events(8 * MILLI),
            json!([
                {"at": 0.002, "code": "r", "text": "80x24"},
                {"at": 0.002, "code": "o", "text": "$ l"},
                {"at": 0.004, "code": "i", "text": "s\n"},
                {"at": 0.032, "code": "i", "redacted": 6},
                {"at": 0.042, "code": "r", "text": "100x30"},
                {"at": 0.042, "code": "e", "base64": "/w=="},
                {"at": 0.052, "code": "m", "text": "cut: audit.recording.session_bytes"},
            ])
        );
        assert!(recorder.is_empty() && recorder.give(|_| false).is_empty());
    }

    #[test]
    fn a_part_has_no_holes_and_no_more_than_a_document_holds() {
        let mut recorder = Recorder::new(true, WAITING);
        let much = vec![b'x'; DOCUMENT / 2];
        for number in [0, 1, 2, 4] {
            recorder.take(&piece(number, number * MILLI, Stream::Output, &much));
        }
        let parts: Vec<(u64, u64)> =
            recorder.give(|_| false).iter().map(|(_, part)| (part.first, part.count)).collect();
        assert_eq!(parts, [(0, 2), (2, 1), (4, 1)]);
    }

    #[test]
    fn what_goes_in_is_a_length_where_it_is_not_wanted() {
        let mut recorder = Recorder::new(false, WAITING);
        recorder.take(&Piece { size: (0, 0), ..piece(0, 0, Stream::Input, b"secret") });
        assert_eq!(recorder.give(|_| false)[0].1.events(0), json!([{"at": 0.0, "code": "i", "redacted": 6}]));
    }
}
