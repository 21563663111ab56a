//! What retention removed, and what only looks like it.

use super::*;

const MINUTE: i64 = 60_000_000_000;

/// Each record at a place, and the places whose beginning was removed, with the minute of what is oldest there.
fn report(records: &[(usize, Value)], statements: &[Value], removed: &[(usize, Option<i64>)]) -> Report {
    let mut session = Session::new(Verifier::new(false), Progress::new(), None);
    let places: Vec<_> = (0..3).map(|_| session.place()).collect();
    let messages = statements.iter().map(|message| (0, message));
    for (place, message) in messages.chain(records.iter().map(|(place, record)| (*place, record))) {
        let value = message.to_string();
        session
            .message(Message { value: value.as_bytes(), place: places[place], ..Message::default() })
            .unwrap();
    }
    let begin = "2026-11-21T10:11:12Z".parse::<jiff::Timestamp>().unwrap().as_nanosecond();
    for (place, oldest) in removed {
        let oldest = oldest.map(|minute| i64::try_from(begin).unwrap() + minute * MINUTE);
        session.truncate(places[*place], oldest);
    }
    let mut report = session.finish().unwrap().report();
    report.verdict = table::verdict(&report);
    report
}

#[test]
fn what_retention_removed_is_told_from_what_is_missing() {
    let tail = [(1, record(1, 50, 90)), (1, record(1, 90, 100))];
    let hole = [(1, record(1, 50, 80)), (1, record(1, 90, 100))];
    let (opened, ended) = (said("opened", -600, 1, 0, 0), said("finished", 0, 1, 100, 100));
    let whole = [opened.clone(), ended.clone()];
    let young = [said("opened", 60, 1, 0, 0), said("finished", 70, 1, 100, 100)];
    let moving = [opened.clone(), said("progress", 20, 1, 100, 30), ended.clone()];
    let sibling = [(1, record(2, 0, 10))];
    let with_sibling = [opened.clone(), ended, finished(2, 10)];
    let expired = State::Expired;
    let gone = [opened.clone(), said("vanished", 0, 1, 100, 100)];
    let open = [opened.clone(), said("progress", 0, 1, 100, 100)];
    let longer = [opened, said("finished", 0, 1, 120, 120)];
    let (cut, uncut) = (&[(1, Some(0))][..], &[][..]);
    let missing = State::Missing;
    for (what, records, statements, removed, found) in [
        ("the beginning", &tail[..], &whole[..], cut, (expired, 0, 50)),
        ("the beginning, and nothing was removed", &tail, &whole, uncut, (missing, 50, 0)),
        ("the beginning, and another place was cut", &tail, &whole, &[(2, Some(0))], (missing, 50, 0)),
        ("the beginning of a file younger than the cut", &tail, &young, cut, (missing, 50, 0)),
        ("the beginning, of which a part is younger", &tail, &moving, cut, (missing, 20, 30)),
        ("the beginning of an open file", &tail, &open, cut, (expired, 0, 50)),
        ("the beginning of a file that went away", &tail, &gone, cut, (State::Vanished, 0, 50)),
        ("the beginning of a file of unknown age", &tail, &[finished(1, 100)], cut, (expired, 0, 50)),
        ("the beginning, and a hole", &hole, &whole, cut, (missing, 10, 50)),
        ("the beginning, and the end", &tail, &longer, cut, (missing, 20, 50)),
        ("all of it", &[], &whole, &[(1, Some(0)), (2, Some(-900))], (expired, 0, 100)),
        ("all of it, and all that was beside it", &[], &whole, &[(1, None)], (expired, 0, 100)),
        ("all of a file younger than the cut", &[], &young, cut, (missing, 100, 0)),
        ("all of it, and its container lies uncut", &sibling, &with_sibling, &[(2, None)], (missing, 100, 0)),
        ("all of it, and its container lies cut", &sibling, &with_sibling, cut, (expired, 0, 100)),
        ("all of it, and nothing was removed", &[], &whole, uncut, (missing, 100, 0)),
    ] {
        let report = report(records, statements, removed);
        let file = &report.files[0];
        assert_eq!((file.state, file.missing.bytes, file.expired.bytes), found, "{what}");
        assert_eq!(report.passes(false), found.1 == 0, "{what}");
        assert!(!report.passes(true), "strict: {what}");
        let absent = found.1 == 100 && report.files.len() == 1;
        assert_eq!(report.absent, usize::from(absent), "{what}");
    }
}

#[test]
fn expired_bytes_are_said_of_each_file_and_of_all() {
    let report = report(
        &[(1, record(1, 9100, 9900)), (1, record(2, 0, 10))],
        &[said("opened", -9, 1, 0, 0), said("progress", 0, 1, 9900, 9900), finished(2, 10)],
        &[(1, Some(0))],
    );
    assert_eq!(
        report.verdict,
        "complete as far as it is kept: 2 files (1 expired), 2 records, 810 B, 0 missing, 9.1 kB expired by \
         retention, 0 repeated, 0 lost"
    );
    let text = table::render(&report, false, true);
    assert!(text.contains("\n    expired by retention: 9,100 bytes, 0..9100\n"), "{text}");
    assert!(text.contains("\n    open: without a gap from 9100 to 9900\n"), "{text}");
}
