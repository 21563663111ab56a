//! The agent by itself: at full speed into nothing, at a steady rate, with many files, idle, and started anew.
//!
//! Each figure is printed with its goal. Processor time is the agent's own, as the kernel counts it.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use taffrail_benches::agent::{self, Form, Output};
use taffrail_benches::build;
use taffrail_benches::ended;
use taffrail_benches::lines::{self, Dice, Written};
use taffrail_benches::process::Measured;
use taffrail_parts::kafka::Topic;
use taffrail_parts::{Kafka, KafkaOptions};

const PATIENCE: Duration = Duration::from_secs(300);

/// Measures the agent by itself.
#[derive(Debug, Parser)]
#[command(name = "scale")]
struct Arguments {
    /// What to measure; everything when nothing is named
    what: Vec<What>,
    /// Megabytes of log for the full-speed figures
    #[arg(long, default_value_t = 1000)]
    mb: u64,
    /// Seconds that the steady and the idle figures are measured for
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Profile that the agent is built with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Full speed into the null sink
    Null,
    /// 10 MB/s from 110 files into Kafka
    Steady,
    /// 20,000 files that nobody writes
    Idle,
    /// The cost of a line with 10, 100 and 1,000 files
    Files,
    /// Starting with 100,000 files known
    Start,
}

struct Bench {
    agent: PathBuf,
    folder: tempfile::TempDir,
    arguments: Arguments,
}

fn main() -> ExitCode {
    ended("scale", run(Arguments::parse()))
}

fn run(arguments: Arguments) -> Result<()> {
    let agent = build::agent(&arguments.profile)?;
    let folder = tempfile::Builder::new().prefix("taffrail-scale-").tempdir()?;
    let bench = Bench { agent, folder, arguments };
    for what in What::value_variants() {
        if bench.arguments.what.is_empty() || bench.arguments.what.contains(what) {
            match what {
                What::Null => bench.null()?,
                What::Steady => bench.steady()?,
                What::Idle => bench.idle()?,
                What::Files => bench.files()?,
                What::Start => bench.start()?,
            }
        }
    }
    Ok(())
}

/// One measured run over logs that are there already.
struct Done {
    seconds: f64,
    cpu: f64,
    peak_mb: f64,
}

impl Bench {
    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn null(&self) -> Result<()> {
        let root = self.place("null");
        let written = lines::write(&root, 10, self.arguments.mb * 1_000_000)?;
        let done = self.drain("null-run", &root, written)?;
        let mb = written.bytes as f64 / 1e6;
        println!(
            "null sink: {:.0} MB/s, {:.2} CPU s/GB, {:.0} MB peak (goal: 200 MB/s on two cores)",
            mb / done.seconds,
            done.cpu / mb * 1000.0,
            done.peak_mb
        );
        std::fs::remove_dir_all(root).context("cannot tidy up")
    }

    fn files(&self) -> Result<()> {
        let mut costs = Vec::new();
        for files in [10, 100, 1000] {
            let root = self.place(&format!("files-{files}"));
            let written = lines::write(&root, files, self.arguments.mb * 500_000)?;
            let done = self.drain(&format!("files-{files}-run"), &root, written)?;
            costs.push(done.cpu / written.lines as f64 * 1e9);
            std::fs::remove_dir_all(root).context("cannot tidy up")?;
        }
        println!(
            "per line: {:.0} ns of CPU with 10 files, {:.0} with 100, {:.0} with 1,000: {:.2} times (goal: flat)",
            costs[0],
            costs[1],
            costs[2],
            costs[2] / costs[0]
        );
        Ok(())
    }

    /// Lets the agent read everything below `root` into the null sink.
    fn drain(&self, name: &str, root: &Path, written: Written) -> Result<Done> {
        let port = free_port()?;
        let start = Instant::now();
        let mut agent = self.run(name, root, Output::Discard, port)?;
        agent.wait_until(PATIENCE, || Ok(confirmed(port)? >= written.bytes))?;
        let seconds = start.elapsed().as_secs_f64();
        let usage = agent.usage()?;
        agent.stop(Duration::from_secs(20))?;
        Ok(Done { seconds, cpu: usage.cpu, peak_mb: usage.peak as f64 / 1e6 })
    }

    fn run(&self, name: &str, root: &Path, output: Output<'_>, port: u16) -> Result<Measured> {
        agent::start(&self.agent, &self.place(name), root, Form::Json, output, port, "")
    }

    fn steady(&self) -> Result<()> {
        const FILES: usize = 110;
        const RATE: f64 = 10e6;
        let kafka = Kafka::start(KafkaOptions::default())?;
        kafka.create(&Topic { name: "steady", partitions: 4, settings: &[] })?;
        let brokers = kafka.bootstrap();
        let root = self.place("steady");
        let mut writers = Vec::new();
        for number in 0..FILES {
            let path = lines::container(&root, number)?;
            writers.push(OpenOptions::new().create(true).append(true).open(path)?);
        }
        let agent = self.run("steady-run", &root, Output::Kafka(&brokers, "steady"), 0)?;
        let (mut dice, mut number, mut bytes) = (Dice::new(7), 0, 0_usize);
        let mut buffer = Vec::new();
        let mut write_for = |seconds: f64| -> Result<()> {
            let start = Instant::now();
            let begin = bytes;
            while start.elapsed().as_secs_f64() < seconds {
                if (bytes - begin) as f64 > start.elapsed().as_secs_f64() * RATE {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                }
                buffer.clear();
                for _ in 0..20 {
                    lines::line(&mut dice, number, &mut buffer);
                    number += 1;
                }
                writers[dice.below(FILES as u64) as usize].write_all(&buffer)?;
                bytes += buffer.len();
            }
            Ok(())
        };
        write_for(5.0)?;
        let (before, start) = (agent.usage()?, Instant::now());
        write_for(self.arguments.seconds as f64)?;
        let after = agent.usage()?;
        let cores = (after.cpu - before.cpu) / start.elapsed().as_secs_f64();
        std::thread::sleep(Duration::from_secs(3));
        let delivered = kafka.end_offsets("steady")?.iter().sum::<i64>();
        println!(
            "10 MB/s from {FILES} files into Kafka: {:.1}% of a core, {:.0} MB peak, {delivered} of {number} lines \
             delivered (goal: 15%, 30 MB)",
            cores * 100.0,
            after.peak as f64 / 1e6
        );
        agent.stop(Duration::from_secs(20))
    }

    fn idle(&self) -> Result<()> {
        const FILES: usize = 20_000;
        let root = self.place("idle");
        let written = lines::write(&root, FILES, FILES as u64 * 2000)?;
        let port = free_port()?;
        let mut agent = self.run("idle-run", &root, Output::Discard, port)?;
        agent.wait_until(PATIENCE, || Ok(confirmed(port)? >= written.bytes))?;
        // Until the last file is parked.
        std::thread::sleep(Duration::from_secs(15));
        let (before, start) = (agent.usage()?, Instant::now());
        std::thread::sleep(Duration::from_secs(self.arguments.seconds.max(70)));
        let after = agent.usage()?;
        println!(
            "{FILES} idle files: {:.2}% of a core, {:.0} MB resident, {:.0} MB peak (goal: 0.2%, 60 MB)",
            (after.cpu - before.cpu) / start.elapsed().as_secs_f64() * 100.0,
            sum(port, "process_resident_memory_bytes")? / 1e6,
            after.peak as f64 / 1e6
        );
        agent.stop(Duration::from_secs(20))
    }

    /// The first run learns the files; the second has to read one new line after it started. Before the third, nine of
    /// ten files go away.
    fn start(&self) -> Result<()> {
        const FILES: usize = 100_000;
        let root = self.place("start");
        let written = lines::write(&root, FILES, FILES as u64 * 300)?;
        self.drain("start-run", &root, written)?;
        let state: u64 = std::fs::read_dir(self.place("start-run/state/checkpoint"))?
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .map(|meta| meta.len())
            .sum();
        println!("state of {FILES} files: {:.1} MB", state as f64 / 1e6);
        self.start_once(&root, &format!("{FILES} files known"))?;
        for number in (0..FILES).filter(|number| number % 10 != 0) {
            let container = lines::container(&root, number)?;
            let pod = container.ancestors().nth(2).context("no pod")?;
            std::fs::remove_dir_all(pod).context("cannot remove a pod")?;
        }
        self.start_once(&root, &format!("{FILES} files known, most of them gone"))
    }

    fn start_once(&self, root: &Path, what: &str) -> Result<()> {
        let mut file = OpenOptions::new().append(true).open(lines::container(root, 50_000)?)?;
        let mut line = Vec::new();
        lines::line(&mut Dice::new(1), 0, &mut line);
        file.write_all(&line)?;
        let port = free_port()?;
        let start = Instant::now();
        let mut agent = self.run("start-run", root, Output::Discard, port)?;
        agent.wait_until(PATIENCE, || Ok(confirmed(port).unwrap_or_default() >= 1))?;
        let (seconds, usage) = (start.elapsed().as_secs_f64(), agent.usage()?);
        println!(
            "start with {what}: {seconds:.1} s to the first new line, {:.1} s of CPU, {:.0} MB peak (goal: 2 s)",
            usage.cpu,
            usage.peak as f64 / 1e6
        );
        agent.stop(Duration::from_secs(20))
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Bytes of log confirmed, by the agent's own metrics; 0 while it does not answer yet.
fn confirmed(port: u16) -> Result<u64> {
    Ok(sum(port, "taffrail_ledger_confirmed_bytes_total")? as u64)
}

/// What a metric's samples add up to; 0 while the agent does not answer yet.
fn sum(port: u16, metric: &str) -> Result<f64> {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return Ok(0.0) };
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    if !text.contains(" 200 ") {
        bail!("/metrics answers {}", text.lines().next().unwrap_or_default());
    }
    let value = |line: &str| {
        let rest = line.strip_prefix(metric).filter(|rest| rest.starts_with([' ', '{']))?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    };
    Ok(text.lines().filter_map(value).sum())
}
