//! The events of a real cluster: its API server and etcd, with failures on purpose.

mod failures;
mod process;
mod support;

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::json;
use support::{Agent, Far, Maker, event, version, wait_for};
use taffrail_events::{EventsConfig, Role, Selector};
use taffrail_parts::node::ControlPlane;

#[test]
fn every_version_of_an_event_is_stored_and_the_position_follows() -> Result<()> {
    let plane = ControlPlane::start(None)?;
    let maker = Maker::new(&plane)?;
    let before = version(&maker.event("before", "web-0", "made before anybody watched")?)?;
    let (far, state) = (Arc::new(Far::default()), tempfile::tempdir()?);
    let agent = Agent::start(&plane, "n1", state.path(), EventsConfig::default(), &far);
    wait_for("what was there before", || far.count("before") == 1)?;

    let mut made = maker.event("changing", "web-0", "first")?;
    let first = version(&made)?;
    made["count"] = json!(2);
    made["message"] = json!("second");
    let second = version(&maker.send(Method::PUT, "/api/v1/namespaces/default/events/changing", &made)?)?;
    wait_for("both versions", || {
        far.events().get("changing").is_some_and(|versions| *versions == [first, second])
    })?;
    wait_for("the position in the Lease", || maker.position().is_some_and(|position| position >= second))?;
    assert_eq!(far.events()["before"], [before]);

    maker.send(Method::DELETE, "/api/v1/namespaces/default/events/changing", &json!({}))?;
    let after = version(&maker.event("after", "web-0", "third")?)?;
    wait_for("what came after", || far.events().get("after").is_some_and(|versions| *versions == [after]))?;
    assert_eq!(far.events()["changing"], [first, second], "that it went is no observation");
    wait_for("a ledger that adds up", || agent.adds_up())?;

    let uid = maker.get("/api/v1/namespaces/kube-system")?["metadata"]["uid"].clone();
    let document = far.document("after").context("stored")?;
    assert_eq!(document["orchestrator"]["cluster"], json!({ "name": "test", "id": uid }));
    assert_eq!(document["kubernetes"]["pod"], json!({ "name": "web-0", "uid": "u-1" }));
    let view = agent.events.view();
    assert_eq!((view.role, view.trouble.as_deref()), (Role::Leader, None));
    let told = agent.events.timeline(&Selector::new("pod/web-0", "default")?);
    assert_eq!(told.len(), 3, "{told:?}");

    agent.stop();
    let lease = maker.lease()?;
    assert_eq!(lease["spec"]["holderIdentity"], "", "released");
    ensure!(maker.position().context("a position")? >= after);
    Ok(())
}

#[test]
fn who_comes_next_goes_on_from_the_position_and_sends_nothing_again() -> Result<()> {
    let plane = ControlPlane::start(None)?;
    let maker = Maker::new(&plane)?;
    let (far, states) = (Arc::new(Far::default()), [tempfile::tempdir()?, tempfile::tempdir()?]);
    let first = Agent::start(&plane, "n1", states[0].path(), EventsConfig::default(), &far);
    maker.events("one", 20, "while the first watches")?;
    wait_for("the first twenty", || far.count("one") == 20)?;
    first.stop();
    maker.events("two", 20, "while nobody watches")?;
    let later = Arc::new(Far::default());
    let second = Agent::start(&plane, "n2", states[1].path(), EventsConfig::default(), &later);
    wait_for("the second twenty", || later.count("two") == 20)?;
    assert_eq!(later.count("one"), 0, "{:?}", later.events().keys());
    second.stop();
    Ok(())
}

#[test]
fn what_rules_leave_out_is_counted_and_the_position_passes_it() -> Result<()> {
    let plane = ControlPlane::start(None)?;
    let maker = Maker::new(&plane)?;
    let (far, state) = (Arc::new(Far::default()), tempfile::tempdir()?);
    let mut config = EventsConfig::default();
    config.reasons.exclude = vec!["Test*".to_owned()];
    let agent = Agent::start(&plane, "n1", state.path(), config, &far);
    let mut kept = event("kept", "web-0", "of another reason");
    kept["reason"] = json!("Kept");
    maker.send(Method::POST, "/api/v1/namespaces/default/events", &kept)?;
    wait_for("what no rule leaves out", || far.count("kept") == 1)?;
    let left_out = version(&maker.event("left-out", "web-0", "")?)?;
    wait_for("the position", || maker.position().is_some_and(|position| position >= left_out))?;
    assert_eq!(far.count("left-out"), 0);
    let mut samples = taffrail_record::Gathered::default();
    agent.events.metrics().ask(&mut samples)?;
    assert_eq!(samples.value("taffrail_events_filtered_total", "rule=\"reason\""), Some(1.0));
    Ok(())
}
