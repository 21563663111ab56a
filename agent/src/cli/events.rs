//! `taffrail events`: what happened to a pod, a workload or a node; and what to do with events that were refused.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use taffrail_elasticsearch::resend;
use taffrail_events::{Selector, render};

use super::{ConfigArg, SocketArg};
use crate::client;
use crate::events::Timeline;
use crate::output::dead_letters;

/// Whose events to show.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Whose: pod/web-0 (or web-0), deployment/web, node/worker-1, ...; else this node
    #[arg(value_name = "OBJECT")]
    object: Option<String>,
    /// Its namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
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
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(Command::Resend { config }) = &args.command {
        return send_again(config);
    }
    let query = match &args.object {
        // Refused here, where the words can be seen that were typed.
        Some(object) => {
            Selector::new(object, &args.namespace)?;
            client::query(&[("object", Some(object)), ("namespace", Some(&args.namespace))])
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
        eprintln!("taffrail: the cluster knows of no event; it forgets them after an hour");
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
    let summary = resend(&dead_letters(&config), engine)?;
    println!(
        "{} dead letters: {} stored, {} were there already, {} refused again, {} postponed, {} cannot be sent",
        summary.letters,
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
