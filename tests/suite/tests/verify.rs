//! `taffrail verify` on the topics of a real Kafka, filled by kcat.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
#![allow(clippy::disallowed_methods, reason = "tests make files that need not survive")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use taffrail_parts::kafka::USER;
use taffrail_parts::{Kafka, KafkaOptions, Listener};

const FINGERPRINT: &str = "0000000000000000000000000000002a";

fn produce(kafka: &Kafka, topic: &str, headers: &[(&str, String)], values: &[&[u8]]) {
    let mut kcat = kafka.kcat().unwrap();
    kcat.args(["-P", "-t", topic, "-p", "0"]);
    for (name, value) in headers {
        kcat.arg("-H").arg(format!("{name}={value}"));
    }
    let mut child = kcat.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for value in values {
        input.write_all(value).unwrap();
        input.write_all(b"\n").unwrap();
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

fn file() -> Value {
    json!({"path": "/var/log/a.log", "fingerprint": FINGERPRINT})
}

fn record(start: u64, end: u64) -> String {
    json!({"message": "m", "log": {"offset": start, "length": end - start, "file": file()}}).to_string()
}

fn finished(size: u64) -> String {
    json!({"ledger": {"kind": "finished", "fingerprint": FINGERPRINT, "path": "/var/log/a.log", "from": 0,
                      "size": size, "confirmed": size}})
    .to_string()
}

fn taffrail(arguments: &[&str]) -> Output {
    Command::new(taffrail_suite::program().unwrap()).args(arguments).output().unwrap()
}

fn verify(kafka: &Kafka, more: &[&str]) -> Output {
    taffrail(&[&["verify", "--brokers", &kafka.bootstrap()], more].concat())
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {output:?}"))
}

/// A file's statement, made so many minutes from now.
fn statement(kind: &str, file: &str, minutes: i64, size: u64, confirmed: u64) -> String {
    let time = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
    json!({"@timestamp": time.to_string(), "host": {"name": "n1"},
           "ledger": {"kind": kind, "fingerprint": format!("{file:0>32}"), "path": format!("/var/log/{file}.log"),
                      "from": 0, "size": size, "confirmed": confirmed}})
    .to_string()
}

fn line(file: &str, start: u64, end: u64) -> String {
    let file = json!({"path": format!("/var/log/{file}.log"), "fingerprint": format!("{file:0>32}")});
    json!({"message": "m", "log": {"offset": start, "length": end - start, "file": file}}).to_string()
}

#[test]
fn topics_are_held_against_each_other() {
    let kafka = Kafka::start(KafkaOptions::default()).unwrap();
    let unknown = verify(&kafka, &["--ledger-topic", "nowhere"]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nowhere"), "{unknown:?}");

    for topic in ["taffrail.logs", "taffrail.ledger"] {
        kafka.create_topic(topic, 2).unwrap();
    }
    let (first, second) = (record(0, 10), record(10, 20));
    produce(
        &kafka,
        "taffrail.logs",
        &[],
        &[first.as_bytes(), second.as_bytes(), second.as_bytes(), b"stranger"],
    );
    let origin = json!({"log": {"file": file()}, "container": {"name": "box"}}).to_string();
    let head = |offset, length| {
        format!("{FINGERPRINT} stdout 2026-11-21T10:11:12.000000001Z {offset:013} {length:07}")
    };
    let full = [("taffrail.origin", origin), ("taffrail.record", head(22, 3))];
    produce(&kafka, "taffrail.logs", &[("taffrail.record", head(20, 2))], &[b"raw"]);
    produce(&kafka, "taffrail.logs", &full, &[b"raw with all fields"]);
    produce(&kafka, "taffrail.ledger", &[], &[finished(25).as_bytes()]);

    let complete = verify(&kafka, &["--json"]);
    assert_eq!(complete.status.code(), Some(0), "{complete:?}");
    let report: Value = serde_json::from_slice(&complete.stdout).unwrap();
    assert_eq!(report["verdict"], "complete: 1 file, 4 records, 25 B, 0 missing, 1 repeated, 0 lost");
    assert_eq!(report["foreign"], 1);

    let once = verify(&kafka, &["--dedup", "-"]);
    let mut lines: Vec<&str> = std::str::from_utf8(&once.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    let mut expected = [first.as_str(), &second, "raw", "raw with all fields"];
    expected.sort_unstable();
    assert_eq!(lines, expected);
    assert!(String::from_utf8_lossy(&once.stderr).contains("complete: 1 file"));

    produce(&kafka, "taffrail.ledger", &[], &[finished(30).as_bytes()]);
    let missing = verify(&kafka, &[]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stdout).contains("missing: 5 bytes, 25..30"), "{missing:?}");
}

/// Retention removes the first records of a partition: the beginnings of `a` and all of `b`. `c` is opened later.
#[test]
fn what_retention_removed_is_not_missing_and_a_hole_is() {
    let kafka = Kafka::start(KafkaOptions::default()).unwrap();
    for topic in ["taffrail.logs", "taffrail.ledger"] {
        kafka.create_topic(topic, 1).unwrap();
    }
    let send = |topic: &str, values: &[String]| {
        let values: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
        produce(&kafka, topic, &[], &values);
    };
    let first: Vec<String> = (0..50).map(|n| line("a", n * 10, n * 10 + 10)).collect();
    send("taffrail.logs", &[line("b", 0, 10), line("b", 10, 20)]);
    send("taffrail.logs", &first);
    send("taffrail.ledger", &[statement("opened", "a", -60, 500, 0), statement("opened", "b", -60, 20, 0)]);
    send(
        "taffrail.ledger",
        &[statement("finished", "a", 0, 500, 500), statement("finished", "b", -50, 20, 20)],
    );
    let output = verify(&kafka, &["--json"]);
    assert_eq!(
        report(&output)["verdict"],
        "complete: 2 files, 52 records, 520 B, 0 missing, 0 repeated, 0 lost"
    );

    kafka.delete_records("taffrail.logs", 0, 32).unwrap();
    let output = verify(&kafka, &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = report(&output);
    assert_eq!(
        said["verdict"],
        "complete as far as it is kept: 2 files (2 expired), 20 records, 200 B, 0 missing, 320 B expired by retention, \
         0 repeated, 0 lost"
    );
    assert_eq!(said["files"][0]["expired"]["ranges"], json!([[0, 300]]));
    assert!(said["notes"][0].as_str().unwrap().contains("begins at offset 32"), "{said}");
    assert_eq!(verify(&kafka, &["--strict"]).status.code(), Some(1));

    // A file opened after all that was removed lacks its beginning, and one that is there in part has a hole.
    send("taffrail.logs", &[line("c", 10, 20), line("a", 500, 510), line("a", 520, 530)]);
    send("taffrail.ledger", &[statement("opened", "c", 30, 20, 0), statement("finished", "c", 40, 20, 20)]);
    send("taffrail.ledger", &[statement("finished", "a", 0, 530, 530)]);
    let output = verify(&kafka, &["--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = report(&output);
    let missing: Vec<&Value> =
        said["files"].as_array().unwrap().iter().map(|file| &file["missing"]["ranges"]).collect();
    assert_eq!(missing, [&json!([[510, 520]]), &json!([]), &json!([[0, 10]])]);
}

#[test]
fn the_agents_configuration_says_where_to_read_and_how_to_log_in() {
    let kafka = Kafka::start(KafkaOptions { secure: true, ..KafkaOptions::default() }).unwrap();
    for topic in ["logs.shop", "logs.bank", "elsewhere", "shop.ledger"] {
        kafka.create_topic(topic, 1).unwrap();
    }
    for (topic, file) in [("logs.shop", "a"), ("logs.bank", "b"), ("elsewhere", "c")] {
        produce(&kafka, topic, &[], &[line(file, 0, 10).as_bytes()]);
        produce(&kafka, "shop.ledger", &[], &[statement("finished", file, 0, 10, 10).as_bytes()]);
    }
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    std::fs::write(&password, USER.password).unwrap();
    let config = json!({"output": {"kafka": {
        "brokers": [kafka.bootstrap_of(Listener::SaslTls).unwrap()],
        "topic": "logs.{namespace}",
        "ledger_topic": "shop.ledger",
        "sasl": {"username": USER.name, "password_file": password},
        "tls": {"ca_file": kafka.tls().unwrap().authority},
    }}});
    let path = directory.path().join("taffrail.yaml");
    std::fs::write(&path, config.to_string()).unwrap();
    let path = path.to_str().unwrap();

    let output = taffrail(&["verify", "-f", path, "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = report(&output);
    assert_eq!(
        said["verdict"],
        "missing: 3 files (1 missing), 2 records, 20 B, 10 B missing, 0 repeated, 0 lost"
    );
    let notes = said["notes"].to_string();
    for note in [
        "no record of 1 file in the topics that were read (logs.bank, logs.shop): is their topic missing from --topic?",
        "topics that fit logs.{namespace}: logs.bank, logs.shop",
    ] {
        assert!(notes.contains(note), "{notes}");
    }
    let output = taffrail(&["verify", "-f", path, "--topic", "logs.{namespace}", "--topic", "elsewhere"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\ncomplete: 3 files, 3 records"), "{output:?}");
}
