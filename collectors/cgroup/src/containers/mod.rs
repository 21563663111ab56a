//! The collector, shared by who asks and by the threads that wait.
//!
//! A scrape goes through [`find`] (which cgroups are there), [`label`] (what they are called), [`read`] (their figures) and
//! [`answer`] (the exposition), with the lock that the threads take for a moment each.

mod answer;
mod find;
mod label;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use parking_lot::Mutex;
use taffrail_kernfs::{Page, Reason, Roots, Troubles};
use taffrail_record::Labels;

use self::find::Ended;
use self::read::Meminfo;
use crate::config::ContainersConfig;
use crate::devices::Devices;
use crate::ends;
use crate::entry::{Entry, Machine};
use crate::filesystems::Filesystems;
use crate::hierarchy::Hierarchy;
use crate::kubelet::KubeletPaths;
use crate::names::Names;
use crate::network::Networks;
use crate::tree::{Place, Tree};
use crate::written::{self, AskLayers, Unknown};

/// Who asks again within this time gets the same figures.
const SHARED: Duration = Duration::from_secs(1);

/// Answers for all cgroups of this machine.
#[derive(Debug)]
pub struct Containers {
    inner: Arc<Inner>,
    /// Closed when this is dropped, which ends the thread that waits for ends.
    alive: Mutex<Option<OwnedFd>>,
    walks: Mutex<Walks>,
}

/// When the thread that looks at disks was woken, and how.
#[derive(Debug, Default)]
struct Walks {
    wake: Option<SyncSender<()>>,
    due: Option<Instant>,
}

/// What the collector shares with its threads.
pub(crate) struct Inner {
    config: ContainersConfig,
    pub(crate) names: Arc<Names>,
    pub(crate) roots: Roots,
    pub(crate) kubelet: Option<KubeletPaths>,
    pub(crate) layers: Option<Box<AskLayers>>,
    pub(crate) state: Mutex<State>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("config", &self.config)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) machine: Option<Machine>,
    pub(crate) tree: Option<Tree>,
    pub(crate) entries: BTreeMap<Place, Entry>,
    ended: BTreeMap<Place, Ended>,
    devices: Devices,
    networks: Networks,
    pub(crate) filesystems: Filesystems,
    /// How many containers have no figure of what they have written.
    pub(crate) unwritten: [usize; Unknown::ALL.len()],
    block: Option<usize>,
    huge: Vec<Labels>,
    cpus: Vec<Labels>,
    memory: Meminfo,
    pub(crate) page: Page,
    keys: Vec<String>,
    collected: Option<Instant>,
    /// When names were asked for last.
    asked: Option<Instant>,
    errors: [u64; Reason::ALL.len()],
    /// For whom there is no room.
    left_out: BTreeSet<Place>,
    /// What was wrong in the last reading.
    told: Option<String>,
}

impl Containers {
    /// Of the machine at `roots`, called what `names` knows. Nothing is read before somebody asks.
    #[must_use]
    pub fn new(config: ContainersConfig, roots: Roots, names: Arc<Names>) -> Containers {
        let inner = Inner { config, names, roots, kubelet: None, layers: None, state: Mutex::default() };
        Containers { inner: Arc::new(inner), alive: Mutex::default(), walks: Mutex::default() }
    }

    /// Looks at what kubelet leaves on the disk when it meets somebody without a name.
    #[must_use]
    pub fn with_kubelet(mut self, paths: KubeletPaths) -> Containers {
        // Nobody else has it before the first question.
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.kubelet = Some(paths);
        }
        self
    }

    /// Asks a runtime what containers have written where that cannot be looked at.
    #[must_use]
    pub fn with_layers(mut self, layers: Box<AskLayers>) -> Containers {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.layers = Some(layers);
        }
        self
    }

    /// What its threads share.
    #[cfg(test)]
    pub(crate) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.inner)
    }

    /// Has it looked at what containers have written, if it is time to.
    fn walk(&self, now: Instant) {
        let every = Duration::from_secs(self.inner.config.disk_seconds);
        let mut walks = self.walks.lock();
        if every.is_zero() || walks.due.is_some_and(|due| now < due) {
            return;
        }
        walks.due = Some(now + every);
        if walks.wake.is_none() {
            let (wake, told) = sync_channel(1);
            match written::watch(&self.inner, told) {
                Ok(()) => walks.wake = Some(wake),
                Err(error) => tracing::warn!(%error, "cannot look at what containers write to disk"),
            }
        }
        if let Some(wake) = &walks.wake {
            // When it is still at the last time it comes to this one next.
            let _ = wake.try_send(());
        }
    }

    /// Starts to wait for the ends of containers, once: who never asks wants none.
    fn watch_ends(&self) {
        let mut alive = self.alive.lock();
        if alive.is_some() || self.inner.config.ended_seconds == 0 {
            return;
        }
        let started = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(Into::into).and_then(|(ours, theirs)| {
            *alive = Some(theirs);
            ends::watch(&self.inner, ours)
        });
        if let Err(error) = started {
            tracing::warn!(%error, "containers that live for a moment will not be seen: cannot wait for their ends");
        }
    }
}

impl Inner {
    pub(crate) fn collect(&self, state: &mut State, now: Instant) {
        if state.collected.is_some_and(|at| now.saturating_duration_since(at) < SHARED) {
            return;
        }
        state.collected = Some(now);
        if state.machine.is_none() {
            state.begin(&self.roots, &self.config);
        }
        let mut troubles = Troubles::default();
        self.find(state, now);
        self.ask_for_names(state, now);
        self.label(state);
        self.read(state, now, &mut troubles);
        for reason in Reason::ALL {
            state.errors[reason as usize] += troubles.count(reason);
        }
        state.told = troubles.told().err().map(|error| error.to_string());
    }
}

impl State {
    fn begin(&mut self, roots: &Roots, config: &ContainersConfig) {
        let Some(hierarchy) = Hierarchy::detect(roots) else { return };
        self.entries.clear();
        self.devices.clear();
        self.tree = Some(Tree::new(hierarchy.trees().into_iter().map(Into::into).collect()));
        let sizes = crate::machine::huge_sizes(roots);
        self.huge = sizes.iter().map(|size| Labels::new([("pagesize", size.as_str())])).collect();
        let cpus = if config.per_cpu { crate::machine::possible_cpus(roots, &mut self.page) } else { 0 };
        self.cpus = (0..cpus).map(|n| Labels::new([("cpu", format!("cpu{n:02}").as_str())])).collect();
        self.machine = Some(Machine {
            roots: roots.clone(),
            hierarchy,
            huge_sizes: sizes,
            per_cpu: config.per_cpu,
            ticks: crate::machine::ticks(),
            booted: crate::machine::booted(roots, &mut self.page),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    pub(super) const POD: &str = "kubepods/pod884c509f-3b8d-c092-cbb5-bf7f6a3e9b57";

    /// A machine of version 2 whose cgroups have no files.
    pub(super) fn machine(places: &[&str]) -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().expect("a folder");
        let roots = Roots::below(folder.path());
        fs::create_dir_all(roots.sys("fs/cgroup")).expect("made");
        fs::File::create(roots.sys("fs/cgroup/cgroup.controllers")).expect("made");
        for place in places {
            fs::create_dir_all(roots.sys("fs/cgroup").join(place)).expect("made");
        }
        (folder, roots)
    }

    pub(super) fn containers(config: ContainersConfig, roots: &Roots) -> Containers {
        Containers::new(config, roots.clone(), Names::new())
    }
}
