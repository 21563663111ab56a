//! What arrived, put together again from the records.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use taffrail_parts::Kafka;

/// One stream of one container.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// What the records stand for, in the order in which they arrived.
    pub(crate) bytes: Vec<u8>,
    /// The records.
    pub(crate) records: Vec<Value>,
}

impl Stream {
    /// The messages.
    pub(crate) fn messages(&self) -> Vec<&str> {
        self.records.iter().filter_map(|record| record["message"].as_str()).collect()
    }

    /// How many records have a flag.
    pub(crate) fn flagged(&self, flag: &str) -> usize {
        self.records.iter().filter(|record| has_flag(record, flag)).count()
    }
}

/// Everything in a topic, each record once.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    streams: BTreeMap<(String, String), Stream>,
    seen: HashSet<String>,
    /// Records that had arrived before.
    pub(crate) repeats: u64,
}

impl Arrived {
    /// Reads a topic with Kafka's own client.
    pub(crate) fn in_topic(kafka: &Kafka, topic: &str) -> Result<Self> {
        let mut arrived = Arrived::default();
        kafka.consume(topic, |record| arrived.take(&record.value.context("a record without a value")?))?;
        Ok(arrived)
    }

    /// Takes a record as it lies in a topic or a file.
    pub(crate) fn take(&mut self, value: &[u8]) -> Result<()> {
        let record: Value = serde_json::from_slice(value)
            .with_context(|| format!("not JSON: {}", String::from_utf8_lossy(value)))?;
        let log = &record["log"];
        let id = format!("{} {} {}", log["file"]["fingerprint"], log["offset"], log["fragments"]);
        ensure!(log["offset"].is_u64() && log["file"]["fingerprint"].is_string(), "no identity: {record}");
        if !self.seen.insert(id) {
            self.repeats += 1;
            return Ok(());
        }
        let stream = record["stream"].as_str().unwrap_or_default().to_owned();
        let stream = self.streams.entry((owner(&record), stream)).or_default();
        restore(&record, &mut stream.bytes)?;
        stream.records.push(record);
        Ok(())
    }

    /// A stream of a container, of which something must have arrived.
    pub(crate) fn stream(&self, who: &str, stream: &str) -> Result<&Stream> {
        let found = self.streams.get(&(who.to_owned(), stream.to_owned()));
        found.with_context(|| format!("nothing of {who} {stream} arrived, only {:?}", self.streams.keys()))
    }

    /// A stream of the one whose name begins so.
    pub(crate) fn stream_of(&self, begin: &str, stream: &str) -> Result<&Stream> {
        let named = |(who, of): &&(String, String)| who.starts_with(begin) && of == stream;
        let who = self.streams.keys().find(named).with_context(|| format!("nothing of {begin}"))?;
        self.stream(&who.0, stream)
    }

    /// Whose records arrived.
    pub(crate) fn owners(&self) -> Vec<&str> {
        let mut owners: Vec<&str> = self.streams.keys().map(|(who, _)| who.as_str()).collect();
        owners.dedup();
        owners
    }
}

fn has_flag(record: &Value, flag: &str) -> bool {
    record["log"]["flags"].as_array().is_some_and(|flags| flags.iter().any(|found| found == flag))
}

/// The container's name, in Kubernetes with its namespace and pod.
fn owner(record: &Value) -> String {
    let kubernetes = &record["kubernetes"];
    match kubernetes["pod"]["name"].as_str() {
        Some(pod) => format!(
            "{}/{pod}/{}",
            kubernetes["namespace"].as_str().unwrap_or_default(),
            kubernetes["container"]["name"].as_str().unwrap_or_default()
        ),
        None => record["container"]["name"].as_str().unwrap_or_default().to_owned(),
    }
}

/// The bytes that were printed for a record.
fn restore(record: &Value, bytes: &mut Vec<u8>) -> Result<()> {
    if ["truncated", "oversize", "corrupt"].iter().any(|flag| has_flag(record, flag)) {
        bail!("not whole: {}", record["log"]);
    }
    match record["log"]["original"].as_str() {
        Some(original) => bytes.extend(STANDARD.decode(original).context("log.original is not base64")?),
        None => bytes.extend_from_slice(record["message"].as_str().context("no message")?.as_bytes()),
    }
    if has_flag(record, "crlf") {
        bytes.push(b'\r');
    }
    if !has_flag(record, "partial") {
        bytes.push(b'\n');
    }
    Ok(())
}
