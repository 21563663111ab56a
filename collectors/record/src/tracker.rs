//! The position of one file: the contiguous prefix that is settled.
//!
//! Guarantee: [`Tracker::position`] never passes a byte whose record is unconfirmed, nor a loss whose declaration
//! is unconfirmed. Receipts may settle in any order.
//!
//! It works by holds. Whoever is responsible for bytes (a batch under way, a partial line that waits for its end,
//! a loss not yet declared) holds the position at its first byte. The position is the lowest hold, or the
//! end of what has been attributed when nothing is held. The cost is per batch, not per record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::{LossReason, Span};

/// Which positions have changed since they were last written down; wakes whoever writes them.
#[derive(Debug, Default)]
pub struct Changes {
    state: Mutex<Pending>,
    woken: Condvar,
    total: AtomicU64,
    ahead: AtomicU64,
}

#[derive(Debug, Default)]
struct Pending {
    keys: Vec<u64>,
    bytes: u64,
}

impl Changes {
    /// An empty list.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn mark(&self, key: u64) {
        self.state.lock().keys.push(key);
    }

    fn moved(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::AcqRel);
        self.hurry(bytes);
    }

    fn hurry(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_add(bytes);
        self.woken.notify_one();
    }

    /// By how many bytes positions have moved in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    /// How many bytes are confirmed and yet beyond the positions of their files, because what stands before them there
    /// is still under way. A crash repeats them. What waits for a writer does not make it wait ([`Tracker::hold_for_writer`]).
    #[must_use]
    pub fn ahead(&self) -> u64 {
        self.ahead.load(Ordering::Acquire)
    }

    /// Waits until `patience` has passed since a position moved, or until positions have moved by `bytes` in all, but
    /// never longer than `rest`; then takes the keys of the trackers that changed. Each key comes once until its
    /// tracker's [`Tracker::checkpoint`] is read.
    pub fn wait(&self, rest: Duration, patience: Duration, bytes: u64) -> Vec<u64> {
        let mut deadline = Instant::now() + rest;
        let mut state = self.state.lock();
        while state.bytes < bytes {
            if state.bytes > 0 {
                deadline = deadline.min(Instant::now() + patience);
            }
            if self.woken.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.bytes = 0;
        std::mem::take(&mut state.keys)
    }

    /// Ends a [`Changes::wait`] at once.
    pub fn wake(&self) {
        self.hurry(u64::MAX);
    }
}

/// Bytes of a file that will never be delivered, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostSpan {
    /// The bytes.
    pub span: Span,
    /// The reason.
    pub reason: LossReason,
}

/// Tracks what of one file is settled.
#[derive(Debug)]
pub struct Tracker {
    key: u64,
    changes: Arc<Changes>,
    changed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    end: u64,
    sequence: u64,
    /// By first byte and sequence.
    holds: BTreeMap<(u64, u64), Held>,
    abandoned: usize,
    /// Bytes of holds that were released while an earlier one was still under way, by the same key.
    ahead: BTreeMap<(u64, u64), u64>,
    lost: Vec<(LostSpan, Hold)>,
    /// Ranges that are settled whole or not at all.
    whole: Vec<Span>,
}

#[derive(Debug, Default)]
struct Held {
    /// Its receipt was dropped.
    abandoned: bool,
    /// Its release is a matter of what a writer does.
    for_writer: bool,
}

impl State {
    fn position(&self) -> u64 {
        self.position_without(&[])
    }

    /// The first byte that waits for the agent and the far side alone.
    fn first_under_way(&self) -> u64 {
        let first = self.holds.iter().find(|(_, held)| !held.for_writer);
        first.map_or(u64::MAX, |(&(start, _), _)| start)
    }

    fn take_ahead(&mut self) -> u64 {
        std::mem::take(&mut self.ahead).into_values().sum()
    }

    /// Notes the bytes of a hold that was just released; returns by how many more and less are now ahead.
    fn release(&mut self, key: (u64, u64), bytes: u64) -> (u64, u64) {
        self.holds.remove(&key);
        // An emptied map keeps a node of 200 bytes, and most files rest.
        if self.holds.is_empty() {
            self.holds = BTreeMap::new();
        }
        let first = self.first_under_way();
        let mut caught_up = 0;
        while let Some(entry) = self.ahead.first_entry().filter(|entry| entry.key().0 < first) {
            caught_up += entry.remove();
        }
        let more = if bytes > 0 && key.0 >= first { bytes } else { 0 };
        if more > 0 {
            self.ahead.insert(key, more);
        }
        (more, caught_up)
    }

    fn position_without(&self, ignored: &[(u64, u64)]) -> u64 {
        let first = self.holds.keys().find(|key| !ignored.contains(key));
        // Since a rewind, receipts may be under way for bytes that are not attributed again yet.
        let mut position = first.map_or(self.end, |&(start, _)| start.min(self.end));
        // Newest first: an earlier range can only pull the position further back, never into a later one.
        for range in self.whole.iter().rev() {
            if range.start < position && position < range.end {
                position = range.start;
            }
        }
        position
    }
}

impl Tracker {
    /// A tracker whose bytes before `position` are settled already. `key` is what `changes` will name it by.
    #[must_use]
    pub fn new(key: u64, position: u64, changes: &Arc<Changes>) -> Arc<Self> {
        Arc::new(Tracker {
            key,
            changes: Arc::clone(changes),
            changed: AtomicBool::new(false),
            state: Mutex::new(State { end: position, ..State::default() }),
        })
    }

    /// What its changes are named by.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The contiguous settled prefix, in bytes.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.state.lock().position()
    }

    /// The position, to be written down; the next change marks this tracker in its [`Changes`] again.
    #[must_use]
    pub fn checkpoint(&self) -> u64 {
        self.changed.store(false, Ordering::Release);
        self.position()
    }

    /// Whether nothing is held: everything attributed is settled.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.state.lock().holds.is_empty()
    }

    /// How many holds there are.
    #[must_use]
    pub fn holds(&self) -> usize {
        self.state.lock().holds.len()
    }

    /// Where the position would be if some of its holds were released.
    #[must_use]
    pub fn position_without<'a>(&self, holds: impl Iterator<Item = &'a Hold>) -> u64 {
        let ignored: Vec<(u64, u64)> = holds.map(|hold| hold.key).collect();
        self.state.lock().position_without(&ignored)
    }

    /// Holds the position at `start`.
    #[must_use]
    pub fn hold(self: &Arc<Self>, start: u64) -> Hold {
        self.hold_records(start, 0)
    }

    /// Holds the position at `start` for records of `bytes` bytes of this file.
    #[must_use]
    pub fn hold_records(self: &Arc<Self>, start: u64, bytes: u64) -> Hold {
        self.hold_locked(&mut self.state.lock(), start, bytes, Held::default())
    }

    /// Holds the position at `start` for what waits until a writer goes on: nobody may be made to wait for that.
    #[must_use]
    pub fn hold_for_writer(self: &Arc<Self>, start: u64) -> Hold {
        let held = Held { for_writer: true, ..Held::default() };
        self.hold_locked(&mut self.state.lock(), start, 0, held)
    }

    fn hold_locked(self: &Arc<Self>, state: &mut State, start: u64, bytes: u64, held: Held) -> Hold {
        state.sequence += 1;
        let key = (start, state.sequence);
        state.holds.insert(key, held);
        Hold { tracker: Arc::clone(self), key, bytes, released: false }
    }

    /// Says that every byte before `end` now belongs to a hold or is settled. Take the holds first.
    pub fn attribute(&self, end: u64) {
        self.update(|state| state.end = state.end.max(end));
    }

    /// Says that a record has its first byte at the start and its last at the end of `range`, with others between:
    /// the position will not rest inside, so that whoever reads again from it meets the record whole.
    pub fn keep_whole(&self, range: Span) {
        let mut state = self.state.lock();
        let position = state.position();
        state.whole.retain(|old| old.end > position);
        state.whole.push(range);
        state.whole.sort_unstable();
    }

    /// Declares bytes lost. The position stays before them until the declaration itself is confirmed: whoever
    /// writes statements fetches the losses and their holds with [`Tracker::take_lost`].
    pub fn lose(self: &Arc<Self>, span: Span, reason: LossReason) {
        let mut state = self.state.lock();
        if let Some((last, _)) = state.lost.last_mut()
            && last.reason == reason
            && last.span.end == span.start
        {
            last.span.end = span.end;
            return;
        }
        let hold = self.hold_locked(&mut state, span.start, 0, Held::default());
        state.lost.push((LostSpan { span, reason }, hold));
    }

    /// How many separate losses wait to be declared.
    #[must_use]
    pub fn undeclared(&self) -> usize {
        self.state.lock().lost.len()
    }

    /// The losses not yet declared, and the holds that keep the position before them.
    #[must_use]
    pub fn take_lost(&self) -> (Vec<LostSpan>, Vec<Hold>) {
        std::mem::take(&mut self.state.lock().lost).into_iter().unzip()
    }

    /// When receipts were abandoned: forgets them and returns the position from which to read again.
    #[must_use]
    pub fn take_rewind(&self) -> Option<u64> {
        self.is_abandoned().then(|| self.rewind())
    }

    /// Goes back to the position whatever was attributed after it, and returns it: everything from there on will
    /// be read again. Holds of receipts that are still under way stay.
    #[must_use]
    pub fn rewind(&self) -> u64 {
        let mut state = self.state.lock();
        let position = state.position();
        state.holds.retain(|_, held| !held.abandoned);
        state.abandoned = 0;
        // That they are sent again is settled now, with a crash or without.
        self.changes.ahead.fetch_sub(state.take_ahead(), Ordering::AcqRel);
        state.end = position;
        state.whole.retain(|range| range.end <= position);
        position
    }

    /// Whether a receipt was abandoned since the last rewind.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.state.lock().abandoned > 0
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let moved = {
            let mut state = self.state.lock();
            let before = state.position();
            change(&mut state);
            state.position().saturating_sub(before)
        };
        if moved > 0 {
            if !self.changed.swap(true, Ordering::AcqRel) {
                self.changes.mark(self.key);
            }
            self.changes.moved(moved);
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.changes.ahead.fetch_sub(self.state.get_mut().take_ahead(), Ordering::AcqRel);
    }
}

/// Keeps a tracker's position at or before its first byte, until it is released. Dropping it unreleased
/// abandons it: the position stays, and the collector is told to read again.
#[derive(Debug)]
pub struct Hold {
    tracker: Arc<Tracker>,
    key: (u64, u64),
    /// Of records; they are confirmed when it is released.
    bytes: u64,
    released: bool,
}

impl Hold {
    /// The tracker it holds.
    #[must_use]
    pub fn tracker(&self) -> &Arc<Tracker> {
        &self.tracker
    }

    /// The byte it holds the position at.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.key.0
    }

    /// Lets the position pass.
    pub fn release(mut self) {
        self.released = true;
        let ahead = &self.tracker.changes.ahead;
        self.tracker.update(|state| {
            let (more, caught_up) = state.release(self.key, self.bytes);
            ahead.fetch_add(more, Ordering::AcqRel);
            ahead.fetch_sub(caught_up, Ordering::AcqRel);
        });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let mut state = self.tracker.state.lock();
        if let Some(held) = state.holds.get_mut(&self.key) {
            held.abandoned = true;
            state.abandoned += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tracker() -> (Arc<Tracker>, Arc<Changes>) {
        let changes = Changes::new();
        (Tracker::new(7, 0, &changes), changes)
    }

    #[test]
    fn the_position_waits_for_the_first_hold_whatever_is_released_after_it() {
        let (tracker, _changes) = tracker();
        let first = tracker.hold(0);
        let second = tracker.hold(10);
        tracker.attribute(20);
        second.release();
        assert_eq!(tracker.position(), 0);
        first.release();
        assert_eq!(tracker.position(), 20);
    }

    #[test]
    fn a_position_that_moves_ends_a_long_rest() {
        let (tracker, changes) = tracker();
        let mover = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            tracker.attribute(1);
            tracker
        });
        assert_eq!(changes.wait(Duration::from_secs(600), Duration::from_millis(10), u64::MAX), [7]);
        mover.join().expect("moved");
    }

    #[test]
    fn a_change_is_marked_once_until_it_is_read() {
        let (tracker, changes) = tracker();
        tracker.attribute(1);
        tracker.attribute(2);
        assert_eq!(changes.wait(Duration::ZERO, Duration::ZERO, u64::MAX), [7]);
        tracker.attribute(3);
        assert!(changes.wait(Duration::ZERO, Duration::ZERO, u64::MAX).is_empty());
        assert_eq!(tracker.checkpoint(), 3);
        tracker.attribute(4);
        assert_eq!(changes.wait(Duration::ZERO, Duration::ZERO, u64::MAX), [7]);
    }

    #[test]
    fn an_undeclared_loss_holds_the_position() {
        let (tracker, _changes) = tracker();
        tracker.lose(Span { start: 5, end: 8 }, LossReason::Quota);
        tracker.lose(Span { start: 8, end: 9 }, LossReason::Quota);
        tracker.attribute(20);
        assert_eq!(tracker.position(), 5);
        let (lost, holds) = tracker.take_lost();
        assert_eq!(lost, [LostSpan { span: Span { start: 5, end: 9 }, reason: LossReason::Quota }]);
        assert_eq!(tracker.position(), 5);
        holds.into_iter().for_each(Hold::release);
        assert_eq!(tracker.position(), 20);
    }

    #[test]
    fn the_position_never_rests_inside_a_record_of_several_pieces() {
        let (tracker, _changes) = tracker();
        let parts = tracker.hold(10);
        let between = tracker.hold(20);
        let last = tracker.hold(10);
        tracker.keep_whole(Span { start: 10, end: 40 });
        tracker.attribute(40);
        parts.release();
        last.release();
        assert_eq!(tracker.position(), 10, "the bytes between are open");
        between.release();
        assert_eq!(tracker.position(), 40);
    }

    #[test]
    fn confirmed_bytes_are_ahead_while_what_is_before_them_is_under_way() {
        let (tracker, changes) = tracker();
        let statement = tracker.hold(0);
        let first = tracker.hold_records(0, 10);
        let second = tracker.hold_records(10, 10);
        let third = tracker.hold_records(20, 5);
        tracker.attribute(25);
        first.release();
        second.release();
        assert_eq!(changes.ahead(), 20);
        statement.release();
        assert_eq!((changes.ahead(), tracker.position()), (0, 20));
        third.release();
        assert_eq!((changes.ahead(), tracker.position()), (0, 25));
    }

    #[test]
    fn what_waits_for_a_writer_does_not_put_others_ahead() {
        let (tracker, changes) = tracker();
        let part = tracker.hold_for_writer(0);
        let (first, second) = (tracker.hold_records(10, 10), tracker.hold_records(20, 10));
        tracker.attribute(30);
        second.release();
        assert_eq!(changes.ahead(), 10, "the first is under way");
        first.release();
        assert_eq!((changes.ahead(), tracker.position()), (0, 0));
        drop(part);
    }

    #[test]
    fn nothing_is_ahead_of_what_is_read_again_or_let_go() {
        let (tracker, changes) = tracker();
        let (first, second) = (tracker.hold_records(0, 10), tracker.hold_records(10, 10));
        tracker.attribute(20);
        second.release();
        assert_eq!(changes.ahead(), 10);
        drop(first);
        assert_eq!(tracker.take_rewind(), Some(0));
        assert_eq!(changes.ahead(), 0);
        let (first, second) = (tracker.hold_records(0, 10), tracker.hold_records(10, 10));
        second.release();
        drop(first);
        assert_eq!(changes.ahead(), 10);
        drop(tracker);
        assert_eq!(changes.ahead(), 0);
    }

    #[test]
    fn an_abandoned_hold_asks_for_a_rewind_to_the_position() {
        let (tracker, _changes) = tracker();
        let first = tracker.hold(0);
        let second = tracker.hold(10);
        tracker.attribute(20);
        first.release();
        drop(second);
        assert_eq!(tracker.position(), 10);
        assert_eq!(tracker.take_rewind(), Some(10));
        assert_eq!(tracker.take_rewind(), None);
        assert_eq!(tracker.position(), 10);
    }

    proptest! {
        /// The model: a byte is settled when every batch that covers it is confirmed; the position is the number
        /// of leading settled bytes, and the settled bytes behind that are ahead.
        #[test]
        fn the_position_is_the_contiguous_confirmed_prefix(
            sizes in prop::collection::vec(1_u64..50, 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let (tracker, changes) = tracker();
            let total: u64 = sizes.iter().sum();
            let mut settled = vec![false; usize::try_from(total).expect("small")];
            let mut open = Vec::new();
            let mut start = 0;
            for size in sizes {
                let hold = tracker.hold_records(start, size);
                tracker.attribute(start + size);
                open.push((hold, start, start + size));
                start += size;
            }
            for index in order {
                if open.is_empty() {
                    break;
                }
                let (hold, from, to) = open.swap_remove(index.index(open.len()));
                hold.release();
                settled[from as usize..to as usize].fill(true);
                let expected = settled.iter().take_while(|s| **s).count() as u64;
                prop_assert_eq!(tracker.position(), expected);
                let ahead = settled.iter().filter(|s| **s).count() as u64 - expected;
                prop_assert_eq!(changes.ahead(), ahead);
            }
        }

        /// Batches are read, confirmed, abandoned and read again in any order: the position never passes a byte that no
        /// confirmed batch has brought, and reaches the end when all is confirmed.
        #[test]
        fn whatever_is_abandoned_and_read_again_the_position_passes_only_what_was_confirmed(
            operations in prop::collection::vec((0_u8..4, 1_u64..50, any::<prop::sample::Index>()), 0..200),
        ) {
            let (tracker, _changes) = tracker();
            let (mut read, mut open) = (0_u64, Vec::new());
            let mut confirmed = vec![false; 200 * 50];
            for (operation, size, index) in operations {
                match operation {
                    0 => {
                        open.push((tracker.hold(read), read, read + size));
                        read += size;
                        tracker.attribute(read);
                    }
                    1 if !open.is_empty() => {
                        let (hold, from, to) = open.swap_remove(index.index(open.len()));
                        confirmed[from as usize..to as usize].fill(true);
                        hold.release();
                    }
                    2 if !open.is_empty() => drop(open.swap_remove(index.index(open.len()))),
                    3 => read = tracker.take_rewind().unwrap_or(read),
                    _ => {}
                }
                let prefix = confirmed.iter().take_while(|s| **s).count() as u64;
                prop_assert!(tracker.position() <= prefix.min(read), "{} of {prefix}", tracker.position());
            }
            read = tracker.take_rewind().unwrap_or(read);
            open.drain(..).for_each(|(hold, ..)| hold.release());
            prop_assert_eq!(tracker.position(), read);
        }
    }
}
