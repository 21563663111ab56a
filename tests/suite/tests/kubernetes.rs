//! Pods of a real Kubernetes node into a real Kafka: what arrives is what they printed, while kubelet rotates,
//! compresses and deletes.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{Agent, Arrived, Mix, as_containerd_keeps_it, ensure_same, put, text, until};
use taffrail_parts::docker::Docker;
use taffrail_parts::machine::Machine;
use taffrail_parts::node::{IMAGE, Node, NodeOptions, pod};
use taffrail_parts::{Kafka, KafkaOptions};

/// One broker and one node for all tests here; they end with this process. Kubelet looks at the sizes every three
/// seconds, and keeps every file: what arrives must be all of it.
struct Parts {
    kafka: Kafka,
    node: Node,
}

static PARTS: LazyLock<Mutex<Parts>> = LazyLock::new(|| {
    let options = NodeOptions {
        log_max_size: "100Ki".to_owned(),
        log_max_files: 1000,
        log_monitor_interval: Duration::from_secs(3),
        ..NodeOptions::default()
    };
    let kafka = Kafka::start(KafkaOptions::default()).expect("a broker");
    Mutex::new(Parts { kafka, node: Node::start(options).expect("a node") })
});

/// The parts, for one test at a time.
fn parts() -> MutexGuard<'static, Parts> {
    PARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Parts {
    fn topics(&self, topic: &str) -> Result<()> {
        self.kafka.create_topic(topic, 3)?;
        self.kafka.create_topic(&format!("{topic}.ledger"), 1)
    }

    fn agent(&self, topic: &str, more: &str) -> Result<Agent> {
        let (root, links) = (self.node.pod_logs(), self.node.container_logs());
        Agent::new(&format!(
            "node: {{name: deck-1, cluster: fleet}}\ndocker: {{enabled: never}}\n\
             logs: {{kubernetes: {{root: {}, links: {}}}, partial_timeout_ms: 2000}}\n{}{more}",
            root.display(),
            links.display(),
            Agent::output(&self.kafka, topic)
        ))
    }

    /// Names of a container's log files that end so.
    fn files(&self, pod: &str, container: &str, ending: &str) -> Result<Vec<String>> {
        let folder = self.node.logs_of("default", pod)?.join(container);
        let names = fs::read_dir(folder)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<Vec<_>>>()?;
        Ok(names.into_iter().filter(|name| name.ends_with(ending)).collect())
    }

    fn asked(&self, pod: &str, path: &str) -> Result<String> {
        self.node.output(&["get", "pod", pod, "-o", &format!("jsonpath={{{path}}}")])
    }
}

/// What a program prints, in pieces with pauses between them.
struct Output {
    out: Vec<Vec<u8>>,
    err: Vec<Vec<u8>>,
}

impl Output {
    fn new(seed: u64, pieces: u64, mix: Mix) -> Self {
        let out = |piece| text(seed + piece, mix);
        let err = |piece| text(seed + 1000 + piece, Mix { bytes: mix.bytes / 4, ..mix });
        Output { out: (0..pieces).map(out).collect(), err: (0..pieces).map(err).collect() }
    }

    fn write(&self, folder: &Path) -> Result<()> {
        for (name, pieces) in [("out", &self.out), ("err", &self.err)] {
            fs::create_dir_all(folder.join(name))?;
            for (number, piece) in pieces.iter().enumerate() {
                put(&folder.join(name).join(format!("{number:03}")), piece)?;
            }
        }
        Ok(())
    }

    fn ensure_arrived(&self, arrived: &Arrived, who: &str) -> Result<()> {
        for (stream, pieces) in [("stdout", &self.out), ("stderr", &self.err)] {
            let found = arrived.stream(who, stream)?;
            ensure_same(&format!("{who} {stream}"), &found.bytes, &as_containerd_keeps_it(&pieces.concat()))?;
        }
        Ok(())
    }
}

/// A container that prints such an output.
fn printer(name: &str, pause: &str) -> Value {
    let script = format!(
        "for piece in /data/{name}/out/*; do cat $piece & cat /data/{name}/err/${{piece##*/}} >&2; wait; sleep {pause}; done"
    );
    json!({
        "name": name,
        "image": IMAGE,
        "command": ["sh", "-c", script],
        "volumeMounts": [{ "name": "data", "mountPath": "/data", "readOnly": true }],
    })
}

/// A pod of printers whose outputs lie below `folder`.
fn printers(name: &str, containers: &[Value], folder: &Path) -> Value {
    let mut pod = pod(name, "");
    pod["spec"]["containers"] = json!(containers);
    pod["spec"]["volumes"] = json!([{ "name": "data", "hostPath": { "path": folder } }]);
    pod
}

#[test]
fn what_pods_print_arrives_byte_for_byte_while_kubelet_rotates_and_compresses() -> Result<()> {
    let parts = parts();
    parts.topics("rotation")?;
    let scratch = tempfile::tempdir()?;
    let mut agent = parts.agent("rotation", "")?;
    agent.start()?;

    let main = Output::new(1, 30, Mix { bytes: 150_000, longest: 200_000, ended: true });
    let side = Output::new(5000, 30, Mix { bytes: 60_000, longest: 20_000, ended: true });
    main.write(&scratch.path().join("main"))?;
    side.write(&scratch.path().join("side"))?;
    parts.node.apply(&printers(
        "talker",
        &[printer("main", "0.6"), printer("side", "0.6")],
        scratch.path(),
    ))?;
    // Beside it, one that fails once and is started again: 0.log, then 1.log.
    let mut phoenix =
        pod("phoenix", "if [ -e /kept/ash ]; then echo second; else echo first; touch /kept/ash; exit 3; fi");
    phoenix["spec"]["restartPolicy"] = json!("OnFailure");
    phoenix["spec"]["volumes"] = json!([{ "name": "kept", "emptyDir": {} }]);
    phoenix["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "kept", "mountPath": "/kept" }]);
    parts.node.apply(&phoenix)?;
    parts.node.wait_for_pod("default", "phoenix", "Succeeded")?;
    parts.node.wait_for_pod("default", "talker", "Succeeded")?;
    let ledger = agent.settled()?;
    ensure!(ledger["total"]["lost_bytes"] == 0, "{ledger}");
    agent.stop()?;
    for (container, least) in [("main", 3), ("side", 2)] {
        let packed = parts.files("talker", container, ".gz")?;
        ensure!(packed.len() >= least, "kubelet has compressed only {packed:?} of {container}");
    }

    let arrived = Arrived::in_topic(&parts.kafka, "rotation")?;
    main.ensure_arrived(&arrived, "default/talker/main")?;
    side.ensure_arrived(&arrived, "default/talker/side")?;
    let phoenix = arrived.stream("default/phoenix/main", "stdout")?;
    assert_eq!(phoenix.messages(), ["first", "second"]);
    for (record, file) in phoenix.records.iter().zip(["0.log", "1.log"]) {
        assert!(record["log"]["file"]["path"].as_str().is_some_and(|path| path.ends_with(file)), "{record}");
    }
    assert_eq!(arrived.repeats, 0);
    Agent::verify_complete(&parts.kafka, "rotation")?;

    let uid = parts.asked("talker", ".metadata.uid")?;
    let id = parts.asked("talker", r#".status.containerStatuses[?(@.name=="side")].containerID"#)?;
    let records = &arrived.stream("default/talker/side", "stdout")?.records;
    for record in [&records[0], &records[records.len() - 1]] {
        assert_eq!(
            record["kubernetes"],
            json!({
                "namespace": "default",
                "node": { "name": "deck-1" },
                "pod": { "name": "talker", "uid": uid },
                "container": { "name": "side" },
            })
        );
        assert_eq!(record["container"]["id"].as_str(), id.strip_prefix("containerd://"));
        assert_eq!(record["orchestrator"]["cluster"]["name"], "fleet");
        assert_eq!(record["input"]["type"], "container");
        // containerd writes nanoseconds.
        let time = record["@timestamp"].as_str().context("no time")?;
        assert!(time.len() > "2026-01-01T00:00:00.000000Z".len(), "{time}");
    }
    parts.node.delete_pod("default", "talker")?;
    parts.node.delete_pod("default", "phoenix")
}

#[test]
fn an_agent_that_was_killed_catches_up_from_what_kubelet_has_compressed_meanwhile() -> Result<()> {
    let parts = parts();
    parts.topics("outage")?;
    let scratch = tempfile::tempdir()?;
    let mut agent = parts.agent("outage", "")?;
    agent.start()?;
    let main = Output::new(20_000, 40, Mix { bytes: 80_000, longest: 50_000, ended: true });
    main.write(&scratch.path().join("main"))?;
    parts.node.apply(&printers("lonely", &[printer("main", "0.5")], scratch.path()))?;
    parts.node.wait_for_pod("default", "lonely", "Running")?;
    until("the first records", || Ok(agent.ledger()?["total"]["confirmed_records"].as_u64() > Some(500)))?;
    agent.kill()?;
    // Everything that it was reading, and some that it never saw, is compressed before it lives again.
    until("three files compressed", || Ok(parts.files("lonely", "main", ".gz")?.len() >= 3))?;
    agent.start()?;
    until("more records", || Ok(agent.ledger()?["total"]["confirmed_records"].as_u64() > Some(500)))?;
    agent.stop()?;
    let before = parts.files("lonely", "main", ".gz")?.len();
    until("another file compressed", || Ok(parts.files("lonely", "main", ".gz")?.len() > before))?;
    agent.start()?;
    parts.node.wait_for_pod("default", "lonely", "Succeeded")?;
    let ledger = agent.settled()?;
    ensure!(ledger["total"]["lost_bytes"] == 0, "{ledger}");
    agent.stop()?;

    let arrived = Arrived::in_topic(&parts.kafka, "outage")?;
    main.ensure_arrived(&arrived, "default/lonely/main")?;
    Agent::verify_complete(&parts.kafka, "outage")?;
    parts.node.delete_pod("default", "lonely")
}

#[test]
fn a_pod_that_is_deleted_while_its_logs_are_unread_is_read_to_its_end() -> Result<()> {
    let parts = parts();
    parts.topics("deleted")?;
    let scratch = tempfile::tempdir()?;
    let mut agent = parts.agent("deleted", "pipeline: {memory: 1 MiB}\n")?;
    agent.start()?;
    let main = Output::new(40_000, 12, Mix { bytes: 600_000, longest: 0, ended: true });
    main.write(&scratch.path().join("main"))?;
    parts.kafka.freeze()?;
    let printed = (|| {
        parts.node.apply(&printers("brief", &[printer("main", "0.5")], scratch.path()))?;
        parts.node.wait_for_pod("default", "brief", "Succeeded")?;
        let folder = parts.node.logs_of("default", "brief")?;
        let files = parts.files("brief", "main", "")?;
        parts.node.delete_pod("default", "brief")?;
        until("the logs' deletion", || Ok(!folder.exists()))?;
        Ok::<_, anyhow::Error>((files, agent.ledger()?))
    })();
    parts.kafka.thaw()?;
    let (files, unread) = printed?;
    ensure!(files.len() >= 3, "kubelet has rotated too little: {files:?}");
    ensure!(
        unread["total"]["confirmed_bytes"].as_u64() < Some(3 << 20),
        "all had been read before: {unread}"
    );
    until("all that was held", || {
        let read = agent.ledger()?["total"]["read_bytes"].as_u64().unwrap_or_default();
        Ok(read > main.out.concat().len() as u64 + main.err.concat().len() as u64)
    })?;
    let ledger = agent.settled()?;
    ensure!(ledger["total"]["lost_bytes"] == 0, "{ledger}");
    agent.stop()?;
    let arrived = Arrived::in_topic(&parts.kafka, "deleted")?;
    main.ensure_arrived(&arrived, "default/brief/main")?;
    Agent::verify_complete(&parts.kafka, "deleted").map(drop)
}

/// The agent where a node and an engine have their usual places: in a mount namespace of its own, in which nothing is
/// made outside of mounts that end with it.
fn at_home(node: &Node, engine: &Docker, state: &Path, arguments: &str) -> Result<Command> {
    let script = format!(
        "set -e; mount --bind {state} /var/lib\n\
         mount --bind {run} /run; mount --bind {log} /var/log; exec {program} {arguments}",
        state = state.display(),
        run = engine.socket().parent().context("no folder")?.display(),
        log = node.pod_logs().parent().context("no folder")?.display(),
        program = taffrail_suite::program()?.display(),
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TAFFRAIL_")) {
        command.env_remove(name);
    }
    Ok(command)
}

#[test]
fn without_configuration_the_machines_containers_are_found_and_announced() -> Result<()> {
    let parts = parts();
    let machine = Machine::now();
    let engine = Docker::start()?;
    engine.run_detached(&[
        "--name",
        "tug",
        taffrail_parts::docker::IMAGE,
        "sh",
        "-c",
        "echo from docker; sleep 600",
    ])?;
    engine.run_detached(&[
        "--name",
        "mute",
        "--log-driver",
        "none",
        taffrail_parts::docker::IMAGE,
        "sleep",
        "600",
    ])?;
    parts.node.apply(&pod("ferry", "echo from kubernetes; sleep 600"))?;
    parts.node.wait_for_pod("default", "ferry", "Running")?;

    let scratch = tempfile::tempdir()?;
    let mut agent = Agent::new("")?;
    let mut run = at_home(&parts.node, &engine, scratch.path(), "run")?;
    run.env("TAFFRAIL_HTTP__LISTEN", "127.0.0.1:0");
    agent.start_by(run)?;
    let announced = agent.said("taffrail is running")?.remove(0);
    assert_eq!(announced["output"], "files in /var/lib/taffrail/records");
    let pods = announced["kubernetes"].as_str().context("nothing about Kubernetes")?;
    assert!(pods.starts_with("/var/log/pods: ") && !pods.contains(" 0 "), "{pods}");
    let docker = announced["docker"].as_str().context("nothing about Docker")?;
    assert!(docker.ends_with(", 1 container followed, 1 without a log file"), "{docker}");
    assert_eq!(agent.said("the logs of a container are not read")?.len(), 1);

    let folder = scratch.path().join("taffrail/records");
    let arrived = || -> Result<Arrived> {
        let mut arrived = Arrived::default();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("logs-")) {
                let text = fs::read(path)?;
                let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                text[..whole]
                    .split_inclusive(|byte| *byte == b'\n')
                    .try_for_each(|line| arrived.take(line))?;
            }
        }
        Ok(arrived)
    };
    until("both containers' lines", || {
        Ok(folder.exists() && {
            let arrived = arrived()?;
            arrived.owners().contains(&"tug") && arrived.owners().contains(&"default/ferry/main")
        })
    })?;
    assert_eq!(arrived()?.stream("tug", "stdout")?.messages(), ["from docker"]);
    assert_eq!(arrived()?.stream("default/ferry/main", "stdout")?.messages(), ["from kubernetes"]);

    let check = at_home(&parts.node, &engine, scratch.path(), "check --offline --json")?.output()?;
    let report: Value = serde_json::from_slice(&check.stdout)
        .with_context(|| String::from_utf8_lossy(&check.stderr).into_owned())?;
    let details = report["findings"].to_string();
    assert!(details.contains("2 containers, 1 with a log file"), "{details}");
    assert!(details.contains("mute is not read: its log driver `none` discards its logs"), "{details}");
    agent.stop()?;
    parts.node.delete_pod("default", "ferry")?;
    drop(engine);
    assert_eq!(Machine::now(), machine);
    Ok(())
}
