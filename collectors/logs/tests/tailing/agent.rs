//! The collector under test, with a shipper that remembers, delays, shuffles and forgets.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use parking_lot::Mutex;
use taffrail_checkpoint::{Options, Store};
use taffrail_logs::config::{FileInput, KubernetesLogs};
use taffrail_logs::find::Handed;
use taffrail_logs::{LogsCollector, LogsConfig, Pace, Rhythm};
use taffrail_record::{
    Ask, Batch, Beat, Budget, BufferPool, Collector, Context, Extra, FileId, Flags, Gathered, Ledger,
    LossReason, Outlet, Payload, Receipt, Record, Stop, Stream,
};

use super::writer::Random;

/// A record's pieces: its id in the topic.
pub(crate) type Id = Vec<(FileId, u64, u64)>;

/// A record as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) id: Id,
    pub(crate) body: Vec<u8>,
    pub(crate) flags: Flags,
    /// The number of its last arrival among all arrivals.
    pub(crate) last: u64,
}

/// What the far side has, in order of arrival.
#[derive(Default)]
pub(crate) struct Topic {
    /// Per account (container or file) and stream.
    pub(crate) records: BTreeMap<(String, u8), Vec<Arrived>>,
    /// The ledger's statements.
    pub(crate) statements: Vec<serde_json::Value>,
    pub(crate) repeats: u64,
    arrivals: u64,
    /// Where each id is among the records of its lane.
    seen: BTreeMap<Id, usize>,
    /// The same id with other content: must stay empty.
    pub(crate) conflicts: Vec<Id>,
}

impl Topic {
    fn take(&mut self, batch: &Batch) {
        if batch.payload == Payload::Statement {
            let statements =
                batch.records.iter().map(|r| serde_json::from_slice(batch.body(r)).expect("a statement"));
            self.statements.extend(statements);
            return;
        }
        for record in &batch.records {
            let id = id_of(batch.source.id, record);
            let body = batch.body(record).to_vec();
            let container = batch.origin.container.as_ref().map(|c| c.name.clone());
            let lane = container.unwrap_or_else(|| lane_of(&batch.source.path));
            let stream = u8::from(record.stream == Stream::Stderr);
            let arrived = self.records.entry((lane, stream)).or_default();
            self.arrivals += 1;
            if let Some(before) = self.seen.get(&id) {
                self.repeats += 1;
                arrived[*before].last = self.arrivals;
                if arrived[*before].body != body {
                    self.conflicts.push(id);
                }
                continue;
            }
            self.seen.insert(id.clone(), arrived.len());
            arrived.push(Arrived { id, body, flags: record.flags, last: self.arrivals });
        }
    }
}

/// `app.log.1` and `app.log` are one lane.
fn lane_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.split(".log").next().map(|base| format!("{base}.log")).unwrap_or(name)
}

fn id_of(file: FileId, record: &Record) -> Id {
    match record.extra.as_deref() {
        Some(Extra { fragments, .. }) if !fragments.is_empty() => {
            fragments.iter().map(|f| (f.file, f.span.start, f.span.end)).collect()
        }
        _ => vec![(file, record.span.start, record.span.end)],
    }
}

/// What may be under way.
pub(crate) const MEMORY: u64 = 64 * 1024;
/// What may be confirmed and not written down.
pub(crate) const CHECKPOINT_BYTES: u64 = 16 * 1024;

/// One life of the agent.
pub(crate) struct Agent {
    stop: Stop,
    collector: JoinHandle<()>,
    shipper: JoinHandle<()>,
    pub(crate) killed: Arc<Mutex<bool>>,
    /// While it is held, the far side takes nothing.
    pub(crate) gate: Arc<Mutex<()>>,
    /// While it is set, the far side confirms no statement.
    pub(crate) speechless: Arc<AtomicBool>,
    pub(crate) ledger: Arc<Ledger>,
    metrics: Arc<dyn Ask>,
}

pub(crate) fn config(root: &Path) -> LogsConfig {
    LogsConfig {
        kubernetes: KubernetesLogs {
            root: root.join("pods"),
            links: root.join("none"),
            ..KubernetesLogs::default()
        },
        files: vec![FileInput {
            paths: vec![format!("{}/files/*/*.log", root.display())],
            ..FileInput::default()
        }],
        partial_timeout_ms: 3_600_000,
        read_block_bytes: 4096,
        poll_interval_ms: 1,
        rescan_seconds: 1,
        ..LogsConfig::default()
    }
}

impl Agent {
    pub(crate) fn start(
        root: &Path,
        config: LogsConfig,
        topic: &Arc<Mutex<Topic>>,
        seed: u64,
        drops: bool,
    ) -> Agent {
        Agent::start_holding(usize::MAX, root, config, topic, seed, drops)
    }

    /// One that puts idle lanes to sleep while more than `most_open` files are open.
    pub(crate) fn start_holding(
        most_open: usize,
        root: &Path,
        config: LogsConfig,
        topic: &Arc<Mutex<Topic>>,
        seed: u64,
        drops: bool,
    ) -> Agent {
        let (store, _) = Store::open(&root.join("state"), Options::default()).expect("a store");
        let (outlet, batches) = Outlet::channel(4);
        let (stop, ledger) = (Stop::new(), Ledger::new());
        let context = Context {
            outlet,
            stop: stop.clone(),
            beat: Beat::new(),
            budget: Budget::new(MEMORY),
            pool: BufferPool::new(4, 1 << 20),
            ledger: Arc::clone(&ledger),
        };
        let rhythm = Rhythm { interval: Duration::from_millis(5), bytes: CHECKPOINT_BYTES };
        let pace = Pace {
            plain_grace: Duration::from_millis(20),
            kubelet_grace: Duration::from_millis(10),
            unlinked_grace: Duration::from_millis(20),
            name_check: Duration::from_millis(1),
            park_after: Duration::from_millis(30),
            truncation: Duration::from_secs(2),
            progress: Duration::from_millis(50),
            meanwhile: stumble,
        };
        let store = Arc::new(Mutex::new(store));
        let drain = Duration::from_millis(500);
        let logs = LogsCollector::new(config, Arc::default(), Handed::new(), store, rhythm, drain);
        let mut logs = logs.with_pace(pace).with_most_open(most_open);
        let metrics = logs.metrics();
        let collector = thread::spawn(move || logs.run(&context).expect("the collector runs"));
        let killed = Arc::new(Mutex::new(false));
        let gate = Arc::new(Mutex::new(()));
        let speechless = Arc::new(AtomicBool::new(false));
        let shipper = Shipper {
            batches,
            topic: Arc::clone(topic),
            dead: Arc::clone(&killed),
            gate: Arc::clone(&gate),
            speechless: Arc::clone(&speechless),
            random: Random(seed),
            drops,
        };
        let shipper = thread::spawn(move || shipper.run());
        Agent { stop, collector, shipper, killed, gate, speechless, ledger, metrics }
    }

    /// The value of a sample; 0 where there is none.
    pub(crate) fn sample(&self, family: &str, labels: &[&str]) -> f64 {
        let mut gathered = Gathered::default();
        self.metrics.ask(&mut gathered).expect("asked");
        let values = |rendered: &str| -> Vec<String> {
            rendered.split('"').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let found = gathered.samples().iter().find(|s| s.family == family && values(&s.labels) == labels);
        found.map_or(0.0, |sample| sample.value)
    }

    /// From this moment nothing is settled and nothing arrives: as if the process had gone.
    pub(crate) fn kill(self) {
        *self.killed.lock() = true;
        self.end();
    }

    /// Told to stop, it drains.
    pub(crate) fn terminate(self) {
        self.end();
    }

    fn end(self) {
        self.stop.raise();
        self.shipper.join().expect("the shipper ends");
        self.collector.join().expect("the collector ends");
    }
}

/// Now and then gives others the time to do something at the worst moment.
fn stumble() {
    thread_local!(static RANDOM: Cell<Random> = Cell::new(Random(RandomState::new().hash_one(()))));
    let mut random = RANDOM.replace(Random(0));
    if random.one_in(8) {
        thread::sleep(Duration::from_micros(random.below(2000)));
    }
    RANDOM.set(random);
}

/// What no shipper of the tests can deliver.
pub(crate) const UNDELIVERABLE: &str = "larger than anybody takes";

/// The far side.
struct Shipper {
    batches: Receiver<Batch>,
    topic: Arc<Mutex<Topic>>,
    dead: Arc<Mutex<bool>>,
    gate: Arc<Mutex<()>>,
    speechless: Arc<AtomicBool>,
    random: Random,
    drops: bool,
}

impl Shipper {
    /// Takes batches into the topic, keeps some receipts for a while, settles them in any order, abandons a few.
    fn run(mut self) {
        let mut open: Vec<Receipt> = Vec::new();
        let mut statements: Vec<Receipt> = Vec::new();
        loop {
            drop(self.gate.lock());
            match self.batches.recv_timeout(Duration::from_millis(2)) {
                Ok(mut batch) => {
                    let dead = self.dead.lock();
                    let ends = [batch.records.first(), batch.records.last()].map(|r| r.map(|r| r.span));
                    // Refused for the moment: the collector must read it again.
                    let refused = batch.payload == Payload::Line && self.drops && self.random.one_in(50);
                    tracing::trace!(source = ?batch.source.path, ?ends, refused, dead = *dead, "shipped");
                    if *dead || refused {
                        continue;
                    }
                    give_up(&mut batch);
                    self.topic.lock().take(&batch);
                    let is_line = batch.payload == Payload::Line;
                    if is_line { &mut open } else { &mut statements }.push(batch.receipt);
                    if !self.speechless.load(Ordering::Acquire) {
                        open.append(&mut statements);
                    }
                    while open.len() > 6 || !open.is_empty() && self.random.one_in(3) {
                        open.swap_remove(self.random.below(open.len() as u64) as usize).confirm();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let dead = self.dead.lock();
                    if !*dead {
                        if !self.speechless.load(Ordering::Acquire) {
                            open.append(&mut statements);
                        }
                        open.drain(..).for_each(Receipt::confirm);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Declares lost what cannot be delivered.
fn give_up(batch: &mut Batch) {
    let is_delivered = |record: &Record| batch.body(record) != UNDELIVERABLE.as_bytes();
    let (delivered, lost): (Vec<Record>, Vec<Record>) = batch.records.iter().cloned().partition(is_delivered);
    for record in &lost {
        batch.receipt.lose_record(batch.source.id, record, LossReason::TooLarge);
    }
    batch.records = delivered;
}
