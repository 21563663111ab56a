//! The framing that CRI runtimes (containerd, CRI-O) put before every line:
//! `<RFC 3339 time> <stdout|stderr> <P|F>[:tag...] <content>`.
//!
//! Source: the Kubernetes enhancement "CRI container log", and kubelet's own reader.

use taffrail_record::Stream;

use super::time::Clock;

/// Longest framing that is looked at, so that a line of any length can be judged by its beginning.
const LONGEST_FRAMING: usize = 1024;

/// What the framing says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) time: i64,
    pub(super) stream: Stream,
    /// `P`: more follows.
    pub(super) part: bool,
    /// Where the content begins in the line.
    pub(super) content: usize,
}

/// Reads the framing of a line (without its newline).
#[inline]
pub(super) fn header(line: &[u8], clock: &mut Clock) -> Option<Header> {
    let (time, at) = clock.read(line)?;
    let stream = match line.get(at..)?.first_chunk::<8>()? {
        b" stdout " => Stream::Stdout,
        b" stderr " => Stream::Stderr,
        _ => return None,
    };
    let part = match line.get(at + 8)? {
        b'F' => false,
        b'P' => true,
        _ => return None,
    };
    let content = match line.get(at + 9)? {
        b' ' => at + 10,
        b':' => end_of_tags(line, at + 10)?,
        _ => return None,
    };
    Some(Header { time, stream, part, content })
}

/// One past the space behind further tags.
fn end_of_tags(line: &[u8], at: usize) -> Option<usize> {
    let window = line.get(at..line.len().min(LONGEST_FRAMING))?;
    memchr::memchr(b' ', window).map(|space| at + space + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_is_read_or_refused() {
        let at = |content| Some(Header { time: 5, stream: Stream::Stdout, part: false, content });
        let table: [(&str, Option<Header>); 16] = [
            ("1970-01-01T00:00:00.000000005Z stdout F hello", at(40)),
            ("1970-01-01T00:00:00.000000005Z stdout F ", at(40)),
            ("1970-01-01T00:00:00.000000005Z stdout F  two spaces", at(40)),
            ("1970-01-01T00:00:00.000000005+00:00 stdout F x", at(45)),
            ("1970-01-01T00:00:00.000000005Z stdout F:a:b x", at(44)),
            ("1970-01-01T00:00:00.000000005Z stdout F: x", at(41)),
            ("1970-01-01T00:00:00.000000005Z stdout P x", at(40).map(|h| Header { part: true, ..h })),
            (
                "1970-01-01T00:00:00.000000005Z stderr F x",
                at(40).map(|h| Header { stream: Stream::Stderr, ..h }),
            ),
            ("", None),
            ("1970-01-01T00:00:00.000000005Z", None),
            ("1970-01-01T00:00:00.000000005Z stdout F", None),
            ("1970-01-01T00:00:00.000000005Z stdout F:tag", None),
            ("1970-01-01T00:00:00.000000005Z stdout X x", None),
            ("1970-01-01T00:00:00.000000005Z stdout FP x", None),
            ("1970-01-01T00:00:00.000000005Z stdin F x", None),
            ("1970-01-01T00:00:00.000000005Z  stdout F x", None),
        ];
        for (line, expected) in table {
            assert_eq!(header(line.as_bytes(), &mut Clock::new()), expected, "{line:?}");
        }
    }

    #[test]
    fn tags_without_end_are_no_framing() {
        let with_tag = |len: usize| format!("1970-01-01T00:00:00Z stdout F:{} x", "t".repeat(len));
        assert!(header(with_tag(900).as_bytes(), &mut Clock::new()).is_some());
        assert!(header(with_tag(2000).as_bytes(), &mut Clock::new()).is_none());
    }
}
