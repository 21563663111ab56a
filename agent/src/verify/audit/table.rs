//! The report on the audit for people: what is to be said of chains and sessions, and the verdict at the end.

use std::fmt::Write as _;

use taffrail_exec::plain as visible;

use super::super::table::grouped;
use super::report::{ChainReport, Report, SessionReport, SessionState};

/// More chains or sessions than this are only counted.
const LISTED: usize = 40;
/// How many ranges and numbers are named; `--json` names more.
const NAMED: usize = 5;

/// The report as text that ends in the verdict. `all` lists every chain and session that there is something to say of, however many.
#[must_use]
pub(in super::super) fn render(report: &Report, all: bool) -> String {
    let mut text = String::new();
    let chains: Vec<&ChainReport> =
        report.chains.iter().filter(|chain| !chain.is_sound() || !chain.notes.is_empty()).collect();
    let limit = if all { usize::MAX } else { LISTED };
    chains.iter().take(limit).for_each(|of| chain(&mut text, of));
    more(&mut text, chains.len(), limit, "chains");
    report.sessions.iter().take(limit).for_each(|of| session(&mut text, of));
    let complete = report.in_state(SessionState::Complete);
    more(
        &mut text,
        report.states.values().sum::<usize>() - complete,
        limit.min(report.sessions.len()),
        "sessions",
    );
    if report.foreign > 0 {
        let _ = writeln!(text, "{} messages were no documents of the audit", grouped(report.foreign));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&report.verdict);
    text.push('\n');
    text
}

fn more(text: &mut String, count: usize, shown: usize, what: &str) {
    if count > shown {
        let _ = writeln!(
            text,
            "and {} more {what} (--all lists more, --json most)",
            grouped((count - shown) as u64)
        );
    }
}

fn chain(text: &mut String, chain: &ChainReport) {
    let ChainReport { first, end, .. } = chain;
    let (id, host) = (visible(&chain.id), visible(&chain.host));
    let of = if host.is_empty() { String::new() } else { format!(" of {host}") };
    let _ = writeln!(text, "chain {id}{of}: {} documents, {first}..{end}", grouped(chain.documents));
    if chain.missing > 0 {
        let ranges = chain.missing_ranges.iter().map(|[start, end]| format!("{start}..{end}"));
        let _ = writeln!(
            text,
            "    missing: {} documents, {}",
            grouped(chain.missing),
            some(ranges, chain.missing_ranges.len())
        );
    }
    if chain.changed > 0 {
        let numbers = chain.changed_documents.iter().map(u64::to_string);
        let _ = writeln!(
            text,
            "    changed: {} is not what was written, or what names it is not",
            some(numbers, chain.changed_documents.len())
        );
    }
    for note in &chain.notes {
        let _ = writeln!(text, "    note: {}", visible(note));
    }
}

fn some(texts: impl Iterator<Item = String>, count: usize) -> String {
    let named: Vec<String> = texts.take(NAMED).collect();
    let rest = if count > named.len() { " and more" } else { "" };
    format!("{}{rest}", named.join(" "))
}

fn session(text: &mut String, session: &SessionReport) {
    let container = match session.container.as_str() {
        "" => String::new(),
        container => format!(" in {}", visible(container)),
    };
    let why = match (session.state, session.told) {
        (SessionState::Missing | SessionState::Expired, Some(told)) => {
            let documents = told.saturating_sub(session.found);
            let documents = (documents > 0).then(|| format!("{documents} of its {told} documents"));
            let pieces = session.pieces_missing;
            let pieces = (pieces > 0).then(|| format!("{pieces} pieces of its recording"));
            let both: Vec<String> = documents.into_iter().chain(pieces).collect();
            format!("{} are not there", both.join(" and "))
        }
        (SessionState::WithGaps, _) => visible(&session.gaps.join("; ")),
        _ => format!("{} documents so far", session.found),
    };
    let _ = writeln!(text, "session {}{container}: {}: {why}", visible(&session.id), session.state.as_str());
}
