//! By what a container engine tells of the programs that it is asked to begin: for whom the kernel tells nothing.
//!
//! Guarantee: a session says in its gaps what this cannot see. What happened while the engine was away is told as far as the engine
//! remembers it, and sessions that were open then say so.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use taffrail_docker::{Exec as Asked, ExecEvent, Execs};
use taffrail_spool::Observer as _;

use super::{ASKED, ROUND, Watch, clock, since_start};
use crate::wire::{Exec, Exit, Flags, NOBODY, Process, Record, Session, SessionKind, What, differences};

/// How often an engine that went away is looked for.
const AGAIN: Duration = Duration::from_secs(1);
/// What no session by this tier has.
const UNSEEN: &str = "only its first program is known: by the engine's word, which tells of no others";
const AWAY: &str = "the engine could not be heard for a while";

/// Sessions by the engine's ids of their programs.
#[derive(Default)]
struct Told {
    sessions: HashMap<String, Live>,
    /// When something was told last, nanoseconds since the Unix epoch.
    last: Option<i64>,
}

struct Live {
    number: u64,
    container: String,
    process: Process,
    counted: Session,
}

impl Watch {
    /// Until it is told to stop.
    pub(super) fn ask(&mut self, mut execs: Execs) {
        self.end_earlier();
        let mut told = Told::default();
        let mut round = Instant::now();
        while !self.stop.is_raised() {
            self.attribute();
            match execs.next(ASKED) {
                Ok(event) => event.into_iter().for_each(|event| self.told(&mut told, event)),
                Err(why) => match self.listen_again(&mut told, why) {
                    Some(again) => execs = again,
                    None => return,
                },
            }
            if round.elapsed() >= ROUND {
                round = Instant::now();
                let counted = told.sessions.values().map(|live| (live.number, live.counted));
                self.status.counted(&counted.collect());
            }
        }
    }

    /// Waits for an engine that is there again; none when it is told to stop.
    fn listen_again(&mut self, told: &mut Told, mut why: String) -> Option<Execs> {
        for live in told.sessions.values() {
            self.desk.book.lacks(live.number, AWAY);
        }
        loop {
            let trouble =
                format!("who comes into containers is not known, by the engine's word alone: {why}");
            self.status.set_trouble("engine", Some(trouble));
            if self.stop.wait(AGAIN) {
                return None;
            }
            self.attribute();
            match Execs::listen(&self.engine, told.last) {
                Ok(execs) => {
                    self.status.set_trouble("engine", None);
                    return Some(execs);
                }
                Err(error) => why = error,
            }
        }
    }

    fn told(&mut self, told: &mut Told, event: ExecEvent) {
        match event {
            ExecEvent::There(there) => self.there(told, there),
            ExecEvent::Began { exec, time } => {
                told.last = Some(time);
                if !told.sessions.contains_key(&exec.id) {
                    self.began(told, exec, clock().since_start(time), SessionKind::Entered);
                }
            }
            ExecEvent::Ended { id, code, time } => {
                told.last = Some(time);
                if let Some(live) = told.sessions.remove(&id) {
                    self.ended(live, code, clock().since_start(time));
                }
            }
            ExecEvent::Gone { container, time } => {
                told.last = Some(time);
                let of = told.sessions.extract_if(|_, live| live.container == container);
                for (_, live) in of.collect::<Vec<_>>() {
                    self.ended(live, None, clock().since_start(time));
                }
            }
        }
    }

    /// Who is there now: those that were not known came before, and of those that were and are not there the end was not told.
    fn there(&mut self, told: &mut Told, there: Vec<Asked>) {
        let is_there = |id: &String| there.iter().any(|exec| exec.id == *id);
        let gone = told.sessions.extract_if(|id, _| !is_there(id));
        for (_, live) in gone.collect::<Vec<_>>() {
            // The engine may yet tell of it: what it remembers comes behind this.
            self.desk.book.lacks(live.number, "when and how it ended is not known");
            self.ended(live, None, since_start());
        }
        for exec in there {
            if !told.sessions.contains_key(&exec.id) {
                self.began(told, exec, since_start(), SessionKind::Adopted);
            }
        }
    }

    fn began(&mut self, told: &mut Told, asked: Asked, time: u64, kind: SessionKind) {
        let cgroup = self.desk.book.engine_home(&asked.container);
        let open = self.desk.book.open();
        let number = (time..).find(|number| !open.contains_key(number)).unwrap_or(time);
        let mut flags = Flags::ENTRY;
        if !asked.is_known {
            flags = flags.with_arguments_unreadable();
        }
        let process = process(&asked, time);
        let exec = program(&asked, kind);
        let counted = Session {
            container: cgroup,
            begun: time,
            records: 1,
            execs: 1,
            root: process.pid,
            members: 1,
            kind,
            ..Session::default()
        };
        let what = What::Exec(Box::new(process.clone()), Box::new(exec));
        self.write(&Record { flags, time, session: number, number: 0, container: cgroup, what });
        self.desk.book.lacks(number, UNSEEN);
        if asked.pid.is_none() {
            self.desk.book.lacks(number, "its process is not known: it had ended when the engine was asked");
        }
        told.sessions.insert(asked.id, Live { number, container: asked.container, process, counted });
    }

    /// `code` is as a shell says it: whoever ended by a signal is not told from who ended with that code.
    fn ended(&mut self, live: Live, code: Option<i32>, time: u64) {
        let Live { number, process, mut counted, .. } = live;
        let Some(code) = code else {
            self.desk.close(number, &counted, time, clock());
            self.wait_for_disk();
            return;
        };
        let status = (code & 0xff) << 8;
        (counted.ended, counted.status, counted.members) = (time.max(1), status, 0);
        (counted.exits, counted.records) = (1, 3);
        let what = What::Exit(Box::new(process), Exit { status, cpu: 0 });
        let record = |number_in: u64, what: What| Record {
            flags: Flags::default(),
            time,
            session: number,
            number: number_in,
            container: counted.container,
            what,
        };
        self.write(&record(1, what));
        self.write(&record(2, What::End(counted)));
    }

    fn write(&mut self, record: &Record) {
        let page = self.desk.book.take(record, clock());
        self.desk.page(page);
        self.wait_for_disk();
    }
}

/// What the engine knows of a program's process.
fn process(asked: &Asked, time: u64) -> Process {
    let pid = asked.pid.unwrap_or(0);
    // `USER`, `USER:GROUP`; numbers or names of the container's own.
    let (user, group) = asked.user.split_once(':').unwrap_or((&asked.user, ""));
    let id = |text: &str| text.parse().unwrap_or(NOBODY);
    Process {
        start: time,
        pid,
        thread: pid,
        user: id(user),
        group: id(group),
        effective_user: id(user),
        effective_group: id(group),
        name: asked.arguments.first().map(|it| it.as_bytes().to_vec()).unwrap_or_default(),
        tty: if asked.has_terminal { b"pts".to_vec() } else { Vec::new() },
        ..Process::default()
    }
}

fn program(asked: &Asked, kind: SessionKind) -> Exec {
    let arguments: Vec<u8> = asked.arguments.iter().flat_map(|it| it.bytes().chain([0])).collect();
    let is_name = |user: &str| !user.is_empty() && user.parse::<u32>().is_err();
    let user = asked.user.split(':').next().filter(|user| is_name(user)).unwrap_or_default();
    Exec {
        entered_by: differences::CGROUP,
        session_kind: kind as u32,
        file: asked.arguments.first().map(|it| it.as_bytes().to_vec()).unwrap_or_default(),
        arguments_total: arguments.len() as u32,
        arguments,
        links: 1,
        user_name: user.as_bytes().to_vec(),
        ..Exec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_run_it_is_said_as_far_as_that_is_known() {
        for (user, uid, gid, name) in [
            ("", NOBODY, NOBODY, ""),
            ("1000", 1000, NOBODY, ""),
            ("1000:1001", 1000, 1001, ""),
            ("nobody", NOBODY, NOBODY, "nobody"),
            ("nobody:5", NOBODY, 5, "nobody"),
        ] {
            let asked = Asked { user: user.to_owned(), ..Asked::default() };
            let process = process(&asked, 7);
            assert_eq!((process.user, process.group), (uid, gid), "{user}");
            assert_eq!(program(&asked, SessionKind::Entered).user_name, name.as_bytes(), "{user}");
        }
    }
}
