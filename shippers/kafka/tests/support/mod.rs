//! Batches to ship, and what became of them.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use taffrail_envelope::EnvelopeConfig;
use taffrail_kafka::{KafkaConfig, KafkaShipper, TopicMessage, read_topic};
use taffrail_record::{
    Account, Batch, BufferPool, Changes, Container, FileId, Flags, Gathered, Ledger, Origin, Payload, Pod,
    Receipt, Record, Sample, Ship, Source, Span, Stream, Tracker,
};

/// One container's file, from which batches are cut.
pub(crate) struct Log {
    pub(crate) account: Arc<Account>,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) origin: Arc<Origin>,
    pub(crate) source: Arc<Source>,
    pub(crate) written: u64,
}

impl Log {
    pub(crate) fn new(namespace: &str, id: u128) -> Log {
        let pod = Pod { namespace: namespace.into(), name: "pod".into(), ..Pod::default() };
        let container = Container { name: format!("c{id}"), ..Container::default() };
        let origin = Origin { pod: Some(pod), container: Some(container), ..Origin::default() };
        Log {
            account: Ledger::new().account(origin.names()),
            tracker: Tracker::new(1, 0, &Changes::new()),
            origin: Arc::new(origin),
            source: Arc::new(Source {
                id: FileId(id),
                path: format!("/{id}.log").into(),
                device: 1,
                inode: 2,
            }),
            written: 0,
        }
    }

    pub(crate) fn batch(&mut self, lines: &[impl AsRef<[u8]>]) -> Batch {
        let hold = self.tracker.hold(self.written);
        let (data, records) = content(self.written, lines);
        self.written += data.len() as u64;
        self.account.read(data.len() as u64);
        self.tracker.attribute(self.written);
        let receipt = Receipt::new(vec![(self.source.id, hold)], Arc::clone(&self.account), &records, None);
        Batch {
            payload: Payload::Line,
            origin: Arc::clone(&self.origin),
            source: Arc::clone(&self.source),
            data,
            records,
            receipt,
        }
    }

    /// A batch of statements: the position waits for them.
    pub(crate) fn statements(&mut self, bodies: &[&str]) -> Batch {
        let held = vec![(self.source.id, self.tracker.hold(0))];
        let (data, mut records) = content(0, bodies);
        records.iter_mut().for_each(|record| record.span = Span::at(0, 0));
        Batch {
            payload: Payload::Statement,
            origin: Arc::clone(&self.origin),
            source: Arc::clone(&self.source),
            data,
            records,
            receipt: Receipt::for_statements(held, Arc::clone(&self.account)),
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.tracker.is_settled() && self.account.balance().pending.records == 0
    }
}

/// A buffer of lines that lie in their file at `offset`, and their records.
fn content(mut offset: u64, lines: &[impl AsRef<[u8]>]) -> (Vec<u8>, Vec<Record>) {
    let mut data = Vec::new();
    let mut records = Vec::new();
    for line in lines {
        let line = line.as_ref();
        let start = u32::try_from(data.len()).expect("small");
        data.extend_from_slice(line);
        let end = u32::try_from(data.len()).expect("small");
        data.push(b'\n');
        let length = line.len() as u64 + 1;
        records.push(Record {
            body: start..end,
            span: Span::at(offset, length),
            time: 1_795_255_872_000_000_001,
            stream: Stream::Stdout,
            flags: Flags::NONE,
            extra: None,
        });
        offset += length;
    }
    (data, records)
}

/// Numbered lines of about `length` bytes.
pub(crate) fn lines(from: usize, count: usize, length: usize) -> Vec<String> {
    (from..from + count).map(|n| format!("line {n:09} {}", "x".repeat(length.saturating_sub(15)))).collect()
}

pub(crate) fn config(brokers: &str) -> KafkaConfig {
    let mut config = KafkaConfig {
        brokers: brokers.split(',').map(str::to_owned).collect(),
        linger_ms: 5,
        retry_max_ms: 300,
        ..KafkaConfig::default()
    };
    for (name, value) in [("topic.metadata.propagation.max.ms", "500"), ("retry.backoff.ms", "20")] {
        config.properties.0.insert(name.to_owned(), value.to_owned());
    }
    config
}

pub(crate) fn shipper(config: &KafkaConfig) -> KafkaShipper {
    KafkaShipper::new(config, EnvelopeConfig::default(), BufferPool::new(8, 1 << 20)).expect("shipper")
}

/// Lets the shipper work until `done` holds; panics with its status when that takes too long.
pub(crate) fn until(shipper: &mut KafkaShipper, what: &str, mut done: impl FnMut(&KafkaShipper) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(180);
    while !done(shipper) {
        assert!(Instant::now() < deadline, "waited in vain for {what}: {:?}", shipper.status().get());
        shipper.idle();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A message read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl Seen {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).expect("json")
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().expect("text").to_owned()
    }
}

pub(crate) fn read(config: &KafkaConfig, topic: &str) -> Vec<Seen> {
    let mut seen = Vec::new();
    let summary = read_topic(config, topic, |message: &TopicMessage<'_>| {
        seen.push(Seen {
            partition: message.partition,
            key: message.key.unwrap_or_default().to_vec(),
            payload: message.payload.unwrap_or_default().to_vec(),
            headers: message.headers.iter().map(|(n, v)| ((*n).to_owned(), v.to_vec())).collect(),
        });
    })
    .expect("read");
    assert_eq!(summary.messages, seen.len() as u64);
    seen
}

/// The value of one of the shipper's series.
pub(crate) fn metric(shipper: &KafkaShipper, name: &str, label: &str) -> f64 {
    let mut gathered = Gathered::default();
    shipper.metrics().ask(&mut gathered).expect("asked");
    let first = |labels: &str| labels.split('"').nth(1).unwrap_or_default() == label;
    let of = |sample: &&Sample| sample.family == name && first(&sample.labels);
    gathered.samples().iter().rev().find(of).expect(name).value
}
