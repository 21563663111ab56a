//! A decoder that is obviously right: it has the whole files before it, takes one line after the other, copies
//! freely, and knows nothing of blocks.

use std::collections::HashMap;
use std::fmt;

use taffrail_logs::decode::Format;
use taffrail_record::{FileId, Flags, Fragment, Span, Stream};

/// The time of lines that carry none.
pub(crate) const NOW: i64 = 1_700_000_000_000_000_000;
/// As many pieces are joined at most.
const MOST_FRAGMENTS: usize = 1024;

/// A delivered record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) body: Vec<u8>,
    pub(crate) fragments: Vec<Fragment>,
    pub(crate) time: i64,
    pub(crate) stream: Stream,
    pub(crate) flags: Flags,
    pub(crate) cut: u64,
}

/// One file of a lane: its content, and where reading paused so long that the line was delivered unfinished.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) id: FileId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) pauses: Vec<usize>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.bytes.escape_ascii().to_string();
        let text = if text.len() > 4_000 { format!("{} and so on", &text[..4_000]) } else { text };
        write!(f, "{} bytes, pauses {:?}: {text}", self.bytes.len(), self.pauses)
    }
}

/// All records of a lane whose files were each read to their end, and whose parts were flushed last.
pub(crate) fn decode(format: Format, max: usize, files: &[File]) -> Vec<Expected> {
    let mut lane = Lane { format, max, pending: HashMap::new(), out: Vec::new() };
    for file in files {
        lane.file(file);
    }
    for stream in [Stream::None, Stream::Stdout, Stream::Stderr] {
        if let Some(mut part) = lane.pending.remove(&stream) {
            part.flags |= Flags::PARTIAL;
            lane.deliver(part, false);
        }
    }
    lane.out
}

#[derive(Debug, Clone)]
struct Line {
    content: Vec<u8>,
    time: i64,
    stream: Stream,
    flags: Flags,
    join: Join,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Join {
    Alone,
    More,
    End,
}

struct Lane {
    format: Format,
    max: usize,
    pending: HashMap<Stream, Expected>,
    out: Vec<Expected>,
}

impl Lane {
    fn file(&mut self, file: &File) {
        let mut ends: Vec<usize> = memchr::memchr_iter(b'\n', &file.bytes).map(|at| at + 1).collect();
        ends.extend(&file.pauses);
        ends.push(file.bytes.len());
        ends.sort_unstable();
        ends.dedup();
        let mut start = 0;
        let mut before: Option<Line> = None;
        for end in ends.into_iter().filter(|end| *end > 0) {
            let line = &file.bytes[start..end];
            let ended = line.ends_with(b"\n");
            let content = line.strip_suffix(b"\n").unwrap_or(line);
            let mut line = match before.take() {
                Some(line) => Line { content: content.to_vec(), join: Join::Alone, ..line },
                None => self.read(content),
            };
            if !ended {
                line.flags |= Flags::PARTIAL;
                line.join = if line.join == Join::More { Join::End } else { line.join };
                before = Some(line.clone());
            }
            let span = Span { start: start as u64, end: end as u64 };
            self.take(line, Fragment { file: file.id, span }, ended);
            start = end;
        }
    }

    fn read(&self, line: &[u8]) -> Line {
        let framed = match (self.format, line.first()) {
            (Format::Plain, _) => {
                return Line {
                    content: line.to_vec(),
                    time: NOW,
                    stream: Stream::None,
                    flags: Flags::NONE,
                    join: Join::Alone,
                };
            }
            (Format::Container, Some(b'{')) => json_file(line),
            (Format::Container, _) => cri(line),
        };
        framed.unwrap_or_else(|| Line {
            content: line.to_vec(),
            time: NOW,
            stream: Stream::None,
            flags: Flags::CORRUPT | Flags::TIME_OF_READ,
            join: Join::Alone,
        })
    }

    fn take(&mut self, line: Line, piece: Fragment, ended: bool) {
        let mut part = Expected {
            body: line.content,
            fragments: vec![piece],
            time: line.time,
            stream: line.stream,
            flags: line.flags,
            cut: 0,
        };
        if line.join == Join::Alone {
            return self.deliver(part, ended);
        }
        if let Some(before) = self.pending.remove(&line.stream) {
            part.body = [before.body, part.body].concat();
            part.fragments = merge(before.fragments, piece);
            part.time = before.time;
            part.flags =
                before.flags | if line.flags.contains(Flags::PARTIAL) { Flags::PARTIAL } else { Flags::NONE };
        }
        if line.join == Join::End {
            self.deliver(part, ended);
        } else if part.fragments.len() == MOST_FRAGMENTS {
            part.flags |= Flags::PARTIAL;
            self.deliver(part, false);
        } else {
            self.pending.insert(line.stream, part);
        }
    }

    fn deliver(&mut self, mut part: Expected, ended: bool) {
        if ended && !part.flags.contains(Flags::CORRUPT) && part.body.ends_with(b"\r") {
            part.body.pop();
            part.flags |= Flags::CRLF;
        }
        if part.body.len() > self.max {
            let whole = part.body.len();
            part.body.truncate(self.max);
            let split = (1..=3.min(part.body.len()))
                .find(|back| begins_a_character(&part.body[part.body.len() - back..]));
            part.body.truncate(part.body.len() - split.unwrap_or(0));
            part.cut = (whole - part.body.len()) as u64;
            part.flags |= Flags::TRUNCATED;
        }
        self.out.push(part);
    }
}

fn begins_a_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

fn merge(mut fragments: Vec<Fragment>, piece: Fragment) -> Vec<Fragment> {
    match fragments.last_mut() {
        Some(last) if last.file == piece.file && last.span.end == piece.span.start => {
            last.span.end = piece.span.end;
        }
        _ => fragments.push(piece),
    }
    fragments
}

fn cri(line: &[u8]) -> Option<Line> {
    let words: Vec<&[u8]> = line.splitn(4, |byte| *byte == b' ').collect();
    let [time_text, stream, tags, content] = words[..] else { return None };
    if line.len() - content.len() > 1024 {
        return None;
    }
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let join = match tags.split(|byte| *byte == b':').next()? {
        b"F" => Join::End,
        b"P" => Join::More,
        _ => return None,
    };
    Some(Line { content: content.to_vec(), time: time(time_text)?, stream, flags: Flags::NONE, join })
}

fn json_file(line: &[u8]) -> Option<Line> {
    let mut parser = Parser { text: line, at: 0 };
    let fields = parser.object()?;
    parser.blanks();
    if parser.at != line.len() {
        return None;
    }
    let last = |key: &str| {
        fields.iter().rev().find(|(name, _)| name == key.as_bytes()).and_then(|(_, value)| value.clone())
    };
    let mut content = last("log")?;
    let stream = match last("stream").as_deref() {
        Some(b"stdout") => Stream::Stdout,
        Some(b"stderr") => Stream::Stderr,
        _ => Stream::None,
    };
    let time = last("time").and_then(|text| time(&text));
    let join = if content.ends_with(b"\n") { Join::End } else { Join::More };
    if join == Join::End {
        content.pop();
    }
    let flags = if time.is_some() { Flags::NONE } else { Flags::TIME_OF_READ };
    Some(Line { content, time: time.unwrap_or(NOW), stream, flags, join })
}

/// RFC 3339 by jiff, which accepts more shapes than container runtimes write.
fn time(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    let rest = shape.strip_prefix("9999-99-99T99:99:99")?;
    let zone = rest.strip_prefix('.').map_or(rest, |fraction| fraction.trim_start_matches('9'));
    let digits = rest.len() - zone.len();
    if !["Z", "+99:99", "-99:99"].contains(&zone) || digits == 1 || digits > 10 {
        return None;
    }
    let year: u32 = text[..4].parse().ok()?;
    let hours_off: u32 = if zone == "Z" { 0 } else { text[text.len() - 5..text.len() - 3].parse().ok()? };
    if !(1678..2262).contains(&year) || hours_off > 23 {
        return None;
    }
    text.parse::<jiff::Timestamp>().ok()?.as_nanosecond().try_into().ok()
}

/// Keys as they are written, and values where they are strings.
type Fields = Vec<(Vec<u8>, Option<Vec<u8>>)>;

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        self.at += 1;
        self.text.get(self.at - 1).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn object(&mut self) -> Option<Fields> {
        let mut fields = Vec::new();
        self.expect(b'{')?;
        self.blanks();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(fields);
        }
        loop {
            self.blanks();
            let key = self.raw_string()?;
            self.blanks();
            self.expect(b':')?;
            self.blanks();
            let value =
                if self.peek()? == b'"' { Some(self.string()?) } else { self.skip().map(|()| None)? };
            fields.push((key, value));
            self.blanks();
            match self.next()? {
                b',' => {}
                b'}' => return Some(fields),
                _ => return None,
            }
        }
    }

    fn raw_string(&mut self) -> Option<Vec<u8>> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.next()? {
                b'\\' => drop(self.next()?),
                b'"' => return Some(self.text[start..self.at - 1].to_vec()),
                _ => {}
            }
        }
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        self.expect(b'"')?;
        let mut out = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(out),
                b'\\' if self.peek()? == b'u' => {
                    self.at -= 1;
                    out.extend(self.units()?.bytes());
                }
                b'\\' => out.push(match self.next()? {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'b' => 8,
                    b'f' => 12,
                    byte @ (b'"' | b'\\' | b'/') => byte,
                    _ => return None,
                }),
                byte => out.push(byte),
            }
        }
    }

    /// All `\uXXXX` in a row.
    fn units(&mut self) -> Option<String> {
        let mut units = Vec::new();
        while self.text[self.at..].starts_with(b"\\u") {
            let digits = std::str::from_utf8(self.text.get(self.at + 2..self.at + 6)?).ok()?;
            if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            units.push(u16::from_str_radix(digits, 16).ok()?);
            self.at += 6;
        }
        Some(String::from_utf16_lossy(&units))
    }

    fn skip(&mut self) -> Option<()> {
        if !matches!(self.peek()?, b'{' | b'[') {
            let start = self.at;
            while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
                self.at += 1;
            }
            return (self.at > start).then_some(());
        }
        let mut depth = 0;
        loop {
            match self.peek()? {
                b'"' => drop(self.raw_string()?),
                byte => {
                    self.at += 1;
                    depth += i32::from(b"{[".contains(&byte)) - i32::from(b"}]".contains(&byte));
                    if depth == 0 {
                        return Some(());
                    }
                }
            }
        }
    }
}
