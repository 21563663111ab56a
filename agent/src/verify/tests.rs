//! Verify from messages to verdict, scenarios by table.

mod files;
mod model;
mod retention;

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;

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
                      "size": size, "confirmed": confirmed, "lost": lost},
           "kubernetes": {"namespace": "shop", "pod": {"name": "web-0"}, "container": {"name": "web"}}})
}

fn finished(file: u8, size: u64) -> Value {
    statement("finished", file, 0, size, size, &[])
}

/// The same message at a minute after the others.
fn at(minute: i64, mut message: Value) -> Value {
    let time =
        "2026-11-21T10:11:12Z".parse::<jiff::Timestamp>().unwrap() + jiff::SignedDuration::from_mins(minute);
    message["@timestamp"] = json!(time.to_string());
    message
}

fn said(kind: &str, minute: i64, file: u8, size: u64, confirmed: u64) -> Value {
    at(minute, statement(kind, file, 0, size, confirmed, &[]))
}

fn verify(messages: &[Value], deep: bool) -> (Report, String) {
    let out = Shared::default();
    let mut session = Session::new(Verifier::new(deep), Progress::new(), Some(Box::new(out.clone())));
    for message in messages {
        session.message(Message { value: message.to_string().as_bytes(), ..Message::default() }).unwrap();
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
        (
            "under way, and what was confirmed",
            vec![
                record(1, 0, 5),
                record(1, 10, 20),
                said("progress", 1, 1, 20, 5),
                said("progress", 2, 1, 20, 20),
            ],
            State::Missing,
            [5, 0, 0, 0],
        ),
        (
            "a gap that records follow for long",
            vec![record(1, 0, 5), record(1, 10, 20), at(6, record(1, 20, 30)), said("opened", 0, 1, 0, 0)],
            State::Missing,
            [5, 0, 0, 0],
        ),
        (
            "a gap that records follow for a while",
            vec![record(1, 0, 5), record(1, 10, 20), at(4, record(1, 20, 30)), said("opened", 0, 1, 0, 0)],
            State::Open,
            [0, 0, 0, 5],
        ),
        (
            "a gap with nothing but one record behind it, however old",
            vec![record(1, 0, 5), at(-90, record(1, 10, 20)), said("paused", 9, 1, 20, 0)],
            State::Open,
            [0, 0, 0, 5],
        ),
        (
            "a gap that repeats are on their way to",
            vec![
                at(-90, record(1, 0, 5)),
                at(-90, record(1, 10, 20)),
                record(1, 0, 5),
                said("opened", 0, 1, 0, 0),
            ],
            State::Open,
            [0, 5, 0, 5],
        ),
        ("gone unwatched", with(whole(), &[said("vanished", 5, 1, 20, 20)]), State::Vanished, [0, 0, 0, 0]),
        (
            "gone unwatched, and all before its end is owed",
            with(whole(), &[said("vanished", 5, 1, 25, 20)]),
            State::Missing,
            [5, 0, 0, 0],
        ),
        (
            "gone unwatched, said before and again",
            with(
                whole(),
                &[
                    said("vanished", 5, 1, 20, 20),
                    said("opened", 0, 1, 0, 0),
                    said("progress", 4, 1, 20, 20),
                    said("vanished", 5, 1, 20, 20),
                    said("damaged", 6, 1, 20, 20),
                ],
            ),
            State::Vanished,
            [0, 0, 0, 0],
        ),
        (
            "gone, and opened again",
            with(whole(), &[said("opened", 9, 1, 20, 20), said("vanished", 5, 1, 20, 20)]),
            State::Open,
            [0, 0, 0, 0],
        ),
        (
            "gone, and read on",
            with(whole(), &[said("vanished", 5, 1, 20, 20), record(1, 20, 30)]),
            State::Open,
            [0, 0, 0, 0],
        ),
        (
            "gone, opened again, and what was seen before is owed",
            vec![record(1, 0, 10), said("vanished", 5, 1, 20, 20), said("opened", 9, 1, 20, 0)],
            State::Missing,
            [10, 0, 0, 0],
        ),
        (
            "gone, and ended after all",
            with(whole(), &[said("finished", 9, 1, 20, 20), said("vanished", 5, 1, 15, 15)]),
            State::Complete,
            [0, 0, 0, 0],
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
    let head = format!("{} stdout 2026-11-21T10:11:12.000000001Z 0000000000000 0000010", id(1));
    let mut session = Session::new(Verifier::new(true), Progress::new(), None);
    for value in [&b"\xffraw"[..], b"\xffraw", b"other"] {
        let raw = Some((origin.as_bytes(), head.as_bytes()));
        session.message(Message { value, raw, ..Message::default() }).unwrap();
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
        (
            vec![record(1, 0, 500), record(1, 949, 2000), said("opened", 0, 1, 0, 0)],
            "complete so far: 1 file (1 open), 2 records, 1.6 kB, 0 missing, 449 B not confirmed yet, 0 repeated, 0 lost",
        ),
        (
            vec![record(1, 0, 5), said("vanished", 0, 1, 5, 5), record(2, 0, 5), said("opened", 0, 2, 0, 0)],
            "complete as far as was seen: 2 files (1 open, 1 went away unwatched), 2 records, 10 B, 0 missing, \
             0 repeated, 0 lost",
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
