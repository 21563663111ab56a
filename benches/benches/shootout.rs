//! The agent, without a cluster and with what one says of the pods, the floor, rsyslog and syslog-ng ship the same lines into a real Kafka: one table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use taffrail_benches::agent::{self, Form, Output};
use taffrail_benches::ended;
use taffrail_benches::lines::{self, Written};
use taffrail_benches::peers::{Peer, Task};
use taffrail_benches::process::{Measured, Usage};
use taffrail_benches::{build, cluster};
use taffrail_kafka::{KafkaConfig, read_topic};
use taffrail_parts::kafka::Topic;
use taffrail_parts::{Kafka, KafkaOptions};

/// How long a contender may take for its lines.
const PATIENCE: Duration = Duration::from_secs(300);

/// Ships the same logs with each contender into a real Kafka and compares what that took.
#[derive(Debug, Parser)]
#[command(name = "shootout")]
struct Arguments {
    /// Megabytes of log for the agent and the floor
    #[arg(long, default_value_t = 500)]
    mb: u64,
    /// Megabytes of log for the peers, which are slower
    #[arg(long, default_value_t = 100)]
    peer_mb: u64,
    /// Containers that the log is spread over
    #[arg(long, default_value_t = 10)]
    files: usize,
    /// Rounds for the agent and the floor; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Leave rsyslog and syslog-ng out
    #[arg(long)]
    no_peers: bool,
    /// Profile that the agent is built with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one contender did.
#[derive(Debug, Clone)]
struct Row {
    name: String,
    gigabytes: f64,
    seconds: f64,
    cpu: f64,
    peak: Option<u64>,
    delivered: u64,
    expected: u64,
    /// Bytes of key and value of a record, on average, as the topic has them.
    record: u64,
}

impl Row {
    fn cpu_per_gb(&self) -> f64 {
        self.cpu / self.gigabytes
    }
}

/// A place to ship from and a broker to ship to.
struct Bench {
    kafka: Kafka,
    folder: tempfile::TempDir,
    agent: PathBuf,
    floor: PathBuf,
    files: usize,
    runs: usize,
}

fn main() -> ExitCode {
    ended("shootout", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut bench = Bench::prepare(arguments)?;
    let mut rows = Vec::new();
    let (root, written) = bench.logs("logs", arguments.mb)?;
    println!(
        "{} MB, {} lines of {} bytes on average",
        written.bytes / 1_000_000,
        written.lines,
        written.bytes / written.lines
    );
    let kubeconfig = bench.folder.path().join("kubeconfig");
    cluster::write_kubeconfig(&kubeconfig, cluster::serve(arguments.files)?)?;
    let pods = format!("kubernetes: {{api: {{kubeconfig: '{}'}}}}\n", kubeconfig.display());
    for (form, more, name, floor) in [
        (Form::Json, "", "taffrail, JSON", "floor, the same JSON"),
        (Form::Json, pods.as_str(), "taffrail, JSON, pods known", "floor, that JSON"),
        (Form::Raw, "", "taffrail, raw", "floor, bare lines"),
        (Form::RawFull, "", "taffrail, raw, all fields", ""),
    ] {
        let mut measured: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
        for _ in 0..arguments.rounds {
            let (topic, row) = bench.agent(name, (form, more), &root, written)?;
            measured.entry(name).or_default().push(row);
            if !floor.is_empty() {
                measured.entry(floor).or_default().push(bench.floor(floor, &topic, written)?);
            }
        }
        rows.extend(measured.into_values().map(median));
    }
    if !arguments.no_peers {
        let (root, written) = bench.logs("logs-for-peers", arguments.peer_mb)?;
        for peer in [Peer::Rsyslog, Peer::SyslogNg] {
            for json in [true, false] {
                rows.push(bench.peer(peer, json, &root, written)?);
            }
        }
    }
    print(&rows);
    Ok(())
}

fn median(mut rows: Vec<Row>) -> Row {
    rows.sort_by(|a, b| a.cpu_per_gb().total_cmp(&b.cpu_per_gb()));
    rows.swap_remove(rows.len() / 2)
}

impl Bench {
    fn prepare(arguments: &Arguments) -> Result<Self> {
        let (agent, floor) = (build::agent(&arguments.profile)?, build::floor("release")?);
        if !arguments.no_peers {
            Peer::Rsyslog.fetch()?;
            Peer::SyslogNg.fetch()?;
        }
        let folder = tempfile::Builder::new().prefix("taffrail-shootout-").tempdir()?;
        Ok(Bench {
            kafka: Kafka::start(KafkaOptions::default())?,
            folder,
            agent,
            floor,
            files: arguments.files,
            runs: 0,
        })
    }

    fn logs(&self, name: &str, mb: u64) -> Result<(PathBuf, Written)> {
        let root = self.folder.path().join(name);
        let written = lines::write(&root, self.files, mb * 1_000_000)?;
        Ok((root, written))
    }

    /// A new topic and a new folder.
    fn fresh(&mut self) -> Result<(String, PathBuf)> {
        self.runs += 1;
        let topic = format!("run-{}", self.runs);
        self.kafka.create(&Topic { name: &topic, partitions: 4, settings: &[] })?;
        Ok((topic, self.folder.path().join(format!("run-{}", self.runs))))
    }

    fn agent(
        &mut self,
        name: &str,
        (form, more): (Form, &str),
        root: &Path,
        written: Written,
    ) -> Result<(String, Row)> {
        let (topic, place) = self.fresh()?;
        let brokers = self.kafka.bootstrap();
        let start = Instant::now();
        let output = Output::Kafka(&brokers, &topic);
        let running = agent::start(&self.agent, &place, root, form, output, 0, more)?;
        Ok((topic.clone(), self.measure(name, running, start, &topic, written)?))
    }

    fn peer(&mut self, peer: Peer, json: bool, root: &Path, written: Written) -> Result<Row> {
        let (topic, place) = self.fresh()?;
        let brokers = self.kafka.bootstrap();
        let start = Instant::now();
        let running = peer.start(&place, Task { root, brokers: &brokers, topic: &topic, json })?;
        let name = format!("{}, {}", peer.name(), if json { "JSON" } else { "bare lines" });
        self.measure(&name, running, start, &topic, written)
    }

    /// Waits until the topic has every line, then lets the contender end and looks again.
    fn measure(
        &self,
        name: &str,
        mut running: Measured,
        start: Instant,
        topic: &str,
        written: Written,
    ) -> Result<Row> {
        eprintln!("shootout: {name}");
        let mut usage = Usage { cpu: 0.0, peak: 0 };
        let count =
            || Ok::<u64, anyhow::Error>(self.kafka.end_offsets(topic)?.iter().sum::<i64>().cast_unsigned());
        let mut progress = (0, Instant::now());
        let waited = running.wait_until(PATIENCE, || {
            // A new topic's leader may not know yet that it is.
            let now = count().unwrap_or_default();
            if now > progress.0 {
                progress = (now, Instant::now());
            }
            // What nobody sends any more is missing, and says so in the table.
            Ok(now >= written.lines || (now > 0 && progress.1.elapsed() > Duration::from_secs(15)))
        });
        waited.with_context(|| name.to_owned())?;
        let seconds = (progress.1 - start).as_secs_f64();
        usage.clone_from(&running.usage()?);
        running.stop(Duration::from_secs(70))?;
        Ok(Row {
            name: name.to_owned(),
            gigabytes: written.bytes as f64 / 1e9,
            seconds,
            cpu: usage.cpu,
            peak: Some(usage.peak),
            delivered: count()?,
            expected: written.lines,
            record: self.record(topic)?,
        })
    }

    fn floor(&mut self, name: &str, from: &str, written: Written) -> Result<Row> {
        let (to, _) = self.fresh()?;
        let count = written.lines.to_string();
        let output = Command::new(&self.floor).args([&self.kafka.bootstrap(), from, &to, &count]).output()?;
        ensure!(output.status.success(), "floor: {}", String::from_utf8_lossy(&output.stderr));
        let used: serde_json::Value = serde_json::from_slice(&output.stdout).context("floor's answer")?;
        let number = |key: &str| used[key].as_f64().context("floor's answer");
        Ok(Row {
            name: name.to_owned(),
            gigabytes: written.bytes as f64 / 1e9,
            seconds: number("seconds")?,
            cpu: number("cpu_seconds")?,
            peak: None,
            delivered: self.kafka.end_offsets(&to)?.iter().sum::<i64>().cast_unsigned(),
            expected: written.lines,
            record: self.record(&to)?,
        })
    }

    /// Reads a topic: whoever sends less has less to do, and the floor has to send what the agent sends.
    fn record(&self, topic: &str) -> Result<u64> {
        let config = KafkaConfig { brokers: vec![self.kafka.bootstrap()], ..KafkaConfig::default() };
        let read = read_topic(&config, topic, |_| {})?;
        Ok(read.bytes / read.messages.max(1))
    }
}

fn print(rows: &[Row]) {
    let floor = |name: &str| {
        let like = match name {
            _ if !name.contains("JSON") => "floor, bare lines",
            _ if name.contains("pods") => "floor, that JSON",
            _ => "floor, the same JSON",
        };
        rows.iter().find(|row| row.name == like || row.name == name && name.starts_with("floor"))
    };
    println!(
        "\n{:<26} {:>10} {:>9} {:>8} {:>9} {:>8} {:>11} {:>11}",
        "", "CPU s/GB", "x floor", "MB/s", "peak MB", "B/record", "delivered", "expected"
    );
    for row in rows {
        let ratio = floor(&row.name).map_or(f64::NAN, |floor| row.cpu_per_gb() / floor.cpu_per_gb());
        let peak = row.peak.map_or_else(|| "-".to_owned(), |peak| (peak / 1_000_000).to_string());
        println!(
            "{:<26} {:>10.2} {:>9.2} {:>8.0} {:>9} {:>8} {:>11} {:>11}",
            row.name,
            row.cpu_per_gb(),
            ratio,
            row.gigabytes * 1000.0 / row.seconds,
            peak,
            row.record,
            row.delivered,
            row.expected
        );
    }
    println!("\ngoals: taffrail, JSON at most 1.3 x floor; taffrail, raw at most 1.3 x floor of bare lines");
}
