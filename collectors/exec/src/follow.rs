//! Sessions without the probe: what the process connector tells, joined with `/proc` and with what the kernel's audit tells, as the records
//! that the probe would tell.
//!
//! Guarantee: what is told is true, and what the connector lost is said in every session that was open then. Not told is who was
//! gone before `/proc` could be read, where the audit tells nothing of it either: [`Followed::unread`] counts them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;

use taffrail_kernfs::Roots;

use crate::connector::Event;
use crate::execve::Execve;
use crate::lineage::Lineage;
use crate::scan::{
    Cgroups, Container, Entered, Owners, Scan, Seen, Texts, container_cgroups, host_mount, owners,
};
use crate::wire::{Exec, Exit, Flags, Process, Record, Session, SessionKind, What, differences};

/// How many rounds a container takes at most until it is whole: in its namespaces, and with its own root.
const SETTLING: u32 = 3;
/// How many bytes of arguments are told, and of an environment: as many as the probe tells.
const TOLD: usize = 8 << 10;

/// Sessions as they are followed.
#[derive(Default)]
pub(crate) struct Followed {
    sessions: HashMap<u64, Live>,
    /// The session of each process that is in one.
    members: HashMap<u32, u64>,
    cgroups: Cgroups,
    owners: Owners,
    /// Containers as they were when they were last looked through.
    pub(crate) containers: Vec<Container>,
    /// Containers by the devices of their files, as the kernel numbers them.
    devices: HashMap<u32, u64>,
    /// Devices that programs of the machine are of, or of no container.
    machines: HashSet<u32>,
    /// Mount namespaces of no container.
    foreign: HashSet<u32>,
    host_mount: Option<u32>,
    /// Members that were not there when they were looked for last.
    gone: BTreeSet<u32>,
    /// How often yet it is to be looked through: a container may not have been whole when it was found.
    unsettled: u32,
    lineage: Lineage,
    /// Programs of which nobody knows what they were.
    pub(crate) unread: u64,
}

/// What was seen of a program when it was told of.
#[derive(Debug, Default)]
pub(crate) struct Look {
    seen: Seen,
    texts: Texts,
    /// The container of its parent.
    parent: Option<u64>,
}

/// To as much as is told.
pub(crate) fn cut(exec: &mut Exec) {
    exec.arguments_total = exec.arguments.len() as u32;
    exec.arguments.truncate(TOLD);
    exec.environment.truncate(TOLD);
}

struct Live {
    counted: Session,
    processes: HashMap<u32, Process>,
}

impl Followed {
    /// Sessions as they are counted.
    pub(crate) fn sessions(&self) -> HashMap<u64, Session> {
        self.sessions.iter().map(|(number, live)| (*number, live.counted)).collect()
    }

    /// A number that no session has.
    pub(crate) fn free_number(&self, from: u64) -> u64 {
        (from..).find(|number| !self.sessions.contains_key(number)).unwrap_or(from)
    }

    /// Goes on with a session that was there before.
    pub(crate) fn adopt(&mut self, number: u64, session: Session, entered: &Entered) {
        let members = entered.processes.len() as u32;
        let processes: HashMap<u32, Process> =
            entered.processes.iter().map(|seen| (seen.process.pid, seen.process.clone())).collect();
        self.members.extend(processes.keys().map(|pid| (*pid, number)));
        self.sessions.insert(number, Live { counted: Session { members, ..session }, processes });
    }

    /// So many events were lost: they may have been anybody's.
    pub(crate) fn lose(&mut self, count: u64) {
        self.sessions.values_mut().for_each(|live| live.counted.untracked += count);
    }

    /// What can be seen now of what an event tells; nothing of a program that has ended.
    pub(crate) fn look_at(&mut self, roots: &Roots, event: Event) -> Option<Box<Look>> {
        let Event::Exec { pid } = event else { return None };
        let mut seen = self.look(roots, pid)?;
        if seen.container(&self.owners).is_none() && self.is_of_unknown(&seen) {
            let _ = self.look_through(roots);
            seen = self.look(roots, pid).unwrap_or(seen);
            if seen.container(&self.owners).is_none() {
                self.foreign.insert(seen.namespaces[0]);
            }
        }
        let is_anybodys = seen.container(&self.owners).is_some() || self.members.contains_key(&pid);
        let mut look = Look { seen, ..Look::default() };
        if is_anybodys {
            look.texts = look.seen.texts(roots);
            let parent = self.look(roots, look.seen.process.parent);
            look.parent = parent.and_then(|parent| parent.container(&self.owners));
        }
        Some(Box::new(look))
    }

    /// What an event is a record of, and the session's end if it was that. `look` is what was seen, `execve` what the audit says of it.
    pub(crate) fn take(
        &mut self,
        roots: &Roots,
        (event, time): (Event, u64),
        look: Option<Box<Look>>,
        execve: Option<Execve>,
    ) -> Vec<Record> {
        self.lineage.happened(event, time);
        match event {
            Event::Fork { parent, child } => self.forked(roots, parent, child, time),
            Event::Exec { pid } => self.began(roots, pid, time, look, execve),
            Event::Exit { pid, status } => self.ended(pid, status, time),
        }
    }

    fn forked(&mut self, roots: &Roots, parent: u32, child: u32, time: u64) -> Vec<Record> {
        let Some(number) = self.members.get(&parent).copied() else { return Vec::new() };
        let Some(live) = self.sessions.get_mut(&number) else { return Vec::new() };
        let seen = Seen::of(roots, child, &self.cgroups).map(|seen| seen.process);
        let process = seen.unwrap_or_else(|_| made_by(live.processes.get(&parent), parent, child, time));
        self.members.insert(child, number);
        live.counted.forks += 1;
        live.counted.members += 1;
        live.processes.insert(child, process.clone());
        vec![live.record(number, Flags::default(), time, What::Fork(Box::new(process)))]
    }

    fn began(
        &mut self,
        roots: &Roots,
        pid: u32,
        time: u64,
        look: Option<Box<Look>>,
        execve: Option<Execve>,
    ) -> Vec<Record> {
        let known = self.members.get(&pid).copied();
        if let (Some(look), Some(execve)) = (&look, &execve)
            && Some(look.seen.namespaces[0]) == self.host_mount
        {
            self.machines.insert(execve.device);
        }
        let number = match (&look, &execve) {
            _ if known.is_some() => known,
            (Some(look), _) => self.entered(&look.seen, look.parent, time),
            (None, Some(execve)) => self.entered_unseen(roots, execve, time),
            (None, None) => {
                self.unread += 1;
                None
            }
        };
        let Some(number) = number else { return Vec::new() };
        let Some(live) = self.sessions.get_mut(&number) else { return Vec::new() };
        let is_entry = known.is_none();
        let mut flags = if is_entry { Flags::ENTRY } else { Flags::default() };
        // How it came in cannot be looked at any more: nobody is said to have gone past the runtime for that.
        let by_cgroup = look.as_ref().is_none_or(|look| look.seen.is_in_cgroup_of(live.counted.container));
        let before = live.processes.get(&pid).cloned();
        let Look { seen, texts, .. } = look.map_or_else(Look::default, |look| *look);
        let mut process = if seen.process.pid == 0 { before.unwrap_or_default() } else { seen.process };
        let mut exec = Exec {
            entered_by: if is_entry && by_cgroup { differences::CGROUP } else { 0 },
            ..texts.program(SessionKind::Entered)
        };
        match execve {
            Some(execve) => complete(&mut process, &mut exec, execve, time),
            None if exec.arguments.is_empty() => self.unread += 1,
            None => {}
        }
        if exec.arguments.is_empty() {
            flags = flags.with_arguments_unreadable();
        }
        cut(&mut exec);
        live.counted.execs += 1;
        live.processes.insert(pid, process.clone());
        vec![live.record(number, flags, time, What::Exec(Box::new(process), Box::new(exec)))]
    }

    /// Whether it is in a mount namespace of which it is not known whose it is.
    fn is_of_unknown(&self, seen: &Seen) -> bool {
        let mount = seen.namespaces[0];
        mount != 0 && Some(mount) != self.host_mount && !self.foreign.contains(&mount)
    }

    /// The container whose files a program was of.
    fn container_of(&mut self, roots: &Roots, device: u32) -> Option<u64> {
        if self.machines.contains(&device) {
            return None;
        }
        if !self.devices.contains_key(&device) {
            let _ = self.look_through(roots);
        }
        let container = self.devices.get(&device).copied();
        if container.is_none() {
            self.machines.insert(device);
        }
        container
    }

    /// With the containers that have begun since.
    fn look(&mut self, roots: &Roots, pid: u32) -> Option<Seen> {
        let seen = Seen::of(roots, pid, &self.cgroups).ok()?;
        if !seen.is_new {
            return Some(seen);
        }
        let _ = self.look_through(roots);
        self.unsettled = SETTLING;
        Seen::of(roots, pid, &self.cgroups).ok()
    }

    /// Finds the containers that there are, and who is in them from outside.
    pub(crate) fn look_through(&mut self, roots: &Roots) -> std::io::Result<Scan> {
        let scan = Scan::of(roots)?;
        self.cgroups = container_cgroups(roots)?;
        self.owners = owners(&scan.containers);
        self.host_mount = host_mount(roots);
        if self.containers != scan.containers {
            self.foreign.clear();
            // Of a container that was not known may be what nobody's was.
            self.machines.clear();
        }
        self.containers.clone_from(&scan.containers);
        // The container whose files nobody else has: one that shares the machine's is not known by them.
        let device = |pid: u32| {
            std::fs::metadata(roots.proc(&pid.to_string()).join("root/")).map(|it| kernels(it.dev()))
        };
        let own = device(1).ok();
        let all = scan.containers.iter().filter_map(|it| Some((device(it.init.0).ok()?, it.cgroup)));
        self.devices = all.filter(|(device, _)| Some(*device) != own).collect();
        Ok(scan)
    }

    /// Begins a session if the process is in a container and its parent is not, and it is not the container's first.
    fn entered(&mut self, seen: &Seen, parent: Option<u64>, time: u64) -> Option<u64> {
        let container = seen.container(&self.owners)?;
        let pid = seen.process.pid;
        let is_first = self.containers.iter().any(|known| known.init.0 == pid);
        if parent == Some(container) || is_first {
            return None;
        }
        Some(self.begin(container, pid, seen.namespaces, time))
    }

    /// The same of one that has ended: which container it was in is known by whose files its program was of, and whether it came from
    /// outside by the nearest of its ancestors that lives.
    fn entered_unseen(&mut self, roots: &Roots, execve: &Execve, time: u64) -> Option<u64> {
        let container = self.container_of(roots, execve.device)?;
        let mut ancestors = self.lineage.of(execve.pid);
        if ancestors.is_empty() {
            ancestors.push(execve.parent);
        }
        let living = ancestors.into_iter().find_map(|pid| self.look(roots, pid));
        match living.map(|living| living.container(&self.owners) == Some(container)) {
            Some(false) => Some(self.begin(container, execve.pid, [0; 5], time)),
            Some(true) => None,
            None => {
                self.unread += 1;
                None
            }
        }
    }

    fn begin(&mut self, container: u64, pid: u32, namespaces: [u32; 5], time: u64) -> u64 {
        let number = self.free_number(time);
        let counted = Session {
            container,
            begun: time,
            root: pid,
            members: 1,
            kind: SessionKind::Entered,
            cgroup: container,
            namespaces,
            ..Session::default()
        };
        self.sessions.insert(number, Live { counted, processes: HashMap::new() });
        self.members.insert(pid, number);
        number
    }

    fn ended(&mut self, pid: u32, status: i32, time: u64) -> Vec<Record> {
        let Some(number) = self.members.remove(&pid) else { return Vec::new() };
        let Some(live) = self.sessions.get_mut(&number) else { return Vec::new() };
        let process =
            live.processes.remove(&pid).unwrap_or_else(|| Process { pid, thread: pid, ..Process::default() });
        live.counted.exits += 1;
        live.counted.members = live.counted.members.saturating_sub(1);
        if pid == live.counted.root {
            (live.counted.ended, live.counted.status) = (time, status);
        }
        let mut records = vec![live.record(
            number,
            Flags::default(),
            time,
            What::Exit(Box::new(process), Exit { status, cpu: 0 }),
        )];
        if live.counted.members == 0 {
            records.extend(self.close(number, time));
        }
        records
    }

    fn close(&mut self, number: u64, time: u64) -> Option<Record> {
        let mut live = self.sessions.remove(&number)?;
        live.counted.records += 1;
        let (session, counted) = (number, live.counted);
        let what = What::End(counted);
        Some(Record {
            flags: Flags::default(),
            time,
            session,
            number: counted.records - 1,
            container: counted.container,
            what,
        })
    }

    /// Ends what has ended without being told: of processes that are not there any more.
    pub(crate) fn sweep(&mut self, roots: &Roots, time: u64) -> Vec<Record> {
        if self.unsettled > 0 {
            self.unsettled -= 1;
            let _ = self.look_through(roots);
        }
        let gone: BTreeSet<u32> =
            self.members.keys().filter(|pid| !roots.proc(&pid.to_string()).exists()).copied().collect();
        let mut records = Vec::new();
        // Of whoever was there a round before it may be told yet.
        let before = std::mem::replace(&mut self.gone, gone.clone());
        for pid in gone.intersection(&before) {
            let Some(number) = self.members.remove(pid) else { continue };
            let Some(live) = self.sessions.get_mut(&number) else { continue };
            live.processes.remove(pid);
            live.counted.untracked += 1;
            live.counted.members = live.counted.members.saturating_sub(1);
            if live.counted.members == 0 {
                records.extend(self.close(number, time));
            }
        }
        records
    }
}

/// A process that had ended before it could be looked at: it is as who made it, but for what makes it another one.
fn made_by(maker: Option<&Process>, parent: u32, child: u32, time: u64) -> Process {
    let maker = maker.cloned().unwrap_or_default();
    Process {
        pid: child,
        thread: child,
        parent,
        start: time,
        parent_start: maker.start,
        inner_pid: 0,
        ..maker
    }
}

/// What the audit says goes before what `/proc` says: a process may change that for itself.
fn complete(process: &mut Process, exec: &mut Exec, execve: Execve, time: u64) {
    if process.pid == 0 {
        (process.pid, process.thread, process.start) = (execve.pid, execve.pid, time);
    }
    process.parent = execve.parent;
    (process.user, process.group) = (execve.user, execve.group);
    (process.effective_user, process.effective_group) = (execve.effective_user, execve.effective_group);
    (process.login_user, process.audit_session) = (execve.login_user, execve.audit_session);
    (process.name, process.tty) = (execve.name, execve.tty);
    (exec.inode, exec.device, exec.file) = (execve.inode, execve.device, execve.file);
    if !execve.executable.is_empty() {
        exec.path = execve.executable;
    }
    if !execve.directory.is_empty() {
        exec.directory = execve.directory;
    }
    if let Some(arguments) = execve.arguments {
        exec.arguments = arguments.into_iter().flat_map(|it| it.into_iter().chain([0])).collect();
    }
}

/// As the kernel numbers a device that stat(2) names.
fn kernels(device: u64) -> u32 {
    use nix::sys::stat::{major, minor};
    ((major(device) as u32) << 20) | (minor(device) as u32 & 0xf_ffff)
}

impl Live {
    fn record(&mut self, session: u64, flags: Flags, time: u64, what: What) -> Record {
        self.counted.records += 1;
        Record {
            flags,
            time,
            session,
            number: self.counted.records - 1,
            container: self.counted.container,
            what,
        }
    }
}
