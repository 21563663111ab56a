//! Writes positions down: the thread between the trackers and the store.
//!
//! Guarantee: what it writes is a tracker's settled position at some moment, never more. What is confirmed and not
//! written down is what a crash repeats: the bytes by which positions have moved, and those confirmed beyond a position
//! that waits for something before them. Positions are written when the first amount to half of a configured number
//! of bytes, and readers wait when both together amount to all of it. When nothing moves it writes nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use taffrail_checkpoint::{Store, StoreError};
use taffrail_record::{Changes, Hold, Tracker};

use super::state::FileState;

/// A file as the keeper sees it.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Everything but the position, kept current by the reader. Locked after what is pending.
    pub(crate) state: Mutex<FileState>,
    pub(crate) tracker: Arc<Tracker>,
}

/// How long the thread sleeps while no position moves.
const REST: Duration = Duration::from_secs(1);

/// When positions are written down.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// At the latest this long after a position has moved; what else is known of a file has a second.
    pub interval: Duration,
    /// How many confirmed bytes may wait to be written down.
    pub bytes: u64,
}

/// The files under way, and the thread that writes their positions.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    rhythm: Rhythm,
    thread: Option<JoinHandle<()>>,
}

/// What is to be put into the store, or removed (`None`), by key.
type Pending = HashMap<Vec<u8>, Option<Vec<u8>>>;

#[derive(Debug)]
struct Shared {
    /// Locked for as long as the disk takes, so nobody but a commit does it; before `pending`.
    store: Arc<Mutex<Store>>,
    pending: Mutex<Pending>,
    files: Mutex<HashMap<u64, Arc<Kept>>>,
    bridges: Mutex<Vec<Bridge>>,
    changes: Arc<Changes>,
    /// How many tickets were given out, and up to which of them all is written down.
    tickets: AtomicU64,
    written: AtomicU64,
    /// What [`Changes::total`] was when everything was written down last.
    settled: AtomicU64,
    ending: AtomicBool,
}

/// A record with pieces in several files. All of them wait at its first piece there until each could pass its last;
/// then they pass at once and are written down together: whoever reads again meets all of the record or nothing of it.
#[derive(Debug)]
struct Bridge(Vec<Leg>);

/// Where a bridge stands in one file.
#[derive(Debug)]
pub(crate) struct Leg {
    /// At the first piece.
    pub(crate) hold: Hold,
    /// The end of the last.
    pub(crate) until: u64,
}

impl Leg {
    fn key(&self) -> u64 {
        self.hold.tracker().key()
    }
}

impl Bridge {
    fn stands_in(&self, keys: &[u64]) -> bool {
        self.0.iter().any(|leg| keys.contains(&leg.key()))
    }
}

impl Keeper {
    /// Starts the thread.
    pub(crate) fn start(store: Arc<Mutex<Store>>, rhythm: Rhythm) -> std::io::Result<Keeper> {
        let shared = Arc::new(Shared {
            store,
            pending: Mutex::default(),
            files: Mutex::default(),
            bridges: Mutex::default(),
            changes: Changes::new(),
            tickets: AtomicU64::new(0),
            written: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            ending: AtomicBool::new(false),
        });
        let mut keeper = Keeper { shared: Arc::clone(&shared), rhythm, thread: None };
        let spawn = thread::Builder::new().name("checkpoint".to_owned());
        keeper.thread = Some(spawn.spawn(move || shared.run(rhythm))?);
        Ok(keeper)
    }

    /// Takes a file in; its state is written soon. `key` must be new.
    pub(crate) fn add(&self, key: u64, state: FileState) -> Arc<Kept> {
        let tracker = Tracker::new(key, state.position, &self.shared.changes);
        put(&mut self.shared.pending.lock(), &state);
        let kept = Arc::new(Kept { state: Mutex::new(state), tracker });
        self.shared.files.lock().insert(key, Arc::clone(&kept));
        kept
    }

    /// Writes a file's state although its position has not moved (its path or size has).
    pub(crate) fn touch(&self, kept: &Kept) {
        let mut pending = self.shared.pending.lock();
        let state = kept.current();
        put(&mut pending, &state);
    }

    /// Has a file's state written at once; the ticket is good for [`Keeper::is_written`].
    pub(crate) fn hurry(&self, kept: &Kept) -> u64 {
        let mut pending = self.shared.pending.lock();
        let state = kept.current();
        put(&mut pending, &state);
        let ticket = self.shared.tickets.fetch_add(1, Ordering::AcqRel) + 1;
        drop(pending);
        self.shared.changes.wake();
        ticket
    }

    /// Whether no more may be read, because too much of what is confirmed is not written down.
    pub(crate) fn is_behind(&self) -> bool {
        let Shared { changes, settled, .. } = &*self.shared;
        let settled = changes.total().saturating_sub(settled.load(Ordering::Acquire));
        settled + changes.ahead() >= self.rhythm.bytes
    }

    /// Whether what a ticket stands for is written down, or cannot be: delivery does not wait for a full disk.
    pub(crate) fn is_written(&self, ticket: u64) -> bool {
        self.shared.written.load(Ordering::Acquire) >= ticket
    }

    /// The file now goes by another key in the store (its content was found elsewhere).
    pub(crate) fn rekey(&self, kept: &Kept, change: impl FnOnce(&mut FileState)) {
        let mut pending = self.shared.pending.lock();
        let mut state = kept.state.lock();
        pending.insert(state.store_key(), None);
        change(&mut state);
        state.position = kept.tracker.position();
        put(&mut pending, &state);
    }

    /// Lets files pass a record that has pieces in all of them only together.
    pub(crate) fn bridge(&self, legs: Vec<Leg>) {
        self.shared.bridges.lock().push(Bridge(legs));
    }

    /// Lets pass now whom the next writing would let pass.
    pub(crate) fn pass_bridges(&self) {
        self.shared.write(&[]);
    }

    /// Which files wait together with one of these.
    pub(crate) fn bridged(&self, keys: &[u64]) -> Vec<u64> {
        let bridges = self.shared.bridges.lock();
        let standing = bridges.iter().filter(|bridge| bridge.stands_in(keys));
        standing.flat_map(|bridge| bridge.0.iter().map(Leg::key)).collect()
    }

    /// Takes away the bridges of these files: they are read again from their positions.
    pub(crate) fn burn_bridges(&self, keys: &[u64]) {
        let burnt: Vec<Bridge> =
            self.shared.bridges.lock().extract_if(.., |bridge| bridge.stands_in(keys)).collect();
        burnt.into_iter().flat_map(|bridge| bridge.0).for_each(|leg| leg.hold.release());
    }

    /// Lets a file go, its last state written when `keep`, forgotten otherwise.
    pub(crate) fn release(&self, key: u64, kept: &Kept, keep: bool) {
        self.shared.files.lock().remove(&key);
        let mut pending = self.shared.pending.lock();
        let state = kept.current();
        if keep {
            put(&mut pending, &state);
        } else {
            pending.insert(state.store_key(), None);
        }
    }

    /// Writes an entry down that no file under way stands for.
    pub(crate) fn note(&self, state: &FileState) {
        put(&mut self.shared.pending.lock(), state);
    }

    /// Forgets an entry that no file under way stands for.
    pub(crate) fn forget(&self, store_key: &[u8]) {
        self.shared.pending.lock().insert(store_key.to_vec(), None);
    }

    /// Writes everything down now.
    pub(crate) fn flush(&self) -> Result<(), String> {
        self.shared.write_down(Duration::ZERO, Duration::ZERO, u64::MAX).map_err(|e| e.to_string())
    }
}

impl Kept {
    /// The state with the position as of now.
    pub(crate) fn current(&self) -> FileState {
        let mut state = self.state.lock();
        state.position = self.tracker.checkpoint();
        state.clone()
    }
}

impl Shared {
    fn run(&self, rhythm: Rhythm) {
        let mut failing = false;
        while !self.ending.load(Ordering::Acquire) {
            match self.write_down(rhythm.interval.max(REST), rhythm.interval, rhythm.bytes / 2) {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("positions are written down again");
                }
                Ok(()) => {}
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(%error, "positions cannot be written down; delivery goes on, a crash now repeats more");
                }
                Err(_) => thread::sleep(rhythm.interval),
            }
        }
    }

    /// Waits for changes and commits them. When that fails it is no use to wait for it.
    fn write_down(&self, rest: Duration, patience: Duration, bytes: u64) -> Result<(), StoreError> {
        let changed = self.changes.wait(rest, patience, bytes);
        let settled = self.changes.total();
        self.write(&changed);
        let result = self.commit();
        self.settled.fetch_max(settled, Ordering::AcqRel);
        result
    }

    fn commit(&self) -> Result<(), StoreError> {
        let mut store = self.store.lock();
        let (pending, ticket) = {
            let mut pending = self.pending.lock();
            (std::mem::take(&mut *pending), self.tickets.load(Ordering::Acquire))
        };
        for (key, value) in pending {
            match value {
                Some(value) => store.put(&key, &value),
                None => store.remove(&key),
            }
        }
        let result = store.commit().map(|_| ());
        self.written.fetch_max(ticket, Ordering::AcqRel);
        result
    }

    fn write(&self, keys: &[u64]) {
        // Nothing is put between the moment when files pass a bridge and that when they are written down.
        let mut pending = self.pending.lock();
        let mut keys = keys.to_vec();
        keys.extend(self.cross());
        keys.sort_unstable();
        keys.dedup();
        let kept: Vec<Arc<Kept>> = {
            let files = self.files.lock();
            keys.iter().filter_map(|key| files.get(key).cloned()).collect()
        };
        for state in kept.iter().map(|kept| kept.current()) {
            put(&mut pending, &state);
        }
    }

    /// Lets pass all who can; returns the files that did.
    fn cross(&self) -> Vec<u64> {
        let mut bridges = self.bridges.lock();
        let (mut ready, mut waiting): (Vec<Bridge>, Vec<Bridge>) = (bridges.drain(..).collect(), Vec::new());
        // One that cannot pass keeps others from passing, but those that can may have waited for each other alone.
        loop {
            let can_pass = |bridge: &Bridge| {
                bridge.0.iter().all(|leg| {
                    let others = ready.iter().flat_map(|b| &b.0).map(|l| &l.hold);
                    let here = others.filter(|hold| Arc::ptr_eq(hold.tracker(), leg.hold.tracker()));
                    leg.hold.tracker().position_without(here) >= leg.until
                })
            };
            let passing: Vec<bool> = ready.iter().map(can_pass).collect();
            if passing.iter().all(|passes| *passes) {
                break;
            }
            let mut passing = passing.into_iter();
            waiting.extend(ready.extract_if(.., |_| !passing.next().unwrap_or(false)));
        }
        *bridges = waiting;
        drop(bridges);
        let legs: Vec<Leg> = ready.into_iter().flat_map(|bridge| bridge.0).collect();
        let keys = legs.iter().map(Leg::key).collect();
        legs.into_iter().for_each(|leg| leg.hold.release());
        keys
    }
}

fn put(pending: &mut Pending, state: &FileState) {
    pending.insert(state.store_key(), Some(state.encode()));
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Release);
        self.shared.changes.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // Whoever follows reads the store, also after a panic; a disk that is full keeps it in memory.
        let _ = self.shared.commit();
    }
}
