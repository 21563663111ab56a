use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::Receiver;
use proptest::prelude::*;
use taffrail_record::{Beat, Budget, BufferPool, Ledger, Outlet, Stop};

use super::*;
use crate::frame::Frame;

const ACCOUNT: [&str; 3] = ["", "", "documents"];

#[derive(Default)]
struct Told {
    sent: AtomicU64,
    again: AtomicU64,
    waiting: AtomicU64,
}

impl Observer for Told {
    fn waiting(&self, bytes: u64, _: f64) {
        self.waiting.store(bytes, Ordering::Relaxed);
    }

    fn sent(&self, documents: u64, again: bool) {
        self.sent.fetch_add(documents, Ordering::Relaxed);
        self.again.fetch_add(if again { documents } else { 0 }, Ordering::Relaxed);
    }

    fn set_trouble(&self, _: &'static str, _: Option<String>) {}
}

struct Line {
    spool: Spool,
    context: Context,
    batches: Receiver<Batch>,
    told: Told,
    _folder: tempfile::TempDir,
}

fn line() -> Line {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = Spool::open(folder.path(), 8 << 20, &|| {}).expect("a spool");
    let (outlet, batches) = Outlet::channel(100);
    let context = Context {
        outlet,
        stop: Stop::new(),
        beat: Beat::new(),
        budget: Budget::new(64 << 20),
        pool: BufferPool::new(4, 1 << 20),
        ledger: Ledger::new(),
    };
    Line { spool, context, batches, told: Told::default(), _folder: folder }
}

impl Line {
    fn sender(&self) -> Sender<'_> {
        let contents =
            Contents { origin: Arc::default(), payload: Payload::Event, account: ACCOUNT, name: "documents" };
        Sender::new(&self.spool, &self.context, contents, &self.told)
    }

    fn append(&self, kind: Kind, version: u64, body: &[u8]) {
        let id = version.to_string();
        let frame = Frame { kind, version, time: 5, observed: 6, id: &id, body };
        self.spool.append(&frame).expect("room");
    }

    fn adds_up(&self) {
        assert_eq!(self.context.ledger.account(ACCOUNT).balance().difference(), 0);
    }
}

fn ids(batch: &Batch) -> Vec<String> {
    let id = |record: &Record| {
        record.extra.as_ref().and_then(|extra| extra.id.clone()).expect("an id").to_string()
    };
    batch.records.iter().map(id).collect()
}

#[test]
fn a_batch_has_the_documents_with_their_ids_and_the_position_follows_its_receipt() {
    let line = line();
    let mut sender = line.sender();
    line.append(Kind::InOrder, 3, b"{\"a\":1}");
    line.append(Kind::Unordered, 9, b"{\"b\":1}");
    line.append(Kind::Mark, 4, b"");
    sender.step().expect("sent");
    let batch = line.batches.try_recv().expect("a batch");
    assert_eq!((batch.payload, ids(&batch)), (Payload::Event, vec!["3".to_owned(), "9".to_owned()]));
    assert_eq!(batch.body(&batch.records[1]), b"{\"b\":1}");
    assert_eq!(batch.records.iter().map(Record::length).sum::<u64>(), 14);
    sender.step().expect("nothing");
    assert_eq!(line.spool.stored(), None);
    assert_eq!(line.told.waiting.load(Ordering::Relaxed), line.spool.end());
    batch.receipt.confirm();
    sender.step().expect("nothing");
    assert_eq!(line.spool.stored(), Some(4));
    assert_eq!(line.spool.confirmed().offset, line.spool.end());
    assert_eq!(line.told.waiting.load(Ordering::Relaxed), 0);
    line.adds_up();
    // What says only how far it came is passed without a batch.
    line.append(Kind::Mark, 8, b"");
    sender.step().expect("read");
    sender.step().expect("settled");
    assert_eq!((line.batches.len(), line.spool.stored()), (0, Some(8)));
}

#[test]
fn what_is_abandoned_is_sent_again_from_there_on() {
    let line = line();
    let mut sender = line.sender();
    for version in 1..=3 {
        line.append(Kind::InOrder, version, b"{}");
        sender.step().expect("sent");
    }
    let mut batches: Vec<Batch> = line.batches.try_iter().collect();
    batches.pop().expect("the third").receipt.confirm();
    drop(batches.pop().expect("the second"));
    batches.pop().expect("the first").receipt.confirm();
    sender.step().expect("again");
    assert_eq!(line.spool.stored(), Some(1));
    let again = line.batches.try_recv().expect("a batch");
    assert_eq!(ids(&again), ["2", "3"]);
    again.receipt.confirm();
    sender.step().expect("settled");
    assert_eq!(line.spool.stored(), Some(3));
    let told = [&line.told.sent, &line.told.again].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(told, [5, 2]);
    line.adds_up();
}

#[test]
fn what_is_refused_is_declared_before_the_position_passes_it() {
    let line = line();
    let mut sender = line.sender();
    line.append(Kind::InOrder, 1, b"{\"fine\":1}");
    line.append(Kind::InOrder, 2, b"{\"bad\":1}");
    sender.step().expect("sent");
    let mut batch = line.batches.try_recv().expect("a batch");
    let refused = batch.records[1].span;
    batch.lose(1, LossReason::Refused);
    batch.receipt.confirm();
    sender.step().expect("stated");
    assert_eq!(line.spool.stored(), None);
    let statement = line.batches.try_recv().expect("a statement");
    assert_eq!(statement.payload, Payload::Statement);
    let document: serde_json::Value =
        serde_json::from_slice(statement.body(&statement.records[0])).expect("JSON");
    let lost = &document["ledger"]["lost"][0];
    assert_eq!((lost["offset"].as_u64(), lost["reason"].as_str()), (Some(refused.start), Some("refused")));
    statement.receipt.confirm();
    sender.step().expect("settled");
    assert_eq!(line.spool.stored(), Some(2));
    line.adds_up();
}

#[test]
fn versions_begin_anew_after_a_reset() {
    let line = line();
    let mut sender = line.sender();
    line.append(Kind::InOrder, 100, b"{}");
    line.spool.reset().expect("reset");
    line.append(Kind::Unordered, 3, b"{}");
    sender.step().expect("sent");
    line.batches.try_recv().expect("a batch").receipt.confirm();
    sender.step().expect("settled");
    assert_eq!(line.spool.stored(), None);
    line.append(Kind::Mark, 5, b"");
    sender.step().expect("read");
    sender.step().expect("settled");
    assert_eq!(line.spool.stored(), Some(5));
}

#[test]
fn a_file_that_somebody_took_away_is_a_declared_loss() {
    let line = line();
    let mut sender = line.sender();
    line.append(Kind::InOrder, 1, b"{}");
    for entry in std::fs::read_dir(line.spool.folder()).expect("listed").flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "events") {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
    sender.step().expect("lost");
    sender.step().expect("stated");
    let statement = line.batches.try_recv().expect("a statement");
    statement.receipt.confirm();
    sender.step().expect("settled");
    assert_eq!(line.spool.confirmed().offset, line.spool.end());
    let balance = line.context.ledger.account(ACCOUNT).balance();
    assert_eq!((balance.difference(), balance.lost_bytes()), (0, line.spool.end()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is confirmed, abandoned or left in whatever order, each document is confirmed once at least, and the version
    /// that counts as stored never passes one that is not.
    #[test]
    fn the_stored_version_never_passes_a_document_that_is_not_stored(
        steps in prop::collection::vec((0_u8..4, any::<prop::sample::Index>()), 1..80),
    ) {
        let line = line();
        let mut sender = line.sender();
        let (mut version, mut open) = (0, Vec::<Batch>::new());
        let mut stored = std::collections::BTreeSet::new();
        let mut confirm = |batch: Batch| {
            stored.extend(ids(&batch).into_iter().map(|id| id.parse::<u64>().expect("a number")));
            batch.receipt.confirm();
            stored.clone()
        };
        let mut known = std::collections::BTreeSet::new();
        for (step, index) in steps {
            match step {
                0 => {
                    version += 1;
                    line.append(Kind::InOrder, version, b"{}");
                }
                1 if !open.is_empty() => known = confirm(open.swap_remove(index.index(open.len()))),
                2 if !open.is_empty() => drop(open.swap_remove(index.index(open.len()))),
                _ => if line.spool.end() > sender.at || sender.tracker.is_abandoned() {
                    sender.step().expect("sent");
                },
            }
            sender.settle();
            open.extend(line.batches.try_iter());
            let prefix = (1..).take_while(|version| known.contains(version)).last();
            prop_assert!(line.spool.stored() <= prefix, "{:?} of {:?}", line.spool.stored(), prefix);
        }
        for _ in 0..200 {
            open.drain(..).for_each(|batch| { confirm(batch); });
            if line.spool.stored().unwrap_or(0) == version { break; }
            sender.step().expect("sent");
            open.extend(line.batches.try_iter());
        }
        prop_assert_eq!(line.spool.stored().unwrap_or(0), version);
        line.adds_up();
    }
}
