//! The Kubernetes node itself: what other tests rely on when they name it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use taffrail_parts::machine::{Machine, traces};
use taffrail_parts::node::{NAME, Node, NodeOptions, pod};

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[test]
fn what_pods_print_is_in_their_logs_and_nothing_is_left_afterwards() -> Result<()> {
    let before = Machine::now();
    let node = Node::start(NodeOptions::default())?;

    node.apply(&pod("talker", "echo ahoy; echo reef >&2"))?;
    node.wait_for_pod("default", "talker", "Succeeded")?;
    let log = fs::read_to_string(node.logs_of("default", "talker")?.join("main/0.log"))?;
    let mut lines: Vec<(&str, &str, &str)> = Vec::new();
    for line in log.lines() {
        let mut fields = line.splitn(4, ' ').skip(1);
        let mut next = || fields.next().context("not a line of the CRI format");
        lines.push((next()?, next()?, next()?));
    }
    lines.sort_unstable();
    assert_eq!(lines, [("stderr", "F", "reef"), ("stdout", "F", "ahoy")]);
    assert_eq!(node.output(&["logs", "talker"])?.lines().count(), 2, "through the API server and kubelet");
    assert_eq!(names(&node.container_logs())?.len(), 1);

    node.create_namespace("harbour")?;
    let mut sleeper = pod("sleeper", "exec sleep 600");
    sleeper["metadata"]["namespace"] = "harbour".into();
    node.apply(&sleeper)?;
    node.wait_for_pod("harbour", "sleeper", "Running")?;
    assert_eq!(
        node.output(&["--namespace", "harbour", "exec", "sleeper", "--", "hostname"])?.lines().count(),
        1
    );
    let image = node.output(&["get", "node", NAME, "-o", "jsonpath={.status.nodeInfo.kubeletVersion}"])?;
    assert!(image.starts_with("v1."), "{image}");

    let folder = node.log().parent().context("no folder")?.to_owned();
    let during = traces(&folder);
    assert!(during.iter().any(|trace| trace.contains("sleep 600")), "{during:#?}");
    assert_eq!(Machine::now(), before, "while the node runs");
    drop(node);
    assert_eq!(traces(&folder), Vec::<String>::new());
    assert_eq!(Machine::now(), before);
    Ok(())
}

#[test]
fn kubelet_rotates_and_compresses_a_log_that_grows() -> Result<()> {
    let node = Node::start(NodeOptions {
        log_max_size: "32Ki".into(),
        log_max_files: 4,
        log_monitor_interval: Duration::from_secs(3),
        ..NodeOptions::default()
    })?;
    node.apply(&pod("talker", "while :; do seq 1 300; sleep 0.3; done"))?;
    node.wait_for_pod("default", "talker", "Running")?;
    let folder = node.logs_of("default", "talker")?.join("main");
    let start = Instant::now();
    loop {
        let files = names(&folder)?;
        let rotated =
            |ending: &str| files.iter().any(|name| name.starts_with("0.log.") && name.ends_with(ending));
        if rotated(".gz") && files.iter().any(|name| name.starts_with("0.log.") && !name.ends_with(".gz")) {
            break;
        }
        ensure!(start.elapsed() < Duration::from_secs(180), "no rotated and compressed files in {files:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    node.delete_pod("default", "talker")
}

#[test]
fn with_controllers_a_deployment_gets_its_pod() -> Result<()> {
    let node = Node::start(NodeOptions { controllers: true, ..NodeOptions::default() })?;
    let mut template = pod("unused", "exec sleep 600");
    let spec = template["spec"].as_object_mut().context("no spec")?;
    spec.remove("nodeName");
    spec.remove("restartPolicy");
    let spec = template["spec"].take();
    let labels = serde_json::json!({ "app": "anchor" });
    node.apply(&serde_json::json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "anchor", "namespace": "default" },
        "spec": { "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": spec } },
    }))?;
    node.output(&["rollout", "status", "deployment/anchor", "--timeout=60s"])?;
    Ok(())
}
