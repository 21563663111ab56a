#![allow(clippy::disallowed_methods, reason = "a file that is damaged on purpose")]

use std::fs;

use serde_json::{Value, json};
use taffrail_record::Gathered;

use super::*;

fn ended(id: &str, reason: &str, code: i64) -> Value {
    json!({"terminated": {"reason": reason, "exitCode": code, "containerID": format!("containerd://{id}")}})
}

fn running() -> Value {
    json!({"running": {"startedAt": "2025-06-01T12:00:00Z"}})
}

fn waiting() -> Value {
    json!({"waiting": {"reason": "CrashLoopBackOff"}})
}

fn pod(restarts: i64, state: &Value, last: &Value) -> Pod {
    let json = json!({
        "metadata": {"namespace": "shop", "name": "cart", "uid": "1"},
        "status": {"containerStatuses": [
            {"name": "app", "restartCount": restarts, "state": state, "lastState": last},
        ]},
    });
    Pod::parse(json.to_string().as_bytes()).expect("a pod")
}

fn told(terminations: &Terminations) -> Vec<String> {
    let mut gathered = Gathered::default();
    terminations.ask(&mut gathered);
    let of = |family: &str| {
        let prefix = r#"namespace="shop",pod="cart",uid="1",container="app""#;
        let samples = gathered.samples().iter().filter(|sample| sample.family == family);
        samples
            .map(|sample| (sample.labels.trim_start_matches(prefix), sample.value))
            .map(|(labels, value)| format!("{} {value}", labels.trim_start_matches(',')))
            .collect::<Vec<_>>()
    };
    let mut all = of("taffrail_pod_container_terminations_total");
    all.extend(of("taffrail_pod_container_oom_kills_total").into_iter().map(|kills| format!("oom{kills}")));
    all
}

fn counted(updates: &[Pod]) -> Vec<String> {
    let terminations = Terminations::new(Duration::from_secs(600), 10, None);
    updates.iter().for_each(|pod| terminations.changed(pod));
    told(&terminations)
}

const NONE: Value = Value::Null;

#[test]
fn an_end_is_counted_once_wherever_it_is_shown() {
    let end = ended("a", "OOMKilled", 137);
    let updates = [
        pod(0, &running(), &NONE),
        pod(0, &end, &NONE),
        pod(0, &waiting(), &end),
        pod(1, &running(), &end),
        pod(1, &running(), &end),
    ];
    assert_eq!(counted(&updates), [r#"reason="OOMKilled",exit_code="137" 1"#, "oom 1"]);
}

#[test]
fn two_ends_in_one_update_are_two() {
    let updates =
        [pod(0, &running(), &NONE), pod(1, &ended("b", "Completed", 0), &ended("a", "OOMKilled", 137))];
    let expected =
        [r#"reason="OOMKilled",exit_code="137" 1"#, r#"reason="Completed",exit_code="0" 1"#, "oom 1"];
    assert_eq!(counted(&updates), expected);
}

#[test]
fn ends_that_no_update_showed_are_counted_as_unseen() {
    let updates = [pod(2, &running(), &ended("b", "Error", 1)), pod(5, &running(), &ended("e", "Error", 2))];
    let expected = [
        // Those before it was first seen, and those between the updates.
        r#"reason="Error",exit_code="1" 1"#,
        r#"reason="unseen",exit_code="" 3"#,
        r#"reason="Error",exit_code="2" 1"#,
        "oom 0",
    ];
    assert_eq!(counted(&updates), expected);
}

#[test]
fn one_that_waits_is_not_thought_to_have_ended_once_more_than_is_sure() {
    // The runtime lost the instance: kubelet says how it may have ended, and has counted the restart already.
    let lost = json!({"terminated": {"reason": "ContainerStatusUnknown", "exitCode": 137}});
    let updates = [
        pod(0, &running(), &NONE),
        pod(1, &waiting(), &lost),
        pod(1, &running(), &lost),
        pod(2, &running(), &lost),
    ];
    let expected = [r#"reason="ContainerStatusUnknown",exit_code="137" 2"#, "oom 0"];
    assert_eq!(counted(&updates), expected);
}

#[test]
fn restarts_that_are_counted_anew_take_nothing_back() {
    let updates = [
        pod(3, &running(), &ended("c", "Error", 1)),
        pod(0, &running(), &NONE),
        pod(0, &ended("z", "Error", 1), &NONE),
        pod(2, &running(), &ended("y", "Error", 1)),
    ];
    // Two before the first update, one between z and y.
    assert_eq!(
        counted(&updates)[..2],
        [r#"reason="Error",exit_code="1" 3"#, r#"reason="unseen",exit_code="" 2"#]
    );
}

#[test]
fn so_many_exit_codes_and_no_more_have_series() {
    let mut updates = vec![];
    for number in 0..100 {
        updates.push(pod(number, &ended(&format!("i{number}"), "Error", number), &NONE));
    }
    let told = counted(&updates);
    assert_eq!(told.len(), 18);
    assert_eq!(told[16], r#"reason="other",exit_code="" 84"#);
}

#[test]
fn counts_survive_the_agents_restart_and_an_end_is_still_counted_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terminations");
    let open = || Terminations::new(Duration::from_secs(600), 10, Some(path.clone()));
    let end = ended("a", "OOMKilled", 137);
    let first = open();
    first.changed(&pod(1, &running(), &end));
    first.flush().expect("written");
    let second = open();
    let expected = [r#"reason="OOMKilled",exit_code="137" 1"#, "oom 1"];
    assert_eq!(told(&second), expected);
    second.changed(&pod(1, &running(), &end));
    assert_eq!(told(&second), expected);
    second.changed(&pod(3, &running(), &ended("c", "Error", 1)));
    let more = [
        r#"reason="OOMKilled",exit_code="137" 1"#,
        r#"reason="Error",exit_code="1" 1"#,
        r#"reason="unseen",exit_code="" 1"#,
        "oom 1",
    ];
    assert_eq!(told(&second), more);
}

#[test]
fn a_change_is_written_without_being_told_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terminations");
    let terminations = Terminations::new(Duration::from_secs(600), 10, Some(path.clone()));
    terminations.changed(&pod(1, &running(), &ended("a", "Error", 1)));
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        assert!(std::time::Instant::now() < limit, "not written");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_not_yet_written_is_when_nobody_counts_any_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terminations");
    let open = || Terminations::new(Duration::from_secs(600), 10, Some(path.clone()));
    let first = open();
    // Whatever is being written in the meantime, each change is there in the end.
    for number in 0..20 {
        first.changed(&pod(number, &ended(&format!("i{number}"), "Error", 1), &NONE));
    }
    drop(first);
    assert_eq!(told(&open())[0], r#"reason="Error",exit_code="1" 20"#);
}

#[test]
fn a_damaged_file_is_set_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terminations");
    let open = || Terminations::new(Duration::from_secs(600), 10, Some(path.clone()));
    let first = open();
    first.changed(&pod(1, &running(), &ended("a", "Error", 1)));
    first.flush().expect("written");
    let whole = fs::read(&path).expect("there");
    let mut bytes = whole.clone();
    // A digit of a count: still JSON.
    let at = bytes.iter().rposition(u8::is_ascii_digit).expect("a digit");
    bytes[at] ^= 1;
    for damaged in [&bytes[..], &whole[..whole.len() / 2], b"", b"\n", b"\xff\xfe"] {
        fs::write(&path, damaged).expect("written");
        assert!(told(&open()).is_empty());
        assert!(!path.exists());
        assert_eq!(fs::read(folder.path().join("terminations.damaged")).expect("kept"), damaged);
    }
    fs::write(&path, &whole).expect("written");
    assert_eq!(told(&open()).len(), 2);
}

#[test]
fn counts_of_a_pod_that_is_gone_are_told_for_a_while() {
    let end = pod(1, &running(), &ended("a", "Error", 1));
    let long = Terminations::new(Duration::from_secs(600), 10, None);
    long.changed(&end);
    long.gone(&end);
    assert_eq!(told(&long).len(), 2);
    let mut book = OfPod::new(&end);
    book.see(&end);
    book.go(1000);
    assert!(book.is_told(1600, 600) && book.is_kept(1600, 600));
    assert!(!book.is_told(1601, 600) && !book.is_kept(1601, 600));
}

#[test]
fn what_was_known_before_a_restart_is_remembered_for_longer_than_it_is_told() {
    let end = pod(1, &running(), &ended("a", "Error", 1));
    let mut book = OfPod::new(&end);
    book.see(&end);
    book.begin(1000);
    assert!(book.is_told(1600, 600) && !book.is_told(1601, 600));
    assert!(book.is_kept(1000 + KEEP_UNSURE, 600) && !book.is_kept(1001 + KEEP_UNSURE, 600));
    book.see(&end);
    assert!(book.is_told(i64::MAX, 600));
}

#[test]
fn no_more_than_so_many_pods_that_are_gone_are_told_of() {
    let terminations = Terminations::new(Duration::from_secs(600), 3, None);
    for number in 0..10 {
        let mut end = pod(1, &running(), &ended("a", "Error", 1));
        end.meta.uid = number.to_string().into();
        terminations.changed(&end);
        if number != 0 {
            terminations.gone(&end);
        }
    }
    let known: Vec<String> = terminations.0.pods.lock().keys().map(ToString::to_string).collect();
    assert_eq!(known, ["0", "7", "8", "9"]);
}
