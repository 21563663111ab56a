//! All that was seen and said of one file.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use taffrail_record::{DeclaredLoss, Span, Statement, StatementKind};

use super::history::History;
use super::intervals::Intervals;
use super::places::{Place, Written};

/// Records behind a gap that were written over more than this many nanoseconds: what belongs into it does not come any
/// more.
const OVERDUE: i64 = 300 * 1_000_000_000;

/// What the agent has said about a file, over all its statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stated {
    /// The first byte that the agent is answerable for.
    pub(super) from: u64,
    /// The largest size.
    pub(super) size: u64,
    /// Everything before it is said to be delivered or declared lost.
    pub(super) confirmed: u64,
    /// Whether `size` is final.
    pub(super) finished: bool,
    /// The largest size with which it was said to have gone away unwatched.
    vanished: Option<u64>,
}

/// What is known of a file's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It may grow.
    Open,
    /// It went away while no agent watched, and was not found again.
    Unseen,
    /// Its size is final.
    Final,
}

/// How many records, and how many bytes of files they stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Records.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One file of the proof.
#[derive(Debug, Default)]
pub(super) struct File {
    /// The path it was opened by.
    pub(super) path: String,
    /// `namespace/pod/container`, or the container's name; empty when unknown.
    pub(super) owner: String,
    /// Bytes that records stand for.
    pub(super) covered: Intervals,
    /// Bytes that more than one record stands for.
    pub(super) repeated_ranges: Intervals,
    /// Records that brought something new, and the bytes they are the first to stand for.
    pub(super) new: Tally,
    /// Records all of whose bytes were there before, and bytes that were there before, in these and in others.
    pub(super) repeated: Tally,
    /// Records of which a part was there before.
    pub(super) overlapping: u64,
    /// Bytes that records stand for and do not contain: the ends of lines that were too long.
    pub(super) truncated: u64,
    /// Declared losses by reason.
    pub(super) lost: BTreeMap<String, Intervals>,
    /// What was said, when anything was.
    pub(super) stated: Option<Stated>,
    /// What was confirmed when.
    pub(super) history: History,
    /// When it was last said to have gone away, and when to be there.
    gone: Option<i64>,
    there: Option<i64>,
    /// The records that did not follow one before them in the file, by their first byte. A run of bytes begins with
    /// one of them.
    starts: BTreeMap<u64, Written>,
    /// One past the last byte of the record furthest behind, and when that was written.
    furthest: (u64, Option<i64>),
    /// Where its records lie.
    places: Vec<Place>,
    /// First bytes of records that came again with other content.
    pub(super) conflicts: Vec<u64>,
    /// With `--deep`: length and hash of the content of each record, by its first byte.
    contents: HashMap<u64, (u64, u64)>,
}

impl File {
    /// Takes one range of a record in; returns how many bytes are new.
    pub(super) fn cover(&mut self, span: Span, written: Written) -> u64 {
        self.note(span, written);
        let repeats = self.covered_before(span);
        let added = self.covered.insert(span);
        self.new.bytes += added;
        self.repeated.bytes += span.len() - added;
        for repeat in repeats {
            self.repeated_ranges.insert(repeat);
        }
        added
    }

    fn note(&mut self, span: Span, written: Written) {
        if self.places.last() != Some(&written.place) && !self.places.contains(&written.place) {
            self.places.push(written.place);
        }
        if !span.is_empty() && !self.covered.reaches(span.start) {
            self.starts.insert(span.start, written);
        }
        match span.end.cmp(&self.furthest.0) {
            Ordering::Greater => self.furthest = (span.end, written.time),
            Ordering::Equal => self.furthest.1 = written.time.max(self.furthest.1),
            Ordering::Less => {}
        }
    }

    /// Where its records lie; more than one place when a topic got more partitions, or it was shipped twice.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Where the first of its records lies.
    pub(super) fn first_place(&self) -> Option<Place> {
        let first = self.covered.hull()?.start;
        self.starts.get(&first).map(|written| written.place)
    }

    /// What its records have in common with those of other files that go the same way: their key.
    pub(super) fn key(&self) -> &str {
        if self.owner.is_empty() { &self.path } else { &self.owner }
    }

    /// Whether nothing more is to be expected in a gap: see [`super`].
    pub(super) fn is_overdue(&self, gap: Span) -> bool {
        let behind = self.starts.range(gap.end..).next().and_then(|(_, written)| written.time);
        behind.zip(self.furthest.1).is_some_and(|(behind, last)| last.saturating_sub(behind) > OVERDUE)
    }

    /// What is known of its end. That it was found again shows in a later statement, or in records behind the end
    /// that was seen.
    pub(super) fn end(&self) -> End {
        let Some(stated) = self.stated else { return End::Open };
        match stated.vanished {
            _ if stated.finished => End::Final,
            None => End::Open,
            Some(size) => {
                let stated_later = self.gone.zip(self.there).is_some_and(|(gone, there)| there > gone);
                if stated_later || self.furthest.0 > size { End::Open } else { End::Unseen }
            }
        }
    }

    /// The parts of a range that are covered, when any is.
    fn covered_before(&self, span: Span) -> Vec<Span> {
        match self.covered.hull() {
            Some(hull) if hull.start < span.end && span.start < hull.end => {
                let mut seen: Intervals = std::iter::once(span).collect();
                for gap in self.covered.gaps(span) {
                    seen.remove(gap);
                }
                seen.iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Compares a record's content with that of the record that began and ended at the same bytes, if there was one.
    pub(super) fn compare(&mut self, offset: u64, length: u64, hash: u64) {
        let before = self.contents.entry(offset).or_insert((length, hash));
        if before.0 == length && before.1 != hash {
            self.conflicts.push(offset);
        }
    }

    /// Takes one statement in, made at `time` (nanoseconds since the Unix epoch). They may come in any order and more
    /// than once.
    pub(super) fn state(&mut self, statement: &Statement, time: Option<i64>) {
        if self.path.is_empty() {
            self.path.clone_from(&statement.path);
        }
        let stated = self.stated.get_or_insert(Stated {
            from: statement.from,
            size: 0,
            confirmed: 0,
            finished: false,
            vanished: None,
        });
        // What was promised once is promised, whatever a later agent without its checkpoint says.
        stated.from = stated.from.min(statement.from);
        stated.size = stated.size.max(statement.size);
        let mut confirmed = statement.from.saturating_add(statement.confirmed);
        match statement.kind {
            StatementKind::Finished => stated.finished = true,
            StatementKind::Vanished => {
                confirmed = confirmed.max(statement.size);
                stated.vanished = stated.vanished.max(Some(statement.size));
                self.gone = self.gone.max(time);
            }
            StatementKind::Opened | StatementKind::Progress | StatementKind::Paused => {
                self.there = self.there.max(time);
            }
            StatementKind::Damaged => {}
        }
        stated.confirmed = stated.confirmed.max(confirmed);
        if let Some(time) = time {
            self.history.note(time, confirmed);
        }
        for loss in &statement.lost {
            self.lose(loss);
        }
    }

    fn lose(&mut self, loss: &DeclaredLoss) {
        let end = loss.offset.saturating_add(loss.length);
        self.lost.entry(loss.reason.clone()).or_default().insert(Span { start: loss.offset, end });
    }
}
