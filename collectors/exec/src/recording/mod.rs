//! Recordings: what is typed and shown in sessions of which a policy says `full`.
//!
//! The programs that see it are attached when a session may begin and until a while after the last one has ended. What they tell
//! stays in a ring of its own until it lies on the disk, in documents of the same chain as those of processes.
//!
//! Guarantee: a recording never holds up documents of processes, and never takes the disk from them: what has no room is let go
//! and counted. Nothing that a policy does not want leaves the kernel but to be thrown away. While it is not known whether one wants
//! it, it is held, not lost: neither a name that comes late nor a new container of a pod is waited for.

mod account;
mod arm;
pub(crate) mod attachment;
mod config;
pub(crate) mod hooks;
mod piece;
mod recorder;

use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use taffrail_spool::Observer as _;

pub use self::account::Account;
use self::arm::{Arm, arm};
pub use self::config::RecordingConfig;
use self::hooks::Hooks;
use self::piece::Piece;
pub(crate) use self::recorder::Part;
use self::recorder::Recorder;
use crate::config::Recording;
use crate::desk::Desk;
use crate::status::Status;
use crate::watch::{clock, since_start};

/// How long the programs stay attached when nothing is recorded any more.
const LINGER: Duration = Duration::from_secs(5);
/// The same when that may be held of a new container of a pod.
const LINGER_NEW: Duration = Duration::from_secs(2);
/// How long they stay attached at most for what a new container of a pod does of which it is not known what it is, nanoseconds.
const NEW: u64 = 10_000_000_000;
/// How long to wait for what is left at the far end of a terminal that nobody has open any more, nanoseconds.
const LEFT: u64 = 2_000_000_000;
/// How many pieces are read before it is looked again after processes.
const AT_ONCE: usize = 256;

/// What becomes of what was told of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A policy wants it.
    Wanted,
    /// It is thrown away.
    Unwanted,
    /// It is held until it is known whether a policy wants it.
    Held,
    /// The session is not known, or not yet.
    Unknown,
}

/// All recordings of this node.
pub(crate) struct Recordings {
    hooks: Hooks,
    recorder: Recorder,
    status: Arc<Status>,
    /// Bytes that may wait on the disk for recordings to be put there, too.
    room: u64,
    /// Pieces of sessions that were not known when they were read.
    early: Vec<Vec<u8>>,
    /// Sessions that were not known in the last round, and not there any more.
    unknown: HashSet<u64>,
    /// Containers in which nothing is recorded, as the kernel was told.
    unrecorded: HashSet<u64>,
    _arm: Option<Arm>,
}

impl Recordings {
    pub(crate) fn new(
        mut hooks: Hooks,
        config: &RecordingConfig,
        spool_limit: u64,
        status: Arc<Status>,
    ) -> Recordings {
        let foreseen = hooks.take_foreseen();
        let start = |foreseen| Arm::start(foreseen, Arc::clone(&hooks.attachment), Arc::clone(&status));
        let started = foreseen.map(start).transpose();
        let trouble = started.as_ref().err().map(|error| {
            format!("the beginnings of sessions are not recorded: the system grants no thread: {error}")
        });
        status.set_trouble("arm", trouble);
        Recordings {
            unrecorded: hooks.unrecorded().into_iter().collect(),
            hooks,
            recorder: Recorder::new(config.input, config.ring_bytes as usize / 4),
            status,
            room: config.node_bytes.min(spool_limit / 2),
            early: Vec::new(),
            unknown: HashSet::new(),
            _arm: started.ok().flatten(),
        }
    }

    /// Whether anything is recorded, or may be soon: then it is to be looked often.
    pub(crate) fn is_busy(&self) -> bool {
        self.hooks.attachment.lock().is_attached()
    }

    /// What can be waited for: that there is much to read.
    pub(crate) fn much(&self) -> BorrowedFd<'_> {
        self.hooks.much()
    }

    /// Attaches what is needed and is not, takes away what is not needed, and forgets who is not to be recorded. `is_there` says
    /// whether the kernel knows a session, `was_read` that everything was read since the last round that had been told by then.
    pub(crate) fn round(&mut self, desk: &Desk, is_there: impl Fn(u64) -> bool, was_read: bool) {
        let now = since_start();
        let mut unknown = HashSet::new();
        let mut needed = None;
        for number in self.hooks.sessions() {
            match desk.fate(number) {
                Fate::Wanted => needed = Some(LINGER),
                Fate::Held if desk.is_open(number) => needed = Some(LINGER),
                Fate::Held if now.saturating_sub(number) < NEW => needed = needed.max(Some(LINGER_NEW)),
                Fate::Held => {}
                Fate::Unwanted => self.hooks.forget(number),
                Fate::Unknown if is_there(number) => needed = Some(LINGER),
                Fate::Unknown if was_read && self.unknown.contains(&number) => self.hooks.forget(number),
                Fate::Unknown => drop(unknown.insert(number)),
            }
        }
        // What was not read yet may be what they are known by.
        if !was_read {
            unknown.extend(&self.unknown);
        }
        self.unknown = unknown;
        let mut attachment = self.hooks.attachment.lock();
        if let Some(long) = needed {
            arm(&mut attachment, long, now, &self.status);
        } else if attachment.leave() {
            self.status.view.lock().recording.attached = false;
        }
    }

    /// Tells the kernel in which of these containers nothing is recorded, as far as is known.
    pub(crate) fn tell(&mut self, containers: &[u64], desk: &Desk) {
        let all: HashSet<u64> = containers.iter().copied().collect();
        let unrecorded: HashSet<u64> =
            all.into_iter().filter(|container| !desk.book.may_record(*container)).collect();
        let new = unrecorded.difference(&self.unrecorded);
        new.for_each(|container| self.hooks.is_unrecorded(*container, true));
        let old = self.unrecorded.difference(&unrecorded);
        old.for_each(|container| self.hooks.is_unrecorded(*container, false));
        self.unrecorded = unrecorded;
    }

    /// Reads what there is, some of it, and puts down what is due. What is known of processes is to be read before. Whether there
    /// is more.
    pub(crate) fn read(&mut self, desk: &mut Desk) -> bool {
        self.hooks.is_read();
        for bytes in std::mem::take(&mut self.early) {
            if self.take(&bytes, desk).is_none() {
                self.unwanted(&bytes);
            }
        }
        let mut read = 0;
        let mut raw = Vec::new();
        while read < AT_ONCE && self.hooks.look_ahead(|bytes| raw = bytes.to_vec()) {
            read += 1;
            if self.take(&raw, desk).is_none() {
                self.early.push(std::mem::take(&mut raw));
            }
        }
        if self.recorder.is_due() || (self.recorder.is_empty() && self.early.is_empty()) {
            self.put(desk);
        }
        read == AT_ONCE
    }

    /// Takes a piece, unless its session is not known.
    fn take(&mut self, bytes: &[u8], desk: &Desk) -> Option<()> {
        let Ok(piece) = Piece::read(bytes) else {
            self.status.malformed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return Some(());
        };
        match desk.fate(piece.session) {
            Fate::Wanted => self.recorder.take(&piece),
            Fate::Held if self.recorder.has_room() => self.recorder.take(&piece),
            Fate::Held => self.hooks.refuse(piece.session, 1, piece.bytes.len() as u64),
            Fate::Unwanted => self.hooks.forget(piece.session),
            Fate::Unknown => return None,
        }
        Some(())
    }

    /// It is of a session that nobody knows: of one that has ended, or of which the beginning is lost.
    fn unwanted(&mut self, bytes: &[u8]) {
        if let Ok(piece) = Piece::read(bytes)
            && self.hooks.counted(piece.session).is_some()
        {
            self.hooks.refuse(piece.session, 1, piece.bytes.len() as u64);
        }
    }

    /// Puts down everything that was read.
    fn put(&mut self, desk: &mut Desk) {
        for (session, part) in self.recorder.give(|session| desk.fate(session) == Fate::Held) {
            // Since it was read, it has become known that it is not wanted, or it has ended.
            if desk.fate(session) != Fate::Wanted && self.hooks.counted(session).is_none() {
                continue;
            }
            let mut status = self.status.view.lock();
            let has_room = status.spool_bytes <= self.room;
            drop(status);
            let taken = has_room && desk.recorded(session, &part, clock());
            status = self.status.view.lock();
            if taken {
                status.recording.bytes += part.bytes;
            } else {
                status.recording.refused += part.count;
                drop(status);
                self.hooks.refuse(session, part.count, part.bytes);
            }
        }
        self.hooks.release();
    }

    /// Sessions whose end was told and of whose recording nothing is left to come; `now` is nanoseconds of `CLOCK_BOOTTIME`.
    pub(crate) fn ended(&self, desk: &Desk, now: u64) -> Vec<u64> {
        let is_over = |number: u64, end: u64| {
            let Some(counted) = self.hooks.counted(number) else { return true };
            counted.terminal == 0 || counted.closed > 0 || now.saturating_sub(end) > LEFT
        };
        let open = desk.book.open().values();
        let known = open.filter(|open| !open.supposed);
        let ended = known.filter_map(|open| Some((open.number, open.unread.as_ref()?.time)));
        ended.filter(|(number, end)| is_over(*number, *end)).map(|(number, _)| number).collect()
    }

    /// Puts down what is left of a session, and says what there is of it.
    pub(crate) fn settle(&mut self, number: u64, desk: &mut Desk) {
        let Some(open) = desk.book.open().get(&number).filter(|open| open.recording == Recording::Full)
        else {
            self.recorder.forget(number);
            return self.hooks.forget(number);
        };
        let why = if open.supposed {
            "whose container it is was not known in time"
        } else if open.adopted {
            "it began before the probe"
        } else {
            "there was no room for it in the kernel"
        };
        if open.supposed {
            desk.book.recorded(number, Err(why.to_owned()));
            self.recorder.forget(number);
            return self.hooks.forget(number);
        }
        self.hooks.close(number);
        while self.read(desk) {}
        // Twice: what was early is known now.
        self.read(desk);
        self.put(desk);
        let ended = open_until(desk, number);
        let since = self.hooks.attachment.lock().since().filter(|since| *since < ended);
        let account = match (self.hooks.counted(number), since) {
            (Some(counted), Some(since)) => {
                let account = Account::new(&counted, self.hooks.refused(number), since);
                let mut view = self.status.view.lock();
                view.recording.lost += account.lost;
                view.recording.cut += account.cut + account.unseen;
                view.recording.redacted += account.redacted;
                Ok(account)
            }
            (None, _) => Err(why.to_owned()),
            (_, None) => Err("what records was not attached while it lasted: the agent was away, or could not do it in time \
                              (`taffrail_audit_recording_attach_seconds`, and its log)"
                .to_owned()),
        };
        desk.book.recorded(number, account);
        self.hooks.forget(number);
        self.recorder.forget(number);
    }

    /// At the end of this life: what was read is put down. What is to be recorded goes on in the kernel.
    pub(crate) fn rest(&mut self, desk: &mut Desk, is_pinned: bool) {
        while self.read(desk) {}
        self.put(desk);
        // The next life finds that it does not have them.
        for (session, part) in self.recorder.give(|_| false) {
            self.hooks.refuse(session, part.count, part.bytes);
        }
        let is_open = desk.book.open().values().any(|open| open.recording == Recording::Full);
        if !is_pinned || !is_open {
            self.hooks.attachment.lock().detach();
        }
    }
}

/// When the first process of a session that waits for its end has ended, nanoseconds of `CLOCK_BOOTTIME`.
fn open_until(desk: &Desk, number: u64) -> u64 {
    let unread = desk.book.open().get(&number).and_then(|open| open.unread.as_ref());
    unread.map_or(u64::MAX, |unread| unread.time)
}
