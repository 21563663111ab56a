//! What is said of each file and of all of them.

use std::collections::BTreeMap;

use serde::Serialize;
use taffrail_record::{FileId, Span};

use super::audit;
use super::file::{End, File, Tally};
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
    /// What is kept is complete; the file's beginning, or all of it, was removed by retention.
    Expired,
    /// The file went away while no agent watched: all that was seen of it is delivered or declared lost, and nobody
    /// knows whether there was more.
    Vanished,
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
            State::Expired => "expired",
            State::Vanished => "vanished",
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
    /// Whose report it is.
    #[serde(skip)]
    pub(super) id: FileId,
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
    /// The file is covered up to here without a gap, by records or declared losses, from `from` on or from where the
    /// expired bytes end.
    pub tiled: u64,
    /// Its size as stated; absent when unstated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Whether that size is final.
    pub finished: bool,
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
    /// Delivered once, as far as anybody can tell, and removed by retention since.
    pub expired: Ranges,
    /// Bytes declared lost and not delivered, by reason. `truncated` counts the ends cut off long lines.
    pub lost: BTreeMap<String, u64>,
    /// First bytes of records that came again with other content (`--deep`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<u64>,
    /// Bytes delivered beyond the stated end of a finished file.
    pub beyond: u64,
}

impl FileReport {
    /// `removed_until`: no record that retention may have removed of this file was written after that.
    pub(super) fn new(id: FileId, file: &File, removed_until: Option<i64>) -> Self {
        let (lost, accounted) = losses(file);
        let end = file.end();
        let bounds = Bounds::of(file, &accounted, end);
        let gaps = Gaps::find(file, &accounted, &bounds, removed_until);
        let beyond = bounds.size.filter(|_| end == End::Final).map_or(0, |size| {
            let mut covered = file.covered.clone();
            covered.remove(span(size, u64::MAX))
        });
        let kept = gaps.expired.hull().map_or(bounds.from, |expired| expired.end);
        let mut report = FileReport {
            id,
            fingerprint: id.to_string(),
            path: file.path.clone(),
            owner: file.owner.clone(),
            state: State::Complete,
            from: bounds.from,
            tiled: accounted.gaps(span(kept, u64::MAX)).next().map_or(u64::MAX, |gap| gap.start),
            size: bounds.size,
            finished: end == End::Final,
            delivered: file.new,
            repeated: file.repeated,
            repeated_ranges: Ranges::of(&file.repeated_ranges),
            overlapping: file.overlapping,
            missing: Ranges::of(&gaps.missing),
            pending: Ranges::of(&gaps.pending),
            expired: Ranges::of(&gaps.expired),
            lost,
            conflicts: file.conflicts.clone(),
            beyond,
        };
        report.state = report.judge(end);
        report
    }

    fn judge(&self, end: End) -> State {
        match end {
            _ if !self.conflicts.is_empty() || self.beyond > 0 => State::Conflicting,
            _ if self.missing.bytes > 0 => State::Missing,
            _ if self.size.is_none() => State::Unstated,
            End::Unseen => State::Vanished,
            _ if self.expired.bytes > 0 => State::Expired,
            End::Final => State::Complete,
            End::Open => State::Open,
        }
    }

    /// Bytes lost for any reason.
    #[must_use]
    pub fn lost_bytes(&self) -> u64 {
        self.lost.values().sum()
    }
}

/// Where a file begins and ends, as far as it was said.
struct Bounds {
    from: u64,
    /// Up to where every byte must be there.
    owed: u64,
    /// One past the last byte that is accounted for.
    last: u64,
    size: Option<u64>,
}

impl Bounds {
    fn of(file: &File, accounted: &Intervals, end: End) -> Self {
        let hull = accounted.hull().unwrap_or(Span { start: 0, end: 0 });
        match file.stated {
            None => Bounds { from: hull.start, owed: hull.end, last: hull.end, size: None },
            Some(stated) => Bounds {
                from: stated.from,
                owed: if end == End::Open { stated.confirmed } else { stated.size },
                last: hull.end,
                size: Some(stated.size),
            },
        }
    }
}

/// What is not accounted for, by why.
#[derive(Default)]
struct Gaps {
    missing: Intervals,
    pending: Intervals,
    expired: Intervals,
}

impl Gaps {
    fn find(file: &File, accounted: &Intervals, bounds: &Bounds, removed_until: Option<i64>) -> Self {
        let mut gaps = Gaps::default();
        for gap in accounted.gaps(span(bounds.owed.max(bounds.from), bounds.last)) {
            if file.is_overdue(gap) {
                gaps.missing.insert(gap)
            } else {
                gaps.pending.insert(gap)
            };
        }
        // Retention takes what was written first: nothing behind a record that is there.
        let first = file.covered.hull().map_or(u64::MAX, |kept| kept.start);
        let removable = removed_until.map_or(0, |until| file.history.delivered_after(until).min(first));
        for gap in accounted.gaps(span(bounds.from, bounds.owed)) {
            gaps.expired.insert(span(gap.start, gap.end.min(removable)));
            gaps.missing.insert(span(gap.start.max(removable), gap.end));
        }
        gaps
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
    /// Bytes removed by retention.
    pub expired: u64,
    /// Files of which bytes are missing and no record is there, nor of any other file of their container.
    pub absent: usize,
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
    /// What is said of the audit, where that was looked at. Nothing above counts any of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<audit::Report>,
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
            expired: 0,
            absent: 0,
            lost: BTreeMap::new(),
            conflicts: 0,
            statements,
            foreign,
            unreadable: Vec::new(),
            notes: Vec::new(),
            files: Vec::new(),
            audit: None,
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
        self.expired += file.expired.bytes;
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

    /// Whether the proof stands: nothing missing, nothing conflicting, everything read, nothing of it in the audit either; and when
    /// `strict`, every file finished, nothing lost and nothing expired.
    #[must_use]
    pub fn passes(&self, strict: bool) -> bool {
        let finished = self.in_state(State::Complete) == self.files.len();
        let audit = self.audit.as_ref().is_none_or(|audit| audit.passes(strict));
        self.complete
            && self.unreadable.is_empty()
            && audit
            && (!strict || finished && self.lost_bytes() == 0)
    }

    /// Whether there was nothing to judge.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let audit = self.audit.as_ref().is_none_or(audit::Report::is_empty);
        self.files.is_empty() && self.unreadable.is_empty() && audit
    }
}

fn add(sum: &mut Tally, more: Tally) {
    sum.records += more.records;
    sum.bytes += more.bytes;
}
