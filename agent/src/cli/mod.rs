//! The command line: what there is to say, and who does it.
//!
//! Exit codes: 0 all is well; 1 it went wrong while running, or the answer is no; 2 the command was not understood;
//! 78 the configuration is bad.

pub(crate) mod console;
mod events;
mod ledger;
mod replay;
mod sessions;
mod tap;
mod webhook;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{self, Config, ConfigError};
use crate::{check, metrics, reference, run, verify};

/// Exit code for a bad configuration (`EX_CONFIG` of sysexits.h).
const BAD_CONFIG: u8 = 78;

/// One daemon per node: container logs into Kafka or files, with a ledger that proves nothing was lost
#[derive(Debug, Parser)]
#[command(
    name = "taffrail",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Try it: `taffrail check` says what this machine permits, `taffrail run` starts reading, and in \
                  another terminal `taffrail tap` shows what passes and `taffrail ledger` whether it adds up."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read this node's logs and ship them, until told to stop
    #[command(
        after_help = "Examples:\n  taffrail run                    find this machine's containers, write NDJSON files\n  \
                            taffrail run '/var/log/*.log'   plain files too; no containers are needed\n  \
                            taffrail run --config taffrail.yaml\n  \
                            TAFFRAIL_OUTPUT__KAFKA__BROKERS=kafka:9092 taffrail run\n\n\
                            TERM or INT: stop reading, wait for what is under way (pipeline.drain_timeout), write the \
                            positions, end; a second one ends at once. HUP: read the configuration again; when it is \
                            bad the old one stays."
    )]
    Run(run::Args),
    /// Check the configuration, and what this machine permits
    #[command(after_help = "Examples:\n  taffrail check\n  taffrail check --config taffrail.yaml --json\n\n\
                            Exit code 0 when nothing stands in the way, 1 when something does, 78 when the \
                            configuration is bad.")]
    Check(check::Args),
    /// Show records as they pass, like `kubectl logs -f` for the whole node
    #[command(after_help = "Examples:\n  taffrail tap                      every record of this node\n  \
                            taffrail tap web                  of pods (or containers) named web or web-...\n  \
                            taffrail tap -n shop 'api*' -c app --grep 'status=5..'\n  \
                            taffrail tap --json | jq -r .message\n\n\
                            In a pipe each line is: time, namespace/pod/container, stream, message. Records that \
                            this side is too slow for are counted, and are delivered all the same.")]
    Tap(tap::Args),
    /// Say for each container where every byte is, and whether it adds up
    #[command(after_help = "Examples:\n  taffrail ledger\n  taffrail ledger --json | jq .total\n\n\
                            read = confirmed + pending + carried + lost, counted independently. Exit code 1 when an \
                            account does not add up.")]
    Ledger(ledger::Args),
    /// Show what happened to a pod, a workload or a node, in the order in which it happened
    #[command(
        after_help = "Examples:\n  taffrail events                          of this node and its pods\n  \
                            taffrail events -n shop web-0            of a pod\n  \
                            taffrail events -n shop deployment/web   of a workload and what it has made\n  \
                            taffrail events resend                   what the search engine refused, once more\n  \
                            taffrail events verify                   is every event in the search engine?\n\n\
                            From what this agent remembers, when it is the one that watches, and from the API server."
    )]
    Events(events::Args),
    /// Show who came into containers of this node, and what they did there
    #[command(
        after_help = "Examples:\n  taffrail sessions                        those of this node: ended ones, then live ones\n  \
                            taffrail sessions --live --follow        live ones, and who comes and goes from now on\n  \
                            taffrail sessions -n shop --since 1h --user 0\n  \
                            taffrail sessions --gaps --json | jq -r '.sessions[].gaps[]'\n  \
                            taffrail sessions show 5f0c              what was done in one of them\n\n\
                            From what this agent remembers since it began (`audit.enabled: true`); `show` reads where the documents \
                            arrive. In a pipe lines have tabs between their cells, and a session that lasts is `live`."
    )]
    Sessions(sessions::Args),
    /// Print what tells the agents who asks for sessions: certificate, secret and manifests of the audit's webhook
    #[command(
        after_help = "Examples:\n  taffrail audit-webhook > webhook.yaml && kubectl apply -f webhook.yaml\n  \
                            taffrail audit-webhook --url https://10.0.0.7:9127   for API servers that reach no Service\n  \
                            kubectl -n taffrail get secret taffrail-audit -o jsonpath='{.data.kubeconfig}' | base64 -d   \
                            for --audit-webhook-config-file\n\n\
                            Each time anew: certificate and secret of before are no good then. The key that signs is not kept. \
                            deploy/audit.md says what belongs into the DaemonSet."
    )]
    AuditWebhook(webhook::Args),
    /// Play what was typed and shown in a session, where a policy of the audit says `record: full`
    #[command(
        after_help = "Examples:\n  taffrail replay 5f0c                        on this terminal, in its time (Ctrl-C ends)\n  \
                            taffrail replay 5f0c --speed 4 --idle-limit 1\n  \
                            taffrail replay 5f0c --input                what was typed, and when\n  \
                            taffrail replay 5f0c | less                 what was shown, as text\n  \
                            taffrail replay 5f0c --export a.cast        for asciinema play a.cast\n\n\
                            From where the documents of the audit arrive; the agent need not run. What would take over the \
                            terminal of who looks does not pass, unless with --raw: titles, clipboard, questions to the \
                            terminal, modes of keys and characters."
    )]
    Replay(replay::Args),
    /// Show the metrics of containers or of this node, or how they differ from a peer's
    #[command(after_help = "Examples:\n  taffrail metrics --once                 containers, in a table\n  \
                            taffrail metrics --once node            this node\n  \
                            taffrail metrics --diff http://127.0.0.1:9100/metrics node\n  \
                            curl -sk -H \"Authorization: Bearer $TOKEN\" https://127.0.0.1:10250/metrics/cadvisor | \
                            taffrail metrics --diff -\n\n\
                            Figures are collected here and now; no agent need run. In a pipe they are in Prometheus' \
                            text format. With --diff the exit code is 1 when a difference has no known reason.")]
    Metrics(metrics::Args),
    /// Prove from the far side that nothing is missing
    #[command(
        after_help = "Examples:\n  taffrail verify                        what the agent's configuration names\n  \
                      taffrail verify -f taffrail.yaml       its brokers, login and topics, from anywhere\n  \
                      taffrail verify --brokers kafka:9092 --topic 'logs.{namespace}'\n  \
                      taffrail verify -f taffrail.yaml --json | jq .missing\n  \
                      taffrail verify records --dedup once.ndjson\n\n\
                      Exit code 0 when nothing is missing, 1 when something is, 2 when there is no verdict: nothing \
                      to read, or it cannot be read; 78 when the configuration is bad."
    )]
    Verify(verify::Args),
    /// Write the reference pages (configuration, metrics, command line)
    Reference(reference::Args),
    /// Print the completions for a shell
    #[command(after_help = "Examples:\n  taffrail completions bash > /etc/bash_completion.d/taffrail\n  \
                            taffrail completions zsh > ~/.zfunc/_taffrail")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Where the configuration is.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArg {
    /// Configuration file; else the one that TAFFRAIL_CONFIG names, else /etc/taffrail/taffrail.yaml when it is there
    #[arg(short = 'f', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ConfigArg {
    /// The file to read, if any.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        let named = self.config.clone().or_else(|| std::env::var_os("TAFFRAIL_CONFIG").map(PathBuf::from));
        named.or_else(|| Some(PathBuf::from(config::DEFAULT_PATH)).filter(|path| path.exists()))
    }

    /// The configuration in that file and the environment.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        config::load(self.path().as_deref(), config::environment())
    }
}

/// Where the agent's socket is.
#[derive(Debug, Clone, Default, Args)]
pub struct SocketArg {
    #[command(flatten)]
    config: ConfigArg,
    /// The agent's socket; else the one of the configuration
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl SocketArg {
    fn path(&self) -> Result<PathBuf, ConfigError> {
        self.socket.clone().map_or_else(|| Ok(self.config.load()?.tap_socket()), Ok)
    }
}

/// The command line, for the reference and the completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what the arguments say.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as errors with exit code 0. Nothing can be done when they cannot be printed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    outcome(dispatch(cli.command))
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Tap(args) => tap::run(&args),
        Command::Ledger(args) => ledger::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Sessions(args) => sessions::run(&args),
        Command::AuditWebhook(args) => webhook::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Metrics(args) => metrics::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Reference(args) => reference::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "taffrail", &mut script);
            io::stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The exit code; what went wrong is said on standard error.
fn outcome(result: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    if error.chain().any(is_broken_pipe) {
        // Whoever read us has seen enough.
        return ExitCode::SUCCESS;
    }
    match error.downcast_ref::<ConfigError>() {
        Some(config) => {
            eprintln!("taffrail: the configuration is bad\n{config}");
            ExitCode::from(BAD_CONFIG)
        }
        None => {
            eprintln!("taffrail: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
