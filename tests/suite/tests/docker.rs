//! Containers of a real Docker engine into a real Kafka: what arrives is what they printed.

mod support;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{Agent, Arrived, Mix, as_docker_keeps_it, ensure_same, put, text, until};
use taffrail_parts::docker::{Docker, IMAGE};
use taffrail_parts::{Kafka, KafkaOptions};

/// One broker for all tests here; it ends with this process.
static KAFKA: LazyLock<Kafka> = LazyLock::new(|| Kafka::start(KafkaOptions::default()).expect("a broker"));

fn topics(topic: &str) -> Result<()> {
    KAFKA.create_topic(topic, 3)?;
    KAFKA.create_topic(&format!("{topic}.ledger"), 1)
}

/// An agent for the containers of this engine.
fn agent(docker: &Docker, topic: &str, more: &str) -> Result<Agent> {
    let socket = docker.socket();
    Agent::new(&format!(
        "node: {{name: deck-1}}\ndocker: {{enabled: always, socket: {}}}\n\
         logs: {{kubernetes: {{enabled: false}}, partial_timeout_ms: 2000}}\n{}{more}",
        socket.display(),
        Agent::output(&KAFKA, topic)
    ))
}

fn docker(engine: &Docker, arguments: &[&str]) -> Result<String> {
    Ok(engine.output(arguments)?.trim().to_owned())
}

/// How many rotated files of a container there are whose names end so.
fn rotated(engine: &Docker, container: &str, ending: &str) -> Result<usize> {
    let log = engine.log_of(container)?;
    let live = log.file_name().context("no name")?.to_string_lossy().into_owned();
    let names = fs::read_dir(log.parent().context("no folder")?)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    Ok(names
        .iter()
        .filter(|name| name.len() > live.len() && name.starts_with(&live) && name.ends_with(ending))
        .count())
}

/// A program that prints two files on its two streams at once.
const BOTH: &str = "cat /data/err >&2 & cat /data/out; wait";

fn write_output(folder: &Path, out: &[u8], err: &[u8]) -> Result<String> {
    fs::create_dir_all(folder)?;
    put(&folder.join("out"), out)?;
    put(&folder.join("err"), err)?;
    Ok(format!("{}:/data:ro", folder.display()))
}

#[test]
fn what_containers_print_arrives_byte_for_byte_through_dockers_rotation() -> Result<()> {
    let engine = Docker::start()?;
    topics("rotation")?;
    let scratch = tempfile::tempdir()?;
    let mut agent = agent(&engine, "rotation", "")?;
    agent.start()?;

    // Enough files that Docker deletes none: what arrives must be all of it.
    let cases: [(&str, Mix, &[&str]); 3] = [
        ("quick", Mix { bytes: 12 << 20, longest: 0, ended: true }, &["max-size=200k", "max-file=400"]),
        (
            "packed",
            Mix { bytes: 8 << 20, longest: 300_000, ended: true },
            &["max-size=400k", "max-file=200", "compress=true"],
        ),
        ("single", Mix { bytes: 3 << 20, longest: 60_000, ended: false }, &[]),
    ];
    let mut printed = Vec::new();
    for (seed, (name, mix, options)) in cases.iter().enumerate() {
        let seed = seed as u64 * 2;
        let (out, err) = (text(seed + 1, *mix), text(seed + 2, Mix { bytes: mix.bytes / 3, ..*mix }));
        let volume = write_output(&scratch.path().join(name), &out, &err)?;
        let mut arguments = vec!["--name", name, "--volume", &volume];
        options.iter().for_each(|option| arguments.extend(["--log-opt", option]));
        arguments.extend([IMAGE, "sh", "-c", BOTH]);
        engine.run_detached(&arguments)?;
        printed.push((*name, out, err));
    }
    // A shell writes each line by itself: the streams alternate.
    let turns = "i=0; while [ $i -lt 3000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
    engine.run(&["--name", "turns", IMAGE, "sh", "-c", turns])?;
    let lines = |stream| (0..3000).map(|i| format!("{stream} {i}\n")).collect::<String>().into_bytes();
    printed.push(("turns", lines("out"), lines("err")));
    for (name, _, _) in &cases {
        assert_eq!(docker(&engine, &["wait", name])?, "0");
    }
    let ledger = agent.settled()?;
    ensure!(ledger["total"]["lost_bytes"] == 0, "{ledger}");
    ensure!(rotated(&engine, "quick", "")? > 60, "Docker has rotated too little");
    ensure!(rotated(&engine, "packed", ".gz")? > 10, "Docker has compressed too little");
    agent.stop()?;

    let arrived = Arrived::in_topic(&KAFKA, "rotation")?;
    for (name, out, err) in &printed {
        for (stream, printed) in [("stdout", out), ("stderr", err)] {
            let found = arrived.stream(name, stream)?;
            ensure_same(&format!("{name} {stream}"), &found.bytes, &as_docker_keeps_it(printed))?;
        }
    }
    assert_eq!(arrived.owners().len(), printed.len());
    assert_eq!(arrived.repeats, 0);
    let unended = arrived.stream("single", "stdout")?;
    assert_eq!((unended.flagged("partial"), unended.messages().last()), (1, Some(&"the end")));
    Agent::verify_complete(&KAFKA, "rotation")?;
    Ok(())
}

#[test]
fn a_record_has_the_names_that_filebeat_gives() -> Result<()> {
    let engine = Docker::start()?;
    topics("names")?;
    let mut agent = agent(&engine, "names", "")?;
    agent.start()?;
    let labels = ["--label", "app=shop", "--label", "org.example.team=harbour crew"];
    let id = engine
        .run_detached(&[&["--name", "cart"], &labels[..], &[IMAGE, "sh", "-c", "echo ahoy >&2"]].concat())?;
    agent.settled()?;
    let log = engine.log_of("cart")?;
    let line = fs::read_to_string(&log)?;
    let kept: Value = serde_json::from_str(&line)?;
    agent.stop()?;

    // Docker leaves the zeros at the end of a time away.
    let time = kept["time"].as_str().and_then(|time| time.strip_suffix('Z')).context("no time")?;
    let time = format!("{time:0<29}Z");

    let arrived = Arrived::in_topic(&KAFKA, "names")?;
    let mut record = arrived.stream("cart", "stderr")?.records[0].clone();
    let file = record["log"]["file"].take();
    assert_eq!(file["path"], json!(log));
    assert_eq!(file["fingerprint"].as_str().map(str::len), Some(32));
    let version = record["agent"]["version"].take();
    assert!(version.is_string());
    assert_eq!(
        record,
        json!({
            "@timestamp": time,
            "message": "ahoy",
            "stream": "stderr",
            "log": { "offset": 0, "length": line.len(), "file": null },
            "input": { "type": "docker" },
            "host": { "name": "deck-1" },
            "container": {
                "id": id,
                "name": "cart",
                "runtime": "docker",
                "image": { "name": IMAGE },
                "labels": { "app": "shop", "org_example_team": "harbour crew" },
            },
            "ecs": { "version": "8.0.0" },
            "agent": { "type": "taffrail", "name": "deck-1", "version": null },
        })
    );
    Ok(())
}

#[test]
fn a_container_that_is_removed_while_unread_is_read_to_its_end() -> Result<()> {
    let engine = Docker::start()?;
    topics("removed")?;
    let scratch = tempfile::tempdir()?;
    let mut agent = agent(&engine, "removed", "pipeline: {memory: 1 MiB}\n")?;
    agent.start()?;

    // Docker keeps two files of 1 MB: without Kafka, only held descriptors keep what it deletes.
    let parts: Vec<Vec<u8>> =
        (0..16).map(|seed| text(seed + 100, Mix { bytes: 500_000, longest: 20_000, ended: true })).collect();
    for (number, part) in parts.iter().enumerate() {
        put(&scratch.path().join(format!("{number:02}")), part)?;
    }
    let volume = format!("{}:/data:ro", scratch.path().display());
    KAFKA.freeze()?;
    let print = "for part in /data/*; do cat $part; sleep 0.25; done";
    let options = ["--log-opt", "max-size=1m", "--log-opt", "max-file=2"];
    let run = [&["--name", "short", "--volume", &volume], &options[..], &[IMAGE, "sh", "-c", print]].concat();
    let ran = engine.run_detached(&run).and_then(|_| docker(&engine, &["wait", "short"]));
    let kept = rotated(&engine, "short", "");
    let removed = docker(&engine, &["rm", "short"]);
    let unread = agent.ledger();
    KAFKA.thaw()?;
    assert_eq!(ran?, "0");
    assert_eq!(kept?, 1, "Docker has deleted the others");
    removed?;
    let unread = unread?;
    ensure!(
        unread["total"]["confirmed_bytes"].as_u64() < Some(4 << 20),
        "all had been read before: {unread}"
    );

    until("all that was held", || {
        let ledger = agent.ledger()?;
        let read = ledger["total"]["read_bytes"].as_u64().unwrap_or_default();
        Ok(read > parts.iter().map(|part| part.len() as u64).sum())
    })?;
    let ledger = agent.settled()?;
    ensure!(ledger["total"]["lost_bytes"] == 0, "{ledger}");
    until("the lane is gone", || Ok(agent.metric("taffrail_logs_lanes")? == Some(0.0)))?;
    agent.stop()?;
    let arrived = Arrived::in_topic(&KAFKA, "removed")?;
    let printed: Vec<u8> = parts.iter().flat_map(|part| as_docker_keeps_it(part)).collect();
    ensure_same("short", &arrived.stream("short", "stdout")?.bytes, &printed)?;
    let report = Agent::verify_complete(&KAFKA, "removed")?;
    ensure!(report["files"].as_array().is_some_and(|files| files.len() > 6), "{report:#}");
    Ok(())
}

#[test]
fn containers_that_live_for_a_moment_or_begin_late_are_read() -> Result<()> {
    const QUICK: usize = 10;
    let engine = Docker::start()?;
    topics("moments")?;
    let mut agent = agent(&engine, "moments", "")?;
    agent.start()?;
    docker(&engine, &["create", "--name", "late", IMAGE, "sh", "-c", "echo late; sleep 600"])?;
    until("the lane of a container that has not begun", || {
        Ok(agent.metric("taffrail_logs_lanes")? == Some(1.0))
    })?;
    // Long enough for the agent to have looked where there is no file yet.
    std::thread::sleep(Duration::from_secs(2));
    docker(&engine, &["start", "late"])?;
    for number in 0..QUICK {
        let name = format!("quick-{number}");
        engine.run(&["--rm", "--name", &name, IMAGE, "echo", "quick"])?;
    }
    agent.settled()?;
    assert_eq!(agent.metric("taffrail_logs_unseen_total")?, Some(0.0));
    agent.stop()?;
    let arrived = Arrived::in_topic(&KAFKA, "moments")?;
    for number in 0..QUICK {
        assert_eq!(arrived.stream(&format!("quick-{number}"), "stdout")?.messages(), ["quick"]);
    }
    assert_eq!(arrived.stream("late", "stdout")?.messages(), ["late"]);
    Ok(())
}

#[test]
fn a_container_without_a_log_file_is_named_with_the_reason() -> Result<()> {
    let engine = Docker::start()?;
    topics("silent")?;
    engine.run_detached(&["--name", "void", "--log-driver", "none", IMAGE, "sleep", "600"])?;
    let mut agent = agent(&engine, "silent", "")?;
    agent.start()?;
    let announced = agent.said("taffrail is running")?.remove(0);
    let docker_line = announced["docker"].as_str().context("nothing about Docker")?;
    assert!(docker_line.ends_with(", 0 containers followed, 1 without a log file"), "{docker_line}");

    docker(&engine, &["create", "--name", "away", "--log-driver", "syslog", IMAGE, "true"])?;
    engine.run_detached(&[
        "--name",
        "talker",
        IMAGE,
        "sh",
        "-c",
        "while :; do echo ahoy; sleep 0.2; done",
    ])?;
    let series = |driver| format!("taffrail_logs_containers_unreadable{{driver=\"{driver}\"}}");
    until("both in the metrics", || {
        Ok(agent.metric(&series("none"))? == Some(1.0) && agent.metric(&series("syslog"))? == Some(1.0))
    })?;
    let said = agent.said("the logs of a container are not read")?;
    let named: Vec<_> = said.iter().map(|line| (&line["container"], &line["driver"])).collect();
    assert_eq!(named, [(&json!("void"), &json!("none")), (&json!("away"), &json!("syslog"))]);

    let check = agent.command("check")?.args(["--json", "--offline"]).output()?;
    let report: Value = serde_json::from_slice(&check.stdout)?;
    let details: Vec<&str> = report["findings"]
        .as_array()
        .context("no findings")?
        .iter()
        .filter(|finding| finding["subject"] == "docker")
        .filter_map(|finding| finding["detail"].as_str())
        .collect();
    assert!(details[0].ends_with("3 containers, 1 with a log file"), "{details:?}");
    assert!(details.contains(&"void is not read: its log driver `none` discards its logs"), "{details:?}");

    docker(&engine, &["rm", "--force", "void", "away"])?;
    until("neither in the metrics", || {
        Ok(agent.metric(&series("none"))?.is_none() && agent.metric(&series("syslog"))?.is_none())
    })?;
    assert_eq!(agent.metric("taffrail_docker_containers{read=\"docker\"}")?, Some(1.0));
    agent.stop()
}

#[test]
fn containers_stay_followed_while_the_engine_is_away() -> Result<()> {
    let mut engine = Docker::start_with(&["--live-restore"])?;
    topics("away")?;
    let mut agent = agent(&engine, "away", "")?;
    agent.start()?;
    let tick = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done";
    engine.run_detached(&["--name", "clock", IMAGE, "sh", "-c", tick])?;
    let log = engine.log_of("clock")?;
    until("some ticks", || Ok(fs::read_to_string(&log)?.lines().count() > 20))?;
    // With live-restore containers outlive their engine.
    engine.stop()?;
    until("the loss of the connection", || Ok(agent.metric("taffrail_docker_connected")? == Some(0.0)))?;
    assert_eq!(agent.metric("taffrail_docker_disconnections_total")?, Some(1.0));
    assert_eq!(agent.metric("taffrail_docker_containers{read=\"docker\"}")?, Some(1.0));
    assert_eq!(agent.metric("taffrail_logs_lanes")?, Some(1.0));
    let before = fs::read_to_string(&log)?.lines().count();

    engine.start_again()?;
    until("the connection again", || Ok(agent.metric("taffrail_docker_connected")? == Some(1.0)))?;
    until("more ticks", || Ok(fs::read_to_string(&log)?.lines().count() > before + 20))?;
    docker(&engine, &["kill", "clock"])?;
    agent.settled()?;
    // The oracle is the file here: what an engine had taken from the container and not written when it ended is gone.
    let kept =
        fs::read_to_string(&log)?.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    agent.stop()?;
    let arrived = Arrived::in_topic(&KAFKA, "away")?;
    let printed: String = kept.iter().filter_map(|line| line["log"].as_str()).collect();
    ensure_same("clock", &arrived.stream("clock", "stdout")?.bytes, printed.as_bytes())?;
    assert_eq!(arrived.repeats, 0);
    Agent::verify_complete(&KAFKA, "away")?;
    Ok(())
}
