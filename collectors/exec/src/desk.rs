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
use crate::config::Recording;
use crate::document::{Clock, Document, plain};
use crate::kept::Kept;
use crate::recording::{Fate, Part};
use crate::request::{self, Attributor, Known};
use crate::session::{Summary, Unread};
use crate::status::Status;
use crate::undecided::{Undecided, Verdict};
use crate::watch::since_start;
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
    /// Containers of which it is not known yet whether somebody looks into a pod by them.
    undecided: Undecided,
    /// Those of which it is, and what was held of them may not be on the disk yet.
    decided: Vec<u64>,
    /// Sessions of which everything is wished to be told.
    wished: Vec<u64>,
    /// Whether that is so of the record that is given next.
    is_taken: bool,
}

impl Desk {
    pub(crate) fn new(
        book: Book,
        spool: Arc<Spool>,
        chain: Chain,
        kept: Kept,
        undecided: Undecided,
        status: Arc<Status>,
        remembered: usize,
    ) -> Self {
        let (waiting, decided, wished) = (Page::default(), Vec::new(), Vec::new());
        Desk {
            book,
            spool,
            chain,
            kept,
            status,
            remembered,
            waiting,
            undecided,
            decided,
            wished,
            is_taken: false,
        }
    }

    /// Goes on with the sessions of the life before.
    pub(crate) fn resume(&mut self) {
        for number in self.undecided.held() {
            self.undecided.records(number).iter().for_each(|record| self.book.meet(record));
        }
        for open in self.kept.all().unwrap_or_default() {
            self.status.opened(&open, false);
            self.book.resume(open);
        }
    }

    /// Takes one record, if the disk takes what comes of it; what was not taken is to be given again.
    pub(crate) fn record(&mut self, bytes: &[u8], clock: Clock) -> bool {
        // Not again, when something of it had to wait.
        if !self.is_taken {
            let Ok(record) = Record::read(bytes) else {
                self.status.malformed.fetch_add(1, Ordering::Relaxed);
                return true;
            };
            self.book.meet(&record);
            if self.undecided.is_about(&record, &self.book) {
                return self.hold(&record, bytes);
            }
            let page = self.book.take(&record, clock);
            self.waiting.add(page);
        }
        self.is_taken = !self.flush();
        !self.is_taken
    }

    /// What becomes of what is recorded of a session.
    pub(crate) fn fate(&self, number: u64) -> Fate {
        match self.book.open().get(&number) {
            Some(open) if open.recording == Recording::Full && open.supposed => Fate::Held,
            Some(open) if open.recording == Recording::Full => Fate::Wanted,
            Some(_) => Fate::Unwanted,
            None if self.undecided.is_held(number) => Fate::Held,
            None if self.undecided.is_decided(number) => Fate::Unwanted,
            None => Fate::Unknown,
        }
    }

    /// Whether it is a session that is written down.
    pub(crate) fn is_open(&self, number: u64) -> bool {
        self.book.open().contains_key(&number)
    }

    /// What became known of who asks for sessions.
    pub(crate) fn attribute(&mut self, attributor: &mut Attributor, clock: Clock) {
        for verdict in attributor.round(self.book.open(), now()) {
            self.note(&verdict, attributor);
            let page = self.book.judge(verdict, clock);
            self.waiting.add(page);
        }
        let gone = self.book.leave_gone(now());
        self.waiting.add(gone);
        self.flush();
    }

    fn note(&self, verdict: &request::Verdict, attributor: &Attributor) {
        let request::Verdict::Of(number, attribution) = verdict else { return };
        let Some(open) = self.book.open().get(number) else { return };
        if open.attribution.known == attribution.known {
            return;
        }
        attributor.decided(attribution.known);
        if attribution.known == Known::OutOfBand {
            let (session, place) = (&open.id, plain(&open.whose.display()));
            tracing::warn!(
                session,
                place,
                "somebody is in a container who has not asked the API server for it"
            );
        }
    }

    /// Keeps a record until it is known whether it is somebody's.
    fn hold(&mut self, record: &Record, bytes: &[u8]) -> bool {
        let failed = self.undecided.hold(record, bytes).err();
        let held = failed.is_none();
        self.status.set_trouble("undecided", failed.map(|error| {
            format!("what new containers do waits in the kernel: {error}; see that the state directory can be written to")
        }));
        held
    }

    /// Decides what can be decided now, and takes what was held of it.
    pub(crate) fn decide(&mut self, clock: Clock) {
        let settled = self.book.suppose_no_more(since_start());
        self.waiting.turns.extend(settled);
        for (number, verdict) in self.undecided.decide(&self.book) {
            if verdict == Verdict::Debug {
                self.book.is_debug(number);
                self.wished.push(number);
            }
            for record in self.undecided.records(number) {
                let page = self.book.take(&record, clock);
                self.waiting.add(page);
            }
            self.decided.push(number);
        }
        self.flush();
    }

    /// Sessions of which everything is to be told from now on, each once.
    pub(crate) fn take_wished(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.wished)
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
        if !self.waiting.is_empty() {
            return self.flush();
        }
        self.decided.drain(..).for_each(|number| self.undecided.let_go(number));
        true
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Opened(number) | Turn::Changed(number) => {
                let Some(open) = self.book.open().get(&number) else { return };
                self.status.opened(open, matches!(turn, Turn::Opened(_)));
                let failed = self.kept.put(open).err();
                let (is_ending, is_unkept) = (open.ending.is_some(), failed.is_some());
                self.status.set_trouble("kept", failed.map(|error| {
                    format!("the next life will not know what began the sessions of now: {error}; see that the state directory can be written to")
                }));
                // Its end would be forgotten with this life.
                if is_ending && is_unkept {
                    let page =
                        self.book.give_up(number, "that its end waits for it could not be written down");
                    self.waiting.add(page);
                }
            }
            Turn::Closed(number, summary) => self.ended(number, *summary),
        }
    }

    fn ended(&mut self, number: u64, summary: Summary) {
        self.kept.remove(number);
        self.status.closed(number, summary, self.remembered);
    }

    /// Puts down a part of a recording, if nothing waits and the disk takes it.
    pub(crate) fn recorded(&mut self, number: u64, part: &Part, clock: Clock) -> bool {
        let Some(document) = self.book.recording(number, part, clock) else { return false };
        self.flush() && append(&document, &self.spool, &mut self.chain, &self.status)
    }

    /// A session has ended whose end was told before, and nothing of its recording is to come any more.
    pub(crate) fn finish(&mut self, number: u64, clock: Clock) -> bool {
        let unread = self.book.open().get(&number).and_then(|open| open.unread.clone());
        let Some(Unread { session, number: last, time }) = unread else { return true };
        let page = self.book.close(number, &session, Some(last), time, clock);
        self.page(page)
    }

    /// Tells the ends that were told before and have waited for a recording of which nothing can come any more, because of `why`.
    pub(crate) fn finish_all(&mut self, why: &str, clock: Clock) {
        let waiting = self.book.open().values().filter(|open| open.unread.is_some());
        for number in waiting.map(|open| open.number).collect::<Vec<_>>() {
            self.book.recorded(number, Err(why.to_owned()));
            self.finish(number, clock);
        }
    }

    /// A session has ended, as far as can be found out. Whether that could be put down.
    pub(crate) fn close(&mut self, number: u64, session: &Session, at: u64, clock: Clock) -> bool {
        let page = self.book.close(number, session, None, at, clock);
        self.page(page)
    }
}

/// Puts a document into the chain and on the disk, if that takes it.
fn append(document: &Document, spool: &Spool, chain: &mut Chain, status: &Status) -> bool {
    let bytes = document.bytes(&chain.place());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::tests::{CLOCK, book, enter, record};
    use crate::config::Policy;
    use crate::wire::{Flags, What};

    #[test]
    fn an_end_that_waited_for_a_recording_is_told_by_a_life_that_records_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = Arc::new(Spool::open(&folder.path().join("spool"), 4 << 20, &|| ()).expect("a spool"));
        let status = Arc::new(Status::default());
        let full = Policy { record: Recording::Full, ..Policy::default() };
        let desk = || {
            let book = book(std::slice::from_ref(&full), false);
            let kept = Kept::open(&folder.path().join("open"), "boot-1").expect("a folder");
            let undecided = Undecided::open(&folder.path().join("undecided"), "boot-1").expect("a folder");
            let chain = Chain::resume("boot-1", 1, None);
            Desk::new(book, Arc::clone(&spool), chain, kept, undecided, Arc::clone(&status), 10)
        };
        let mut first = desk();
        first.book.can_record(None);
        let page = enter(&mut first.book);
        assert!(first.page(page));
        let page = first.book.take(&record(1, Flags::default(), What::End(Session::default())), CLOCK);
        assert!(first.page(page) && first.is_open(5), "its recording is still to come");

        let mut second = desk();
        second.resume();
        assert!(second.is_open(5));
        second.finish_all("nobody records any more", CLOCK);
        assert!(!second.is_open(5) && second.kept.all().expect("read").is_empty());
        let sessions = status.sessions();
        assert_eq!(sessions[0].gaps, ["recording: there is none: nobody records any more"]);
        assert!(sessions[0].ended.is_some());
    }
}
