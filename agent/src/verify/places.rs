//! The places where records lie one behind the other, a partition or a series of NDJSON files, and what retention took
//! away from their beginnings.
//!
//! Retention takes from the beginning of a place and from nowhere else, and a file's records lie in one place in their
//! order. So of a file it can only have taken the beginning, or all. And it can have taken nothing that was written
//! after the oldest message that is left: a file that was opened later, and the bytes behind what was confirmed at the
//! first statement made later, must be there. See [`Places::removed_until`] and [`super::history`].

/// A partition, or a series of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(usize);

/// Where and when a record was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Where.
    pub place: Place,
    /// Nanoseconds since the Unix epoch. A message's own time, or else the time at which the line was printed.
    pub time: Option<i64>,
}

/// How far the clocks of a statement and of a message may be apart.
pub(super) const SLACK: i64 = 300 * 1_000_000_000;

/// All places that were read.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By [`Place`]: `None` as long as nothing was removed.
    removed: Vec<Option<i64>>,
}

impl Places {
    /// A place from which nothing was removed.
    pub(super) fn add(&mut self) -> Place {
        self.removed.push(None);
        Place(self.removed.len() - 1)
    }

    /// The beginning of `place` was removed; the oldest message that is left was written at `oldest`. Without one,
    /// anything may have been there.
    pub(super) fn truncate(&mut self, place: Place, oldest: Option<i64>) {
        if let Some(removed) = self.removed.get_mut(place.0) {
            *removed = Some(oldest.map_or(i64::MAX, |oldest| oldest.saturating_add(SLACK)));
        }
    }

    /// No record that was removed from `place` was written after this; `None` when nothing was removed.
    pub(super) fn removed_until(&self, place: Place) -> Option<i64> {
        self.removed.get(place.0).copied().flatten()
    }

    /// The same of a record that may have been in any of all places.
    pub(super) fn removed_anywhere_until(&self) -> Option<i64> {
        self.removed.iter().copied().max().flatten()
    }
}
