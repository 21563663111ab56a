//! What being scraped costs, beside the programs that taffrail stands in for: node_exporter, and cAdvisor with what
//! kubelet has it read every 10 seconds. All run at the same time, on the same crowds of cgroups, over HTTP.
//!
//! Processor time is each process's own, to the nanosecond. Between scrapes cAdvisor goes on reading and the others rest:
//! so the cost of a minute is measured over a window, and not added up from scrapes.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use taffrail_benches::agent::{self, Form, Output};
use taffrail_benches::build;
use taffrail_benches::crowd::Crowd;
use taffrail_benches::ended;
use taffrail_benches::meter::{Cost, Meter, Page, median};
use taffrail_benches::process::Measured;
use taffrail_parts::{Cadvisor, CadvisorOptions, KUBE_PROMETHEUS, NodeExporter};
use taffrail_prometheus::{Exposition, Format};
use taffrail_record::{Family, Kind, Labels, Samples as _};

/// How often Prometheus scrapes.
const INTERVAL: Duration = Duration::from_secs(15);

/// Measures scrapes of the agent, node_exporter and cAdvisor.
#[derive(Debug, Parser)]
#[command(name = "scrapes")]
struct Arguments {
    /// How many cgroups, several times
    #[arg(default_values_t = [10, 50, 250])]
    crowds: Vec<usize>,
    /// Scrapes of each page, of which the median counts
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Seconds of scrapes at intervals of 15; what is not a minute is extrapolated to one
    #[arg(long, default_value_t = 60)]
    window: u64,
    /// Seconds without scrapes
    #[arg(long, default_value_t = 15)]
    rest: u64,
    /// Profile that the agent is built with
    #[arg(long, default_value = "release")]
    profile: String,
    /// An agent that is built already, instead of one of the profile
    #[arg(long)]
    agent: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    ended("scrapes", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let agent = match &arguments.agent {
        Some(built) => built.clone(),
        None => build::agent(&arguments.profile)?,
    };
    NodeExporter::fetch()?;
    Cadvisor::fetch()?;
    let text = exposition();
    println!("a text of 10,000 series: {} ms; goal 2: {}", ms(text), met(ms_of(text), 2.0));
    for count in &arguments.crowds {
        let stage = Stage::set(&agent)?;
        stage.measure(*count, arguments)?.print(*count, arguments);
    }
    Ok(())
}

/// A program that is scraped.
struct Subject {
    name: &'static str,
    meter: Meter,
    pages: Vec<Page>,
    /// Resident memory before anybody asked it for anything.
    idle: u64,
}

/// Programs that run at the same time; ended when dropped.
struct Stage {
    subjects: Vec<Subject>,
    _agent: Measured,
    _exporter: NodeExporter,
    _cadvisor: Cadvisor,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn set(program: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("taffrail-scrapes-").tempdir()?;
        let (agent, address) = start_agent(program, folder.path())?;
        let exporter = NodeExporter::start(&KUBE_PROMETHEUS)?;
        let cgroups = vec!["/taffrail-bench".to_owned()];
        let cadvisor = Cadvisor::start(&CadvisorOptions { cgroups, ..CadvisorOptions::as_kubelet() })?;
        thread::sleep(Duration::from_secs(3));
        let subjects = vec![
            Subject::new("taffrail", agent.id(), address, &["/metrics/cadvisor", "/metrics/node"])?,
            Subject::new("node_exporter", exporter.id(), exporter.address(), &["/metrics"])?,
            Subject::new("cAdvisor", cadvisor.id(), cadvisor.address(), &["/metrics"])?,
        ];
        Ok(Stage { subjects, _agent: agent, _exporter: exporter, _cadvisor: cadvisor, _folder: folder })
    }

    fn measure(&self, count: usize, arguments: &Arguments) -> Result<Outcome> {
        let _crowd = Crowd::make(count)?;
        self.settle()?;
        let rest = Duration::from_secs(arguments.rest);
        let rests = thread::scope(|scope| {
            let all = self.subjects.iter().map(|subject| scope.spawn(|| subject.meter.at_rest(rest)));
            let all: Vec<_> = all.collect();
            all.into_iter()
                .map(|one| one.join().map_err(|_| anyhow::anyhow!("a thread has panicked"))?)
                .collect()
        });
        let rests: Vec<Duration> = Result::<_>::from(rests)?;
        let minutes = self.minutes(Duration::from_secs(arguments.window))?;
        let mut rows = Vec::new();
        for (subject, (rest, minute)) in self.subjects.iter().zip(rests.into_iter().zip(minutes)) {
            let costs = subject.costs(arguments.rounds)?;
            rows.push(Row {
                name: subject.name,
                costs,
                minute,
                rest,
                idle: subject.idle,
                resident: subject.meter.resident()?,
            });
        }
        Ok(Outcome { rows })
    }

    /// Whoever watches has found the crowd, and has opened what it keeps open.
    fn settle(&self) -> Result<()> {
        for _ in 0..2 {
            thread::sleep(Duration::from_secs(8));
            for page in self.subjects.iter().flat_map(|subject| &subject.pages) {
                page.get()?;
            }
        }
        Ok(())
    }

    /// Processor time of a minute with a scrape of every page each 15 seconds.
    fn minutes(&self, window: Duration) -> Result<Vec<Duration>> {
        let before = self.subjects.iter().map(|subject| subject.meter.cpu()).collect::<Result<Vec<_>>>()?;
        let began = Instant::now();
        let mut scrapes = 0;
        while began.elapsed() < window {
            for page in self.subjects.iter().flat_map(|subject| &subject.pages) {
                page.get()?;
            }
            scrapes += 1;
            thread::sleep((INTERVAL * scrapes).min(window).saturating_sub(began.elapsed()));
        }
        let part = 60.0 / began.elapsed().as_secs_f64();
        let spent = |(subject, before): (&Subject, &Duration)| {
            Ok(subject.meter.cpu()?.saturating_sub(*before).mul_f64(part))
        };
        self.subjects.iter().zip(&before).map(spent).collect()
    }
}

fn start_agent(program: &Path, folder: &Path) -> Result<(Measured, SocketAddr)> {
    let root = folder.join("pods");
    std::fs::create_dir(&root).context("cannot make a folder")?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut agent =
        agent::start(program, &folder.join("agent"), &root, Form::Json, Output::Discard, port, "")?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    agent.wait_until(Duration::from_secs(60), || Ok(std::net::TcpStream::connect(address).is_ok()))?;
    Ok((agent, address))
}

impl Subject {
    fn new(name: &'static str, id: u32, address: SocketAddr, paths: &[&'static str]) -> Result<Self> {
        let meter = Meter::of(id)?;
        let pages = paths.iter().map(|path| Page { address, path }).collect();
        Ok(Subject { name, meter, pages, idle: meter.resident()? })
    }

    /// Of each page, what one scrape costs.
    fn costs(&self, rounds: u32) -> Result<Vec<(&'static str, Cost)>> {
        let mut all: Vec<Vec<Cost>> = vec![Vec::new(); self.pages.len()];
        for _ in 0..rounds {
            // Who asks again within a second may get the same figures.
            thread::sleep(Duration::from_millis(1050));
            for (page, costs) in self.pages.iter().zip(&mut all) {
                costs.push(self.meter.scrape(page)?);
            }
        }
        let middle = |(page, costs): (&Page, Vec<Cost>)| Some((page.path, median(&costs)?));
        Ok(self.pages.iter().zip(all).filter_map(middle).collect())
    }
}

struct Row {
    name: &'static str,
    costs: Vec<(&'static str, Cost)>,
    /// Processor time of a minute with scrapes, and of one without.
    minute: Duration,
    rest: Duration,
    idle: u64,
    resident: u64,
}

struct Outcome {
    rows: Vec<Row>,
}

impl Outcome {
    fn print(&self, count: usize, arguments: &Arguments) {
        println!(
            "\n{count} cgroups; medians of {} scrapes; a minute has 4 of every page, measured for {} s",
            arguments.rounds, arguments.window
        );
        println!(
            "{:<32} {:>8} {:>8} {:>8} {:>8} {:>11} {:>11} {:>8} {:>8}",
            "", "series", "KB text", "CPU ms", "wall ms", "CPU ms/min", "at rest/min", "RSS MB", "grown MB"
        );
        for row in &self.rows {
            row.print();
        }
        self.goals(count);
    }

    /// What is aimed at, beside what was measured.
    fn goals(&self, count: usize) {
        let [taffrail, exporter, cadvisor] = &self.rows[..] else { return };
        let (containers, node) = (taffrail.costs[0].1, taffrail.costs[1].1);
        let goal = |what: &str, measured: f64, unit: &str, most: f64| {
            println!("  {what:<58} {measured:>9.3} {unit:<4} goal {most:<6} {}", met(measured, most));
        };
        let part = |what: &str, ours: f64, theirs: f64, most: f64| {
            let times = theirs / ours;
            println!("  {what:<58} 1/{times:<12.1} goal 1/{most:<4} {}", met(most, times));
        };
        goal("containers, CPU of each", ms_of(containers.cpu) * 1e3 / count as f64, "us", 40.0);
        let (ours, theirs) = (taffrail.containers_minute(), ms_of(cadvisor.minute));
        part("containers, CPU of a minute, of cAdvisor's", ours, theirs, 200.0);
        part(
            "containers, CPU of a scrape, of cAdvisor's",
            ms_of(containers.cpu),
            ms_of(cadvisor.costs[0].1.cpu),
            1.0,
        );
        part(
            "node, CPU of a scrape, of node_exporter's",
            ms_of(node.cpu),
            ms_of(exporter.costs[0].1.cpu),
            10.0,
        );
        goal("CPU of a minute while nobody scrapes", ms_of(taffrail.rest), "ms", 0.0);
        if count >= 250 {
            goal("containers, wall time of a scrape", ms_of(containers.wall), "ms", 10.0);
            goal("memory grown from idle", taffrail.grown(), "MB", 10.0);
        }
    }
}

impl Row {
    fn print(&self) {
        for (number, (path, cost)) in self.costs.iter().enumerate() {
            let name = format!("{} {path}", self.name);
            print!(
                "{name:<32} {:>8} {:>8} {:>8} {:>8}",
                cost.series,
                cost.bytes / 1024,
                ms(cost.cpu),
                ms(cost.wall)
            );
            // Of the process, whatever was asked for.
            if number == 0 {
                let resident = self.resident as f64 / 1e6;
                print!(
                    " {:>11} {:>11} {resident:>8.1} {:>8.1}",
                    ms(self.minute),
                    ms(self.rest),
                    self.grown()
                );
            }
            println!();
        }
    }

    fn grown(&self) -> f64 {
        (self.resident as f64 - self.idle as f64) / 1e6
    }

    /// The part of a minute that is the first page's: both pages were asked for, and the process has done other things.
    fn containers_minute(&self) -> f64 {
        let all: f64 = self.costs.iter().map(|(_, cost)| ms_of(cost.cpu)).sum();
        ms_of(self.minute) * ms_of(self.costs[0].1.cpu) / all
    }
}

/// The least processor time that the text of 10,000 series takes, in a process of its own: this one.
fn exposition() -> Duration {
    static FAMILY: Family =
        Family { name: "example_bytes_total", kind: Kind::Counter, help: "Bytes.", labels: &[] };
    let labels: Vec<Labels> = (0..10_000).map(of_container).collect();
    let text = || {
        let clock = Meter::of(std::process::id()).and_then(|meter| meter.cpu()).unwrap_or_default();
        let mut exposition = Exposition::new();
        exposition.family(&FAMILY);
        labels
            .iter()
            .zip(0_u32..)
            .for_each(|(labels, value)| exposition.labelled(&[labels], f64::from(value) * 4096.0));
        let pieces = exposition.into_pieces(Format::Text);
        let after = Meter::of(std::process::id()).and_then(|meter| meter.cpu()).unwrap_or_default();
        drop(pieces);
        after.saturating_sub(clock)
    };
    (0..20).map(|_| text()).min().unwrap_or_default()
}

/// Labels as long as those of a pod's container.
fn of_container(number: u32) -> Labels {
    let id = format!("/kubepods/burstable/pod0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/{number:064x}");
    let name = format!("{number:064x}");
    let pod = format!("web-{number:05}");
    Labels::new([
        ("container", "web"),
        ("id", &id),
        ("image", "registry.example/web:1.2.3"),
        ("name", &name),
        ("namespace", "shop"),
        ("pod", &pod),
    ])
}

fn ms_of(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn ms(time: Duration) -> String {
    format!("{:.2}", ms_of(time))
}

fn met(measured: f64, most: f64) -> &'static str {
    if measured <= most { "met" } else { "MISSED" }
}
