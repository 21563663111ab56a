//! Who made whom on this machine, as the process connector tells it, so that it is known of processes which have ended, too.
//!
//! What is kept grows with the processes that live and those that ended within [`KEPT`].

use std::collections::{HashMap, HashSet, VecDeque};

use crate::connector::Event;

/// Nanoseconds for which those that have ended are known.
const KEPT: u64 = 5_000_000_000;
/// Generations that are gone back at most.
const DEPTH: usize = 32;

/// The parents of processes.
#[derive(Debug, Default)]
pub(crate) struct Lineage {
    /// By child: its parent, and when it was made.
    parents: HashMap<u32, (u32, u64)>,
    ended: VecDeque<(u64, u32)>,
}

impl Lineage {
    /// Something has happened; `time` is of the same clock every time.
    pub(crate) fn happened(&mut self, event: Event, time: u64) {
        match event {
            Event::Fork { parent, child } => drop(self.parents.insert(child, (parent, time))),
            Event::Exit { pid, .. } => self.ended.push_back((time, pid)),
            Event::Exec { .. } => {}
        }
        while let Some((ended, pid)) = self.ended.front().copied().filter(|(ended, _)| ended + KEPT < time) {
            self.ended.pop_front();
            // Not when another process has its number by now.
            if self.parents.get(&pid).is_some_and(|(_, made)| *made <= ended) {
                self.parents.remove(&pid);
            }
        }
    }

    /// A process's ancestors as far as they are known, the nearest first.
    pub(crate) fn of(&self, pid: u32) -> Vec<u32> {
        let mut met = HashSet::from([pid]);
        let next = |pid: &u32| self.parents.get(pid).map(|(parent, _)| *parent);
        let ancestors = std::iter::successors(next(&pid), next).take(DEPTH);
        ancestors.take_while(|ancestor| met.insert(*ancestor)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_are_known_for_a_while_after_their_ends() {
        let mut lineage = Lineage::default();
        let fork = |parent, child| Event::Fork { parent, child };
        let exit = |pid| Event::Exit { pid, status: 0 };
        for (time, event) in [(1, fork(2, 3)), (2, fork(3, 4)), (3, exit(3)), (4, exit(4))] {
            lineage.happened(event, time);
        }
        assert_eq!((lineage.of(4), lineage.of(9)), (vec![3, 2], vec![]));
        // A number that is given again is another process.
        lineage.happened(fork(7, 4), 5);
        lineage.happened(fork(7, 8), 6 + KEPT);
        assert_eq!((lineage.of(4), lineage.of(3)), (vec![7], vec![]));
        assert_eq!(lineage.parents.len(), 2);
    }

    #[test]
    fn whoever_seems_to_be_his_own_ancestor_is_named_once() {
        let mut lineage = Lineage::default();
        for (parent, child) in [(1, 2), (2, 3), (3, 1)] {
            lineage.happened(Event::Fork { parent, child }, 1);
        }
        assert_eq!(lineage.of(3), [2, 1]);
    }
}
