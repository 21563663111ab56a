//! The same objects, told by the real kube-state-metrics and by this room: series by series, and no difference but those
//! that are explained here.

#![allow(clippy::unwrap_used, reason = "a test")]

mod cluster;
mod compare;
mod crafted;

use compare::{Differences, Page, compare, families_of, told};
use serde_json::{Value, json};
use taffrail_parts::KubeStateMetrics;

const NOTHING: Differences = Differences { only_there: Vec::new(), only_here: Vec::new() };

/// A pod that is nothing but what is given.
fn pod(name: &str, mut more: Value) -> Value {
    let object = more.as_object_mut().unwrap();
    object.insert("kind".into(), "Pod".into());
    let meta = object.entry("metadata").or_insert(json!({})).as_object_mut().unwrap();
    for (key, value) in [("namespace", "shop"), ("name", name), ("uid", &format!("uid-of-{name}"))] {
        meta.entry(key).or_insert(value.into());
    }
    more
}

#[test]
fn every_family_of_pods_and_nodes_is_there_with_its_type() {
    let node = json!({"kind": "Node", "metadata": {"name": "n"}});
    let page = KubeStateMetrics::get().unwrap().say(&format!("{}{node}", pod("p", json!({})))).unwrap();
    let there = families_of(&page);
    assert!(there.len() > 60, "{there:?}");
    assert_eq!(there, told(&[]).families);
}

#[test]
fn a_large_pod_is_told_alike() {
    let big: Value = serde_json::from_str(include_str!("../fixtures/big.json")).unwrap();
    let differences = compare(&[big], &["*"], &["example.com/short"]);
    assert_eq!(differences, NOTHING);
}

#[test]
fn odd_pods_are_told_alike() {
    for (name, more) in crafted::pods() {
        let differences = compare(&[pod(name, more)], &["*"], &["*"]);
        assert_eq!(differences, NOTHING, "{name}");
    }
}

#[test]
fn odd_nodes_are_told_alike() {
    for node in crafted::nodes() {
        assert_eq!(compare(std::slice::from_ref(&node), &["*"], &["*"]), NOTHING, "{node}");
    }
}

#[test]
fn amounts_are_told_alike() {
    let container = |(number, amount): (usize, &String)| {
        json!({
            "name": format!("c{number}"),
            "resources": {"requests": {"cpu": amount, "memory": amount, "example.com/x": amount, "hugepages-2Mi": amount}},
        })
    };
    let amounts = crafted::amounts();
    let containers: Vec<Value> = amounts.iter().enumerate().map(container).collect();
    let differences = compare(&[pod("p", json!({"spec": {"containers": containers}}))], &[], &[]);
    for line in &differences.only_there {
        let number = line.split_once("container=\"c").unwrap().1.split_once('"').unwrap().0;
        println!("{line} of {}", amounts[number.parse::<usize>().unwrap()]);
    }
    assert_eq!(differences, NOTHING);
}

#[test]
fn labels_are_allowed_and_named_alike() {
    let keys = [
        "app",
        "App",
        "app.kubernetes.io/name",
        "app_kubernetes_io_name",
        "app-kubernetes-io/name",
        "aB",
        "a_b",
        "a-b_conflict1",
        "a_b_conflict1",
        "HTTPServer",
        "server2Go",
        "x.y/z",
        "ünïcode",
        "0digit",
        "a.b",
        "A.B",
        "a/b",
    ];
    let map: Value =
        keys.iter().map(|key| ((*key).to_owned(), Value::from(format!("of \"{key}\"\n\\")))).collect();
    let pods =
        [pod("p", json!({"metadata": {"labels": map, "annotations": map}, "spec": {"nodeSelector": map}}))];
    for allowed in [
        &["*"][..],
        &["app"],
        &["app", "*"],
        &["a*"],
        &["*b", "App"],
        &["app*name", "x.y/z"],
        &["a*b*c", "app"],
        &["nothing"],
        &[],
    ] {
        assert_eq!(compare(&pods, allowed, allowed), NOTHING, "{allowed:?}");
    }
}

#[test]
fn a_time_that_is_not_said_is_that_of_the_year_1_there_and_nothing_here() {
    let status = json!({
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": null}],
        "containerStatuses": [{"name": "a", "lastState": {"terminated": {"exitCode": 137, "finishedAt": null}}, "state": {"running": {}}}],
    });
    let page = Page::of(&[pod("p", json!({"status": status}))], &[], &[]);
    let year_1: Vec<&str> = page
        .there
        .iter()
        .filter(|(_, value)| **value == compare::YEAR_1)
        .map(|(it, _)| it.split('{').next().unwrap())
        .collect();
    let expected = [
        "kube_pod_container_state_started",
        "kube_pod_container_status_last_terminated_timestamp",
        "kube_pod_status_ready_time",
    ];
    assert_eq!(year_1, expected);
    assert_eq!(page.differences(), NOTHING);
}

#[test]
fn what_is_too_large_for_their_integers_is_0_there_and_the_largest_here() {
    let resources = json!({"requests": {"memory": "10E"}});
    let page = Page::of(
        &[pod("p", json!({"spec": {"containers": [{"name": "a", "resources": resources}]}}))],
        &[],
        &[],
    );
    let differences = page.differences();
    assert!(differences.only_there[0].ends_with(" 0"), "{differences:?}");
    assert!(differences.only_here[0].ends_with(" 9223372036854776000"), "{differences:?}");
}

#[test]
fn two_series_of_one_name_are_one_here() {
    let owner = json!({"kind": "X", "name": "x"});
    let pods = [pod("p", json!({"metadata": {"ownerReferences": [owner, owner]}}))];
    let page = KubeStateMetrics::get().unwrap().say(&pods[0].to_string()).unwrap();
    assert_eq!(page.matches("owner_kind=\"X\"").count(), 2);
    assert_eq!(compare(&pods, &[], &[]), NOTHING);
}

#[test]
fn the_copy_of_the_whole_object_is_shown_only_when_it_is_named() {
    let key = "kubectl.kubernetes.io/last-applied-configuration";
    let pods = [pod("p", json!({"metadata": {"annotations": {key: "{}", "a": "b"}}}))];
    let differences = compare(&pods, &[], &["*"]);
    assert!(
        differences.only_there[0].contains("annotation_kubectl_kubernetes_io_last_applied_configuration")
    );
    assert_eq!(differences.only_there.len(), 1);
    assert_eq!(compare(&pods, &[], &[key]), NOTHING);
}
