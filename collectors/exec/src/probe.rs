//! The probe in the kernel: loaded, attached, read and asked.
//!
//! Guarantee: what the kernel or this process lacks for it is said as [`ProbeError`], with what to do; nothing is left in the
//! kernel when it cannot be attached as a whole. Pinned ([`Pins`]), it goes on when this process ends, and the next one finds
//! what was told meanwhile.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{BtfTracePoint, loaded_programs};
use aya::{Btf, Ebpf, EbpfLoader};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::bpf;
use crate::pins::{Kind, Pinned, Pinning, Pins};
use crate::recording::attachment::{self, Programs};
use crate::recording::hooks::{self, Hooks};
use crate::ring::Ring;
pub use crate::runs::Run;
use crate::runs::Runs;
use crate::scan::Container;
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
const HOOKS: [(&str, &str); 5] = [
    ("mkdir", "cgroup_mkdir"),
    ("rmdir", "cgroup_rmdir"),
    ("fork", "sched_process_fork"),
    ("exec", "sched_process_exec"),
    ("exit", "sched_process_exit"),
];
/// Attached besides where files or connections are told: it looks at every system call.
const OPENS: (&str, &str) = ("open", "sys_exit");
/// Attached besides where connections are.
const CONNECTS: (&str, &str) = ("connect", "inet_sock_set_state");
/// Attached besides where sessions are recorded: it tells that one may begin soon.
const FORESEES: (&str, &str) = ("attach", "cgroup_attach_task");

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
    /// Whether files are told that members of sessions open to write.
    pub files: bool,
    /// Whether it is told whom they connect to.
    pub connections: bool,
    /// Inodes of the machine's own namespaces, as [`crate::scan::machine`] finds them; it only saves time to know them.
    pub machine: [u32; 5],
    /// What is recorded, if anything may be.
    pub recording: Option<Recorded>,
}

/// How sessions are recorded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recorded {
    /// Bytes of each session at most.
    pub session_bytes: u64,
    /// Bytes of the ring of pieces; a power of two.
    pub ring_bytes: u32,
    /// Whether containers that are added to a pod may be.
    pub debug: bool,
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
            files: false,
            connections: false,
            machine: [0; 5],
            recording: None,
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
    /// Nobody may read the kernel's memory.
    #[error("the kernel is locked down ({LOCKDOWN} says confidentiality): it lets no probe read its memory")]
    LockedDown,
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

const COUNTS: u32 = 21;

/// The place in `numbers` that says whether there are adoptions.
const ADOPTED_PROCESSES: u32 = 1;
const ALL: u32 = 1;
/// As the kernel has it: only if there is none.
const NOEXIST: u64 = 1;
/// Bytes of `struct container`.
const CONTAINER: usize = 56;

/// How many sessions can be recorded at once.
const RECORDED: u32 = 4096;

/// Where in it stands that it is new, and the first process of an older one, with namespaces behind it.
const IS_NEW: usize = 24;
const FIRST: usize = 28;

/// Says how far the kernel is locked down.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

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

/// A probe that is in the kernel and not attached yet: its maps can be filled before the first thing happens.
pub struct Loaded {
    /// What will be attached.
    pub probe: Probe,
    /// Why it is not pinned although that was wanted.
    pub unpinned: Option<String>,
    /// Why it records nothing although that was wanted.
    pub unrecorded: Option<String>,
    /// Why neither files nor connections are told although that was wanted.
    pub unopened: Option<String>,
    /// Instructions that the kernel went through to verify all of it, and the most for one program; of a million that it grants
    /// to each. None where it does not say.
    pub verified: Option<(u64, u64)>,
    object: Ebpf,
    pinning: Option<Pinning>,
    options: Options,
    /// The maps of recordings, if anything is recorded.
    recording: Vec<(String, Map)>,
}

impl Options {
    /// What a probe with these options is called among its pins.
    pub(crate) fn name(&self) -> String {
        let mut hasher = DefaultHasher::new();
        (OBJECT, self).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    fn tells_as(&self, options: &Options) -> bool {
        (self.files, self.connections) == (options.files, options.connections)
    }

    /// What of this may be had where the kernel refuses some of it: the most first.
    fn variants(&self) -> Vec<Options> {
        let unopened = |options: &Options| Options { files: false, connections: false, ..options.clone() };
        let unrecorded = Options { recording: None, ..self.clone() };
        let mut variants = vec![self.clone(), unopened(self), unrecorded.clone(), unopened(&unrecorded)];
        variants.dedup();
        variants
    }

    /// What is attached for as long as the probe is there: names of programs, and where in the kernel.
    fn hooks(&self) -> Vec<(&'static str, &'static str)> {
        let mut hooks = HOOKS.to_vec();
        hooks.extend(self.recording.is_some().then_some(FORESEES));
        hooks.extend((self.files || self.connections).then_some(OPENS));
        hooks.extend(self.connections.then_some(CONNECTS));
        hooks
    }
}

impl Loaded {
    /// Loads it; its maps are pinned if that is wanted and possible.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn load(options: &Options, pins: Option<&Pins>) -> Result<Self, ProbeError> {
        let mut refused: Option<ProbeError> = None;
        // Where something besides is refused, what is done is audited all the same.
        for variant in options.variants() {
            match Loaded::load_as(&variant, pins) {
                Ok(mut loaded) => {
                    let refused = refused.map(|error| error.to_string());
                    loaded.unrecorded = refused.clone().filter(|_| variant.recording != options.recording);
                    loaded.unopened = refused.filter(|_| !variant.tells_as(options));
                    return Ok(loaded);
                }
                Err(error @ ProbeError::NoTypes(_)) => return Err(error),
                Err(_) if is_locked_down() => return Err(ProbeError::LockedDown),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| ProbeError::Refused(String::new())))
    }

    fn load_as(options: &Options, pins: Option<&Pins>) -> Result<Self, ProbeError> {
        let types = Btf::from_sys_fs().map_err(|error| ProbeError::NoTypes(chain(&error)))?;
        let [whole_node, with_environment] = [options.whole_node, options.with_environment].map(u32::from);
        let (wake_at, ring_bytes) = (u64::from(options.wake_at), u64::from(options.ring_bytes));
        let records = u32::from(options.recording.is_some());
        // What is not used takes the least that there can be.
        let recorded = options.recording.clone().unwrap_or(Recorded {
            session_bytes: 0,
            ring_bytes: 4096,
            debug: false,
        });
        let sessions = if records > 0 { RECORDED } else { 1 };
        let mut loader = EbpfLoader::new();
        for table in hooks::TABLES {
            loader.set_max_entries(table, sessions);
        }
        let mut object = loader
            .btf(Some(&types))
            // Storage of tasks is only used by the probe itself.
            .allow_unsupported_maps()
            .set_global("whole_node", &whole_node, true)
            .set_global("with_environment", &with_environment, true)
            .set_global("wake_at", &wake_at, true)
            .set_global("ring_bytes", &ring_bytes, true)
            .set_global("rate", &options.rate, true)
            .set_global("burst", &options.burst, true)
            .set_global("machine", &options.machine, true)
            .set_global("with_recording", &records, true)
            .set_global("with_files", &u32::from(options.files), true)
            .set_global("with_connections", &u32::from(options.connections), true)
            .set_global("session_bytes", &recorded.session_bytes, true)
            .set_global("with_debug", &u32::from(recorded.debug), true)
            .set_global("pieces_wake_at", &u64::from(recorded.ring_bytes / 4), true)
            .set_max_entries("records", options.ring_bytes)
            .set_max_entries("pieces", recorded.ring_bytes)
            .load(OBJECT)
            .map_err(refused)?;
        let mut maps = Vec::new();
        for (name, _) in MAPS {
            let map = object.take_map(name);
            let map = map.ok_or_else(|| ProbeError::Refused(format!("there is no map {name}")))?;
            maps.push((name.to_owned(), map));
        }
        let of_recording = attachment::HOOKS.into_iter().filter(|_| options.recording.is_some());
        let mut verified = Vec::new();
        for (name, at) in options.hooks().into_iter().chain(of_recording) {
            let program = hook(&mut object, name)?;
            program.load(at, &types).map_err(refused)?;
            verified.extend(program.info().ok().and_then(|info| info.verified_instruction_count()));
        }
        let verified: Vec<u64> = verified.into_iter().map(u64::from).collect();
        let mut recording = Vec::new();
        if options.recording.is_some() {
            for (name, _) in hooks::MAPS {
                let map = object.take_map(name);
                let map = map.ok_or_else(|| ProbeError::Refused(format!("there is no map {name}")))?;
                recording.push((name.to_owned(), map));
            }
        }
        let pinned = pins.map(|pins| pin(pins, &options.name(), maps.iter().chain(&recording))).transpose();
        let (pinning, unpinned) = match pinned {
            Ok(pinning) => (pinning, None),
            Err(why) => (None, Some(why)),
        };
        let mut probe = Probe::of(maps, Held::Nothing)?;
        probe.options = options.clone();
        let options = options.clone();
        let verified = verified.iter().max().map(|most| (verified.iter().sum(), *most));
        Ok(Loaded {
            probe,
            unpinned,
            unrecorded: None,
            unopened: None,
            verified,
            object,
            pinning,
            options,
            recording,
        })
    }

    /// Attaches it.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn attach(mut self) -> Result<Probe, ProbeError> {
        let mut links = Vec::new();
        let records = !self.recording.is_empty();
        for (name, _) in self.options.hooks() {
            let program = hook(&mut self.object, name)?;
            self.probe.runs.watch(name, program).map_err(ProbeError::Refused)?;
            let link = program.attach().map_err(refused)?;
            if let Some(pinning) = &self.pinning {
                let link = FdLink::from(program.take_link(link).map_err(refused)?);
                links.push(pinning.link(name, link).map_err(refused)?);
            }
        }
        let Some(pinning) = self.pinning else {
            if records {
                let programs = Programs::Loaded(Box::new(self.object));
                self.probe.record(programs, self.recording)?;
            } else {
                self.probe._held = Held::Loaded(Box::new(self.object));
            }
            return Ok(self.probe);
        };
        let folder = pinning.folder().to_owned();
        let recording = attachment::HOOKS.into_iter().filter(|_| records);
        for (name, _) in self.options.hooks().into_iter().chain(recording) {
            let program = hook(&mut self.object, name)?;
            program.pin(folder.join(format!("program_{name}"))).map_err(refused)?;
        }
        pinning.finish("numbers").map_err(ProbeError::Refused)?;
        // The links hold the programs: what these were made of takes memory, and is not needed any more.
        self.probe._held = Held::Pinned(links);
        if records {
            self.probe.record(Programs::Pinned(folder), self.recording)?;
        }
        Ok(self.probe)
    }
}

/// Where the kernel says it; on some machines nowhere.
fn is_locked_down() -> bool {
    std::fs::read_to_string(LOCKDOWN).is_ok_and(|modes| modes.contains("[confidentiality]"))
}

pub(crate) fn hook<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut BtfTracePoint, ProbeError> {
    let program = object.program_mut(&format!("on_{name}"));
    let program = program.ok_or_else(|| ProbeError::Refused(format!("there is no on_{name}")))?;
    program.try_into().map_err(refused)
}

fn pin<'a>(
    pins: &Pins,
    name: &str,
    maps: impl Iterator<Item = &'a (String, Map)>,
) -> Result<Pinning, String> {
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

fn refused(error: impl std::error::Error) -> ProbeError {
    ProbeError::Refused(short(&chain(&error)))
}

/// What the kernel's verifier says of a program is as long as that is: its end says why it was refused.
fn short(text: &str) -> String {
    const END: usize = 400;
    let Some((what, said)) = text.split_once(" Verifier output:") else { return text.to_owned() };
    let end = said.char_indices().rev().nth(END).map_or(0, |(at, _)| at);
    format!("{what} …{}", said.get(end..).unwrap_or_default().replace('\n', "; "))
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_the_verifier_says_the_end_is_told() {
        let said =
            format!("it failed. Verifier output: {}\nR1 is not a scalar", "0: R1=ctx()\n".repeat(1000));
        let told = short(&said);
        assert!(told.starts_with("it failed. …") && told.ends_with("; R1 is not a scalar"), "{told}");
        assert!(told.chars().count() < 450 && short("it failed") == "it failed");
    }
}
