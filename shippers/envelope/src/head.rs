//! The head of a raw record: what its header `taffrail.record` says, as words.
//!
//! Heads of neighbouring records have one length and a long beginning in common: both make them cheaper than a
//! record's own bytes.

use std::fmt::Write as _;

use taffrail_record::{Extra, FileId, Flags, Fragment, Record, Span, Stream};

use crate::digits::{Clock, write_number, write_padded};

/// Digits of an offset: enough for ten terabytes.
const OFFSET: usize = 13;
/// Digits of a length.
const LENGTH: usize = 7;

const FLAGS: &str = "flags=";
const TRUNCATED: &str = "truncated_bytes=";
const FRAGMENTS: &str = "fragments=";

/// A head that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    /// File, stream, time, offset and length as they were written.
    pub(crate) start: &'a str,
    pub(crate) file: FileId,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Names of flags, with commas between.
    pub(crate) flags: &'a str,
    pub(crate) truncated: u64,
    pub(crate) fragments: Vec<Fragment>,
}

/// Appends the head of `record`, whose file is `start`.
pub(crate) fn write(out: &mut Vec<u8>, clock: &mut Clock, record: &Record, start: &[u8]) {
    out.extend_from_slice(start);
    out.extend_from_slice(match record.stream {
        Stream::None => b"- ",
        Stream::Stdout => b"stdout ",
        Stream::Stderr => b"stderr ",
    });
    clock.write(out, record.time);
    out.push(b' ');
    write_padded(out, record.span.start, OFFSET);
    out.push(b' ');
    write_padded(out, record.length(), LENGTH);
    if !record.flags.is_empty() {
        write_flags(out, record.flags);
    }
    if let Some(extra) = &record.extra {
        write_extra(out, extra);
    }
}

fn write_flags(out: &mut Vec<u8>, flags: Flags) {
    out.push(b' ');
    out.extend_from_slice(FLAGS.as_bytes());
    for (index, name) in flags.names().enumerate() {
        out.extend_from_slice(if index == 0 { b"" } else { b"," });
        out.extend_from_slice(name.as_bytes());
    }
}

fn write_extra(out: &mut Vec<u8>, extra: &Extra) {
    if extra.cut > 0 {
        out.push(b' ');
        out.extend_from_slice(TRUNCATED.as_bytes());
        write_number(out, extra.cut);
    }
    if !extra.fragments.is_empty() {
        out.extend_from_slice(fragments(&extra.fragments).as_bytes());
    }
}

fn fragments(fragments: &[Fragment]) -> String {
    let mut text = String::new();
    for (index, Fragment { file, span }) in fragments.iter().enumerate() {
        text.push_str(if index == 0 { " fragments=" } else { "," });
        let _ = write!(text, "{file}:{}:{}", span.start, span.len());
    }
    text
}

/// Adds `cut` to a head's truncated bytes and flags it `oversize`. None when it is not a head.
pub(crate) fn mark(head: &[u8], cut: u64) -> Option<Vec<u8>> {
    let head = Head::parse(head)?;
    let mut text = format!("{} {FLAGS}{}", head.start, head.flags);
    if !head.flags.split(',').any(|flag| flag == "oversize") {
        text.push_str(if head.flags.is_empty() { "oversize" } else { ",oversize" });
    }
    let _ = write!(text, " {TRUNCATED}{}", head.truncated + cut);
    text.push_str(&fragments(&head.fragments));
    Some(text.into_bytes())
}

impl<'a> Head<'a> {
    /// None when it has not the words it should have. Words of unknown names are passed over.
    pub(crate) fn parse(head: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(head).ok()?;
        let mut words = text.split(' ');
        let [file, stream, time, offset, length] = std::array::from_fn(|_| words.next());
        let start = file?.len() + stream?.len() + time?.len() + offset?.len() + length?.len() + 4;
        let mut head = Head {
            start: &text[..start],
            file: file_id(file?)?,
            offset: offset?.parse().ok()?,
            length: length?.parse().ok()?,
            flags: "",
            truncated: 0,
            fragments: Vec::new(),
        };
        for word in words {
            head.extra(word)?;
        }
        Some(head)
    }

    fn extra(&mut self, word: &'a str) -> Option<()> {
        if let Some(flags) = word.strip_prefix(FLAGS) {
            self.flags = flags;
        } else if let Some(bytes) = word.strip_prefix(TRUNCATED) {
            self.truncated = bytes.parse().ok()?;
        } else if let Some(list) = word.strip_prefix(FRAGMENTS) {
            self.fragments = list.split(',').map(fragment).collect::<Option<_>>()?;
        }
        Some(())
    }
}

fn fragment(text: &str) -> Option<Fragment> {
    let mut parts = text.split(':');
    let [file, offset, length] = std::array::from_fn(|_| parts.next());
    let (offset, length): (u64, u64) = (offset?.parse().ok()?, length?.parse().ok()?);
    offset.checked_add(length)?;
    Some(Fragment { file: file_id(file?)?, span: Span::at(offset, length) })
}

/// Only as it is written: 32 digits.
fn file_id(text: &str) -> Option<FileId> {
    (text.len() == 32).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(record: &Record) -> String {
        let mut out = Vec::new();
        write(&mut out, &mut Clock::new(), record, format!("{} ", FileId(7)).as_bytes());
        String::from_utf8(out).expect("text")
    }

    fn record(stream: Stream, extra: Option<Extra>) -> Record {
        Record {
            body: 0..0,
            span: Span::at(60_000_000_000_000, 51),
            time: 1_795_255_872_000_000_001,
            stream,
            flags: Flags::NONE,
            extra: extra.map(Box::new),
        }
    }

    #[test]
    fn a_head_has_five_words_and_those_that_few_records_need() {
        const START: &str = "00000000000000000000000000000007";
        const TIME: &str = "2026-11-21T10:11:12.000000001Z";
        assert_eq!(
            written(&record(Stream::None, None)),
            format!("{START} - {TIME} 60000000000000 0000051"),
            "an offset too large for its width keeps all its digits"
        );
        let piece = |file, start, length| Fragment { file: FileId(file), span: Span::at(start, length) };
        let fragments = vec![piece(6, 5, 10), piece(7, 60_000_000_000_000, 41)];
        let mut record =
            record(Stream::Stderr, Some(Extra { cut: 17, fragments: fragments.clone(), id: None }));
        record.flags = Flags::TRUNCATED | Flags::CRLF;
        let text = written(&record);
        assert_eq!(
            text,
            format!(
                "{START} stderr {TIME} 60000000000000 0000051 flags=truncated,crlf truncated_bytes=17 \
                 fragments=00000000000000000000000000000006:5:10,{START}:60000000000000:41"
            )
        );
        let head = Head::parse(text.as_bytes()).expect("head");
        assert_eq!((head.file, head.offset, head.length), (FileId(7), 60_000_000_000_000, 51));
        assert_eq!((head.truncated, &head.fragments), (17, &fragments));

        let marked = mark(text.as_bytes(), 3).expect("marked");
        let marked = Head::parse(&marked).expect("head");
        assert_eq!(marked, Head { flags: "truncated,crlf,oversize", truncated: 20, ..head });
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let good = written(&record(Stream::Stdout, None));
        assert!(
            Head::parse(format!("{good} later=word").as_bytes()).is_some(),
            "unknown words are passed over"
        );
        for bad in [
            String::new(),
            "{\"log\":{}}".to_owned(),
            good.replacen('0', "", 1),
            good.replacen('0', "x", 1),
            good.rsplit_once(' ').expect("words").0.to_owned(),
            format!("{good}x"),
            format!("{good} truncated_bytes=x"),
            format!("{good} fragments=1:2"),
            format!("{good} fragments={}:{}:1", FileId(7), u64::MAX),
        ] {
            assert_eq!(Head::parse(bad.as_bytes()), None, "{bad}");
            assert_eq!(mark(bad.as_bytes(), 1), None, "{bad}");
        }
    }
}
