//! `taffrail verify` on the topics of a real Kafka, filled by kcat.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use taffrail_parts::{Kafka, KafkaOptions};

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

fn verify(kafka: &Kafka, more: &[&str]) -> Output {
    let program = taffrail_suite::program().unwrap();
    Command::new(program).args(["verify", "--brokers", &kafka.bootstrap()]).args(more).output().unwrap()
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
    let head =
        |offset, length| format!("{FINGERPRINT} stdout 2026-11-21T10:11:12.000000001Z {offset:013} {length:07}");
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
