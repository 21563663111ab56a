//! `taffrail metrics`: a scrape for people, and how it differs from what a peer says.

mod diff;
mod names;
mod reasons;
mod table;

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use taffrail_cgroup::{LabelStyle, Names};
use taffrail_prometheus::{Format, Scraper};
use taffrail_text::{Parsed, Times};

use crate::cli::ConfigArg;
use crate::config::Config;
use crate::machine;
pub use diff::{Difference, Kind, Report, compare};
pub(crate) use reasons::listed as known_differences;

/// Within this time most of what is looked at aside is known; for so long, too, the figures of one question are given again.
const ASIDE: Duration = Duration::from_millis(1100);

/// A peer that does not answer for this long does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a peer may take to read everything once more: kubelet does so every 15 seconds at least.
const NEXT_READING: Duration = Duration::from_secs(20);

/// What to show.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Of what
    #[arg(default_value = "container")]
    what: What,
    /// Print one scrape and end (nothing else is there yet)
    #[arg(long)]
    once: bool,
    /// Compare, series by series, with what a running cAdvisor, kubelet or node_exporter says: its http:// address, a
    /// file, or - for standard input
    #[arg(long, value_name = "URL")]
    diff: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Whose metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Containers and other cgroups, as cAdvisor has them
    #[value(alias = "containers")]
    Container,
    /// This node, as node_exporter has it
    Node,
}

impl What {
    fn path(self) -> &'static str {
        match self {
            What::Container => machine::CONTAINERS,
            What::Node => machine::NODE,
        }
    }
}

/// Prints a scrape, or compares two.
///
/// # Errors
/// When the configuration is bad, or the peer cannot be read.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let names = names::learn(&config).context("cannot ask for the names of containers")?;
    match &args.diff {
        Some(peer) => differ(args, config, &names, peer),
        None => show(args, &config, &names),
    }
}

fn show(args: &Args, config: &Config, names: &Arc<Names>) -> anyhow::Result<ExitCode> {
    let text = Here::new(config, args.what, names).scrape();
    let families = taffrail_text::parse(&text, Times::Ignored)?;
    let shown = if args.json {
        serde_json::to_string_pretty(&table::json(&families))? + "\n"
    } else if io::stdout().is_terminal() {
        table::for_people(&families, args.what)
    } else {
        text
    };
    io::stdout().write_all(shown.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn differ(args: &Args, mut config: Config, names: &Arc<Names>, peer: &str) -> anyhow::Result<ExitCode> {
    let read = |text: &str| {
        taffrail_text::parse(text, Times::Ignored)
            .with_context(|| format!("{peer} does not speak the text format"))
    };
    let mut text = fetch(peer)?;
    config.metrics.containers.descriptors_seconds = 1;
    if !labels_like_kubelet(&read(&text)?) {
        config.metrics.containers.labels = LabelStyle::Cadvisor;
    }
    let began = SystemTime::now();
    let here = Here::new(&config, args.what, names);
    let before = taffrail_text::parse(&here.scrape(), Times::Ignored)?;
    if peer.starts_with("http://") {
        text = fetch_since(peer, began)?;
    }
    let ours = taffrail_text::parse(&here.scrape(), Times::Ignored)?;
    let report = compare(&before, &ours, &read(&text)?, is_older(&text, began));
    let text = if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { report.render() };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if report.is_explained() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Collects here and now: no agent need run.
struct Here(Option<Scraper>);

impl Here {
    fn new(config: &Config, what: What, names: &Arc<Names>) -> Here {
        let pages = machine::pages(config, names);
        let page = pages.into_iter().find(|page| page.path == what.path());
        let scraper =
            page.map(|page| Scraper::new(page.asks, config.http.collector_timeout.0).saying(page.said));
        let here = Here(scraper);
        if what == What::Container && config.metrics.containers.disk_seconds > 0 {
            // What containers have written is looked at aside once somebody has asked.
            let _ = here.scrape();
            thread::sleep(ASIDE);
        }
        here
    }

    fn scrape(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |scraper| scraper.scrape(|_| true).render(Format::Text))
    }
}

/// What a peer says once all that it says was read since then: cAdvisor reads on its own, every second to every minute.
fn fetch_since(peer: &str, began: SystemTime) -> anyhow::Result<String> {
    let start = Instant::now();
    loop {
        let text = fetch(peer)?;
        if !is_older(&text, began) || start.elapsed() >= NEXT_READING {
            return Ok(text);
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// Whether a figure of a container says that it was read before then.
fn is_older(text: &str, then: SystemTime) -> bool {
    let then = then.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let figures = text.lines().filter(|line| line.starts_with("container_"));
    let time = |line: &str| line.rsplit_once('}')?.1.split_whitespace().nth(1)?.parse::<u128>().ok();
    figures.filter_map(time).any(|time| time < then)
}

/// Whether containers have kubelet's labels; without any container nothing speaks against it.
fn labels_like_kubelet(families: &[Parsed]) -> bool {
    let mut containers = families.iter().filter(|family| family.name.starts_with("container_cpu"));
    containers.all(|family| family.samples.iter().all(|(series, _)| series.as_str().contains("namespace=\"")))
}

/// What a peer says.
fn fetch(peer: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    if peer == "-" {
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    let Some(rest) = peer.strip_prefix("http://") else {
        if peer.starts_with("https://") {
            bail!(
                "for https, which may want a certificate or a token, use curl: curl -k -H \"Authorization: Bearer ...\" {peer} | taffrail metrics --diff -"
            );
        }
        std::fs::File::open(peer)
            .and_then(|mut file| file.read_to_string(&mut text))
            .with_context(|| format!("cannot read {peer}"))?;
        return Ok(text);
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(&address).with_context(|| format!("nobody answers on {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\nAccept: text/plain; version=0.0.4\r\n\r\n")?;
    stream.read_to_string(&mut text).with_context(|| format!("{peer} broke off"))?;
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("{peer} speaks no HTTP"))?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("{peer} says {status}");
    }
    Ok(body.to_owned())
}
