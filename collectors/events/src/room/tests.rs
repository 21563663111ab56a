use serde_json::json;
use taffrail_api::{ApiError, ErrorKind};
use taffrail_pods::Owner;

use super::*;

struct Fixture {
    room: Room,
    spool: Arc<Spool>,
    status: Arc<Status>,
    ring: Arc<Mutex<Ring>>,
    _folder: tempfile::TempDir,
}

fn fixture(config: EventsConfig) -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = Arc::new(Spool::open(folder.path(), config.spool_limit(), &|| {}).expect("a spool"));
    let (status, ring) = (Arc::<Status>::default(), Arc::new(Mutex::new(Ring::new(100))));
    let authority = Authority::default();
    authority.until(Some(Instant::now() + Duration::from_secs(600)));
    let room = Room::new(
        Arc::new(config),
        Arc::clone(&spool),
        Arc::clone(&status),
        Writer::new(Arc::default(), "c"),
        Arc::clone(&ring),
        authority,
    );
    Fixture { room, spool, status, ring, _folder: folder }
}

fn event(uid: &str, version: u64, kind: &str, name: &str) -> String {
    json!({
        "metadata": { "uid": uid, "resourceVersion": version.to_string() }, "reason": "Tested", "type": "Normal",
        "involvedObject": { "kind": kind, "namespace": if kind == "Node" { "" } else { "shop" }, "name": name },
    })
    .to_string()
}

impl Fixture {
    fn watched(&mut self, uid: &str, version: u64, kind: &str, name: &str) {
        self.room.observe(Change::Added, &event(uid, version, kind, name), &version.to_string());
    }

    /// Versions of the documents in the spool, and their owners.
    fn told(&self) -> Vec<(u64, String)> {
        let mut told = Vec::new();
        let each = |frame: &Frame<'_>| {
            if frame.is_document() {
                let document: serde_json::Value = serde_json::from_slice(frame.body).expect("JSON");
                let owner = document["kubernetes"]["event"]["owner"]["name"].as_str().unwrap_or_default();
                told.push((frame.version, owner.to_owned()));
            }
        };
        self.spool.for_each(0, each).expect("readable");
        told
    }

    fn versions(&self) -> Vec<u64> {
        self.told().into_iter().map(|(version, _)| version).collect()
    }
}

fn plain() -> EventsConfig {
    EventsConfig { owners: false, ..EventsConfig::default() }
}

#[test]
fn rules_leave_out_by_what_an_event_is_about_why_and_of_what_type() {
    let config = |set: &dyn Fn(&mut EventsConfig)| {
        let mut config = plain();
        set(&mut config);
        config
    };
    let of = |config: &EventsConfig, text: &str| left_out(config, &Event::parse(text).expect("an event"));
    let (pod, node) = (event("u", 1, "Pod", "web-0"), event("u", 1, "Node", "n1"));
    assert_eq!(of(&plain(), &pod), None);
    let rules: [(&str, EventsConfig, Option<&str>, Option<&str>); 6] = [
        ("other namespaces", config(&|c| c.namespaces.exclude = vec!["sh*".into()]), Some("namespace"), None),
        ("one namespace", config(&|c| c.namespaces.include = vec!["shop".into()]), None, Some("namespace")),
        ("one and none", config(&|c| c.namespaces.include = vec!["shop".into(), String::new()]), None, None),
        ("kind", config(&|c| c.kinds.exclude = vec!["Pod".into()]), Some("kind"), None),
        ("reason", config(&|c| c.reasons.include = vec!["Failed*".into()]), Some("reason"), Some("reason")),
        ("type", config(&|c| c.types.include = vec!["Warning".into()]), Some("type"), Some("type")),
    ];
    for (name, config, of_pod, of_node) in rules {
        assert_eq!((of(&config, &pod), of(&config, &node)), (of_pod, of_node), "{name}");
    }
}

#[test]
fn what_is_left_out_counts_once_however_often_all_is_listed() {
    let mut config = plain();
    config.kinds.exclude = vec!["Pod".into()];
    let mut fixture = fixture(config);
    for _ in 0..3 {
        fixture.room.list_begins();
        for (uid, version) in [("a", 1), ("b", 2)] {
            let text = event(uid, version, "Pod", "web-0");
            fixture.room.observe(Change::Listed, &text, &version.to_string());
        }
        fixture.room.listed("2");
    }
    fixture.watched("b", 3, "Pod", "web-0");
    assert_eq!(fixture.status.filtered.get("kind"), 3);
    assert!(fixture.versions().is_empty());
}

#[test]
fn an_event_waits_for_its_owner_and_what_is_behind_it_with_it() {
    let mut fixture = fixture(EventsConfig::default());
    fixture.watched("a", 1, "Node", "n1");
    fixture.watched("b", 2, "Pod", "web-0");
    fixture.watched("c", 3, "Node", "n1");
    assert_eq!(fixture.versions(), [1]);
    let pod = fixture.room.owners.next().expect("asked for");
    fixture.room.owners.learn(pod, Ok(vec![Owner::new("StatefulSet", "web")]), &fixture.status);
    fixture.room.flush();
    assert_eq!(fixture.told(), [(1, String::new()), (2, "web".to_owned()), (3, String::new())]);
    // Known, or known to be unknown: nobody waits.
    fixture.watched("d", 4, "Pod", "web-0");
    fixture.watched("e", 5, "Pod", "gone-0");
    assert_eq!(fixture.versions(), [1, 2, 3, 4]);
    let pod = fixture.room.owners.next().expect("asked for");
    let error = ApiError { what: String::new(), kind: ErrorKind::NotFound(String::new()), retry_after: None };
    fixture.room.owners.learn(pod, Err(error), &fixture.status);
    fixture.watched("f", 6, "Pod", "gone-0");
    assert_eq!(fixture.versions(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn nobody_waits_in_a_crowd_or_for_long_or_at_the_end() {
    let mut fixture = fixture(EventsConfig::default());
    for version in 1..=400 {
        fixture.watched(&format!("u{version}"), version, "Pod", &format!("web-{version}"));
    }
    let told = fixture.versions().len();
    assert!((400 - WAITING..400).contains(&told), "{told}");
    std::thread::sleep(PATIENCE);
    fixture.room.flush();
    assert_eq!(fixture.versions(), (1..=400).collect::<Vec<u64>>());
    fixture.watched("late", 401, "Pod", "late-0");
    fixture.room.hurry();
    assert_eq!(fixture.versions().last(), Some(&401));
}

#[test]
fn what_is_told_again_is_not_put_aside_again() {
    let mut fixture = fixture(plain());
    fixture.watched("a", 1, "Pod", "web-0");
    fixture.room.begin();
    fixture.room.list_begins();
    for (uid, version) in [("a", 1), ("b", 2)] {
        fixture.room.observe(Change::Listed, &event(uid, version, "Pod", "web-0"), &version.to_string());
    }
    assert_eq!(
        (fixture.versions(), fixture.spool.newest()),
        (vec![1, 2], Some(1)),
        "a list counts when it is whole"
    );
    fixture.room.listed("9");
    assert_eq!((fixture.spool.newest(), fixture.status.repeated.get()), (Some(9), 1));
}

#[test]
fn what_goes_is_no_observation_but_a_version() {
    let mut fixture = fixture(plain());
    fixture.watched("a", 1, "Pod", "web-0");
    fixture.room.observe(Change::Deleted, &event("a", 7, "Pod", "web-0"), "7");
    assert_eq!((fixture.versions(), fixture.room.reached()), (vec![1], Some(7)));
    fixture.room.hurry();
    assert_eq!(fixture.spool.newest(), Some(7));
}

#[test]
fn who_has_no_authority_puts_nothing_aside() {
    let mut fixture = fixture(plain());
    fixture.watched("a", 1, "Pod", "web-0");
    fixture.room.authority.until(Some(Instant::now()));
    fixture.watched("b", 2, "Pod", "web-0");
    fixture.watched("c", 3, "Pod", "web-0");
    assert_eq!((fixture.versions(), fixture.room.halted()), (vec![1], Some(Halt::Deposed)));
    fixture.room.listed("9");
    fixture.room.hurry();
    assert_eq!(fixture.spool.newest(), Some(1), "no mark either");
}

#[test]
fn after_a_full_spool_it_goes_on_from_what_is_in_it() {
    let mut fixture = fixture(EventsConfig { spool_bytes: 0, ..plain() });
    let large = |version: u64| {
        let text = event(&format!("u{version}"), version, "Pod", "web-0");
        text.replace("Tested", &"x".repeat(100_000))
    };
    let mut version = 0;
    while fixture.room.halted().is_none() {
        version += 1;
        fixture.room.observe(Change::Added, &large(version), &version.to_string());
    }
    assert_eq!(fixture.room.halted(), Some(Halt::Full));
    assert_eq!(fixture.spool.newest(), Some(version - 1));
    fixture.spool.confirm(fixture.spool.end(), Some(version - 1));
    fixture.room.begin();
    fixture.room.observe(Change::Added, &large(version), &version.to_string());
    assert_eq!((fixture.room.halted(), fixture.spool.newest()), (None, Some(version)));
}

#[test]
fn what_is_no_event_is_put_aside_as_it_is() {
    let mut fixture = fixture(plain());
    fixture.room.observe(Change::Added, r#"{"metadata":{"resourceVersion":"5"},"reason":"\ud800"}"#, "5");
    fixture.room.observe(Change::Added, &event("a", 6, "Pod", "web-0"), "not-a-number");
    assert_eq!(fixture.versions(), [5, 0]);
    assert_eq!((fixture.status.unreadable.get(), fixture.spool.newest()), (1, Some(5)));
    assert_eq!(fixture.ring.lock().select(&crate::Selector::new("web-0", "shop").expect("valid")).len(), 1);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut seen = Seen::default();
    for version in 0..1000 {
        let key = seen.key("u", &version.to_string());
        seen.add(key, 100);
    }
    assert_eq!((seen.known.len(), seen.order.len()), (100, 100));
    assert!(seen.has(seen.key("u", "999")) && !seen.has(seen.key("u", "1")));
}
