//! The probe in the kernel: loaded, attached, read and asked.
//!
//! Guarantee: what the kernel or this process lacks for it is said as [`ProbeError`], with what to do; nothing is left in the
//! kernel when it cannot be attached as a whole.

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf, EbpfLoader};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::wire::Session;

/// Made of `probe/audit.bpf.c` by `probe/build`; a test holds that it is.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../probe/audit.bpf.o");

/// What the probe is loaded with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether every exec and exit of the machine is told, not only those of sessions.
    pub whole_node: bool,
    /// Whether the environment of each member of a session is told, not only that of the first.
    pub with_environment: bool,
    /// Bytes of the ring; a power of two.
    pub ring_bytes: u32,
    /// Bytes that wait in the ring before this process is woken; 0 for each record.
    pub wake_at: u32,
    /// Records of one container in a second, and at once.
    pub rate: u32,
    /// And at once.
    pub burst: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            whole_node: false,
            with_environment: false,
            ring_bytes: 16 << 20,
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

/// The probe, attached for as long as this lives.
pub struct Probe {
    ring: RingBuf<MapData>,
    sessions: HashMap<MapData, u64, [u8; Session::SIZE]>,
    counts: PerCpuArray<MapData, u64>,
    /// Holds the programs and their links.
    _object: Ebpf,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

impl Probe {
    /// Loads and attaches it.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn load(options: &Options) -> Result<Self, ProbeError> {
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
        for name in ["fork", "exec", "exit"] {
            let program = object.program_mut(&format!("on_{name}"));
            let program = program.ok_or_else(|| ProbeError::Refused(format!("there is no on_{name}")))?;
            let program: &mut BtfTracePoint = program.try_into().map_err(refused)?;
            program.load(&format!("sched_process_{name}"), &types).map_err(refused)?;
            program.attach().map_err(refused)?;
        }
        let mut map = |name: &str| {
            object.take_map(name).ok_or_else(|| ProbeError::Refused(format!("there is no map {name}")))
        };
        Ok(Probe {
            ring: RingBuf::try_from(map("records")?).map_err(refused)?,
            sessions: HashMap::try_from(map("sessions")?).map_err(refused)?,
            counts: PerCpuArray::try_from(map("counts")?).map_err(refused)?,
            _object: object,
        })
    }

    /// Hands on what is in the ring, waiting for something for so long at most.
    pub fn read(&mut self, patience: Duration, mut each: impl FnMut(&[u8])) {
        let mut seen = false;
        while let Some(record) = self.ring.next() {
            each(&record);
            seen = true;
        }
        if seen {
            return;
        }
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        // SAFETY: the ring keeps it open for longer than this call.
        let ring = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        let _ = poll(&mut [PollFd::new(ring, PollFlags::POLLIN)], timeout);
        while let Some(record) = self.ring.next() {
            each(&record);
        }
    }

    /// A session as the probe counts it now.
    #[must_use]
    pub fn session(&self, id: u64) -> Option<Session> {
        Session::read(&self.sessions.get(&id, 0).ok()?).ok()
    }

    /// All sessions.
    pub fn sessions(&self) -> impl Iterator<Item = (u64, Session)> + '_ {
        let known = self.sessions.iter().filter_map(Result::ok);
        known.filter_map(|(id, bytes)| Some((id, Session::read(&bytes).ok()?)))
    }

    /// Forgets a session that has ended.
    pub fn forget(&mut self, id: u64) {
        let _ = self.sessions.remove(&id);
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
