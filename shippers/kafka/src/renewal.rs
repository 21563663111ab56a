//! When a producer that has given up is replaced: at once, and ever later while its successors deliver nothing.
//!
//! A user who may not write anywhere is refused as a producer; without a pause each node would knock several times a
//! second for as long as that lasts.

use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The pauses between one producer and the next.
#[derive(Debug)]
pub(crate) struct Renewal {
    largest: Duration,
    pause: Duration,
    last: Option<Instant>,
    delivered: u64,
}

impl Renewal {
    /// Pauses of up to `largest`.
    pub(crate) fn new(largest: Duration) -> Self {
        Renewal { largest, pause: Duration::ZERO, last: None, delivered: 0 }
    }

    /// Whether the next may be made at `now`, when `delivered` messages were delivered in all.
    pub(crate) fn is_due(&self, now: Instant, delivered: u64) -> bool {
        delivered > self.delivered || self.last.is_none_or(|last| now.duration_since(last) >= self.pause)
    }

    /// Notes that one was made.
    pub(crate) fn made(&mut self, now: Instant, delivered: u64) {
        let fruitless = self.last.is_some() && delivered == self.delivered;
        let longer = if fruitless { self.pause * 2 } else { FIRST_PAUSE };
        self.pause = longer.min(self.largest);
        self.last = Some(now);
        self.delivered = delivered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_nothing_is_delivered_and_end_when_something_is() {
        let mut now = Instant::now();
        let mut renewal = Renewal::new(Duration::from_secs(1));
        assert!(renewal.is_due(now, 0));
        for pause in [250, 500, 1000, 1000] {
            renewal.made(now, 0);
            now += Duration::from_millis(pause - 1);
            assert!(!renewal.is_due(now, 0), "after {pause} ms");
            now += Duration::from_millis(1);
            assert!(renewal.is_due(now, 0));
        }
        renewal.made(now, 0);
        assert!(renewal.is_due(now, 1), "the last one delivered something");
        renewal.made(now, 1);
        assert!(renewal.is_due(now + FIRST_PAUSE, 1));
    }
}
