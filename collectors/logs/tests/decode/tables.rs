//! Samples of real formats, and each special case by itself.

use std::path::{Path, PathBuf};

use taffrail_logs::decode::{Decoder, Format, Limits};
use taffrail_record::{FileId, Flags, Fragment, Record, Span, Stream};

use crate::reference::{Expected, File, NOW};
use crate::{drive, reference};

const FILE: FileId = FileId(1);
const LIMITS: Limits = Limits { max_line_bytes: 1 << 20 };
const SECOND: i64 = 1_000_000_000;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/decode").join(name)
}

/// `stream time flags fragments: body` on one line; long bodies by their ends.
fn render(record: &Expected) -> String {
    let time = jiff::Timestamp::from_nanosecond(record.time.into()).expect("in range");
    let flags: Vec<&str> = record.flags.names().collect();
    let spans: Vec<String> =
        record.fragments.iter().map(|f| format!("{}..{}", f.span.start, f.span.end)).collect();
    let body = record.body.escape_ascii().to_string();
    let body = match body.len() {
        0..=200 => body,
        long => format!("{} ({} bytes) {}", &body[..20], record.body.len(), &body[long - 20..]),
    };
    format!("{} {time:.9} [{}] {}: {body}\n", record.stream.as_str(), flags.join(" "), spans.join(" "))
}

/// Records of one call of the decoder, as the reference gives them.
fn collect(file: FileId, data: &[u8], records: &[Record]) -> Vec<Expected> {
    let one = |record: &Record| {
        let extra = record.extra.as_deref().cloned().unwrap_or_default();
        let single = vec![Fragment { file, span: record.span }];
        Expected {
            body: data[record.body.start as usize..record.body.end as usize].to_vec(),
            fragments: if extra.fragments.is_empty() { single } else { extra.fragments },
            time: record.time,
            stream: record.stream,
            flags: record.flags,
            cut: extra.cut,
        }
    };
    records.iter().map(one).collect()
}

/// Feeds `text` at `base`; returns the records and what was not consumed.
fn feed(decoder: &mut Decoder, file: FileId, base: u64, text: &str) -> (Vec<Expected>, usize) {
    let (mut data, mut records) = (text.as_bytes().to_vec(), Vec::new());
    let consumed = decoder.decode(&mut data, file, base, NOW, &mut records);
    (collect(file, &data, &records), text.len() - consumed)
}

fn end(decoder: &mut Decoder, file: FileId, base: u64, text: &str) -> Vec<Expected> {
    let (mut data, mut records) = (text.as_bytes().to_vec(), Vec::new());
    assert_eq!(decoder.decode_unfinished(&mut data, file, base, NOW, &mut records), text.len());
    collect(file, &data, &records)
}

fn flush(decoder: &mut Decoder, file: FileId, seen_before: i64) -> Vec<Expected> {
    let (mut data, mut records) = (Vec::new(), Vec::new());
    decoder.flush_parts(&mut data, seen_before, &mut records);
    collect(file, &data, &records)
}

fn bodies(records: &[Expected]) -> Vec<(&str, Flags)> {
    records.iter().map(|record| (std::str::from_utf8(&record.body).expect("text"), record.flags)).collect()
}

fn span(start: u64, end: u64) -> Fragment {
    Fragment { file: FILE, span: Span { start, end } }
}

#[test]
fn samples_of_each_runtime_decode_as_written_down() {
    for name in ["containerd", "docker"] {
        let bytes = std::fs::read(fixture(&format!("{name}.log"))).expect("fixture");
        let golden = std::fs::read_to_string(fixture(&format!("{name}.records"))).expect("fixture");
        let file = File { id: FILE, bytes, pauses: Vec::new() };
        for sizes in [&[usize::MAX][..], &[1], &[7, 1000, 3]] {
            let records = drive::decode(Format::Container, 1 << 20, std::slice::from_ref(&file), sizes);
            let text: String = records.iter().map(render).collect();
            assert_eq!(text, golden, "{name} in blocks of {sizes:?}");
        }
        let expected: String =
            reference::decode(Format::Container, 1 << 20, &[file]).iter().map(render).collect();
        assert_eq!(expected, golden, "{name} by the reference");
    }
}

#[test]
fn a_line_is_carried_until_its_newline_comes() {
    let mut decoder = Decoder::new(Format::Plain, LIMITS);
    assert_eq!(
        feed(&mut decoder, FILE, 0, "one\ntw"),
        (
            vec![Expected {
                body: b"one".to_vec(),
                fragments: vec![span(0, 4)],
                time: NOW,
                stream: Stream::None,
                flags: Flags::NONE,
                cut: 0,
            }],
            2,
        )
    );
    let (records, carry) = feed(&mut decoder, FILE, 4, "two\r\n\n\0\n");
    assert_eq!(bodies(&records), [("two", Flags::CRLF), ("", Flags::NONE), ("\0", Flags::NONE)]);
    assert_eq!(carry, 0);
}

#[test]
fn parts_are_joined_over_a_rotation_and_list_their_fragments() {
    let (first, second) = ("1970-01-01T00:00:01Z stdout P hel\n", "1970-01-01T00:00:02Z stdout F lo\n");
    let other = FileId(2);
    let mut decoder = Decoder::new(Format::Container, LIMITS);
    assert_eq!(feed(&mut decoder, FILE, 100, first), (vec![], 0));
    assert!(end(&mut decoder, FILE, 134, "").is_empty());
    let pending: Vec<_> = decoder.pending().map(|p| (p.stream, p.file, p.start, p.bytes, p.seen)).collect();
    assert_eq!(pending, [(Stream::Stdout, FILE, 100, 34, NOW)]);
    let (records, _) = feed(&mut decoder, other, 0, second);
    assert_eq!(
        records,
        [Expected {
            body: b"hello".to_vec(),
            fragments: vec![span(100, 134), Fragment { file: other, span: Span { start: 0, end: 33 } }],
            time: SECOND,
            stream: Stream::Stdout,
            flags: Flags::NONE,
            cut: 0,
        }]
    );
    assert_eq!(decoder.pending().count(), 0);
}

#[test]
fn neighbouring_parts_are_one_span_without_extra() {
    let text =
        "1970-01-01T00:00:01Z stdout P a\n1970-01-01T00:00:01Z stdout P b\n1970-01-01T00:00:01Z stdout F c\n";
    let mut decoder = Decoder::new(Format::Container, LIMITS);
    let (mut data, mut records) = (text.as_bytes().to_vec(), Vec::new());
    decoder.decode(&mut data, FILE, 0, NOW, &mut records);
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].span, &records[0].extra), (Span { start: 0, end: 96 }, &None));
}

#[test]
fn parts_that_waited_are_flushed_and_later_ones_stay() {
    let mut decoder = Decoder::new(Format::Container, LIMITS);
    let part = |stream: &str| format!("1970-01-01T00:00:01Z {stream} P x\n");
    let mut records = Vec::new();
    for (at, stream) in [(0, "stdout"), (32, "stderr")] {
        let mut data = part(stream).into_bytes();
        decoder.decode(&mut data, FILE, at, NOW + at.cast_signed(), &mut records);
    }
    assert_eq!(flush(&mut decoder, FILE, NOW), []);
    let flushed = flush(&mut decoder, FILE, NOW + 1);
    assert_eq!(bodies(&flushed), [("x", Flags::PARTIAL)]);
    assert_eq!((flushed[0].stream, &flushed[0].fragments[..]), (Stream::Stdout, &[span(0, 32)][..]));
    assert_eq!(decoder.pending().map(|p| p.stream).collect::<Vec<_>>(), [Stream::Stderr]);
    let (records, _) = feed(&mut decoder, FILE, 64, "1970-01-01T00:00:01Z stdout F y\n");
    assert_eq!(bodies(&records), [("y", Flags::NONE)]);
}

#[test]
fn parts_flushed_out_of_different_files_name_them() {
    let other = FileId(2);
    let mut decoder = Decoder::new(Format::Container, LIMITS);
    feed(&mut decoder, FILE, 0, "1970-01-01T00:00:01Z stdout P a\n");
    feed(&mut decoder, other, 0, "1970-01-01T00:00:01Z stderr P b\n");
    let flushed = flush(&mut decoder, FILE, i64::MAX);
    assert_eq!(flushed[0].fragments, [span(0, 32)]);
    assert_eq!(flushed[1].fragments, [Fragment { file: other, span: Span { start: 0, end: 32 } }]);
}

#[test]
fn an_unfinished_line_is_delivered_and_its_rest_continues_it() {
    let text = "1970-01-01T00:00:01Z stderr F wor";
    let mut decoder = Decoder::new(Format::Container, LIMITS);
    let head = end(&mut decoder, FILE, 0, text);
    assert_eq!(bodies(&head), [("wor", Flags::PARTIAL)]);
    let base = text.len() as u64;
    assert_eq!(feed(&mut decoder, FILE, base, "l"), (vec![], 1));
    let (rest, _) = feed(&mut decoder, FILE, base, "ld\n1970-01-01T00:00:02Z stdout F next\n");
    assert_eq!(bodies(&rest), [("ld", Flags::PARTIAL), ("next", Flags::NONE)]);
    assert_eq!((rest[0].stream, rest[0].time), (Stream::Stderr, SECOND));
    assert_eq!(rest[0].fragments, [span(base, base + 3)]);
}

#[test]
fn a_new_file_begins_with_a_new_line() {
    let mut decoder = Decoder::new(Format::Plain, LIMITS);
    end(&mut decoder, FILE, 0, "unfinished");
    let (records, _) = feed(&mut decoder, FileId(2), 0, "fresh\n");
    assert_eq!(bodies(&records), [("fresh", Flags::NONE)]);
}

#[test]
fn an_unfinished_line_takes_the_parts_before_it_along() {
    let mut decoder = Decoder::new(Format::Container, LIMITS);
    let records =
        end(&mut decoder, FILE, 0, "1970-01-01T00:00:01Z stdout P a\n1970-01-01T00:00:01Z stdout P b");
    assert_eq!(bodies(&records), [("ab", Flags::PARTIAL)]);
    assert_eq!(decoder.pending().count(), 0);
}

#[test]
fn an_unfinished_json_line_is_decoded_only_when_it_is_whole() {
    let mut decoder = Decoder::new(Format::Container, LIMITS);
    let whole = r#"{"log":"hi\n","stream":"stdout","time":"1970-01-01T00:00:01Z"}"#;
    assert_eq!(bodies(&end(&mut decoder, FILE, 0, whole)), [("hi", Flags::PARTIAL)]);
    assert_eq!(bodies(&feed(&mut decoder, FILE, whole.len() as u64, "\n").0), [("", Flags::PARTIAL)]);
    let raw = Flags::PARTIAL | Flags::CORRUPT | Flags::TIME_OF_READ;
    assert_eq!(
        bodies(&end(&mut decoder, FILE, 100, r#"{"log":"hi\n","str"#)),
        [(r#"{"log":"hi\n","str"#, raw)]
    );
    assert_eq!(bodies(&feed(&mut decoder, FILE, 119, "eam\":1}\n").0), [("eam\":1}", raw)]);
}

#[test]
fn reading_from_the_middle_of_a_line_continues_that_line() {
    for (format, flags) in
        [(Format::Plain, Flags::PARTIAL), (Format::Container, Flags::PARTIAL | Flags::TIME_OF_READ)]
    {
        let mut decoder = Decoder::new(format, LIMITS);
        decoder.resume_mid_line();
        let (records, _) = feed(&mut decoder, FILE, 50, "rest of it\r\n");
        assert_eq!(bodies(&records), [("rest of it", flags | Flags::CRLF)]);
        let (records, _) = feed(&mut decoder, FILE, 62, "x\n");
        assert!(!records[0].flags.contains(Flags::PARTIAL));
    }
}

#[test]
fn a_reset_decoder_is_as_new() {
    let mut decoder = Decoder::new(Format::Container, Limits { max_line_bytes: 10 });
    feed(&mut decoder, FILE, 0, "1970-01-01T00:00:01Z stdout P a\n");
    feed(&mut decoder, FILE, 32, &"x".repeat(100_000));
    assert_eq!(decoder.pending().count(), 2);
    decoder.reset();
    assert_eq!(decoder.pending().count(), 0);
    let (records, _) = feed(&mut decoder, FILE, 0, "1970-01-01T00:00:01Z stdout F b\n");
    assert_eq!(bodies(&records), [("b", Flags::NONE)]);
}

#[test]
fn a_line_too_long_to_hold_is_cut_in_whatever_format() {
    let long = "ä".repeat(100_000);
    let table = [
        (Format::Plain, long.clone(), Stream::None),
        (Format::Container, format!("1970-01-01T00:00:01Z stderr F {long}"), Stream::Stderr),
        (
            Format::Container,
            format!(r#"{{"log":"{long}\n","stream":"stdout","time":"1970-01-01T00:00:01Z"}}"#),
            Stream::Stdout,
        ),
    ];
    for (format, line, stream) in table {
        for size in [1_000_000, 70_000, 3_001] {
            let file = File { id: FILE, bytes: format!("{line}\r\n").into_bytes(), pauses: Vec::new() };
            let records = drive::decode(format, 1001, std::slice::from_ref(&file), &[size]);
            assert_eq!(records.len(), 1);
            let record = &records[0];
            assert_eq!(record.body, "ä".repeat(500).as_bytes());
            assert_eq!(record.cut, 199_000);
            assert_eq!(record.stream, stream);
            assert!(record.flags.contains(Flags::TRUNCATED) && !record.flags.contains(Flags::PARTIAL));
            assert_eq!(record.fragments, [span(0, file.bytes.len() as u64)]);
        }
    }
}

#[test]
fn a_line_too_long_to_hold_is_pending_while_it_grows() {
    let mut decoder = Decoder::new(Format::Plain, Limits { max_line_bytes: 4 });
    assert_eq!(feed(&mut decoder, FILE, 7, &"x".repeat(70_000)), (vec![], 0));
    assert_eq!(feed(&mut decoder, FILE, 70_007, &"y".repeat(5)), (vec![], 0));
    let pending: Vec<_> = decoder.pending().map(|p| (p.file, p.start, p.bytes)).collect();
    assert_eq!(pending, [(FILE, 7, 70_005)]);
    let records = end(&mut decoder, FILE, 70_012, "");
    assert_eq!(bodies(&records), [("xxxx", Flags::PARTIAL | Flags::TRUNCATED)]);
    let (records, _) = feed(&mut decoder, FILE, 70_012, "z\n");
    assert_eq!(bodies(&records), [("z", Flags::PARTIAL)]);
}

#[test]
fn a_line_too_long_to_hold_that_stops_growing_is_flushed() {
    let mut decoder = Decoder::new(Format::Container, Limits { max_line_bytes: 4 });
    feed(&mut decoder, FILE, 0, "1970-01-01T00:00:01Z stdout P ab\n");
    feed(&mut decoder, FILE, 33, &format!("1970-01-01T00:00:02Z stdout F {}", "x".repeat(70_000)));
    let records = flush(&mut decoder, FILE, NOW + 1);
    assert_eq!(bodies(&records), [("abxx", Flags::PARTIAL | Flags::TRUNCATED)]);
    assert_eq!(records[0].cut, 69_998);
    let (records, _) = feed(&mut decoder, FILE, 33 + 70_030, "z\n1970-01-01T00:00:02Z stdout F y\n");
    assert_eq!(bodies(&records), [("z", Flags::PARTIAL), ("y", Flags::NONE)]);
}

#[test]
fn a_line_too_long_to_hold_is_delivered_when_another_file_begins() {
    let other = FileId(2);
    let mut decoder = Decoder::new(Format::Plain, Limits { max_line_bytes: 4 });
    feed(&mut decoder, FILE, 0, &"x".repeat(70_000));
    let (records, _) = feed(&mut decoder, other, 0, "abc\n");
    assert_eq!(bodies(&records), [("xxxx", Flags::PARTIAL | Flags::TRUNCATED), ("abc", Flags::NONE)]);
    assert_eq!(records[0].fragments, [span(0, 70_000)]);
}

#[test]
fn parts_are_cut_at_the_limit_of_what_they_make_together() {
    let lines: String =
        ["P aaa", "P bbb", "F ccc"].map(|rest| format!("1970-01-01T00:00:01Z stdout {rest}\n")).concat();
    for (max, body, cut) in [(9, "aaabbbccc", 0), (8, "aaabbbcc", 1), (3, "aaa", 6), (0, "", 9)] {
        let mut decoder = Decoder::new(Format::Container, Limits { max_line_bytes: max });
        let (records, _) = feed(&mut decoder, FILE, 0, &lines);
        assert_eq!((std::str::from_utf8(&records[0].body), records[0].cut), (Ok(body), cut));
        assert_eq!(records[0].flags.contains(Flags::TRUNCATED), cut > 0);
    }
}

#[test]
fn parts_in_very_many_pieces_are_delivered_before_they_are_whole() {
    let piece = "1970-01-01T00:00:01Z stdout P x\n1970-01-01T00:00:01Z stderr F y\n";
    let file = File { id: FILE, bytes: piece.repeat(1500).into_bytes(), pauses: Vec::new() };
    let records = drive::decode(Format::Container, 1 << 20, std::slice::from_ref(&file), &[999]);
    assert_eq!(records, reference::decode(Format::Container, 1 << 20, &[file]));
    let parts: Vec<usize> =
        records.iter().filter(|r| r.stream == Stream::Stdout).map(|r| r.body.len()).collect();
    assert_eq!(parts, [1024, 476]);
}
