#![expect(clippy::disallowed_methods, reason = "what a test writes need not last")]

use proptest::prelude::*;

use super::*;

fn open(folder: &Path, limit: u64) -> Spool {
    Spool::open(folder, limit, &|| {}).expect("a spool")
}

fn document<'a>(version: u64, id: &'a str, body: &'a [u8]) -> Frame<'a> {
    Frame { kind: Kind::InOrder, version, time: 5, observed: 6, id, body }
}

/// Versions, lengths and hashes of bodies of all entries from a place on, read in pieces of this size.
fn read(spool: &Spool, from: u64, most: usize) -> Vec<(u64, usize, u32)> {
    let (mut reader, mut found, mut at) = (Reader::default(), Vec::new(), from);
    let mut data = Vec::new();
    while let Some(piece) = reader.read(spool, at, most, &mut data).expect("readable") {
        let mut used = 0;
        while let Found::Whole(frame, _, length) = decode(&data[used..]) {
            found.push((frame.version, frame.body.len(), crc32fast::hash(frame.body)));
            used += length;
        }
        assert!(used > 0, "an entry at {at}");
        at = piece.start + used as u64;
    }
    found
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Mark,
    Confirm(prop::sample::Index),
    Keep,
    /// Ends without a word; this many bytes of what was written last never reached the disk.
    Kill(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_usize..40_000).prop_map(Step::Append),
        1 => Just(Step::Mark),
        2 => any::<prop::sample::Index>().prop_map(Step::Confirm),
        1 => Just(Step::Keep),
        1 => (0_usize..50_000).prop_map(Step::Kill),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is read from the confirmed place on is what was appended after it, whatever happens; what a crash has cut off
    /// is at the end, and the newest version says so.
    #[test]
    fn what_was_appended_is_read_until_it_is_confirmed(steps in steps()) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spool = open(folder.path(), 1 << 20);
        // Of each entry: where it ends, its version, its body.
        let mut written: Vec<(u64, u64, Vec<u8>)> = Vec::new();
        // Of each document, confirmed or not: where it ends, its version, its length.
        let mut documents: Vec<(u64, u64, usize)> = Vec::new();
        let mut version = 0;
        for step in steps {
            match step {
                Step::Append(size) => {
                    version += 1;
                    let body = vec![(version % 251) as u8; size];
                    match spool.append(&document(version, "id", &body)) {
                        Ok(()) => {
                            written.push((spool.end(), version, body));
                            documents.push((spool.end(), version, size));
                        }
                        Err(Refusal::Full) => prop_assert!(spool.bytes() + size as u64 + 100 > 1 << 20),
                        Err(Refusal::Failed(error)) => panic!("{error}"),
                    }
                }
                Step::Mark => {
                    version += 1;
                    spool.append(&Frame::bare(Kind::Mark, version)).expect("marks always fit");
                    written.push((spool.end(), version, Vec::new()));
                }
                Step::Confirm(index) => {
                    let confirmed = spool.confirmed().offset;
                    let open: Vec<_> = written.iter().filter(|(end, ..)| *end > confirmed).collect();
                    if !open.is_empty() {
                        let (end, version, _) = open[index.index(open.len())];
                        spool.confirm(*end, Some(*version));
                    }
                }
                Step::Keep => spool.keep().expect("kept"),
                Step::Kill(cut) => {
                    let last = spool.state.lock().segments.back().copied().expect("a file");
                    let path = path_of(folder.path(), last.start);
                    let confirmed = spool.confirmed().offset;
                    drop(spool);
                    let length = std::fs::metadata(&path).expect("there").len();
                    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opened");
                    let cut = (cut as u64).min(last.end - last.start.max(confirmed));
                    file.set_len(length - cut).expect("cut");
                    let left = last.end - cut;
                    written.retain(|(end, ..)| *end <= left);
                    documents.retain(|(end, ..)| *end <= left);
                    spool = open(folder.path(), 1 << 20);
                }
            }
            let confirmed = spool.confirmed();
            let expected: Vec<(u64, usize, u32)> = written
                .iter()
                .filter(|(end, ..)| *end > confirmed.offset)
                .map(|(_, version, body)| (*version, body.len(), crc32fast::hash(body)))
                .collect();
            prop_assert_eq!(&read(&spool, confirmed.offset, 30_000), &expected);
            let newest = written.last().map(|(_, version, _)| *version).max(confirmed.version);
            // What is confirmed and gone is remembered only when it was written down.
            prop_assert!(spool.newest() == newest || (expected.is_empty() && spool.newest() < newest));
            prop_assert_eq!(spool.end(), written.last().map_or(0, |(end, ..)| *end).max(confirmed.offset));
            let last = spool.last().expect("readable").map(|last| (last.version, last.body.len()));
            prop_assert_eq!(last, documents.last().map(|(_, version, length)| (*version, *length)));
        }
    }
}

#[test]
fn a_spool_takes_no_more_than_its_bound_and_gives_back_what_is_confirmed() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path(), 4 << 20);
    let body = vec![b'x'; 10_000];
    let mut count = 0;
    while spool.append(&document(count + 1, "id", &body)).is_ok() {
        count += 1;
    }
    assert!((350..450).contains(&count), "{count}");
    assert!(!spool.has_room());
    let on_disk = || -> u64 {
        std::fs::read_dir(folder.path())
            .expect("listed")
            .map(|e| e.expect("an entry").metadata().expect("there").len())
            .sum()
    };
    assert!(on_disk() <= (4 << 20) + (64 << 10), "{}", on_disk());
    spool.confirm(spool.end(), Some(count));
    assert!(spool.has_room());
    assert!(on_disk() < 1 << 20, "{}", on_disk());
    assert_eq!(spool.stored(), Some(count));
}

#[test]
fn versions_before_a_reset_or_of_another_owner_say_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path(), 4 << 20);
    spool.belongs_to("a").expect("new");
    spool.append(&document(100, "id", b"{}")).expect("room");
    assert_eq!((spool.newest(), spool.stored()), (Some(100), None));
    drop(spool);
    let spool = open(folder.path(), 4 << 20);
    spool.belongs_to("a").expect("the same");
    assert_eq!(spool.newest(), Some(100), "as it was");
    spool.belongs_to("b").expect("another");
    assert_eq!(spool.newest(), None);
    spool.append(&document(7, "id", b"{}")).expect("room");
    assert_eq!(read(&spool, 0, 1 << 20).len(), 3, "what is of another owner is still to be stored");
    spool.confirm(spool.end(), Some(7));
    assert_eq!(spool.stored(), Some(7));
    drop(spool);
    let spool = open(folder.path(), 4 << 20);
    assert_eq!(spool.newest(), Some(7));
}

#[test]
fn damage_in_the_middle_ends_what_the_newest_version_says_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path(), 4 << 20);
    let body = vec![b'x'; 50_000];
    (1..=20).for_each(|version| spool.append(&document(version, "id", &body)).expect("room"));
    let first = spool.state.lock().segments[0];
    drop(spool);
    let path = path_of(folder.path(), first.start);
    let mut bytes = std::fs::read(&path).expect("read");
    let at = bytes.len() - 10;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let spool = open(folder.path(), 4 << 20);
    let versions: Vec<u64> = read(&spool, 0, 1 << 20).into_iter().map(|(version, ..)| version).collect();
    assert_eq!(versions.len(), 19, "{versions:?}");
    let damaged = (1..=20).find(|version| !versions.contains(version)).expect("one is missing");
    assert_eq!(spool.newest(), Some(damaged - 1));
    spool.confirm(spool.end() - 1, Some(19));
    assert_eq!(spool.stored(), None, "not before what comes now");
}

#[test]
fn one_folder_is_for_one_agent() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path(), 4 << 20);
    let other = Spool::open(folder.path(), 4 << 20, &|| {});
    assert!(matches!(other, Err(SpoolError::InUse(_))));
    drop(spool);
    open(folder.path(), 4 << 20);
}

#[test]
fn what_is_larger_than_the_bound_is_taken_when_nothing_else_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path(), 1 << 20);
    let large = vec![b'x'; 3 << 20];
    for version in 1..4 {
        assert!(spool.has_room(), "{version}");
        spool.append(&document(version, "id", &large)).expect("taken");
        assert!(matches!(spool.append(&document(version, "id", b"x")), Err(Refusal::Full)));
        assert!(!spool.has_room());
        spool.confirm(spool.end(), Some(version));
    }
}

fn last(spool: &Spool) -> Option<(u64, String, Vec<u8>)> {
    spool.last().expect("readable").map(|last| (last.version, last.id, last.body))
}

fn told(version: u64, id: &str, body: &[u8]) -> Option<(u64, String, Vec<u8>)> {
    Some((version, id.to_owned(), body.to_vec()))
}

fn confirm_all(spool: &Spool) {
    spool.confirm(spool.end(), spool.newest());
}

/// Files of documents.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "events"))
        .collect();
    files.sort();
    files
}

fn shorten(path: &Path, by: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("opened");
    file.set_len(file.metadata().expect("there").len() - by).expect("cut");
}

#[test]
fn the_last_document_is_known_after_it_is_confirmed_and_in_whatever_life() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path(), 4 << 20);
    assert_eq!(last(&spool), None);
    spool.append(&Frame::bare(Kind::Mark, 1)).expect("room");
    assert_eq!(last(&spool), None, "no document");
    spool.append(&document(2, "two", b"{\"n\":2}")).expect("room");
    let listed = Frame { kind: Kind::Unordered, ..document(1, "three", b"{\"n\":3}") };
    spool.append(&listed).expect("room");
    spool.append(&Frame::bare(Kind::Mark, 4)).expect("room");
    let three = told(1, "three", b"{\"n\":3}");
    assert_eq!(last(&spool), three);
    confirm_all(&spool);
    assert_eq!(last(&spool), three);
    drop(spool);
    for life in 0..3 {
        let spool = open(folder.path(), 4 << 20);
        assert_eq!(last(&spool), three, "{life}");
        assert_eq!(
            (spool.newest(), spool.confirmed().offset),
            (Some(4), if life == 0 { 0 } else { spool.end() })
        );
        confirm_all(&spool);
        assert_eq!(last(&spool), three, "{life}");
        spool.keep().expect("kept");
    }
    // Files that have no document in them come and go.
    let spool = open(folder.path(), 1 << 20);
    for version in 5..5000 {
        spool.append(&Frame::bare(Kind::Mark, version)).expect("room");
    }
    confirm_all(&spool);
    spool.reset().expect("reset");
    assert_eq!(last(&spool), three);
    assert_eq!(files_in(folder.path()).len(), 2, "the last document's, and the one that is written");
    drop(spool);
    let spool = open(folder.path(), 1 << 20);
    assert_eq!(last(&spool), three);
    spool.append(&document(7, "seven", b"")).expect("room");
    assert_eq!(last(&spool), told(7, "seven", b""));
}

#[test]
fn one_confirmed_file_stays_whatever_was_appended() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path(), 1 << 20);
    let body = vec![b'x'; 30_000];
    for version in 1..100 {
        spool.append(&document(version, "id", &body)).expect("room");
        confirm_all(&spool);
        assert!(spool.bytes() <= (64 << 10) + 31_000, "{}", spool.bytes());
        assert!(files_in(folder.path()).len() <= 2);
        assert_eq!(last(&spool), told(version, "id", &body));
    }
}

#[test]
fn when_the_last_document_is_torn_the_one_before_it_is_the_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path(), 4 << 20);
    for (version, id) in [(1, "one"), (2, "two")] {
        spool.append(&document(version, id, id.as_bytes())).expect("room");
    }
    confirm_all(&spool);
    spool.keep().expect("kept");
    drop(spool);
    // In another file, and the one before it is put aside.
    let spool = open(folder.path(), 4 << 20);
    spool.append(&document(3, "three", b"three")).expect("room");
    spool.append(&document(4, "four", b"four")).expect("room");
    spool.confirm(spool.end() - document(4, "four", b"four").length() as u64, Some(3));
    drop(spool);
    let written = files_in(folder.path()).into_iter().find(|path| !path.ends_with("last.events"));
    let written = written.expect("a file");
    shorten(&written, 1);
    let spool = open(folder.path(), 4 << 20);
    assert_eq!(last(&spool), told(3, "three", b"three"));
    drop(spool);
    shorten(&written, 1);
    let spool = open(folder.path(), 4 << 20);
    assert_eq!(last(&spool), told(2, "two", b"two"));
    drop(spool);
    shorten(&path_aside(folder.path()), 1);
    let spool = open(folder.path(), 4 << 20);
    assert_eq!(last(&spool), told(1, "one", b"one"));
    std::fs::write(path_aside(folder.path()), b"what is this").expect("written");
    assert_eq!(last(&spool), None);
    std::fs::remove_file(path_aside(folder.path())).expect("removed");
    assert_eq!(last(&spool), None);
    spool.append(&document(5, "five", b"five")).expect("room");
    assert_eq!(last(&spool), told(5, "five", b"five"));
}

#[test]
fn a_file_that_cannot_be_put_aside_is_still_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path(), 4 << 20);
    spool.append(&document(1, "one", b"one")).expect("room");
    confirm_all(&spool);
    drop(spool);
    // Nothing is renamed over a folder, whoever one is.
    std::fs::create_dir(path_aside(folder.path())).expect("made");
    let spool = open(folder.path(), 4 << 20);
    confirm_all(&spool);
    assert_eq!(last(&spool), told(1, "one", b"one"));
    drop(spool);
    let spool = open(folder.path(), 4 << 20);
    assert_eq!(last(&spool), told(1, "one", b"one"));
}

#[test]
fn what_the_disk_does_not_give_is_not_taken_for_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path(), 4 << 20);
    std::fs::create_dir(path_aside(folder.path())).expect("made");
    assert!(matches!(spool.last(), Err(SpoolError::Failed { path, .. }) if path.ends_with("last.events")));
}

#[test]
fn what_earlier_versions_have_written_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let entry = |kind: u8, version: u64, id: &[u8], body: &[u8]| {
        let mut payload = vec![kind];
        payload.extend_from_slice(&version.to_le_bytes());
        payload.extend_from_slice(&5_i64.to_le_bytes());
        payload.extend_from_slice(&6_i64.to_le_bytes());
        payload.extend_from_slice(&(id.len() as u16).to_le_bytes());
        payload.extend_from_slice(id);
        payload.extend_from_slice(body);
        let sum = crc32fast::hash(&payload).to_le_bytes();
        [&(payload.len() as u32).to_le_bytes()[..], &sum, &payload].concat()
    };
    let first = entry(1, 3, b"c:u:3", b"{}");
    let rest = [entry(0, 9, b"c:v:9", b"{\"a\":1}"), entry(2, 12, b"", b"")].concat();
    let head = [&b"TFEVENT1"[..], &7_u128.to_le_bytes(), &100_u64.to_le_bytes()].concat();
    std::fs::write(folder.path().join("00000000000000000100.events"), [head, first.clone(), rest].concat())
        .expect("written");
    let place = 100 + first.len() as u64;
    let confirmed = format!(r#"{{"offset":{place},"version":3,"cluster":"c"}}"#);
    std::fs::write(folder.path().join("confirmed.json"), &confirmed).expect("written");
    let spool = open(folder.path(), 4 << 20);
    assert_eq!(spool.confirmed(), Confirmed { offset: place, version: Some(3), owner: "c".to_owned() });
    assert_eq!((spool.id(), spool.newest(), spool.stored()), (FileId(7), Some(12), Some(3)));
    let mut entries = Vec::new();
    spool.for_each(place, |frame| entries.push((frame.kind, frame.version))).expect("readable");
    assert_eq!(entries, [(Kind::Unordered, 9), (Kind::Mark, 12)]);
    assert_eq!(last(&spool), told(9, "c:v:9", b"{\"a\":1}"));
    spool.keep().expect("kept");
    let kept = std::fs::read_to_string(folder.path().join("confirmed.json")).expect("read");
    assert_eq!(kept, confirmed);
}
