//! From the spool to the pipeline: batches under the budget, and what is confirmed of them.
//!
//! The spool is to it what a file is to the log collector: its [`Tracker`] is the contiguous confirmed prefix, and what the
//! pipeline does not settle is read again.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use taffrail_record::{
    Account, Batch, Changes, Charge, Context, Extra, FileId, Flags, Hold, LossReason, Origin, OutletClosed,
    Payload, Receipt, Record, Source, Span, Statement, StatementKind, Stream, Tracker,
};

use crate::files::{Piece, Reader};
use crate::frame::{Found, Kind, decode};
use crate::spool::Spool;
use crate::time::{now, stamp};

/// How much is read, and so sent, at once. One larger document goes by itself.
const BLOCK: usize = 512 << 10;
const DOCUMENTS: usize = 500;
/// How long to wait for what may come at any time.
const WAIT: Duration = Duration::from_millis(100);
/// How long to wait while the pipeline is full.
const FULL: Duration = Duration::from_millis(10);
/// How often what is confirmed is written down.
const KEEP: Duration = Duration::from_secs(1);

/// What a [`Sender`] sends.
#[derive(Debug, Clone)]
pub struct Contents {
    /// Who the documents are about, and in which kind of place they were found.
    pub origin: Arc<Origin>,
    /// What the documents are, and so where they go.
    pub payload: Payload,
    /// Whose account they are on in the ledger: namespace, pod and container, each empty when it does not apply.
    pub account: [&'static str; 3],
    /// What they are called in messages, such as `events`.
    pub name: &'static str,
}

/// Who is told how a [`Sender`] fares.
pub trait Observer {
    /// So many bytes wait to be confirmed, and for `lag` seconds the oldest document that was sent. Told at each step.
    fn waiting(&self, bytes: u64, lag: f64);

    /// So many documents were handed to the pipeline; `again` when it had them before and has not said that they are stored.
    fn sent(&self, documents: u64, again: bool);

    /// What is wrong with one part (`read`, `kept`) and what to do about it, or that nothing is. Told again and again.
    fn set_trouble(&self, part: &'static str, what: Option<String>);
}

/// Sends what is in a spool.
pub struct Sender<'a> {
    spool: &'a Spool,
    context: &'a Context,
    observer: &'a dyn Observer,
    contents: Contents,
    source: Arc<Source>,
    account: Arc<Account>,
    tracker: Arc<Tracker>,
    reader: Reader,
    /// The place that is read next.
    at: u64,
    /// Before it, everything was sent once.
    sent: u64,
    /// Everything up to this version was read.
    version: Option<u64>,
    under_way: VecDeque<Sent>,
    kept: Instant,
}

/// A piece that was read and is not confirmed.
struct Sent {
    end: u64,
    /// Everything up to this version is before its end.
    version: Option<u64>,
    /// When its first document was put into the spool.
    observed: i64,
}

/// What was read of the spool: entries one after the other.
struct Taken {
    piece: Piece,
    data: Vec<u8>,
    records: Vec<Record>,
    used: usize,
    observed: i64,
    charge: Charge,
}

impl<'a> Sender<'a> {
    /// One that begins with what is not confirmed.
    #[must_use]
    pub fn new(
        spool: &'a Spool,
        context: &'a Context,
        contents: Contents,
        observer: &'a dyn Observer,
    ) -> Self {
        let confirmed = spool.confirmed();
        let source = Source { id: spool.id(), path: spool.folder().to_owned(), device: 0, inode: 0 };
        Sender {
            spool,
            context,
            observer,
            source: Arc::new(source),
            account: context.ledger.account(contents.account),
            contents,
            tracker: Tracker::new(0, confirmed.offset, &Changes::new()),
            reader: Reader::default(),
            at: confirmed.offset,
            sent: confirmed.offset,
            version: confirmed.version,
            under_way: VecDeque::new(),
            kept: Instant::now(),
        }
    }

    /// Sends one batch, if there is something to send and room for it; waits a moment otherwise.
    ///
    /// # Errors
    /// [`OutletClosed`] when it is to end.
    pub fn step(&mut self) -> Result<(), OutletClosed> {
        self.context.beat.beat();
        if let Some(position) = self.tracker.take_rewind() {
            self.rewind(position);
        }
        self.settle();
        self.state_losses()?;
        if self.spool.end() <= self.at {
            self.spool.wait(self.at, WAIT);
            return Ok(());
        }
        if self.context.outlet.is_full() {
            let _ = self.context.stop.wait(FULL);
            return Ok(());
        }
        let Some(charge) = self.context.budget.take(BLOCK as u64, WAIT) else { return Ok(()) };
        self.send(charge)
    }

    /// Waits until what was sent is settled, for so long at most.
    pub fn drain(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while !self.tracker.is_settled() && !self.tracker.is_abandoned() && Instant::now() < deadline {
            self.context.beat.beat();
            self.settle();
            std::thread::sleep(FULL);
        }
        self.settle();
        self.keep();
    }

    fn rewind(&mut self, position: u64) {
        tracing::debug!(from = self.at, to = position, "{} are sent again", self.contents.name);
        self.at = position;
        self.under_way.retain(|sent| sent.end <= position);
        self.version = self.under_way.back().map_or(self.spool.confirmed().version, |sent| sent.version);
    }

    /// Lets the spool go of what is confirmed.
    fn settle(&mut self) {
        let position = self.tracker.position();
        let mut confirmed = self.spool.confirmed();
        while let Some(front) = self.under_way.front().filter(|front| front.end <= position) {
            (confirmed.offset, confirmed.version) = (front.end, front.version);
            self.under_way.pop_front();
        }
        if confirmed.offset != self.spool.confirmed().offset {
            self.spool.confirm(confirmed.offset, confirmed.version);
        }
        self.account.set_lag(self.spool.end().saturating_sub(self.at));
        self.show(confirmed.offset);
        if self.kept.elapsed() >= KEEP {
            self.keep();
        }
    }

    fn show(&self, confirmed: u64) {
        let waited = self.under_way.front().filter(|front| front.observed > 0).map(|f| now() - f.observed);
        let bytes = self.spool.end().saturating_sub(confirmed);
        self.observer.waiting(bytes, waited.unwrap_or(0).max(0) as f64 / 1e9);
    }

    fn keep(&mut self) {
        self.kept = Instant::now();
        let trouble = self.spool.keep().err();
        let trouble = trouble.map(|error| format!("a crash now repeats {}: {error}", self.contents.name));
        self.observer.set_trouble("kept", trouble);
    }

    fn send(&mut self, charge: Charge) -> Result<(), OutletClosed> {
        let Some(taken) = self.take(charge) else { return Ok(()) };
        let end = taken.piece.start + taken.used as u64;
        let (observed, version) = (taken.observed, self.version);
        let batch = (!taken.records.is_empty()).then(|| self.batch(taken));
        self.tracker.attribute(end);
        self.under_way.push_back(Sent { end, version, observed });
        self.at = end;
        self.sent = self.sent.max(end);
        match batch {
            Some(batch) => self.context.outlet.send(batch, &self.context.stop, &self.context.beat),
            None => Ok(()),
        }
    }

    fn take(&mut self, charge: Charge) -> Option<Taken> {
        let (mut data, records) = self.context.pool.take();
        let read = self.reader.read(self.spool, self.at, BLOCK, &mut data);
        let trouble =
            read.as_ref().err().map(|error| format!("the spool cannot be read: {error}; see to its disk"));
        self.observer.set_trouble("read", trouble);
        let piece = match read {
            Ok(piece) => piece?,
            Err(error) => {
                self.unreadable(&error);
                return None;
            }
        };
        let file_end = piece.file_end;
        let mut taken = Taken { piece, data, records, used: 0, observed: 0, charge };
        self.entries(&mut taken);
        if taken.used == 0 {
            self.lose(taken.piece.start, file_end);
            return None;
        }
        Some(taken)
    }

    fn entries(&mut self, taken: &mut Taken) {
        while taken.records.len() < DOCUMENTS {
            let Found::Whole(frame, body, length) = decode(&taken.data[taken.used..]) else { return };
            match frame.kind {
                Kind::InOrder | Kind::Mark => self.version = Some(frame.version),
                Kind::Reset => self.version = None,
                Kind::Unordered => {}
            }
            if frame.is_document() {
                let place = taken.piece.start + (taken.used + body.start) as u64;
                if taken.records.is_empty() {
                    taken.observed = frame.observed;
                }
                let extra = Extra { id: Some(frame.id.into()), ..Extra::default() };
                taken.records.push(Record {
                    body: (taken.used + body.start) as u32..(taken.used + body.end) as u32,
                    span: Span::at(place, body.len() as u64),
                    time: frame.time,
                    stream: Stream::None,
                    flags: Flags::NONE,
                    extra: Some(Box::new(extra)),
                });
            }
            taken.used += length;
        }
    }

    fn batch(&self, taken: Taken) -> Batch {
        let Taken { piece, mut data, records, used, mut charge, .. } = taken;
        data.truncate(used);
        let bytes: u64 = records.iter().map(Record::length).sum();
        let count = records.len() as u64;
        self.observer.sent(count, piece.start < self.sent);
        charge.resize((data.len() + records.len() * (size_of::<Record>() + size_of::<Extra>() + 128)) as u64);
        let hold = self.tracker.hold_records(piece.start, bytes);
        self.account.read(bytes);
        self.account.set_newest(records.iter().map(|record| record.time).max().unwrap_or(0));
        let receipt =
            Receipt::new(vec![(self.source.id, hold)], Arc::clone(&self.account), &records, Some(charge));
        Batch {
            payload: self.contents.payload,
            origin: Arc::clone(&self.contents.origin),
            source: Arc::clone(&self.source),
            data,
            records,
            receipt,
        }
    }

    fn unreadable(&mut self, error: &io::Error) {
        match error.kind() {
            // Somebody has taken it away or cut it.
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {
                self.lose(self.at, self.spool.file_end(self.at));
            }
            _ => {
                let _ = self.context.stop.wait(Duration::from_secs(1));
            }
        }
    }

    /// Nothing between these places can be read any more.
    fn lose(&mut self, start: u64, end: u64) {
        let folder = self.spool.folder().display();
        tracing::error!(start, end, %folder, "{} on the disk are damaged, and lost", self.contents.name);
        self.account.lose_unread(end - start, LossReason::Unreadable);
        self.tracker.lose(Span { start, end }, LossReason::Unreadable);
        self.tracker.attribute(end);
        self.under_way.push_back(Sent { end, version: self.version, observed: 0 });
        self.at = end;
    }

    /// Declares what was refused for good: the position waits for that.
    fn state_losses(&mut self) -> Result<(), OutletClosed> {
        if self.tracker.undeclared() == 0 || self.context.outlet.is_full() {
            return Ok(());
        }
        let (lost, holds) = self.tracker.take_lost();
        let statement = Statement {
            kind: StatementKind::Damaged,
            fingerprint: self.source.id.to_string(),
            path: self.source.path.display().to_string(),
            from: 0,
            size: self.spool.end(),
            confirmed: self.tracker.position(),
            lost: lost.into_iter().map(Into::into).collect(),
        };
        let id = self.source.id;
        let batch = self.statement(&statement, holds.into_iter().map(|hold| (id, hold)).collect());
        self.context.outlet.send(batch, &self.context.stop, &self.context.beat)
    }

    fn statement(&self, statement: &Statement, holds: Vec<(FileId, Hold)>) -> Batch {
        let node = &self.contents.origin.node;
        let mut document =
            json!({ "@timestamp": stamp(now()), "ledger": statement, "host": { "name": node.name } });
        if !node.cluster.is_empty() {
            document["orchestrator"] = json!({ "cluster": { "name": node.cluster } });
        }
        let data = document.to_string().into_bytes();
        let record = Record {
            body: 0..data.len() as u32,
            span: Span::at(0, 0),
            time: now(),
            stream: Stream::None,
            flags: Flags::NONE,
            extra: None,
        };
        Batch {
            payload: Payload::Statement,
            origin: Arc::clone(&self.contents.origin),
            source: Arc::clone(&self.source),
            data,
            records: vec![record],
            receipt: Receipt::for_statements(holds, Arc::clone(&self.account)),
        }
    }
}

#[cfg(test)]
mod tests;
