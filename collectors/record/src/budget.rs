//! The byte budget: how much may be between a read and its confirmation.
//!
//! One budget bounds the memory of the whole path. A reader that cannot take waits, so an outage of the far side
//! stops reading and costs no memory; the files keep the data.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// A bounded number of bytes, taken in charges and given back when they are dropped.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: Mutex<Used>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Used {
    now: u64,
    peak: u64,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Budget { limit, used: Mutex::default(), freed: Condvar::new() })
    }

    /// Takes `bytes`, or nothing when they do not fit. A charge larger than the whole budget is granted when
    /// nothing else is out, so that one long line cannot block for ever.
    #[must_use]
    pub fn try_take(self: &Arc<Self>, bytes: u64) -> Option<Charge> {
        let mut used = self.used.lock();
        (used.now == 0 || used.now + bytes <= self.limit).then(|| self.grant(&mut used, bytes))
    }

    /// Takes `bytes`, waiting up to `patience` for them.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: u64, patience: Duration) -> Option<Charge> {
        let deadline = Instant::now() + patience;
        let mut used = self.used.lock();
        while used.now != 0 && used.now + bytes > self.limit {
            if self.freed.wait_until(&mut used, deadline).timed_out() {
                return None;
            }
        }
        Some(self.grant(&mut used, bytes))
    }

    fn grant(self: &Arc<Self>, used: &mut Used, bytes: u64) -> Charge {
        used.now += bytes;
        used.peak = used.peak.max(used.now);
        Charge { budget: Arc::clone(self), bytes }
    }

    /// Bytes out now, the most that ever were, and the limit.
    #[must_use]
    pub fn level(&self) -> (u64, u64, u64) {
        let used = self.used.lock();
        (used.now, used.peak, self.limit)
    }
}

/// Bytes taken from a [`Budget`]; dropping it gives them back.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Charge {
    /// Sets the charge to what is really held, which may pass the limit: the next reader waits for it.
    pub fn resize(&mut self, bytes: u64) {
        let mut used = self.budget.used.lock();
        used.now = used.now - self.bytes + bytes;
        used.peak = used.peak.max(used.now);
        if bytes < self.bytes {
            self.budget.freed.notify_all();
        }
        self.bytes = bytes;
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.lock().now -= self.bytes;
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_budget_grants_nothing_until_a_charge_is_dropped() {
        let budget = Budget::new(100);
        let first = budget.try_take(60).expect("fits");
        assert!(budget.try_take(41).is_none());
        assert!(budget.take(41, Duration::from_millis(5)).is_none());
        drop(first);
        assert!(budget.try_take(41).is_some());
    }

    #[test]
    fn one_charge_larger_than_the_budget_passes_alone() {
        let budget = Budget::new(10);
        let large = budget.try_take(50).expect("granted while nothing is out");
        assert!(budget.try_take(1).is_none());
        drop(large);
        assert_eq!(budget.level(), (0, 50, 10));
    }

    #[test]
    fn resizing_counts_what_is_really_held() {
        let budget = Budget::new(100);
        let mut charge = budget.try_take(10).expect("fits");
        charge.resize(90);
        assert!(budget.try_take(20).is_none());
        charge.resize(30);
        assert!(budget.try_take(20).is_some());
    }
}
