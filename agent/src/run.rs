//! `taffrail run`: reads the configuration, starts every part, waits for a signal, ends in order.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use taffrail_cgroup::Names;
use taffrail_checkpoint::{Options, Recovery, Store};
use taffrail_logs::LogsConfig;
use taffrail_logs::config::FileInput;
use taffrail_logs::find::Handed;
use taffrail_process::OwnProcess;
use taffrail_record::{Ask, Budget, Ledger, Stop};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::announce::announce;
use crate::audit;
use crate::cli::ConfigArg;
use crate::components::Components;
use crate::config::{Config, ConfigError, LogFormat};
use crate::cri;
use crate::events::{Timelines, standing};
use crate::http::{self, Shipper, Surface};
use crate::kubernetes::Cluster;
use crate::logging;
use crate::machine;
use crate::once::{self, Once};
use crate::pipeline::{Pipeline, Shared};
use crate::reload::Reload;
use crate::tap::TapHub;
use crate::targets;
use crate::web::Web;

/// Signals that come this soon after the first are the same one: a terminal, a shell and `timeout` each pass it on.
const ECHO: Duration = Duration::from_millis(500);
/// How long the start waits to hear from the Docker engine, so that it can say what was found.
const ENGINE_PATIENCE: Duration = Duration::from_secs(2);

/// Arguments of `taffrail run`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Plain files to read besides, or globs in quotes; as `logs.files` of the configuration
    #[arg(value_name = "FILE", value_parser = file_argument)]
    files: Vec<String>,
    #[command(flatten)]
    config: ConfigArg,
    /// Ship what is there now, unfinished lines too, then end
    #[arg(long)]
    once: bool,
    /// Say what happens as JSON lines on standard error, as `log.format: json` of the configuration
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The configuration of the file and the environment, and what the command line adds.
    fn load(&self) -> Result<Config, ConfigError> {
        let mut config = self.config.load()?;
        if !self.files.is_empty() {
            config.logs.files.push(FileInput { paths: self.files.clone(), ..FileInput::default() });
        }
        if self.json {
            config.log.format = LogFormat::Json;
        }
        Ok(config)
    }
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// A bad configuration, a state directory that cannot be used, an output that cannot be started.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.load()?;
    let web = Web::open(&config)?;
    logging::start(&config.log)?;
    raise_descriptor_limit();
    // Logs are sensitive: what is written here is no more open than container logs are.
    umask(Mode::from_bits_truncate(0o027));
    let store = open_store(&config)?;
    let cluster = Cluster::find(&config);
    let node = match &cluster {
        Some(cluster) => cluster.node(),
        None => Arc::new(ArcSwap::from_pointee(config.node())),
    };
    let shared = Shared {
        ledger: Ledger::new(),
        budget: Budget::new(config.pipeline.memory.0),
        components: Components::new(),
        tap: TapHub::new(),
        handed: Handed::new(),
        names: Names::new(),
        stop: Stop::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = runtime.block_on(async { Signals::listen() })?;
    let pipeline = Arc::new(Pipeline::start(&config, &node, store, cluster.as_deref(), &shared)?);
    let pods = cluster.as_ref().map(|cluster| cluster.start(&config, &shared)).transpose()?;
    let (engine, finder) = targets::start(&config, &node.load_full(), &shared)?;
    let (runtime_names, namer) = cri::start(config.cri.clone(), &shared)?;
    let current = Arc::new(ArcSwap::from_pointee(config));
    let reload = Arc::new(make_reload(args.clone(), &current, &pipeline, web.clone()));
    let served = serve(&current, &reload, &pipeline, [engine.clone(), runtime_names], cluster, &shared, web)?;
    engine.await_first(ENGINE_PATIENCE);
    announce(&current.load(), &engine, served.metrics_url());

    let once = args.once.then(|| Once::new(Arc::clone(&shared.ledger), pipeline.asks.clone()));
    runtime.block_on(wait(&shared, &reload, once, signals));
    let repeated = total(&shared.ledger).repeated;

    let pipeline = Arc::clone(&pipeline);
    let ended = std::thread::spawn(move || {
        pipeline.stop();
        [finder, namer, pods].map(|thread| thread.map(std::thread::JoinHandle::join))
    });
    let forced = runtime.block_on(drained(&ended));
    served.stop();
    if forced {
        tracing::warn!("told to stop a second time; what was under way is sent again after the next start");
        return Ok(ExitCode::FAILURE);
    }
    let _ = ended.join();
    sum_up(&shared.ledger, repeated);
    Ok(ExitCode::SUCCESS)
}

fn open_store(config: &Config) -> anyhow::Result<Store> {
    let directory = config.state_directory();
    std::fs::create_dir_all(&directory).with_context(|| {
        format!("cannot make the state directory {}; set state.directory", directory.display())
    })?;
    let (store, recovery) = Store::open(&directory.join("checkpoint"), Options::default())?;
    report(&recovery);
    Ok(store)
}

fn report(recovery: &Recovery) {
    for damaged in &recovery.damaged {
        tracing::error!(path = %damaged.path.display(), reason = %damaged.reason, "a checkpoint file was damaged and set aside; some records will be repeated");
    }
    tracing::debug!(entries = recovery.entries, "positions read");
}

/// Thousands of files are held open: as many as the system lets this process have.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, "cannot raise the limit of open files");
    }
}

fn make_reload(
    args: Args,
    current: &Arc<ArcSwap<Config>>,
    pipeline: &Arc<Pipeline>,
    web: Option<Arc<Web>>,
) -> Reload {
    let (current, pipeline) = (Arc::clone(current), Arc::clone(pipeline));
    let started = current.load_full();
    Reload::new(move || {
        let mut config = args.load().map_err(|e| e.to_string())?;
        // Also when it names another file than at the start, which a restart would read.
        Web::open(&config).map_err(|e| e.to_string())?;
        let fixed = keep_as_started(&started, &mut config);
        web.as_ref().map_or(Ok(()), |web| web.reload()).map_err(|e| e.to_string())?;
        logging::start(&config.log).map_err(|e| e.to_string())?;
        pipeline.reload(&config);
        current.store(Arc::new(config));
        Ok(match fixed.as_slice() {
            [] => "all of it is in force".to_owned(),
            keys => format!("in force, except for {}: restart the agent for that", keys.join(", ")),
        })
    })
}

/// Puts back into `new` what a running agent does not take up, so that it is what is really in force. Returns the keys
/// that differ.
fn keep_as_started(started: &Config, new: &mut Config) -> Vec<&'static str> {
    fn keep<T: Clone + PartialEq>(key: &'static str, old: &T, new: &mut T) -> Option<&'static str> {
        let differs = old != new;
        new.clone_from(old);
        differs.then_some(key)
    }
    // Its settings change while it runs; whether there is one does not.
    let comes_or_goes = started.elasticsearch.is_some() != new.elasticsearch.is_some();
    let search = comes_or_goes
        .then(|| keep("elasticsearch", &started.elasticsearch, &mut new.elasticsearch))
        .flatten();
    let keys = [
        search,
        keep("node", &started.node, &mut new.node),
        keep("cri", &started.cri, &mut new.cri),
        keep("kubernetes", &started.kubernetes, &mut new.kubernetes),
        keep("events", &started.events, &mut new.events),
        keep("audit", &started.audit, &mut new.audit),
        keep("docker", &started.docker, &mut new.docker),
        keep("state", &started.state, &mut new.state),
        keep("pipeline", &started.pipeline, &mut new.pipeline),
        keep("metrics", &started.metrics, &mut new.metrics),
        keep("http", &started.http, &mut new.http),
        keep("tap", &started.tap, &mut new.tap),
        keep("log.format", &started.log.format, &mut new.log.format),
    ];
    keys.into_iter().flatten().collect()
}

fn serve(
    current: &Arc<ArcSwap<Config>>,
    reload: &Arc<Reload>,
    pipeline: &Arc<Pipeline>,
    runtimes: [Arc<dyn Ask>; 2],
    cluster: Option<Arc<Cluster>>,
    shared: &Shared,
    web: Option<Arc<Web>>,
) -> anyhow::Result<http::Handle> {
    let config = current.load();
    let shipper = Arc::clone(&pipeline.shipper);
    let (events, audit) = (pipeline.events.clone(), pipeline.audit.clone());
    let audited = audit.clone();
    let requests = cluster.as_ref().map(|cluster| cluster.requests()).unwrap_or_default();
    let timelines = Timelines::new(&config, requests, events.as_ref().map(|(events, _)| events.clone()));
    let mut asks: Vec<Arc<dyn Ask>> = vec![Arc::new(OwnProcess)];
    asks.extend(runtimes);
    asks.extend(cluster.iter().flat_map(Cluster::asks));
    asks.extend(pipeline.asks.iter().cloned());
    let surface = Surface {
        ledger: Arc::clone(&shared.ledger),
        budget: Arc::clone(&shared.budget),
        asks,
        pages: machine::pages(&config, &shared.names, cluster.as_ref().and_then(|c| c.series())),
        shippers: Box::new(move || {
            let (name, trouble) = shipper.status();
            let shipper = Shipper { name: name.to_owned(), trouble };
            let cluster = cluster.as_ref().map(|cluster| cluster.standing());
            let events = events.iter().flat_map(|(events, shipper)| standing(events, shipper.as_ref()));
            let audit = audit.iter().flat_map(audit::standing);
            [shipper].into_iter().chain(cluster).chain(events).chain(audit).collect()
        }),
        components: Arc::clone(&shared.components),
        tap: Arc::clone(&shared.tap),
        timelines,
        audit: audited,
        config: Arc::clone(current),
        reload: Arc::clone(reload),
        web,
    };
    let listen = config.http.enabled.then_some(config.http.listen);
    Ok(http::serve(surface, listen, Some(&config.tap_socket()))?)
}

/// What the agent listens to from its first moment on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Until a signal says stop, or with `once` until nothing is left to read.
async fn wait(shared: &Shared, reload: &Arc<Reload>, mut once: Option<Once>, mut signals: Signals) {
    let mut tick = tokio::time::interval(once::TICK);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => {
                let _ = reload.run();
            }
            _ = tick.tick(), if once.is_some() => {
                if once.as_mut().is_some_and(Once::is_done) {
                    break;
                }
            }
        }
    }
    tracing::info!("stopping: waiting for what is under way");
    shared.stop.raise();
}

/// Until the pipeline has ended; true when a second signal came first.
async fn drained<T>(ended: &std::thread::JoinHandle<T>) -> bool {
    let listen = |kind| signal(kind).ok();
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    let asked = Instant::now();
    while !ended.is_finished() {
        let again = tokio::select! {
            () = received(&mut terminate) => true,
            () = received(&mut interrupt) => true,
            () = tokio::time::sleep(Duration::from_millis(20)) => false,
        };
        if again && asked.elapsed() > ECHO {
            return true;
        }
    }
    false
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            let _ = signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// All accounts together, as far as the end needs them.
#[derive(Default)]
struct Total {
    records: u64,
    bytes: u64,
    lost: u64,
    /// Read and in no hands that confirm it.
    open: u64,
    repeated: u64,
}

fn total(ledger: &Ledger) -> Total {
    let mut total = Total::default();
    for balance in ledger.accounts().iter().map(|account| account.balance()) {
        total.records += balance.confirmed.records;
        total.bytes += balance.confirmed.bytes;
        total.lost += balance.lost_bytes();
        total.open += balance.pending.bytes + balance.carried;
        total.repeated += balance.repeated;
    }
    total
}

/// Says how much was done in this life, and what was read and not confirmed: what was given up since the stop, when
/// `repeated` bytes had been read again, and what is open still.
fn sum_up(ledger: &Ledger, repeated: u64) {
    let Total { records, bytes, lost, open, repeated: now } = total(ledger);
    let unconfirmed = open + now.saturating_sub(repeated);
    if unconfirmed > 0 {
        tracing::warn!(
            bytes = unconfirmed,
            "not everything that was read was confirmed in time; it stays in its files and is sent after the next start"
        );
    }
    tracing::info!(confirmed_records = records, confirmed_bytes = bytes, lost_bytes = lost, "stopped");
}

/// A file or glob of the command line as a glob of the configuration: absolute, and a name that is there is taken as
/// it stands.
fn file_argument(text: &str) -> Result<String, String> {
    let path = std::path::absolute(text).map_err(|error| format!("{text:?} is no path: {error}"))?;
    let glob = path.to_str().ok_or_else(|| format!("{text:?} is not UTF-8"))?;
    let glob = if path.exists() { escaped(glob) } else { glob.to_owned() };
    let files = vec![FileInput { paths: vec![glob.clone()], ..FileInput::default() }];
    LogsConfig { files, ..LogsConfig::default() }.validate().map_err(|invalid| invalid.problem)?;
    Ok(glob)
}

/// A glob that matches this text alone.
fn escaped(text: &str) -> String {
    let mut glob = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '*' | '?' | '[' | ']' | '{' | '}' | '\\' => glob.extend(['[', character, ']']),
            other => glob.push(other),
        }
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_named_as_long_as_it_differs_from_what_runs_and_not_longer() {
        let started = Config::default();
        let mut other = Config::default();
        other.http.container_series = 7;
        other.log.level = "debug".to_owned();
        for _ in 0..2 {
            let mut new = other.clone();
            assert_eq!(keep_as_started(&started, &mut new), ["http"]);
            assert_eq!(new.http, started.http, "what is shown is what runs");
            assert_eq!(new.log.level, "debug");
        }
        assert!(keep_as_started(&started, &mut started.clone()).is_empty());
    }

    #[test]
    fn a_file_that_is_there_is_taken_as_it_stands_and_anything_else_as_a_glob() {
        let directory = tempfile::tempdir().expect("directory");
        let odd = directory.path().join("a[1].log");
        std::fs::File::create(&odd).expect("made");
        for (argument, expected) in [
            (odd.to_str().expect("text"), format!("{}/a[[]1[]].log", directory.path().display())),
            ("/no/such/*.log", "/no/such/*.log".to_owned()),
            ("x/*.log", format!("{}/x/*.log", std::env::current_dir().expect("directory").display())),
        ] {
            assert_eq!(file_argument(argument), Ok(expected));
        }
        assert!(file_argument("/a/[").is_err_and(|said| said.contains("is not a glob")));
    }
}
