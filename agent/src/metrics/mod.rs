//! `taffrail metrics`: a scrape for people, and how it differs from what a peer says.

mod diff;
mod filters;
mod motion;
mod names;
mod peer;
mod reasons;
mod table;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::ValueEnum;
use taffrail_cgroup::{Hierarchy, LabelStyle, Names};
use taffrail_prometheus::{Format, Scraper};
use taffrail_text::{Parsed, Times, split};

use crate::cli::ConfigArg;
use crate::cli::console;
use crate::config::Config;
use crate::machine;
pub use diff::{Difference, Kind, Readings, Report, compare};
pub use motion::Apart;
use peer::Peer;
pub(crate) use reasons::{NOT_SWITCHED_BACK, listed as known_differences};

/// Within this time most of what is looked at aside is known; for so long, too, the figures of one question are given again.
const ASIDE: Duration = Duration::from_millis(1100);

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
    /// Compare, series by series, with what a running cAdvisor, kubelet or node_exporter says: its address, a file, or -
    /// for standard input
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

    /// Who else tells of it.
    fn peer(self) -> &'static str {
        match self {
            What::Container => "cAdvisor or kubelet",
            What::Node => "node_exporter",
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
        console::plain_json(&serde_json::to_string_pretty(&table::json(&families))?) + "\n"
    } else if io::stdout().is_terminal() {
        table::for_people(&families, args.what, console::width())
    } else {
        text
    };
    io::stdout().write_all(shown.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn differ(args: &Args, mut config: Config, names: &Arc<Names>, peer: &str) -> anyhow::Result<ExitCode> {
    let peer = Peer::new(peer)?;
    let told = peer.tell()?;
    config.metrics.containers.descriptors_seconds = 1;
    if !labels_like_kubelet(&told.families) {
        config.metrics.containers.labels = LabelStyle::Cadvisor;
    }
    let here = Here::new(&config, args.what, names);
    let before = taffrail_text::parse(&here.scrape(), Times::Ignored)?;
    let began = SystemTime::now();
    let told = peer.tell_since(told, began)?;
    if args.what == What::Container {
        // Figures of containers would be those of the first reading once more.
        thread::sleep(ASIDE.saturating_sub(began.elapsed().unwrap_or_default()));
    }
    let after = taffrail_text::parse(&here.scrape(), Times::Ignored)?;
    let seconds =
        |from: SystemTime, to: SystemTime| to.duration_since(from).map_or(0.0, |time| time.as_secs_f64());
    let apart = Apart {
        ours: seconds(began, SystemTime::now()),
        lead: seconds(told.written, began),
        began: seconds(UNIX_EPOCH, began),
    };
    let readings = Readings {
        before: &before,
        after: &after,
        theirs: &told.families,
        apart,
        node: &config.metrics.node,
        layout: Hierarchy::detect(&config.metrics.roots()).map(|found| found.layout),
        started: std::fs::metadata(&config.metrics.sysfs)
            .and_then(|root| root.modified())
            .ok()
            .map(|started| seconds(UNIX_EPOCH, started)),
    };
    let report = compare(&readings);
    let text = if args.json {
        console::plain_json(&serde_json::to_string_pretty(&report)?) + "\n"
    } else {
        report.render()
    };
    io::stdout().write_all(text.as_bytes())?;
    anyhow::ensure!(
        report.has_common(),
        "no series of {peer} is the same here: it is no {} of this machine",
        args.what.peer()
    );
    Ok(if report.is_explained() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Collects here and now: no agent need run.
struct Here(Option<Scraper>);

impl Here {
    fn new(config: &Config, what: What, names: &Arc<Names>) -> Here {
        let pages = machine::pages(config, names, None);
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

/// Whether containers have kubelet's labels; without any container nothing speaks against it.
fn labels_like_kubelet(families: &[Parsed]) -> bool {
    let mut containers = families.iter().filter(|family| family.name.starts_with("container_cpu"));
    let has_namespace = |series: &str| split(series).1.iter().any(|(label, _)| *label == "namespace");
    containers.all(|family| family.samples.iter().all(|(series, _)| has_namespace(series.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_ends_like_kubelets_is_none_of_its_labels() {
        let is_kubelet = |labels: &str| {
            let text = format!("container_cpu_usage_seconds_total{{id=\"/\",{labels}}} 1\n");
            labels_like_kubelet(&taffrail_text::parse(&text, Times::Ignored).expect("valid"))
        };
        assert!(is_kubelet("namespace=\"\",pod=\"\"") && is_kubelet("namespace=\"shop\""));
        assert!(!is_kubelet("container_label_io_kubernetes_pod_namespace=\"shop\""));
        assert!(!is_kubelet("name=\"namespace=\\\"\""));
    }
}
