//! Sessions without the probe: what the process connector tells, joined with `/proc`, as the records that the probe would tell.
//!
//! Guarantee: what is told is true, and what the connector lost is said in every session that was open then. Not told is who was
//! gone before `/proc` could be read: [`Followed::unread`] counts them.

use std::collections::{BTreeSet, HashMap};

use taffrail_kernfs::Roots;

use crate::connector::Event;
use crate::scan::{Cgroups, Container, Entered, Owners, Scan, Seen, Texts, container_cgroups, owners};
use crate::wire::{Exec, Exit, Flags, Process, Record, Session, SessionKind, What, differences};

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
    /// Programs that had ended before anybody could look.
    pub(crate) unread: u64,
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

    /// What an event is a record of, and the session's end if it was that.
    pub(crate) fn take(&mut self, roots: &Roots, event: Event, time: u64) -> Vec<Record> {
        match event {
            Event::Fork { parent, child } => self.forked(roots, parent, child, time),
            Event::Exec { pid } => self.began(roots, pid, time),
            Event::Exit { pid, status } => self.ended(pid, status, time),
        }
    }

    fn forked(&mut self, roots: &Roots, parent: u32, child: u32, time: u64) -> Vec<Record> {
        let Some(number) = self.members.get(&parent).copied() else { return Vec::new() };
        let Some(live) = self.sessions.get_mut(&number) else { return Vec::new() };
        let seen = Seen::of(roots, child, &self.cgroups).map(|seen| seen.process);
        let process = seen.unwrap_or_else(|_| Process {
            pid: child,
            thread: child,
            parent,
            start: time,
            ..Process::default()
        });
        self.members.insert(child, number);
        live.counted.forks += 1;
        live.counted.members += 1;
        live.processes.insert(child, process.clone());
        vec![live.record(number, Flags::default(), time, What::Fork(Box::new(process)))]
    }

    fn began(&mut self, roots: &Roots, pid: u32, time: u64) -> Vec<Record> {
        let known = self.members.get(&pid).copied();
        let seen = match self.look(roots, pid) {
            Some(seen) => seen,
            None if known.is_some() => Seen::default(),
            None => {
                self.unread += 1;
                return Vec::new();
            }
        };
        let Some(number) = known.or_else(|| self.entered(roots, &seen, time)) else { return Vec::new() };
        let Some(live) = self.sessions.get_mut(&number) else { return Vec::new() };
        let texts = if seen.process.pid == 0 { Texts::default() } else { seen.texts(roots) };
        let is_entry = known.is_none();
        let mut process = seen.process.clone();
        if process.pid == 0 {
            process = live.processes.get(&pid).cloned().unwrap_or_default();
        }
        let mut flags = if is_entry { Flags::ENTRY } else { Flags::default() };
        if texts.arguments.is_empty() {
            flags = flags.with_arguments_unreadable();
        }
        let exec = Exec {
            entered_by: if is_entry && seen.is_in_cgroup_of(live.counted.container) {
                differences::CGROUP
            } else {
                0
            },
            session_kind: SessionKind::Entered as u32,
            path: texts.path,
            arguments_total: texts.arguments.len() as u32,
            arguments: texts.arguments,
            directory: texts.directory,
            environment_total: texts.environment.len() as u32,
            environment: texts.environment,
            links: 1,
            ..Exec::default()
        };
        live.counted.execs += 1;
        live.processes.insert(pid, process.clone());
        vec![live.record(number, flags, time, What::Exec(Box::new(process), Box::new(exec)))]
    }

    /// With the containers that have begun since.
    fn look(&mut self, roots: &Roots, pid: u32) -> Option<Seen> {
        let seen = Seen::of(roots, pid, &self.cgroups).ok()?;
        if !seen.is_new {
            return Some(seen);
        }
        let _ = self.look_through(roots);
        Seen::of(roots, pid, &self.cgroups).ok()
    }

    /// Finds the containers that there are, and who is in them from outside.
    pub(crate) fn look_through(&mut self, roots: &Roots) -> std::io::Result<Scan> {
        let scan = Scan::of(roots)?;
        self.cgroups = container_cgroups(roots)?;
        self.owners = owners(&scan.containers);
        self.containers.clone_from(&scan.containers);
        Ok(scan)
    }

    /// Begins a session if the process is in a container and its parent is not, and it is not the container's first.
    fn entered(&mut self, roots: &Roots, seen: &Seen, time: u64) -> Option<u64> {
        let container = seen.container(&self.owners)?;
        let pid = seen.process.pid;
        let parent = self.look(roots, seen.process.parent);
        let from_inside = parent.is_some_and(|parent| parent.container(&self.owners) == Some(container));
        let is_first = self.containers.iter().any(|known| known.init.0 == pid);
        if from_inside || is_first {
            return None;
        }
        let number = self.free_number(time);
        let counted = Session {
            container,
            begun: time,
            root: pid,
            members: 1,
            kind: SessionKind::Entered,
            cgroup: container,
            namespaces: seen.namespaces,
            ..Session::default()
        };
        self.sessions.insert(number, Live { counted, processes: HashMap::new() });
        self.members.insert(pid, number);
        Some(number)
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
        let gone: BTreeSet<u32> =
            self.members.keys().filter(|pid| !roots.proc(&pid.to_string()).exists()).copied().collect();
        let mut records = Vec::new();
        for pid in gone {
            let Some(number) = self.members.remove(&pid) else { continue };
            let Some(live) = self.sessions.get_mut(&number) else { continue };
            live.processes.remove(&pid);
            live.counted.untracked += 1;
            live.counted.members = live.counted.members.saturating_sub(1);
            if live.counted.members == 0 {
                records.extend(self.close(number, time));
            }
        }
        records
    }
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
