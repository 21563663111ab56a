//! `taffrail verify`: is anything missing? Answered from the far side alone: from the record topic and the ledger
//! topic of a Kafka, or from NDJSON files, without the agent and its state.
//!
//! The ranges of a file's records, together with the losses declared in its statements, tile the file from the first
//! byte that the agent answers for to its end. What does not tile is missing. What tiles twice is repeated, which
//! at-least-once delivery allows; `--dedup` writes every record once.
//!
//! Of a file that is still open, everything before the last stated position must be there. After it a gap may be a
//! record under way, or a line that waits for its end: it is said and is no failure, unless `--strict`.
//!
//! Whether a repeat has the *same content* as its first can only be told by remembering every content: `--deep` keeps
//! a 64-bit hash of each record for it.

mod dedup;
mod file;
mod intervals;
mod ndjson;
mod progress;
mod report;
mod session;
mod table;
#[cfg(test)]
mod tests;
mod topics;
mod verifier;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use self::dedup::Output;
use self::progress::Progress;
use self::session::Session;

pub use self::file::Tally;
pub use self::report::{FileReport, Ranges, Report, State};
pub use self::topics::TopicArgs;
pub use self::verifier::{Novelty, Verifier};

/// Where to read and what to say.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// NDJSON files, or directories with `logs-*.ndjson*` and `ledger-*.ndjson*`; `.gz` and `.open` too
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The Kafka to read
    #[command(flatten)]
    pub topics: TopicArgs,
    /// Count what may be right but is not proven as failure: declared losses, files that are open or without statement
    #[arg(long)]
    pub strict: bool,
    /// Compare the content of repeats, not only their place (about 40 bytes of memory a record)
    #[arg(long)]
    pub deep: bool,
    /// Write every record once, in order of arrival, to this file; `-` is standard output
    #[arg(long, value_name = "OUT")]
    pub dedup: Option<PathBuf>,
    /// List every file, also when there are many and all is well
    #[arg(long)]
    pub all: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Nothing missing and nothing in conflict is 0, else 1. No verdict is 2: nowhere to read, nothing there, a path that
/// does not exist, a topic that cannot be read. Whoever acts on 1 shall not be woken by a broker that is down.
///
/// # Errors
/// When the report cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.paths.is_empty() && args.topics.brokers.is_empty() {
        eprintln!("taffrail: nowhere to read: name files or directories, or --brokers");
        return Ok(ExitCode::from(2));
    }
    let report = match verify(args) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("taffrail: no verdict: {error:#}");
            return Ok(ExitCode::from(2));
        }
    };
    print(args, &report)?;
    Ok(match () {
        () if report.files.is_empty() && report.unreadable.is_empty() => ExitCode::from(2),
        () if report.passes(args.strict) => ExitCode::SUCCESS,
        () => ExitCode::FAILURE,
    })
}

fn verify(args: &Args) -> Result<Report> {
    let output = args.dedup.as_deref().map(Output::create).transpose()?;
    let writer = output.as_ref().map(Output::writer).transpose()?;
    let mut session = Session::new(Verifier::new(args.deep), Progress::new(), writer);
    let mut unreadable = Vec::new();
    for file in ndjson::files(&args.paths)? {
        let read = ndjson::read(&file, &mut session).context("cannot write the records")?;
        unreadable.extend(read.err());
    }
    let notes = topics::read(&args.topics, &mut session)?;
    let verifier = session.finish().context("cannot write the records")?;
    output.map(Output::finish).transpose()?;
    let mut report = verifier.report();
    (report.unreadable, report.notes) = (unreadable, notes);
    report.verdict = table::verdict(&report);
    Ok(report)
}

/// The report goes to standard output, or to standard error when the records go there.
fn print(args: &Args, report: &Report) -> Result<()> {
    use std::io::{IsTerminal as _, Write as _};
    let to_stderr = args.dedup.as_deref().is_some_and(dedup::is_stdout);
    let people = if to_stderr { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
    let text = if args.json {
        serde_json::to_string(report)? + "\n"
    } else {
        table::render(report, args.all, people)
    };
    let written = if to_stderr {
        std::io::stderr().write_all(text.as_bytes())
    } else {
        std::io::stdout().write_all(text.as_bytes())
    };
    match written {
        // A reader that has seen enough is no failure of the proof.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write the report"),
    }
}
