//! Events into a real engine: the shipper beside a bare loop that sends the same requests, and a backlog drained.
//!
//! `cargo bench -p taffrail-elasticsearch --bench events -- [--elasticsearch] [--events N] [--rounds N] [--backlog N]`
//!
//! Both share this machine with the engine and fill indices of their own with the same mapping. The bare loop has its
//! documents in memory, joins a thousand to a request, compresses as the shipper does, keeps two requests under way and
//! only looks whether the answer tells of errors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::resource::{UsageWho, getrusage};
use taffrail_elasticsearch::{ElasticsearchConfig, ElasticsearchShipper};
use taffrail_parts::{Product, SearchEngine, SearchOptions};
use taffrail_record::{
    Batch, Budget, BufferPool, Changes, Extra, FileId, Flags, Ledger, Node, Origin, Payload, Receipt, Record,
    Ship as _, Source, Span, Stream, Tracker,
};

/// 2026-11-22T00:00:00Z, in seconds.
const TIME: i64 = 1_795_305_600;
const DAY: i64 = 86_400;

/// Documents that a watch hands over at once.
const CHUNK: usize = 500;

/// What the shipper may hold, as in the agent.
const BUDGET: u64 = 4 << 20;

struct Arguments {
    product: Product,
    events: usize,
    rounds: usize,
    backlog: usize,
}

struct Row {
    name: &'static str,
    per_second: f64,
    cpu_per_thousand: f64,
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    let options = SearchOptions { heap_mib: 1024, ..SearchOptions::default() };
    let mut engine = SearchEngine::start(arguments.product, options)?;
    let folder = tempfile::tempdir()?;
    let documents: Vec<String> = (0..arguments.events).map(document).collect();
    let bytes: usize = documents.iter().map(String::len).sum();
    println!("{} events of {} bytes on average", documents.len(), bytes / documents.len().max(1));

    // The first requests warm the engine up, and have the template installed.
    shipped(&engine, &folder, &documents, -1)?;
    bare(&engine, &documents, "taffrail-events-warm")?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        floor.push(bare(&engine, &documents, &format!("taffrail-events-bare-{round}"))?);
        ours.push(shipped(&engine, &folder, &documents, i64::try_from(round)?)?);
    }
    let (ours, floor) = (median(ours)?, median(floor)?);
    println!("{:<12}{:>12}{:>24}", "", "events/s", "own cpu ms/1000 events");
    for row in [&floor, &ours] {
        println!("{:<12}{:>12.0}{:>24.2}", row.name, row.per_second, row.cpu_per_thousand);
    }
    let ratio = floor.per_second / ours.per_second;
    println!("the bare loop is {ratio:.2} times as fast; goal: at most 1.3, or 5000 events/s");
    backlog(&mut engine, &folder, &documents, arguments.backlog)
}

fn arguments() -> Result<Arguments> {
    let given: Vec<String> = std::env::args().collect();
    let number = |name: &str, otherwise: usize| -> Result<usize> {
        let at = given.iter().position(|it| it == name);
        let value = at.map(|at| given.get(at + 1).with_context(|| format!("{name} needs a number")));
        Ok(value.transpose()?.map(|text| text.parse()).transpose()?.unwrap_or(otherwise))
    };
    let elasticsearch = given.iter().any(|it| it == "--elasticsearch");
    Ok(Arguments {
        product: if elasticsearch { Product::Elasticsearch } else { Product::OpenSearch },
        events: number("--events", 20_000)?,
        rounds: number("--rounds", 3)?,
        backlog: number("--backlog", 100_000)?,
    })
}

/// An event as it looks when a container keeps failing.
fn document(number: usize) -> String {
    let (pod, node, count) = (number % 997, number % 53, number % 400);
    let reason = ["BackOff", "Unhealthy", "FailedScheduling", "Pulled", "Killing"][number % 5];
    format!(
        r#"{{"@timestamp":"2026-11-22T0{hour}:{minute:02}:{second:02}.{number:09}Z","message":"{reason}: container worker-{pod} of pod shop-worker-{pod}-{number:x} has not answered within {count} s","event":{{"kind":"event","dataset":"kubernetes.event","reason":"{reason}","action":"{reason}","provider":"kubelet","type":["info"]}},"orchestrator":{{"type":"kubernetes","cluster":{{"name":"prod-eu-1","id":"6a1f7f40-0000-4000-8000-000000000001"}}}},"kubernetes":{{"namespace":"shop-{tenant}","node":{{"name":"node-{node}"}},"pod":{{"name":"shop-worker-{pod}-{number:x}","uid":"{number:032x}"}},"labels":{{"app":"worker","app.kubernetes.io/name":"worker","pod-template-hash":"{pod:x}"}},"event":{{"type":"Warning","reason":"{reason}","count":{count},"source":{{"component":"kubelet","host":"node-{node}"}},"involved_object":{{"kind":"Pod","namespace":"shop-{tenant}","name":"shop-worker-{pod}-{number:x}"}},"timestamp":{{"first_occurrence":"2026-11-22T00:00:00Z","last_occurrence":"2026-11-22T00:00:01Z"}}}}}}}}"#,
        hour = number % 10,
        minute = number % 60,
        second = number / 7 % 60,
        tenant = number % 40,
    )
}

fn id(number: usize) -> String {
    format!("{:032x}", (number as u128).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835))
}

/// The shipper with what feeds it.
struct Feed {
    shipper: ElasticsearchShipper,
    tracker: Arc<Tracker>,
    source: Arc<Source>,
    origin: Arc<Origin>,
    account: Arc<taffrail_record::Account>,
    budget: Arc<Budget>,
    pool: Arc<BufferPool>,
    written: u64,
}

impl Feed {
    fn new(config: &ElasticsearchConfig, folder: &tempfile::TempDir) -> Result<Self> {
        let pool = BufferPool::new(16, 4 << 20);
        let origin = Origin { node: Arc::new(Node::default()), ..Origin::default() };
        Ok(Feed {
            shipper: ElasticsearchShipper::new(
                config,
                &folder.path().join("dead-letter"),
                Arc::clone(&pool),
            )?,
            tracker: Tracker::new(1, 0, &Changes::new()),
            source: Arc::new(Source { id: FileId(1), path: "/events".into(), device: 0, inode: 0 }),
            account: Ledger::new().account(origin.names()),
            origin: Arc::new(origin),
            budget: Budget::new(BUDGET),
            pool,
            written: 0,
        })
    }

    fn ship(&mut self, first: usize, documents: &[String], time: i64) {
        let bytes: u64 = documents.iter().map(|document| document.len() as u64).sum();
        let charge = loop {
            if let Some(charge) = self.budget.take(bytes, Duration::from_secs(1)) {
                break charge;
            }
        };
        let hold = self.tracker.hold(self.written);
        let (mut data, mut records) = self.pool.take();
        for (number, document) in (first..).zip(documents) {
            let start = data.len() as u32;
            data.extend_from_slice(document.as_bytes());
            let extra = Extra { id: Some(id(number).into()), ..Extra::default() };
            records.push(Record {
                body: start..data.len() as u32,
                span: Span::at(self.written, document.len() as u64),
                time: time * 1_000_000_000,
                stream: Stream::None,
                flags: Flags::NONE,
                extra: Some(Box::new(extra)),
            });
            self.written += document.len() as u64;
        }
        self.account.read(bytes);
        self.tracker.attribute(self.written);
        let holds = vec![(self.source.id, hold)];
        let receipt = Receipt::new(holds, Arc::clone(&self.account), &records, Some(charge));
        let (origin, source) = (Arc::clone(&self.origin), Arc::clone(&self.source));
        self.shipper.ship(Batch { payload: Payload::Event, origin, source, data, records, receipt });
    }

    /// Waits until everything is stored, and says how much.
    fn finish(mut self) -> u64 {
        self.shipper.drain(Instant::now() + Duration::from_secs(600));
        self.account.balance().confirmed.records
    }
}

fn config(engine: &SearchEngine) -> ElasticsearchConfig {
    ElasticsearchConfig { hosts: vec![engine.url()], retry_max_ms: 1000, ..ElasticsearchConfig::default() }
}

fn shipped(
    engine: &SearchEngine,
    folder: &tempfile::TempDir,
    documents: &[String],
    round: i64,
) -> Result<Row> {
    let mut feed = Feed::new(&config(engine), folder)?;
    let (since, before) = (Instant::now(), cpu()?);
    for (chunk, first) in documents.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
        feed.ship(first, chunk, TIME + round * DAY);
    }
    let confirmed = feed.finish();
    let row = row("taffrail", documents.len(), since, before)?;
    ensure!(confirmed == documents.len() as u64, "{confirmed} confirmed");
    let day = if round < 0 { "21".to_owned() } else { format!("{}", 22 + round) };
    let counted = engine.count(&format!("taffrail-events-2026.11.{day}"))?;
    ensure!(counted == documents.len() as u64, "{counted} of {} stored", documents.len());
    Ok(row)
}

fn bare(engine: &SearchEngine, documents: &[String], index: &str) -> Result<Row> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = reqwest::Client::builder().http1_only().no_proxy().build()?;
    let url = format!("{}/_bulk", engine.url());
    let bodies = Arc::new(parking_lot::Mutex::new(documents.chunks(1000).zip((0..).step_by(1000))));
    let (since, before) = (Instant::now(), cpu()?);
    let one = || async {
        loop {
            let Some((chunk, first)) = bodies.lock().next() else { return Ok(()) };
            let request = client
                .post(&url)
                .header("content-type", "application/x-ndjson")
                .header("content-encoding", "gzip")
                .body(body(index, chunk, first)?);
            let answer = request.send().await?.bytes().await?;
            let head = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
            ensure!(head.contains("\"errors\":false"), "{head}");
        }
    };
    runtime.block_on(async { tokio::try_join!(one(), one()) })?;
    let row = row("bare loop", documents.len(), since, before)?;
    let counted = engine.count(index)?;
    ensure!(counted == documents.len() as u64, "{counted} of {} stored", documents.len());
    Ok(row)
}

fn body(index: &str, chunk: &[String], first: usize) -> Result<Vec<u8>> {
    use std::io::Write as _;
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    for (number, document) in (first..).zip(chunk) {
        let id = id(number);
        writeln!(out, "{{\"create\":{{\"_index\":\"{index}\",\"_id\":\"{id}\"}}}}\n{document}")?;
    }
    Ok(out.finish()?)
}

/// An engine that is away while events pile up behind the budget, and comes back.
fn backlog(
    engine: &mut SearchEngine,
    folder: &tempfile::TempDir,
    documents: &[String],
    count: usize,
) -> Result<()> {
    engine.stop()?;
    let before = resident()?;
    let mut feed = Feed::new(&config(engine), folder)?;
    let (mut most, mut back) = (before, None);
    for first in (0..count).step_by(CHUNK) {
        let full = feed.budget.level().0 + (1 << 20) > BUDGET;
        if full && back.is_none() {
            std::thread::sleep(Duration::from_secs(5));
            most = most.max(resident()?);
            engine.start_again()?;
            back = Some(Instant::now());
        }
        let at = first % documents.len();
        let chunk = &documents[at..(at + CHUNK).min(first + count).min(documents.len())];
        feed.ship(first, chunk, TIME + 8 * DAY);
        most = most.max(resident()?);
    }
    let confirmed = feed.finish();
    let took = back.context("the budget never filled: the backlog is too small")?.elapsed();
    let stored = engine.count("taffrail-events-2026.11.30")?;
    println!(
        "a backlog of {count}: {stored} stored, {confirmed} confirmed, {:.0} events/s after the engine came back, \
         memory +{:.1} MB at most with a budget of {} MiB",
        count as f64 / took.as_secs_f64(),
        most.saturating_sub(before) as f64 / 1e6,
        BUDGET >> 20
    );
    ensure!(stored == count as u64 && confirmed == stored, "not what was sent");
    Ok(())
}

fn row(name: &'static str, events: usize, since: Instant, before: Duration) -> Result<Row> {
    let (took, cpu) = (since.elapsed(), cpu()? - before);
    let thousands = events as f64 / 1000.0;
    Ok(Row {
        name,
        per_second: events as f64 / took.as_secs_f64(),
        cpu_per_thousand: cpu.as_secs_f64() * 1000.0 / thousands,
    })
}

fn median(mut rows: Vec<Row>) -> Result<Row> {
    rows.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
    let middle = rows.len() / 2;
    ensure!(!rows.is_empty(), "no rounds");
    Ok(rows.swap_remove(middle))
}

/// Processor time of this process so far.
fn cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let of = |time: nix::sys::time::TimeVal| {
        Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()).unsigned_abs())
    };
    Ok(of(usage.user_time()) + of(usage.system_time()))
}

/// Bytes of memory that this process has.
fn resident() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).context("no figure")?.parse()?;
    Ok(pages * 4096)
}
