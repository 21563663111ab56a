use taffrail_record::Gathered;

use super::*;

const BIG: &[u8] = include_bytes!("../../tests/fixtures/big.json");

fn asked(series: &PodSeries) -> Vec<String> {
    let mut gathered = Gathered::default();
    let _ = series.ask(&mut gathered);
    gathered.samples().iter().map(|it| format!("{}{{{}}} {}", it.family, it.labels, it.value)).collect()
}

fn about(series: &PodSeries, start: &str) -> Vec<String> {
    asked(series).into_iter().filter(|line| line.starts_with(start)).collect()
}

fn start(config: &PodsConfig) -> (Arc<PodStore>, PodSeries) {
    let store = Arc::new(PodStore::new(config.store_options(&AllowList::default())));
    let series = PodSeries::new(&store, config, None);
    (store, series)
}

fn small(labels: &str) -> String {
    format!(r#"{{"metadata":{{"namespace":"shop","name":"cart","uid":"1","labels":{labels}}}}}"#)
}

const OF_SMALL: &str = r#"namespace="shop",pod="cart",uid="1""#;

#[test]
fn a_pod_is_told_of_while_it_is_there() {
    let (store, series) = start(&PodsConfig::default());
    store.apply_json(small("null").as_bytes()).expect("a pod");
    let owner =
        format!(r#"kube_pod_owner{{{OF_SMALL},owner_kind="",owner_name="",owner_is_controller=""}} 1"#);
    assert_eq!(about(&series, "kube_pod_owner"), [owner]);
    store.remove("1");
    assert!(about(&series, "kube_pod").is_empty());
}

#[test]
fn pods_that_were_there_before_are_told_of() {
    let store = Arc::new(PodStore::default());
    store.apply_json(BIG).expect("a pod");
    let series = PodSeries::new(&store, &PodsConfig::default(), None);
    assert_eq!(about(&series, "kube_pod_info").len(), 1);
    assert_eq!(about(&series, "taffrail_pod_container_oom_kills_total").len(), 4);
}

#[test]
fn labels_are_shown_when_they_are_allowed() {
    let (store, series) = start(&PodsConfig::default());
    store.apply_json(small(r#"{"app":"x","b":"y"}"#).as_bytes()).expect("a pod");
    assert!(about(&series, "kube_pod_labels").is_empty());
    let (store, series) = start(&PodsConfig { labels: vec!["app".to_owned()], ..PodsConfig::default() });
    store.apply_json(small(r#"{"app":"x","b":"y"}"#).as_bytes()).expect("a pod");
    assert_eq!(
        about(&series, "kube_pod_labels"),
        [format!(r#"kube_pod_labels{{{OF_SMALL},label_app="x"}} 1"#)]
    );
    store.apply_json(small("null").as_bytes()).expect("a pod");
    assert_eq!(about(&series, "kube_pod_labels"), [format!("kube_pod_labels{{{OF_SMALL}}} 1")]);
}

#[test]
fn tolerations_and_node_selectors_are_told_when_they_are_asked_for() {
    let names = ["kube_pod_tolerations", "kube_pod_nodeselectors"];
    let (store, series) = start(&PodsConfig::default());
    store.apply_json(BIG).expect("a pod");
    assert_eq!(names.map(|name| about(&series, name).len()), [0, 0]);
    let config = PodsConfig { tolerations: true, node_selectors: true, ..PodsConfig::default() };
    let (store, series) = start(&config);
    store.apply_json(BIG).expect("a pod");
    assert_eq!(names.map(|name| about(&series, name).len()), [3, 1]);
}

#[test]
fn every_family_that_is_written_is_declared() {
    let keys = vec!["*".to_owned()];
    let config = PodsConfig {
        labels: keys.clone(),
        annotations: keys,
        tolerations: true,
        node_selectors: true,
        ..PodsConfig::default()
    };
    let (store, series) = start(&config);
    store.apply_json(BIG).expect("a pod");
    store.mark_fresh();
    series.apply_node(br#"{"metadata":{"name":"n"}}"#).expect("a node");
    for line in asked(&series) {
        let (name, labels) = line.split_once('{').expect("labels");
        let family = series.families().iter().find(|family| family.name == name);
        let family = family.unwrap_or_else(|| panic!("{name} is not declared"));
        let fixed: Vec<&str> = family.labels.iter().filter(|label| !label.ends_with('*')).copied().collect();
        let mut at = 0;
        for label in fixed {
            let found = labels[at..].find(&format!("{label}=\""));
            at += found.unwrap_or_else(|| panic!("{label} missing, or not in its place: {line}"));
        }
    }
}

#[test]
fn a_time_that_is_not_said_has_no_series() {
    let (store, series) = start(&PodsConfig::default());
    let status = r#""status":{"containerStatuses":[{"name":"a","lastState":{"terminated":{"exitCode":137,"finishedAt":null}}}]}"#;
    let json = small("null");
    let json = format!("{},{status}}}", json.strip_suffix('}').expect("an object"));
    store.apply_json(json.as_bytes()).expect("a pod");
    assert_eq!(about(&series, "kube_pod_container_status_last_terminated_exitcode").len(), 1);
    assert!(about(&series, "kube_pod_container_status_last_terminated_timestamp").is_empty());
    assert!(about(&series, "kube_pod_created").is_empty());
}

#[test]
fn it_says_whether_what_it_tells_is_old() {
    let (store, series) = start(&PodsConfig::default());
    let result = series.ask(&mut Gathered::default());
    assert!(matches!(result, Err(AskError::Absent(_))));
    assert!(about(&series, "taffrail_pods_").is_empty());
    store.mark_fresh();
    assert_eq!(about(&series, "taffrail_pods_stale"), ["taffrail_pods_stale{} 0"]);
    store.mark_stale("away");
    assert_eq!(about(&series, "taffrail_pods_stale"), ["taffrail_pods_stale{} 1"]);
    assert_eq!(about(&series, "taffrail_pods_seen_timestamp_seconds").len(), 1);
}

#[test]
fn the_node_is_told_of_unless_that_is_not_wanted() {
    let json = br#"{"metadata":{"name":"n","labels":{"node-role.kubernetes.io/control-plane":""}},
        "status":{"capacity":{"pods":"110","memory":"1Gi"}}}"#;
    let (_, series) = start(&PodsConfig::default());
    series.apply_node(json).expect("a node");
    assert_eq!(about(&series, "kube_node_role"), [r#"kube_node_role{node="n",role="control-plane"} 1"#]);
    assert_eq!(about(&series, "kube_node_status_capacity").len(), 2);
    assert!(series.apply_node(b"{}").is_err());
    assert_eq!(about(&series, "kube_node_role").len(), 1);
    series.remove_node();
    assert!(about(&series, "kube_node").is_empty());
    let (_, series) = start(&PodsConfig { node: false, ..PodsConfig::default() });
    series.apply_node(json).expect("a node");
    assert!(about(&series, "kube_node").is_empty());
}

#[test]
fn counts_of_terminations_are_kept_in_the_state_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(PodStore::default());
    let series = PodSeries::new(&store, &PodsConfig::default(), Some(folder.path()));
    store.apply_json(BIG).expect("a pod");
    series.flush().expect("written");
    let next = PodSeries::new(&Arc::new(PodStore::default()), &PodsConfig::default(), Some(folder.path()));
    let name = "taffrail_pod_container_terminations_total";
    assert_eq!(about(&next, name), about(&series, name));
    assert!(!about(&next, name).is_empty());
}
