use std::thread;

use super::*;

fn pod(uid: &str, name: &str, containers: &[&str]) -> Pod {
    let statuses: Vec<_> = containers
        .iter()
        .map(|id| serde_json::json!({"name": "app", "containerID": format!("containerd://{id}")}))
        .collect();
    let json = serde_json::json!({
        "metadata": {"namespace": "shop", "name": name, "uid": uid},
        "status": {"containerStatuses": statuses},
    });
    Pod::parse(json.to_string().as_bytes()).expect("a pod")
}

fn short(most_gone: usize, keep_gone: Duration) -> PodStore {
    PodStore::new(StoreOptions { keep_gone, most_gone, ..StoreOptions::default() })
}

#[test]
fn a_pod_is_found_by_uid_by_name_and_by_its_containers() {
    let store = PodStore::default();
    store.apply(pod("1", "cart", &["aa"]));
    for found in [store.by_uid("1"), store.by_name("shop", "cart")] {
        let found = found.expect("found");
        assert_eq!((&*found.pod.meta.uid, found.gone), ("1", false));
    }
    for id in ["aa", "containerd://aa"] {
        let (found, container) = store.by_container(id).expect("found");
        assert_eq!((&*found.pod.meta.name, &*container), ("cart", "app"));
    }
    assert!(store.by_uid("2").is_none() && store.by_name("shop", "x").is_none());
    assert!(store.by_container("bb").is_none());
}

#[test]
fn a_former_container_of_a_pod_is_still_the_pods_until_there_are_many() {
    let store = PodStore::default();
    for round in 0..40 {
        store.apply(pod("1", "cart", &[&format!("id{round}")]));
    }
    assert!(store.by_container("id38").is_some() && store.by_container("id32").is_some());
    assert!(store.by_container("id3").is_none());
}

#[test]
fn a_pod_that_is_gone_is_found_for_a_while_and_marked() {
    let store = PodStore::default();
    store.apply(pod("1", "cart", &["aa"]));
    store.remove("1");
    assert!(store.by_uid("1").is_some_and(|found| found.gone));
    assert!(store.by_container("aa").is_some_and(|(found, _)| found.gone));
    assert!(store.snapshot().is_empty());
    assert_eq!(store.gone().len(), 1);
}

#[test]
fn a_pod_that_was_gone_long_enough_is_forgotten_with_all_its_names() {
    let store = short(10, Duration::ZERO);
    store.apply(pod("1", "cart", &["aa"]));
    store.remove("1");
    assert!(store.by_uid("1").is_none() && store.by_name("shop", "cart").is_none());
    assert!(store.by_container("aa").is_none() && store.gone().is_empty());
}

#[test]
fn no_more_than_so_many_are_kept_and_the_longest_gone_go_first() {
    let store = short(2, Duration::from_secs(600));
    for uid in ["1", "2", "3"] {
        store.apply(pod(uid, uid, &[]));
        store.remove(uid);
    }
    assert!(store.by_uid("1").is_none());
    assert!(store.by_uid("2").is_some() && store.by_uid("3").is_some());
}

#[test]
fn the_name_of_one_that_is_gone_is_its_successors() {
    let store = short(1, Duration::from_secs(600));
    store.apply(pod("1", "db-0", &[]));
    store.remove("1");
    store.apply(pod("2", "db-0", &[]));
    store.apply(pod("3", "x", &[]));
    store.remove("3");
    assert!(store.by_uid("1").is_none());
    assert_eq!(store.by_name("shop", "db-0").map(|found| (*found.pod.meta.uid).to_owned()), Some("2".into()));
}

#[test]
fn one_that_came_back_is_not_forgotten_for_its_first_end() {
    let store = short(1, Duration::from_secs(600));
    for uid in ["1", "2"] {
        store.apply(pod(uid, uid, &[]));
    }
    store.remove("1");
    store.apply(pod("1", "1", &[]));
    store.remove("2");
    assert!(store.by_uid("1").is_some_and(|found| !found.gone));
    assert!(store.by_uid("2").is_some_and(|found| found.gone));
}

#[test]
fn a_listing_replaces_all_and_says_which_are_gone() {
    let store = PodStore::default();
    store.replace_all(vec![pod("1", "a", &[]), pod("2", "b", &[])]);
    let gone = store.replace_all(vec![pod("2", "b", &[]), pod("3", "a", &[])]);
    assert_eq!(gone.iter().map(|pod| &*pod.meta.uid).collect::<Vec<_>>(), ["1"]);
    assert_eq!(store.snapshot().len(), 2);
    assert_eq!(store.by_name("shop", "a").map(|found| (*found.pod.meta.uid).to_owned()), Some("3".into()));
}

#[test]
fn the_generation_grows_with_each_change_and_only_then() {
    let store = PodStore::default();
    store.apply(pod("1", "a", &[]));
    let first = store.generation();
    store.apply(pod("1", "a", &[]));
    store.remove("2");
    assert_eq!(store.generation(), first);
    store.apply(pod("1", "a", &["aa"]));
    store.remove("1");
    assert_eq!(store.generation(), first + 2);
}

#[test]
fn who_subscribed_gets_each_change_with_what_was_before() {
    let store = PodStore::default();
    let changes = store.subscribe(10);
    store.apply(pod("1", "a", &[]));
    store.apply(pod("1", "a", &["aa"]));
    store.remove("1");
    store.apply_namespace("shop", "n", TextMap::default());
    let told: Vec<String> = changes
        .try_iter()
        .map(|change| match change {
            Change::Pod { before, now } => {
                let count = |pod: &Pod| pod.status.containers.len();
                format!("{:?}>{}", before.as_deref().map(count), count(&now))
            }
            Change::Gone(pod) => format!("gone {}", pod.meta.uid),
            Change::Namespace(name) => format!("namespace {name}"),
            Change::Everything => "everything".to_owned(),
        })
        .collect();
    assert_eq!(told, ["None>0", "Some(0)>1", "gone 1", "namespace shop"]);
}

#[test]
fn who_reads_too_slowly_is_told_to_look_at_everything() {
    let store = PodStore::default();
    let changes = store.subscribe(2);
    for uid in ["1", "2", "3", "4", "5"] {
        store.apply(pod(uid, uid, &[]));
    }
    let told: Vec<Change> = changes.try_iter().collect();
    assert_eq!(told.len(), 3);
    assert!(matches!(told[1], Change::Pod { .. }) && matches!(told[2], Change::Everything));
    store.apply(pod("6", "6", &[]));
    assert!(matches!(changes.try_recv(), Ok(Change::Pod { now, .. }) if &*now.meta.uid == "6"));
}

#[test]
fn who_waits_for_a_pod_gets_it_when_it_comes_and_nothing_after_the_deadline() {
    let store = Arc::new(PodStore::default());
    assert!(store.wait_for("1", Instant::now()).is_none());
    let fed = Arc::clone(&store);
    let feeder = thread::spawn(move || {
        fed.apply(pod("0", "other", &[]));
        fed.apply(pod("1", "a", &[]));
    });
    let found = store.wait_for("1", Instant::now() + Duration::from_secs(60));
    assert!(found.is_some_and(|found| &*found.pod.meta.uid == "1"));
    feeder.join().expect("ends");
}

#[test]
fn it_says_since_when_and_why_it_is_stale() {
    let store = PodStore::default();
    assert_eq!(store.freshness(), Freshness { state: FreshnessState::Unknown, seen_at: None });
    store.mark_fresh();
    let seen_at = store.freshness().seen_at;
    assert!(seen_at.is_some() && store.freshness().state == FreshnessState::Fresh);
    store.mark_stale("connection refused");
    let FreshnessState::Stale { since, .. } = store.freshness().state else { panic!("fresh") };
    store.mark_stale("no route");
    let expected = FreshnessState::Stale { since, reason: "no route".into() };
    assert_eq!(store.freshness(), Freshness { state: expected, seen_at });
}

#[test]
fn a_namespace_is_kept_with_its_labels() {
    let store = PodStore::default();
    let json = br#"{"kind":"Namespace","metadata":{"name":"shop","uid":"n","labels":{"team":"cart"},"annotations":null}}"#;
    store.apply_namespace_json(json).expect("a namespace");
    let found = store.namespace("shop").expect("found");
    assert_eq!((&*found.uid, found.labels.get("team")), ("n", Some("cart")));
    store.remove_namespace("shop");
    assert!(store.namespace("shop").is_none());
    assert!(store.apply_namespace_json(b"{}").is_err());
}

#[test]
fn a_static_pod_is_found_by_its_own_uid_and_by_that_of_its_mirror() {
    let store = short(0, Duration::ZERO);
    let mirror = |uid: &str| {
        let mut pod = pod(uid, "etcd-n", &[]);
        pod.meta.static_uid = "hash".into();
        pod
    };
    store.apply(mirror("1"));
    assert_eq!(store.by_uid("hash").map(|found| (*found.pod.meta.uid).to_owned()), Some("1".into()));
    // The mirror is made anew, the pod goes on.
    store.apply(mirror("2"));
    store.remove("1");
    assert_eq!(store.by_uid("hash").map(|found| (*found.pod.meta.uid).to_owned()), Some("2".into()));
    store.remove("2");
    assert!(store.by_uid("hash").is_none());
}

#[test]
fn what_a_pod_was_last_is_known_when_it_is_gone() {
    let store = PodStore::default();
    store.apply(pod("1", "a", &[]));
    let last = r#"{"metadata":{"namespace":"shop","name":"a","uid":"1"},"status":{"phase":"Failed"}}"#;
    store.remove_json(last.as_bytes()).expect("a pod");
    assert!(store.by_uid("1").is_some_and(|found| found.gone && &*found.pod.status.phase == "Failed"));
    assert!(store.remove_json(b"{}").is_err());
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let store = PodStore::default();
    store.apply(pod("1", "a", &[]));
    let before = store.generation();
    assert!(store.apply_json(br#"{"metadata":{"uid":"1"},"status":7}"#).is_err());
    assert_eq!((store.generation(), store.snapshot().len()), (before, 1));
}
