use serde_json::{Value, json};
use taffrail_record::Node;

use super::recorded::SUPPOSED;
use super::*;
use crate::config::Policy;
use crate::scan::Seen;

pub(crate) const CLOCK: Clock = Clock { offset: 1_000_000_000_000_000_000 };
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

pub(crate) fn book(policies: &[Policy], whole_node: bool) -> Book {
    let node = Node { name: "n1".to_owned(), cluster: "prod".to_owned(), ..Node::default() };
    let writer = Writer::new(Arc::new(arc_swap::ArcSwap::from_pointee(node)), "boot-1", &["WHO".to_owned()]);
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

pub(crate) fn record(number: u64, flags: Flags, what: What) -> Record {
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

pub(crate) fn enter(book: &mut Book) -> Page {
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

    let counted =
        Session { records: 4, execs: 1, forks: 1, exits: 2, ended: 9, status: 0x300, ..Session::default() };
    let page = book.take(&record(3, Flags::default(), What::End(counted)), CLOCK);
    let end = only(&page);
    assert_eq!(end["message"], "session ended: sh -c 'ls; exit 3' in shop/web-0/app, 1 exec, exit 3; whole");
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
fn who_came_is_who_has_arrived_and_not_the_runtime_on_its_way() {
    let mut book = book(&[], false);
    let runtime = Exec { entered_by: differences::CGROUP, ..exec(b"runc\0init\0") };
    let what = What::Exec(Box::new(process(100)), Box::new(runtime));
    assert_eq!(book.take(&record(0, Flags::ENTRY, what), CLOCK).turns, [Turn::Opened(5)]);
    let what = What::Exec(Box::new(process(101)), Box::new(exec(b"sh\0")));
    assert_eq!(book.take(&record(1, Flags::ENTRY, what), CLOCK).turns, [Turn::Changed(5)]);
    assert_eq!((&book.open()[&5].entry.arguments, book.open().len()), (&vec!["sh".to_owned()], 1));
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
    assert_eq!(page["message"], "'a\u{fffd}' $'\\x1b[2J'");
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

/// Nobody has told yet what this is called, until somebody has.
#[derive(Default)]
struct Late(std::sync::atomic::AtomicBool);

impl Namer for Late {
    fn whose(&self, container_id: &str, pod_uid: &str) -> (Whose, bool) {
        let is_known = self.0.load(std::sync::atomic::Ordering::Relaxed);
        if is_known { Shop.whose(container_id, pod_uid) } else { (Whose::default(), false) }
    }
}

#[test]
fn a_name_that_comes_late_decides_what_is_recorded_and_one_that_never_comes_is_not_waited_for_for_ever() {
    let of = |namespace: &str, record| Policy {
        namespaces: vec![namespace.to_owned()],
        record,
        ..Policy::default()
    };
    let full = [of("harbour", Recording::Off), of("shop", Recording::Full)];
    let other = [of("harbour", Recording::Full), Policy { record: Recording::Off, ..Policy::default() }];
    for (policies, is_told, expected) in [
        (&full, true, Recording::Full),
        (&full, false, Recording::Commands),
        // What it was begun with is written down to its end.
        (&other, true, Recording::Commands),
    ] {
        let late = Arc::new(Late::default());
        let mut book = Book { namer: Arc::clone(&late) as Arc<dyn Namer>, ..book(policies, false) };
        book.patient = Arc::clone(&book.namer);
        book.can_record(None);
        assert!(book.may_record(HOME), "it may be any");
        enter(&mut book);
        assert_eq!((book.open()[&5].recording, book.open()[&5].supposed), (Recording::Full, true));
        assert_eq!(book.suppose_no_more(SUPPOSED), [], "it may still come");
        late.0.store(is_told, std::sync::atomic::Ordering::Relaxed);
        let now = if is_told { 6 } else { SUPPOSED + 6 };
        assert_eq!(book.suppose_no_more(now), [Turn::Changed(5)]);
        let open = &book.open()[&5];
        assert_eq!(
            (open.recording, open.supposed, open.whose.pod.as_str()),
            (expected, false, if is_told { "web-0" } else { "" })
        );
        assert_eq!(open.missing.is_empty(), is_told, "{:?}", open.missing);
    }
}

#[test]
fn of_who_came_past_the_runtime_it_is_told_from_where() {
    let come = |entered_by, names: Vec<Vec<u8>>, flags| {
        let mut book = book(&[], true);
        let exec = Exec { entered_by, cgroup: names, ..exec(b"sh\0") };
        let page = book.take(&record(0, flags, What::Exec(Box::new(process(100)), Box::new(exec))), CLOCK);
        only(&page)["audit"]["came_from"].clone()
    };
    let past = differences::MOUNT_NAMESPACE;
    let shell = || [&b"session-3.scope"[..], b"user-0.slice", b"user.slice"].map(<[u8]>::to_vec).to_vec();
    assert_eq!(
        come(past, shell(), Flags::ENTRY),
        json!({"cgroup": "user.slice/user-0.slice/session-3.scope"})
    );
    assert_eq!(come(past, vec![Vec::new()], Flags::ENTRY), json!({"cgroup": "/"}), "of none");
    let from = come(past, cgroup(), Flags::ENTRY);
    assert_eq!(
        (&from["container"]["name"], &from["kubernetes"]["pod"]["name"]),
        (&json!("app"), &json!("web-0"))
    );
    assert_eq!(
        come(past | differences::CGROUP, cgroup(), Flags::ENTRY),
        Value::Null,
        "the runtime put it there"
    );
    assert_eq!(come(past, Vec::new(), Flags::ENTRY), Value::Null);
}

#[test]
fn who_was_brought_into_another_container_and_went_on_from_there_came_past_the_runtime() {
    let mut book = book(&[], false);
    enter(&mut book);
    let names = [b"fedcba9876543210".repeat(4), b"docker".to_vec()].to_vec();
    let exec = Exec { cgroup: names, ..exec(b"sh\0") };
    let what = What::Exec(Box::new(process(101)), Box::new(exec));
    let page = book.take(&Record { session: 6, ..record(0, Flags::ENTRY, what) }, CLOCK);
    let entry = only(&page);
    assert_eq!(entry["audit"]["session"]["origin"], "out-of-band");
    assert_eq!(entry["audit"]["entered_by"], json!(["mount"]));
    assert_eq!(entry["audit"]["came_from"]["container"]["id"], "fedcba9876543210".repeat(4));
    assert_eq!(entry["container"]["id"], "0123456789abcdef".repeat(4), "and it is this one still");
    assert_eq!(only(&enter(&mut book))["container"]["id"], "0123456789abcdef".repeat(4));
}
