//! A json-file line read as a stream of bytes: keys in any order, and lines too long to hold.

use taffrail_record::Stream;

use super::escape;
use crate::decode::text::Text;
use crate::decode::time::Clock;

/// What a finished line says.
#[derive(Debug)]
pub(in crate::decode) struct Scanned {
    /// The content, without the newline that ended it.
    pub(in crate::decode) text: Text,
    /// `None` when the line has no time that could be read.
    pub(in crate::decode) time: Option<i64>,
    /// [`Stream::None`] when the line names none that is known.
    pub(in crate::decode) stream: Stream,
    pub(in crate::decode) ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    /// After `{`: a key or the end.
    FirstKey,
    /// After `,`: a key.
    NextKey,
    Key,
    KeyEscape,
    Colon,
    Value,
    String,
    Escape,
    /// Inside `\uXXXX`, with so many digits read.
    Hex(u8),
    Scalar,
    /// Inside an object or array of this depth that is skipped.
    Nested(u32),
    NestedString(u32),
    NestedEscape(u32),
    AfterValue,
    Done,
    Bad,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Log,
    Stream,
    Time,
    Other,
}

/// A short string; what does not fit makes it one that equals nothing.
#[derive(Debug)]
struct Short {
    bytes: [u8; 40],
    length: usize,
}

impl Short {
    fn new() -> Short {
        Short { bytes: [0; 40], length: 0 }
    }

    fn push(&mut self, piece: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.length..self.length + piece.len()) {
            room.copy_from_slice(piece);
            self.length += piece.len();
        } else {
            self.length = self.bytes.len() + 1;
        }
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Where in a line the scanner is, and what it has found.
#[derive(Debug)]
pub(in crate::decode) struct Scan {
    state: State,
    field: Field,
    key: Short,
    stream: Short,
    time: Short,
    log: Option<Text>,
    /// The log's last byte is a newline, not yet in `log`: it ends the record if nothing follows it.
    newline: bool,
    /// First half of a surrogate pair.
    high: Option<u16>,
    unit: u16,
}

impl Scan {
    pub(in crate::decode) fn new() -> Scan {
        Scan {
            state: State::Start,
            field: Field::Other,
            key: Short::new(),
            stream: Short::new(),
            time: Short::new(),
            log: None,
            newline: false,
            high: None,
            unit: 0,
        }
    }

    /// Reads on. Keeps `max` bytes of the content.
    pub(in crate::decode) fn feed(&mut self, mut bytes: &[u8], max: usize) {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = match self.state {
                State::Bad => return,
                State::String => self.string(bytes, max),
                _ => {
                    self.state = self.step(byte, max);
                    rest
                }
            };
        }
    }

    /// What the line says, if it is a complete object with a log.
    pub(in crate::decode) fn finish(self, clock: &mut Clock) -> Option<Scanned> {
        if self.state != State::Done {
            return None;
        }
        let stream = match self.stream.get() {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => Stream::None,
        };
        let time = clock.read(self.time.get()).filter(|(_, length)| *length == self.time.length);
        Some(Scanned { text: self.log?, time: time.map(|(time, _)| time), stream, ended: self.newline })
    }

    /// Reads a string up to its end or to its next escape.
    fn string<'a>(&mut self, bytes: &'a [u8], max: usize) -> &'a [u8] {
        let run = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
        self.put(&bytes[..run], max);
        match bytes.get(run) {
            None => return &[],
            Some(b'"') => {
                self.end_surrogate(max);
                self.state = State::AfterValue;
            }
            Some(_) => self.state = State::Escape,
        }
        &bytes[run + 1..]
    }

    fn step(&mut self, byte: u8, max: usize) -> State {
        let blank = matches!(byte, b' ' | b'\t' | b'\r');
        match (self.state, byte) {
            (State::Start, b'{') => State::FirstKey,
            (
                State::FirstKey
                | State::NextKey
                | State::Colon
                | State::Value
                | State::AfterValue
                | State::Done,
                _,
            ) if blank => self.state,
            (State::FirstKey | State::NextKey, b'"') => {
                self.key = Short::new();
                State::Key
            }
            (State::FirstKey | State::AfterValue | State::Scalar, b'}') => State::Done,
            (State::AfterValue | State::Scalar, b',') => State::NextKey,
            (State::Key, b'"') => self.end_key(),
            (State::Key, _) => {
                self.key.push(&[byte]);
                if byte == b'\\' { State::KeyEscape } else { State::Key }
            }
            (State::KeyEscape, _) => {
                self.key.push(&[byte]);
                State::Key
            }
            (State::Colon, b':') => State::Value,
            (State::Value, _) => self.begin_value(byte),
            (State::Escape, _) => self.escape(byte, max),
            (State::Hex(digits), _) => self.hex(digits, byte, max),
            (State::Scalar, _) if blank => State::AfterValue,
            (State::Scalar, _) if is_scalar(byte) => State::Scalar,
            (State::Nested(depth), b'{' | b'[') => State::Nested(depth.saturating_add(1)),
            (State::Nested(1), b'}' | b']') => State::AfterValue,
            (State::Nested(depth), b'}' | b']') => State::Nested(depth - 1),
            (State::Nested(depth), b'"') => State::NestedString(depth),
            (State::NestedString(depth), b'"') => State::Nested(depth),
            (State::NestedString(depth), b'\\') => State::NestedEscape(depth),
            (State::NestedEscape(depth), _) => State::NestedString(depth),
            (State::Nested(_) | State::NestedString(_), _) => self.state,
            _ => State::Bad,
        }
    }

    fn end_key(&mut self) -> State {
        self.field = match self.key.get() {
            b"log" => Field::Log,
            b"stream" => Field::Stream,
            b"time" => Field::Time,
            _ => Field::Other,
        };
        State::Colon
    }

    /// The last of several values of one key counts.
    fn begin_value(&mut self, byte: u8) -> State {
        let text = byte == b'"';
        match self.field {
            Field::Log => {
                self.log = text.then(Text::default);
                self.newline = false;
            }
            Field::Stream => self.stream = Short::new(),
            Field::Time => self.time = Short::new(),
            Field::Other => {}
        }
        match byte {
            b'"' => State::String,
            b'{' | b'[' => State::Nested(1),
            _ if is_scalar(byte) => State::Scalar,
            _ => State::Bad,
        }
    }

    fn escape(&mut self, kind: u8, max: usize) -> State {
        if kind == b'u' {
            self.unit = 0;
            return State::Hex(0);
        }
        let Some(byte) = escape::simple(kind) else { return State::Bad };
        self.put(&[byte], max);
        State::String
    }

    fn hex(&mut self, digits: u8, byte: u8, max: usize) -> State {
        let Some(value) = escape::hex(byte) else { return State::Bad };
        self.unit = self.unit << 4 | value;
        if digits < 3 {
            return State::Hex(digits + 1);
        }
        match self.high.take() {
            Some(high) if escape::is_low(self.unit) => {
                self.put_character(escape::character(high, Some(self.unit)), max);
            }
            high => {
                self.high = high;
                self.end_surrogate(max);
                self.lone_unit(max);
            }
        }
        State::String
    }

    fn lone_unit(&mut self, max: usize) {
        if escape::is_high(self.unit) {
            self.high = Some(self.unit);
        } else {
            self.put_character(escape::character(self.unit, None), max);
        }
    }

    /// A first half that nothing followed.
    fn end_surrogate(&mut self, max: usize) {
        if self.high.take().is_some() {
            self.put_character(char::REPLACEMENT_CHARACTER, max);
        }
    }

    fn put_character(&mut self, character: char, max: usize) {
        self.put(character.encode_utf8(&mut [0; 4]).as_bytes(), max);
    }

    fn put(&mut self, piece: &[u8], max: usize) {
        if piece.is_empty() {
            return;
        }
        self.end_surrogate(max);
        match self.field {
            Field::Log => self.put_log(piece, max),
            Field::Stream => self.stream.push(piece),
            Field::Time => self.time.push(piece),
            Field::Other => {}
        }
    }

    fn put_log(&mut self, piece: &[u8], max: usize) {
        let Some(log) = &mut self.log else { return };
        if std::mem::take(&mut self.newline) {
            log.push(b"\n", max);
        }
        let piece = piece.strip_suffix(b"\n").map_or(piece, |rest| {
            self.newline = true;
            rest
        });
        log.push(piece, max);
    }
}

/// Bytes of numbers, `true`, `false` and `null`.
fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(line: &[u8]) -> Option<(Vec<u8>, Option<i64>, Stream, bool)> {
        let mut scan = Scan::new();
        scan.feed(line, 1000);
        let found = scan.finish(&mut Clock::new())?;
        Some((found.text.delivered().0.to_vec(), found.time, found.stream, found.ended))
    }

    #[test]
    fn keys_come_in_any_order_and_unknown_ones_are_skipped() {
        let expected = Some((b"hi".to_vec(), Some(1_000_000_000), Stream::Stdout, true));
        for line in [
            r#"{"log":"hi\n","stream":"stdout","time":"1970-01-01T00:00:01Z"}"#,
            r#"{"time":"1970-01-01T00:00:01Z","stream":"stdout","log":"hi\n"}"#,
            r#" { "log" : "hi\n" , "stream":"stdout" ,"time":"1970-01-01T00:00:01Z" } "#.trim_start(),
            r#"{"attrs":{"a":"}","b":["]",{"c":1}]},"x":-1.5e+3,"y":null,"log":"hi\n","stream":"stdout","time":"1970-01-01T00:00:01Z"}"#,
            r#"{"log":"no","log":"hi\n","stream":"stdout","time":"1970-01-01T00:00:01Z"}"#,
            r#"{"log":"hi\n","stream":"\u0073tdout","time":"1970-01-01T00:00:01Z","":"","\"log":"x","logs":"y"}"#,
        ] {
            assert_eq!(scan(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn a_line_without_time_or_stream_still_has_its_log() {
        let expected = Some((b"hi".to_vec(), None, Stream::None, false));
        for line in [
            r#"{"log":"hi"}"#,
            r#"{"log":"hi","stream":"stdin","time":"yesterday"}"#,
            r#"{"log":"hi","stream":null,"time":17}"#,
            r#"{"log":"hi","stream":["stdout"],"time":"1970-01-01T00:00:01Z and more than fits into any time that there is"}"#,
        ] {
            assert_eq!(scan(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_object_with_a_log_is_refused() {
        for line in [
            "",
            "{",
            "{}",
            "[]",
            r#"{"stream":"stdout"}"#,
            r#"{"log":5}"#,
            r#"{"log":"a","log":null}"#,
            r#"{"log":"a"#,
            r#"{"log":"a""#,
            r#"{"log":"a",}"#,
            r#"{"log" "a"}"#,
            r#"{"log":}"#,
            r#"{log:"a"}"#,
            r#"{"log":"\x"}"#,
            r#"{"log":"\u12"}"#,
            r#"{"log":"a"}x"#,
            r#"{"log":"a"}{"log":"b"}"#,
            r#"{"log":"a","x":{"y":1}"#,
            r#"{"log":"a","x":{"y":"}"#,
        ] {
            assert_eq!(scan(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_serde_json_accepts_decodes_alike(
            log in any::<String>(),
            other in "[ -~]{0,12}",
            order in 0..3,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let (log_text, other_text) = (serde_json::to_string(&log).expect("json"), serde_json::to_string(&other).expect("json"));
            let line = match order {
                0 => format!("{{\"log\":{log_text},\"other\":{other_text},\"nested\":{{\"log\":[{other_text}]}}}}"),
                1 => format!("{{\"nested\":[{{\"log\":{other_text}}}],\"log\":{log_text}}}"),
                _ => format!("{{\"other\":12.5e-3,\"log\":{log_text},\"t\":true}}"),
            };
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(line.len())).collect();
            cuts.sort_unstable();
            let mut scan = Scan::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([line.len()]) {
                scan.feed(&line.as_bytes()[from..cut], usize::MAX);
                from = cut;
            }
            let found = scan.finish(&mut Clock::new()).expect("valid JSON is accepted");
            prop_assert_eq!(found.ended, log.ends_with('\n'));
            prop_assert_eq!(found.text.delivered().0, log.strip_suffix('\n').unwrap_or(&log).as_bytes());
        }
    }
}
