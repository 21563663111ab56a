//! The run: everything is started, faults come one after the other, and in the end accounts are made up.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use taffrail_parts::{Kafka, KafkaOptions};

use super::agent::{self, Agent, Settings, Setup};
use super::consumer::Follower;
use super::faults::{self, FullDisk};
use super::lines::Lane;
use super::oracle::Oracle;
use super::plan::{self, Fault};
use super::random::Random;
use super::summary::Summary;
use super::writer::{Shared, Writer};

const TOPIC: &str = "taffrail.logs";
const LEDGER_TOPIC: &str = "taffrail.ledger";
/// Size of the state's own file system.
const STATE_BYTES: u64 = 8 << 20;
/// Bytes that a container may be ahead of what has arrived.
const UNREAD: u64 = 24 << 20;
/// How long what was printed may take to arrive once nothing disturbs it.
const ARRIVAL: Duration = Duration::from_secs(180);
/// A life this long has sent again whatever it sends again.
const SETTLED: Duration = Duration::from_secs(3);

/// What a run is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long faults come.
    pub time: Duration,
    /// Seed of all choices.
    pub seed: u64,
    /// The `taffrail` binary.
    pub program: PathBuf,
    /// Number of containers.
    pub writers: u16,
    /// Bytes a second that all of them may print.
    pub rate: u64,
    /// `pipeline.memory` of the agent.
    pub memory: u64,
    /// `state.checkpoint_bytes` of the agent.
    pub checkpoint_bytes: u64,
    /// The faults to choose from; empty for all.
    pub faults: Vec<Fault>,
    /// Memory that the agent may hold at most.
    pub memory_bound: u64,
    /// Where everything is kept; it must not exist. Left there afterwards.
    pub directory: PathBuf,
}

/// Runs it. To be called before any thread is started.
///
/// # Errors
/// When the scene cannot be set. What is wrong with the agent is in the summary.
pub fn run(options: &Options) -> Result<Summary> {
    let directory = &options.directory;
    let state = directory.join("state");
    fs::create_dir_all(&state).with_context(|| format!("cannot make {}", state.display()))?;
    let disk = faults::small_disk(&state, STATE_BYTES);
    if let Err(error) = &disk {
        eprintln!("no full disks in this run: cannot mount ({error})");
    }
    let broker = Kafka::start(KafkaOptions::default())?;
    let brokers = broker.bootstrap();
    let settings = Settings {
        pods: &directory.join("pods"),
        state: &state,
        brokers: &brokers,
        topic: TOPIC,
        ledger_topic: LEDGER_TOPIC,
        memory: options.memory,
        checkpoint_bytes: options.checkpoint_bytes,
    };
    let setup = Setup {
        program: options.program.clone(),
        config: directory.join("taffrail.yaml"),
        log: directory.join("agent.log"),
    };
    File::create(&setup.config)?.write_all(settings.yaml().as_bytes())?;
    let mut torture = Torture::start(options, settings, setup, broker, disk.is_ok())?;
    torture.faults()?;
    torture.finish()
}

/// What is between two moments at which repeats are counted.
#[derive(Default)]
struct Since {
    repeated_bytes: u64,
    kills: u64,
    lost_positions: bool,
    disturbed: bool,
}

/// How many lines each stream of a container has in the end.
type Printed = std::io::Result<Vec<(Lane, u64)>>;

struct Torture<'a> {
    options: &'a Options,
    settings: Settings<'a>,
    setup: Setup,
    broker: Kafka,
    disk: bool,
    random: Random,
    oracle: Arc<Oracle>,
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<Printed>>,
    _follower: Follower,
    agent: Agent,
    since: Since,
    summary: Summary,
    start: Instant,
}

impl<'a> Torture<'a> {
    fn start(
        options: &'a Options,
        settings: Settings<'a>,
        setup: Setup,
        broker: Kafka,
        disk: bool,
    ) -> Result<Self> {
        let oracle = Arc::new(Oracle::new(options.seed));
        let shared = Arc::new(Shared {
            root: settings.pods.to_owned(),
            oracle: Arc::clone(&oracle),
            seed: options.seed,
            rate: options.rate / u64::from(options.writers.max(1)),
            unread: UNREAD,
            stop: AtomicBool::new(false),
            written: AtomicU64::new(0),
        });
        let writers = (0..options.writers).map(|number| {
            Writer::new(Arc::clone(&shared), number).map(|writer| thread::spawn(move || writer.run()))
        });
        let writers = writers.collect::<Result<_, _>>().context("cannot make the containers' logs")?;
        let follower = Follower::start(broker.bootstrap(), TOPIC.to_owned(), Arc::clone(&oracle));
        Ok(Torture {
            options,
            agent: Agent::start(&setup)?,
            settings,
            setup,
            broker,
            disk,
            random: Random::new(options.seed, &[7]),
            oracle,
            shared,
            writers,
            _follower: follower,
            since: Since::default(),
            summary: Summary {
                // What is under way, what is confirmed and waits to be written down, and what moves while it is.
                repeat_bound: options.memory + 2 * options.checkpoint_bytes,
                ..Summary::default()
            },
            start: Instant::now(),
        })
    }

    fn faults(&mut self) -> Result<()> {
        let mut cycle = 0;
        while self.start.elapsed() < self.options.time {
            let calm = plan::calm(&mut self.random);
            thread::sleep(calm);
            self.account(calm);
            let fault = plan::next(&mut self.random, cycle, self.disk, &self.options.faults);
            cycle += 1;
            self.say(&format!("{fault:?}"));
            self.summary.count(fault);
            self.strike(fault)?;
        }
        thread::sleep(SETTLED);
        self.account(SETTLED);
        Ok(())
    }

    fn say(&self, what: &str) {
        let written = self.shared.written.load(Ordering::Relaxed) as f64 / 1e6;
        let heard = self.oracle.heard();
        let (records, repeats) = (heard.records, heard.repeats);
        drop(heard);
        let at = self.start.elapsed().as_secs_f64();
        eprintln!(
            "{at:>7.1} s  {written:>8.1} MB printed, {records:>9} records heard, {repeats:>7} repeats  {what}"
        );
    }

    fn strike(&mut self, fault: Fault) -> Result<()> {
        let spell = plan::spell(&mut self.random);
        self.since.lost_positions |= fault.loses_positions();
        self.since.disturbed = false;
        self.note_memory();
        match fault {
            Fault::None => {}
            Fault::Kill => self.kill()?,
            Fault::KillTwice => {
                self.kill()?;
                self.live()?;
                thread::sleep(spell / 10);
                self.kill()?;
            }
            Fault::Stop => self.stop_agent()?,
            Fault::Damage => {
                self.kill()?;
                if let Some(what) = faults::damage(self.settings.state, &mut self.random)? {
                    eprintln!("          {what}");
                }
            }
            Fault::FullDisk => {
                let full = FullDisk::fill(self.settings.state)?;
                thread::sleep(spell);
                self.note_memory();
                self.kill()?;
                drop(full);
            }
            Fault::BrokerDown | Fault::BrokerDownAndKill => {
                self.broker.kill();
                thread::sleep(spell);
                if fault == Fault::BrokerDownAndKill {
                    self.kill()?;
                    self.live()?;
                }
                self.broker.start_again()?;
                self.since.disturbed = true;
            }
            Fault::BrokerFrozen => {
                self.broker.freeze()?;
                thread::sleep(spell);
                self.broker.thaw()?;
                self.since.disturbed = true;
            }
            Fault::AgentFrozen => {
                self.agent.signal(Signal::SIGSTOP)?;
                thread::sleep(spell);
                self.agent.signal(Signal::SIGCONT)?;
            }
        }
        let between =
            matches!(fault, Fault::Kill | Fault::KillTwice | Fault::Stop | Fault::Damage | Fault::FullDisk);
        if between { self.live() } else { Ok(()) }
    }

    fn live(&mut self) -> Result<()> {
        self.agent = Agent::start(&self.setup)?;
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.note_memory();
        self.summary.kills += 1;
        self.since.kills += 1;
        if let Err(error) = self.agent.kill() {
            self.summary.find(format!("before a kill: {error}"));
        }
        Ok(())
    }

    fn stop_agent(&mut self) -> Result<()> {
        if let Err(error) = self.agent.stop(Duration::from_secs(30)) {
            self.summary.find(format!("when told to stop: {error}"));
        }
        Ok(())
    }

    fn note_memory(&mut self) {
        self.summary.peak_memory = self.summary.peak_memory.max(self.agent.peak_memory());
    }

    /// Holds the repeats since the last time against the kills since then, when this life was long enough to have sent
    /// again what it had to.
    fn account(&mut self, calm: Duration) {
        if let Err(error) = self.agent.must_live() {
            self.summary.find(format!("undisturbed: {error}"));
        }
        if calm < SETTLED || self.since.disturbed {
            return;
        }
        let repeated = self.oracle.heard().repeated_bytes;
        let since = std::mem::take(&mut self.since);
        let new = repeated - since.repeated_bytes;
        self.since.repeated_bytes = repeated;
        let each = new / since.kills.max(1);
        if since.lost_positions {
            self.summary.most_repeated_without_positions =
                self.summary.most_repeated_without_positions.max(each);
            return;
        }
        self.summary.most_repeated = self.summary.most_repeated.max(each);
        if new > since.kills * self.summary.repeat_bound {
            self.summary.find(format!("{new} bytes repeated after {} kills", since.kills));
        }
    }

    fn finish(mut self) -> Result<Summary> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut printed = Vec::new();
        for writer in std::mem::take(&mut self.writers) {
            let ended = writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
            printed.extend(ended.context("a container could not print")?);
        }
        self.summary.bytes = self.shared.written.load(Ordering::Relaxed);
        self.summary.lines = printed.iter().map(|(_, count)| count).sum();
        self.say("all is printed, waiting for it to arrive");
        self.await_arrival(&printed);
        self.note_memory();
        self.stop_agent()?;
        self.read_again(&printed)?;
        self.verify()?;
        if !self.summary.findings.is_empty() {
            self.keep_ledger()?;
        }
        if self.summary.peak_memory > self.options.memory_bound {
            let (peak, bound) = (self.summary.peak_memory, self.options.memory_bound);
            self.summary.find(format!("the agent held {peak} bytes of memory, more than {bound}"));
        }
        self.summary.elapsed = self.start.elapsed();
        Ok(self.summary)
    }

    fn await_arrival(&mut self, printed: &[(Lane, u64)]) {
        let start = Instant::now();
        let missing =
            |oracle: &Oracle| printed.iter().filter(|(lane, count)| oracle.next(*lane) < *count).count();
        while missing(&self.oracle) > 0 && start.elapsed() < ARRIVAL {
            thread::sleep(Duration::from_millis(100));
        }
        self.say("the wait is over");
        let missing = missing(&self.oracle);
        if missing > 0 {
            self.summary.find(format!("{missing} streams had not arrived after {ARRIVAL:?}"));
        }
    }

    /// Everything once more from the topic's beginning, by Kafka's own consumer and a listener that has heard nothing.
    fn read_again(&mut self, printed: &[(Lane, u64)]) -> Result<()> {
        let oracle = Oracle::new(self.options.seed);
        self.broker.consume(TOPIC, |record| {
            oracle.hear(record.value.as_deref().unwrap_or_default());
            Ok(())
        })?;
        for (lane, count) in printed {
            if let Some((lost, first)) = oracle.lost(*lane, *count) {
                self.summary.find(format!("LOST {lane:?}: {lost} of {count} lines, the first is {first}"));
            }
        }
        let heard = oracle.heard();
        self.summary.repeats = heard.repeats;
        if heard.wrong > 0 {
            let findings = heard.findings.clone();
            let wrong = heard.wrong;
            drop(heard);
            self.summary.find(format!("{wrong} records are wrong:"));
            findings.into_iter().for_each(|finding| self.summary.find(finding));
        }
        Ok(())
    }

    /// What the agent claimed, for whoever looks for the cause.
    fn keep_ledger(&self) -> Result<()> {
        let mut kept = BufWriter::new(File::create(self.options.directory.join("ledger.ndjson"))?);
        self.broker.consume(LEDGER_TOPIC, |record| {
            kept.write_all(record.value.as_deref().unwrap_or_default())?;
            Ok(kept.write_all(b"\n")?)
        })?;
        Ok(kept.flush()?)
    }

    fn verify(&mut self) -> Result<()> {
        let report = self.options.directory.join("verify.json");
        let (status, value) = agent::verify(&self.setup, &self.settings, &report)?;
        self.summary.verdict = value["verdict"].as_str().unwrap_or("no verdict").to_owned();
        if !status.success() {
            self.summary.find(format!("verify ended with {status}: {}", self.summary.verdict));
        }
        let lost = value["lost"].as_object().is_none_or(|lost| !lost.is_empty());
        if lost {
            self.summary.find(format!("verify says lost: {}", value["lost"]));
        }
        let delivered = value["delivered"]["records"].as_u64().unwrap_or(0);
        if delivered != self.summary.lines {
            self.summary.find(format!(
                "verify counts {delivered} records, {} lines were printed",
                self.summary.lines
            ));
        }
        Ok(())
    }
}

/// A directory of its own for each run.
#[must_use]
pub fn default_directory(seed: u64) -> PathBuf {
    Path::new(&std::env::temp_dir()).join(format!("taffrail-torture-{seed}-{}", std::process::id()))
}
