//! Arbitrary files, cut into arbitrary blocks, against the reference.

use proptest::prelude::*;
use taffrail_logs::decode::Format;
use taffrail_record::FileId;

use crate::reference::File;
use crate::{drive, reference};

/// Lines of this size are consumed before they end.
const LONG: std::ops::Range<usize> = 60_000..140_000;

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[a-z \\r]{0,12}".prop_map(String::into_bytes),
        3 => "(a|ä|世|\u{1f600}|\\r|\"|\\\\|\\t|\u{0}|<){0,12}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>().prop_filter("no newline", |b| *b != b'\n'), 0..12),
        1 => (prop::sample::select(vec!["x", "ä", "世", "\u{1f600}", "\\", "\""]), LONG).prop_map(|(unit, length)| unit.repeat(length / unit.len()).into_bytes()),
    ]
}

fn time() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (0..3_u32, any::<u32>()).prop_map(|(s, n)| format!("2024-02-29T23:59:5{s}.{:09}Z", n % 1_000_000_000)),
        2 => "20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,10})?(Z|[+-][0-2][0-9]:[0-5][0-9])",
        1 => "[0-9TZ:-]{0,30}",
    ]
}

fn cri() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop::sample::select(vec!["F", "F", "P", "P", "F:a", "P:b:c", "X", ""]);
    let stream = prop::sample::select(vec!["stdout", "stdout", "stderr", "stdlog"]);
    (time(), stream, tag, content()).prop_map(|(time, stream, tag, content)| {
        [format!("{time} {stream} {tag} ").as_bytes(), &content].concat()
    })
}

/// What Docker writes for a content; bytes that are no UTF-8 stay as they are.
fn escaped(content: &[u8], wide: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in content {
        match byte {
            b'\n' => out.extend(b"\\n"),
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'<' | 0..0x20 => out.extend(format!("\\u{byte:04x}").bytes()),
            b'a' if wide => out.extend(b"\\ud83d\\ude00\\ud83d"),
            _ => out.push(*byte),
        }
    }
    out
}

fn json_file() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop::sample::select(vec!["stdout", "stdout", "stderr", "", "x"]);
    let attrs =
        prop::sample::select(vec!["", "", "\"attrs\":{\"tag\":\"{\\\"\"},", "\"n\":[1,{\"log\":\"no\"}],"]);
    (content(), any::<bool>(), any::<bool>(), stream, attrs, time(), 0..6).prop_map(
        |(mut content, newline, wide, stream, attrs, time, order)| {
            if newline {
                content.push(b'\n');
            }
            let log = [b"\"log\":\"", &escaped(&content, wide)[..], b"\""].concat();
            let rest = format!("\"stream\":\"{stream}\",{attrs}\"time\":\"{time}\"");
            if order == 0 {
                return [b"{", rest.as_bytes(), b" , ", &log, b"}\r"].concat();
            }
            [b"{", &log[..], b",", rest.as_bytes(), b"}"].concat()
        },
    )
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let damaged = (prop_oneof![cri(), json_file()], any::<prop::sample::Index>(), any::<u8>());
    prop_oneof![
        8 => cri(),
        8 => json_file(),
        2 => content(),
        1 => Just(Vec::new()),
        3 => damaged.prop_map(|(mut line, at, byte)| {
            if !line.is_empty() {
                let at = at.index(line.len());
                line[at] = byte;
            }
            line
        }),
        1 => (prop_oneof![cri(), json_file()], any::<prop::sample::Index>()).prop_map(|(mut line, at)| {
            line.truncate(at.index(line.len() + 1));
            line
        }),
    ]
}

fn file() -> impl Strategy<Value = File> {
    let lines = prop::collection::vec(line(), 0..12);
    let pauses = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    (any::<u128>(), lines, any::<bool>(), pauses).prop_map(|(id, lines, ended, pauses)| {
        let mut bytes = lines.join(&b'\n');
        if ended {
            bytes.push(b'\n');
        }
        let mut pauses: Vec<usize> = pauses.iter().map(|pause| pause.index(bytes.len() + 1)).collect();
        pauses.sort_unstable();
        File { id: FileId(id), bytes, pauses }
    })
}

fn limit() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..40_usize, 2 => Just(1 << 20), 1 => 30_000..150_000_usize]
}

fn blocks() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![2 => 1..40_usize, 2 => 1..2_000_usize, 1 => 1..90_000_usize];
    // A long line in blocks of a few bytes would take for ever: the carry is scanned again each time.
    prop::collection::vec(size, 1..8).prop_map(|mut sizes| {
        sizes.push(20_000);
        sizes
    })
}

/// More by PROPTEST_CASES.
fn cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.max(1_500), failure_persistence: None, ..config }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn records_are_the_references_however_the_files_are_cut(
        format in prop::sample::select(vec![Format::Container, Format::Container, Format::Container, Format::Plain]),
        max in limit(),
        mut files in prop::collection::vec(file(), 1..4),
        sizes in blocks(),
    ) {
        files.sort_by_key(|file| file.id);
        files.dedup_by_key(|file| file.id);
        let expected = reference::decode(format, max, &files);
        let whole = drive::decode(format, max, &files, &[usize::MAX]);
        prop_assert!(whole == expected, "in one block: {:?}", difference(&whole, &expected));
        let cut = drive::decode(format, max, &files, &sizes);
        prop_assert!(cut == expected, "in blocks of {:?}: {:?}", sizes, difference(&cut, &expected));
    }
}

/// The first record that differs, long bodies shortened.
fn difference(got: &[reference::Expected], expected: &[reference::Expected]) -> String {
    let at = got.iter().zip(expected).take_while(|(got, expected)| got == expected).count();
    let text = |records: &[reference::Expected]| {
        records.get(at).map_or("nothing".to_owned(), |record| {
            let body = String::from_utf8_lossy(&record.body[..record.body.len().min(80)]).into_owned();
            format!(
                "{body:?} of {} bytes, {:?}",
                record.body.len(),
                reference::Expected { body: Vec::new(), ..record.clone() }
            )
        })
    };
    format!("record {at} is {}, expected {}", text(got), text(expected))
}
