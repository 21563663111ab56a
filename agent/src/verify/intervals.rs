//! Sets of bytes as runs: what a file's records cover takes memory by its gaps, not by its records.

use std::collections::BTreeMap;

use taffrail_record::Span;

/// A set of byte positions. Touching runs are one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Intervals {
    /// First byte to one past the last.
    runs: BTreeMap<u64, u64>,
}

impl Intervals {
    /// Adds a range and returns how many of its bytes are new.
    pub(super) fn insert(&mut self, span: Span) -> u64 {
        if span.is_empty() {
            return 0;
        }
        // Most records follow the one before.
        if let Some(mut last) = self.runs.last_entry()
            && *last.get() == span.start
        {
            *last.get_mut() = span.end;
            return span.len();
        }
        self.merge(span)
    }

    fn merge(&mut self, span: Span) -> u64 {
        let (mut start, mut end, mut known) = (span.start, span.end, 0);
        while let Some((&run_start, &run_end)) = self.runs.range(..=end).next_back() {
            if run_end < start {
                break;
            }
            known += run_end.min(span.end).saturating_sub(run_start.max(span.start));
            start = start.min(run_start);
            end = end.max(run_end);
            self.runs.remove(&run_start);
        }
        self.runs.insert(start, end);
        span.len() - known
    }

    /// Removes a range and returns how many of its bytes were there.
    pub(super) fn remove(&mut self, span: Span) -> u64 {
        if span.is_empty() {
            return 0;
        }
        let mut removed = 0;
        while let Some((&start, &end)) = self.runs.range(..span.end).next_back() {
            if end <= span.start {
                break;
            }
            removed += end.min(span.end) - start.max(span.start);
            self.runs.remove(&start);
            if start < span.start {
                self.runs.insert(start, span.start);
            }
            if end > span.end {
                self.runs.insert(span.end, end);
            }
        }
        removed
    }

    /// Whether the byte at `at` or the one before it is in the set.
    pub(super) fn reaches(&self, at: u64) -> bool {
        self.runs.range(..=at).next_back().is_some_and(|(_, &end)| end >= at)
    }

    /// The ranges of `within` that are not in the set.
    pub(super) fn gaps(&self, within: Span) -> impl Iterator<Item = Span> {
        let first = self.runs.range(..=within.start).next_back();
        let mut at = first.map_or(within.start, |(_, &end)| end.max(within.start));
        let mut runs = self.runs.range(within.start..within.end);
        let mut done = within.is_empty();
        std::iter::from_fn(move || {
            while !done {
                let (next, resume) =
                    runs.next().map_or((within.end, within.end), |(&start, &end)| (start, end));
                done = next == within.end;
                let gap = Span { start: at.min(next), end: next };
                at = at.max(resume);
                if !gap.is_empty() {
                    return Some(gap);
                }
            }
            None
        })
    }

    /// The runs, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Span> {
        self.runs.iter().map(|(&start, &end)| Span { start, end })
    }

    /// Number of bytes.
    #[must_use]
    pub(super) fn bytes(&self) -> u64 {
        self.iter().map(Span::len).sum()
    }

    /// First byte, and one past the last; `None` when empty.
    #[must_use]
    pub(super) fn hull(&self) -> Option<Span> {
        let (&start, _) = self.runs.first_key_value()?;
        let (_, &end) = self.runs.last_key_value()?;
        Some(Span { start, end })
    }

    /// Number of runs.
    #[must_use]
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }
}

impl FromIterator<Span> for Intervals {
    fn from_iter<T: IntoIterator<Item = Span>>(spans: T) -> Self {
        let mut intervals = Intervals::default();
        for span in spans {
            intervals.insert(span);
        }
        intervals
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = 64;

    fn span() -> impl Strategy<Value = Span> {
        (0..SIZE as u64, 0..12_u64).prop_map(|(start, len)| Span::at(start, len.min(SIZE as u64 - start)))
    }

    /// Ranges of equal bytes in an array: the model of runs.
    fn runs(bytes: &[bool], wanted: bool, within: Span) -> Vec<Span> {
        let mut runs: Vec<Span> = Vec::new();
        for at in within.start..within.end {
            if bytes[at as usize] != wanted {
                continue;
            }
            match runs.last_mut() {
                Some(last) if last.end == at => last.end = at + 1,
                _ => runs.push(Span::at(at, 1)),
            }
        }
        runs
    }

    fn range(span: Span) -> std::ops::Range<usize> {
        span.start as usize..span.end as usize
    }

    proptest! {
        #[test]
        fn intervals_are_an_array_of_bytes(
            steps in prop::collection::vec((span(), prop::bool::weighted(0.75)), 0..40),
            probe in span(),
        ) {
            let mut model = [false; SIZE];
            let mut intervals = Intervals::default();
            for (span, add) in steps {
                let changed = model[range(span)].iter().filter(|byte| **byte != add).count() as u64;
                let said = if add { intervals.insert(span) } else { intervals.remove(span) };
                prop_assert_eq!(said, changed);
                model[range(span)].fill(add);
            }
            let whole = Span::at(0, SIZE as u64);
            prop_assert_eq!(intervals.iter().collect::<Vec<_>>(), runs(&model, true, whole));
            for at in 0..SIZE {
                prop_assert_eq!(intervals.reaches(at as u64), model[at] || at > 0 && model[at - 1]);
            }
            prop_assert_eq!(intervals.bytes(), model.iter().filter(|byte| **byte).count() as u64);
            prop_assert_eq!(intervals.gaps(probe).collect::<Vec<_>>(), runs(&model, false, probe));
            let hull = model.iter().position(|byte| *byte).zip(model.iter().rposition(|byte| *byte));
            prop_assert_eq!(intervals.hull(), hull.map(|(a, b)| Span { start: a as u64, end: b as u64 + 1 }));
        }
    }
}
