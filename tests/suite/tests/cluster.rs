//! The agent beside a real API server: records say whose they are, whatever happens to the server.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{Agent, has_series, until};
use taffrail_parts::node::{ControlPlane, IMAGE, NAME, Node, NodeOptions, pod};
use taffrail_parts::search::{SearchEngine, SearchOptions};

/// An agent that reads the node's pods, asks the API server that `kubeconfig` names, and writes files. `logs` and `more` go
/// into these sections of its configuration.
fn agent(node: &Node, kubeconfig: &Path, logs: &str, more: &str) -> Result<Agent> {
    Agent::new(&format!(
        "node: {{name: '{NAME}', cluster: fleet}}\ndocker: {{enabled: never}}\ncri: {{enabled: never}}\n\
         logs: {{kubernetes: {{root: {}, links: {}{logs}}}}}\n\
         kubernetes: {{api: {{kubeconfig: {}}}, metadata: {{annotations: ['team.io/*']}}{more}}}\n",
        node.pod_logs().display(),
        node.container_logs().display(),
        kubeconfig.display(),
    ))
}

/// A kubeconfig of a server that is not there.
const NOBODY: &str = "apiVersion: v1
kind: Config
current-context: a
clusters: [{name: a, cluster: {server: 'https://127.0.0.1:9'}}]
users: [{name: a, user: {token: x}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
";

/// Every record that the agent has written.
fn records(agent: &Agent) -> Result<Vec<Value>> {
    let folder = agent.directory().join("state/records");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("logs-")));
    files.sort();
    let mut records = Vec::new();
    for file in files {
        for line in BufReader::new(fs::File::open(file)?).lines() {
            // The last line of an open file may be half written.
            records.extend(serde_json::from_str::<Value>(&line?));
        }
    }
    Ok(records)
}

/// The first record with this message, waited for.
fn record(agent: &Agent, message: &str) -> Result<Value> {
    let mut found = Value::Null;
    until(&format!("a record that says {message:?}"), || {
        found = records(agent)?.into_iter().find(|record| record["message"] == message).unwrap_or_default();
        Ok(!found.is_null())
    })?;
    Ok(found)
}

fn deployment(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {
                    "labels": {"app": name, "app.kubernetes.io/version": "1.2"},
                    "annotations": {"team.io/owner": "checkout", "other": "not asked for"},
                },
                "spec": {
                    "hostNetwork": true, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "main", "image": IMAGE, "command": ["sh", "-c", script]}],
                },
            },
        },
    })
}

fn metadata(node: &Node, kind: &str, name: &str, path: &str) -> Result<String> {
    node.output(&["get", kind, name, "-o", &format!("jsonpath={{{path}}}")])
}

#[test]
fn records_say_whose_they_are_as_the_cluster_says_it() -> Result<()> {
    let node = Node::start(NodeOptions { controllers: true, ..NodeOptions::default() })?;
    node.output(&["label", "namespace", "default", "env=live"])?;
    node.output(&[
        "label",
        "node",
        NAME,
        "topology.kubernetes.io/zone=ams1-a",
        "topology.kubernetes.io/region=ams1",
    ])?;
    let mut agent = agent(&node, &node.kubeconfig(), "", "")?;
    agent.start()?;

    node.apply(&deployment("cart", "i=0; while true; do i=$((i+1)); echo line $i; sleep 1; done"))?;
    let first = record(&agent, "line 1")?;
    let kubernetes = &first["kubernetes"];
    let pod = kubernetes["pod"]["name"].as_str().context("no pod")?.to_owned();
    ensure!(kubernetes["deployment"]["name"] == "cart", "{first:#}");
    ensure!(
        pod.starts_with(kubernetes["replicaset"]["name"].as_str().context("no replicaset")?),
        "{first:#}"
    );
    ensure!(kubernetes["labels"]["app"] == "cart", "{first:#}");
    ensure!(kubernetes["annotations"] == json!({"team_io/owner": "checkout"}), "{first:#}");
    ensure!(kubernetes["pod"]["uid"] == metadata(&node, "pod", &pod, ".metadata.uid")?, "{first:#}");
    ensure!(first["service"]["name"] == "cart" && first["service"]["version"] == "1.2", "{first:#}");
    ensure!(
        first["container"]["image"]["name"].as_str().is_some_and(|image| image.contains("busybox")),
        "{first:#}"
    );
    ensure!(first["container"]["runtime"] == "containerd", "{first:#}");
    ensure!(
        first["orchestrator"]["cluster"]
            == json!({"name": "fleet", "id": metadata(&node, "namespace", "kube-system", ".metadata.uid")?}),
        "{first:#}"
    );
    ensure!(first["cloud"] == json!({"region": "ams1", "availability_zone": "ams1-a"}), "{first:#}");
    until("the namespace's labels on the records", || {
        let last = records(&agent)?.pop().unwrap_or_default();
        Ok(last["kubernetes"]["namespace_labels"]["env"] == "live"
            && last["service"]["environment"] == "live")
    })?;

    // Somebody takes the pod out of its Deployment, to look at it: it is still read, and says so.
    node.output(&["label", "--overwrite", "pod", &pod, "app=cart-debug"])?;
    until("a record of the detached pod", || {
        let records = records(&agent)?;
        let detached = records.iter().rev().find(|r| r["kubernetes"]["pod"]["name"] == pod.as_str());
        let kubernetes = detached.map(|record| record["kubernetes"].clone()).unwrap_or_default();
        Ok(kubernetes["labels"]["app"] == "cart-debug"
            && kubernetes["detached_from"].as_str().is_some_and(|from| from.starts_with("ReplicaSet/cart-"))
            && kubernetes["deployment"].is_null())
    })?;
    ensure!(agent.metric("taffrail_pods_stale_seconds")? == Some(0.0), "{}", agent.metrics()?);
    agent.stop()
}

#[test]
fn why_a_pod_does_not_run_is_in_the_search_engine_and_in_the_counters() -> Result<()> {
    let node = Node::start(NodeOptions::default())?;
    let engine = SearchEngine::opensearch(SearchOptions::default())?;
    let mut agent = agent(&node, &node.kubeconfig(), "", "")?;
    agent.configure_more(&format!("elasticsearch: {{hosts: ['{}'], flush_ms: 100}}\n", engine.url()))?;
    agent.start()?;
    let mut crashing = pod("crashing", "echo about to fail; exit 3");
    crashing["spec"]["restartPolicy"] = json!("Always");
    node.apply(&crashing)?;
    let mut absent = pod("absent", "true");
    absent["spec"]["containers"][0]["image"] = json!("taffrail/nowhere:1");
    absent["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    node.apply(&absent)?;

    let terminations = "taffrail_pod_container_terminations_total";
    until("the reasons on the page of pods", || {
        let page = agent.page("/metrics/pods")?;
        let waits = |labels: &[&str]| has_series(&page, "kube_pod_container_status_waiting_reason", labels);
        Ok(waits(&["pod=\"absent\"", "reason=\"ErrImageNeverPull\""])
            && waits(&["pod=\"crashing\"", "reason=\"CrashLoopBackOff\""])
            && has_series(&page, terminations, &["pod=\"crashing\"", "exit_code=\"3\""]))
    })?;
    until("the events in the search engine", || {
        engine.ask("POST", "/taffrail-events-*/_refresh", None)?;
        let documents = engine.documents("taffrail-events-*").unwrap_or_default();
        let told = |pod: &str, reason: &str| {
            documents.iter().any(|(_, document)| {
                document["kubernetes"]["pod"]["name"] == pod && document["event"]["reason"] == reason
            })
        };
        Ok(told("crashing", "BackOff") && told("absent", "ErrImageNeverPull"))
    })?;

    // What was counted is still counted by the agent's next life.
    let count = |agent: &Agent| -> Result<f64> {
        let page = agent.page("/metrics/pods")?;
        let lines = page.lines().filter(|line| line.starts_with(terminations) && line.contains("crashing"));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    };
    let before = count(&agent)?;
    agent.stop()?;
    agent.start()?;
    until("the counts of the last life", || Ok(count(&agent)? >= before))?;
    agent.stop()
}

#[test]
fn kubelet_can_be_asked_instead_of_the_api_server() -> Result<()> {
    let node = Node::start(NodeOptions::default())?;
    let kubelet = format!(
        ", kubelet: {{enabled: true, url: '{}', insecure_skip_verify: true, interval_seconds: 1}}",
        node.kubelet_url()
    );
    let mut agent = agent(&node, &node.kubeconfig(), "", &kubelet)?;
    agent.start()?;
    let mut talker = pod("talker", "echo ahoy; sleep 60");
    talker["metadata"]["labels"] = json!({"app": "parrot"});
    node.apply(&talker)?;
    let record = record(&agent, "ahoy")?;
    let said = agent.metrics()?;
    ensure!(record["kubernetes"]["labels"] == json!({"app": "parrot"}), "{record:#}\n{said}");
    ensure!(record["service"]["name"] == "parrot", "{record:#}");
    let requests = agent.metrics()?;
    ensure!(!requests.contains("resource=\"pods\""), "the API server was asked for pods: {requests}");
    let page = agent.page("/metrics/pods")?;
    ensure!(page.contains("kube_pod_info{namespace=\"default\",pod=\"talker\""), "{page}");
    agent.stop()
}

#[test]
fn kubelet_stands_in_for_an_api_server_that_is_away_and_what_only_that_knows_comes_later() -> Result<()> {
    let mut node = Node::start(NodeOptions::default())?;
    let kubelet = format!(
        ", kubelet: {{enabled: true, only_while_away: true, url: '{}', interval_seconds: 1}}",
        node.kubelet_read_only_url()
    );
    let mut talker = pod("talker", "i=0; while true; do i=$((i+1)); echo line $i; sleep 1; done");
    talker["metadata"]["labels"] = json!({"app": "parrot"});
    node.apply(&talker)?;
    node.wait_for_pod("default", "talker", "Running")?;
    let cluster = node.output(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"])?;
    let uid = metadata(&node, "node", NAME, ".metadata.uid")?;
    node.kill_api_server();

    let mut agent = agent(&node, &node.kubeconfig(), "", &kubelet)?;
    agent.start()?;
    let first = record(&agent, "line 1")?;
    ensure!(first["kubernetes"]["labels"] == json!({"app": "parrot"}), "{first:#}");
    ensure!(
        first["orchestrator"]["cluster"] == json!({"name": "fleet"}),
        "nobody can know its id: {first:#}"
    );
    let readiness = agent.page("/readyz").err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(readiness.contains("the API server cannot be reached"), "{readiness}");
    let asked = |agent: &Agent| -> Result<f64> {
        let series = "taffrail_api_requests_total{verb=\"get\",resource=\"kubelet_pods\",outcome=\"ok\"}";
        Ok(agent.metric(series)?.unwrap_or_default())
    };
    ensure!(asked(&agent)? > 0.0, "{}", agent.metrics()?);

    node.start_api_server()?;
    until("a record that says which cluster it is", || {
        let known = |record: &Value| {
            record["orchestrator"]["cluster"]["id"] == *cluster
                && record["kubernetes"]["node"] == json!({"name": NAME, "uid": uid, "hostname": NAME})
        };
        Ok(records(&agent)?.iter().any(known))
    })?;
    ensure!(agent.metrics()?.contains(&format!("cluster_id=\"{cluster}\"")), "{}", agent.metrics()?);
    until("the API server to be heard", || Ok(agent.metric("taffrail_pods_stale_seconds")? == Some(0.0)))?;
    let before = asked(&agent)?;
    std::thread::sleep(std::time::Duration::from_secs(3));
    ensure!(asked(&agent)? <= before + 1.0, "kubelet is asked on");
    agent.page("/readyz")?;
    agent.stop()
}

#[test]
fn without_an_api_server_records_go_after_a_while_and_say_what_is_missing() -> Result<()> {
    let node = Node::start(NodeOptions::default())?;
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("config");
    support::put(&kubeconfig, NOBODY.as_bytes())?;
    let mut agent = agent(&node, &kubeconfig, ", metadata_wait_ms: 1000", "")?;
    agent.start()?;
    node.apply(&pod("talker", "echo ahoy"))?;
    let record = record(&agent, "ahoy")?;
    ensure!(record["kubernetes"]["metadata"] == "missing", "{record:#}");
    ensure!(record["kubernetes"]["pod"]["name"] == "talker", "{record:#}");
    let readiness = agent.page("/readyz").err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(readiness.contains("the API server cannot be reached"), "{readiness}");
    agent.stop()
}

#[test]
fn a_token_that_was_rotated_is_taken_from_its_file_and_what_was_known_stays_until_then() -> Result<()> {
    let mut cluster = ControlPlane::start(None)?;
    cluster.output(&["create", "serviceaccount", "default"])?;
    cluster.output(&["create", "serviceaccount", "taffrail"])?;
    let admin = "--clusterrole=cluster-admin";
    cluster.output(&["create", "clusterrolebinding", "all", admin, "--serviceaccount=default:taffrail"])?;
    // Bound to a secret, a token ends with it.
    let token = |secret: &str| -> Result<String> {
        cluster.output(&["create", "secret", "generic", secret])?;
        let bound = ["--bound-object-kind=Secret", &format!("--bound-object-name={secret}")];
        cluster.output(&[&["create", "token", "taffrail"], &bound[..]].concat())
    };
    let folder = tempfile::tempdir()?;
    let (kubeconfig, file) = (folder.path().join("config"), folder.path().join("token"));
    support::put(&file, token("first")?.trim().as_bytes())?;
    let given = fs::read_to_string(cluster.kubeconfig())?;
    let (before, rest) = given.split_once("{token: \"").context("no token")?;
    let (_, after) = rest.split_once("\"}").context("no token")?;
    support::put(&kubeconfig, format!("{before}{{tokenFile: {}}}{after}", file.display()).as_bytes())?;

    let settings = format!(
        "node: {{name: n-1}}\ndocker: {{enabled: never}}\ncri: {{enabled: never}}\nlogs: {{kubernetes: {{enabled: false}}}}\n\
         kubernetes: {{api: {{kubeconfig: {}}}}}\n",
        kubeconfig.display()
    );
    let mut agent = Agent::new(&settings)?;
    agent.start()?;
    let pod = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": "n-1", "automountServiceAccountToken": false, "containers": [{"name": "main", "image": "a"}]},
        })
    };
    let apply = |cluster: &ControlPlane, pod: &Value| -> Result<()> {
        let object = folder.path().join("pod.json");
        support::put(&object, pod.to_string().as_bytes())?;
        cluster.output(&["apply".as_ref(), "-f".as_ref(), object.as_os_str()]).map(drop)
    };
    apply(&cluster, &pod("early"))?;
    until("the pod", || Ok(agent.metric("taffrail_pods_known")? == Some(1.0)))?;

    let next = token("second")?;
    cluster.output(&["delete", "secret", "first"])?;
    // The end of its connections makes the agent show its token again.
    cluster.kill_api_server();
    cluster.start_api_server()?;
    until("the old token's refusal", || Ok(agent.metrics()?.contains("outcome=\"unauthorized\"")))?;
    ensure!(agent.metric("taffrail_pods_known")? == Some(1.0), "what was known stays");
    ensure!(agent.metric("taffrail_pods_stale_seconds")?.is_some_and(|stale| stale > 0.0));
    let readiness = agent.page("/readyz").err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(readiness.contains("401"), "{readiness}");
    support::put(&file, next.trim().as_bytes())?;
    apply(&cluster, &pod("late"))?;
    until("the next pod, by the new token", || Ok(agent.metric("taffrail_pods_known")? == Some(2.0)))?;
    ensure!(agent.metric("taffrail_pods_stale_seconds")? == Some(0.0));
    // The node itself is followed by requests of their own, with pauses of their own.
    until("readiness", || Ok(agent.page("/readyz").is_ok()))?;
    agent.stop()
}
