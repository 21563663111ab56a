//! Between the watch and the spool: what is observed is filtered, told once, joined with its owner, and put into the spool in
//! the server's order.
//!
//! An event may wait here for the owner of its pod, and everything behind it with it: half a second at most, and not at all
//! when many wait.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use taffrail_api::Change;
use taffrail_spool::{Frame, Kind, Refusal, Spool, now};
use tokio::sync::Notify;

use crate::config::EventsConfig;
use crate::document::{Document, Writer};
use crate::election::Authority;
use crate::event::Event;
use crate::owners::Owners;
use crate::status::Status;
use crate::timeline::Ring;

/// How long an event waits for its owner.
const PATIENCE: Duration = Duration::from_millis(500);
/// Beyond so many, and so many bytes, nobody waits.
const WAITING: usize = 256;
const WAITING_BYTES: usize = 2 << 20;
/// How often the spool learns how far a watch has come without an event for it.
const MARK: Duration = Duration::from_secs(5);
/// Observations that are known again; more during a list, which may have to begin again.
const SEEN: usize = 1 << 16;
const SEEN_IN_LIST: usize = 1 << 18;

/// What is observed on its way to the spool.
pub(crate) struct Room {
    config: Arc<EventsConfig>,
    spool: Arc<Spool>,
    status: Arc<Status>,
    writer: Writer,
    ring: Arc<Mutex<Ring>>,
    authority: Authority,
    pub(crate) owners: Owners,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    seen: Seen,
    /// The same of those that a rule leaves out: each counts once, however often all are listed.
    left_out: Seen,
    listing: bool,
    /// Everything up to this version was put into the spool or left out.
    passed: Option<u64>,
    marked: Instant,
    /// Nothing is taken any more until the watch begins again.
    halted: Option<Halt>,
    /// Wakes who asks for owners, and who waits for a halt.
    pub(crate) wake: Arc<Notify>,
}

/// Why nothing is taken any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Halt {
    /// Until there is room.
    Full,
    /// Until the disk takes it.
    Disk(String),
    /// Somebody else may be watching by now.
    Deposed,
}

enum Waiting {
    Mark(u64),
    Event { kind: Kind, version: u64, event: Box<Event>, key: u64, until: Option<Instant>, size: usize },
    Ready { kind: Kind, version: u64, document: Document, key: u64 },
}

impl Room {
    pub(crate) fn new(
        config: Arc<EventsConfig>,
        spool: Arc<Spool>,
        status: Arc<Status>,
        writer: Writer,
        ring: Arc<Mutex<Ring>>,
        authority: Authority,
    ) -> Self {
        Room {
            config,
            spool,
            status,
            writer,
            ring,
            authority,
            owners: Owners::new(),
            waiting: VecDeque::new(),
            bytes: 0,
            seen: Seen::default(),
            left_out: Seen::default(),
            listing: false,
            passed: None,
            marked: Instant::now(),
            halted: None,
            wake: Arc::new(Notify::new()),
        }
    }

    /// The watch begins again, from what is in the spool.
    pub(crate) fn begin(&mut self) {
        self.waiting.clear();
        (self.bytes, self.listing, self.passed, self.halted) = (0, false, None, None);
        self.owners.give_up();
    }

    pub(crate) fn halted(&self) -> Option<Halt> {
        self.halted.clone()
    }

    pub(crate) fn list_begins(&mut self) {
        self.listing = true;
        self.status.lists.add(1);
    }

    pub(crate) fn listed(&mut self, version: &str) {
        self.listing = false;
        self.seen.shrink(SEEN);
        self.left_out.shrink(SEEN);
        if self.halted.is_some() {
            return;
        }
        if let Ok(version) = version.parse() {
            self.marked = Instant::now().checked_sub(MARK).unwrap_or(self.marked);
            self.pass(Kind::InOrder, version);
            self.flush();
        }
    }

    /// The version that was told last, whether it is in the spool yet or not.
    pub(crate) fn reached(&self) -> Option<u64> {
        self.passed.max(self.spool.newest())
    }

    /// Something was told.
    pub(crate) fn observe(&mut self, change: Change, json: &str, version: &str) {
        if self.halted.is_some() {
            return;
        }
        // What cannot be counted cannot be a position.
        let number = version.parse::<u64>().ok();
        let kind = if change == Change::Listed || number.is_none() { Kind::Unordered } else { Kind::InOrder };
        let number = number.unwrap_or(0);
        if change == Change::Deleted {
            self.pass(kind, number);
        } else {
            self.status.observed.add(1);
            match Event::parse(json) {
                Ok(event) => self.event(kind, number, event, json.len()),
                Err(why) => self.unreadable(kind, number, version, json, &why),
            }
        }
        self.flush();
    }

    fn event(&mut self, kind: Kind, version: u64, event: Event, size: usize) {
        let rule = left_out(&self.config, &event);
        let known = if rule.is_none() { &self.seen } else { &self.left_out };
        let key = known.key(&event.meta.uid, &event.meta.version);
        if known.has(key) {
            self.status.repeated.add(1);
            return self.pass(kind, version);
        }
        let awaited = self.config.owners && rule.is_none() && self.owners.is_awaited(&event);
        self.ring.lock().push(&event, &self.owners.of(&event));
        if let Some(rule) = rule {
            self.status.filtered.add(rule);
            self.left_out.add(key, if self.listing { SEEN_IN_LIST } else { SEEN });
            return self.pass(kind, version);
        }
        self.bytes += size;
        let until = awaited.then(|| Instant::now() + PATIENCE);
        self.waiting.push_back(Waiting::Event { kind, version, event: Box::new(event), key, until, size });
        if awaited {
            self.wake.notify_one();
        }
    }

    fn unreadable(&mut self, kind: Kind, number: u64, version: &str, json: &str, why: &str) {
        self.status.unreadable.add(1);
        let document = self.writer.unreadable(json, why, version, now());
        let key = self.seen.key(&document.id, version);
        if self.seen.has(key) {
            return self.pass(kind, number);
        }
        self.waiting.push_back(Waiting::Ready { kind, version: number, document, key });
    }

    /// Nothing is to be stored for this version.
    fn pass(&mut self, kind: Kind, version: u64) {
        if kind != Kind::InOrder {
            return;
        }
        match self.waiting.back_mut() {
            None => self.passed = Some(version),
            Some(Waiting::Mark(last)) => *last = version,
            Some(_) => self.waiting.push_back(Waiting::Mark(version)),
        }
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Puts into the spool whatever need not wait any longer.
    pub(crate) fn flush(&mut self) {
        while self.halted.is_none() {
            let crowded = self.waiting.len() > WAITING || self.bytes > WAITING_BYTES;
            let waits = match self.waiting.front() {
                None => break,
                Some(Waiting::Event { event, until: Some(until), .. }) => {
                    Instant::now() < *until && self.owners.is_awaited(event)
                }
                Some(_) => false,
            };
            if waits && !crowded {
                break;
            }
            self.put_first();
        }
        self.mark();
    }

    /// Puts into the spool all that waits, owners or not: at the orderly end.
    pub(crate) fn hurry(&mut self) {
        while self.halted.is_none() && !self.waiting.is_empty() {
            self.put_first();
        }
        self.marked = Instant::now().checked_sub(MARK).unwrap_or(self.marked);
        self.mark();
    }

    fn put_first(&mut self) {
        match self.waiting.pop_front() {
            None => {}
            Some(Waiting::Mark(version)) => self.passed = Some(version),
            Some(Waiting::Event { kind, version, event, key, size, .. }) => {
                self.bytes = self.bytes.saturating_sub(size);
                let document = self.writer.document(&event, &self.owners.of(&event), now());
                self.put(kind, version, &document, key);
            }
            Some(Waiting::Ready { kind, version, document, key }) => self.put(kind, version, &document, key),
        }
    }

    fn put(&mut self, kind: Kind, version: u64, document: &Document, key: u64) {
        let Document { id, time, body } = document;
        let frame = Frame { kind, version, time: *time, observed: now(), id, body };
        if self.append(&frame) {
            self.seen.add(key, if self.listing { SEEN_IN_LIST } else { SEEN });
            if kind == Kind::InOrder {
                self.passed = None;
            }
        }
    }

    /// Says in the spool how far the watch has come, when that is not said by an event.
    fn mark(&mut self) {
        let Some(version) = self.passed.filter(|_| self.waiting.is_empty() && self.marked.elapsed() >= MARK)
        else {
            return;
        };
        if self.halted.is_none() && self.append(&Frame::bare(Kind::Mark, version)) {
            self.passed = None;
            self.marked = Instant::now();
        }
    }

    fn append(&mut self, frame: &Frame<'_>) -> bool {
        let halt = if self.authority.holds() {
            match self.spool.append(frame) {
                Ok(()) => return true,
                Err(Refusal::Full) => Halt::Full,
                Err(Refusal::Failed(error)) => Halt::Disk(error.to_string()),
            }
        } else {
            Halt::Deposed
        };
        self.halted = Some(halt);
        self.waiting.clear();
        self.bytes = 0;
        self.wake.notify_one();
        false
    }
}

/// The rule by which an event is left out, if one does.
pub(crate) fn left_out(config: &EventsConfig, event: &Event) -> Option<&'static str> {
    let rules = [
        ("namespace", &config.namespaces, &event.object.namespace),
        ("kind", &config.kinds, &event.object.kind),
        ("reason", &config.reasons, &event.reason),
        ("type", &config.types, &event.kind),
    ];
    rules.into_iter().find(|(_, choice, name)| !choice.takes(name)).map(|(rule, ..)| rule)
}

/// Observations that are in the spool or stored already, by a hash.
#[derive(Default)]
struct Seen {
    known: HashSet<u64>,
    order: VecDeque<u64>,
    hasher: RandomState,
}

impl Seen {
    fn key(&self, uid: &str, version: &str) -> u64 {
        self.hasher.hash_one((uid, version))
    }

    fn has(&self, key: u64) -> bool {
        self.known.contains(&key)
    }

    fn add(&mut self, key: u64, most: usize) {
        if self.known.insert(key) {
            self.order.push_back(key);
        }
        self.trim(most);
    }

    fn shrink(&mut self, most: usize) {
        self.trim(most);
        self.known.shrink_to(most);
        self.order.shrink_to(most);
    }

    fn trim(&mut self, most: usize) {
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests;
