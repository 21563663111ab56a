//! Everything goes wrong that can: nothing is lost that the API server still had.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use nix::sys::signal::Signal;
use serde_json::json;
use taffrail_events::{EventsConfig, Selector, from_server, render};
use taffrail_parts::node::ControlPlane;

use crate::process::Agents;
use crate::support::{Agent, Far, Maker, event, version, wait_for, wait_long_for};

#[test]
fn a_watch_goes_on_when_the_api_server_comes_back() -> Result<()> {
    let mut plane = ControlPlane::start(None)?;
    let maker = Maker::new(&plane)?;
    let (far, state) = (Arc::new(Far::default()), tempfile::tempdir()?);
    let agent = Agent::start(&plane, "n1", state.path(), EventsConfig::default(), &far);
    maker.events("before", 50, "x")?;
    wait_for("what was before", || far.count("before") == 50)?;
    plane.kill_api_server();
    wait_for("that it is said", || agent.events.view().trouble.is_some())?;
    plane.start_api_server()?;
    maker.events("after", 50, "x")?;
    wait_for("what came after", || far.count("after") == 50)?;
    wait_for("that it is over", || agent.events.view().trouble.is_none())?;
    assert!(far.events().values().all(|versions| versions.len() == 1), "each has one version");
    Ok(())
}

#[test]
fn what_etcd_has_forgotten_is_listed_and_all_of_it_is_sent() -> Result<()> {
    let mut plane = ControlPlane::start(None)?;
    let maker = Maker::new(&plane)?;
    let (far, states) = (Arc::new(Far::default()), [tempfile::tempdir()?, tempfile::tempdir()?]);
    let first = Agent::start(&plane, "n1", states[0].path(), EventsConfig::default(), &far);
    maker.events("one", 30, "x")?;
    wait_for("the first", || far.count("one") == 30)?;
    first.stop();
    // More than a page, while nobody watches; then the versions between are gone.
    maker.events("two", 700, "x")?;
    let compacted = plane.compact()?;
    ensure!(compacted > maker.position().context("a position")?);
    let second = Agent::start(&plane, "n2", states[1].path(), EventsConfig::default(), &far);
    wait_for("all of it", || far.count("two") == 700)?;
    let lists = || {
        let mut samples = taffrail_record::Gathered::default();
        second.events.metrics().ask(&mut samples).expect("figures");
        samples.value("taffrail_events_lists_total", "")
    };
    assert_eq!(lists(), Some(1.0));
    wait_for("the version of the list", || maker.position() >= Some(compacted))?;
    // While it watches, too: the server is away for as long as it takes to forget.
    plane.kill_api_server();
    plane.compact()?;
    plane.start_api_server()?;
    maker.events("three", 30, "x")?;
    wait_for("the third", || far.count("three") == 30)?;
    Ok(())
}

#[test]
fn a_full_spool_pauses_the_watch_and_nothing_is_lost() -> Result<()> {
    let plane = ControlPlane::start(None)?;
    let maker = Maker::new(&plane)?;
    let (far, state) = (Arc::new(Far::default()), tempfile::tempdir()?);
    let config = EventsConfig { spool_bytes: 4 << 20, ..EventsConfig::default() };
    let agent = Agent::start(&plane, "n1", state.path(), config, &far);
    maker.events("first", 1, "x")?;
    wait_for("that it watches", || far.count("first") == 1)?;
    far.go_away();
    // Each is in its document twice.
    maker.events("large", 300, &"m".repeat(20_000))?;
    wait_for("that it is said", || {
        agent.events.view().trouble.is_some_and(|t| t.contains("spool of events is full"))
    })?;
    ensure!(agent.events.view().spool_bytes <= 4 << 20);
    let on_disk: u64 =
        std::fs::read_dir(state.path())?.map(|e| e.and_then(|e| e.metadata()).map_or(0, |m| m.len())).sum();
    ensure!(on_disk <= (4 << 20) + (64 << 10), "{on_disk}");
    far.come_back();
    wait_for("all of it", || far.count("large") == 300)?;
    wait_for("that it is over", || agent.events.view().trouble.is_none())?;
    wait_for("a ledger that adds up", || agent.adds_up())?;
    assert!(far.events().values().all(|versions| versions.len() == 1));
    Ok(())
}

#[test]
fn an_agent_that_is_killed_sends_what_it_had_put_aside() -> Result<()> {
    let plane = ControlPlane::start(None)?;
    let maker = Maker::new(&plane)?;
    let folder = tempfile::tempdir()?;
    let mut agents = Agents::new(folder.path(), plane.kubeconfig());
    agents.start("n1")?;
    maker.events("one", 20, "x")?;
    wait_for("the first", || agents.count("one") == 20)?;
    agents.away("n1", true)?;
    for number in 0..40 {
        let name = format!("gone-{number}");
        maker.event(&name, "web-0", "soon forgotten by the API server")?;
    }
    let bytes = || -> u64 {
        let folder = std::fs::read_dir(folder.path().join("n1/state")).into_iter().flatten().flatten();
        folder.filter_map(|entry| entry.metadata().ok()).map(|m| m.len()).sum()
    };
    let mut before = 0;
    wait_for("that all is put aside", || {
        std::thread::sleep(Duration::from_millis(500));
        std::mem::replace(&mut before, bytes()) == before && before > 40_000
    })?;
    for number in 0..40 {
        maker.send(
            Method::DELETE,
            &format!("/api/v1/namespaces/default/events/gone-{number}"),
            &json!({}),
        )?;
    }
    agents.kill("n1")?;
    plane.compact()?;
    agents.away("n1", false)?;
    agents.start("n1")?;
    wait_for("what only its disk had", || agents.count("gone") == 40)?;
    maker.events("two", 20, "x")?;
    wait_for("what came later", || agents.count("two") == 20)?;
    agents.end()
}

/// Makes events all the while, and freezes or kills whoever watches.
fn contend(plane: &ControlPlane, contenders: usize, rounds: usize) -> Result<()> {
    let maker = Maker::new(plane)?;
    let folder = tempfile::tempdir()?;
    let mut agents = Agents::new(folder.path(), plane.kubeconfig());
    for number in 0..contenders {
        agents.start(&format!("n{number}"))?;
    }
    wait_for("a first one", || !maker.leader().is_empty())?;
    let mut made = 0;
    let mut led = Vec::new();
    for round in 0..rounds {
        let leader = maker.leader();
        led.push(leader.clone());
        let more = |part: &str, count| maker.events(&format!("e-{round}-{part}"), count, "x").map(|()| count);
        made += more("calm", 20)?;
        let last = version(&maker.event(&format!("e-{round}-calm-last"), "web-0", "x")?)?;
        made += 1;
        wait_for("a position that others go on from", || maker.position() >= Some(last))?;
        let successor = |old: &str| {
            wait_for("another one", || {
                let now = maker.leader();
                !now.is_empty() && now != old
            })
        };
        if round % 2 == 0 {
            agents.signal(&leader, Signal::SIGSTOP)?;
            made += more("frozen", 20)?;
            successor(&leader)?;
            made += more("other", 20)?;
            // It wakes up, and thinks for a moment that it is still the one.
            agents.signal(&leader, Signal::SIGCONT)?;
        } else {
            agents.kill(&leader)?;
            made += more("killed", 20)?;
            successor(&leader)?;
            agents.start(&leader)?;
        }
        made += more("after", 20)?;
        wait_for("all of the round", || agents.count("e-") == made)?;
    }
    let stored = agents.stored();
    let repeated: usize = stored.values().map(|times| times - 1).sum();
    println!("{made} events, {repeated} repeats of the same id; led: {led:?}");
    // Who is killed sends once more what it had not written down as confirmed; who was only asleep repeats nothing, and
    // nobody repeats what was before the position.
    let calm = |name: &str| (0..rounds).step_by(2).any(|round| name.starts_with(&format!("e-{round}-calm")));
    ensure!(stored.iter().all(|((name, _), times)| *times == 1 || !calm(name)), "{stored:?}");
    ensure!(agents.stored().len() == made, "nothing else");
    agents.end()?;
    ensure!(maker.leader().is_empty(), "released");
    Ok(())
}

#[test]
fn two_fight_for_the_lease_with_kills_and_freezes() -> Result<()> {
    contend(&ControlPlane::start(None)?, 2, 4)
}

#[test]
fn five_fight_for_the_lease_with_kills_and_freezes() -> Result<()> {
    contend(&ControlPlane::start(None)?, 5, 4)
}

#[test]
fn the_controller_of_a_pod_is_in_the_events_of_the_pod() -> Result<()> {
    let plane = ControlPlane::start(None)?;
    let maker = Maker::new(&plane)?;
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
    maker.send(Method::POST, "/api/v1/namespaces/default/serviceaccounts", &account)?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-7d4b9c6f5b-x2x9z", "labels": { "pod-template-hash": "7d4b9c6f5b" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9c6f5b",
                                  "uid": "u", "controller": true }],
        },
        "spec": { "automountServiceAccountToken": false, "containers": [{ "name": "main", "image": "x" }] },
    });
    maker.send(Method::POST, "/api/v1/namespaces/default/pods", &pod)?;
    let (far, state) = (Arc::new(Far::default()), tempfile::tempdir()?);
    let agent = Agent::start(&plane, "n1", state.path(), EventsConfig::default(), &far);
    maker.event("of-pod", "web-7d4b9c6f5b-x2x9z", "of a pod that is there")?;
    maker.event("of-none", "gone-0", "of a pod that is gone")?;
    wait_for("both", || far.count("of-") == 2)?;
    let owned = far.document("of-pod").context("stored")?;
    assert_eq!(owned["kubernetes"]["deployment"]["name"], "web");
    assert_eq!(owned["kubernetes"]["event"]["owner"], json!({ "kind": "Deployment", "name": "web" }));
    assert_eq!(far.document("of-none").context("stored")?["kubernetes"].get("deployment"), None);
    let told = agent.events.timeline(&Selector::new("deployment/web", "default")?);
    assert_eq!(told.len(), 1, "{told:?}");
    Ok(())
}

#[test]
fn a_timeline_is_the_same_from_the_api_server() -> Result<()> {
    let plane = ControlPlane::start(None)?;
    let maker = Maker::new(&plane)?;
    let mut early = event("early", "web-0", "first");
    early["lastTimestamp"] = json!("2025-12-31T00:00:00Z");
    maker.event("late", "web-0", "second")?;
    maker.send(Method::POST, "/api/v1/namespaces/default/events", &early)?;
    maker.event("other", "db-0", "of another")?;
    let names = |selector: &str| -> Result<Vec<String>> {
        let selector = Selector::new(selector, "default")?;
        let told = maker.wait(from_server(maker.server(), &selector))?;
        Ok(told.into_iter().map(|entry| entry.message).collect())
    };
    assert_eq!(names("pod/web-0")?, ["first", "second"]);
    assert_eq!(names("statefulset/web")?, ["first", "second"]);
    assert_eq!(names("node/n1")?, ["first", "second", "of another"]);
    assert!(names("pod/none")?.is_empty());
    Ok(())
}

#[test]
fn whatever_an_event_says_is_stored() -> Result<()> {
    let plane = ControlPlane::start(None)?;
    let maker = Maker::new(&plane)?;
    let (far, state) = (Arc::new(Far::default()), tempfile::tempdir()?);
    let agent = Agent::start(&plane, "n1", state.path(), EventsConfig::default(), &far);
    let message = format!("{}\u{0}\u{1b}[2J\u{202e}\"\\\u{fffd}", "é".repeat(500_000));
    maker.event("long", "web-0", &message)?;
    let mut odd = event("odd", "../../etc/passwd?x=1#", "odd names");
    odd["reason"] = json!("\u{7}\n{{}}");
    odd["metadata"]["labels"] = json!({ "app": "x", "app.kubernetes.io/name": "y" });
    odd["type"] = json!("Normal");
    maker.send(Method::POST, "/api/v1/namespaces/default/events", &odd)?;
    odd["metadata"]["name"] = json!("wide");
    odd["reason"] = json!("r".repeat(200_000));
    odd["message"] = json!("\u{1}".repeat(200_000));
    maker.send(Method::POST, "/api/v1/namespaces/default/events", &odd)?;
    let now = jiff::Timestamp::now().as_second();
    let at = |part: &str| {
        Ok::<_, jiff::Error>(format!("{}{part}", jiff::Timestamp::from_second(now)?.strftime("%FT%T")))
    };
    let (first, last) = (at(".000003Z")?, at(".000006Z")?);
    let newer = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": { "name": "newer", "namespace": "default" },
        "regarding": { "kind": "Pod", "namespace": "default", "name": "web-0" },
        "reason": "Tested", "note": "of the other shape", "action": "Testing", "type": "Warning",
        "eventTime": first, "reportingController": "tests", "reportingInstance": "t-1",
        "series": { "count": 3, "lastObservedTime": last },
    });
    let made = maker.send(Method::POST, "/apis/events.k8s.io/v1/namespaces/default/events", &newer)?;
    wait_for("all", || ["long", "odd", "wide", "newer"].iter().all(|name| far.count(name) == 1))?;
    assert_eq!(far.document("long").context("stored")?["message"].as_str(), Some(message.as_str()));
    let odd = far.document("odd").context("stored")?;
    assert_eq!(odd["kubernetes"]["pod"]["name"], "../../etc/passwd?x=1#");
    let newer = far.document("newer").context("stored")?;
    assert_eq!(newer["message"], "of the other shape");
    assert_eq!(newer["kubernetes"]["event"]["count"], 3);
    assert_eq!(newer["@timestamp"], at(".000006000Z")?);
    assert_eq!(far.events()["newer"], [version(&made)?]);
    wait_for("a ledger that adds up", || agent.adds_up())?;
    // Who shows it to people is not in his hands either.
    let told = maker.wait(from_server(maker.server(), &Selector::new("namespace/default", "default")?))?;
    let table = render(&told);
    assert!(table.len() < 100_000 && table.contains("of the other shape"), "{table}");
    Ok(())
}

#[test]
fn a_server_that_is_older_than_the_position_is_listed_anew() -> Result<()> {
    let plane = ControlPlane::start(None)?;
    let maker = Maker::new(&plane)?;
    maker.events("one", 10, "x")?;
    let (far, state) = (Arc::new(Far::default()), tempfile::tempdir()?);
    // As it is when etcd was restored from a backup: what stands in the Lease is of a time that has not come yet.
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "taffrail-events", "annotations": { "taffrail.io/events-position": "9000000000" } },
        "spec": { "holderIdentity": "" },
    });
    maker.send(Method::POST, "/apis/coordination.k8s.io/v1/namespaces/default/leases", &lease)?;
    let agent = Agent::start(&plane, "n1", state.path(), EventsConfig::default(), &far);
    wait_for("all that is there", || far.count("one") == 10)?;
    let made = version(&maker.event("two", "web-0", "x")?)?;
    wait_for("a position of this time", || {
        maker.position().is_some_and(|p| (made..9_000_000_000).contains(&p))
    })?;
    assert_eq!(far.count("two"), 1);
    let mut samples = taffrail_record::Gathered::default();
    agent.events.metrics().ask(&mut samples)?;
    assert_eq!(samples.value("taffrail_events_resets_total", ""), Some(1.0));
    Ok(())
}

#[test]
fn events_that_expire_are_stored_all_the_same() -> Result<()> {
    let plane = ControlPlane::start(Some(Duration::from_secs(5)))?;
    let maker = Maker::new(&plane)?;
    let (far, state) = (Arc::new(Far::default()), tempfile::tempdir()?);
    let agent = Agent::start(&plane, "n1", state.path(), EventsConfig::default(), &far);
    maker.events("short", 200, "x")?;
    wait_for("all of it", || far.count("short") == 200)?;
    let last = maker.position();
    let gone = || {
        maker
            .get("/api/v1/events?limit=1")
            .is_ok_and(|list| list["items"].as_array().is_some_and(Vec::is_empty))
    };
    wait_for("that they are gone", gone)?;
    wait_for("a position behind their end", || maker.position() > last)?;
    assert_eq!(far.events().values().map(Vec::len).sum::<usize>(), far.events().len());
    ensure!(agent.events.view().trouble.is_none());
    Ok(())
}

/// `TAFFRAIL_TEST_EVENTS` asks for more of them.
#[test]
fn a_backlog_costs_disk_and_no_memory_and_arrives_whole_through_failures() -> Result<()> {
    let count: usize =
        std::env::var("TAFFRAIL_TEST_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(6_000);
    let mut plane = ControlPlane::start(None)?;
    let maker = Maker::new(&plane)?;
    let folder = tempfile::tempdir()?;
    let mut agents = Agents::new(folder.path(), plane.kubeconfig());
    agents.start("n1")?;
    maker.events("first", 200, "x")?;
    wait_for("that it watches", || agents.count("first") == 200)?;
    let before = agents.peak("n1")?;
    agents.away("n1", true)?;
    let parts = 4;
    for part in 0..parts {
        maker.events(&format!("e-{part}"), count / parts, &"m".repeat(300))?;
        match part {
            0 => {
                plane.kill_api_server();
                plane.start_api_server()?;
            }
            1 => {
                let grown = agents.peak("n1")?.saturating_sub(before);
                println!("{} events waiting: {grown} KiB more than {before} KiB", count / 2);
                ensure!(grown < 10 * 1024, "{grown} KiB");
                agents.kill("n1")?;
                plane.compact()?;
                agents.start("n1")?;
            }
            _ => {}
        }
    }
    agents.away("n1", false)?;
    let made = count / parts * parts;
    let arrived = || agents.count("e-");
    wait_long_for("all of it", Duration::from_secs(120 + count as u64 / 100), || arrived() == made)?;
    println!("{} KiB at most after the restart", agents.peak("n1")?);
    agents.end()
}

#[test]
fn events_that_fit_in_no_page_together_are_listed_all_the_same() -> Result<()> {
    let plane = ControlPlane::start(None)?;
    let maker = Maker::new(&plane)?;
    maker.events("a-small", 150, "x")?;
    // Behind the small ones, in the order of a list.
    maker.events("b-huge", 80, &"m".repeat(1_000_000))?;
    let (far, state) = (Arc::new(Far::default()), tempfile::tempdir()?);
    let agent = Agent::start(&plane, "n1", state.path(), EventsConfig::default(), &far);
    wait_for("all of it", || far.count("a-small") == 150 && far.count("b-huge") == 80)?;
    wait_for("a position", || maker.position().is_some())?;
    wait_for("a ledger that adds up", || agent.adds_up())?;
    Ok(())
}
