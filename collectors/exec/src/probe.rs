//! The probe in the kernel: loaded, attached, read and asked.
//!
//! Guarantee: what the kernel or this process lacks for it is said as [`ProbeError`], with what to do; nothing is left in the
//! kernel when it cannot be attached as a whole. Pinned ([`Pins`]), it goes on when this process ends, and the next one finds
//! what was told meanwhile.

mod load;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::programs::links::PinnedLink;
use aya::programs::loaded_programs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::load::{HOOKS, refused};
pub use self::load::{Loaded, Options, ProbeError, Recorded};
pub(crate) use self::load::{chain, hook};
use crate::bpf;
use crate::pins::{Kind, Pinned, Pins};
use crate::recording::attachment::Programs;
use crate::recording::hooks::{self, Hooks};
use crate::ring::Ring;
pub use crate::runs::Run;
use crate::runs::Runs;
use crate::scan::Container;
use crate::wire::Session;

/// The maps that this process asks, and what they are.
const MAPS: [(&str, Kind); 8] = [
    ("records", Map::RingBuf),
    ("sessions", Map::HashMap),
    ("containers", Map::HashMap),
    ("namespaces", Map::HashMap),
    ("adoptions", Map::HashMap),
    ("wishes", Map::HashMap),
    ("numbers", Map::Array),
    ("counts", Map::PerCpuArray),
];

/// What the probe counts over all processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Programs that were begun on the machine.
    pub execs: u64,
    /// Tasks that were made.
    pub forks: u64,
    /// Processes that ended.
    pub exits: u64,
    /// Sessions that began.
    pub sessions: u64,
    /// Records that were told.
    pub told: u64,
    /// Records that did not fit the ring.
    pub lost: u64,
    /// Records of containers over their rate.
    pub limited: u64,
    /// Tasks and sessions that could not be remembered.
    pub untracked: u64,
}

const COUNTS: u32 = 21;

/// The place in `numbers` that says whether there are adoptions.
const ADOPTED_PROCESSES: u32 = 1;
const ALL: u32 = 1;
/// As the kernel has it: only if there is none.
const NOEXIST: u64 = 1;
/// Bytes of `struct container`.
const CONTAINER: usize = 56;

/// Where in it stands that it is new, and the first process of an older one, with namespaces behind it.
const IS_NEW: usize = 24;
const FIRST: usize = 28;

type Bytes<const N: usize> = [u8; N];

/// The probe. It is attached for as long as this lives; if it is pinned, until the pins are removed.
pub struct Probe {
    /// The map of the ring.
    records: MapData,
    ring: Ring,
    sessions: HashMap<MapData, u64, Bytes<{ Session::SIZE }>>,
    containers: HashMap<MapData, u64, Bytes<CONTAINER>>,
    namespaces: HashMap<MapData, u32, u64>,
    adoptions: HashMap<MapData, u32, u64>,
    wishes: HashMap<MapData, u64, u32>,
    numbers: Array<MapData, u64>,
    counts: PerCpuArray<MapData, u64>,
    ring_bytes: u32,
    hooks: Option<Hooks>,
    /// What it was loaded with.
    options: Options,
    runs: Runs,
    _held: Held,
}

/// What keeps it attached.
enum Held {
    Nothing,
    Loaded(#[expect(dead_code, reason = "held")] Box<Ebpf>),
    Pinned(#[expect(dead_code, reason = "held")] Vec<PinnedLink>),
    Found(#[expect(dead_code, reason = "held")] Box<Pinned>),
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

impl Probe {
    /// Loads and attaches it, for as long as this lives.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn load(options: &Options) -> Result<Self, ProbeError> {
        Loaded::load(options, None)?.attach()
    }

    /// The one with these options that is pinned, attached since its first life.
    #[must_use]
    pub fn found(options: &Options, pins: &Pins) -> Option<Self> {
        options.variants().iter().find_map(|variant| Self::found_as(variant, pins))
    }

    fn found_as(options: &Options, pins: &Pins) -> Option<Self> {
        let records = options.recording.is_some();
        let recording = hooks::MAPS.into_iter().filter(|_| records);
        let maps: Vec<(&str, Kind)> = MAPS.into_iter().chain(recording).collect();
        let links: Vec<&str> = options.hooks().into_iter().map(|(name, _)| name).collect();
        let mut pinned = pins.open(&options.name(), &maps, &links)?;
        let mut maps = std::mem::take(&mut pinned.maps);
        let recording = maps.split_off(MAPS.len());
        let mut probe = Probe::of(maps, Held::Found(Box::new(pinned))).ok()?;
        probe.options = options.clone();
        for name in links {
            let program = pins.folder(&options.name()).join(format!("program_{name}"));
            probe.runs.watch_pinned(name, bpf::get(&program).ok()?);
        }
        if records {
            probe.record(Programs::Pinned(pins.folder(&options.name())), recording).ok()?;
        }
        Some(probe)
    }

    /// It can record by these.
    fn record(&mut self, programs: Programs, maps: Vec<(String, Map)>) -> Result<(), ProbeError> {
        self.hooks = Some(Hooks::new(programs, maps).map_err(ProbeError::Refused)?);
        Ok(())
    }

    /// The programs that record, if anything may be recorded; once.
    pub(crate) fn take_hooks(&mut self) -> Option<Hooks> {
        self.hooks.take()
    }

    fn of(maps: Vec<(String, Map)>, held: Held) -> Result<Probe, ProbeError> {
        let mut maps: std::collections::HashMap<String, Map> = maps.into_iter().collect();
        let mut map = |name: &str| {
            maps.remove(name).ok_or_else(|| ProbeError::Refused(format!("there is no map {name}")))
        };
        let records = map("records")?;
        let Map::RingBuf(records) = records else {
            return Err(ProbeError::Refused("records is no ring".to_owned()));
        };
        let ring_bytes = records.info().map_err(refused)?.max_entries();
        Ok(Probe {
            ring: Ring::new(records.fd().as_fd(), ring_bytes).map_err(refused)?,
            records,
            ring_bytes,
            hooks: None,
            options: Options::default(),
            runs: Runs::default(),
            sessions: HashMap::try_from(map("sessions")?).map_err(refused)?,
            containers: HashMap::try_from(map("containers")?).map_err(refused)?,
            namespaces: HashMap::try_from(map("namespaces")?).map_err(refused)?,
            adoptions: HashMap::try_from(map("adoptions")?).map_err(refused)?,
            wishes: HashMap::try_from(map("wishes")?).map_err(refused)?,
            numbers: Array::try_from(map("numbers")?).map_err(refused)?,
            counts: PerCpuArray::try_from(map("counts")?).map_err(refused)?,
            _held: held,
        })
    }

    /// Hands on what is in the ring, waiting for something for so long at most.
    pub fn read(&mut self, patience: Duration, mut each: impl FnMut(&[u8])) {
        let mut take = |record: &[u8]| {
            each(record);
            true
        };
        if !self.ring.next(&mut take) {
            self.wait(patience, None);
        }
        while self.ring.next(&mut take) {}
    }

    /// Hands on one record. It leaves the ring when `each` says that it was taken; else it is the next one again. Whether one
    /// was taken.
    pub fn next(&mut self, each: impl FnOnce(&[u8]) -> bool) -> bool {
        self.ring.next(each)
    }

    /// Waits until there may be a record, or something can be read from `also`, for so long at most.
    pub fn wait(&self, patience: Duration, also: Option<BorrowedFd<'_>>) {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let all = [Some(self.records.fd().as_fd()), also].into_iter().flatten();
        let mut all: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let _ = poll(&mut all, timeout);
    }

    /// Bytes of the ring.
    #[must_use]
    pub fn ring_bytes(&self) -> u32 {
        self.ring_bytes
    }

    /// A session as the probe counts it now; none when it has ended and that was told.
    #[must_use]
    pub fn session(&self, id: u64) -> Option<Session> {
        Session::read(&self.sessions.get(&id, 0).ok()?).ok()
    }

    /// All sessions that have not ended, or of which that could not be told.
    pub fn sessions(&self) -> impl Iterator<Item = (u64, Session)> + '_ {
        let known = self.sessions.iter().filter_map(Result::ok);
        known.filter_map(|(id, bytes)| Some((id, Session::read(&bytes).ok()?)))
    }

    /// Forgets a session that has ended.
    pub fn forget(&mut self, id: u64) {
        let _ = self.sessions.remove(&id);
        let _ = self.wishes.remove(&id);
    }

    /// From now on tells all of a session that it would tell the beginning of.
    pub fn wish(&mut self, id: u64) {
        let _ = self.wishes.insert(id, ALL, 0);
    }

    /// Containers that it knows, by kernfs id.
    #[must_use]
    pub fn containers(&self) -> Vec<u64> {
        let known = self.containers.iter().filter_map(Result::ok);
        // One in which nobody has begun a program yet goes with its cgroup.
        known.filter(|(_, bytes)| bytes[IS_NEW] == 0).map(|(cgroup, _)| cgroup).collect()
    }

    /// Makes a container known that is older than the probe, with the namespaces that it brought with it, unless they are
    /// another one's.
    pub fn know(&mut self, container: &Container) {
        let mut bytes = [0; CONTAINER];
        let first = if container.has_own_processes { container.init.0 } else { 0 };
        bytes[FIRST..FIRST + 4].copy_from_slice(&first.to_ne_bytes());
        let brought = bytes[FIRST + 4..].chunks_exact_mut(4).zip(&container.namespaces);
        brought.for_each(|(bytes, inode)| bytes.copy_from_slice(&inode.to_ne_bytes()));
        let _ = self.containers.insert(container.cgroup, bytes, NOEXIST);
        for namespace in &container.namespaces {
            let _ = self.namespaces.insert(namespace, container.cgroup, NOEXIST);
        }
    }

    /// Forgets a container that is gone.
    pub fn forget_container(&mut self, container: u64) {
        let owned: Vec<u32> = self
            .namespaces
            .iter()
            .filter_map(Result::ok)
            .filter(|(_, of)| *of == container)
            .map(|(inode, _)| inode)
            .collect();
        for inode in owned {
            let _ = self.namespaces.remove(&inode);
        }
        let _ = self.containers.remove(&container);
    }

    /// Begins a session of processes that were there before the probe.
    ///
    /// # Errors
    /// In words, when the kernel has no room for it.
    pub fn adopt(&mut self, id: u64, session: &Session, processes: &[u32]) -> Result<(), String> {
        self.sessions.insert(id, session.write(), NOEXIST).map_err(|error| chain(&error))?;
        self.numbers.set(ADOPTED_PROCESSES, 1, 0).map_err(|error| chain(&error))?;
        for pid in processes {
            self.adoptions.insert(pid, id, 0).map_err(|error| chain(&error))?;
        }
        Ok(())
    }

    /// Another process of an adopted session.
    pub fn adopt_more(&mut self, id: u64, pid: u32) {
        let _ = self.adoptions.insert(pid, id, 0);
    }

    /// A process that was adopted had ended before.
    pub fn disown(&mut self, pid: u32) {
        let _ = self.adoptions.remove(&pid);
    }

    /// Adopted processes that live, and their sessions.
    #[must_use]
    pub fn adopted(&self) -> Vec<(u32, u64)> {
        self.adoptions.iter().filter_map(Result::ok).collect()
    }

    /// There are no adopted processes any more: looking for them costs nothing from now on.
    pub fn all_disowned(&mut self) {
        let _ = self.numbers.set(ADOPTED_PROCESSES, 0, 0);
    }

    /// Bytes that wait in the ring.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.ring.waiting() as u64
    }

    /// Whether it tells of files and connections as these options have it.
    #[must_use]
    pub fn tells_as(&self, options: &Options) -> bool {
        self.options.tells_as(options)
    }

    /// What its hooks do and take, by what the probe itself counts and times.
    ///
    /// # Errors
    /// In words, when the kernel does not say.
    pub fn runs(&self) -> Result<Vec<Run>, String> {
        Ok(self.runs.all(&self.counted()?))
    }

    /// All that it counts, over all processors.
    fn counted(&self) -> Result<Vec<u64>, String> {
        let of = |index: u32| -> Result<u64, MapError> { Ok(self.counts.get(&index, 0)?.iter().sum()) };
        let all: Result<Vec<u64>, MapError> = (0..COUNTS).map(of).collect();
        all.map_err(|error| chain(&error))
    }

    /// What it counts.
    ///
    /// # Errors
    /// In words, when the kernel does not say.
    pub fn counts(&self) -> Result<Counts, String> {
        let all = self.counted()?;
        let at = |index: usize| all.get(index).copied().unwrap_or_default();
        Ok(Counts {
            execs: at(0),
            forks: at(1),
            exits: at(2),
            sessions: at(3),
            told: at(4),
            lost: at(5),
            limited: at(6),
            untracked: at(7),
        })
    }
}

/// What one of the probe's hooks has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// `fork`, `exec` or `exit`.
    pub hook: String,
    /// How often it ran.
    pub runs: u64,
    /// And for how long.
    pub time: Duration,
}

/// What the hooks of all of these probes in the kernel have taken, where the kernel counts that (`kernel.bpf_stats_enabled`) and
/// this process may see it (it takes `CAP_SYS_ADMIN`).
#[must_use]
pub fn costs() -> Option<Vec<Cost>> {
    let mut costs: Vec<Cost> =
        HOOKS.map(|(hook, _)| Cost { hook: hook.to_owned(), runs: 0, time: Duration::ZERO }).into();
    for program in loaded_programs() {
        let program = program.ok()?;
        let name = program.name_as_str().unwrap_or_default();
        if let Some(cost) = costs.iter_mut().find(|cost| name.strip_prefix("on_") == Some(&cost.hook)) {
            cost.runs += program.run_count();
            cost.time += program.run_time();
        }
    }
    costs.retain(|cost| cost.runs > 0);
    (!costs.is_empty()).then_some(costs)
}
