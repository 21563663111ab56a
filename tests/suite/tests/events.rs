//! Events of a real API server into a real search engine: each of them there, and once, whoever watches and whatever is
//! killed.

mod support;

use std::collections::BTreeSet;
use std::ops::Range;
use std::process::Output;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use support::{Agent, until, until_within};
use taffrail_api::{ApiConfig, Counters, Server};
use taffrail_parts::node::ControlPlane;
use taffrail_parts::search::{SearchEngine, SearchOptions};
use taffrail_parts::{Kafka, KafkaOptions};
use tokio::task::JoinSet;

/// An agent of a node that only takes part in events.
fn agent(cluster: &ControlPlane, engine: &SearchEngine, name: &str) -> Result<Agent> {
    Agent::new(&format!(
        "node: {{name: {name}, cluster: fleet}}\ndocker: {{enabled: never}}\ncri: {{enabled: never}}\n\
         logs: {{kubernetes: {{enabled: false}}}}\nmetrics: {{containers: {{enabled: false}}}}\n\
         kubernetes: {{api: {{kubeconfig: {}}}}}\n\
         elasticsearch: {{hosts: ['{}'], flush_ms: 100, retry_max_ms: 1000, retention: 30d}}\n",
        cluster.kubeconfig().display(),
        engine.url(),
    ))
}

/// How many times the usual number of events there are. With 125 it is 100,000:
/// `TAFFRAIL_EVENTS_SCALE=125 cargo test -p taffrail-suite --test events`.
fn scale() -> Result<u32> {
    Ok(std::env::var("TAFFRAIL_EVENTS_SCALE").map_or(Ok(1), |scale| scale.parse())?)
}

/// When the events happened: yesterday, whenever that is.
static HAPPENED: LazyLock<jiff::Zoned> = LazyLock::new(|| {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).yesterday().expect("a day before")
});

fn event(number: u32) -> Value {
    let happened = HAPPENED.timestamp().strftime("%FT%TZ").to_string();
    json!({
        "metadata": {"name": format!("web-0.{number}"), "namespace": "default"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "web-0", "namespace": "default", "uid": "u-1"},
        "reason": "BackOff", "type": "Warning", "message": format!("Back-off number {number}"), "count": 1,
        "source": {"component": "kubelet", "host": "n-1"},
        "firstTimestamp": happened, "lastTimestamp": happened,
    })
}

/// Creates events about a pod, numbered; a few at a time, which `kubectl` does not.
fn create(cluster: &ControlPlane, numbers: Range<u32>) -> Result<()> {
    const AT_ONCE: u32 = 16;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let config = ApiConfig { kubeconfig: Some(cluster.kubeconfig()), ..ApiConfig::default() };
    runtime.block_on(async {
        let server = Server::open(&config, Counters::new()).await?;
        let mut makers = JoinSet::new();
        for maker in 0..AT_ONCE {
            let (server, numbers) = (server.clone(), numbers.clone());
            makers.spawn(async move {
                for number in numbers.skip(maker as usize).step_by(AT_ONCE as usize) {
                    let path = "/api/v1/namespaces/default/events";
                    server.request(Method::POST, "events", path, Some(&event(number))).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(made) = makers.join_next().await {
            made??;
        }
        Ok(())
    })
}

/// The UIDs of the events that the API server has.
fn there(cluster: &ControlPlane) -> Result<BTreeSet<String>> {
    let text = cluster.output(&["get", "events", "-A", "-o", "jsonpath={.items[*].metadata.uid}"])?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// The UIDs of the events that the search engine has, each as often as it has it.
fn stored(engine: &SearchEngine) -> Result<Vec<String>> {
    engine.ask("POST", "/taffrail-events-*/_refresh", None)?;
    let documents = engine.documents("taffrail-events-*")?;
    let uid = |(_, document): (String, Value)| {
        document["kubernetes"]["event"]["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
    };
    let mut uids: Vec<String> = documents.into_iter().map(uid).collect();
    uids.sort();
    Ok(uids)
}

/// Waits until all of so many events are stored, and holds that each is, once, and nothing else.
fn until_all_are_stored(cluster: &ControlPlane, engine: &SearchEngine, count: u32) -> Result<()> {
    // Of very many, to compare them all again and again would be most of the work.
    let patience = Duration::from_secs(300) + Duration::from_millis(10) * count;
    until_within(patience, "as many documents as events", || {
        let stored = engine.count("taffrail-events-*").unwrap_or_default();
        Ok(stored >= count.into())
    })?;
    until("every event in the search engine", || {
        let stored: BTreeSet<String> = stored(engine).unwrap_or_default().into_iter().collect();
        Ok(there(cluster)?.is_subset(&stored))
    })?;
    let (there, stored) = (there(cluster)?, stored(engine)?);
    let once: BTreeSet<String> = stored.iter().cloned().collect();
    ensure!(once.len() == stored.len(), "{} documents of {} events", stored.len(), once.len());
    ensure!(once == there, "{} events stored, {} there", once.len(), there.len());
    Ok(())
}

/// Fields of documents that the index template does not know: they are kept, and cannot be searched.
fn unknown_to_the_template(engine: &SearchEngine) -> Result<BTreeSet<String>> {
    let mappings = engine.json("GET", "/taffrail-events-*/_mapping", None)?;
    let mapping = mappings.as_object().and_then(|all| all.values().next()).context("no index")?;
    let mut unknown = BTreeSet::new();
    for (_, document) in engine.documents("taffrail-events-*")? {
        look_up("", &document, &mapping["mappings"], &mut unknown);
    }
    Ok(unknown)
}

fn look_up(name: &str, value: &Value, mapping: &Value, unknown: &mut BTreeSet<String>) {
    match (value, &mapping["properties"]) {
        (_, _) if mapping.is_null() => drop(unknown.insert(name.to_owned())),
        (Value::Object(fields), Value::Object(known)) => {
            for (field, value) in fields {
                let known = known.get(field).unwrap_or(&Value::Null);
                look_up(&format!("{name}.{field}"), value, known, unknown);
            }
        }
        // A field, or labels as a whole.
        _ => {}
    }
}

fn leads(agent: &Agent) -> bool {
    agent.metric("taffrail_events_role{role=\"leader\"}").ok().flatten() == Some(1.0)
}

fn verify(agent: &Agent) -> Result<Output> {
    Ok(agent.command("events")?.args(["verify", "--patience", "1"]).output()?)
}

fn both_have(agent: &Agent, count: u32) -> Result<()> {
    let all = format!("the API server has {count} events, 0 of them missing");
    until("both places to have every event", || {
        Ok(String::from_utf8(verify(agent)?.stdout)?.matches(&all).count() == 2)
    })
}

/// What `taffrail events verify` says, when its exit code is as expected.
fn verified(agent: &Agent, expected: i32) -> Result<String> {
    let output = verify(agent)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.code() == Some(expected), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// The UIDs of the events in these documents.
fn uids<'a>(documents: impl IntoIterator<Item = &'a [u8]>) -> BTreeSet<String> {
    let documents = documents.into_iter().filter_map(|text| serde_json::from_slice::<Value>(text).ok());
    let uid = |document: Value| Some(document["kubernetes"]["event"]["metadata"]["uid"].as_str()?.to_owned());
    documents.filter_map(uid).collect()
}

#[test]
fn without_a_search_engine_the_same_documents_go_where_everything_goes() -> Result<()> {
    let cluster = ControlPlane::start(None)?;
    // Agents of different Leases do not know of each other.
    let agent = |lease: &str, output: &str| {
        Agent::new(&format!(
            "node: {{name: n-1, cluster: fleet}}\ndocker: {{enabled: never}}\ncri: {{enabled: never}}\n\
             logs: {{kubernetes: {{enabled: false}}}}\nmetrics: {{containers: {{enabled: false}}}}\n\
             kubernetes: {{api: {{kubeconfig: {}}}}}\n{output}\n\
             events: {{enabled: always, lease: {lease}, reasons: {{exclude: [Boring]}}}}\n",
            cluster.kubeconfig().display(),
        ))
    };
    let mut to_files = agent("files", "")?;
    to_files.start()?;
    create(&cluster, 0..50)?;
    let folder = to_files.directory().join("state/records");
    let written = || -> Result<BTreeSet<String>> {
        let mut written = BTreeSet::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events-")) {
                written.append(&mut uids(std::fs::read(path)?.split(|byte| *byte == b'\n')));
            }
        }
        Ok(written)
    };
    until("every event in the files", || Ok(written()? == there(&cluster)?))?;
    let said = verified(&to_files, 0)?;
    ensure!(said.contains("50 events, 0 of them missing in the files in "), "{said}");
    to_files.stop()?;
    let path = std::fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .find(|path: &Result<_>| path.as_ref().is_ok_and(|path| path.to_string_lossy().contains("/events-")))
        .context("no file of events")??;
    let text = std::fs::read_to_string(&path)?;
    let (first, rest) = text.split_once('\n').context("no line")?;
    support::put(&path, rest.as_bytes())?;
    let said = verified(&to_files, 1)?;
    let id = serde_json::from_str::<Value>(first)?["event"]["id"].as_str().context("no id")?.to_owned();
    ensure!(said.contains(&id) && said.contains("1 of them missing"), "{said}");

    let kafka = Kafka::start(KafkaOptions::default())?;
    for topic in ["cluster.events", "logs.ledger"] {
        kafka.create_topic(topic, 1)?;
    }
    let output = format!(
        "output: {{kafka: {{brokers: ['{}'], topic: logs, ledger_topic: logs.ledger, events_topic: cluster.events}}}}",
        kafka.bootstrap()
    );
    let mut to_kafka = agent("kafka", &output)?;
    to_kafka.start()?;
    until("every event in the topic", || {
        let records = kafka.consume_all("cluster.events")?;
        let sent = uids(records.iter().filter_map(|record| record.value.as_deref()));
        ensure!(records.len() == sent.len(), "something that is not an event, or is twice");
        Ok(sent == there(&cluster)?)
    })?;
    let said = verified(&to_kafka, 0)?;
    ensure!(
        said == "the API server has 50 events, 0 of them missing in the topic cluster.events\n",
        "{said}"
    );
    let output = to_kafka.command("check")?.output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(said.contains("topic cluster.events, 1 partition"), "{said}");
    to_kafka.stop()
}

#[test]
fn copies_in_the_output_lack_nothing_that_the_search_engine_has_though_it_and_the_agent_are_killed()
-> Result<()> {
    let cluster = ControlPlane::start(None)?;
    let mut engine = SearchEngine::opensearch(SearchOptions::default())?;
    let mut agent = agent(&cluster, &engine, "n-1")?;
    agent.configure_more("events: {copy_to_output: true}\n")?;
    agent.start()?;
    create(&cluster, 0..100)?;
    until_all_are_stored(&cluster, &engine, 100)?;
    both_have(&agent, 100)?;
    engine.kill();
    create(&cluster, 100..200)?;
    agent.kill()?;
    engine.start_again()?;
    agent.start()?;
    both_have(&agent, 200)?;
    until_all_are_stored(&cluster, &engine, 200)?;
    agent.stop()
}

#[test]
fn each_event_is_stored_once_though_the_one_that_watches_the_engine_and_the_api_server_are_killed()
-> Result<()> {
    let mut cluster = ControlPlane::start(None)?;
    let mut engine = SearchEngine::opensearch(SearchOptions::default())?;
    let mut agents = [agent(&cluster, &engine, "n-1")?, agent(&cluster, &engine, "n-2")?];
    agents.iter_mut().try_for_each(Agent::start)?;
    until("one agent that watches", || Ok(agents.iter().filter(|agent| leads(agent)).count() == 1))?;

    let scale = scale()?;
    let create = |cluster: &ControlPlane, numbers: Range<u32>| {
        create(cluster, numbers.start * scale..numbers.end * scale)
    };
    create(&cluster, 0..200)?;
    until_all_are_stored(&cluster, &engine, 200 * scale)?;

    // Whoever watches dies with something under way; the other goes on from what is stored.
    create(&cluster, 200..400)?;
    let leader = agents.iter().position(leads).context("nobody watches")?;
    agents[leader].kill()?;
    create(&cluster, 400..500)?;
    until("the other one to watch", || Ok(leads(&agents[1 - leader])))?;
    until_all_are_stored(&cluster, &engine, 500 * scale)?;

    // The engine is away for a while, and so is the API server, which has forgotten the old versions when it is back.
    engine.kill();
    create(&cluster, 500..700)?;
    cluster.kill_api_server();
    cluster.start_api_server()?;
    cluster.compact()?;
    create(&cluster, 700..800)?;
    agents[leader].start()?;
    engine.start_again()?;
    until_all_are_stored(&cluster, &engine, 800 * scale)?;

    let verify = |expected| verified(&agents[leader], expected);
    let all = 800 * scale as usize;
    ensure!(verify(0)?.contains(&format!("{all} events, 0 of them missing")), "{}", verify(0)?);
    let (id, _) = engine.documents("taffrail-events-*")?.pop().context("no document")?;
    // All of them have the same time.
    let day = HAPPENED.strftime("%Y.%m.%d");
    let answer = engine.ask("DELETE", &format!("/taffrail-events-{day}/_doc/{id}?refresh=true"), None)?;
    ensure!(answer.json()["result"] == "deleted", "{}", answer.json());
    ensure!(verify(1)?.contains(&id), "the one that was deleted is named: {}", verify(1)?);

    let unknown = unknown_to_the_template(&engine)?;
    ensure!(unknown.is_empty(), "the template does not know {unknown:?}");

    let output = agents[leader].command("events")?.args(["-n", "default", "pod/web-0"]).output()?;
    let table = String::from_utf8(output.stdout)?;
    // A timeline is for people.
    let shown = all.min(10_000);
    ensure!(table.lines().count() == shown + 1, "{table}\n{}", String::from_utf8_lossy(&output.stderr));
    ensure!(
        table.contains("Warning")
            && table.contains("pod/web-0")
            && table.contains(&format!("Back-off number {}", all - 1)),
        "{table}"
    );
    agents.iter_mut().try_for_each(Agent::stop)
}
