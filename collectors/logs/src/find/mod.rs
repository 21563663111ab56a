//! Where logs are: turns directories, the Docker engine's answers and globs into lanes.
//!
//! A [`Target`] is one lane: one container's (or one plain file's) chain of log files, oldest first. Finding is a
//! matter of listing names; nothing is opened here.

mod globs;
mod kubernetes;
mod listings;
mod naming;
mod telling;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use taffrail_record::Origin;

pub use globs::{Globbed, Globs, RefusedDirectory};
pub use kubernetes::Kubernetes;
pub(crate) use kubernetes::parse_pod as pod_of;
pub(crate) use listings::Listings;
pub(crate) use naming::rotated_from;
pub use naming::{Candidate, Naming};
pub(crate) use telling::waking;
pub use telling::{Changed, PodTeller};

use crate::config::Start;
use crate::decode::Format;
use crate::follow::Waker;

/// One lane to follow.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Names the lane for ever: `kubernetes:<directory>`, `docker:<container id>`, `file:<path>`.
    pub key: Arc<str>,
    /// Who the records are about.
    pub origin: Arc<Origin>,
    /// How lines are written.
    pub format: Format,
    /// The directory that holds the chain.
    pub directory: Arc<Path>,
    /// Which names in it belong to the chain, and in which order.
    pub naming: Naming,
    /// Where links may lead to; `None` where the administrator named the path.
    pub within: Option<Arc<[PathBuf]>>,
    /// Where to begin in files that were there at the first look.
    pub start: Start,
}

impl Target {
    /// What its account goes by: namespace, pod and container, or the path of a plain file.
    pub(crate) fn account_names(&self) -> [String; 3] {
        let [namespace, pod, container] = self.origin.names().map(str::to_owned);
        if container.is_empty() {
            return [namespace, pod, self.key.trim_start_matches("file:").to_owned()];
        }
        [namespace, pod, container]
    }
}

/// A change that is younger may hide another behind it: clocks of file systems tick slowly.
pub(crate) const SETTLES: Duration = Duration::from_millis(50);

/// When a directory last changed; `None` when that is so recent that another change may hide behind it, or unknown.
pub(crate) fn settled(directory: &Path) -> Option<SystemTime> {
    let modified = std::fs::metadata(directory).and_then(|m| m.modified()).ok()?;
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    (age > SETTLES).then_some(modified)
}

/// Lanes that somebody else finds (the Docker engine's containers), handed in while the collector runs.
#[derive(Debug, Default)]
pub struct Handed {
    targets: Mutex<Vec<Target>>,
    version: AtomicU64,
    wake: Mutex<Option<Waker>>,
}

impl Handed {
    /// None yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Replaces them all, and the collector hears of it at once. A lane that is no longer named is drained, then
    /// forgotten.
    pub fn set(&self, targets: Vec<Target>) {
        *self.targets.lock() = targets;
        self.version.fetch_add(1, Ordering::Release);
        if let Some(wake) = &*self.wake.lock() {
            wake.wake();
        }
    }

    /// Whom [`Handed::set`] wakes.
    pub(crate) fn wakes(&self, wake: Waker) {
        *self.wake.lock() = Some(wake);
    }

    /// A number that grows with each [`Handed::set`].
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn targets(&self) -> Vec<Target> {
        self.targets.lock().clone()
    }
}
