//! By what container engines tell of the programs that they are asked to begin: for whom the kernel tells nothing.
//!
//! Guarantee: a session says in its gaps what this cannot see. What happened while the engine was away is told as far as the engine
//! remembers it, and sessions that were open then say so.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use taffrail_docker::{Exec as Asked, ExecEvent};
use taffrail_spool::Observer as _;

use super::{ASKED, ROUND, Watch, clock, since_start};
use crate::engines::{Engine, Listening, Told};
use crate::follow::cut;
use crate::scan::{Cgroups, Seen};
use crate::wire::{Exec, Exit, Flags, NOBODY, Process, Record, Session, SessionKind, What, differences};

/// What no session by this tier has.
const UNSEEN: &str = "only its first program is known: by the engine's word, which tells of no others";
const UNREAD: &str = "its program is not known: it had ended when it was looked at, or the agent does not see the machine's processes";
const AWAY: &str = "the engine could not be heard for a while";

/// How long a process that was said to have begun may be the runtime's own program still.
const BECOMES: Duration = Duration::from_secs(1);

/// Sessions by the engines' ids of their programs.
type Lives = HashMap<(Engine, String), Live>;

struct Live {
    number: u64,
    container: String,
    process: Process,
    counted: Session,
}

impl Watch {
    /// Until it is told to stop.
    pub(super) fn ask(&mut self, mut listening: Listening) {
        self.end_earlier();
        let mut live = HashMap::new();
        let mut round = Instant::now();
        while !self.stop.is_raised() {
            self.attribute();
            match listening.next(ASKED) {
                Some((engine, Told::Event(event))) => self.told(&mut live, engine, event),
                Some((engine, Told::Away(why))) => self.away(&live, engine, &why),
                None => {}
            }
            if round.elapsed() >= ROUND {
                round = Instant::now();
                self.status.counted(&live.values().map(|live| (live.number, live.counted)).collect());
            }
        }
    }

    fn away(&mut self, live: &Lives, engine: Engine, why: &str) {
        for (_, live) in live.iter().filter(|((of, _), _)| *of == engine) {
            self.desk.book.lacks(live.number, AWAY);
        }
        let trouble = format!("who comes into containers is not known, by the engine's word alone: {why}");
        self.status.set_trouble(part(engine), Some(trouble));
    }

    fn told(&mut self, lives: &mut Lives, engine: Engine, event: ExecEvent) {
        match event {
            ExecEvent::There(there) => {
                self.status.set_trouble(part(engine), None);
                self.there(lives, engine, there);
            }
            ExecEvent::Began { exec, time } => {
                if !lives.contains_key(&(engine, exec.id.clone())) {
                    self.began(lives, engine, exec, clock().since_start(time), SessionKind::Entered);
                }
            }
            ExecEvent::Ended { id, code, time } => {
                if let Some(live) = lives.remove(&(engine, id)) {
                    self.ended(live, code, clock().since_start(time));
                }
            }
            ExecEvent::Gone { container, time } => {
                let of = lives.extract_if(|(of, _), live| *of == engine && live.container == container);
                for (_, live) in of.collect::<Vec<_>>() {
                    self.ended(live, None, clock().since_start(time));
                }
            }
        }
    }

    /// Who is there now: those that were not known came before, and of those that were and are not there the end was not told.
    fn there(&mut self, lives: &mut Lives, engine: Engine, there: Vec<Asked>) {
        let is_gone = |id: &String| there.iter().all(|exec| exec.id != *id);
        let gone = lives.extract_if(|(of, id), _| *of == engine && is_gone(id));
        for (_, live) in gone.collect::<Vec<_>>() {
            // The engine may yet tell of it: what it remembers comes behind this.
            self.desk.book.lacks(live.number, "when and how it ended is not known");
            self.ended(live, None, since_start());
        }
        for exec in there {
            if !lives.contains_key(&(engine, exec.id.clone())) {
                self.began(lives, engine, exec, since_start(), SessionKind::Adopted);
            }
        }
    }

    fn began(&mut self, lives: &mut Lives, engine: Engine, asked: Asked, time: u64, kind: SessionKind) {
        let cgroup = self.desk.book.engine_home(&asked.container);
        let open = self.desk.book.open();
        let number = (time..).find(|number| !open.contains_key(number)).unwrap_or(time);
        let (process, exec) =
            self.seen(&asked, kind).unwrap_or_else(|| (process(&asked, time), program(&asked, kind)));
        let is_unread = exec.arguments.is_empty();
        let mut flags = Flags::ENTRY;
        if is_unread || (!asked.is_known && asked.pid.is_none()) {
            flags = flags.with_arguments_unreadable();
        }
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
        } else if is_unread {
            self.desk.book.lacks(number, UNREAD);
        }
        let live = Live { number, container: asked.container, process, counted };
        lives.insert((engine, asked.id), live);
    }

    /// What is to be seen of a program of which the engine says no more than its process.
    fn seen(&self, asked: &Asked, kind: SessionKind) -> Option<(Process, Exec)> {
        let pid = asked.pid.filter(|_| !asked.is_known)?;
        let look = || {
            let seen = Seen::of(&self.roots, pid, &Cgroups::default()).ok()?;
            let texts = seen.texts(&self.roots);
            Some((seen, texts))
        };
        let deadline = Instant::now() + BECOMES;
        let (seen, texts) = loop {
            match look()? {
                (seen, texts) if !is_runtimes(&seen.process.name, &texts.arguments) => break (seen, texts),
                _ if Instant::now() > deadline => return None,
                _ => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        // By now it may be another's number.
        let cgroup = std::fs::read_to_string(self.roots.proc(&pid.to_string()).join("cgroup")).ok()?;
        if texts.arguments.is_empty() || !cgroup.contains(&asked.container) {
            return None;
        }
        let mut exec = Exec { entered_by: differences::CGROUP, ..texts.program(kind) };
        cut(&mut exec);
        Some((seen.process, exec))
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

/// Whether a process is to become what was asked for, and runs what runtimes (runc, crun, youki) prepare it by until then.
fn is_runtimes(name: &[u8], arguments: &[u8]) -> bool {
    name.starts_with(b"runc:[")
        || [&b"crun"[..], b"youki"].contains(&name)
        || [&b"runc\0init\0"[..], b"/proc/self/exe\0init\0"].contains(&arguments)
}

/// What an engine's absence is called among the troubles.
fn part(engine: Engine) -> &'static str {
    match engine {
        Engine::Docker => "engine",
        Engine::Containerd => "containerd",
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
    fn a_runtimes_own_program_is_not_what_was_asked_for() {
        for (name, arguments, expected) in [
            ("runc:[2:INIT]", "/usr/sbin/runc\0init\0", true),
            ("exe", "/proc/self/exe\0init\0", true),
            ("3", "runc\0init\0", true),
            ("crun", "crun\0exec\0", true),
            ("sh", "sh\0-c\0runc init\0", false),
            ("init", "/sbin/init\0", false),
        ] {
            assert_eq!(is_runtimes(name.as_bytes(), arguments.as_bytes()), expected, "{name}");
        }
    }

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
