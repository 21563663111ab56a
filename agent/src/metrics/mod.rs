//! `taffrail metrics`: a scrape for people, and how it differs from what a peer says.

mod diff;
mod reasons;
mod table;

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use taffrail_cgroup::{LabelStyle, Names};
use taffrail_prometheus::{Format, Scraper};
use taffrail_text::{Parsed, Times};

use crate::cli::ConfigArg;
use crate::config::Config;
use crate::machine;
pub use diff::{Difference, Kind, Report, compare};
pub(crate) use reasons::all as reasons;

/// A peer that does not answer for this long does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

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
    let mut config = args.config.load()?;
    let Some(peer) = &args.diff else {
        let text = scrape(&config, args.what);
        let families = taffrail_text::parse(&text, Times::Ignored)?;
        let shown = if args.json {
            serde_json::to_string_pretty(&table::json(&families))? + "\n"
        } else if io::stdout().is_terminal() {
            table::for_people(&families, args.what)
        } else {
            text
        };
        io::stdout().write_all(shown.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    };
    config.metrics.containers.descriptors_seconds = 1;
    let before = taffrail_text::parse(&scrape(&config, args.what), Times::Ignored)?;
    let theirs = taffrail_text::parse(&fetch(peer)?, Times::Ignored)
        .with_context(|| format!("{peer} does not speak the text format"))?;
    if !labels_like_kubelet(&theirs) {
        config.metrics.containers.labels = LabelStyle::Cadvisor;
    }
    let ours = taffrail_text::parse(&scrape(&config, args.what), Times::Ignored)?;
    let report = compare(&before, &ours, &theirs);
    let text = if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { report.render() };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if report.is_explained() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Collects here and now: no agent need run.
fn scrape(config: &Config, what: What) -> String {
    let pages = machine::pages(config, &Names::new());
    let page = pages.into_iter().find(|page| page.path == what.path());
    page.map_or_else(String::new, |page| {
        Scraper::new(page.asks, config.http.collector_timeout.0)
            .saying(page.said)
            .scrape(|_| true)
            .render(Format::Text)
    })
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
