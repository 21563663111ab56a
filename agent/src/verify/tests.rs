//! Verify from messages to verdict: scenarios by table, and a model made of arrays of bytes.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::progress::Progress;
use super::report::{Report, State};
use super::session::{Message, Session};
use super::table;
use super::verifier::Verifier;

/// What a test's output collects.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn id(file: u8) -> String {
    format!("{file:032x}")
}

fn record(file: u8, start: u64, end: u64) -> Value {
    json!({
        "@timestamp": "2026-11-21T10:11:12.000000001Z",
        "message": format!("from {start}"),
        "stream": "stdout",
        "log": {"offset": start, "length": end - start,
                "file": {"path": format!("/var/log/{file}.log"), "fingerprint": id(file)}},
        "kubernetes": {"namespace": "shop", "pod": {"name": "web-0"}, "container": {"name": "web"}},
        "container": {"name": "web"},
    })
}

fn statement(kind: &str, file: u8, from: u64, size: u64, confirmed: u64, lost: &[(&str, u64, u64)]) -> Value {
    let lost: Vec<Value> = lost
        .iter()
        .map(|(reason, start, end)| json!({"reason": reason, "offset": start, "length": end - start}))
        .collect();
    json!({"ledger": {"kind": kind, "fingerprint": id(file), "path": format!("/var/log/{file}.log"), "from": from,
                      "size": size, "confirmed": confirmed, "lost": lost}})
}

fn finished(file: u8, size: u64) -> Value {
    statement("finished", file, 0, size, size, &[])
}

fn verify(messages: &[Value], deep: bool) -> (Report, String) {
    let out = Shared::default();
    let mut session = Session::new(Verifier::new(deep), Progress::new(), Some(Box::new(out.clone())));
    for message in messages {
        session.message(Message { value: message.to_string().as_bytes(), raw: None }).unwrap();
    }
    let mut report = session.finish().unwrap().report();
    report.verdict = table::verdict(&report);
    let written = String::from_utf8(out.0.borrow().clone()).unwrap();
    (report, written)
}

#[test]
fn each_state_of_a_file_is_told_from_the_others() {
    let whole = || vec![record(1, 0, 10), record(1, 10, 20)];
    let with = |mut messages: Vec<Value>, more: &[Value]| {
        messages.extend_from_slice(more);
        messages
    };
    let loss = statement("damaged", 1, 0, 30, 10, &[("quota", 20, 30)]);
    let cases = [
        ("all there", with(whole(), &[finished(1, 20)]), State::Complete, [0, 0, 0, 0]),
        ("the statement first", with(vec![finished(1, 20)], &whole()), State::Complete, [0, 0, 0, 0]),
        ("nothing but an empty file", vec![finished(1, 0)], State::Complete, [0, 0, 0, 0]),
        ("a hole", vec![record(1, 0, 10), record(1, 12, 20), finished(1, 20)], State::Missing, [2, 0, 0, 0]),
        ("the end is missing", with(whole(), &[finished(1, 25)]), State::Missing, [5, 0, 0, 0]),
        ("the start is missing", vec![record(1, 10, 20), finished(1, 20)], State::Missing, [10, 0, 0, 0]),
        ("nothing came", vec![finished(1, 20)], State::Missing, [20, 0, 0, 0]),
        ("a repeat", with(whole(), &[record(1, 10, 20), finished(1, 20)]), State::Complete, [0, 10, 0, 0]),
        ("declared", with(whole(), &[loss.clone(), finished(1, 30)]), State::Complete, [0, 0, 10, 0]),
        (
            "declared and delivered after all",
            with(whole(), &[loss, record(1, 20, 30), finished(1, 30)]),
            State::Complete,
            [0, 0, 0, 0],
        ),
        ("still open", with(whole(), &[statement("opened", 1, 0, 0, 0, &[])]), State::Open, [0, 0, 0, 0]),
        (
            "open, and a gap before what was confirmed",
            vec![record(1, 0, 5), record(1, 10, 20), statement("paused", 1, 0, 20, 20, &[])],
            State::Missing,
            [5, 0, 0, 0],
        ),
        (
            "open, and a gap after what was confirmed",
            vec![record(1, 0, 5), record(1, 10, 20), statement("paused", 1, 0, 20, 5, &[])],
            State::Open,
            [0, 0, 0, 5],
        ),
        (
            "confirmed is counted from the first byte answered for",
            vec![record(1, 10, 15), statement("paused", 1, 10, 20, 10, &[])],
            State::Missing,
            [5, 0, 0, 0],
        ),
        ("nothing was said", whole(), State::Unstated, [0, 0, 0, 0]),
        (
            "nothing was said of a hole",
            vec![record(1, 5, 10), record(1, 12, 20)],
            State::Missing,
            [2, 0, 0, 0],
        ),
        ("beyond the end", with(whole(), &[finished(1, 15)]), State::Conflicting, [0, 0, 0, 0]),
        (
            "skipped on purpose",
            vec![record(1, 10, 20), statement("finished", 1, 10, 20, 10, &[])],
            State::Complete,
            [0, 0, 0, 0],
        ),
        (
            "skipped only by a later agent",
            vec![finished(1, 20), record(1, 10, 20), statement("opened", 1, 10, 20, 0, &[])],
            State::Missing,
            [10, 0, 0, 0],
        ),
    ];
    for (what, messages, state, [missing, repeated, lost, pending]) in cases {
        let (report, _) = verify(&messages, false);
        let file = &report.files[0];
        assert_eq!(file.state, state, "{what}");
        let found = [file.missing.bytes, file.repeated.bytes, file.lost_bytes(), file.pending.bytes];
        assert_eq!(found, [missing, repeated, lost, pending], "{what}");
        assert_eq!(report.passes(false), state < State::Missing, "{what}");
        assert_eq!(report.passes(true), state == State::Complete && lost == 0, "strict: {what}");
    }
}

#[test]
fn other_content_at_the_same_place_is_seen_when_looked_for() {
    let mut other = record(1, 0, 10);
    other["message"] = json!("something else");
    let messages = [record(1, 0, 10), other, finished(1, 10)];
    assert_eq!(verify(&messages, false).0.files[0].state, State::Complete);
    let (report, _) = verify(&messages, true);
    assert_eq!((report.files[0].state, &report.files[0].conflicts), (State::Conflicting, &vec![0]));
    let (report, _) = verify(&[record(1, 0, 10), record(1, 0, 10), finished(1, 10)], true);
    assert_eq!(report.files[0].state, State::Complete);
}

#[test]
fn a_line_delivered_unfinished_and_then_whole_is_no_repeat_and_no_conflict() {
    let messages =
        [record(1, 0, 10), record(1, 10, 15), record(1, 10, 20), record(1, 10, 15), finished(1, 20)];
    let (report, written) = verify(&messages, true);
    let file = &report.files[0];
    assert_eq!((file.state, file.overlapping, file.repeated.records), (State::Complete, 1, 1));
    assert_eq!(written.lines().count(), 3, "what brings a new byte is kept");
}

#[test]
fn a_record_of_two_files_covers_both() {
    let mut split = record(2, 0, 4);
    split["log"]["length"] = json!(10);
    split["log"]["fragments"] = json!([
        {"fingerprint": id(1), "offset": 4, "length": 6}, {"fingerprint": id(2), "offset": 0, "length": 4}
    ]);
    let messages = [record(1, 0, 4), split.clone(), split, finished(1, 10), finished(2, 4)];
    let (report, written) = verify(&messages, true);
    assert!(report.passes(true), "{report:?}");
    assert_eq!((report.repeated.records, report.repeated.bytes), (1, 10));
    assert_eq!(written.lines().count(), 2);
}

#[test]
fn raw_records_are_read_from_their_headers() {
    let described = record(1, 0, 10);
    let origin = json!({"log": {"file": described["log"]["file"]}, "container": {"name": "box"}}).to_string();
    let head = json!({"stream": "stdout", "log": {"offset": 0, "length": 10}}).to_string();
    let mut session = Session::new(Verifier::new(true), Progress::new(), None);
    for value in [&b"\xffraw"[..], b"\xffraw", b"other"] {
        session.message(Message { value, raw: Some((origin.as_bytes(), head.as_bytes())) }).unwrap();
    }
    let report = session.finish().unwrap().report();
    assert_eq!((report.files[0].owner.as_str(), report.files[0].conflicts.len()), ("box", 1));
}

#[test]
fn strangers_in_a_topic_are_counted_and_do_no_harm() {
    let hostile = [
        json!({"hello": "world"}),
        json!([1, 2]),
        json!({"ledger": {"kind": "finished"}}),
        json!({"ledger": {"kind": "finished", "fingerprint": "x", "path": "", "from": 0, "size": 0, "confirmed": 0}}),
        json!({"log": {"offset": u64::MAX, "length": 2, "file": {"path": "", "fingerprint": id(1)}}}),
    ];
    let (report, written) = verify(&hostile, true);
    assert_eq!((report.foreign, report.files.len(), written.as_str()), (5, 0, ""));
    let lying = statement("finished", 1, u64::MAX, 5, 0, &[("quota", u64::MAX, u64::MAX)]);
    assert!(verify(&[lying], false).0.passes(false), "a file of nothing");
}

#[test]
fn the_verdict_is_one_line_of_numbers() {
    let cases = [
        (vec![], "nothing to verify: 0 files, 0 records, 0 B, 0 missing, 0 repeated, 0 lost"),
        (
            vec![record(1, 0, 1500), record(1, 0, 1500), finished(1, 1500)],
            "complete: 1 file, 1 records, 1.5 kB, 0 missing, 1 repeated, 0 lost",
        ),
        (
            vec![record(1, 0, 15), finished(1, 20), record(2, 0, 5)],
            "missing: 2 files (1 unstated, 1 missing), 2 records, 20 B, 5 B missing, 0 repeated, 0 lost",
        ),
        (
            vec![record(2, 0, 5)],
            "without a gap, but unstated: 1 file (1 unstated), 1 records, 5 B, 0 missing, 0 repeated, 0 lost",
        ),
    ];
    for (messages, expected) in cases {
        assert_eq!(verify(&messages, false).0.verdict, expected);
    }
}

#[test]
fn the_table_names_what_is_wrong_and_where() {
    let messages = [
        record(1, 0, 10),
        record(1, 0, 10),
        record(1, 1200, 1300),
        statement("damaged", 1, 0, 0, 0, &[("quota", 10, 20)]),
        finished(1, 1300),
    ];
    let (report, _) = verify(&messages, false);
    let text = table::render(&report, false, true);
    let expected = [
        "STATE    RECORDS  BYTES  REPEATED  MISSING  LOST  FILE",
        "missing        2    110         1    1,180    10  shop/web-0/web /var/log/1.log",
        "    missing: 1,180 bytes, 20..1200",
        "    repeated: 10 bytes, 0..10",
        "    lost: 10 bytes, quota",
    ];
    assert_eq!(text.lines().take(5).collect::<Vec<_>>(), expected);
    let text = table::render(&report, false, false);
    assert_eq!(text.lines().nth(1), Some("missing\t2\t110\t1\t1180\t10\tshop/web-0/web /var/log/1.log"));
}

#[test]
fn what_is_in_a_topic_cannot_speak_to_the_terminal() {
    let mut hostile = record(1, 0, 10);
    hostile["log"]["file"]["path"] = json!("/x\u{1b}[2J\ncomplete: 1 file");
    hostile["kubernetes"]["namespace"] = json!("\u{9b}2J");
    let said = statement("finished\u{7}", 1, 0, 10, 10, &[]);
    let lost = statement("damaged", 1, 0, 0, 0, &[("quota\u{1b}]0;x\u{7}", 10, 20)]);
    let (report, _) = verify(&[hostile, said, lost], false);
    for people in [false, true] {
        let text = table::render(&report, true, people);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
        assert_eq!(text.matches("\ncomplete: ").count(), 0, "{text}");
    }
}

#[test]
fn many_files_without_a_problem_are_only_counted() {
    let mut messages: Vec<Value> =
        (0..100).flat_map(|file| [record(file, 0, 9), finished(file, 9)]).collect();
    messages.push(record(7, 0, 9));
    let (report, _) = verify(&messages, false);
    let text = table::render(&report, false, true);
    assert!(text.contains("99 more files are complete"), "{text}");
    assert_eq!(text.matches("/var/log/").count(), 1);
    assert_eq!(table::render(&report, true, true).matches("/var/log/").count(), 100);
}

const SIZE: usize = 40;

/// One file as an array of bytes.
#[derive(Clone)]
struct Model {
    times: [u32; SIZE],
    lost: [Option<&'static str>; SIZE],
    from: Option<u64>,
    size: u64,
    confirmed: u64,
    finished: bool,
}

#[derive(Debug, Clone)]
enum Event {
    Record(Vec<(u8, u64, u64)>),
    Statement { file: u8, finished: bool, from: u64, size: u64, confirmed: u64, lost: Option<(u64, u64)> },
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    (0..SIZE as u64, 1..9_u64).prop_map(|(start, length)| (start, (start + length).min(SIZE as u64)))
}

fn event() -> impl Strategy<Value = Event> {
    let piece = (0..2_u8, range()).prop_map(|(file, (start, end))| (file, start, end));
    let bounds = (0..2_u8, prop::bool::weighted(0.3), 0..4_u64, 0..=SIZE as u64, 0..=SIZE as u64);
    prop_oneof![
        6 => prop::collection::vec(piece, 1..3).prop_map(Event::Record),
        1 => (bounds, prop::option::of(range())).prop_map(|((file, finished, from, size, confirmed), lost)| {
            Event::Statement { file, finished, from, size, confirmed: confirmed.min(size.saturating_sub(from)), lost }
        }),
    ]
}

fn message(event: &Event) -> Value {
    match event {
        Event::Record(pieces) => {
            let (file, start, end) = *pieces.last().unwrap();
            let mut value = record(file, start, end);
            if pieces.len() > 1 {
                let fragments = pieces.iter().map(|(file, start, end)| {
                    json!({"fingerprint": id(*file), "offset": start, "length": end - start})
                });
                value["log"]["fragments"] = fragments.collect();
                value["log"]["length"] = json!(pieces.iter().map(|(_, start, end)| end - start).sum::<u64>());
            }
            value
        }
        Event::Statement { file, finished, from, size, confirmed, lost } => {
            let kind = if *finished { "finished" } else { "paused" };
            let lost: Vec<_> = lost.iter().map(|(start, end)| ("quota", *start, *end)).collect();
            statement(kind, *file, *from, *size, *confirmed, &lost)
        }
    }
}

impl Model {
    fn missing(&self) -> u64 {
        let first = self.accounted(0..SIZE).next().unwrap_or(0);
        let last = self.accounted(0..SIZE).last().map_or(0, |at| at + 1);
        let from = self.from.map_or(first, |from| from as usize);
        let to = match self.from {
            None => last,
            Some(_) if self.finished => self.size as usize,
            Some(_) => self.confirmed as usize,
        };
        (to.saturating_sub(from) - self.accounted(from..to.max(from)).count()) as u64
    }

    fn accounted(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = usize> {
        range.filter(|at| self.times[*at] > 0 || self.lost[*at].is_some())
    }

    fn state(&self) -> State {
        let beyond = self.finished && self.times[self.size as usize..].iter().any(|times| *times > 0);
        match self.from {
            _ if beyond => State::Conflicting,
            _ if self.missing() > 0 => State::Missing,
            None => State::Unstated,
            Some(_) if self.finished => State::Complete,
            Some(_) => State::Open,
        }
    }
}

proptest! {
    #[test]
    fn the_report_is_what_arrays_of_bytes_say(events in prop::collection::vec(event(), 0..40)) {
        let empty = Model {
            times: [0; SIZE], lost: [None; SIZE], from: None, size: 0, confirmed: 0, finished: false,
        };
        let mut models = [empty.clone(), empty];
        let mut kept = Vec::new();
        let mut repeats = 0;
        for event in &events {
            match event {
                Event::Record(pieces) => {
                    let mut new = 0;
                    for (file, start, end) in pieces {
                        for times in &mut models[usize::from(*file)].times[*start as usize..*end as usize] {
                            new += u32::from(*times == 0);
                            *times += 1;
                        }
                    }
                    if new > 0 { kept.push(message(event).to_string()) } else { repeats += 1 }
                }
                Event::Statement { file, finished, from, size, confirmed, lost } => {
                    let model = &mut models[usize::from(*file)];
                    model.from = Some(model.from.map_or(*from, |before| before.min(*from)));
                    model.size = model.size.max(*size);
                    model.confirmed = model.confirmed.max(from + confirmed);
                    model.finished |= finished;
                    if let Some((start, end)) = lost {
                        model.lost[*start as usize..*end as usize].fill(Some("quota"));
                    }
                }
            }
        }

        let messages: Vec<Value> = events.iter().map(message).collect();
        let (report, written) = verify(&messages, false);
        prop_assert_eq!(written.lines().collect::<Vec<_>>(), kept.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(report.repeated.records, repeats);
        prop_assert_eq!(report.delivered.records, kept.len() as u64);
        for file in &report.files {
            let model = &models[usize::from(file.fingerprint.ends_with('1'))];
            let delivered = model.times.iter().filter(|times| **times > 0).count() as u64;
            prop_assert_eq!(file.delivered.bytes, delivered);
            prop_assert_eq!(file.repeated.bytes, model.times.iter().map(|t| u64::from(*t)).sum::<u64>() - delivered);
            prop_assert_eq!(file.repeated_ranges.bytes, model.times.iter().filter(|t| **t > 1).count() as u64);
            let lost = model.lost.iter().zip(model.times).filter(|(lost, times)| lost.is_some() && *times == 0);
            prop_assert_eq!(file.lost_bytes(), lost.count() as u64);
            prop_assert_eq!(file.missing.bytes, model.missing());
            prop_assert_eq!(file.state, model.state());
        }
        let touched = models.iter().filter(|m| m.from.is_some() || m.times.iter().any(|t| *t > 0)).count();
        prop_assert!(report.files.len() >= touched);
        prop_assert_eq!(report.complete, report.files.iter().all(|file| file.state < State::Missing));
    }
}

mod files {
    use std::fs::File;
    use std::io::Write;
    use std::path::Path;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::super::{Args, run};
    use super::{finished, record};

    fn write(path: &Path, bytes: &[u8]) {
        File::create(path).unwrap().write_all(bytes).unwrap();
    }

    fn code(args: &Args) -> String {
        format!("{:?}", run(args).unwrap())
    }

    fn is(expected: u8) -> String {
        format!("{:?}", std::process::ExitCode::from(expected))
    }

    #[test]
    fn a_directory_is_read_compressed_or_not_finished_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let lines = |values: &[serde_json::Value]| {
            values.iter().map(|value| value.to_string() + "\n").collect::<String>().into_bytes()
        };
        let args = Args { paths: vec![dir.path().to_owned()], ..Args::default() };
        assert_eq!(code(&args), is(2), "nothing there");
        assert_eq!(code(&Args::default()), is(2), "nowhere to read");

        let mut packed =
            GzEncoder::new(File::create(dir.path().join("logs-1.ndjson.gz")).unwrap(), Compression::fast());
        packed.write_all(&lines(&[record(1, 0, 10)])).unwrap();
        packed.finish().unwrap();
        let torn = [lines(&[record(1, 10, 20)]), b"{\"@timestamp\":\"20".to_vec()].concat();
        write(&dir.path().join("logs-2.ndjson.open"), &torn);
        write(&dir.path().join("ledger-1.ndjson"), &lines(&[finished(1, 20)]));
        write(&dir.path().join("other.txt"), b"not for us\n");
        assert_eq!(code(&args), is(0));

        let out = dir.path().join("once");
        let dedup = Args { dedup: Some(out.clone()), ..args.clone() };
        assert_eq!(code(&dedup), is(0));
        assert_eq!(std::fs::read(&out).unwrap(), lines(&[record(1, 0, 10), record(1, 10, 20)]));

        write(&dir.path().join("ledger-2.ndjson"), &lines(&[finished(1, 21)]));
        assert_eq!(code(&args), is(1), "a byte is missing");
    }

    #[test]
    fn a_file_that_cannot_be_read_to_its_end_is_no_proof() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs-1.ndjson.gz");
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all((record(1, 0, 10).to_string() + "\n").as_bytes()).unwrap();
        let bytes = packed.finish().unwrap();
        write(&path, &bytes[..bytes.len() - 9]);
        assert_eq!(code(&Args { paths: vec![path], ..Args::default() }), is(1));
        let gone = Args { paths: vec!["/no/such/place".into()], ..Args::default() };
        assert_eq!(code(&gone), is(2), "no verdict");
    }
}
