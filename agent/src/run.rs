//! `taffrail run`: reads the configuration, starts every part, waits for a signal, ends in order.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use taffrail_checkpoint::{Options, Recovery, Store};
use taffrail_logs::find::Handed;
use taffrail_process::OwnProcess;
use taffrail_record::{Ask, Budget, Ledger, Node, Stop};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::ConfigArg;
use crate::components::Components;
use crate::config::{Config, Output};
use crate::http::{self, Shipper, Surface};
use crate::logging;
use crate::pipeline::{Pipeline, Shared};
use crate::reload::Reload;
use crate::tap::TapHub;
use crate::targets::{self, Engine};

/// How long the start waits to hear from the Docker engine, so that it can say what was found.
const ENGINE_PATIENCE: Duration = Duration::from_secs(2);

/// Arguments of `taffrail run`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Ship what is there now, then drain and end
    #[arg(long)]
    once: bool,
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// A bad configuration, a state directory that cannot be used, an output that cannot be started.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    logging::start(&config.log)?;
    raise_descriptor_limit();
    let store = open_store(&config)?;
    let node = Arc::new(Node {
        name: config.node_name(),
        cluster: config.node.cluster.clone(),
        fields: config.node.fields.0.clone(),
    });
    let shared = Shared {
        ledger: Ledger::new(),
        budget: Budget::new(config.pipeline.memory.0),
        components: Components::new(),
        tap: TapHub::new(),
        handed: Handed::new(),
        stop: Stop::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pipeline = Arc::new(Pipeline::start(&config, &node, store, &shared)?);
    let (engine, finder) = targets::start(&config, &node, &shared)?;
    let current = Arc::new(ArcSwap::from_pointee(config));
    let reload = Arc::new(make_reload(args.config.path(), &current, &pipeline));
    let served = serve(&current, &reload, &pipeline, &engine, &shared)?;
    announce(&current.load(), &engine, served.address());

    let once = args.once.then(|| Arc::clone(&shared.ledger));
    runtime.block_on(wait(&shared, &reload, once))?;

    let pipeline = Arc::clone(&pipeline);
    let ended = std::thread::spawn(move || {
        pipeline.stop();
        finder.map(std::thread::JoinHandle::join)
    });
    let forced = runtime.block_on(drained(&ended));
    served.stop();
    if forced {
        tracing::warn!("told to stop a second time; what was under way is sent again after the next start");
        return Ok(ExitCode::FAILURE);
    }
    let _ = ended.join();
    tracing::info!("stopped");
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

fn make_reload(path: Option<PathBuf>, current: &Arc<ArcSwap<Config>>, pipeline: &Arc<Pipeline>) -> Reload {
    let (current, pipeline) = (Arc::clone(current), Arc::clone(pipeline));
    Reload::new(move || {
        let config =
            crate::config::load(path.as_deref(), crate::config::environment()).map_err(|e| e.to_string())?;
        let fixed = needs_restart(&current.load(), &config);
        pipeline.reload(&config);
        current.store(Arc::new(config));
        Ok(match fixed.as_slice() {
            [] => "all of it is in force".to_owned(),
            keys => format!("in force, except for {}: restart the agent for that", keys.join(", ")),
        })
    })
}

/// Sections that a running agent does not take up.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut keys = Vec::new();
    let mut differs = |changed: bool, key| {
        if changed {
            keys.push(key);
        }
    };
    differs(old.node != new.node, "node");
    differs(old.docker != new.docker, "docker");
    differs(old.state != new.state, "state");
    differs(old.pipeline != new.pipeline, "pipeline");
    differs(old.http != new.http, "http");
    differs(old.tap != new.tap, "tap");
    differs(old.log != new.log, "log");
    keys
}

fn serve(
    current: &Arc<ArcSwap<Config>>,
    reload: &Arc<Reload>,
    pipeline: &Arc<Pipeline>,
    engine: &Arc<Engine>,
    shared: &Shared,
) -> anyhow::Result<http::Handle> {
    let config = current.load();
    let shipper = Arc::clone(&pipeline.shipper);
    let mut asks: Vec<Arc<dyn Ask>> = vec![Arc::new(OwnProcess), Arc::clone(engine) as Arc<dyn Ask>];
    asks.extend(pipeline.asks.iter().cloned());
    let surface = Surface {
        ledger: Arc::clone(&shared.ledger),
        budget: Arc::clone(&shared.budget),
        asks,
        shippers: Box::new(move || {
            let (name, trouble) = shipper.status();
            vec![Shipper { name: name.to_owned(), trouble }]
        }),
        components: Arc::clone(&shared.components),
        tap: Arc::clone(&shared.tap),
        config: Arc::clone(current),
        reload: Arc::clone(reload),
    };
    let listen = config.http.enabled.then_some(config.http.listen);
    Ok(http::serve(surface, listen, Some(&config.tap_socket()))?)
}

/// Says to a person what happens now, and what to do when there is nothing to read.
fn announce(config: &Config, engine: &Engine, address: Option<std::net::SocketAddr>) {
    let output = match &config.output {
        Output::Kafka(kafka) => format!("Kafka at {}", kafka.brokers.join(",")),
        Output::File(file) => format!("files in {}", file.directory.display()),
        Output::Discard(_) => "nowhere (discard)".to_owned(),
    };
    let http = address.map_or_else(|| "off".to_owned(), |a| format!("http://{a}/metrics"));
    engine.await_first(ENGINE_PATIENCE);
    let (kubernetes, docker, files) = (kubernetes(config), engine.summary(), config.logs.files.len());
    tracing::info!(output, kubernetes, docker, files, metrics = http, state = %config.state_directory().display(), version = env!("CARGO_PKG_VERSION"), "taffrail is running");
    let root = &config.logs.kubernetes.root;
    let directories = config.logs.kubernetes.enabled && root.exists();
    if !directories && !engine.is_connected() && config.logs.files.is_empty() {
        tracing::warn!(
            "no containers found on this machine: no {} and no Docker engine. To try it, name some files: \
             TAFFRAIL_LOGS__FILES='[{{paths: [/var/log/*.log]}}]' taffrail run",
            root.display()
        );
    }
}

/// One line about the Kubernetes logs for people.
fn kubernetes(config: &Config) -> String {
    if !config.logs.kubernetes.enabled {
        return "off".to_owned();
    }
    let root = &config.logs.kubernetes.root;
    match targets::pods_below(root) {
        Ok(pods) => format!("{}, {pods} pods", root.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            format!("none: {} is not there", root.display())
        }
        Err(error) => format!("{}: {error}", root.display()),
    }
}

/// Until a signal says stop, or with `once` until nothing is left to read.
async fn wait(shared: &Shared, reload: &Arc<Reload>, once: Option<Arc<Ledger>>) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let mut quiet = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let _ = reload.run();
            }
            _ = tick.tick(), if once.is_some() => {
                quiet = if once.as_ref().is_some_and(|ledger| at_rest(ledger)) { quiet + 1 } else { 0 };
                if quiet >= 4 {
                    break;
                }
            }
        }
    }
    tracing::info!("stopping: waiting for what is under way");
    shared.stop.raise();
    Ok(())
}

/// Whether everything that was found is read and settled.
fn at_rest(ledger: &Ledger) -> bool {
    ledger
        .accounts()
        .iter()
        .map(|account| account.balance())
        .all(|balance| balance.lag == 0 && balance.pending.records == 0)
}

/// Until the pipeline has ended; true when a second signal came first.
async fn drained<T>(ended: &std::thread::JoinHandle<T>) -> bool {
    let listen = |kind| signal(kind).ok();
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    while !ended.is_finished() {
        tokio::select! {
            () = received(&mut terminate) => return true,
            () = received(&mut interrupt) => return true,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
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
