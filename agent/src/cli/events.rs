//! `taffrail events`: what happened to a pod, a workload or a node; and what to do with events that were refused.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Subcommand;
use taffrail_api::{Counters, Server};
use taffrail_elasticsearch::{buried, resend};
use taffrail_events::{Selector, There, render, there};

use super::console::tamed;
use super::{ConfigArg, SocketArg};
use crate::client;
use crate::config::{Config, nearest};
use crate::events::Timeline;
use crate::events::kept::Kept;
use crate::output::dead_letters;

/// Whose events to show.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Whose: pod/web-0 (or web-0), deployment/web, node/worker-1, ...; else the namespace, if one is named, or this node
    #[arg(value_name = "OBJECT")]
    object: Option<String>,
    /// Its namespace; `default` when an object is named and this is not
    #[arg(short, long)]
    namespace: Option<String>,
    /// Print the events as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send those events again that the search engine refused for good, once it takes them
    #[command(
        after_help = "Those that are stored are removed from the dead letters; what is refused again stays. The agent may \
                            run meanwhile."
    )]
    Resend {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Prove that every event that the API server has is where events are kept: in the search engine, and in `output`, if they
    /// go there
    #[command(
        after_help = "Exit code 0 when each is there, 1 when one is missing, or twice in a search engine, 2 when there is no verdict: the API server, the search \
                            engine or the brokers do not answer. Events of the last moments are given some seconds."
    )]
    Verify {
        #[command(flatten)]
        config: ConfigArg,
        /// How long an event may still be on its way, in seconds
        #[arg(long, default_value_t = 15)]
        patience: u64,
    },
}

impl Args {
    /// Named behind the subcommand, or in front of it.
    fn config(&self, own: &ConfigArg) -> ConfigArg {
        ConfigArg { config: own.config.clone().or_else(|| self.socket.config.config.clone()) }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(Command::Resend { config }) => return send_again(&args.config(config)),
        Some(Command::Verify { config, patience }) => {
            return verify(&args.config(config), Duration::from_secs(*patience));
        }
        None => {}
    }
    let namespace = args.namespace.as_deref();
    let object = args.object.clone().or_else(|| namespace.map(|name| format!("namespace/{name}")));
    let query = match &object {
        // Refused here, where the words can be seen that were typed.
        Some(object) => {
            Selector::new(object, namespace.unwrap_or("default"))?;
            client::query(&[("object", Some(object)), ("namespace", namespace)])
        }
        None => String::new(),
    };
    let body = client::get(&args.socket.path()?, &format!("/events?{query}"))?;
    let timeline: Timeline = serde_json::from_reader(body).context("the agent's answer cannot be read")?;
    if let Some(why) = &timeline.missing {
        eprintln!("taffrail: only what this agent remembers is shown: {why}");
    }
    let text = if args.json {
        serde_json::to_string_pretty(&timeline)? + "\n"
    } else if timeline.entries.is_empty() {
        let whose = object.as_deref().unwrap_or("this node");
        let of = namespace.filter(|_| args.object.is_some()).map(|name| format!(" in the namespace {name}"));
        let command = args.object.as_deref().and_then(|word| nearest(word, ["resend", "verify"]));
        let hint = match command {
            Some(command) => format!("; did you mean `taffrail events {command}`?"),
            None if object.is_some() && namespace.is_none() => {
                "; another namespace is named by -n".to_owned()
            }
            None => String::new(),
        };
        eprintln!(
            "taffrail: the cluster knows of no event of {whose}{}; it forgets them after an hour{hint}",
            of.unwrap_or_default()
        );
        return Ok(ExitCode::SUCCESS);
    } else {
        render(&timeline.entries)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn send_again(config: &ConfigArg) -> anyhow::Result<ExitCode> {
    let config = config.load()?;
    let engine =
        config.elasticsearch.as_ref().context("no search engine is configured; set elasticsearch.hosts")?;
    let folder = dead_letters(&config);
    let summary = resend(&folder, engine)?;
    println!(
        "{} dead letters in {}: {} stored, {} were there already, {} refused again, {} postponed, {} cannot be sent",
        summary.letters,
        folder.display(),
        summary.stored,
        summary.duplicates,
        summary.refused,
        summary.postponed,
        summary.unsendable
    );
    if let Some(reason) = &summary.reason {
        println!("{reason}");
    }
    Ok(if summary.kept() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verify(config: &ConfigArg, patience: Duration) -> anyhow::Result<ExitCode> {
    const NO_VERDICT: u8 = 2;
    let config = config.load()?;
    let compared = match compare(&config, patience) {
        Ok(compared) => compared,
        Err(error) => {
            eprintln!("taffrail: no verdict: {error:#}");
            return Ok(ExitCode::from(NO_VERDICT));
        }
    };
    let whole = compared.iter().all(Compared::is_whole);
    io::stdout().write_all(compared.iter().map(Compared::to_string).collect::<String>().as_bytes())?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What one place keeps of what the API server has.
struct Compared {
    place: String,
    /// How many events there are.
    there: usize,
    /// Those that are not kept.
    missing: Vec<There>,
    /// How many of these are dead letters here.
    buried: usize,
    /// How many are kept more than once.
    repeated: usize,
    /// Whether that is no fault of this place.
    may_repeat: bool,
}

impl Compared {
    fn is_whole(&self) -> bool {
        self.missing.is_empty() && (self.repeated == 0 || self.may_repeat)
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        for event in self.missing.iter().take(SHOWN) {
            writeln!(f, "missing: {}  {}", tamed(&event.name), tamed(&event.id))?;
        }
        if self.missing.len() > SHOWN {
            writeln!(f, "and {} more", self.missing.len() - SHOWN)?;
        }
        let Compared { place, there, missing, buried, repeated, .. } = self;
        write!(f, "the API server has {there} events, {} of them missing in {place}", missing.len())?;
        match repeated {
            0 => {}
            1 => write!(f, ", 1 is there more than once")?,
            repeated => write!(f, ", {repeated} are there more than once")?,
        }
        writeln!(f)?;
        if *buried > 0 {
            writeln!(
                f,
                "of those missing {buried} were refused for good and are kept here: mend what their `reason` says, then \
                 `taffrail events resend`"
            )?;
        }
        Ok(())
    }
}

/// For each place where events are kept.
fn compare(config: &Config, patience: Duration) -> anyhow::Result<Vec<Compared>> {
    let places = Kept::all(config)?;
    let deadline = Instant::now() + patience;
    let events = events_there(config)?;
    let compared = places.iter().map(|place| compare_with(place, config, &events, deadline));
    compared.collect()
}

fn compare_with(
    place: &Kept<'_>,
    config: &Config,
    events: &[There],
    deadline: Instant,
) -> anyhow::Result<Compared> {
    const PAUSE: Duration = Duration::from_secs(1);
    let mut missing = events.to_vec();
    let mut repeated = 0;
    loop {
        let ids: Vec<String> = missing.iter().map(|event| event.id.clone()).collect();
        let found = place.find(&ids)?;
        repeated += found.values().filter(|times| **times > 1).count();
        missing.retain(|event| !found.contains_key(&event.id));
        if missing.is_empty() || Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    if !missing.is_empty() {
        // Those that have changed or expired meanwhile are not asked for.
        let still: HashSet<String> = events_there(config)?.into_iter().map(|event| event.id).collect();
        missing.retain(|event| still.contains(&event.id));
    }
    let letters = match place {
        Kept::Engine(_) => buried(&dead_letters(config))?,
        Kept::Topic(_) | Kept::Files(_) => HashSet::new(),
    };
    Ok(Compared {
        place: place.to_string(),
        there: events.len(),
        buried: missing.iter().filter(|event| letters.contains(&event.id)).count(),
        missing,
        repeated,
        may_repeat: place.may_repeat(),
    })
}

fn events_there(config: &Config) -> anyhow::Result<Vec<There>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::open(&config.kubernetes.api, Counters::new()).await?;
        let cluster = server.get("namespaces", "/api/v1/namespaces/kube-system").await?;
        let cluster: serde_json::Value = serde_json::from_slice(&cluster)?;
        let id = cluster.pointer("/metadata/uid").and_then(serde_json::Value::as_str);
        Ok(there(&server, &config.events, id.context("the cluster has no id")?).await?)
    })
}
