//! Whose turn it is.
//!
//! Lanes with something to read take turns, one block each per round (four for a lane whose oldest file will be
//! deleted before long), so that a loud container delays a quiet one by one round at most. Lanes at their end come
//! back at the next tick of a common grid: one wake-up serves all of them. Idle lanes are parked and cost nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

/// Decides the order of lanes, which it knows by number.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    tick: Duration,
    /// This round's rest.
    now: VecDeque<usize>,
    /// The next round.
    next: Vec<usize>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Per lane: when its valid timer is due; `None` when parked, in a round, or gone.
    due: Vec<Option<Instant>>,
    /// Per lane: whether it is in a round.
    queued: Vec<bool>,
}

impl Schedule {
    /// A schedule whose ticks are `tick` apart.
    pub(crate) fn new(start: Instant, tick: Duration) -> Schedule {
        Schedule {
            start,
            tick,
            now: VecDeque::new(),
            next: Vec::new(),
            timers: BinaryHeap::new(),
            due: Vec::new(),
            queued: Vec::new(),
        }
    }

    /// Sets how far ticks are apart from now on.
    pub(crate) fn set_tick(&mut self, tick: Duration) {
        self.tick = tick;
    }

    /// Puts a lane into the next round, wherever it was.
    pub(crate) fn ready(&mut self, lane: usize) {
        self.grow(lane);
        self.due[lane] = None;
        if !std::mem::replace(&mut self.queued[lane], true) {
            self.next.push(lane);
        }
    }

    /// Puts it back in front of this round: its turn was not used.
    pub(crate) fn again(&mut self, lane: usize) {
        self.grow(lane);
        self.due[lane] = None;
        if !std::mem::replace(&mut self.queued[lane], true) {
            self.now.push_front(lane);
        }
    }

    /// Brings it back at the first tick that is at least `pause` away.
    pub(crate) fn after(&mut self, lane: usize, now: Instant, pause: Duration) {
        let since = now.saturating_duration_since(self.start) + pause;
        let ticks = since.as_nanos().div_ceil(self.tick.as_nanos().max(1));
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        self.at(lane, self.start + self.tick.saturating_mul(ticks));
    }

    /// Brings it back at a moment.
    pub(crate) fn at(&mut self, lane: usize, due: Instant) {
        self.grow(lane);
        self.due[lane] = Some(due);
        self.timers.push(Reverse((due, lane)));
    }

    /// Neither turn nor timer until [`Schedule::ready`].
    pub(crate) fn park(&mut self, lane: usize) {
        self.grow(lane);
        self.due[lane] = None;
    }

    /// The next lane, of those that are ready at `now`. In their round the most urgent come first.
    pub(crate) fn turn(&mut self, now: Instant, urgency: impl Fn(usize) -> usize) -> Option<usize> {
        if self.now.is_empty() {
            self.begin_round(now, urgency);
        }
        let lane = self.now.pop_front()?;
        self.queued[lane] = false;
        Some(lane)
    }

    /// When the next timer is due; `None` when there is none, now when a lane is ready.
    pub(crate) fn wake_at(&mut self, now: Instant) -> Option<Instant> {
        if !self.now.is_empty() || !self.next.is_empty() {
            return Some(now);
        }
        while let Some(Reverse((due, lane))) = self.timers.peek().copied() {
            if self.due[lane] == Some(due) {
                return Some(due);
            }
            self.timers.pop();
        }
        None
    }

    fn begin_round(&mut self, now: Instant, urgency: impl Fn(usize) -> usize) {
        while let Some(Reverse((due, lane))) =
            self.timers.peek().copied().filter(|Reverse((due, _))| *due <= now)
        {
            self.timers.pop();
            if self.due[lane] == Some(due) {
                self.ready(lane);
            }
        }
        self.next.sort_by_cached_key(|lane| Reverse(urgency(*lane)));
        self.now.extend(self.next.drain(..));
    }

    fn grow(&mut self, lane: usize) {
        if lane >= self.due.len() {
            self.due.resize(lane + 1, None);
            self.queued.resize(lane + 1, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    fn turns(schedule: &mut Schedule, now: Instant, count: usize) -> Vec<Option<usize>> {
        (0..count).map(|_| schedule.turn(now, |_| 0)).collect()
    }

    #[test]
    fn every_ready_lane_has_its_turn_before_any_has_two() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, TICK);
        (0..3).for_each(|lane| schedule.ready(lane));
        let mut order = Vec::new();
        for _ in 0..6 {
            let lane = schedule.turn(now, |_| 0).expect("a lane");
            order.push(lane);
            schedule.ready(lane);
        }
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn the_most_urgent_lanes_come_first_in_their_round_only() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, TICK);
        (0..3).for_each(|lane| schedule.ready(lane));
        let mut order = Vec::new();
        for _ in 0..6 {
            let lane = schedule.turn(now, |lane| [0, 1, 5][lane]).expect("a lane");
            order.push(lane);
            schedule.ready(lane);
        }
        assert_eq!(order, [2, 1, 0, 2, 1, 0]);
    }

    #[test]
    fn an_unused_turn_is_not_lost() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, TICK);
        (0..2).for_each(|lane| schedule.ready(lane));
        assert_eq!(schedule.turn(now, |_| 0), Some(0));
        schedule.again(0);
        assert_eq!(turns(&mut schedule, now, 3), [Some(0), Some(1), None]);
    }

    #[test]
    fn timers_share_the_ticks_of_a_grid() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, TICK);
        schedule.after(0, now + Duration::from_millis(10), TICK);
        schedule.after(1, now + Duration::from_millis(90), TICK);
        assert_eq!(schedule.wake_at(now), Some(now + 2 * TICK));
        assert_eq!(turns(&mut schedule, now + TICK, 1), [None]);
        let mut both = turns(&mut schedule, now + 2 * TICK, 3);
        both.sort();
        assert_eq!(both, [None, Some(0), Some(1)]);
    }

    #[test]
    fn a_parked_lane_waits_until_it_is_made_ready() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, TICK);
        schedule.after(0, now, TICK);
        schedule.park(0);
        assert_eq!(schedule.wake_at(now), None);
        assert_eq!(turns(&mut schedule, now + 10 * TICK, 1), [None]);
        schedule.ready(0);
        assert_eq!(turns(&mut schedule, now, 1), [Some(0)]);
    }
}
