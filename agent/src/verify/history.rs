//! What was confirmed when: how much of a file may have been delivered before a certain time.

use std::collections::BTreeMap;

/// Statements about one file are remembered by spans of this, so that years of them take little memory.
const STEP: i64 = 300 * 1_000_000_000;

/// The positions that were confirmed, over time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct History {
    /// By number of the [`STEP`] since the Unix epoch: the least position that was stated in it.
    confirmed: BTreeMap<i64, u64>,
}

impl History {
    /// At `time` (nanoseconds since the Unix epoch) everything before `position` was confirmed.
    pub(super) fn note(&mut self, time: i64, position: u64) {
        let least = self.confirmed.entry(time.div_euclid(STEP)).or_insert(position);
        *least = position.min(*least);
    }

    /// The first byte that was certainly delivered after `time`: what was not confirmed in a statement made later.
    /// `u64::MAX` when there is no such statement.
    pub(super) fn delivered_after(&self, time: i64) -> u64 {
        let later = time.div_euclid(STEP).saturating_add(1)..;
        self.confirmed.range(later).map(|(_, position)| *position).min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_confirmed_later_on_was_delivered_later_still() {
        let mut history = History::default();
        assert_eq!(history.delivered_after(0), u64::MAX);
        for (step, position) in [(30, 700), (10, 0), (20, 500), (20, 400), (40, 900)] {
            history.note(step * STEP + 7, position);
        }
        for (step, expected) in [(0, 0), (9, 0), (10, 400), (19, 400), (20, 700), (30, 900), (40, u64::MAX)] {
            assert_eq!(history.delivered_after(step * STEP), expected, "after {step}");
        }
        assert_eq!(history.delivered_after(i64::MAX), u64::MAX);
    }
}
