//! Events to ship, and what became of them.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use taffrail_elasticsearch::{ElasticsearchConfig, ElasticsearchShipper};
use taffrail_record::{
    Account, Balance, Batch, Budget, BufferPool, Changes, Extra, FileId, Flags, Gathered, Input, Ledger,
    Node, Origin, Payload, Receipt, Record, Sample, Ship, Source, Span, Stream, Tracker,
};

/// 2026-11-22T00:00:00Z.
pub(crate) const TIME: i64 = 1_795_305_600_000_000_000;
pub(crate) const INDEX: &str = "taffrail-events-2026.11.22";

/// An event as it is stored: its id, its time and the document.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) time: i64,
    pub(crate) body: Vec<u8>,
}

impl Event {
    pub(crate) fn new(id: &str, body: impl Into<Vec<u8>>) -> Event {
        Event { id: id.to_owned(), time: TIME, body: body.into() }
    }

    pub(crate) fn numbered(number: usize) -> Event {
        let padding = "x".repeat(number % 700);
        let body = format!(
            r#"{{"@timestamp":"2026-11-22T00:00:00.{:09}Z","message":"Back-off restarting failed container {padding}","event":{{"kind":"event","reason":"BackOff"}},"kubernetes":{{"event":{{"count":{number}}},"labels":{{"app":"a{number}"}}}}}}"#,
            number % 1_000_000_000
        );
        Event::new(&format!("id-{number:08}"), body)
    }
}

/// The cluster's events as a source that a tracker follows.
pub(crate) struct Events {
    pub(crate) account: Arc<Account>,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) origin: Arc<Origin>,
    source: Arc<Source>,
    written: u64,
}

impl Events {
    pub(crate) fn new() -> Events {
        let node = Node { name: "n".into(), cluster: "Test/1".into(), ..Node::default() };
        let origin = Origin { node: Arc::new(node), input: Input::Events, ..Origin::default() };
        Events {
            account: Ledger::new().account(origin.names()),
            tracker: Tracker::new(1, 0, &Changes::new()),
            origin: Arc::new(origin),
            source: Arc::new(Source { id: FileId(7), path: "/events".into(), device: 0, inode: 0 }),
            written: 0,
        }
    }

    pub(crate) fn batch(&mut self, events: &[Event]) -> Batch {
        self.charged(events, None).expect("no budget to wait for")
    }

    /// A batch for which the budget has room; none when it has not within some time.
    pub(crate) fn charged(&mut self, events: &[Event], budget: Option<&Arc<Budget>>) -> Option<Batch> {
        let bytes: usize = events.iter().map(|event| event.body.len()).sum();
        let charge = match budget {
            Some(budget) => Some(budget.take(bytes as u64, Duration::from_millis(500))?),
            None => None,
        };
        let hold = self.tracker.hold(self.written);
        let (mut data, mut records) = (Vec::with_capacity(bytes), Vec::new());
        for event in events {
            let start = u32::try_from(data.len()).expect("small");
            data.extend_from_slice(&event.body);
            let end = u32::try_from(data.len()).expect("small");
            let extra = Extra { id: Some(event.id.as_str().into()), ..Extra::default() };
            records.push(Record {
                body: start..end,
                span: Span::at(self.written, event.body.len() as u64),
                time: event.time,
                stream: Stream::None,
                flags: Flags::NONE,
                extra: Some(Box::new(extra)),
            });
            self.written += event.body.len() as u64;
        }
        self.account.read(bytes as u64);
        self.tracker.attribute(self.written);
        let receipt = Receipt::new(vec![(self.source.id, hold)], Arc::clone(&self.account), &records, charge);
        Some(Batch {
            payload: Payload::Event,
            origin: Arc::clone(&self.origin),
            source: Arc::clone(&self.source),
            data,
            records,
            receipt,
        })
    }

    pub(crate) fn balance(&self) -> Balance {
        self.account.balance()
    }

    /// Whether nothing is pending; the ledger must add up at any time.
    pub(crate) fn is_settled(&self) -> bool {
        let balance = self.balance();
        assert_eq!(balance.difference(), 0, "{balance:?}");
        balance.pending.records == 0
    }
}

pub(crate) fn config(host: &str) -> ElasticsearchConfig {
    ElasticsearchConfig {
        hosts: vec![host.to_owned()],
        flush_ms: 20,
        retry_max_ms: 300,
        timeout_ms: 20_000,
        ..ElasticsearchConfig::default()
    }
}

pub(crate) fn shipper(config: &ElasticsearchConfig, folder: &Path) -> ElasticsearchShipper {
    let pool = BufferPool::new(8, 1 << 20);
    ElasticsearchShipper::new(config, &folder.join("dead-letter"), pool).expect("shipper")
}

/// Waits until `done` holds; panics with the status when that takes too long.
pub(crate) fn until(shipper: &mut ElasticsearchShipper, what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(240);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}: {:?}", shipper.status().get());
        shipper.idle();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a status that says this.
pub(crate) fn until_status(shipper: &mut ElasticsearchShipper, says: &str) -> String {
    let status = shipper.status();
    until(shipper, says, || status.get().is_some_and(|text| text.contains(says)));
    status.get().unwrap_or_default()
}

/// The lines of all dead letters.
pub(crate) fn letters(folder: &Path) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(folder.join("dead-letter"))
        .expect("directory")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some())
        .collect();
    files.sort();
    let read = |path| std::fs::read_to_string(path).expect("read");
    files.into_iter().flat_map(|path| read(path).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The value of one of the shipper's series.
pub(crate) fn metric(shipper: &ElasticsearchShipper, name: &str, label: &str) -> f64 {
    let mut gathered = Gathered::default();
    shipper.metrics().ask(&mut gathered).expect("asked");
    let first = |labels: &str| labels.split('"').nth(1).unwrap_or_default() == label;
    let of = |sample: &&Sample| sample.family == name && first(&sample.labels);
    gathered.samples().iter().rev().find(of).expect(name).value
}
