//! Who comes into the containers of a real Kubernetes node: people are told from what kubelet does by itself, while it does that all
//! the while.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{Agent, Bpffs, put, until_within};
use taffrail_parts::node::{IMAGE, NAME, Node, NodeOptions};
use taffrail_parts::terminal;

const PATIENCE: Duration = Duration::from_secs(120);

fn agent(node: &Node, bpffs: &Path, more: &str) -> Result<Agent> {
    Agent::new(&format!(
        "node: {{name: '{NAME}', cluster: fleet}}\ndocker: {{enabled: never}}\ncri: {{socket: {}}}\n\
         logs: {{kubernetes: {{root: {}, links: {}}}}}\nkubernetes: {{api: {{kubeconfig: {}}}}}\n\
         audit: {{enabled: true, bpffs: {}{more}\n",
        node.runtime().display(),
        node.pod_logs().display(),
        node.container_logs().display(),
        node.kubeconfig().display(),
        bpffs.display(),
    ))
}

/// The documents of the audit that the agent has written, each once.
fn documents(agent: &Agent) -> Result<Vec<Value>> {
    let mut files: Vec<PathBuf> = fs::read_dir(agent.directory().join("state/records"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("audit-")));
    files.sort();
    let mut seen = BTreeSet::new();
    let mut documents = Vec::new();
    for file in files {
        let lines = fs::read_to_string(file)?;
        let read = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        documents.extend(read.filter(|document| seen.insert(document["event"]["id"].to_string())));
    }
    Ok(documents)
}

/// What sessions that have ended say of themselves, with these command lines.
fn ended(documents: &[Value], command: &str) -> Vec<Value> {
    let is_it = |document: &&Value| {
        document["event"]["action"] == "session-ended" && document["process"]["command_line"] == command
    };
    documents.iter().filter(is_it).cloned().collect()
}

/// So many sessions that began so, once they have ended.
fn sessions(agent: &Agent, command: &str, least: usize) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    let waited = until_within(PATIENCE, &format!("the end of {least} sessions of {command:?}"), || {
        found = ended(&documents(agent)?, command);
        Ok(found.len() >= least)
    });
    let all = documents(agent)?;
    let said: Vec<&Value> = all.iter().rev().take(20).map(|document| &document["message"]).collect();
    waited.with_context(|| format!("the last that was told: {said:?}"))?;
    Ok(found)
}

fn is_of(session: &Value, origin: &str, container: &str) -> Result<()> {
    ensure!(
        session["audit"]["session"]["origin"] == origin
            && session["audit"]["session"]["complete"] == true
            && session["kubernetes"]["container"]["name"] == container
            && session["kubernetes"]["pod"]["name"] == "shop",
        "{origin} in {container}: {session:#}"
    );
    Ok(())
}

/// A pod that kubelet looks after with commands of all kinds, one of them a script.
fn shop(scripts: &Path) -> Value {
    let looks = |command: &[&str]| json!({"exec": {"command": command}, "periodSeconds": 1});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {
            "nodeName": NAME, "hostNetwork": true, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 5,
            "volumes": [{"name": "scripts", "hostPath": {"path": scripts}}],
            "containers": [{
                "name": "app", "image": IMAGE, "command": ["sleep", "100000"],
                "env": [{"name": "WHERE", "value": "/etc/hostname"}],
                "volumeMounts": [{"name": "scripts", "mountPath": "/scripts"}],
                "livenessProbe": looks(&["cat", "$(WHERE)"]),
                "readinessProbe": looks(&["/scripts/ready.sh", "now"]),
                "lifecycle": {
                    "postStart": {"exec": {"command": ["sh", "-c", "echo started"]}},
                    "preStop": {"exec": {"command": ["sh", "-c", "echo stopping"]}},
                },
            }],
        },
    })
}

#[test]
fn people_are_told_from_what_kubelet_does_by_itself() -> Result<()> {
    let node = Node::start(NodeOptions::default())?;
    let bpffs = Bpffs::mount()?;
    let mut agent = agent(
        &node,
        bpffs.path(),
        ", policies: [{origins: [hook], record: commands}]}\nmetrics: {containers: {enabled: false}}",
    )?;
    agent.start()?;
    until_within(PATIENCE, "the probe in the kernel", || {
        Ok(agent.metric("taffrail_audit_tier{tier=\"probe\"}")? == Some(1.0))
    })?;
    let scripts = tempfile::tempdir()?;
    put(&scripts.path().join("ready.sh"), b"#!/bin/sh\ntest \"$1\" = now\n")?;
    Command::new("chmod").args(["-R", "755"]).arg(scripts.path()).status()?;
    node.apply(&shop(scripts.path()))?;
    node.wait_for_pod("default", "shop", "Running")?;

    // Kubelet's own, each of its kind: also one that runs before anybody is told of its container, and a script.
    is_of(&sessions(&agent, "sh -c 'echo started'", 1)?[0], "hook", "app")?;
    for probe in sessions(&agent, "cat /etc/hostname", 3)? {
        is_of(&probe, "probe", "app")?;
    }
    for probe in sessions(&agent, "/bin/sh /scripts/ready.sh now", 3)? {
        is_of(&probe, "probe", "app")?;
    }

    // Somebody, who does the like of it, and somebody with a terminal, who does the same.
    node.output(&["exec", "shop", "--", "cat", "/etc/hosts"])?;
    is_of(&sessions(&agent, "cat /etc/hosts", 1)?[0], "exec", "app")?;
    let (kubectl, config) = (node.kubectl_line(), node.kubeconfig());
    let line = format!("{kubectl} --kubeconfig={} exec -it shop -- cat /etc/hostname", config.display());
    terminal::shown(&line, &[])?;
    until_within(PATIENCE, "the session with a terminal", || {
        let all = ended(&documents(&agent)?, "cat /etc/hostname");
        Ok(all.iter().any(|session| {
            session["audit"]["session"]["origin"] == "exec" && !session["process"]["tty"]["name"].is_null()
        }))
    })?;

    // Somebody looks into the pod by a container of their own: that is a session from its first program on.
    node.output(&[
        "debug",
        "shop",
        "--image",
        IMAGE,
        "--container",
        "looker",
        "--image-pull-policy",
        "Never",
        "--",
        "sh",
        "-c",
        "/bin/ls /proc/1; sleep 4; /bin/hostname; exit 3",
    ])?;
    let debug = &sessions(&agent, "sh -c '/bin/ls /proc/1; sleep 4; /bin/hostname; exit 3'", 1)?[0];
    is_of(debug, "debug", "looker")?;
    ensure!(debug["process"]["exit_code"] == 3, "{debug:#}");
    let id = debug["audit"]["session"]["id"].as_str().context("no id")?;
    let all = documents(&agent)?;
    let of: Vec<&Value> = all.iter().filter(|document| document["audit"]["session"]["id"] == id).collect();
    let commands: Vec<&str> = of
        .iter()
        .filter(|document| document["event"]["action"] == "exec")
        .filter_map(|document| document["process"]["command_line"].as_str())
        .collect();
    ensure!(
        commands.len() == 4 && commands[1..] == ["/bin/ls /proc/1", "sleep 4", "/bin/hostname"],
        "{commands:?}"
    );

    // Its end has a hook, too; and everything is there.
    node.delete_pod("default", "shop")?;
    is_of(&sessions(&agent, "sh -c 'echo stopping'", 1)?[0], "hook", "app")?;
    let listed = agent.command("sessions")?.args(["--origin", "debug"]).output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(listed.contains("default/shop/looker") && !listed.contains("/app"), "{listed}");
    agent.stop()?;
    let output = agent.command("verify")?.arg("--json").output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(report["audit"]["complete"] == true, "{report:#}");
    Ok(())
}

/// Of a session that is known by the engine's word: whose it is, how it ended, and what is said to be missing of it.
fn is_by_the_engine(session: &Value, code: Option<i64>) -> Result<()> {
    let told = &session["audit"]["session"];
    ensure!(
        told["origin"] == "exec"
            && told["complete"] == false
            && told["gaps"].to_string().contains("tells of no others")
            && session["process"]["exit_code"].as_i64() == code
            && session["process"]["pid"].as_u64() > Some(0)
            && session["user"]["id"] == "0"
            && session["kubernetes"]["container"]["name"] == "app"
            && session["kubernetes"]["pod"]["name"] == "shop",
        "{session:#}"
    );
    Ok(())
}

#[test]
fn where_the_kernel_is_not_to_be_asked_containerd_tells_whom_it_lets_in() -> Result<()> {
    let node = Node::start(NodeOptions::default())?;
    let bpffs = Bpffs::mount()?;
    node.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop", "namespace": "default"},
        "spec": {
            "nodeName": NAME, "hostNetwork": true, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": IMAGE, "command": ["sleep", "100000"]}],
        },
    }))?;
    node.wait_for_pod("default", "shop", "Running")?;
    let mut before = node.kubectl(&["exec", "shop", "--", "sleep", "15"]).spawn()?;
    std::thread::sleep(Duration::from_secs(3));

    // As an agent on the node would see them.
    let more = format!(
        ", tier: runtime}}\nmetrics: {{containers: {{enabled: false}}, procfs: {}}}",
        node.proc().display()
    );
    let mut agent = agent(&node, bpffs.path(), &more)?;
    agent.start()?;
    until_within(PATIENCE, "containerd's word", || {
        Ok(agent.metric("taffrail_audit_tier{tier=\"runtime\"}")? == Some(1.0))
    })?;
    let script = "sleep 1; exit 5";
    let status = node.kubectl(&["exec", "shop", "--", "sh", "-c", script]).status()?;
    ensure!(status.code() == Some(5), "{status}");
    let told = &sessions(&agent, "sh -c 'sleep 1; exit 5'", 1)?[0];
    is_by_the_engine(told, Some(5))?;
    ensure!(told["process"]["args"] == json!(["sh", "-c", script]), "{told:#}");
    // Who is gone before anybody could look is told all the same.
    node.output(&["exec", "shop", "--", "true"])?;
    until_within(PATIENCE, "the short one", || {
        let all = documents(&agent)?;
        let ends = all.iter().filter(|document| document["event"]["action"] == "session-ended");
        Ok(ends.count() >= 2)
    })?;
    before.wait()?;
    let told = &sessions(&agent, "sleep 15", 1)?[0];
    is_by_the_engine(told, Some(0))?;
    ensure!(told["audit"]["session"]["adopted"] == true, "{told:#}");

    // With its container.
    let mut killed = node.kubectl(&["exec", "shop", "--", "sleep", "1000"]).spawn()?;
    until_within(PATIENCE, "its beginning", || {
        Ok(documents(&agent)?.iter().any(|document| document["process"]["args"] == json!(["sleep", "1000"])))
    })?;
    node.delete_pod("default", "shop")?;
    killed.wait()?;
    sessions(&agent, "sleep 1000", 1)?;

    let checked = agent.command("check")?.output()?;
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    ensure!(checked.contains("the engines' events: what they were asked to begin"), "{checked}");
    agent.stop()?;
    let output = agent.command("verify")?.arg("--json").output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(report["audit"]["chains"].as_array().map(Vec::len) == Some(1), "{report:#}");
    Ok(())
}
