//! Docker's json-file lines: `{"log":"...\n","stream":"stdout","attrs":{...},"time":"..."}`.
//!
//! [`fast`] takes the one layout that Docker writes and unescapes it in place; [`scan::Scan`] takes any order of
//! keys, and lines that come in pieces. What both accept they decode alike. They are lenient where it costs nothing
//! to be: control characters and invalid UTF-8 inside strings stay as they are, and values of unknown keys are
//! skipped, not validated.
//!
//! Source of the layout: `daemon/logger/jsonfilelog/jsonlog` of the Docker engine.

mod escape;
pub(super) mod scan;

use std::ops::Range;

use taffrail_record::Stream;

use super::time::Clock;

const HEAD: &[u8] = b"{\"log\":\"";

/// A line decoded in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Where the content is in the line, without the newline that ended it.
    pub(super) content: Range<usize>,
    pub(super) time: i64,
    pub(super) stream: Stream,
    /// Whether the content ended in a newline; if not, more follows in a further line.
    pub(super) ended: bool,
}

/// Decodes a line in Docker's own layout in place; leaves any other untouched. `scratch` is memory to work in.
#[inline]
pub(super) fn fast(line: &mut [u8], scratch: &mut Vec<u8>, clock: &mut Clock) -> Option<Line> {
    let text = line.strip_prefix(HEAD)?;
    let start = HEAD.len();
    let mark = memchr::memchr2(b'"', b'\\', text)?;
    if text[mark] == b'"' {
        let (stream, time) = trailer(&text[mark + 1..], clock)?;
        return Some(Line { content: start..start + mark, time, stream, ended: false });
    }
    // Most lines have just the newline to unescape.
    if let Some(rest) = text[mark + 1..].strip_prefix(b"n\"") {
        let (stream, time) = trailer(rest, clock)?;
        return Some(Line { content: start..start + mark, time, stream, ended: true });
    }
    let (close, length) = escape::unescape(&text[mark..], scratch)?;
    let (stream, time) = trailer(text.get(mark + close + 1..)?, clock)?;
    let unescaped = scratch.get(..length)?;
    line.get_mut(start + mark..start + mark + length)?.copy_from_slice(unescaped);
    let ended = unescaped.last() == Some(&b'\n');
    Some(Line { content: start..start + mark + length - usize::from(ended), time, stream, ended })
}

/// Reads what follows the log's string.
#[inline]
fn trailer(text: &[u8], clock: &mut Clock) -> Option<(Stream, i64)> {
    let text = text.strip_prefix(b",\"stream\":\"std")?;
    let (stream, text) = match text.split_first_chunk::<4>()? {
        (b"out\"", rest) => (Stream::Stdout, rest),
        (b"err\"", rest) => (Stream::Stderr, rest),
        _ => return None,
    };
    let text = match text.strip_prefix(b",\"attrs\":{") {
        Some(attributes) => attributes.get(end_of_object(attributes)?..)?,
        None => text,
    };
    let text = text.strip_prefix(b",\"time\":\"")?;
    let (time, length) = clock.read(text)?;
    (text.get(length..)? == b"\"}").then_some((stream, time))
}

/// One past the brace that closes an object whose opening brace has been read.
fn end_of_object(text: &[u8]) -> Option<usize> {
    let (mut depth, mut in_string, mut at) = (1_usize, false, 0);
    while depth > 0 {
        match *text.get(at)? {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::scan::Scan;
    use super::*;
    use proptest::prelude::*;

    fn decode(line: &str) -> Option<(Vec<u8>, i64, Stream, bool)> {
        let mut bytes = line.as_bytes().to_vec();
        let line = fast(&mut bytes, &mut Vec::new(), &mut Clock::new())?;
        Some((bytes[line.content].to_vec(), line.time, line.stream, line.ended))
    }

    #[test]
    fn dockers_own_layout_is_decoded_in_place() {
        let table: [(&str, &[u8], bool); 11] = [
            ("hello\\n", b"hello", true),
            ("hello", b"hello", false),
            ("", b"", false),
            ("\\n", b"", true),
            ("a\\nb\\n", b"a\nb", true),
            ("\\u003cb\\u003e \\\"q\\\" \\\\ \\/ \\b\\f\\r\\t\\n", b"<b> \"q\" \\ / \x08\x0c\r\t", true),
            ("\\u00e4\\u2028\\ud83d\\ude00\\n", "ä\u{2028}\u{1f600}".as_bytes(), true),
            ("\\ud83d!\\n", "\u{fffd}!".as_bytes(), true),
            ("\\ude00\\ud83d\\ud83d\\ude00\\n", "\u{fffd}\u{fffd}\u{1f600}".as_bytes(), true),
            ("x\\u000a", b"x", true),
            ("x\\\\n", b"x\\n", false),
        ];
        for (log, content, ended) in table {
            for attrs in ["", ",\"attrs\":{}", ",\"attrs\":{\"a\":\"}\\\"\",\"b\":{\"c\":[1]}}"] {
                let line = format!(
                    "{{\"log\":\"{log}\",\"stream\":\"stderr\"{attrs},\"time\":\"1970-01-01T00:00:01Z\"}}"
                );
                let expected = Some((content.to_vec(), 1_000_000_000, Stream::Stderr, ended));
                assert_eq!(decode(&line), expected, "{line}");
            }
        }
    }

    #[test]
    fn any_other_layout_is_left_untouched() {
        for line in [
            "{}",
            "{\"log\":\"a\\n\"}",
            "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:01Z\"} ",
            "{\"log\":\"a\\x\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:01Z\"}",
            "{\"log\":\"a\\u12g4\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:01Z\"}",
            "{\"log\":\"a\\t\",\"stream\":\"stdlog\",\"time\":\"1970-01-01T00:00:01Z\"}",
            "{\"log\":\"a\\t\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00\"}",
            "{\"log\":\"a\\t\",\"stream\":\"stdout\",\"attrs\":{,\"time\":\"1970-01-01T00:00:01Z\"}",
            "{\"log\":\"a\\",
        ] {
            let mut bytes = line.as_bytes().to_vec();
            assert_eq!(fast(&mut bytes, &mut Vec::new(), &mut Clock::new()), None, "{line}");
            assert_eq!(bytes, line.as_bytes(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn the_scanner_decodes_what_the_fast_path_decodes(
            log in prop_oneof![
                "([a-z<]|\\\\n|\\\\r|\\\\\\\\|\\\\\"|\\\\u00[0-7][0-9a-f]|\\\\u[d][89c-f][0-9a-f]{2}){0,20}",
                "[ -~]{0,20}",
            ],
            attrs in prop_oneof![Just(String::new()), "(,\"attrs\":\\{[a\":,{}\\\\]{0,8}\\})"],
            cut in any::<prop::sample::Index>(),
        ) {
            let line = format!("{{\"log\":\"{log}\",\"stream\":\"stdout\"{attrs},\"time\":\"2020-02-02T02:02:02.123456789Z\"}}");
            let mut bytes = line.clone().into_bytes();
            let cut = cut.index(bytes.len());
            let mut scan = Scan::new();
            scan.feed(&bytes[..cut], 1000);
            scan.feed(&bytes[cut..], 1000);
            if let Some(fast) = fast(&mut bytes, &mut Vec::new(), &mut Clock::new()) {
                let slow = scan.finish(&mut Clock::new()).expect("the scanner accepts it too");
                prop_assert_eq!(slow.text.delivered().0, &bytes[fast.content]);
                prop_assert_eq!((slow.time, slow.stream, slow.ended), (Some(fast.time), fast.stream, fast.ended));
            }
        }
    }
}
