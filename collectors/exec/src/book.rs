//! The book of sessions: what the probe tells goes in, documents come out.
//!
//! Guarantee: each record of a session that is written down makes one document with the record's number, and a session that has
//! ended makes one that says how many there are; so who has the documents can tell which are missing. The book does no input
//! and no output, and what it keeps of a session does not grow with what happens in it.

mod recorded;
mod who;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Policies, Recording};
use crate::document::{Clock, Document, Writer, arguments, text};
use crate::request::Marker;
use crate::scan::{Container, Entered, Texts, id_in};
use crate::session::{Ending, Entry, Namer, Open, Origin, Summary, Whose};
use crate::wire::{Exec, Flags, Process, Record, Session, SessionKind, What, differences};

/// Of a container that is known for so long no more will be told than was by then.
const NAMELESS: Duration = Duration::from_secs(60);

/// What happens to a session, for whoever keeps it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Turn {
    /// It has begun.
    Opened(u64),
    /// More became known of it.
    Changed(u64),
    /// It has ended.
    Closed(u64, Box<Summary>),
}

/// What came of a record.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) documents: VecDeque<Document>,
    pub(crate) turns: Vec<Turn>,
}

impl Page {
    pub(crate) fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.turns.is_empty()
    }

    pub(crate) fn add(&mut self, more: Page) {
        self.documents.extend(more.documents);
        self.turns.extend(more.turns);
    }
}

/// A container.
struct Home {
    id: String,
    /// The uid of its pod; empty: it is in none.
    uid: String,
    /// When it was met.
    since: Instant,
}

/// Sessions that have not ended, and what documents are made of.
pub(crate) struct Book {
    writer: Writer,
    policies: Policies,
    namer: Arc<dyn Namer>,
    /// As `namer`, but it may wait for a while for what is not known yet.
    patient: Arc<dyn Namer>,
    whole_node: bool,
    /// Whether somebody tells at whose request sessions come about.
    expects_requests: bool,
    /// Who knows a user by the environment of what is begun.
    marker: Option<Marker>,
    open: HashMap<u64, Open>,
    /// Of the sessions of containers' first processes those that are of somebody who looks into a pod.
    debugs: HashSet<u64>,
    /// Containers by the kernfs id of their cgroups.
    homes: HashMap<u64, Home>,
    /// Why nothing is recorded, if so. Else the end of a session waits for that of its recording.
    unrecorded: Option<String>,
}

impl Book {
    pub(crate) fn new(
        writer: Writer,
        policies: Policies,
        namers: [Arc<dyn Namer>; 2],
        whole_node: bool,
    ) -> Book {
        let [namer, patient] = namers;
        Book {
            writer,
            policies,
            namer,
            patient,
            whole_node,
            expects_requests: false,
            marker: None,
            open: HashMap::new(),
            debugs: HashSet::new(),
            homes: HashMap::new(),
            unrecorded: Some("it takes the probe".to_owned()),
        }
    }

    /// Sessions that have not ended.
    pub(crate) fn open(&self) -> &HashMap<u64, Open> {
        &self.open
    }

    /// Goes on with a session of an earlier life.
    pub(crate) fn resume(&mut self, open: Open) {
        self.open.insert(open.number, open);
    }

    /// A container is there.
    pub(crate) fn home(&mut self, container: &Container) {
        self.settle_home(container.cgroup, &container.names);
    }

    /// A container is there of which only the engine's id is known. Where its cgroup's number would be it has one that is made of that.
    pub(crate) fn engine_home(&mut self, id: &str) -> u64 {
        let number = crate::chain::hash(id.as_bytes());
        let number = number.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
        let (whose, _) = self.patient.whose(id, "");
        let home = Home { id: id.to_owned(), uid: whose.pod_uid, since: Instant::now() };
        self.homes.insert(number, home);
        number
    }

    /// Something is missing of a session besides what is counted.
    pub(crate) fn lacks(&mut self, number: u64, what: &str) {
        let missing = self.open.get_mut(&number).map(|open| &mut open.missing);
        missing
            .into_iter()
            .filter(|it| !it.iter().any(|is| is == what))
            .for_each(|it| it.push(what.to_owned()));
    }

    /// A container is gone.
    pub(crate) fn forget_home(&mut self, cgroup: u64) {
        self.homes.remove(&cgroup);
        self.marker.iter_mut().for_each(|marker| marker.forget(cgroup));
    }

    fn settle_home(&mut self, cgroup: u64, names: &[Vec<u8>]) {
        let Some((id, uid)) = container_of(names) else { return };
        let since =
            self.homes.get(&cgroup).filter(|home| home.id == id).map_or_else(Instant::now, |home| home.since);
        self.homes.insert(cgroup, Home { id, uid, since });
    }

    /// Whether a container was added to a running pod, to look into that; none while it is not known.
    pub(crate) fn is_ephemeral(&self, cgroup: u64) -> Option<bool> {
        let Some(home) = self.homes.get(&cgroup).filter(|home| !home.uid.is_empty()) else {
            return Some(false);
        };
        self.namer.asked_for(&home.id, &home.uid).is_ephemeral
    }

    /// Learns which container it is of which a record tells the beginning.
    pub(crate) fn meet(&mut self, record: &Record) {
        self.mark(record);
        if let What::Exec(_, exec) = &record.what
            && record.flags.is_entry()
            && self.is_brought(record, exec)
        {
            self.settle_home(record.container, &exec.cgroup);
        }
    }

    /// The session of this container's first process is that of somebody who looks into a pod.
    pub(crate) fn is_debug(&mut self, number: u64) {
        self.debugs.insert(number);
    }

    /// Whether a record is of a session that somebody began, and not of what a container does itself.
    pub(crate) fn is_somebodys(&self, record: &Record) -> bool {
        let number = record.session;
        number != 0
            && (!record.flags.is_of_init()
                || self.open.contains_key(&number)
                || self.debugs.contains(&number))
    }

    /// What a record says.
    pub(crate) fn take(&mut self, record: &Record, clock: Clock) -> Page {
        let mut page = Page::default();
        self.meet(record);
        match &record.what {
            _ if !self.is_somebodys(record) => {}
            What::Exec(process, exec) if record.flags.is_entry() => {
                page.turns.push(self.came(record, process, exec, clock));
            }
            _ => page.turns.extend(self.discover(record.session, record.container, clock)),
        }
        match &record.what {
            What::End(session) => {
                if self.awaits_recording(record, session) {
                    page.turns.push(Turn::Changed(record.session));
                } else if self.is_somebodys(record) {
                    let number = Some(record.number);
                    page.add(self.close(record.session, session, number, record.time, clock));
                }
                if record.flags.is_of_init() {
                    self.forget_home(session.container);
                }
            }
            _ => page.documents.extend(self.happened(record, clock)),
        }
        page
    }

    fn happened(&mut self, record: &Record, clock: Clock) -> Option<Document> {
        match self.open.get(&record.session) {
            Some(open) if open.recording == Recording::Off => return None,
            // It is of a container's first process, or of nobody.
            None if !self.whole_node => return None,
            _ => {}
        }
        let mut document = self.writer.happened(record, clock);
        let found = self.open.get(&record.session).map(|open| open.found.as_slice()).unwrap_or_default();
        match &record.what {
            What::Exec(process, exec) => {
                self.writer.process(&mut document, process, found, clock);
                if let Some((cgroup, whose)) = self.came_from(record, exec) {
                    self.writer.came_from(&mut document, exec.entered_by, &cgroup, whose.as_ref());
                }
                self.writer.program(&mut document, record.flags, exec);
            }
            What::Fork(process) => {
                self.writer.process(&mut document, process, found, clock);
                self.writer.made(&mut document, process);
            }
            What::Exit(process, exit) => {
                self.writer.process(&mut document, process, found, clock);
                self.writer.exit(&mut document, process, *exit, record.time);
            }
            What::Opened(process, opened) => {
                self.writer.process(&mut document, process, found, clock);
                self.writer.opened(&mut document, process, record.flags, opened);
            }
            What::Connected(process, connected) => {
                self.writer.process(&mut document, process, found, clock);
                self.writer.connected(&mut document, process, record.flags, connected);
            }
            What::End(_) => {}
        }
        Some(match self.open.get(&record.session) {
            Some(open) => self.writer.about(document, Some(open), &open.whose),
            None => self.writer.about(document, None, &self.whose(record.container, &*self.namer)),
        })
    }

    /// Whether the runtime has brought whoever comes: it puts him into the cgroup of the container. Who comes from another container
    /// has been brought into that one.
    fn is_brought(&self, record: &Record, exec: &Exec) -> bool {
        let of_another = || {
            let home = self.homes.get(&record.container);
            home.zip(container_of(&exec.cgroup)).is_some_and(|(home, (id, _))| home.id != id)
        };
        exec.entered_by & differences::CGROUP != 0 && !of_another()
    }

    /// The cgroup from which somebody came past the runtime, and whose container that is, if it is one's.
    fn came_from(&self, record: &Record, exec: &Exec) -> Option<(String, Option<Whose>)> {
        let is_entry = record.flags.is_entry() && !record.flags.is_of_init();
        if !is_entry || exec.cgroup.is_empty() || self.is_brought(record, exec) {
            return None;
        }
        let names: Vec<String> = exec.cgroup.iter().rev().map(|name| text(name)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        let cgroup = if names.is_empty() { "/".to_owned() } else { names.join("/") };
        Some((cgroup, container_of(&exec.cgroup).map(|(id, uid)| self.namer.whose(&id, &uid).0)))
    }

    fn whose(&self, cgroup: u64, namer: &dyn Namer) -> Whose {
        self.known(cgroup, namer).0
    }

    /// Whose a container is, and whether that is all there is to know, or will be.
    fn known(&self, cgroup: u64, namer: &dyn Namer) -> (Whose, bool) {
        let Some(Home { id, uid, since }) = self.homes.get(&cgroup) else { return (Whose::default(), false) };
        let (whose, is_whole) = namer.whose(id, uid);
        (whose, is_whole || since.elapsed() > NAMELESS)
    }

    /// A session begins; or who came has arrived, and its beginning was only the runtime's own.
    fn came(&mut self, record: &Record, process: &Process, exec: &Exec, clock: Clock) -> Turn {
        match self.open.get(&record.session) {
            Some(open) => {
                let (begun, id, told) = (open.begun, open.id.clone(), open.attribution.told);
                let mut arrived = self.entered(record, process, exec, clock);
                arrived.attribution.told = told;
                self.open.insert(record.session, Open { begun, id, ..arrived });
                Turn::Changed(record.session)
            }
            None => {
                let open = self.entered(record, process, exec, clock);
                self.open.insert(record.session, open);
                Turn::Opened(record.session)
            }
        }
    }

    /// How a session came about.
    fn origin(&self, record: &Record, process: &Process, exec: &Exec) -> Origin {
        if record.flags.is_of_init() {
            return Origin::Debug;
        }
        if !self.is_brought(record, exec) {
            return Origin::OutOfBand;
        }
        let home = self.homes.get(&record.container);
        let asked_for = home.map(|home| self.namer.asked_for(&home.id, &home.uid));
        asked_for.and_then(|asked| asked.origin(exec, &process.tty)).unwrap_or(Origin::Exec)
    }

    fn entered(&self, record: &Record, process: &Process, exec: &Exec, clock: Clock) -> Open {
        // Who waits for names waits for what is asked for, too.
        let (whose, is_whole) = self.known(record.container, &*self.patient);
        let origin = self.origin(record, process, exec);
        let (recording, supposed) = self.decide((&whose, is_whole), origin);
        let mut open = Open {
            number: record.session,
            id: self.writer.session_id(record.session),
            begun: clock.time(record.time),
            adopted: exec.session_kind == SessionKind::Adopted as u32,
            origin,
            cgroup: record.container,
            recording,
            supposed,
            whose,
            entry: entry(process, exec),
            ..Open::default()
        };
        self.expect_request(&mut open, &exec.environment);
        open
    }

    /// Begins a session of which the beginning was not read, if it is none of those that are known.
    pub(crate) fn discover(&mut self, number: u64, cgroup: u64, clock: Clock) -> Option<Turn> {
        if self.open.contains_key(&number) {
            return None;
        }
        let (whose, is_whole) = self.known(cgroup, &*self.patient);
        let origin = if self.debugs.contains(&number) { Origin::Debug } else { Origin::default() };
        let (recording, supposed) = self.decide((&whose, is_whole), origin);
        let open = Open {
            number,
            id: self.writer.session_id(number),
            // It is called by its beginning.
            begun: clock.time(number),
            cgroup,
            origin,
            recording,
            supposed,
            whose,
            entry: Entry { lost: true, ..Entry::default() },
            ..Open::default()
        };
        self.open.insert(number, open);
        Some(Turn::Opened(number))
    }

    /// A session that was there before the probe: what the probe is to count of it, and what is written down.
    pub(crate) fn adopt(
        &mut self,
        number: u64,
        entered: &Entered,
        texts: &[Texts],
        clock: Clock,
    ) -> (Session, Page) {
        let mut page = Page::default();
        let session = Session {
            container: entered.container,
            begun: entered.processes.first().map_or(0, |first| first.process.start),
            records: entered.processes.len() as u64,
            root: entered.processes.first().map_or(0, |first| first.process.pid),
            members: Session::HOLD,
            kind: SessionKind::Adopted,
            cgroup: entered.container,
            namespaces: entered.namespaces,
            ..Session::default()
        };
        for (index, (seen, texts)) in entered.processes.iter().zip(texts).enumerate() {
            let flags = if index == 0 { Flags::ENTRY } else { Flags::default() };
            let exec = Exec {
                entered_by: if seen.is_in_cgroup_of(entered.container) { differences::CGROUP } else { 0 },
                session_kind: SessionKind::Adopted as u32,
                path: texts.path.clone(),
                arguments: texts.arguments.clone(),
                arguments_total: texts.arguments.len() as u32,
                directory: texts.directory.clone(),
                environment: texts.environment.clone(),
                links: 1,
                ..Exec::default()
            };
            let what = What::Exec(Box::new(seen.process.clone()), Box::new(exec));
            let time = seen.process.start;
            let record = Record {
                flags,
                time,
                session: number,
                number: index as u64,
                container: entered.container,
                what,
            };
            let more = self.take(&record, clock);
            page.add(more);
        }
        if let Some(open) = self.open.get_mut(&number) {
            open.found =
                entered.processes.iter().map(|seen| (seen.process.pid, seen.process.start)).collect();
        }
        (session, page)
    }

    /// Another process of an adopted session was found.
    pub(crate) fn adopt_more(&mut self, number: u64, process: (u32, u64)) -> Page {
        let Some(open) = self.open.get_mut(&number) else { return Page::default() };
        open.found.push(process);
        Page { turns: vec![Turn::Changed(number)], ..Page::default() }
    }

    /// Something is missing in every session that is open now; said once in each.
    pub(crate) fn miss(&mut self, what: &str) -> Page {
        let mut page = Page::default();
        for open in self.open.values_mut().filter(|open| open.missing.iter().all(|known| known != what)) {
            open.missing.push(what.to_owned());
            page.turns.push(Turn::Changed(open.number));
        }
        page
    }

    /// A session has ended `at` nanoseconds after the machine's start: by what the probe tells (then its last record has a
    /// number), or as far as can be found out.
    pub(crate) fn close(
        &mut self,
        id: u64,
        session: &Session,
        number: Option<u64>,
        at: u64,
        clock: Clock,
    ) -> Page {
        let mut page = Page::default();
        self.discover(id, session.container, clock);
        self.debugs.remove(&id);
        let Some(mut open) = self.open.remove(&id) else { return page };
        // What was not known at its beginning may be known now.
        if open.whose.container.is_empty() {
            open.whose = self.whose(open.cgroup, &*self.namer);
        }
        open.unread = None;
        if let Some(why) = self.unrecorded.as_ref().filter(|_| open.recording == Recording::Full) {
            open.recorded.get_or_insert_with(|| Err(why.clone()));
        }
        self.end_or_wait(open, Ending { counted: *session, number, time: clock.time(at) }, &mut page);
        page
    }

    fn end(&mut self, open: &Open, ending: &Ending, page: &mut Page) {
        let Ending { counted, number, time } = ending;
        if open.recording != Recording::Off {
            page.documents.push_back(self.writer.ended(open, counted, *number, *time));
        }
        let summary = open.summary(Some(counted), Some(*time));
        page.turns.push(Turn::Closed(open.number, Box::new(summary)));
    }
}

fn entry(process: &Process, exec: &Exec) -> Entry {
    Entry {
        executable: text(&exec.path),
        arguments: arguments(&exec.arguments),
        directory: text(&exec.directory),
        pid: process.pid,
        inner_pid: process.inner_pid,
        start: process.start,
        user: process.user,
        group: process.group,
        user_name: text(&exec.user_name),
        login_user: process.login_user,
        tty: text(&process.tty),
        entered_by: exec.entered_by,
        lost: false,
    }
}

/// The container whose cgroup has these names, or is around it, its own first; and the uid of its pod, empty: it is in none.
fn container_of(names: &[Vec<u8>]) -> Option<(String, String)> {
    let id = names.iter().find_map(|name| id_in(std::str::from_utf8(name).ok()?))?;
    let uid = names.iter().find_map(|name| pod_uid(&text(name))).unwrap_or_default();
    Some((id.to_owned(), uid))
}

/// The uid that a pod's cgroup is named by: `pod<uid>`, or `kubepods-burstable-pod<uid with underscores>.slice`.
fn pod_uid(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = name.rsplit_once("pod").map(|(_, uid)| uid)?.replace('_', "-");
    let is_uid = uid.len() >= 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

#[cfg(test)]
pub(crate) mod tests;
