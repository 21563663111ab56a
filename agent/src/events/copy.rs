//! A second way for the cluster's events: to `output`, beside the search engine.
//!
//! Guarantee: the spool lets an event go only when both ways have confirmed it ([`Receipt::beside`]), so neither lacks what
//! the other has. What one of them does not settle goes to both again: the engine keeps it once by its id, and so can
//! whoever reads the copies (`event.id`).
//!
//! [`Receipt::beside`]: taffrail_record::Receipt::beside

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Receiver;
use taffrail_record::{Account, Batch, Beat, Budget, Charge, Outlet, Payload, Stop};

/// How long to wait for room before looking whether the agent ends.
const WAIT: Duration = Duration::from_millis(200);

/// Stands between the events' collector and the search engine's pump.
pub(super) struct Copier {
    /// What comes from the collector.
    pub(super) from: Receiver<Batch>,
    /// The search engine's way.
    pub(super) on: Outlet,
    /// The copies' way.
    pub(super) aside: Outlet,
    /// What bounds the copies.
    pub(super) budget: Arc<Budget>,
    /// The copies' account.
    pub(super) account: Arc<Account>,
    pub(super) stop: Stop,
}

impl Copier {
    pub(super) fn start(self) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("copy-events".to_owned()).spawn(move || self.run())
    }

    /// Ends when the collector has let go of its outlet. What cannot be handed on at the end is abandoned: the next life
    /// sends it.
    fn run(self) {
        let beat = Beat::new();
        for batch in &self.from {
            let copy = match batch.payload {
                Payload::Event => match self.room_for(&batch) {
                    Some(charge) => Some(self.copy(&batch, charge)),
                    None => continue,
                },
                Payload::Line | Payload::Statement | Payload::Audit => None,
            };
            if self.on.send(batch, &self.stop, &beat).is_err() {
                continue;
            }
            if let Some(copy) = copy {
                let _ = self.aside.send(copy, &self.stop, &beat);
            }
        }
    }

    /// Waits for memory; None when the agent ends first.
    fn room_for(&self, batch: &Batch) -> Option<Charge> {
        loop {
            if let Some(charge) = self.budget.take(batch.data.len() as u64, WAIT) {
                return Some(charge);
            }
            if self.stop.is_raised() {
                return None;
            }
        }
    }

    fn copy(&self, batch: &Batch, charge: Charge) -> Batch {
        let bytes = batch.receipt.bytes();
        self.account.read(bytes);
        self.account.set_newest(batch.records.iter().map(|record| record.time).max().unwrap_or(0));
        let receipt = batch.receipt.beside(Arc::clone(&self.account), &batch.records, Some(charge));
        Batch {
            payload: batch.payload,
            origin: Arc::clone(&batch.origin),
            source: Arc::clone(&batch.source),
            data: batch.data.clone(),
            records: batch.records.clone(),
            receipt,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use taffrail_record::{
        Changes, FileId, Flags, Input, Ledger, Node, Origin, Receipt, Record, Source, Span, Stream, Tracker,
    };

    use super::*;

    const FILE: FileId = FileId(7);

    struct Bench {
        to: Outlet,
        engine: Receiver<Batch>,
        output: Receiver<Batch>,
        ledger: Arc<Ledger>,
        budget: Arc<Budget>,
        stop: Stop,
        tracker: Arc<Tracker>,
        thread: JoinHandle<()>,
    }

    impl Bench {
        fn new() -> Self {
            let (to, from) = Outlet::channel(4);
            let (on, engine) = Outlet::channel(4);
            let (aside, output) = Outlet::channel(4);
            let (ledger, budget, stop) = (Ledger::new(), Budget::new(64), Stop::new());
            let copier = Copier {
                from,
                on,
                aside,
                budget: Arc::clone(&budget),
                account: ledger.account(Ledger::EVENTS_COPIED),
                stop: stop.clone(),
            };
            let thread = copier.start().unwrap();
            let tracker = Tracker::new(0, 0, &Changes::new());
            Bench { to, engine, output, ledger, budget, stop, tracker, thread }
        }

        /// An event, or a statement, of these bytes.
        fn send(&self, payload: Payload, span: Span) {
            let account = self.ledger.account(Ledger::EVENTS);
            let record = Record {
                body: 0..span.len() as u32,
                span,
                time: 1,
                stream: Stream::None,
                flags: Flags::NONE,
                extra: None,
            };
            account.read(span.len());
            let hold = self.tracker.hold_records(span.start, span.len());
            self.tracker.attribute(span.end);
            let records = vec![record];
            let receipt = Receipt::new(vec![(FILE, hold)], account, &records, None);
            let node = Arc::new(Node::default());
            let batch = Batch {
                payload,
                origin: Arc::new(Origin { node, input: Input::Events, pod: None, container: None }),
                source: Arc::new(Source { id: FILE, path: PathBuf::new(), device: 0, inode: 0 }),
                data: vec![b'x'; span.len() as usize],
                records,
                receipt,
            };
            self.to.send(batch, &Stop::new(), &Beat::new()).unwrap();
        }

        fn end(self) -> Arc<Ledger> {
            self.stop.raise();
            drop(self.to);
            self.thread.join().unwrap();
            self.ledger
        }
    }

    fn taken(from: &Receiver<Batch>) -> Batch {
        from.recv_timeout(Duration::from_secs(30)).unwrap()
    }

    #[test]
    fn an_event_is_let_go_when_both_ways_have_it_and_each_account_adds_up() {
        let bench = Bench::new();
        bench.send(Payload::Event, Span { start: 0, end: 10 });
        bench.send(Payload::Event, Span { start: 10, end: 30 });
        let (first, second) = (taken(&bench.engine), taken(&bench.engine));
        let (first_copy, second_copy) = (taken(&bench.output), taken(&bench.output));
        assert_eq!((&first_copy.data, &first_copy.records), (&first.data, &first.records));
        first.receipt.confirm();
        second_copy.receipt.confirm();
        assert_eq!(bench.tracker.position(), 0, "the output lacks the first");
        first_copy.receipt.confirm();
        assert_eq!(bench.tracker.position(), 10, "the engine lacks the second");
        second.receipt.confirm();
        assert_eq!(bench.tracker.position(), 30);
        let ledger = bench.end();
        for names in [Ledger::EVENTS, Ledger::EVENTS_COPIED] {
            let balance = ledger.account(names).balance();
            assert_eq!((balance.confirmed.bytes, balance.difference()), (30, 0), "{names:?}");
        }
    }

    #[test]
    fn what_one_way_does_not_settle_is_read_again() {
        for abandons_the_copy in [false, true] {
            let bench = Bench::new();
            bench.send(Payload::Event, Span { start: 0, end: 10 });
            let (original, copy) = (taken(&bench.engine), taken(&bench.output));
            let (kept, lost) = if abandons_the_copy { (original, copy) } else { (copy, original) };
            kept.receipt.confirm();
            drop(lost);
            assert_eq!(bench.tracker.take_rewind(), Some(0), "{abandons_the_copy}");
            bench.end();
        }
    }

    #[test]
    fn statements_go_the_first_way_alone() {
        let bench = Bench::new();
        bench.send(Payload::Statement, Span { start: 0, end: 10 });
        taken(&bench.engine).receipt.confirm();
        assert_eq!(bench.tracker.position(), 10);
        assert!(bench.output.is_empty());
        bench.end();
    }

    #[test]
    fn copies_are_within_the_budget_and_who_waits_for_it_ends_when_told() {
        let bench = Bench::new();
        bench.send(Payload::Event, Span { start: 0, end: 64 });
        let (first, copy) = (taken(&bench.engine), taken(&bench.output));
        bench.send(Payload::Event, Span { start: 64, end: 128 });
        assert!(bench.engine.recv_timeout(WAIT * 2).is_err(), "there is no room for its copy");
        assert_eq!(bench.budget.level().0, 64);
        first.receipt.confirm();
        copy.receipt.confirm();
        let second = taken(&bench.engine);
        bench.send(Payload::Event, Span { start: 128, end: 192 });
        let tracker = Arc::clone(&bench.tracker);
        let output = bench.output.clone();
        bench.end();
        drop((second, output));
        assert_eq!(tracker.take_rewind(), Some(64), "the next life sends both");
    }
}
