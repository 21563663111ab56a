//! The documents of one chain as hashes: 32 bytes for each, however large it was and in whatever order it came.
//!
//! Guarantee: what is said of a chain does not depend on the order in which its documents came, but for which of two different
//! ones under one number is called the first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use taffrail_record::Span;

/// SHA-256.
pub(super) type Hash = [u8; 32];

/// A hash in hexadecimal digits, if it is one.
pub(super) fn hash_of(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    if text.len() != 2 * hash.len() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// What a document brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Novelty {
    New,
    Repeat,
    /// Another one has its number.
    Other,
}

/// Documents without a hole between them.
#[derive(Debug, Clone, Default)]
struct Run {
    /// What the first one says of the one before it.
    previous: Option<Hash>,
    hashes: VecDeque<Hash>,
}

/// Documents by their numbers in the chain.
#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    /// By the number of the first; runs do not touch.
    runs: BTreeMap<u64, Run>,
    /// Documents that are not what the one behind them names.
    broken: BTreeSet<u64>,
    /// Numbers that different documents have.
    twofold: BTreeSet<u64>,
}

impl Links {
    /// Takes a document in that names the one before it as `previous`.
    pub(super) fn add(&mut self, sequence: u64, previous: Option<Hash>, hash: Hash) -> Novelty {
        if let Some(known) = self.hash(sequence) {
            if known == hash {
                return Novelty::Repeat;
            }
            self.twofold.insert(sequence);
            return Novelty::Other;
        }
        let run = Run { previous, hashes: [hash].into() };
        let start = self.join_left(sequence, run);
        self.join_right(start);
        Novelty::New
    }

    /// Puts a run behind the one that ends where it begins, if there is one. Where it begins then.
    fn join_left(&mut self, sequence: u64, mut run: Run) -> u64 {
        let left = self.runs.range_mut(..sequence).next_back();
        let Some((start, left)) = left.filter(|(start, left)| *start + left.len() == sequence) else {
            self.runs.insert(sequence, run);
            return sequence;
        };
        if run.previous != left.hashes.back().copied() {
            self.broken.insert(sequence - 1);
        }
        left.hashes.append(&mut run.hashes);
        *start
    }

    /// Puts the run that begins where this one ends behind it, if there is one.
    fn join_right(&mut self, start: u64) {
        let Some(end) = self.runs.get(&start).map(|run| start + run.len()) else { return };
        let (Some(mut right), Some(left)) = (self.runs.remove(&end), self.runs.get_mut(&start)) else {
            return;
        };
        if right.previous != left.hashes.back().copied() {
            self.broken.insert(end - 1);
        }
        // The shorter one moves.
        if left.hashes.len() < right.hashes.len() {
            left.hashes.drain(..).rev().for_each(|hash| right.hashes.push_front(hash));
            left.hashes = right.hashes;
        } else {
            left.hashes.append(&mut right.hashes);
        }
    }

    /// The hash of a document that is there.
    pub(super) fn hash(&self, sequence: u64) -> Option<Hash> {
        let (start, run) = self.runs.range(..=sequence).next_back()?;
        run.hashes.get(usize::try_from(sequence - start).ok()?).copied()
    }

    /// Number of the first document.
    pub(super) fn first(&self) -> Option<u64> {
        self.runs.keys().next().copied()
    }

    /// What the first document says of the one before it.
    pub(super) fn first_previous(&self) -> Option<Hash> {
        self.runs.values().next()?.previous
    }

    /// One past the number of the last.
    pub(super) fn end(&self) -> u64 {
        self.runs.last_key_value().map_or(0, |(start, run)| start + run.len())
    }

    /// The hash of the last document.
    pub(super) fn last(&self) -> Option<Hash> {
        self.runs.values().next_back()?.hashes.back().copied()
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.runs.values().map(Run::len).sum()
    }

    /// Numbers between the first and the last that no document has.
    pub(super) fn holes(&self) -> impl Iterator<Item = Span> {
        let ends = self.runs.iter().map(|(start, run)| start + run.len());
        ends.zip(self.runs.keys().skip(1)).map(|(end, start)| Span { start: end, end: *start })
    }

    /// Documents that are not what the one behind them names.
    pub(super) fn broken(&self) -> &BTreeSet<u64> {
        &self.broken
    }

    /// Numbers that different documents have.
    pub(super) fn twofold(&self) -> &BTreeSet<u64> {
        &self.twofold
    }
}

impl Run {
    fn len(&self) -> u64 {
        self.hashes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(number: u64) -> Hash {
        let mut hash = Hash::default();
        hash[..8].copy_from_slice(&number.to_le_bytes());
        hash
    }

    fn add(links: &mut Links, sequence: u64) -> Novelty {
        links.add(sequence, sequence.checked_sub(1).map(hash), hash(sequence))
    }

    #[test]
    fn a_hash_is_read_from_its_digits() {
        assert_eq!(hash_of(&"0f".repeat(32)), Some([15; 32]));
        for text in ["", "0f", &"0g".repeat(32), &"é".repeat(32), &"+1".repeat(31)] {
            assert_eq!(hash_of(text), None, "{text}");
        }
    }

    #[test]
    fn two_documents_under_one_number_and_a_wrong_name_are_noticed() {
        let mut links = Links::default();
        assert_eq!(
            [0, 1, 1, 3].map(|n| add(&mut links, n)),
            [Novelty::New, Novelty::New, Novelty::Repeat, Novelty::New]
        );
        assert_eq!(links.add(1, Some(hash(0)), hash(77)), Novelty::Other);
        assert_eq!(links.add(2, Some(hash(5)), hash(2)), Novelty::New);
        assert_eq!((links.twofold(), links.broken()), (&[1].into(), &[1].into()));
        assert_eq!((links.first(), links.end(), links.len()), (Some(0), 4, 4));
    }

    proptest! {
        #[test]
        fn the_order_of_arrival_does_not_matter(numbers in prop::collection::vec(0_u64..60, 0..90), seed in any::<u64>()) {
            let there: BTreeSet<u64> = numbers.iter().copied().collect();
            let mut shuffled = numbers;
            shuffled.sort_by_key(|number| number.wrapping_mul(seed | 1).rotate_left(17));
            let mut links = Links::default();
            for number in &shuffled {
                add(&mut links, *number);
            }
            prop_assert_eq!(links.len(), there.len() as u64);
            prop_assert_eq!(links.first(), there.first().copied());
            prop_assert_eq!(links.end(), there.last().map_or(0, |last| last + 1));
            prop_assert_eq!(links.last(), there.last().copied().map(hash));
            let holes: Vec<u64> = links.holes().flat_map(|hole| hole.start..hole.end).collect();
            let expected: Vec<u64> = (links.first().unwrap_or(0)..links.end()).filter(|n| !there.contains(n)).collect();
            prop_assert_eq!(holes, expected);
            prop_assert!(links.broken().is_empty() && links.twofold().is_empty());
            for number in 0..60 {
                prop_assert_eq!(links.hash(number), there.contains(&number).then(|| hash(number)));
            }
        }
    }
}
