//! What is said of the audit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use serde::Serialize;

use super::Findings;

/// How many ranges, numbers and sessions a report lists; it says how many there are.
const LISTED: usize = 1000;

/// The state of a session, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// It has ended, and all that happened in it is there.
    Complete,
    /// It has not ended, or its end has not arrived.
    Open,
    /// It says itself that not all of it could be recorded; what could is there.
    WithGaps,
    /// Retention removed its beginning.
    Expired,
    /// It has fewer documents than it says.
    Missing,
}

impl SessionState {
    /// The word for it, for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SessionState::Complete => "complete",
            SessionState::Open => "open",
            SessionState::WithGaps => "with gaps",
            SessionState::Expired => "expired",
            SessionState::Missing => "missing",
        }
    }
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionReport {
    /// Its name.
    pub id: String,
    /// Namespace, pod and container, as far as they are known.
    pub container: String,
    /// What is to be said of it.
    pub state: SessionState,
    /// Documents of it with a number of their own, and those that say who asked for it.
    pub found: u64,
    /// How many it says that there are; absent while it has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<u64>,
    /// Pieces of its recording that are there.
    pub pieces: u64,
    /// How many more it says that there are; 0 while it has not ended.
    pub pieces_missing: u64,
    /// What it says itself that is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

/// One chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// Its name.
    pub id: String,
    /// The node.
    pub host: String,
    /// Number of its first document that is there.
    pub first: u64,
    /// One past the number of its last.
    pub end: u64,
    /// Documents, without repeats.
    pub documents: u64,
    /// Its last document as `chain:number:hash`: kept elsewhere and given to `--audit-head`, it shows later on whether that is still
    /// the one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// How many are missing.
    pub missing: u64,
    /// The first ranges of these: `[first number, one past the last]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_ranges: Vec<[u64; 2]>,
    /// How many documents are not what the one behind them names, or share their number with another one.
    pub changed: u64,
    /// The first of their numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed_documents: Vec<u64>,
    /// What to know about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl ChainReport {
    pub(super) fn new(id: &str, host: &str, numbers: Range<u64>, documents: u64, found: Findings) -> Self {
        let Findings { missing, changed, notes } = found;
        ChainReport {
            id: id.to_owned(),
            host: host.to_owned(),
            first: numbers.start,
            end: numbers.end,
            documents,
            head: None,
            missing: missing.iter().fold(0, |sum: u64, span| sum.saturating_add(span.len())),
            missing_ranges: missing.iter().take(LISTED).map(|span| [span.start, span.end]).collect(),
            changed: changed.len() as u64,
            changed_documents: changed.iter().take(LISTED).copied().collect(),
            notes,
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        self.missing == 0 && self.changed == 0
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One word and the sum of it, for people.
    pub verdict: String,
    /// Whether nothing is missing and nothing was changed.
    pub complete: bool,
    /// Documents, without repeats.
    pub documents: u64,
    /// Documents that were there before.
    pub repeated: u64,
    /// Documents of chains that are missing.
    pub missing: u64,
    /// Documents that are not what the one behind them names, or share their number with another one.
    pub changed: u64,
    /// Number of sessions in each state.
    pub states: BTreeMap<&'static str, usize>,
    /// What was read and is no document of the audit.
    pub foreign: u64,
    /// Each chain.
    pub chains: Vec<ChainReport>,
    /// Sessions that are not complete, worst first; as many as fit here.
    pub sessions: Vec<SessionReport>,
    /// Whether the beginning of a chain was removed by retention.
    #[serde(skip)]
    pub(super) expired: bool,
}

impl Report {
    pub(super) fn new(
        chains: Vec<ChainReport>,
        sessions: Vec<SessionReport>,
        repeated: u64,
        foreign: u64,
    ) -> Self {
        let mut report = Report { repeated, foreign, complete: true, ..Report::default() };
        for chain in &chains {
            report.documents += chain.documents;
            report.missing = report.missing.saturating_add(chain.missing);
            report.changed += chain.changed;
            report.complete &= chain.is_sound();
            report.expired |= chain.first > 0 && chain.is_sound();
        }
        for session in &sessions {
            *report.states.entry(session.state.as_str()).or_default() += 1;
            report.complete &= session.state != SessionState::Missing;
        }
        report.chains = chains;
        report.sessions =
            sessions.into_iter().filter(|session| session.state != SessionState::Complete).collect();
        report.sessions.sort_by_key(|session| std::cmp::Reverse(session.state));
        report.sessions.truncate(LISTED);
        report.verdict = report.say();
        report
    }

    /// Number of sessions in a state.
    #[must_use]
    pub fn in_state(&self, state: SessionState) -> usize {
        self.states.get(state.as_str()).copied().unwrap_or(0)
    }

    /// Whether there is anything to say: a document was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Whether the proof stands: nothing missing and nothing changed; and when `strict`, every session ended and whole, and nothing
    /// expired.
    #[must_use]
    pub fn passes(&self, strict: bool) -> bool {
        let all: usize = self.states.values().sum();
        let is_whole = self.in_state(SessionState::Complete) == all && !self.expired;
        self.complete && (!strict || is_whole)
    }

    /// The line that says it all.
    fn say(&self) -> String {
        let chains = self.chains.len();
        let sessions: usize = self.states.values().sum();
        let mut text = format!(
            "audit {}: {chains} {}, {} documents, {} missing, {} changed, {} repeated; {sessions} {}",
            self.word(),
            if chains == 1 { "chain" } else { "chains" },
            self.documents,
            self.missing,
            self.changed,
            self.repeated,
            if sessions == 1 { "session" } else { "sessions" },
        );
        let others: Vec<String> = self
            .states
            .iter()
            .filter(|(state, _)| **state != SessionState::Complete.as_str())
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        if !others.is_empty() {
            let _ = write!(text, " ({})", others.join(", "));
        }
        text
    }

    fn word(&self) -> &'static str {
        match () {
            () if self.is_empty() => "has nothing to verify",
            () if self.changed > 0 => "changed",
            () if !self.complete => "missing",
            () if self.expired || self.in_state(SessionState::Expired) > 0 => "complete as far as it is kept",
            () if self.in_state(SessionState::Open) > 0 => "complete so far",
            () => "complete",
        }
    }
}
