//! Between the probe's reader and the spool: what came of a record is put into the chain, on the disk, and into the list of
//! sessions, in this order.
//!
//! Guarantee: a record is taken only when all that came of it is on the disk. What is there and not said to be taken is told again
//! by the kernel in the next life, under the same ids.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use taffrail_spool::{Frame, Kind, Observer as _, Refusal, Spool, now};

use crate::book::{Book, Page, Turn};
use crate::chain::Chain;
use crate::document::{Clock, Document};
use crate::kept::Kept;
use crate::session::Summary;
use crate::status::Status;
use crate::wire::{Record, Session};

pub(crate) struct Desk {
    pub(crate) book: Book,
    spool: Arc<Spool>,
    chain: Chain,
    kept: Kept,
    status: Arc<Status>,
    remembered: usize,
    /// What came of a record and is not on the disk yet.
    waiting: Page,
}

impl Desk {
    pub(crate) fn new(
        book: Book,
        spool: Arc<Spool>,
        chain: Chain,
        kept: Kept,
        status: Arc<Status>,
        remembered: usize,
    ) -> Self {
        Desk { book, spool, chain, kept, status, remembered, waiting: Page::default() }
    }

    /// Goes on with the sessions of the life before.
    pub(crate) fn resume(&mut self) {
        for open in self.kept.all().unwrap_or_default() {
            self.status.opened(&open, false);
            self.book.resume(open);
        }
    }

    /// Takes one record, if the disk takes what comes of it; what was not taken is to be given again.
    pub(crate) fn record(&mut self, bytes: &[u8], clock: Clock) -> bool {
        // It is the one of which something waits, as nothing else was taken since.
        if self.waiting.is_empty() {
            match Record::read(bytes) {
                Ok(record) => self.waiting = self.book.take(&record, clock),
                Err(_) => {
                    self.status.malformed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        self.flush()
    }

    /// Something other than a record of the ring has come up. Whether it was taken whole.
    pub(crate) fn page(&mut self, page: Page) -> bool {
        self.waiting.add(page);
        self.flush()
    }

    /// Whether nothing waits any more.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(document) = self.waiting.documents.front() {
            if !append(document, &self.spool, &mut self.chain, &self.status) {
                return false;
            }
            self.waiting.documents.pop_front();
        }
        for turn in std::mem::take(&mut self.waiting.turns) {
            self.turn(turn);
        }
        true
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Opened(number) | Turn::Changed(number) => {
                let Some(open) = self.book.open().get(&number) else { return };
                self.status.opened(open, matches!(turn, Turn::Opened(_)));
                let failed = self.kept.put(open).err();
                self.status.set_trouble("kept", failed.map(|error| {
                    format!("the next life will not know what began the sessions of now: {error}; see that the state directory can be written to")
                }));
            }
            Turn::Closed(number, summary) => self.ended(number, *summary),
        }
    }

    fn ended(&mut self, number: u64, summary: Summary) {
        self.kept.remove(number);
        self.status.closed(number, summary, self.remembered);
    }

    /// A session has ended, as far as can be found out. Whether that could be put down.
    pub(crate) fn close(&mut self, number: u64, session: &Session, at: u64, clock: Clock) -> bool {
        let page = self.book.close(number, session, None, at, clock);
        self.page(page)
    }
}

/// Puts a document into the chain and on the disk, if that takes it.
fn append(document: &Document, spool: &Spool, chain: &mut Chain, status: &Status) -> bool {
    let bytes = document.bytes(chain.place());
    let frame = Frame {
        kind: Kind::InOrder,
        version: chain.next(),
        time: document.time,
        observed: now(),
        id: &document.id,
        body: &bytes,
    };
    let trouble = match spool.append(&frame) {
        Ok(()) => {
            chain.add(&bytes);
            status.documents.fetch_add(1, Ordering::Relaxed);
            None
        }
        Err(Refusal::Full) => Some(
            "audit.spool_bytes are full of documents that were not delivered: see to the output; records wait in the kernel, and \
             what does not fit there is counted"
                .to_owned(),
        ),
        Err(Refusal::Failed(error)) => {
            Some(format!("documents cannot be put aside, and wait in the kernel: {error}"))
        }
    };
    let taken = trouble.is_none();
    status.set_trouble("spool", trouble);
    taken
}
