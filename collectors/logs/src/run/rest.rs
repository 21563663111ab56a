//! How lanes come to rest and are woken, and what is done when descriptors run short.
//!
//! A lane rests in steps. At its end it is polled for a while; then it is parked and the kernel watches its directory;
//! when more files are open than the process should have, it is put to sleep: its descriptor is closed, and what is
//! known of its files is what a restart would know. Whatever the kernel says or does not say, every lane at rest is
//! looked at again in each rescan.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use taffrail_record::OutletClosed;

use super::mark::Mark;
use super::slots::{Seat, Sleeper};
use super::{DESCRIPTOR_WAIT, NAME_PATIENCE, Run, SLOWEST_WAIT, next_pause};

/// How long an idle lane waits between looks when the kernel does not watch its directory.
const SLOWEST_POLL: Duration = Duration::from_secs(10);
/// How many lanes at rest are looked at between two turns.
const RECHECKED: usize = 256;
/// The least time between two looks at all lanes at rest for some that can sleep.
const SHORTAGE_GAP: Duration = Duration::from_secs(1);

impl Run<'_> {
    pub(super) fn wake_directory(&mut self, directory: &Path) {
        self.slots.in_directory(directory).to_vec().into_iter().for_each(|id| self.wake(id));
    }

    /// A lane at rest has its turn again.
    pub(super) fn wake(&mut self, id: usize) {
        match self.slots.get_mut(id) {
            Some(Seat::Awake(slot)) => {
                slot.parking = false;
                if std::mem::take(&mut slot.parked) {
                    self.gear.counters.parked.add(1_u64.wrapping_neg());
                    slot.pause = Duration::ZERO;
                    slot.lane.checked_at =
                        Instant::now() - Duration::from_secs(60).min(slot.lane.checked_at.elapsed());
                    self.schedule.ready(id);
                }
            }
            Some(Seat::Asleep(_)) => self.rouse(id),
            None => {}
        }
    }

    pub(super) fn rouse_some(&mut self, most: usize) {
        for id in self.to_rouse.drain(..most.min(self.to_rouse.len())).collect::<Vec<_>>() {
            if matches!(self.slots.get(id), Some(Seat::Asleep(sleeper)) if sleeper.mark.is_none()) {
                self.rouse(id);
            }
        }
    }

    /// A sleeper follows its files again, from what is known of them.
    pub(super) fn rouse(&mut self, id: usize) {
        let now = Instant::now();
        let Some(Seat::Asleep(sleeper)) = self.slots.get_mut(id) else { return };
        let (target, states) = (sleeper.target.clone(), std::mem::take(&mut sleeper.states));
        let (named, seen) = (sleeper.named, sleeper.seen);
        let mut slot = self.slot(id, target, states);
        (slot.named, slot.seen) = (named, seen);
        // It was silent: unless something is read now, it rests again at once.
        slot.active_at = now.checked_sub(self.gear.pace.park_after).unwrap_or(now);
        slot.added_at = now.checked_sub(NAME_PATIENCE * 2).unwrap_or(now);
        self.slots.replace(id, Seat::Awake(Box::new(slot)));
        self.schedule.ready(id);
    }

    /// Looks at some of the lanes at rest whatever the kernel said, when it is time.
    pub(super) fn recheck(&mut self, now: Instant) -> Result<(), OutletClosed> {
        if now >= self.recheck_at {
            self.recheck = 0;
            self.plan_recheck(now);
        }
        let end = self.slots.end();
        for _ in 0..RECHECKED {
            if self.recheck >= end {
                return Ok(());
            }
            let changed = match self.slots.get(self.recheck) {
                Some(Seat::Awake(slot)) => {
                    slot.parked && (slot.mark.is_none() || slot.mark != Mark::now(&slot.lane))
                }
                Some(Seat::Asleep(sleeper)) => {
                    let now = || Mark::of_states(&sleeper.target.directory, &sleeper.states);
                    sleeper.mark.is_some_and(|mark| now() != Some(mark))
                }
                None => false,
            };
            if changed {
                self.wake(self.recheck);
            } else if self.slots.awake(self.recheck).is_some_and(|slot| slot.parked)
                && self.put_to_sleep(self.recheck)?
            {
                self.gear.counters.parked.add(1_u64.wrapping_neg());
            }
            self.recheck += 1;
        }
        Ok(())
    }

    pub(super) fn plan_recheck(&mut self, now: Instant) {
        self.rechecked_at = now;
        let rescan = Duration::from_secs(self.gear.config.rescan_seconds);
        self.recheck_at = now + if self.blind { rescan.min(SLOWEST_POLL) } else { rescan };
    }

    /// A lane with nothing to do: polled for a while, then parked if the kernel will tell.
    pub(super) fn rest(&mut self, id: usize, now: Instant, tick: Duration) -> Result<(), OutletClosed> {
        let park_after = self.park_after();
        let Some(slot) = self.slots.awake_mut(id) else { return Ok(()) };
        if slot.is_active(now, park_after) {
            slot.pause = tick;
            self.schedule.after(id, now, tick);
            return Ok(());
        }
        if !slot.lane.is_settled() {
            // What is under way may be abandoned, and only a turn would see it.
            slot.parking = false;
            slot.pause = next_pause(slot, self.gear.pace.park_after, now, tick, SLOWEST_WAIT);
            self.schedule.after(id, now, slot.pause);
            return Ok(());
        }
        if slot.parking {
            slot.parking = false;
            slot.trim();
            slot.mark = slot.mark.filter(|mark| Mark::of_lane(&slot.lane) == Some(*mark));
            self.schedule.park(id);
            if !self.put_to_sleep(id)?
                && let Some(slot) = self.slots.awake_mut(id)
            {
                slot.parked = true;
                self.gear.counters.parked.add(1);
            }
            return Ok(());
        }
        let directory = slot.lane.target.directory.clone();
        // Writes through a link are told where it leads to, not here.
        let linked = slot.lane.is_linked();
        let watched = !linked && self.is_quiet(&directory, now) && self.watch.add(&directory);
        let Some(slot) = self.slots.awake_mut(id) else { return Ok(()) };
        slot.mark = Mark::of_lane(&slot.lane);
        if watched {
            // One more look after the watch is set closes the gap before it.
            slot.parking = true;
            self.schedule.ready(id);
        } else if self.put_to_sleep(id)? {
            self.blind = true;
            self.schedule.park(id);
        } else if let Some(slot) = self.slots.awake_mut(id) {
            slot.pause = next_pause(slot, self.gear.pace.park_after, now, tick, SLOWEST_POLL);
            self.schedule.after(id, now, slot.pause);
        }
        Ok(())
    }

    /// Whether so many files are open that the next would take the descriptors needed for everything else. Lanes that
    /// nobody has looked at yet wait until others sleep.
    pub(super) fn is_short_of_descriptors(&mut self) -> bool {
        let open = usize::try_from(self.gear.counters.open_files.value()).unwrap_or(usize::MAX);
        let short = open > self.most_open.saturating_add(self.most_open / 8);
        if short {
            // Some that are parked can sleep.
            self.recheck_at = self.recheck_at.min(self.rechecked_at + SHORTAGE_GAP);
        }
        if short && !std::mem::replace(&mut self.shortage_reported, true) {
            tracing::warn!(
                open,
                "more log files than this process may hold open; idle ones are closed, new ones wait (raise the limit of open files)"
            );
        }
        short
    }

    /// How long a lane must have been silent to rest.
    pub(super) fn park_after(&self) -> Duration {
        let short = self.gear.counters.open_files.value() > self.most_open as u64;
        if short { DESCRIPTOR_WAIT.min(self.gear.pace.park_after) } else { self.gear.pace.park_after }
    }

    /// Closes what an idle lane holds, if more is open than should be; returns whether it sleeps now.
    pub(super) fn put_to_sleep(&mut self, id: usize) -> Result<bool, OutletClosed> {
        if self.gear.counters.open_files.value() <= self.most_open as u64 {
            return Ok(false);
        }
        let Some(slot) = self.slots.awake_mut(id) else { return Ok(false) };
        let (lane, mark) = (&mut slot.lane, slot.mark);
        if mark.is_none() || lane.chain.len() != 1 || !lane.is_settled() || !slot.named {
            return Ok(false);
        }
        lane.pause(&mut self.gear.tools(Instant::now()))?;
        let states = lane.leave(self.gear.keeper, self.gear.counters);
        let (target, account) = (lane.target.clone(), Some(Arc::clone(&lane.account)));
        let sleeper = Sleeper { target, states, _account: account, named: slot.named, seen: slot.seen, mark };
        self.slots.replace(id, Seat::Asleep(Box::new(sleeper)));
        Ok(true)
    }

    pub(super) fn is_quiet(&mut self, directory: &Path, now: Instant) -> bool {
        self.slots.is_quiet(directory, now, self.park_after())
    }
}
