//! Pods that live for seconds, 110 new ones each second, at a real API server: each line says whose it is, and nothing is left of
//! them in the agent. `TAFFRAIL_CHURN_SECONDS=300` does it for five minutes.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use support::{Agent, until};
use taffrail_api::{ApiConfig, Counters, Server};
use taffrail_parts::node::ControlPlane;
use tokio::task::JoinSet;

/// Pods that are replaced in a second: a full node's.
const PODS: u64 = 110;

/// For how many seconds a pod is there.
const LIFE: u64 = 4;

/// Lines of each.
const LINES: u64 = 3;

fn name(second: u64, number: u64) -> String {
    format!("churn-{second}-{number}")
}

fn owner(second: &str, number: &str) -> String {
    format!("owner-{second}-{number}")
}

fn object(second: u64, number: u64) -> Value {
    json!({
        "metadata": {
            "name": name(second, number), "namespace": "default",
            "labels": {"second": second.to_string(), "number": number.to_string()},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner(&second.to_string(), &number.to_string()),
                "uid": "u-1", "controller": true,
            }],
        },
        "spec": {
            "nodeName": "n-1", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "churn:1"}],
        },
    })
}

/// As kubelet does: the folder of a pod's logs, with what its container has printed.
fn print(root: &Path, pod: &Value, second: u64, number: u64) -> Result<PathBuf> {
    let uid = pod["metadata"]["uid"].as_str().context("no uid")?;
    let folder = root.join(format!("default_{}_{uid}", name(second, number)));
    fs::create_dir_all(folder.join("main"))?;
    let line = |line| format!("2026-11-21T10:11:12.123456789Z stdout F {second} {number} {line}\n");
    support::put(&folder.join("main/0.log"), (0..LINES).map(line).collect::<String>().as_bytes())?;
    Ok(folder)
}

/// One second of it: new pods, and the end of those that are old. Returns the new folders.
async fn turn(server: &Server, root: &Path, second: u64, old: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    const PATH: &str = "/api/v1/namespaces/default/pods";
    let mut tasks = JoinSet::new();
    for number in 0..PODS {
        let (server, root) = (server.clone(), root.to_owned());
        tasks.spawn(async move {
            if second >= LIFE {
                let path = format!("{PATH}/{}?gracePeriodSeconds=0", name(second - LIFE, number));
                server.request(Method::DELETE, "pods", &path, None).await?;
            }
            let made = server.request(Method::POST, "pods", PATH, Some(&object(second, number))).await?;
            print(&root, &serde_json::from_slice(&made)?, second, number)
        });
    }
    old.iter().try_for_each(fs::remove_dir_all)?;
    let mut folders = Vec::new();
    while let Some(folder) = tasks.join_next().await {
        folders.push(folder??);
    }
    Ok(folders)
}

/// What the kernel says of its memory, in bytes.
fn resident(agent: &Agent) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id()?))?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    Ok(kilobytes.context("no VmRSS")?.parse::<u64>()? * 1024)
}

/// Every record, and whether it says whose it is.
fn judge(agent: &Agent) -> Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(agent.directory().join("state/records"))? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("logs-")) {
            continue;
        }
        for line in BufReader::new(fs::File::open(&path)?).lines() {
            let record: Value = serde_json::from_str(&line?)?;
            let words: Vec<&str> = record["message"].as_str().context("no message")?.split(' ').collect();
            let (told, path) = (&record["kubernetes"], record["log"]["file"]["path"].as_str().unwrap_or(""));
            let uid = told["pod"]["uid"].as_str().context("no uid")?;
            ensure!(
                told["labels"] == json!({"second": words[0], "number": words[1]})
                    && told["replicaset"]["name"] == owner(words[0], words[1])
                    && told["pod"]["name"] == format!("churn-{}-{}", words[0], words[1])
                    && path.contains(&format!("default_churn-{}-{}_{uid}/", words[0], words[1])),
                "{record:#}"
            );
            count += 1;
        }
    }
    Ok(count)
}

#[test]
fn each_line_of_pods_that_live_for_seconds_says_whose_it_is_and_nothing_is_left_of_them() -> Result<()> {
    let seconds = std::env::var("TAFFRAIL_CHURN_SECONDS").map_or(Ok(20), |seconds| seconds.parse::<u64>())?;
    let cluster = ControlPlane::start(None)?;
    cluster.output(&["create", "serviceaccount", "default"])?;
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("pods");
    fs::create_dir(&root)?;
    let mut agent = Agent::new(&format!(
        "node: {{name: n-1}}\ndocker: {{enabled: never}}\ncri: {{enabled: never}}\n\
         logs: {{kubernetes: {{root: {}, links: /none, metadata_wait_ms: 30000}}}}\n\
         kubernetes: {{api: {{kubeconfig: {}}}}}\n",
        root.display(),
        cluster.kubeconfig().display()
    ))?;
    agent.start()?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let config = ApiConfig { kubeconfig: Some(cluster.kubeconfig()), ..ApiConfig::default() };
    let server = runtime.block_on(Server::open(&config, Counters::new()))?;
    let mut alive: Vec<Vec<PathBuf>> = Vec::new();
    let (start, mut early) = (Instant::now(), 0);
    for second in 0..seconds {
        let old = if alive.len() as u64 == LIFE { alive.remove(0) } else { Vec::new() };
        // A slow machine has pods that live for longer: what is shown here is not how fast lines are read.
        let printed = (second + 1).saturating_sub(LIFE) * PODS * LINES;
        until("what the old pods printed to be read", || {
            Ok(agent.metric("taffrail_logs_records_total")?.is_some_and(|read| read >= printed as f64))
        })?;
        alive.push(runtime.block_on(turn(&server, &root, second, old))?);
        if second == seconds / 2 {
            early = resident(&agent)?;
        }
        std::thread::sleep(Duration::from_secs(second + 1).saturating_sub(start.elapsed()));
    }
    let late = resident(&agent)?;
    println!(
        "{} pods in {:.0} s; resident {} MB half-way, {} MB at the end",
        seconds * PODS,
        start.elapsed().as_secs_f64(),
        early / 1_000_000,
        late / 1_000_000
    );
    agent.settled()?;
    ensure!(late < early + (10 << 20), "{early} bytes half-way, {late} at the end");
    cluster.output(&["delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false"])?;
    until("the last pods to be forgotten", || Ok(agent.metric("taffrail_pods_known")? == Some(0.0)))?;
    agent.stop()?;
    let records = judge(&agent)?;
    ensure!(records == seconds * PODS * LINES, "{records} records");
    Ok(())
}
