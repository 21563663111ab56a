//! What is written down of a session and recorded of it, as far as that is known.
//!
//! Guarantee: while not all is known of a container, the most is supposed that a policy may want, and what is recorded is held. What a
//! session was begun with is written down of it to its end.

use super::{Book, Turn};
use crate::config::Recording;
use crate::document::{Clock, Document};
use crate::recording::{Account, Part};
use crate::session::{Origin, Unread, Whose};
use crate::wire::{Record, Session};

/// For how long what is recorded is held of a session while it is not known whose container it is, nanoseconds.
pub(super) const SUPPOSED: u64 = 60_000_000_000;

impl Book {
    /// Whether a session that has ended is recorded: something of that may be still to come.
    pub(super) fn awaits_recording(&mut self, record: &Record, session: &Session) -> bool {
        let open = self.open.get_mut(&record.session).filter(|open| open.recording == Recording::Full);
        let Some(open) = open.filter(|_| self.unrecorded.is_none()) else { return false };
        open.unread = Some(Unread { session: *session, number: record.number, time: record.time });
        true
    }

    /// Whether sessions can be recorded; if not, why.
    pub(crate) fn can_record(&mut self, unrecorded: Option<String>) {
        self.unrecorded = unrecorded;
    }

    /// Whether a session in this container may be recorded.
    pub(crate) fn may_record(&self, container: u64) -> bool {
        let (whose, is_whole) = self.known(container, &*self.namer);
        self.policies.may_record(&whose, is_whole)
    }

    /// What there is of the recording of a session that ends, or why there is nothing.
    pub(crate) fn recorded(&mut self, number: u64, account: Result<Account, String>) {
        if let Some(open) = self.open.get_mut(&number) {
            open.recorded = Some(account);
        }
    }

    /// The document of a part of a recording, if that is wanted.
    pub(crate) fn recording(&self, number: u64, part: &Part, clock: Clock) -> Option<Document> {
        let open = self.open.get(&number).filter(|open| open.recording == Recording::Full)?;
        Some(self.writer.recorded(open, part, clock))
    }

    /// What is written down of a session, and whether that is only supposed.
    pub(super) fn decide(&self, (whose, is_whole): (&Whose, bool), origin: Origin) -> (Recording, bool) {
        if is_whole {
            return (self.policies.decide(whose, origin), false);
        }
        match self.policies.most(whose, origin) {
            (most, true) => (most, false),
            (Recording::Full, _) if self.unrecorded.is_none() => (Recording::Full, true),
            (Recording::Full, _) => (self.policies.decide(whose, origin).max(Recording::Commands), false),
            (less, _) => (less, false),
        }
    }

    /// Decides of those sessions of which that was only supposed, as far as more is known of their containers at `now`, nanoseconds of
    /// `CLOCK_BOOTTIME`. What they were begun with is written down of each to its end.
    pub(crate) fn suppose_no_more(&mut self, now: u64) -> Vec<Turn> {
        let supposed = self.open.values().filter(|open| open.supposed);
        let supposed: Vec<(u64, u64)> = supposed.map(|open| (open.number, open.cgroup)).collect();
        let mut turns = Vec::new();
        for (number, cgroup) in supposed {
            let (whose, is_whole) = self.known(cgroup, &*self.namer);
            let is_too_late = now.saturating_sub(number) > SUPPOSED;
            let Some(open) = self.open.get_mut(&number).filter(|_| is_whole || is_too_late) else { continue };
            open.supposed = false;
            open.recording = Recording::Commands;
            if is_whole {
                open.recording = self.policies.decide(&whose, open.origin).max(Recording::Commands);
                open.whose = whose;
            } else {
                open.missing
                    .push("recording: there is none: whose container it is was not known in time".to_owned());
            }
            turns.push(Turn::Changed(number));
        }
        turns
    }
}
