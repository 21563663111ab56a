//! What is counted of one pod.

use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::pod::Pod;
use crate::status::{ContainerStatus, Termination};
use crate::store::bare_id;
use crate::text::Text;

/// The reason of ends that were never shown.
const UNSEEN: &str = "unseen";
/// The reason of ends whose reason and exit code are one pair too many.
const OTHER: &str = "other";
/// How many pairs of reason and exit code a container has at most.
const MOST_COUNTS: usize = 16;
/// How many containers of a pod are counted at most.
const MOST_CONTAINERS: usize = 100;
/// An object shows two ends at a time; a few more are remembered for one that shows old ones again.
const RECENT: usize = 6;

/// A pod's containers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct OfPod {
    pub(super) namespace: Text,
    pub(super) name: Text,
    pub(super) containers: Vec<Account>,
    /// When it went, in Unix seconds.
    gone: Option<i64>,
    /// When this life of the agent began, in which it has not been seen yet.
    #[serde(skip)]
    unsure: Option<i64>,
}

/// One container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) name: Text,
    pub(super) counts: Vec<Count>,
    pub(super) oom_kills: u64,
    /// How many ends all counts have; what `restarts` began with is not among them once that has been begun anew.
    ends: i64,
    /// How often it had been started again when it was last seen.
    restarts: i64,
    /// Hashes of the ends that were counted last.
    recent: Vec<u64>,
}

/// Ends of one sort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) reason: Text,
    /// Empty when it is not known.
    pub(super) exit_code: Text,
    pub(super) ends: u64,
}

impl OfPod {
    pub(super) fn new(pod: &Pod) -> Self {
        let (namespace, name) = (pod.meta.namespace.clone(), pod.meta.name.clone());
        OfPod { namespace, name, containers: Vec::new(), gone: None, unsure: None }
    }

    /// Takes what the object shows. Whether anything is to be written down.
    pub(super) fn see(&mut self, pod: &Pod) -> bool {
        let mut changed = self.gone.take().is_some();
        self.unsure = None;
        for status in pod.status.every_container() {
            let known = self.containers.iter().position(|account| account.name == status.name);
            let at = known.unwrap_or(self.containers.len());
            if known.is_none() {
                if at >= MOST_CONTAINERS {
                    continue;
                }
                self.containers.push(Account { name: status.name.clone(), ..Account::default() });
            }
            changed |= self.containers[at].see(status);
        }
        changed
    }

    pub(super) fn go(&mut self, now: i64) {
        self.gone = Some(now);
        self.unsure = None;
    }

    /// After it was read from the file: it may have gone meanwhile.
    pub(super) fn begin(&mut self, now: i64) {
        self.unsure = self.gone.is_none().then_some(now);
    }

    pub(super) fn is_told(&self, now: i64, keep: i64) -> bool {
        self.away().is_none_or(|since| now.saturating_sub(since) <= keep)
    }

    pub(super) fn is_kept(&self, now: i64, keep: i64) -> bool {
        let unsure = self.unsure.is_some_and(|since| now.saturating_sub(since) <= super::KEEP_UNSURE);
        unsure || self.is_told(now, keep)
    }

    /// Since when it has not been seen, if it is not there.
    pub(super) fn away(&self) -> Option<i64> {
        self.gone.or(self.unsure)
    }
}

impl Account {
    /// Takes what the object shows. Whether anything has changed.
    fn see(&mut self, status: &ContainerStatus) -> bool {
        let before = (self.ends, self.restarts);
        // The older first.
        for end in [&status.last_state.terminated, &status.state.terminated].into_iter().flatten() {
            let identity = identity(end, status.restart_count);
            if !self.recent.contains(&identity) {
                self.recent.push(identity);
                self.count(&end.reason, &end.exit_code.to_string(), 1);
                self.oom_kills += u64::from(&*end.reason == "OOMKilled");
            }
        }
        let old = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..old);
        // Each restart has an end before it, and one that has ended has one more.
        let surely = status.restart_count.saturating_add(i64::from(status.state.terminated.is_some()));
        if status.restart_count < self.restarts {
            // Kubelet has forgotten its former instances and counts anew.
            self.ends = surely;
        } else if surely > self.ends {
            self.count(UNSEEN, "", surely.abs_diff(self.ends));
        }
        self.restarts = status.restart_count;
        before != (self.ends, self.restarts)
    }

    fn count(&mut self, reason: &str, exit_code: &str, ends: u64) {
        self.ends = self.ends.saturating_add_unsigned(ends);
        let is =
            |count: &Count, reason: &str, code: &str| *count.reason == *reason && *count.exit_code == *code;
        let full = self.counts.len() >= MOST_COUNTS && reason != UNSEEN;
        let known = self.counts.iter().any(|count| is(count, reason, exit_code));
        let (reason, exit_code) = if full && !known { (OTHER, "") } else { (reason, exit_code) };
        match self.counts.iter_mut().find(|count| is(count, reason, exit_code)) {
            Some(count) => count.ends = count.ends.saturating_add(ends),
            None => self.counts.push(Count { reason: reason.into(), exit_code: exit_code.into(), ends }),
        }
    }
}

/// Tells one end from others of the same container. Those of instances that the runtime had lost have neither an id nor times.
fn identity(end: &Termination, restarts: i64) -> u64 {
    let mut hash = Xxh3::new();
    match bare_id(&end.container_id) {
        "" => {
            for number in [end.started, end.finished, Some(end.exit_code)] {
                hash.write_i64(number.unwrap_or(i64::MIN));
            }
            hash.write_i64(if end.finished.is_none() { restarts } else { -1 });
        }
        id => hash.write(id.as_bytes()),
    }
    hash.finish()
}
