//! `taffrail verify`: is anything missing? Answered from the far side alone: from the record topic and the ledger
//! topic of a Kafka, or from NDJSON files, without the agent and its state.
//!
//! The ranges of a file's records, together with the losses declared in its statements, tile the file from the first
//! byte that the agent answers for to its end. What does not tile is missing. What tiles twice is repeated, which
//! at-least-once delivery allows; `--dedup` writes every record once.
//!
//! Of a file that is still open, everything before the last stated position must be there. After it a gap may be a
//! record under way, or a part of a line that waits for its end: it is said and is no failure, unless `--strict`.
//! But not for ever. Records of one container go into one partition, or one series of files, in their order, and a
//! part is waited for only seconds. When the records behind a gap were written over five minutes and more, later than
//! any of that lasts, then what belongs into the gap does not come: it is missing.
//!
//! Of a file that went away unwatched (`vanished`) everything that was seen must be there. That is less than complete,
//! and said; a later statement, or records behind the end that was seen, show that it was found again.
//!
//! What retention removed is *expired*, not missing: of a file nothing but its beginning, or all of it, when the place
//! in which its first record lies begins later than it once did, and only what may have been written before the oldest
//! message that is left there. What was confirmed when tells that: see [`places`] and [`history`]. Holes behind a
//! record that is there are missing, and so is the beginning of a file that was opened after all that was removed.
//! Of a file without any record the place is that of its container's other files; when these have none either, the
//! one that was removed from last.
//!
//! Whether a repeat has the *same content* as its first can only be told by remembering every content: `--deep` keeps
//! a 64-bit hash of each record for it.
//!
//! The audit of containers proves itself: see [`audit`]. What is said of it stands beside what is said of logs.

pub mod audit;
mod dedup;
mod file;
mod history;
mod intervals;
pub(crate) mod ndjson;
mod places;
mod progress;
mod report;
mod session;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod topics;
mod verifier;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use self::dedup::Output;
use self::progress::Progress;
use self::session::Session;
use self::source::Source;
use self::topics::Known;
use crate::cli::ConfigArg;
use crate::config::ConfigError;

pub use self::file::Tally;
pub use self::places::{Place, Written};
pub use self::report::{FileReport, Ranges, Report, State};
pub use self::source::TopicArgs;
pub use self::verifier::{Novelty, Verifier};

/// Where to read and what to say.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// NDJSON files, or directories with `logs-*.ndjson*`, `ledger-*.ndjson*` and `audit-*.ndjson*`; `.gz` and `.open` too. Files
    /// whose names begin with `audit` are taken for such of the audit
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The agent's configuration, for what the other arguments do not say
    #[command(flatten)]
    pub config: ConfigArg,
    /// The Kafka to read
    #[command(flatten)]
    pub topics: TopicArgs,
    /// Count what may be right but is not proven as failure: declared losses, expired bytes, files that are open, went
    /// away unwatched or are without statement; sessions of the audit that are open or have gaps
    #[arg(long)]
    pub strict: bool,
    /// Compare the content of repeats, not only their place (about 40 bytes of memory a record)
    #[arg(long)]
    pub deep: bool,
    /// A document of the audit that was the last of its chain once, as `audit.chains[].head` in --json had it then: it must be there,
    /// and the same; may be given more than once
    #[arg(long, value_name = "CHAIN:NUMBER:HASH")]
    pub audit_head: Vec<audit::Head>,
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
/// [`ConfigError`] when the configuration is needed and bad; others when the report cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let report = match verify(args) {
        Ok(report) => report,
        Err(error) if error.is::<ConfigError>() => return Err(error),
        Err(error) => {
            eprintln!("taffrail: no verdict: {error:#}");
            return Ok(ExitCode::from(2));
        }
    };
    print(args, &report)?;
    Ok(match () {
        () if report.is_empty() => ExitCode::from(2),
        () if report.passes(args.strict) => ExitCode::SUCCESS,
        () => ExitCode::FAILURE,
    })
}

fn verify(args: &Args) -> Result<Report> {
    let source = Source::of(args)?;
    let files = ndjson::files(&source.paths)?;
    let output = args.dedup.as_deref().map(Output::create).transpose()?;
    let writer = output.as_ref().map(Output::writer).transpose()?;
    let mut session = Session::new(Verifier::new(args.deep), Progress::new(), writer);
    let series = ndjson::Series::of(&files, &mut session);
    let mut unreadable = Vec::new();
    for file in &files {
        let read = ndjson::read(file, &series, &mut session).context("cannot write the records")?;
        unreadable.extend(read.err());
    }
    let known = source.topics.as_ref().map(|topics| topics::read(topics, &mut session)).transpose()?;
    let verifier = session.finish().context("cannot write the records")?;
    output.map(Output::finish).transpose()?;
    let audit = audited(&source, &args.audit_head, &mut unreadable)?;
    let is_audit_there = audit.as_ref().is_some_and(|(_, _, is_there)| *is_there);
    if let Some(known) = known.as_ref().filter(|known| !known.any && !is_audit_there && files.is_empty()) {
        bail!(
            "nothing was written yet that could be verified, or these are other brokers than the agents': {}",
            known.notes.join("; ")
        );
    }
    let mut report = verifier.report();
    report.unreadable = unreadable;
    report.notes = series.notes;
    report.notes.extend(absent(report.absent, known.as_ref()));
    report.notes.extend(known.into_iter().flat_map(|known| known.notes));
    if let Some((audit, notes, _)) = audit {
        report.audit = Some(audit);
        report.notes.extend(notes);
    }
    report.verdict = table::verdict(&report);
    Ok(report)
}

/// What is said of the audit, notes on where it lies, and whether that place exists; nothing where there is none and none should be.
fn audited(
    source: &Source,
    heads: &[audit::Head],
    unreadable: &mut Vec<String>,
) -> Result<Option<(audit::Report, Vec<String>, bool)>> {
    let files = ndjson::audit_files(&source.paths)?;
    let topic = source.topics.as_ref().and_then(|topics| Some((topics, topics.audit.as_ref()?)));
    if files.is_empty() && topic.is_none() && !source.audits && heads.is_empty() {
        return Ok(None);
    }
    let mut verifier = audit::Verifier::default();
    heads.iter().cloned().for_each(|head| verifier.expect(head));
    let mut notes = ndjson::read_audit(&files, &mut verifier, unreadable)?;
    let mut is_there = !files.is_empty();
    if let Some((topics, topic)) = topic {
        let read = topics::read_audit(topics, topic, &mut verifier)?;
        is_there |= read.is_some();
        notes.extend(read.unwrap_or_else(|| vec![topics::absent(topic)]));
    }
    Ok(Some((verifier.report(), notes, is_there)))
}

/// When all files of a container are missing as a whole, perhaps only a place was forgotten.
fn absent(files: usize, known: Option<&Known>) -> Option<String> {
    let what = match files {
        0 => return None,
        1 => "1 file".to_owned(),
        files => format!("{files} files"),
    };
    Some(match known {
        Some(known) => format!(
            "no record of {what} in the topics that were read ({}): is their topic missing from --topic?",
            known.topics.join(", ")
        ),
        None => {
            format!("no record of {what} in the files that were read: were some of these moved elsewhere?")
        }
    })
}

/// The report goes to standard output, or to standard error when the records go there.
fn print(args: &Args, report: &Report) -> Result<()> {
    use std::io::{IsTerminal as _, Write as _};
    let to_stderr = args.dedup.as_deref().is_some_and(dedup::is_stdout);
    let people = if to_stderr { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
    let audit = report.audit.as_ref().map(|audit| format!("\n{}", audit::render(audit, args.all)));
    let text = if args.json {
        serde_json::to_string(report)? + "\n"
    } else {
        table::render(report, args.all, people) + &audit.unwrap_or_default()
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
