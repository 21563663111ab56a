//! The reader of the kernel: by which tier it is known who comes into containers, and what is common to all of them.
//!
//! Guarantee: the best tier that the kernel permits is chosen, and why it is no better one is said.

mod connector;
mod probe;
mod runtime;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use taffrail_kernfs::Roots;
use taffrail_record::Stop;
use taffrail_spool::Observer as _;

use crate::config::AuditConfig;
use crate::connector::Connector;
use crate::desk::Desk;
use crate::document::Clock;
use crate::engines::{Engines, Listening};
use crate::execve::{Heard, KernelAudit};
use crate::pins::Pins;
use crate::probe::{Options, Recorded};
use crate::request::Attributor;
use crate::scan::{self, Container, Scan};
use crate::status::{Status, Tier};
use crate::wire::{Session, SessionKind};

/// How long to wait for records that are too few to wake anybody.
const PATIENCE: Duration = Duration::from_millis(200);
/// How much waits in the ring before it wakes this process.
const WAKE_AT: u32 = 64 << 10;
/// How often it is looked after what nobody tells.
const ROUND: Duration = Duration::from_secs(1);
/// How often it is looked who asks for sessions.
const ASKED: Duration = Duration::from_millis(100);
/// How long to wait while the disk takes nothing.
const FULL: Duration = Duration::from_millis(100);
/// How long to wait before a probe that was refused is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// What this agent leaves in the kernel, and what it is told by besides.
pub(crate) struct Hands {
    /// Where its probes are pinned, if they are to be.
    pub(crate) pins: Option<Pins>,
    pub(crate) kernel_audit: KernelAudit,
    pub(crate) engines: Engines,
}

pub(crate) struct Watch {
    pub(crate) config: Arc<AuditConfig>,
    pub(crate) roots: Roots,
    /// Where this agent's probes are pinned, if they are to be.
    pub(crate) pins: Option<Pins>,
    pub(crate) status: Arc<Status>,
    pub(crate) desk: Desk,
    pub(crate) stop: Stop,
    /// First processes of containers that are older than the probe, and the kernfs ids of those.
    older: HashMap<u64, (u32, u64)>,
    /// Sessions that had no members when they were last looked at.
    deserted: HashSet<u64>,
    /// Sessions that have ended, as far as could be found out.
    ending: HashSet<u64>,
    /// Bytes that waited in the ring, at most since the last round.
    most_waiting: u64,
    /// Who asks for sessions, and when that was looked at.
    attributor: Attributor,
    asked: Instant,
    /// The kernel's audit, and why it is not heard any more.
    kernel_audit: KernelAudit,
    gone: Option<String>,
    /// The engines that are asked where the kernel tells nothing.
    engines: Engines,
    /// Why nothing is recorded although that was wanted.
    unrecorded: Option<String>,
    /// Why neither files nor connections are told although that was wanted.
    unopened: Option<String>,
    /// Runs of the probe that the kernel has skipped, as far as they were said.
    skipped: Option<u64>,
}

/// Nanoseconds since the machine's start.
pub(crate) fn since_start() -> u64 {
    read(ClockId::CLOCK_BOOTTIME)
}

fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

pub(crate) fn clock() -> Clock {
    Clock { offset: read(ClockId::CLOCK_REALTIME) as i64 - since_start() as i64 }
}

/// What the probe is loaded with.
pub(crate) fn options(config: &AuditConfig, roots: &Roots) -> Options {
    Options {
        whole_node: config.whole_node,
        with_environment: !config.environment.is_empty(),
        ring_bytes: config.ring_bytes,
        wake_at: WAKE_AT.min(config.ring_bytes / 4),
        rate: config.rate,
        burst: config.burst,
        files: config.files,
        connections: config.connections,
        machine: scan::machine(roots).unwrap_or_default(),
        recording: config.records().then_some(Recorded {
            session_bytes: config.recording.session_bytes,
            ring_bytes: config.recording.ring_bytes,
            debug: config.records_debug(),
        }),
    }
}

impl Watch {
    pub(crate) fn new(
        config: Arc<AuditConfig>,
        roots: Roots,
        hands: Hands,
        status: Arc<Status>,
        desk: Desk,
        attributor: Attributor,
        stop: Stop,
    ) -> Self {
        Watch {
            config,
            roots,
            pins: hands.pins,
            kernel_audit: hands.kernel_audit,
            engines: hands.engines,
            status,
            desk,
            stop,
            older: HashMap::new(),
            deserted: HashSet::new(),
            ending: HashSet::new(),
            most_waiting: 0,
            attributor,
            gone: None,
            asked: Instant::now(),
            unrecorded: None,
            unopened: None,
            skipped: None,
        }
    }

    /// Until it is told to stop.
    pub(crate) fn run(mut self) {
        self.desk.resume();
        // Whatever is gone by from now on.
        if let Err(why) = self.kernel_audit.take_back() {
            tracing::warn!(
                why,
                "the kernel's audit is not as it was before an earlier life; see auditctl -l"
            );
        }
        while !self.stop.is_raised() {
            let mut refused = Vec::new();
            let begun = self.config.tier.tiers().iter().any(|tier| match self.by(*tier, &refused) {
                Ok(()) => true,
                Err(why) => {
                    refused.push(why);
                    false
                }
            });
            if !begun {
                self.without(&refused.join("; "));
            }
        }
    }

    /// Goes by this tier, if that can be: until it is told to stop, or the tier is taken away. Else why it cannot be.
    fn by(&mut self, tier: Tier, refused: &[String]) -> Result<(), String> {
        match tier {
            Tier::None => return Err(String::new()),
            Tier::Probe => {
                let probe = self.begin().map_err(|error| error.to_string())?;
                self.now_by(tier, refused);
                self.follow(probe);
            }
            Tier::Audit => {
                let heard = self.hear().map_err(|why| format!("the kernel's audit: {why}"))?;
                let connector = connector()?;
                self.now_by(tier, refused);
                self.gone = self.listen(connector, Some(heard)).err();
            }
            Tier::Connector => {
                let connector = connector()?;
                self.now_by(tier, refused);
                // Without the audit nothing is taken away.
                let _ = self.listen(connector, None);
            }
            Tier::Runtime => {
                let listening =
                    Listening::begin(&self.engines).map_err(|why| format!("the engines' events: {why}"))?;
                self.now_by(tier, refused);
                self.ask(listening);
            }
        }
        Ok(())
    }

    /// Hears the kernel's audit. Who has taken it away once is not contradicted.
    fn hear(&self) -> Result<Heard, String> {
        self.gone.clone().map_or_else(|| self.kernel_audit.open(), Err)
    }

    fn now_by(&self, tier: Tier, refused: &[String]) {
        let refused = Some(refused.join("; ")).filter(|why| !why.is_empty());
        if let Some(why) = &refused {
            tracing::warn!(why, tier = tier.as_str(), "the audit goes by what is next best");
        }
        self.status.set_trouble("tier", None);
        if tier != Tier::Probe && (self.config.files || self.config.connections) {
            let why = "files and connections are not told: that takes the probe".to_owned();
            self.status.set_trouble("opens", Some(why));
        }
        let mut view = self.status.view.lock();
        (view.tier, view.refused) = (tier, refused);
    }

    /// Nothing is known by anything.
    fn without(&self, why: &str) {
        self.status.view.lock().tier = Tier::None;
        self.status.set_trouble("tier", Some(format!("who comes into containers is not known: {why}")));
        let _ = self.stop.wait(AGAIN);
    }

    /// Who asks for sessions.
    fn attribute(&mut self) {
        if self.asked.elapsed() >= ASKED {
            self.asked = Instant::now();
            self.desk.attribute(&mut self.attributor, clock());
        }
    }

    /// While the disk takes nothing nothing is read: what the kernel cannot keep meanwhile is counted.
    fn wait_for_disk(&mut self) {
        while !self.desk.flush() && !self.stop.wait(FULL) {}
    }

    fn home(&mut self, container: &Container) {
        let environ = self.roots.proc(&container.init.0.to_string()).join("environ");
        self.desk.book.home(container);
        self.desk.book.own_environment(container.cgroup, || std::fs::read(environ).ok());
    }

    fn scan(&self) -> Option<Scan> {
        self.looked(Scan::of(&self.roots))
    }

    /// What was seen of processes and containers; what stood in the way is said.
    fn looked(&self, scan: io::Result<Scan>) -> Option<Scan> {
        let trouble = scan.as_ref().err().map(|error| {
            format!("what is in containers already is not known: {error}; the agent is to see the machine's processes (hostPID) and cgroups, with CAP_SYS_PTRACE")
        });
        self.status.set_trouble("scan", trouble);
        scan.ok()
    }

    /// Sessions of an earlier probe go on without being watched: they end here, and those that live begin anew.
    fn end_earlier(&mut self) {
        self.desk.finish_all("what had recorded it is gone", clock());
        let open: Vec<(u64, u64)> =
            self.desk.book.open().values().map(|open| (open.number, open.cgroup)).collect();
        for (number, container) in open {
            let session =
                Session { container, kind: SessionKind::Entered, untracked: 1, ..Session::default() };
            self.desk.close(number, &session, since_start(), clock());
        }
    }
}

fn connector() -> Result<Connector, String> {
    Connector::open().map_err(|error| {
        format!("the process connector: {error}; it takes CAP_NET_ADMIN in the machine's own network and processes (hostNetwork, hostPID)")
    })
}
