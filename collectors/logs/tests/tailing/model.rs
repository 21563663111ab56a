//! The random model of tailing: writers write, rotate, truncate, compress and restart; the agent is killed, told to
//! stop and started, short of descriptors, and stumbles between its system calls ([`Pace::meanwhile`]); shippers settle
//! in any order and drop receipts. In the end the topic, repeats dropped by id, must hold exactly what was written, in
//! order, nothing may be said to have vanished that has not, and the ledger must add up.
//!
//! [`Pace::meanwhile`]: taffrail_logs::Pace::meanwhile
//!
//! `TAFFRAIL_MODEL_CASES=5000 cargo test -p taffrail-logs --test tailing` runs more cases;
//! `TAFFRAIL_MODEL_SEED=17 TAFFRAIL_MODEL_CASES=1` repeats one. What a case does depends on its seed, what the
//! agent sees of it on the machine's mood: with `TAFFRAIL_MODEL_TRACE=1` one case runs at a time, and what the agent
//! did in the one that fails is printed, its files are kept. Many such processes beside each other find rare failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::agent::{Agent, Arrived, Topic, config};
use super::writer::{Kind, Random, Writer};
use parking_lot::Mutex;

/// Cases that run beside each other.
const AT_ONCE: u64 = 8;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn whatever_writers_and_crashes_do_every_line_arrives_in_order() {
    let traced = setting("TAFFRAIL_MODEL_TRACE", 0) > 0;
    if traced {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(|| Tape)
            .init();
    }
    let at_once = if traced { 1 } else { AT_ONCE };
    let first = setting("TAFFRAIL_MODEL_SEED", 1);
    let cases = setting("TAFFRAIL_MODEL_CASES", 1000);
    let next = AtomicU64::new(first);
    let repeats = AtomicU64::new(0);
    // Most of a case is waiting.
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(cases) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + cases {
                        return;
                    }
                    repeats.fetch_add(Case::new(seed).run(), Ordering::Relaxed);
                }
            });
        }
    });
    println!("{cases} cases from seed {first}: {repeats:?} repeats, each recognised by its id");
}

/// What was traced of the case that runs.
static TAPE: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Tape;

impl std::io::Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        TAPE.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Case {
    seed: u64,
    random: Random,
    root: tempfile::TempDir,
    topic: Arc<Mutex<Topic>>,
    writers: Vec<Writer>,
    agent: Option<Agent>,
    probes: u64,
    /// Files were removed: when the agent died before it had let them go, their end is not known.
    removed: bool,
}

impl Drop for Case {
    fn drop(&mut self) {
        let tape = std::mem::take(&mut *TAPE.lock());
        if std::thread::panicking() && !tape.is_empty() {
            self.root.disable_cleanup(true);
            eprintln!("the files of seed {} are kept in {:?}", self.seed, self.root.path());
            eprintln!("{}", String::from_utf8_lossy(&tape));
        }
    }
}

impl Case {
    fn new(seed: u64) -> Case {
        let mut random = Random(seed.wrapping_mul(0x1234_5678_9ABC_DEF1));
        let root = tempfile::tempdir().expect("a directory");
        let kinds = [Kind::Kubelet, Kind::Renamed, Kind::Copied];
        let writers = (0..=random.below(3) as usize)
            .map(|i| Writer::new(kinds[random.below(3) as usize], i, root.path()))
            .collect();
        Case { seed, random, root, topic: Arc::default(), writers, agent: None, probes: 0, removed: false }
    }

    fn run(mut self) -> u64 {
        self.start();
        for _ in 0..10 + self.random.below(40) {
            self.step();
        }
        self.start();
        for writer in &mut self.writers {
            writer.end(&mut self.random);
        }
        self.await_all();
        self.await_settled();
        self.check();
        let agent = self.agent.take().expect("running");
        let ledger = Arc::clone(&agent.ledger);
        agent.terminate();
        for account in ledger.accounts() {
            let balance = account.balance();
            assert_eq!(balance.difference(), 0, "seed {}: {:?} {balance:?}", self.seed, account.names());
        }
        let topic = self.topic.lock();
        topic.repeats
    }

    fn start(&mut self) {
        if self.agent.is_none() {
            self.agent = Some(Agent::start_holding(
                self.most_open(),
                self.root.path(),
                config(self.root.path()),
                &self.topic,
                self.random.next(),
                self.drops(),
            ));
        }
    }

    /// In every other case the shipper drops receipts: what is read again then comes after what followed it.
    fn drops(&self) -> bool {
        self.seed % 2 == 1
    }

    /// In every other pair of cases lanes that rest are put to sleep for others.
    fn most_open(&self) -> usize {
        if (self.seed / 2).is_multiple_of(2) { usize::MAX } else { 12 }
    }

    fn step(&mut self) {
        let which = self.random.below(self.writers.len() as u64) as usize;
        let operation = self.random.below(20);
        let (written, agent) = (self.writers[which].number(), self.agent.is_some());
        tracing::info!(which, operation, written, agent, "step");
        match operation {
            0..=9 => self.writers[which].write(&mut self.random),
            10 | 11 => {
                // A copy and truncation loses what is written between the two by itself, and what no copy
                // keeps is lost by the writer: at most so many copies are kept here, never fewer.
                self.writers[which].rotate(&mut self.random);
            }
            12 => self.writers[which].restart(),
            13 if self.writers[which].kind == Kind::Kubelet => self.writers[which].compress(),
            14 => {
                if let Some(agent) = self.agent.take() {
                    agent.kill();
                }
            }
            15 => {
                if let Some(agent) = self.agent.take() {
                    agent.terminate();
                }
            }
            16 | 17 => self.start(),
            18 if self.agent.is_some() => {
                for writer in &mut self.writers {
                    writer.end(&mut self.random);
                }
                self.await_all();
                self.await_settled();
                self.writers[which].remove_rotated();
                self.removed = true;
            }
            _ => std::thread::sleep(Duration::from_millis(self.random.below(15))),
        }
    }

    /// Until as many records have arrived as were written.
    fn await_all(&self) {
        tracing::info!("waiting for what was written");
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let missing = self.missing();
            if missing.is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "seed {}: {missing:?} did not arrive; files in {:?}",
                self.seed,
                self.root.path()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Until what has arrived is confirmed and written down: only then may a file be removed without a trace.
    fn await_settled(&mut self) {
        let ledger = self.agent.as_ref().map(|agent| Arc::clone(&agent.ledger)).expect("running");
        let settled = || ledger.accounts().iter().all(|account| account.balance().pending.records == 0);
        let deadline = Instant::now() + Duration::from_secs(180);
        while !settled() {
            assert!(Instant::now() < deadline, "seed {}: receipts stay open", self.seed);
            std::thread::sleep(Duration::from_millis(1));
        }
        // A new file's first record is sent when its identity is written down, and so is what changed before. Of two
        // after each other, the second cannot have met a writing that had begun before.
        for _ in 0..2 {
            self.probe(deadline);
        }
    }

    fn probe(&mut self, deadline: Instant) {
        self.probes += 1;
        let (directory, name) = (self.root.path().join("files/probes"), format!("probe{}.log", self.probes));
        std::fs::create_dir_all(&directory).expect("a directory");
        let mut probe = std::fs::File::create(directory.join(&name)).expect("created");
        std::io::Write::write_all(&mut probe, b"probe\n").expect("written");
        let lane = (name, 0);
        while !self.topic.lock().records.contains_key(&lane) {
            assert!(Instant::now() < deadline, "seed {}: {} did not arrive", self.seed, lane.0);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn missing(&self) -> Vec<String> {
        let topic = self.topic.lock();
        let mut missing = Vec::new();
        for writer in &self.writers {
            for (stream, expected) in writer.expected.iter().enumerate() {
                let got = topic.records.get(&(writer.name.clone(), stream as u8)).map_or(0, Vec::len);
                if got < expected.len() {
                    let records = topic.records.get(&(writer.name.clone(), stream as u8));
                    let here = |want: &&Vec<u8>| records.is_some_and(|r| r.iter().any(|a| a.body == **want));
                    let first = expected.iter().find(|want| !here(want)).map(|b| number(b));
                    missing.push(format!(
                        "{:?} {} stream {stream}: {got} of {}, first {first:?}",
                        writer.kind,
                        writer.name,
                        expected.len()
                    ));
                }
            }
        }
        missing
    }

    fn check(&self) {
        let topic = self.topic.lock();
        assert!(
            topic.conflicts.is_empty(),
            "seed {}: one id, two contents: {:?}",
            self.seed,
            topic.conflicts
        );
        let vanished = topic.statements.iter().find(|s| s["ledger"]["kind"] == "vanished");
        assert!(self.removed || vanished.is_none(), "seed {}: nothing went away: {vanished:?}", self.seed);
        for writer in &self.writers {
            for (stream, expected) in writer.expected.iter().enumerate() {
                let mut got =
                    topic.records.get(&(writer.name.clone(), stream as u8)).cloned().unwrap_or_default();
                // What is read again after a dropped receipt comes after what followed it in the next file. A file that
                // is copied and truncated before its first byte was read shows its new content first.
                if self.drops() || writer.kind == Kind::Copied {
                    got.sort_by_key(|arrived| number(&arrived.body));
                    self.check_each_file(&got);
                }
                let at = got.iter().zip(expected.iter()).position(|(arrived, want)| arrived.body != *want);
                let show = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
                if let Some(at) =
                    at.or((got.len() != expected.len()).then_some(expected.len().min(got.len())))
                {
                    panic!(
                        "seed {}: {:?} {} stream {stream}, record {at} of {} (expected {}): got {:?}, expected {:?}",
                        self.seed,
                        writer.kind,
                        writer.name,
                        got.len(),
                        expected.len(),
                        got.get(at).map(|arrived| (&arrived.id, show(&arrived.body))),
                        expected.get(at).map(|b| show(b)),
                    );
                }
            }
        }
    }
}

impl Case {
    /// Within a file, what is read again is followed by all that follows it.
    fn check_each_file(&self, got: &[Arrived]) {
        for pair in got.windows(2) {
            let ([(file, _, _)], [(next, _, _)]) = (&*pair[0].id, &*pair[1].id) else { continue };
            let late = file == next && pair[0].last > pair[1].last;
            assert!(!late, "seed {}: {:?} came last after {:?}", self.seed, pair[0].id, pair[1].id);
        }
    }
}

/// The number that a message begins with (`name:number ...`; of joined parts, the first).
fn number(body: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(body);
    let digits = text.split(':').nth(1).unwrap_or_default();
    digits.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().unwrap_or(0)
}
