//! The run: everything is started, faults come one after the other, and in the end accounts are made up.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use taffrail_parts::{Kafka, KafkaOptions};

use super::agent::{Agent, Settings, Setup};
use super::consumer::Follower;
use super::faults::{self, FullDisk};
use super::lines::Lane;
use super::oracle::Oracle;
use super::plan::{self, Fault};
use super::random::Random;
use super::summary::Summary;
use super::writer::{Shared, Writer};
use crate::preload::Preload;

pub(super) const TOPIC: &str = "taffrail.logs";
pub(super) const LEDGER_TOPIC: &str = "taffrail.ledger";
/// Size of the state's own file system.
const STATE_BYTES: u64 = 8 << 20;
/// Bytes that a container may be ahead of what has arrived.
const UNREAD: u64 = 24 << 20;
/// The thread of the agent that the preload's failures are for: none, here only the clock is used.
const NO_THREAD: &str = "none";

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
    /// Bytes a second that all of them may print; without, as many as they can.
    pub rate: Option<u64>,
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
        preload: Preload::build(directory, NO_THREAD)?,
    };
    File::create(&setup.config)?.write_all(settings.yaml().as_bytes())?;
    let mut torture = Torture::start(options, settings, setup, broker, disk.is_ok())?;
    torture.faults()?;
    torture.finish()
}

/// What happened since accounts were made up last.
#[derive(Default)]
pub(super) struct Since {
    pub(super) repeated_bytes: u64,
    pub(super) kills: u64,
    pub(super) stops: u64,
    pub(super) lost_positions: bool,
}

/// How many lines each stream of a container has in the end.
type Printed = std::io::Result<Vec<(Lane, u64)>>;

pub(super) struct Torture<'a> {
    pub(super) options: &'a Options,
    pub(super) settings: Settings<'a>,
    pub(super) setup: Setup,
    pub(super) broker: Kafka,
    disk: bool,
    random: Random,
    pub(super) oracle: Arc<Oracle>,
    pub(super) shared: Arc<Shared>,
    pub(super) writers: Vec<JoinHandle<Printed>>,
    pub(super) follower: Follower,
    pub(super) agent: Agent,
    pub(super) since: Since,
    /// The agent that lives began after a kill: what had arrived beyond its last position and was deleted since, it must
    /// take for lost.
    pub(super) doubtful: bool,
    pub(super) summary: Summary,
    pub(super) start: Instant,
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
            rate: options.rate.map(|rate| rate / u64::from(options.writers.max(1))),
            unread: UNREAD,
            stop: AtomicBool::new(false),
            written: AtomicU64::new(0),
            pause: AtomicU64::new(0),
            paused: Mutex::default(),
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
            follower,
            since: Since::default(),
            doubtful: false,
            summary: Summary {
                // What is under way, and what is confirmed and waits to be written down.
                repeat_bound: options.memory + options.checkpoint_bytes,
                ..Summary::default()
            },
            start: Instant::now(),
        })
    }

    fn faults(&mut self) -> Result<()> {
        let mut faults = 0;
        while self.start.elapsed() < self.options.time {
            loop {
                thread::sleep(plan::calm(&mut self.random));
                let fault = plan::next(&mut self.random, faults, self.disk, &self.options.faults);
                faults += 1;
                self.say(&format!("{fault:?}"));
                self.summary.count(fault);
                self.strike(fault)?;
                // In the first round each fault is held to account alone.
                if faults <= plan::KINDS || !plan::no_rest(&mut self.random) {
                    break;
                }
            }
            self.summary.cycles += 1;
            if !self.reckon()? {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn say(&self, what: &str) {
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
            }
            Fault::BrokerFrozen => {
                self.broker.freeze()?;
                thread::sleep(spell);
                self.broker.thaw()?;
            }
            Fault::AgentFrozen => {
                self.agent.signal(Signal::SIGSTOP)?;
                thread::sleep(spell);
                self.agent.signal(Signal::SIGCONT)?;
            }
            Fault::ClockStepped => self.step_clock(spell)?,
        }
        if fault.kills() > 0 || fault == Fault::Stop {
            self.doubtful = fault.kills() > 0;
        }
        let between =
            matches!(fault, Fault::Kill | Fault::KillTwice | Fault::Stop | Fault::Damage | Fault::FullDisk);
        if between { self.live() } else { Ok(()) }
    }

    /// The last step stays, over the lives to come, until another.
    fn step_clock(&mut self, spell: Duration) -> Result<()> {
        let count = self.random.below(3);
        let mut steps: Vec<i64> = (0..count).map(|_| plan::clock(&mut self.random)).collect();
        steps.push(plan::clock_that_stays(&mut self.random));
        for ahead in steps {
            eprintln!("          the agent's clock is {ahead} s ahead");
            self.setup.preload.set_clock(ahead)?;
            thread::sleep(spell / 3);
        }
        Ok(())
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

    pub(super) fn stop_agent(&mut self) -> Result<()> {
        self.since.stops += 1;
        if let Err(error) = self.agent.stop(Duration::from_secs(30)) {
            self.summary.find(format!("when told to stop: {error}"));
        }
        Ok(())
    }

    pub(super) fn note_memory(&mut self) {
        self.summary.peak_memory = self.summary.peak_memory.max(self.agent.peak_memory());
    }
}

/// A directory of its own for each run.
#[must_use]
pub fn default_directory(seed: u64) -> PathBuf {
    Path::new(&std::env::temp_dir()).join(format!("taffrail-torture-{seed}-{}", std::process::id()))
}
