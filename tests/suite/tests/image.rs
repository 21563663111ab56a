//! The image that `deploy/image/build` makes, alone and on a real node as the manifests in `deploy/kubernetes` run it. What is
//! packed is the program under test, with the libraries it is linked to; by itself the script packs a static one.

mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{Agent, Arrived, Bpffs, has_series, until};
use taffrail_parts::docker::Docker;
use taffrail_parts::node::{IMAGE, Node, NodeOptions};
use taffrail_parts::search::{SearchEngine, SearchOptions};
use taffrail_parts::{Kafka, KafkaOptions};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Builds the image with this engine, and writes it to an archive.
fn build(engine: &Docker, archive: &Path) -> Result<()> {
    let mut build = Command::new(project("deploy/image/build"));
    build.env("DOCKER_HOST", engine.host()).arg("--program").arg(taffrail_suite::program()?);
    let output = build.args(["--tag", TAG, "--save"]).arg(archive).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// As the manifest names it.
const TAG: &str = "taffrail:0.1.0";

#[test]
fn the_image_runs_without_rights_and_has_the_program_and_no_shell() -> Result<()> {
    let engine = Docker::start()?;
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("image.tar");
    build(&engine, &archive)?;
    let inspected: Value = serde_json::from_str(&engine.output(&["image", "inspect", TAG])?)?;
    let (size, config) = (&inspected[0]["Size"], &inspected[0]["Config"]);
    ensure!(size.as_u64().is_some_and(|size| size < 150_000_000), "{size} bytes");
    let labels = &config["Labels"];
    let label = |name: &str| labels[format!("org.opencontainers.image.{name}")].as_str().unwrap_or_default();
    ensure!(label("version") == env!("CARGO_PKG_VERSION") && label("title") == "taffrail", "{labels}");
    // Where the project lies without its history, nobody knows.
    let git = Command::new("git").arg("-C").arg(project(".")).args(["rev-parse", "HEAD"]).output();
    let head = git
        .ok()
        .filter(|git| git.status.success())
        .map(|git| String::from_utf8_lossy(&git.stdout).into_owned());
    let head = head.as_deref().map_or("unknown", str::trim);
    ensure!(label("revision").trim_end_matches("-dirty") == head, "{labels}");
    ensure!(config["User"] == "0:0" && config["Cmd"] == json!(["run"]), "{config}");

    let alone = ["run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", TAG];
    let run = |arguments: &[&str]| engine.docker(&[&alone[..], arguments].concat()).output();
    let version = run(&["--version"])?;
    ensure!(version.stdout.starts_with(b"taffrail "), "{version:?}");
    // It says what it misses, and not that it cannot be run.
    let check = run(&["check", "--offline"])?;
    let said = String::from_utf8_lossy(&check.stdout);
    ensure!(said.contains("/var/lib/taffrail"), "{check:?}");

    engine.output(&["create", "--name", "opened", TAG])?;
    let exported = folder.path().join("root.tar");
    engine.output(&["export", "--output", &exported.to_string_lossy(), "opened"])?;
    let listed = Command::new("tar").arg("-tf").arg(&exported).output()?;
    let files = String::from_utf8_lossy(&listed.stdout).into_owned();
    let programs: Vec<&str> =
        files.lines().filter(|name| name.contains("bin/") && !name.ends_with('/')).collect();
    ensure!(programs == ["usr/bin/taffrail"], "{programs:?}");
    Ok(())
}

/// The manifest as somebody edits it before applying it: brokers of theirs, and here also the node's network, since pods of
/// this node have no other.
fn manifest(kafka: &Kafka, engine: &SearchEngine, port: u16) -> Result<String> {
    let mut text = std::fs::read_to_string(project("deploy/kubernetes/taffrail.yaml"))?;
    let (brokers, listen) = (kafka.bootstrap(), format!("listen: 127.0.0.1:{port}"));
    let probed = "httpGet:\n              host: 127.0.0.1\n".to_owned();
    for (given, wanted) in [
        (
            "brokers: [kafka.kafka.svc:9092]",
            format!(
                "brokers: ['{brokers}']\n        topic: pods\n        ledger_topic: pods.ledger\n        audit_topic: pods.audit"
            ),
        ),
        ("listen: 0.0.0.0:9126", listen),
        (
            "    docker:\n      enabled: never",
            format!(
                "    elasticsearch: {{hosts: ['{}'], flush_ms: 100}}\n    docker:\n      enabled: never",
                engine.url()
            ),
        ),
        ("containerPort: 9126", format!("containerPort: {port}")),
        ("httpGet:\n", probed),
        ("hostPID: true", "hostPID: true\n      hostNetwork: true".to_owned()),
    ] {
        ensure!(text.contains(given), "no {given:?} in the manifest");
        text = text.replace(given, &wanted);
    }
    Ok(text + "\n---\n" + &std::fs::read_to_string(project("deploy/kubernetes/rbac.yaml"))?)
}

/// A Deployment of one pod.
fn deployment(name: &str, image: &str, script: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "hostNetwork": true, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
                    "containers": [
                        {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]},
                    ],
                },
            },
        },
    })
}

/// Numbered lines for about half a minute.
const TALK: &str = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; [ $((i % 50)) -gt 0 ] || sleep 0.5; done; sleep 1000";

/// With the patch of the manifests, and no right beyond what that gives, what is done in a pod is told whole.
fn audits(
    node: &Node,
    kafka: &Kafka,
    bpffs: &Bpffs,
    rolled_out: impl Fn() -> Result<()>,
    page: impl Fn(&str) -> Result<String>,
) -> Result<()> {
    const COMMAND: &str = "cd /tmp; /bin/ls / > /dev/null; exit 3";
    let patch = std::fs::read_to_string(project("deploy/kubernetes/exec-audit.yaml"))?;
    let pinned = "path: /sys/fs/bpf\n            type: Directory";
    ensure!(patch.contains(pinned), "no {pinned:?} in the patch");
    let patch = patch.replace(pinned, &format!("path: {}", bpffs.path().display()));
    node.output(&["--namespace", "taffrail", "patch", "daemonset", "taffrail", "--patch", &patch])?;
    rolled_out()?;
    let agent = ["--namespace", "taffrail", "exec", "daemonset/taffrail", "--", "taffrail"];
    let check = node.kubectl(&[&agent[..], &["check", "--offline"]].concat()).output()?;
    let said = String::from_utf8_lossy(&check.stdout);
    ensure!(said.contains("by the probe in the kernel"), "{said}");
    until("the probe in the kernel", || {
        Ok(page("/metrics")?.contains("taffrail_audit_tier{tier=\"probe\"} 1"))
    })
    .with_context(|| {
        node.output(&["--namespace", "taffrail", "logs", "daemonset/taffrail"]).unwrap_or_default()
    })?;
    let exec = node.kubectl(&["exec", "deployment/talker", "--", "sh", "-c", COMMAND]).output()?;
    ensure!(exec.status.code() == Some(3), "{}", String::from_utf8_lossy(&exec.stderr));
    let mut documents: Vec<Value> = Vec::new();
    until("the session", || {
        documents.clear();
        kafka.consume("pods.audit", |record| {
            documents.push(serde_json::from_slice(&record.value.context("a document without a value")?)?);
            Ok(())
        })?;
        Ok(documents.iter().any(|document| {
            document["event"]["action"] == "session-ended" && document["process"]["args"][2] == COMMAND
        }))
    })?;
    let end = documents
        .iter()
        .find(|document| {
            document["event"]["action"] == "session-ended" && document["process"]["args"][2] == COMMAND
        })
        .context("no end")?;
    ensure!(end["audit"]["session"]["complete"] == true && end["audit"]["session"]["execs"] == 2, "{end:#}");
    ensure!(
        end["kubernetes"]["deployment"]["name"] == "talker" && end["process"]["exit_code"] == 3,
        "{end:#}"
    );
    ensure!(end["audit"]["session"]["origin"] == "exec", "{end:#}");
    ensure!(std::fs::read_dir(bpffs.path())?.count() > 0, "nothing is pinned");
    // The agent's own command tells it on the node, too.
    let listed = node.output(&[&agent[..], &["sessions"]].concat())?;
    ensure!(listed.contains("default/talker-") && listed.contains("/bin/ls /"), "{listed}");
    Ok(())
}

#[test]
fn the_manifests_run_it_on_a_node_with_its_own_token_and_an_update_loses_nothing() -> Result<()> {
    let kafka = Kafka::start(KafkaOptions::default())?;
    kafka.create_topic("pods", 3)?;
    kafka.create_topic("pods.ledger", 1)?;
    kafka.create_topic("pods.audit", 1)?;
    let engine = SearchEngine::opensearch(SearchOptions::default())?;
    // Before the node, which has the machine's mounts of its start.
    let bpffs = Bpffs::mount()?;
    let node = Node::start(NodeOptions { controllers: true, ..NodeOptions::default() })?;
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("image.tar");
    build(&Docker::start()?, &archive)?;
    node.load_image(&archive)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    support::apply(node.kubectl(&["apply", "-f", "-"]), &manifest(&kafka, &engine, port)?)?;
    let rolled_out = || -> Result<()> {
        let rollout =
            ["--namespace", "taffrail", "rollout", "status", "daemonset/taffrail", "--timeout=120s"];
        let state = || {
            let asked = node.output(&["--namespace", "taffrail", "describe", "pods"]).unwrap_or_default();
            let logs = ["--namespace", "taffrail", "logs", "daemonset/taffrail"];
            format!("{asked}\n{}", node.output(&logs).unwrap_or_default())
        };
        node.output(&rollout).map(drop).with_context(state)
    };
    rolled_out()?;

    node.apply(&deployment("talker", IMAGE, TALK))?;
    node.apply(&deployment("crashing", IMAGE, "echo about to fail; exit 3"))?;
    // Nobody answers there.
    node.apply(&deployment("absent", "127.0.0.1:9/nowhere:1", "true"))?;
    let page = |path: &str| support::page(([127, 0, 0, 1], port).into(), path);
    until("a scrape that has the pod", || {
        let pods = page("/metrics/pods")?;
        let groups = page("/metrics/cadvisor")?;
        Ok(pods.contains("created_by_kind=\"ReplicaSet\"")
            && ["container_cpu_usage_seconds_total", "container_memory_working_set_bytes"]
                .iter()
                .all(|family| has_series(&groups, family, &["pod=\"talker-"])))
    })?;
    until("why the others do not run, in the counters", || {
        let pods = page("/metrics/pods")?;
        let waits = |labels: &[&str]| has_series(&pods, "kube_pod_container_status_waiting_reason", labels);
        let unpulled = |reason: &str| waits(&["pod=\"absent-", reason]);
        let ended = ["pod=\"crashing-", "exit_code=\"3\""];
        Ok((unpulled("reason=\"ErrImagePull\"") || unpulled("reason=\"ImagePullBackOff\""))
            && waits(&["pod=\"crashing-", "reason=\"CrashLoopBackOff\""])
            && has_series(&pods, "taffrail_pod_container_terminations_total", &ended))
    })?;
    until("the same, in the search engine", || {
        engine.ask("POST", "/taffrail-events-*/_refresh", None)?;
        let documents = engine.documents("taffrail-events-*").unwrap_or_default();
        let told = |owner: &str, reason: &str| {
            documents.iter().any(|(_, document)| {
                document["kubernetes"]["deployment"]["name"] == owner && document["event"]["reason"] == reason
            })
        };
        Ok(told("crashing", "BackOff") && told("absent", "Failed"))
    })?;
    let own = page("/metrics")?;
    ensure!(own.contains("taffrail_pods_stale_seconds 0"), "{own}");
    ensure!(!own.contains("outcome=\"forbidden\""), "{own}");

    // While it prints, everything is replaced: the old pod ends, the new one goes on where that was.
    node.output(&["--namespace", "taffrail", "rollout", "restart", "daemonset/taffrail"])?;
    rolled_out()?;
    until("the last line", || {
        let arrived = Arrived::in_topic(&kafka, "pods")?;
        let talker = arrived.stream_of("default/talker-", "stdout");
        Ok(talker.is_ok_and(|talker| talker.messages().last() == Some(&"line 3000")))
    })?;
    // Nor has it lost an event.
    let outside = Agent::new(&format!(
        "elasticsearch: {{hosts: ['{}']}}\nkubernetes: {{api: {{kubeconfig: {}}}}}\n",
        engine.url(),
        node.kubeconfig().display()
    ))?;
    until("every event to be stored", || {
        Ok(outside.command("events")?.args(["verify", "--patience", "5"]).status()?.success())
    })?;
    audits(&node, &kafka, &bpffs, rolled_out, page)?;
    node.output(&["--namespace", "taffrail", "delete", "daemonset", "taffrail"])?;

    let arrived = Arrived::in_topic(&kafka, "pods")?;
    let talker = arrived.stream_of("default/talker-", "stdout")?;
    let expected: Vec<String> = (1..=3000).map(|number| format!("line {number}")).collect();
    ensure!(talker.messages() == expected, "{} lines", talker.messages().len());
    let record = &talker.records[2999];
    ensure!(record["kubernetes"]["deployment"]["name"] == "talker", "{record:#}");
    ensure!(record["kubernetes"]["labels"]["app"] == "talker", "{record:#}");
    ensure!(arrived.stream_of("default/crashing-", "stdout")?.messages().contains(&"about to fail"));
    ensure!(record["orchestrator"]["cluster"]["name"] == "my-cluster", "{record:#}");
    Agent::verify_complete(&kafka, "pods")?;
    Ok(())
}
