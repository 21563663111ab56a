//! By the probe: brought into the kernel or found there, and what it tells handed to the desk.
//!
//! Guarantee: while the disk takes nothing, nothing is read: it waits in the kernel's ring, and what does not fit there is counted
//! in its session. Sessions whose end the kernel could not tell end here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use taffrail_spool::Observer as _;

use super::{FULL, PATIENCE, ROUND, Watch, clock, options, since_start};
use crate::probe::{Loaded, Probe, ProbeError, Run};
use crate::recording::Recordings;
use crate::scan::{Entered, is_alive};
use crate::wire::{Session, SessionKind};

/// How long to wait for records while something is recorded, of which nobody is woken.
const OFTEN: Duration = Duration::from_millis(20);
/// How long what waits in the ring is read at the end.
const END: Duration = Duration::from_secs(2);

impl Watch {
    pub(super) fn begin(&mut self) -> Result<Probe, ProbeError> {
        let options = options(&self.config, &self.roots);
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
        let began = Instant::now();
        let loading = std::thread::scope(|scope| {
            let loading = scope.spawn(|| Loaded::load(&options, self.pins.as_ref()));
            loading.join()
        });
        let mut loaded =
            loading.map_err(|_| ProbeError::Refused("loading it panicked; see the log".to_owned()))??;
        taffrail_record::heap::release();
        let (verified, most) = loaded.verified.unwrap_or_default();
        let seconds = began.elapsed().as_secs_f64();
        // How near each program is to the million instructions that a kernel goes through at most.
        tracing::info!(seconds, verified, most, "the audit's probe has been verified by the kernel");
        self.unrecorded = loaded.unrecorded.take();
        self.unopened = loaded.unopened.take();
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
            self.home(container);
            probe.know(container);
        }
        self.older = there;
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

    pub(super) fn follow(&mut self, mut probe: Probe) {
        let mut recordings = self.recordings(&mut probe);
        self.says_what_is_untold(&probe);
        let mut round = Instant::now();
        let mut was_read = false;
        while !self.stop.is_raised() {
            if round.elapsed() >= ROUND {
                round = Instant::now();
                self.round(&mut probe);
                if let Some(recordings) = &mut recordings {
                    recordings.tell(&probe.containers(), &self.desk);
                    let is_there = |number| probe.session(number).is_some();
                    recordings.round(&self.desk, is_there, std::mem::take(&mut was_read));
                }
            }
            self.attribute();
            if !self.desk.flush() {
                let _ = self.stop.wait(FULL);
                continue;
            }
            self.desk.take_wished().into_iter().for_each(|number| probe.wish(number));
            self.most_waiting = self.most_waiting.max(probe.waiting());
            if self.next(&mut probe) {
                continue;
            }
            was_read = true;
            let more = recordings.as_mut().is_some_and(|recordings| recordings.read(&mut self.desk));
            if probe.waiting() == 0 {
                self.end(&mut probe, recordings.as_mut());
            }
            if !more {
                let is_busy = recordings.as_ref().is_some_and(Recordings::is_busy);
                let also = recordings.as_ref().map(Recordings::much);
                probe.wait(if is_busy { OFTEN } else { PATIENCE }, also);
            }
        }
        // What the kernel has told until now is told on; the next life goes on behind it.
        let end = Instant::now() + END;
        while Instant::now() < end && self.next(&mut probe) {}
        if let Some(recordings) = &mut recordings {
            recordings.rest(&mut self.desk, self.pins.is_some());
        }
    }

    /// Takes the next thing that the probe tells, if there is one.
    fn next(&mut self, probe: &mut Probe) -> bool {
        let (clock, desk) = (clock(), &mut self.desk);
        probe.next(|bytes| desk.record(bytes, clock))
    }

    /// What records, where a policy asks for that and the kernel permits it.
    fn recordings(&mut self, probe: &mut Probe) -> Option<Recordings> {
        if !self.config.records() {
            self.desk.finish_all("no policy asks for recordings any more", clock());
            return None;
        }
        let hooks = probe.take_hooks();
        let why = hooks.is_none().then(|| {
            self.unrecorded
                .take()
                .unwrap_or_else(|| "the kernel has refused it in an earlier life".to_owned())
        });
        let trouble = why.as_ref().map(|why| format!("what is typed and shown is not recorded: {why}"));
        self.status.set_trouble("recording", trouble);
        if let Some(why) = &why {
            self.desk.finish_all(why, clock());
        }
        self.desk.book.can_record(why);
        let (config, limit) = (&self.config.recording, self.config.spool_limit());
        Some(Recordings::new(hooks?, config, limit, Arc::clone(&self.status)))
    }

    /// Files and connections were asked for, and the kernel refuses that.
    fn says_what_is_untold(&mut self, probe: &Probe) {
        let is_told = probe.tells_as(&options(&self.config, &self.roots));
        let why = self.unopened.take();
        let why = why.unwrap_or_else(|| "the kernel has refused it in an earlier life".to_owned());
        let trouble = (!is_told).then(|| format!("files and connections are not told: {why}"));
        self.status.set_trouble("opens", trouble);
    }

    /// What the kernel has skipped of the probe's runs is missing in whatever was open.
    fn note_skipped(&mut self, runs: &[Run]) {
        let skipped: u64 = runs.iter().map(|run| run.skipped).sum();
        // What an earlier life has found was said by that.
        let before = self.skipped.replace(skipped).unwrap_or(skipped);
        if skipped > before {
            let page = self.desk.book.miss("the kernel skipped runs of the probe: something may be missing");
            self.desk.page(page);
        }
    }

    /// What nobody tells: figures, and ends that were not told.
    fn round(&mut self, probe: &mut Probe) {
        let counts = probe.counts();
        let runs = probe.runs().unwrap_or_default();
        self.note_skipped(&runs);
        let ring = (u64::from(probe.ring_bytes()), std::mem::take(&mut self.most_waiting));
        {
            let mut view = self.status.view.lock();
            view.ring = ring;
            view.counts = counts.unwrap_or(view.counts);
            view.runs = runs;
        }
        self.desk.decide(clock());
        let is_somebodys = |(number, session): &(u64, Session)| {
            session.kind != SessionKind::Init || self.desk.book.open().contains_key(number)
        };
        let sessions: HashMap<u64, Session> = probe.sessions().filter(is_somebodys).collect();
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
    fn end(&mut self, probe: &mut Probe, mut recordings: Option<&mut Recordings>) {
        if let Some(recordings) = &mut recordings {
            for number in recordings.ended(&self.desk, since_start()) {
                recordings.settle(number, &mut self.desk);
                self.desk.finish(number, clock());
            }
        }
        for number in std::mem::take(&mut self.ending) {
            let Some(session) = probe.session(number) else { continue };
            let at = if session.ended > 0 { session.ended } else { since_start() };
            if let Some(recordings) = &mut recordings {
                recordings.settle(number, &mut self.desk);
            }
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
