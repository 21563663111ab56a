//! The book of sessions: what the probe tells goes in, documents come out.
//!
//! Guarantee: each record of a session that is written down makes one document with the record's number, and a session that has
//! ended makes one that says how many there are; so who has the documents can tell which are missing. The book does no input
//! and no output, and what it keeps of a session does not grow with what happens in it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::config::{Policies, Recording};
use crate::document::{Clock, Document, Writer, arguments, text};
use crate::scan::{Container, Entered, Texts, id_in};
use crate::session::{Entry, Namer, Open, Origin, Summary, Whose};
use crate::wire::{Exec, Flags, Process, Record, Session, SessionKind, What, differences};

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

/// Sessions that have not ended, and what documents are made of.
pub(crate) struct Book {
    writer: Writer,
    policies: Policies,
    namer: Arc<dyn Namer>,
    /// As `namer`, but it may wait for a while for what is not known yet.
    patient: Arc<dyn Namer>,
    whole_node: bool,
    open: HashMap<u64, Open>,
    /// Containers by the kernfs id of their cgroups: their ids, and the uids of their pods.
    homes: HashMap<u64, (String, String)>,
}

impl Book {
    pub(crate) fn new(
        writer: Writer,
        policies: Policies,
        namers: [Arc<dyn Namer>; 2],
        whole_node: bool,
    ) -> Book {
        let [namer, patient] = namers;
        Book { writer, policies, namer, patient, whole_node, open: HashMap::new(), homes: HashMap::new() }
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

    /// A container is gone.
    pub(crate) fn forget_home(&mut self, cgroup: u64) {
        self.homes.remove(&cgroup);
    }

    fn settle_home(&mut self, cgroup: u64, names: &[Vec<u8>]) {
        let Some(id) = names.first().and_then(|name| id_in(std::str::from_utf8(name).ok()?)) else { return };
        let uid = names.iter().find_map(|name| pod_uid(&text(name))).unwrap_or_default();
        self.homes.insert(cgroup, (id.to_owned(), uid));
    }

    /// What a record says.
    pub(crate) fn take(&mut self, record: &Record, clock: Clock) -> Page {
        let mut page = Page::default();
        if let What::Exec(process, exec) = &record.what
            && record.flags.is_entry()
        {
            if exec.entered_by & differences::CGROUP != 0 && !exec.cgroup.is_empty() {
                self.settle_home(record.container, &exec.cgroup);
            }
            if !record.flags.is_of_init() {
                let open = self.entered(record, process, exec, clock);
                self.open.insert(record.session, open);
                page.turns.push(Turn::Opened(record.session));
            }
        } else if record.session != 0 && !record.flags.is_of_init() {
            page.turns.extend(self.discover(record.session, record.container, clock));
        }
        match &record.what {
            What::End(session) if record.flags.is_of_init() => self.forget_home(session.container),
            What::End(session) => {
                let more = self.close(record.session, session, Some(record.number), record.time, clock);
                page.add(more);
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
        let (action, kind) = match record.what {
            What::Exec(..) => ("exec", "start"),
            What::Fork(_) => ("fork", "start"),
            What::Exit(..) | What::End(_) => ("exit", "end"),
        };
        let mut document = self.writer.happened(record, clock, action, kind);
        let found = self.open.get(&record.session).map(|open| open.found.as_slice()).unwrap_or_default();
        match &record.what {
            What::Exec(process, exec) => {
                self.writer.process(&mut document, process, found, clock);
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
            What::End(_) => {}
        }
        let open = self.open.get(&record.session);
        let whose =
            open.map_or_else(|| self.whose(record.container, &*self.namer), |open| open.whose.clone());
        Some(self.writer.about(document, open, &whose))
    }

    fn whose(&self, cgroup: u64, namer: &dyn Namer) -> Whose {
        let Some((id, uid)) = self.homes.get(&cgroup) else { return Whose::default() };
        namer.whose(id, uid).0
    }

    fn entered(&self, record: &Record, process: &Process, exec: &Exec, clock: Clock) -> Open {
        let whose = self.whose(record.container, &*self.patient);
        Open {
            number: record.session,
            id: self.writer.session_id(record.session),
            begun: clock.time(record.time),
            adopted: exec.session_kind == SessionKind::Adopted as u32,
            origin: origin(exec.entered_by),
            cgroup: record.container,
            recording: self.policies.decide(&whose),
            whose,
            entry: entry(process, exec),
            found: Vec::new(),
        }
    }

    /// Begins a session of which the beginning was not read, if it is none of those that are known.
    pub(crate) fn discover(&mut self, number: u64, cgroup: u64, clock: Clock) -> Option<Turn> {
        if self.open.contains_key(&number) {
            return None;
        }
        let whose = self.whose(cgroup, &*self.patient);
        let open = Open {
            number,
            id: self.writer.session_id(number),
            // It is called by its beginning.
            begun: clock.time(number),
            cgroup,
            recording: self.policies.decide(&whose),
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
        let Some(mut open) = self.open.remove(&id) else { return page };
        // What was not known at its beginning may be known now.
        if open.whose.container.is_empty() {
            open.whose = self.whose(open.cgroup, &*self.namer);
        }
        let time = clock.time(at);
        if open.recording != Recording::Off {
            page.documents.push_back(self.writer.ended(&open, session, number, time));
        }
        page.turns.push(Turn::Closed(id, Box::new(open.summary(Some(session), Some(time)))));
        page
    }
}

/// By the runtime, if the process was put into the container's cgroup.
fn origin(entered_by: u32) -> Origin {
    if entered_by & differences::CGROUP == 0 { Origin::OutOfBand } else { Origin::Exec }
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
        login_user: process.login_user,
        tty: text(&process.tty),
        entered_by: exec.entered_by,
        lost: false,
    }
}

/// The uid that a pod's cgroup is named by: `pod<uid>`, or `kubepods-burstable-pod<uid with underscores>.slice`.
fn pod_uid(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = name.rsplit_once("pod").map(|(_, uid)| uid)?.replace('_', "-");
    let is_uid = uid.len() >= 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use taffrail_record::Node;

    use super::*;
    use crate::config::Policy;
    use crate::scan::Seen;

    const CLOCK: Clock = Clock { offset: 1_000_000_000_000_000_000 };
    const HOME: u64 = 7;

    struct Shop;

    impl Namer for Shop {
        fn whose(&self, container_id: &str, pod_uid: &str) -> (Whose, bool) {
            let whose = Whose {
                id: container_id.to_owned(),
                container: "app".to_owned(),
                namespace: "shop".to_owned(),
                pod: "web-0".to_owned(),
                pod_uid: pod_uid.to_owned(),
                labels: [("app.kubernetes.io/name".to_owned(), "web".to_owned())].into(),
                owners: vec![("ReplicaSet".to_owned(), "web-7d4b".to_owned())],
                ..Whose::default()
            };
            (whose, true)
        }
    }

    fn book(policies: &[Policy], whole_node: bool) -> Book {
        let node = Node { name: "n1".to_owned(), cluster: "prod".to_owned(), ..Node::default() };
        let writer =
            Writer::new(Arc::new(arc_swap::ArcSwap::from_pointee(node)), "boot-1", &["WHO".to_owned()]);
        Book::new(writer, Policies::new(policies), [Arc::new(Shop), Arc::new(Shop)], whole_node)
    }

    fn cgroup() -> Vec<Vec<u8>> {
        let id = "0123456789abcdef".repeat(4);
        let pod = "kubepods-burstable-pod12345678_1234_1234_1234_123456789abc.slice";
        [format!("cri-containerd-{id}.scope"), pod.to_owned(), String::new()].map(String::into_bytes).to_vec()
    }

    fn process(pid: u32) -> Process {
        Process {
            pid,
            thread: pid,
            start: u64::from(pid) * 1_000_000_000,
            parent: 1,
            inner_pid: pid - 90,
            name: b"sh".to_vec(),
            ..Process::default()
        }
    }

    fn record(number: u64, flags: Flags, what: What) -> Record {
        Record { flags, time: 200_000_000_000 + number, session: 5, number, container: HOME, what }
    }

    fn exec(arguments: &[u8]) -> Exec {
        Exec {
            entered_by: differences::CGROUP | differences::MOUNT_NAMESPACE,
            session_kind: SessionKind::Entered as u32,
            path: b"/bin/sh".to_vec(),
            arguments: arguments.to_vec(),
            arguments_total: arguments.len() as u32,
            environment: b"WHO=ana\0SECRET=x\0".to_vec(),
            directory: b"/".to_vec(),
            cgroup: cgroup(),
            links: 1,
            ..Exec::default()
        }
    }

    fn enter(book: &mut Book) -> Page {
        let what = What::Exec(Box::new(process(100)), Box::new(exec(b"sh\0-c\0ls; exit 3\0")));
        book.take(&record(0, Flags::ENTRY, what), CLOCK)
    }

    fn only(page: &Page) -> Value {
        assert_eq!(page.documents.len(), 1);
        page.documents[0].value()
    }

    #[test]
    fn a_session_is_told_from_its_beginning_to_its_end() {
        let mut book = book(&[], false);
        let page = enter(&mut book);
        assert_eq!(page.turns, [Turn::Opened(5)]);
        let entry = only(&page);
        assert_eq!(page.documents[0].time, CLOCK.time(200_000_000_000));
        assert_eq!(entry["process"]["args"], json!(["sh", "-c", "ls; exit 3"]));
        assert_eq!(entry["process"]["command_line"], "sh -c 'ls; exit 3'");
        assert_eq!(entry["process"]["env_vars"], json!(["WHO=ana"]), "and no other one");
        assert_eq!(entry["audit"]["entered_by"], json!(["mount", "cgroup"]));
        assert_eq!(entry["event"]["sequence"], 0);
        assert_eq!(entry["container"]["id"], "0123456789abcdef".repeat(4));
        let pod = &entry["kubernetes"];
        assert_eq!(pod["pod"], json!({ "name": "web-0", "uid": "12345678-1234-1234-1234-123456789abc" }));
        assert_eq!(pod["labels"], json!({ "app_kubernetes_io/name": "web" }));
        assert_eq!(pod["replicaset"]["name"], "web-7d4b");
        assert_eq!(entry["orchestrator"]["cluster"]["name"], "prod");

        let fork = only(&book.take(&record(1, Flags::default(), What::Fork(Box::new(process(101)))), CLOCK));
        assert_eq!((&fork["event"]["action"], &fork["process"]["vpid"]), (&json!("fork"), &json!(11)));
        let ends = crate::wire::Exit { status: 9, cpu: 7 };
        let exit =
            only(&book.take(&record(2, Flags::default(), What::Exit(Box::new(process(101)), ends)), CLOCK));
        assert_eq!((&exit["process"]["exit_code"], &exit["audit"]["signal"]), (&json!(137), &json!(9)));
        assert_eq!(exit["message"], "sh [101]: ended by signal 9");
        assert_eq!(exit["process"]["entry_leader"], entry["process"]["entry_leader"]);
        assert_eq!(exit["process"]["entity_id"], fork["process"]["entity_id"]);

        let counted = Session {
            records: 4,
            execs: 1,
            forks: 1,
            exits: 2,
            ended: 9,
            status: 0x300,
            ..Session::default()
        };
        let page = book.take(&record(3, Flags::default(), What::End(counted)), CLOCK);
        let end = only(&page);
        assert_eq!(
            end["message"],
            "session ended: sh -c 'ls; exit 3' in shop/web-0/app, 1 execs, exit 3; whole"
        );
        let session = &end["audit"]["session"];
        assert_eq!((&session["complete"], &session["documents"]), (&json!(true), &json!(4)));
        assert_eq!(session["id"], entry["audit"]["session"]["id"]);
        assert_eq!((&end["event"]["sequence"], &end["event"]["duration"]), (&json!(3), &json!(3)));
        assert!(matches!(&page.turns[..], [Turn::Closed(5, summary)] if summary.exit_code == Some(3)));
        assert!(book.open().is_empty());
    }

    #[test]
    fn a_session_says_itself_what_is_missing_of_it() {
        let mut book = book(&[], false);
        let first = What::Exit(Box::new(process(101)), crate::wire::Exit::default());
        // The beginning was lost: what it is is known by its records.
        let page = book.take(&record(1, Flags::default(), first), CLOCK);
        assert_eq!(page.turns, [Turn::Opened(5)]);
        assert_eq!(only(&page)["kubernetes"], Value::Null, "nobody has told whose it is");
        let counted = Session { records: 3, lost: 1, kind: SessionKind::Entered, ..Session::default() };
        let end = only(&book.take(&record(2, Flags::default(), What::End(counted)), CLOCK));
        let gaps = ["the record of its beginning is missing", "1 records did not fit the kernel's ring"];
        assert_eq!(end["audit"]["session"]["gaps"], json!(gaps));
        assert_eq!(
            (&end["audit"]["session"]["complete"], &end["audit"]["session"]["documents"]),
            (&json!(false), &json!(2))
        );
    }

    #[test]
    fn who_goes_past_the_runtime_is_out_of_band() {
        let mut book = book(&[], false);
        let begun = Exec { entered_by: differences::NETWORK_NAMESPACE, cgroup: Vec::new(), ..exec(b"sh\0") };
        let what = What::Exec(Box::new(process(100)), Box::new(begun));
        let page = book.take(&record(0, Flags::ENTRY, what), CLOCK);
        assert_eq!(only(&page)["audit"]["session"]["origin"], "out-of-band");
    }

    #[test]
    fn what_a_policy_leaves_out_is_counted_and_not_written_down() {
        let off = Policy { namespaces: vec!["shop".to_owned()], record: Recording::Off, ..Policy::default() };
        let mut book = book(&[off], false);
        let page = enter(&mut book);
        assert!(page.documents.is_empty() && page.turns == [Turn::Opened(5)]);
        let page = book.take(&record(1, Flags::default(), What::End(Session::default())), CLOCK);
        assert!(page.documents.is_empty() && matches!(page.turns[..], [Turn::Closed(..)]));
    }

    #[test]
    fn what_a_container_does_itself_is_written_down_when_the_whole_node_is() {
        for (whole_node, expected) in [(false, 0), (true, 1)] {
            let mut book = book(&[], whole_node);
            let what = What::Exec(Box::new(process(100)), Box::new(exec(b"app\0")));
            let page = book.take(&record(0, Flags::of_init(true), what), CLOCK);
            assert_eq!((page.documents.len(), page.turns.len()), (expected, 0));
            if let Some(document) = page.documents.front() {
                let document = document.value();
                assert_eq!(document["kubernetes"]["pod"]["name"], "web-0");
                assert_eq!(document["audit"]["session"], Value::Null);
            }
        }
    }

    #[test]
    fn arguments_that_are_no_text_are_kept_and_what_was_cut_is_said() {
        let mut book = book(&[], false);
        let begun = Exec { arguments_total: 100, ..exec(b"a\xff\0\x1b[2J\0") };
        let what = What::Exec(Box::new(process(100)), Box::new(begun));
        let page = only(&book.take(&record(0, Flags::ENTRY, what), CLOCK));
        assert_eq!(page["process"]["args"], json!(["a\u{fffd}", "\u{1b}[2J"]));
        assert_eq!(page["message"], "'a\u{fffd}' $'\\u{1b}[2J'");
        assert_eq!(page["audit"]["exec"]["args_base64"], "Yf8AG1sySgA=");
        assert_eq!(page["audit"]["flags"], json!(["args_truncated"]));
    }

    #[test]
    fn who_was_there_before_the_probe_is_adopted() {
        let mut book = book(&[], false);
        let seen = |pid| Seen { process: process(pid), ..Seen::default() };
        let entered = Entered { container: HOME, namespaces: [1; 5], processes: vec![seen(100), seen(101)] };
        let texts = |arguments: &[u8]| Texts { arguments: arguments.to_vec(), ..Texts::default() };
        let (session, page) = book.adopt(5, &entered, &[texts(b"sh\0"), texts(b"ls\0")], CLOCK);
        assert_eq!((session.records, session.root, session.members), (2, 100, Session::HOLD));
        let lines: Vec<Value> =
            page.documents.iter().map(|document| document.value()["process"]["args"].clone()).collect();
        assert_eq!(lines, [json!(["sh"]), json!(["ls"])]);
        assert_eq!(page.documents[1].value()["audit"]["session"]["adopted"], true);
        assert_eq!(book.open()[&5].found, [(100, 100_000_000_000), (101, 101_000_000_000)]);
        let end = only(&book.close(5, &session, None, 300_000_000_000, CLOCK));
        assert_eq!(end["audit"]["session"]["gaps"], json!(["its beginning was before the probe"]));
    }
}
