//! What `/metrics/pods` costs: a pod's change, its series as text, and the page as the agent makes it, on a thread of its own with a
//! deadline, for nodes with 10, 110 and 500 pods.
//!
//! The floor is the page itself, copied once. All in one process and one run, so that the ratios mean something on a machine that
//! others use, too.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use taffrail_benches::ended;
use taffrail_pods::{PodSeries, PodStore, PodsConfig};
use taffrail_prometheus::{Exposition, Format, Scraper};
use taffrail_record::Ask;

/// A pod of production: three containers and one before them, 30 labels, long annotations.
const POD: &str = include_str!("../../collectors/pods/tests/fixtures/big.json");

/// Measures pages about pods.
#[derive(Debug, Parser)]
#[command(name = "pods")]
struct Arguments {
    /// How many pods, several times
    #[arg(default_values_t = [10, 110, 500])]
    pods: Vec<usize>,
    /// Scrapes of each
    #[arg(long, default_value_t = 50)]
    rounds: u32,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    ended("pods", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    println!(
        "{:>6} {:>10} {:>9} {:>9} {:>9} {:>7} {:>9} {:>9}",
        "pods", "change us", "floor ms", "scrape ms", "page ms", "ratio", "series", "KB text"
    );
    for count in &arguments.pods {
        measure(*count, arguments.rounds)?;
    }
    Ok(())
}

fn measure(count: usize, rounds: u32) -> Result<()> {
    let store = Arc::new(PodStore::default());
    let config = PodsConfig { labels: vec!["*".to_owned()], ..PodsConfig::default() };
    let series = Arc::new(PodSeries::new(&store, &config, None));
    let scraper = Scraper::new(vec![Arc::clone(&series) as Arc<dyn Ask>], Duration::from_secs(60));
    let objects: Vec<String> = (0..count).map(numbered).collect();
    let begin = Instant::now();
    for object in &objects {
        store.apply_json(object.as_bytes())?;
    }
    let change = begin.elapsed();
    store.mark_fresh();
    let mut text = Vec::new();
    let (mut floor, mut scrape, mut page) = (Duration::MAX, Duration::MAX, Duration::MAX);
    for _ in 0..rounds {
        let begin = Instant::now();
        series.ask(&mut Exposition::new())?;
        scrape = scrape.min(begin.elapsed());
        let begin = Instant::now();
        text = scraper.scrape(|_| true).into_pieces(Format::Text);
        page = page.min(begin.elapsed());
        let begin = Instant::now();
        std::hint::black_box(text.clone());
        floor = floor.min(begin.elapsed());
    }
    let lines = text.iter().flat_map(|piece| piece.lines()).filter(|line| !line.starts_with('#')).count();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{count:>6} {:>10.1} {:>9.3} {:>9.3} {:>9.3} {:>7.2} {lines:>9} {:>9}",
        ms(change) * 1e3 / count as f64,
        ms(floor),
        ms(scrape),
        ms(page),
        ms(page) / ms(floor),
        text.iter().map(String::len).sum::<usize>() / 1024,
    );
    Ok(())
}

/// The pod under a name and a uid of its own.
fn numbered(number: usize) -> String {
    POD.replace("0a1b2c3d", &format!("{number:08x}")).replace("-x2x7q", &format!("-x{number:04}"))
}
