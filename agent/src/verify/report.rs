//! What is said of each file and of all of them.

use std::collections::BTreeMap;

use serde::Serialize;
use taffrail_record::{FileId, Span};

use super::file::{File, Stated, Tally};
use super::intervals::Intervals;

/// How many ranges a report lists; it says how many there are.
const LISTED: usize = 1000;

/// The state of one file, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The file has ended; every byte is delivered or declared lost.
    Complete,
    /// The file may grow; everything that was confirmed is delivered or declared lost.
    Open,
    /// There are records and no statement: nobody said where the file begins and ends. No byte is missing between
    /// the first and the last record.
    Unstated,
    /// Bytes are neither delivered nor declared lost.
    Missing,
    /// A record came again with other content, or lies beyond the file's stated end.
    Conflicting,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Complete => "complete",
            State::Open => "open",
            State::Unstated => "unstated",
            State::Missing => "missing",
            State::Conflicting => "conflicting",
        }
    }
}

/// Ranges of a file, `[first byte, one past the last]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ranges {
    /// Bytes in all of them.
    pub bytes: u64,
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub ranges: Vec<[u64; 2]>,
}

impl Ranges {
    fn of(intervals: &Intervals) -> Self {
        Ranges {
            bytes: intervals.bytes(),
            count: intervals.runs(),
            ranges: intervals.iter().take(LISTED).map(|span| [span.start, span.end]).collect(),
        }
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// `log.file.fingerprint`.
    pub fingerprint: String,
    /// The path it was opened by.
    pub path: String,
    /// `namespace/pod/container`, or the container's name; empty when unknown.
    pub owner: String,
    /// What is to be said of it.
    pub state: State,
    /// The first byte that somebody answers for.
    pub from: u64,
    /// The file is covered from `from` up to here without a gap, by records or declared losses.
    pub tiled: u64,
    /// Its size as stated; absent when unstated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Records without the repeats, and the bytes that they cover.
    pub delivered: Tally,
    /// Repeats. The bytes include those of records that also brought something new.
    pub repeated: Tally,
    /// Where the repeats lie.
    pub repeated_ranges: Ranges,
    /// Records of which a part was there before; they are no repeats.
    pub overlapping: u64,
    /// Neither delivered nor declared lost, although they should be.
    pub missing: Ranges,
    /// Gaps after what was confirmed of an open file: under way, or held back until their line ends.
    pub pending: Ranges,
    /// Bytes declared lost and not delivered, by reason. `truncated` counts the ends cut off long lines.
    pub lost: BTreeMap<String, u64>,
    /// First bytes of records that came again with other content (`--deep`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<u64>,
    /// Bytes delivered beyond the stated end of a finished file.
    pub beyond: u64,
}

impl FileReport {
    pub(super) fn new(id: FileId, file: &File) -> Self {
        let (lost, accounted) = losses(file);
        let hull = accounted.hull().unwrap_or(Span { start: 0, end: 0 });
        let from = file.stated.map_or(hull.start, |stated| stated.from);
        let owed = owed_end(file.stated, hull.end);
        let missing: Intervals = accounted.gaps(span(from, owed)).collect();
        let pending: Intervals = accounted.gaps(span(owed.max(from), hull.end)).collect();
        let finished_size = file.stated.filter(|stated| stated.finished).map(|stated| stated.size);
        let beyond = finished_size.map_or(0, |size| {
            let mut covered = file.covered.clone();
            covered.remove(span(size, u64::MAX))
        });
        let mut report = FileReport {
            fingerprint: id.to_string(),
            path: file.path.clone(),
            owner: file.owner.clone(),
            state: State::Complete,
            from,
            tiled: accounted.gaps(span(from, u64::MAX)).next().map_or(u64::MAX, |gap| gap.start),
            size: file.stated.map(|stated| stated.size),
            delivered: file.new,
            repeated: file.repeated,
            repeated_ranges: Ranges::of(&file.repeated_ranges),
            overlapping: file.overlapping,
            missing: Ranges::of(&missing),
            pending: Ranges::of(&pending),
            lost,
            conflicts: file.conflicts.clone(),
            beyond,
        };
        report.state = report.judge(file.stated);
        report
    }

    fn judge(&self, stated: Option<Stated>) -> State {
        match stated {
            _ if !self.conflicts.is_empty() || self.beyond > 0 => State::Conflicting,
            _ if self.missing.bytes > 0 => State::Missing,
            None => State::Unstated,
            Some(stated) if stated.finished => State::Complete,
            Some(_) => State::Open,
        }
    }

    /// Bytes lost for any reason.
    #[must_use]
    pub fn lost_bytes(&self) -> u64 {
        self.lost.values().sum()
    }
}

/// Up to where every byte must be there.
fn owed_end(stated: Option<Stated>, last: u64) -> u64 {
    match stated {
        Some(stated) if stated.finished => stated.size,
        Some(stated) => stated.confirmed,
        None => last,
    }
}

/// Bytes lost by reason, each byte once and only where it was not delivered; and all bytes that are accounted for.
fn losses(file: &File) -> (BTreeMap<String, u64>, Intervals) {
    let mut accounted = file.covered.clone();
    let mut lost = BTreeMap::new();
    for (reason, ranges) in &file.lost {
        let bytes: u64 = ranges.iter().map(|range| accounted.insert(range)).sum();
        if bytes > 0 {
            lost.insert(reason.clone(), bytes);
        }
    }
    if file.truncated > 0 {
        *lost.entry("truncated".to_owned()).or_default() += file.truncated;
    }
    (lost, accounted)
}

fn span(start: u64, end: u64) -> Span {
    Span { start, end: end.max(start) }
}

/// All files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One word and the sum of it, for people.
    pub verdict: String,
    /// Whether nothing is missing and nothing conflicts.
    pub complete: bool,
    /// Number of files in each state.
    pub states: BTreeMap<&'static str, usize>,
    /// Records without the repeats, and the bytes of files that they cover.
    pub delivered: Tally,
    /// Repeats.
    pub repeated: Tally,
    /// Records of which a part was there before.
    pub overlapping: u64,
    /// Bytes missing.
    pub missing: u64,
    /// Bytes in gaps after what was confirmed of open files.
    pub pending: u64,
    /// Bytes declared lost, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Records with other content than the same record before, and files with bytes beyond their end.
    pub conflicts: u64,
    /// Statements read.
    pub statements: u64,
    /// Messages that are neither records nor statements.
    pub foreign: u64,
    /// What could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    /// What to know about the places that were read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Each file, by owner and path.
    pub files: Vec<FileReport>,
}

impl Report {
    pub(super) fn new(files: Vec<FileReport>, statements: u64, foreign: u64) -> Self {
        let mut report = Report {
            verdict: String::new(),
            complete: true,
            states: BTreeMap::new(),
            delivered: Tally::default(),
            repeated: Tally::default(),
            overlapping: 0,
            missing: 0,
            pending: 0,
            lost: BTreeMap::new(),
            conflicts: 0,
            statements,
            foreign,
            unreadable: Vec::new(),
            notes: Vec::new(),
            files: Vec::new(),
        };
        for file in &files {
            report.add(file);
        }
        report.files = files;
        report
    }

    fn add(&mut self, file: &FileReport) {
        *self.states.entry(file.state.as_str()).or_default() += 1;
        add(&mut self.delivered, file.delivered);
        add(&mut self.repeated, file.repeated);
        self.overlapping += file.overlapping;
        self.missing += file.missing.bytes;
        self.pending += file.pending.bytes;
        self.conflicts += file.conflicts.len() as u64 + u64::from(file.beyond > 0);
        self.complete &= file.state < State::Missing;
        for (reason, bytes) in &file.lost {
            *self.lost.entry(reason.clone()).or_default() += bytes;
        }
    }

    /// Number of files in a state.
    #[must_use]
    pub fn in_state(&self, state: State) -> usize {
        self.states.get(state.as_str()).copied().unwrap_or(0)
    }

    /// Bytes lost for any reason.
    #[must_use]
    pub fn lost_bytes(&self) -> u64 {
        self.lost.values().sum()
    }

    /// Whether the proof stands: nothing missing, nothing conflicting, everything read; and when `strict`, every file
    /// finished and nothing lost.
    #[must_use]
    pub fn passes(&self, strict: bool) -> bool {
        let finished = self.in_state(State::Complete) == self.files.len();
        self.complete && self.unreadable.is_empty() && (!strict || finished && self.lost_bytes() == 0)
    }
}

fn add(sum: &mut Tally, more: Tally) {
    sum.records += more.records;
    sum.bytes += more.bytes;
}
