//! The probe in the kernel: loaded, attached, read and asked.
//!
//! Guarantee: what the kernel or this process lacks for it is said as [`ProbeError`], with what to do; nothing is left in the
//! kernel when it cannot be attached as a whole. Pinned ([`Pins`]), it goes on when this process ends, and the next one finds
//! what was told meanwhile.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{BtfTracePoint, loaded_programs};
use aya::{Btf, Ebpf, EbpfLoader};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::pins::{Kind, Pinned, Pinning, Pins};
use crate::ring::Ring;
use crate::wire::Session;

/// Made of `probe/audit.bpf.c` by `probe/build`; a test holds that it is.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../probe/audit.bpf.o");

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
const HOOKS: [&str; 3] = ["fork", "exec", "exit"];

/// What the probe is loaded with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Options {
    /// Whether every exec and exit of the machine is told, not only those of sessions.
    pub whole_node: bool,
    /// Whether the environment of each member of a session is told, not only that of the first.
    pub with_environment: bool,
    /// Bytes of the ring; a power of two.
    pub ring_bytes: u32,
    /// Bytes that wait in the ring before this process is woken; 0 for each record.
    pub wake_at: u32,
    /// Records of one container in a second.
    pub rate: u32,
    /// And at once.
    pub burst: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            whole_node: false,
            with_environment: false,
            ring_bytes: 4 << 20,
            wake_at: 0,
            rate: 5000,
            burst: 20_000,
        }
    }
}

/// Why there is no probe.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel says nothing of its own types.
    #[error(
        "the kernel does not describe its types ({0}); it takes one with CONFIG_DEBUG_INFO_BTF, 5.17 or newer"
    )]
    NoTypes(String),
    /// Something is refused, or is not there.
    #[error(
        "the probe cannot be loaded: {0}; it takes CAP_BPF and CAP_PERFMON, a kernel of 5.17 or newer, and no lockdown"
    )]
    Refused(String),
}

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

const COUNTS: u32 = 8;

/// The place in `numbers` that says whether there are adoptions.
const ADOPTED_PROCESSES: u32 = 1;
const ALL: u32 = 1;
/// As the kernel has it: only if there is none.
const NOEXIST: u64 = 1;
/// Bytes of `struct container`.
const CONTAINER: usize = 24;

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

/// A probe that is in the kernel and not attached yet: its maps can be filled before the first thing happens.
pub struct Loaded {
    /// What will be attached.
    pub probe: Probe,
    /// Why it is not pinned although that was wanted.
    pub unpinned: Option<String>,
    object: Ebpf,
    pinning: Option<Pinning>,
}

impl Options {
    /// What a probe with these options is called among its pins.
    pub(crate) fn name(&self) -> String {
        let mut hasher = DefaultHasher::new();
        (OBJECT, self).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

impl Loaded {
    /// Loads it; its maps are pinned if that is wanted and possible.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn load(options: &Options, pins: Option<&Pins>) -> Result<Self, ProbeError> {
        let types = Btf::from_sys_fs().map_err(|error| ProbeError::NoTypes(chain(&error)))?;
        let [whole_node, with_environment] = [options.whole_node, options.with_environment].map(u32::from);
        let (wake_at, ring_bytes) = (u64::from(options.wake_at), u64::from(options.ring_bytes));
        let mut object = EbpfLoader::new()
            .btf(Some(&types))
            // Storage of tasks is only used by the probe itself.
            .allow_unsupported_maps()
            .set_global("whole_node", &whole_node, true)
            .set_global("with_environment", &with_environment, true)
            .set_global("wake_at", &wake_at, true)
            .set_global("ring_bytes", &ring_bytes, true)
            .set_global("rate", &options.rate, true)
            .set_global("burst", &options.burst, true)
            .set_max_entries("records", options.ring_bytes)
            .load(OBJECT)
            .map_err(refused)?;
        let mut maps = Vec::new();
        for (name, _) in MAPS {
            let map = object.take_map(name);
            let map = map.ok_or_else(|| ProbeError::Refused(format!("there is no map {name}")))?;
            maps.push((name.to_owned(), map));
        }
        for name in HOOKS {
            hook(&mut object, name)?.load(&format!("sched_process_{name}"), &types).map_err(refused)?;
        }
        let pinned = pins.map(|pins| pin(pins, &options.name(), &maps)).transpose();
        let (pinning, unpinned) = match pinned {
            Ok(pinning) => (pinning, None),
            Err(why) => (None, Some(why)),
        };
        Ok(Loaded { probe: Probe::of(maps, Held::Nothing)?, unpinned, object, pinning })
    }

    /// Attaches it.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn attach(mut self) -> Result<Probe, ProbeError> {
        let mut links = Vec::new();
        for name in HOOKS {
            let program = hook(&mut self.object, name)?;
            let link = program.attach().map_err(refused)?;
            if let Some(pinning) = &self.pinning {
                let link = FdLink::from(program.take_link(link).map_err(refused)?);
                links.push(pinning.link(name, link).map_err(refused)?);
            }
        }
        if let Some(pinning) = self.pinning {
            pinning.finish("numbers").map_err(ProbeError::Refused)?;
            // The links hold the programs: what these were made of takes memory, and is not needed any more.
            self.probe._held = Held::Pinned(links);
        } else {
            self.probe._held = Held::Loaded(Box::new(self.object));
        }
        Ok(self.probe)
    }
}

fn hook<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut BtfTracePoint, ProbeError> {
    let program = object.program_mut(&format!("on_{name}"));
    let program = program.ok_or_else(|| ProbeError::Refused(format!("there is no on_{name}")))?;
    program.try_into().map_err(refused)
}

fn pin(pins: &Pins, name: &str, maps: &[(String, Map)]) -> Result<Pinning, String> {
    let pinning = pins.begin(name).map_err(|error| error.to_string())?;
    for (name, map) in maps {
        pinning.map(name, map).map_err(|error| chain(&error))?;
    }
    Ok(pinning)
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
        let mut pinned = pins.open(&options.name(), &MAPS, &HOOKS)?;
        let maps = std::mem::take(&mut pinned.maps);
        Probe::of(maps, Held::Found(Box::new(pinned))).ok()
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
            self.wait(patience);
        }
        while self.ring.next(&mut take) {}
    }

    /// Hands on one record. It leaves the ring when `each` says that it was taken; else it is the next one again. Whether one
    /// was taken.
    pub fn next(&mut self, each: impl FnOnce(&[u8]) -> bool) -> bool {
        self.ring.next(each)
    }

    /// Waits until there may be a record, for so long at most.
    pub fn wait(&self, patience: Duration) {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut [PollFd::new(self.records.fd().as_fd(), PollFlags::POLLIN)], timeout);
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
        self.containers.keys().filter_map(Result::ok).collect()
    }

    /// Makes a container known that is older than the probe, with the namespaces that it brought with it, unless they are
    /// another one's.
    pub fn know(&mut self, container: u64, namespaces: impl IntoIterator<Item = u32>) {
        let _ = self.containers.insert(container, [0; CONTAINER], NOEXIST);
        for namespace in namespaces {
            let _ = self.namespaces.insert(namespace, container, NOEXIST);
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

    /// What it counts.
    ///
    /// # Errors
    /// In words, when the kernel does not say.
    pub fn counts(&self) -> Result<Counts, String> {
        let of = |index: u32| -> Result<u64, MapError> { Ok(self.counts.get(&index, 0)?.iter().sum()) };
        let all: Result<Vec<u64>, MapError> = (0..COUNTS).map(of).collect();
        let all = all.map_err(|error| chain(&error))?;
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
        HOOKS.map(|hook| Cost { hook: hook.to_owned(), runs: 0, time: Duration::ZERO }).into();
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

fn refused(error: impl std::error::Error) -> ProbeError {
    ProbeError::Refused(chain(&error))
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}
