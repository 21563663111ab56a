//! The reader of the kernel: brings the probe into it or finds it there, and hands what it tells to the desk. Where the kernel
//! refuses the probe, the process connector is read instead.
//!
//! Guarantee: while the disk takes nothing, nothing is read: it waits in the kernel's ring, and what does not fit there is counted
//! in its session. Sessions whose end the kernel could not tell end here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use taffrail_kernfs::Roots;
use taffrail_record::Stop;
use taffrail_spool::Observer as _;

use crate::config::{AuditConfig, TierChoice};
use crate::connector::Connector;
use crate::desk::Desk;
use crate::document::Clock;
use crate::follow::Followed;
use crate::pins::Pins;
use crate::probe::{Loaded, Options, Probe, ProbeError};
use crate::scan::{Entered, Scan, is_alive};
use crate::status::{Status, Tier};
use crate::wire::{Record, Session, SessionKind};

/// How long to wait for records that are too few to wake anybody.
const PATIENCE: Duration = Duration::from_millis(200);
/// How much waits in the ring before it wakes this process.
const WAKE_AT: u32 = 64 << 10;
/// How often it is looked after what nobody tells.
const ROUND: Duration = Duration::from_secs(1);
/// How long to wait while the disk takes nothing.
const FULL: Duration = Duration::from_millis(100);
/// How long what waits in the ring is read at the end.
const END: Duration = Duration::from_secs(2);
/// How long to wait before a probe that was refused is tried again.
const AGAIN: Duration = Duration::from_secs(60);

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
}

/// Nanoseconds since the machine's start.
fn since_start() -> u64 {
    read(ClockId::CLOCK_BOOTTIME)
}

fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

fn clock() -> Clock {
    Clock { offset: read(ClockId::CLOCK_REALTIME) as i64 - since_start() as i64 }
}

/// What the probe is loaded with.
pub(crate) fn options(config: &AuditConfig) -> Options {
    Options {
        whole_node: config.whole_node,
        with_environment: !config.environment.is_empty(),
        ring_bytes: config.ring_bytes,
        wake_at: WAKE_AT.min(config.ring_bytes / 4),
        rate: config.rate,
        burst: config.burst,
    }
}

impl Watch {
    pub(crate) fn new(
        config: Arc<AuditConfig>,
        roots: Roots,
        pins: Option<Pins>,
        status: Arc<Status>,
        desk: Desk,
        stop: Stop,
    ) -> Self {
        Watch {
            config,
            roots,
            pins,
            status,
            desk,
            stop,
            older: HashMap::new(),
            deserted: HashSet::new(),
            ending: HashSet::new(),
            most_waiting: 0,
        }
    }

    /// Until it is told to stop.
    pub(crate) fn run(mut self) {
        self.desk.resume();
        while !self.stop.is_raised() {
            let refused = match self.config.tier {
                TierChoice::Connector => None,
                TierChoice::Auto | TierChoice::Probe => match self.begin() {
                    Ok(probe) => {
                        self.now_by(Tier::Probe, None);
                        self.follow(probe);
                        continue;
                    }
                    Err(error) => Some(error.to_string()),
                },
            };
            if self.config.tier == TierChoice::Probe {
                self.without(&refused.unwrap_or_default());
                continue;
            }
            match Connector::open() {
                Ok(connector) => {
                    self.now_by(Tier::Connector, refused);
                    self.listen(connector);
                }
                Err(error) => {
                    let connector = format!(
                        "the process connector: {error}; it takes CAP_NET_ADMIN in the machine's own network (hostNetwork)"
                    );
                    let both = refused.into_iter().chain([connector]);
                    self.without(&both.collect::<Vec<_>>().join("; "));
                }
            }
        }
    }

    fn now_by(&self, tier: Tier, refused: Option<String>) {
        if let Some(why) = &refused {
            tracing::warn!(why, tier = tier.as_str(), "the audit goes by what is next best");
        }
        self.status.set_trouble("tier", None);
        let mut view = self.status.view.lock();
        (view.tier, view.refused) = (tier, refused);
    }

    /// Nothing is known by anything.
    fn without(&self, why: &str) {
        self.status.view.lock().tier = Tier::None;
        self.status.set_trouble("tier", Some(format!("who comes into containers is not known: {why}")));
        let _ = self.stop.wait(AGAIN);
    }

    /// By the process connector, until it is told to stop.
    fn listen(&mut self, mut connector: Connector) {
        self.end_earlier();
        let mut followed = Followed::default();
        let looked = followed.look_through(&self.roots);
        let trouble = looked.as_ref().err().map(|error| format!("what is in containers is not known: {error}; the agent is to see the machine's processes (hostPID) and cgroups, with CAP_SYS_PTRACE"));
        self.status.set_trouble("scan", trouble);
        for entered in looked.map(|scan| scan.entered).unwrap_or_default() {
            self.find(&mut followed, &entered);
        }
        let mut round = Instant::now();
        while !self.stop.is_raised() {
            let mut events = Vec::new();
            connector.read(PATIENCE, |told| events.push(told));
            let offset = since_start() as i64 - read(ClockId::CLOCK_MONOTONIC) as i64;
            for told in events {
                let time = told.time.saturating_add_signed(offset);
                let records = followed.take(&self.roots, told.event, time);
                self.hand_on(&followed, records);
            }
            if round.elapsed() >= ROUND {
                round = Instant::now();
                followed.lose(connector.take_lost());
                let records = followed.sweep(&self.roots, since_start());
                self.hand_on(&followed, records);
                self.status.counted(&followed.sessions());
                self.status.view.lock().unread = followed.unread;
            }
        }
    }

    /// A session that was there before.
    fn find(&mut self, followed: &mut Followed, entered: &Entered) {
        let first = entered.processes.first().map_or(0, |first| first.process.start);
        let number = followed.free_number(first);
        let texts: Vec<_> = entered.processes.iter().map(|seen| seen.texts(&self.roots)).collect();
        let containers = followed.containers.clone();
        containers.iter().for_each(|container| self.desk.book.home(container));
        let (session, page) = self.desk.book.adopt(number, entered, &texts, clock());
        followed.adopt(number, session, entered);
        self.desk.page(page);
        self.wait_for_disk();
    }

    fn hand_on(&mut self, followed: &Followed, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        followed.containers.iter().for_each(|container| self.desk.book.home(container));
        for record in records {
            let page = self.desk.book.take(&record, clock());
            self.desk.page(page);
            self.wait_for_disk();
        }
    }

    /// While the disk takes nothing nothing is read: what the kernel cannot keep meanwhile is counted.
    fn wait_for_disk(&mut self) {
        while !self.desk.flush() && !self.stop.wait(FULL) {}
    }

    fn begin(&mut self) -> Result<Probe, ProbeError> {
        let options = options(&self.config);
        if let Some(pins) = &self.pins {
            if let Some(mut probe) = Probe::found(&options, pins) {
                self.status.view.lock().pinned = true;
                self.meet(&mut probe);
                return Ok(probe);
            }
            // Of another version or with other options: two of them would tell everything twice.
            if let Err(error) = pins.remove() {
                tracing::warn!(%error, "probes of an earlier life stay in the kernel; remove them from bpffs");
            }
        }
        // On a thread of its own, whose memory goes with it: the kernel's types take tens of megabytes for a moment.
        let loading = std::thread::scope(|scope| {
            let loading = scope.spawn(|| Loaded::load(&options, self.pins.as_ref()));
            loading.join()
        });
        let mut loaded =
            loading.map_err(|_| ProbeError::Refused("loading it panicked; see the log".to_owned()))??;
        if let Some(why) = loaded.unpinned.take() {
            tracing::warn!(why, folder = %self.config.bpffs.display(), "the probes go when the agent ends, and what happens meanwhile is missed; mount bpffs, or set audit.pinned: false");
            self.pins = None;
        }
        self.meet(&mut loaded.probe);
        let mut probe = loaded.attach()?;
        self.status.view.lock().pinned = self.pins.is_some();
        self.end_earlier();
        self.adopt(&mut probe);
        Ok(probe)
    }

    /// Makes the containers known that are there, and forgets those that are not.
    fn meet(&mut self, probe: &mut Probe) {
        let Some(scan) = self.scan() else { return };
        let there: HashMap<u64, (u32, u64)> = scan.containers.iter().map(|c| (c.cgroup, c.init)).collect();
        for gone in probe.containers().into_iter().filter(|cgroup| !there.contains_key(cgroup)) {
            probe.forget_container(gone);
        }
        for container in &scan.containers {
            self.desk.book.home(container);
            probe.know(container.cgroup, container.namespaces.iter().copied());
        }
        self.older = there;
    }

    fn scan(&self) -> Option<Scan> {
        let scan = Scan::of(&self.roots);
        let trouble = scan.as_ref().err().map(|error| {
            format!("what is in containers already is not known: {error}; the agent is to see the machine's processes (hostPID) and cgroups, with CAP_SYS_PTRACE")
        });
        self.status.set_trouble("scan", trouble);
        scan.ok()
    }

    /// Sessions of an earlier probe go on without being watched: they end here, and those that live begin anew.
    fn end_earlier(&mut self) {
        let open: Vec<(u64, u64)> =
            self.desk.book.open().values().map(|open| (open.number, open.cgroup)).collect();
        for (number, container) in open {
            let session =
                Session { container, kind: SessionKind::Entered, untracked: 1, ..Session::default() };
            self.desk.close(number, &session, since_start(), clock());
        }
    }

    /// Begins sessions of who is in containers already. Twice: whoever was made between a look and an adoption is found by the
    /// next look.
    fn adopt(&mut self, probe: &mut Probe) {
        let mut adopted: HashMap<u32, u64> = HashMap::new();
        for _ in 0..2 {
            let Some(scan) = self.scan() else { return };
            for entered in &scan.entered {
                let Some(first) = entered.processes.first() else { continue };
                match adopted.get(&first.process.pid).copied() {
                    Some(session) => self.adopt_more(probe, entered, session, &mut adopted),
                    None => self.adopt_one(probe, entered, &mut adopted),
                }
            }
        }
    }

    fn adopt_one(&mut self, probe: &mut Probe, entered: &Entered, adopted: &mut HashMap<u32, u64>) {
        let first = entered.processes.first().map_or(0, |first| first.process.start);
        // Who came in since the probe was attached has a session.
        if probe.sessions().any(|(_, session)| {
            entered
                .processes
                .iter()
                .any(|seen| seen.process.pid == session.root && session.kind != SessionKind::Adopted)
        }) {
            return;
        }
        let number = (first..).find(|number| probe.session(*number).is_none()).unwrap_or(first);
        let texts: Vec<_> = entered.processes.iter().map(|seen| seen.texts(&self.roots)).collect();
        let (session, page) = self.desk.book.adopt(number, entered, &texts, clock());
        let pids: Vec<u32> = entered.processes.iter().map(|seen| seen.process.pid).collect();
        if let Err(error) = probe.adopt(number, &session, &pids) {
            tracing::warn!(error, "a session that is older than the probe cannot be followed");
        }
        adopted.extend(pids.into_iter().map(|pid| (pid, number)));
        self.desk.page(page);
    }

    fn adopt_more(
        &mut self,
        probe: &mut Probe,
        entered: &Entered,
        session: u64,
        adopted: &mut HashMap<u32, u64>,
    ) {
        for seen in entered
            .processes
            .iter()
            .filter(|seen| !adopted.contains_key(&seen.process.pid))
            .collect::<Vec<_>>()
        {
            probe.adopt_more(session, seen.process.pid);
            let page = self.desk.book.adopt_more(session, (seen.process.pid, seen.process.start));
            self.desk.page(page);
        }
        adopted.extend(entered.processes.iter().map(|seen| (seen.process.pid, session)));
    }

    fn follow(&mut self, mut probe: Probe) {
        let mut round = Instant::now();
        while !self.stop.is_raised() {
            if round.elapsed() >= ROUND {
                round = Instant::now();
                self.round(&mut probe);
            }
            if !self.desk.flush() {
                let _ = self.stop.wait(FULL);
                continue;
            }
            self.most_waiting = self.most_waiting.max(probe.waiting());
            let clock = clock();
            let desk = &mut self.desk;
            if !probe.next(|bytes| desk.record(bytes, clock)) {
                if probe.waiting() == 0 {
                    self.end(&mut probe);
                }
                probe.wait(PATIENCE);
            }
        }
        // What the kernel has told until now is told on; the next life goes on behind it.
        let (clock, end) = (clock(), Instant::now() + END);
        while Instant::now() < end && probe.next(|bytes| self.desk.record(bytes, clock)) {}
    }

    /// What nobody tells: figures, and ends that were not told.
    fn round(&mut self, probe: &mut Probe) {
        let counts = probe.counts();
        let ring = (u64::from(probe.ring_bytes()), std::mem::take(&mut self.most_waiting));
        {
            let mut view = self.status.view.lock();
            view.ring = ring;
            view.counts = counts.unwrap_or(view.counts);
        }
        let sessions: HashMap<u64, Session> =
            probe.sessions().filter(|(_, session)| session.kind != SessionKind::Init).collect();
        self.status.counted(&sessions);
        self.end_deserted(&sessions);
        self.end_adopted(probe, &sessions);
        let gone: Vec<u64> = self
            .older
            .iter()
            .filter(|(_, (pid, start))| !is_alive(&self.roots, *pid, *start))
            .map(|(cgroup, _)| *cgroup)
            .collect();
        for cgroup in gone {
            self.older.remove(&cgroup);
            self.desk.book.forget_home(cgroup);
            probe.forget_container(cgroup);
        }
    }

    /// Ends sessions without members of which the kernel has not told the end: not while it may be about to.
    fn end_deserted(&mut self, sessions: &HashMap<u64, Session>) {
        let deserted = sessions.iter().filter(|(_, session)| session.members == 0);
        let deserted: HashSet<u64> = deserted.map(|(number, _)| *number).collect();
        self.ending.extend(deserted.intersection(&self.deserted));
        self.deserted = deserted;
    }

    /// Ends what was found to have ended: when everything is read that the kernel has told of it until then.
    fn end(&mut self, probe: &mut Probe) {
        for number in std::mem::take(&mut self.ending) {
            let Some(session) = probe.session(number) else { continue };
            let at = if session.ended > 0 { session.ended } else { since_start() };
            // What the disk does not take yet waits at the desk.
            self.desk.close(number, &session, at, clock());
            probe.forget(number);
        }
    }

    /// Ends adopted sessions when none of their processes lives.
    fn end_adopted(&mut self, probe: &mut Probe, sessions: &HashMap<u64, Session>) {
        if !sessions.values().any(|session| session.kind == SessionKind::Adopted) {
            return;
        }
        let mut living = HashSet::new();
        for (pid, number) in probe.adopted() {
            let found =
                self.desk.book.open().get(&number).map(|open| open.found.as_slice()).unwrap_or_default();
            let start = found.iter().find(|(known, _)| *known == pid).map(|(_, start)| *start);
            if start.is_some_and(|start| is_alive(&self.roots, pid, start)) {
                living.insert(number);
            } else {
                probe.disown(pid);
            }
        }
        if living.is_empty() {
            probe.all_disowned();
        }
        let adopted = sessions
            .iter()
            .filter(|(number, session)| session.kind == SessionKind::Adopted && !living.contains(number));
        for number in adopted.map(|(number, _)| *number) {
            // Whoever they have made since is counted; nobody else can be made any more.
            if probe.session(number).is_some_and(|session| session.members == Session::HOLD) {
                self.ending.insert(number);
            }
        }
    }
}
