//! The collector: which cgroups there are, their figures, and the exposition of both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;
use parking_lot::Mutex;
use taffrail_kernfs::{Page, Reason, Roots, Troubles};
use taffrail_record::{Ask, AskError, Family, Kind, Labels, Samples};

use crate::asking::SOON;
use crate::config::{ContainersConfig, LabelStyle};
use crate::devices::Devices;
use crate::ends;
use crate::entry::{Entry, Machine, Owner, Scene, shown};
use crate::families::rows;
use crate::filesystems::Filesystems;
use crate::hierarchy::Hierarchy;
use crate::kubelet::KubeletPaths;
use crate::names::Names;
use crate::network::{Membership, Networks};
use crate::tree::{Place, Tree};
use crate::written::{self, AskLayers, Unknown};

/// Who asks again within this time gets the same figures.
const SHARED: Duration = Duration::from_secs(1);

/// A descriptor takes kernel memory, and others need some: cgroups beyond this many descriptors' worth are opened for each reading.
const FILES_OF_ONE: usize = 40;

/// The one gauge that a container keeps.
const LAST_SEEN: &str = "container_last_seen";

static ENDED: Family = Family {
    name: "taffrail_container_ended_seconds",
    kind: Kind::Gauge,
    help: "When a container was read last whose cgroup is gone, in seconds since the epoch; its counters stay for \
           metrics.containers.ended_seconds.",
    labels: &[],
};
static SCRAPE_ERROR: Family = Family {
    name: "container_scrape_error",
    kind: Kind::Gauge,
    help: "1 when the cgroups could not be listed.",
    labels: &[],
};
static ERRORS: Family = Family {
    name: "taffrail_containers_read_errors_total",
    kind: Kind::Counter,
    help: "Figures of cgroups that could not be read, by reason; absent and gone are in the course of events.",
    labels: &["reason"],
};
static LEFT_OUT: Family = Family {
    name: "taffrail_containers_left_out",
    kind: Kind::Gauge,
    help: "Cgroups without series because there are more than `containers.most`.",
    labels: &[],
};

static UNWRITTEN: Family = Family {
    name: "taffrail_containers_disk_unknown",
    kind: Kind::Gauge,
    help: "Containers of which it is not known what they have written to disk, by reason: denied, too_large (more than 500,000 \
           files, or too deep), no_layer (not an overlay), untrusted (an overlay that the container may have mounted itself), \
           no_process (none that could be asked) or failed.",
    labels: &["reason"],
};

/// Every family, for the reference.
static FAMILIES: LazyLock<Vec<Family>> = LazyLock::new(|| {
    let copy = |f: &Family| Family { name: f.name, kind: f.kind, help: f.help, labels: f.labels };
    rows()
        .map(|row| &row.family)
        .chain([&ENDED, &SCRAPE_ERROR, &ERRORS, &LEFT_OUT, &UNWRITTEN])
        .map(copy)
        .collect()
});

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

/// A container whose cgroup is gone.
#[derive(Debug)]
struct Ended {
    entry: Entry,
    at: Instant,
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

/// Bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Meminfo {
    total: Option<u64>,
    swap: Option<u64>,
    swap_free: Option<u64>,
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

    /// Takes up which cgroups are new and gone.
    pub(crate) fn find(&self, state: &mut State, now: Instant) {
        let (Some(machine), Some(tree)) = (&mut state.machine, &mut state.tree) else { return };
        let mut changes = tree.changes(now);
        if !changes.added.is_empty() {
            // It changes when somebody sets the clock, and is compared with times of files.
            machine.booted = crate::machine::booted(&self.roots, &mut state.page);
        }
        for place in changes.populated {
            if let Some(entry) = state.entries.get_mut(&place).filter(|entry| entry.owner.container.is_some())
            {
                entry.read_last(&mut state.page);
            }
        }
        for place in changes.lessened {
            if let Some(entry) = state.entries.get_mut(&place) {
                entry.leaving.get_or_insert(now);
            }
        }
        for place in changes.removed {
            state.left_out.remove(&place);
            let Some(mut entry) = state.entries.remove(&place) else { continue };
            // Of one that was never read there is nothing to tell.
            let is_known = entry.owner.container.is_some() && entry.figures.cpu.usage.is_some();
            if is_known && self.config.ended_seconds > 0 && state.ended.len() < self.config.most as usize {
                // Its files are gone, but the kernel keeps the cgroup for as long as they are open.
                entry.end(&state.networks);
                state.ended.insert(place, Ended { entry, at: now });
            }
        }
        let stay = Duration::from_secs(self.config.ended_seconds);
        // One that does not leave after all goes on with what is left of it.
        let left =
            |entry: &Entry| entry.leaving.is_some_and(|since| now.saturating_duration_since(since) >= stay);
        changes.added.extend(state.entries.extract_if(.., |_, entry| left(entry)).map(|(place, _)| place));
        state.ended.retain(|_, ended| now.saturating_duration_since(ended.at) < stay);
        if changes.written_unheard {
            state.entries.values_mut().for_each(|entry| entry.limits_stale = true);
        }
        for place in changes.written {
            if let Some(entry) = state.entries.get_mut(&place) {
                entry.limits_stale = true;
            }
        }
        state.left_out.extend(changes.added.into_iter().filter(|place| self.wants(place)));
        while state.entries.len() < self.config.most as usize
            && let Some(place) = state.left_out.pop_first()
        {
            let entry = Entry::new(&place, machine, &mut state.page);
            // The same container begins again.
            state.ended.remove(&place);
            state.entries.insert(place, entry);
        }
    }

    /// Whether a cgroup has series.
    fn wants(&self, place: &Place) -> bool {
        let id = shown(place);
        let is_named = || Owner::of(&id).is_known() || id == "/" || self.config.roots.contains(&id);
        !id.ends_with(".mount") && (self.config.labels == LabelStyle::Cadvisor || is_named())
    }

    /// Who is of a pod and has no name is asked for.
    pub(crate) fn ask_for_names(&self, state: &mut State, now: Instant) {
        if state.asked.is_some_and(|asked| now.saturating_duration_since(asked) < SOON) {
            return;
        }
        let lacks = |entry: &&mut Entry| {
            let Owner { container, pod, .. } = &entry.owner;
            let is_due = pod.is_some() && entry.asking.is_due(now);
            is_due && self.names.lacks(container.as_deref(), pod.as_deref())
        };
        let lacking = state.entries.values_mut().filter(lacks).map(|entry| entry.asking.asked(now)).count();
        if lacking > 0 {
            state.asked = Some(now);
            self.names.lack();
            if let Some(kubelet) = &self.kubelet {
                kubelet.tell(&self.names);
            }
        }
    }

    fn label(&self, state: &mut State) {
        let version = self.names.version();
        let current = |entry: &&mut Entry| entry.labelled != Some(version);
        let ended = state.ended.values_mut().map(|ended| &mut ended.entry);
        // Of one that lived for a moment the name may come after its end, and must not go again.
        let ended = ended.filter(|entry| {
            entry.labelled.is_none()
                || entry.owner.container.as_deref().is_some_and(|id| self.names.knows(id))
        });
        let mut stale = state.entries.values_mut().chain(ended).filter(current).peekable();
        if stale.peek().is_none() {
            return;
        }
        if self.config.labels == LabelStyle::Cadvisor {
            state.keys = self.names.label_keys();
        }
        for entry in stale {
            entry.labels =
                crate::labels::of(&entry.id, &entry.owner, &self.names, self.config.labels, &state.keys);
            entry.labelled = Some(version);
        }
    }

    fn read(&self, state: &mut State, now: Instant, troubles: &mut Troubles) {
        let Some(machine) = &state.machine else { return };
        let page = &mut state.page;
        state.memory = Meminfo::read(&self.roots, page, troubles);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let kept = most_kept();
        for (number, entry) in state.entries.values_mut().enumerate() {
            if entry.is_root() {
                // It has all that any other has, and is the first.
                state.block = None;
            }
            entry.read(unix, &mut state.block, page, troubles);
            for io in &entry.figures.io {
                let device = state.devices.of(&self.roots, io.device, page);
                io.operations.iter().for_each(|(operation, _)| device.prepare(operation));
            }
            if number >= kept {
                entry.close();
            }
        }
        let every = Duration::from_secs(self.config.descriptors_seconds);
        let trees = machine.hierarchy.trees();
        for (place, entry) in &mut state.entries {
            let due = entry.processes.counted.is_none_or(|at| now.saturating_duration_since(at) >= every);
            if !every.is_zero()
                && due
                && let Some(tree) = trees.first()
            {
                entry.processes.count(&self.roots, tree, place, page, now);
            }
        }
        let holders = self.network_holders(&state.entries);
        for (place, entry) in &mut state.entries {
            let pid = holders.get(place);
            let network = pid.map(|pid| Membership::of(&self.roots, *pid, entry.network));
            entry.join(network, &state.networks);
        }
        let members = state.entries.values().filter_map(|entry| entry.network);
        state.networks.read(&self.roots, members, page, troubles);
        state.entries.values_mut().for_each(|entry| entry.part(&state.networks));
        state.filesystems.read(&self.roots, page, troubles);
    }

    /// Which cgroups show a network, and by which process: the machine by its first, a pod by its sandbox, a container without
    /// a pod by its own. A sandbox is the oldest container of its pod where no runtime has said which it is.
    fn network_holders(&self, entries: &BTreeMap<Place, Entry>) -> BTreeMap<Place, u32> {
        let mut holders = BTreeMap::new();
        let mut sandboxes: BTreeMap<&str, (bool, f64, &Place, u32)> = BTreeMap::new();
        for (place, entry) in entries {
            if entry.is_root() {
                holders.insert(place.clone(), 1);
            }
            let (Some(id), Some(pid)) = (&entry.owner.container, entry.figures.pids.first) else { continue };
            let Some(pod) = &entry.owner.pod else {
                holders.insert(place.clone(), pid);
                continue;
            };
            let said = self.names.container(id).is_some_and(|known| known.sandbox);
            let age = entry.started.unwrap_or(f64::INFINITY);
            let best = sandboxes.get(pod.as_str());
            if best.is_none_or(|(other, oldest, ..)| (said, -age) > (*other, -*oldest)) {
                sandboxes.insert(pod, (said, age, place, pid));
            }
        }
        holders.extend(sandboxes.into_values().map(|(_, _, place, pid)| (place.clone(), pid)));
        holders
    }
}

/// How many cgroups may keep their files open.
fn most_kept() -> usize {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    limit.map_or(0, |(soft, _)| usize::try_from(soft / 2).unwrap_or(usize::MAX) / FILES_OF_ONE)
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

impl Meminfo {
    fn read(roots: &Roots, page: &mut Page, troubles: &mut Troubles) -> Meminfo {
        let text = troubles.take(taffrail_kernfs::read(&roots.proc("meminfo"), page)).unwrap_or_default();
        let field = |name: &[u8]| crate::machine::meminfo(text, name);
        Meminfo { total: field(b"MemTotal:"), swap: field(b"SwapTotal:"), swap_free: field(b"SwapFree:") }
    }
}

impl Ask for Containers {
    fn name(&self) -> &'static str {
        "containers"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let inner = &*self.inner;
        let mut state = inner.state.lock();
        inner.collect(&mut state, Instant::now());
        self.watch_ends();
        self.walk(Instant::now());
        let state = &*state;
        let memory = state.memory;
        let scene = Scene {
            devices: &state.devices,
            networks: &state.networks,
            filesystems: state.filesystems.shown(),
            huge: &state.huge,
            cpus: &state.cpus,
            machine_memory: memory.total,
            machine_swap: memory.swap,
            swap_used: memory.swap.zip(memory.swap_free).map(|(all, free)| all.saturating_sub(free)),
            compat: inner.config.compat,
        };
        for row in rows() {
            samples.family(&row.family);
            // Of those that are gone only what counts up to its last moment has a meaning.
            let stays = row.family.kind == Kind::Counter || row.family.name == LAST_SEEN;
            let ended = state.ended.values().map(|ended| &ended.entry).filter(|_| stays);
            for entry in state.entries.values().chain(ended) {
                (row.write)(entry, &scene, &mut |more, value| {
                    samples.labelled(&[more, &entry.labels], value);
                });
            }
        }
        samples.family(&ENDED);
        for Ended { entry, .. } in state.ended.values() {
            samples.labelled(&[&entry.labels], entry.seen);
        }
        samples.family(&SCRAPE_ERROR);
        samples.sample(&[], f64::from(u8::from(state.machine.is_none())));
        samples.family(&ERRORS);
        for reason in Reason::ALL {
            samples.sample(&[reason.name()], state.errors[reason as usize] as f64);
        }
        samples.family(&LEFT_OUT);
        samples.sample(&[], state.left_out.len() as f64);
        samples.family(&UNWRITTEN);
        for (why, count) in Unknown::ALL.iter().zip(state.unwritten) {
            samples.sample(&[why.name()], count as f64);
        }
        match (&state.machine, &state.told) {
            (None, _) => {
                Err(AskError::Absent(format!("no cgroups at {}", inner.roots.sys("fs/cgroup").display())))
            }
            (_, Some(told)) => {
                Err(AskError::Failed { what: "cgroups".to_owned(), cause: told.clone().into() })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const POD: &str = "kubepods/pod884c509f-3b8d-c092-cbb5-bf7f6a3e9b57";

    /// A machine of version 2 whose cgroups have no files.
    fn machine(places: &[&str]) -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().expect("a folder");
        let roots = Roots::below(folder.path());
        fs::create_dir_all(roots.sys("fs/cgroup")).expect("made");
        fs::File::create(roots.sys("fs/cgroup/cgroup.controllers")).expect("made");
        for place in places {
            fs::create_dir_all(roots.sys("fs/cgroup").join(place)).expect("made");
        }
        (folder, roots)
    }

    fn containers(config: ContainersConfig, roots: &Roots) -> Containers {
        Containers::new(config, roots.clone(), Names::new())
    }

    #[test]
    fn what_nobody_answers_is_asked_ever_more_seldom() {
        let (_folder, roots) = machine(&[POD]);
        let containers = containers(ContainersConfig::default(), &roots);
        let inner = &containers.inner;
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        inner.names.when_lacking(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let (mut state, begin) = (State::default(), Instant::now());
        state.begin(&roots, &inner.config);
        let mut look = |second: u64| {
            let now = begin + Duration::from_secs(second);
            inner.find(&mut state, now);
            inner.ask_for_names(&mut state, now);
            asked.load(Ordering::Relaxed)
        };
        assert_eq!((look(0), look(1), look(2), look(3)), (1, 2, 2, 3), "soon at first");
        assert!((4..3600).map(&mut look).max().is_some_and(|asked| asked < 16), "seldom after that");
        let before = look(3600);
        let (uid, of) = (POD.rsplit_once("pod").map(|(_, uid)| uid.to_owned()), |name: &str| name.to_owned());
        let pod = crate::PodName { namespace: of("shop"), name: of("web-0") };
        inner.names.set_pods(uid.map(|uid| (uid, pod)).into_iter().collect());
        assert_eq!((3600..7200).map(&mut look).max(), Some(before), "it has a name");
    }

    #[test]
    fn who_is_left_out_comes_in_when_there_is_room_and_goes_uncounted() {
        let pods: Vec<String> = (1..=5).map(|pod| format!("{}{pod}", &POD[..POD.len() - 1])).collect();
        let (_folder, roots) = machine(&pods.iter().map(String::as_str).collect::<Vec<_>>());
        // The root, the class of pods and two of them.
        let containers = containers(ContainersConfig { most: 4, ..ContainersConfig::default() }, &roots);
        let (inner, begin) = (&containers.inner, Instant::now());
        let mut state = State::default();
        let mut look = |second: u64| {
            inner.collect(&mut state, begin + Duration::from_secs(2 * second));
            (state.entries.len(), state.left_out.len())
        };
        let remove = |pod: &String| fs::remove_dir(roots.sys("fs/cgroup").join(pod)).expect("removed");
        assert_eq!(look(1), (4, 3));
        remove(&pods[0]);
        assert_eq!(look(2), (4, 2), "another has taken its place");
        remove(&pods[4]);
        assert_eq!(look(3), (4, 1), "it was left out");
        fs::create_dir(roots.sys("fs/cgroup").join(&pods[4])).expect("made");
        assert_eq!(look(4), (4, 2));
        pods[1..].iter().for_each(remove);
        assert_eq!(look(5), (2, 0));
    }
}
