//! All that was seen and said of one file.

use std::collections::{BTreeMap, HashMap};

use taffrail_record::{DeclaredLoss, Span, Statement, StatementKind};

use super::intervals::Intervals;

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
    /// First bytes of records that came again with other content.
    pub(super) conflicts: Vec<u64>,
    /// With `--deep`: length and hash of the content of each record, by its first byte.
    contents: HashMap<u64, (u64, u64)>,
}

impl File {
    /// Takes one range of a record in; returns how many bytes are new.
    pub(super) fn cover(&mut self, span: Span) -> u64 {
        let repeats = self.covered_before(span);
        let added = self.covered.insert(span);
        self.new.bytes += added;
        self.repeated.bytes += span.len() - added;
        for repeat in repeats {
            self.repeated_ranges.insert(repeat);
        }
        added
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

    /// Takes one statement in. They may come in any order and more than once.
    pub(super) fn state(&mut self, statement: &Statement) {
        if self.path.is_empty() {
            self.path.clone_from(&statement.path);
        }
        let stated = self.stated.get_or_insert(Stated {
            from: statement.from,
            size: 0,
            confirmed: 0,
            finished: false,
        });
        // What was promised once is promised, whatever a later agent without its checkpoint says.
        stated.from = stated.from.min(statement.from);
        stated.size = stated.size.max(statement.size);
        stated.confirmed = stated.confirmed.max(statement.from.saturating_add(statement.confirmed));
        stated.finished |= statement.kind == StatementKind::Finished;
        for loss in &statement.lost {
            self.lose(loss);
        }
    }

    fn lose(&mut self, loss: &DeclaredLoss) {
        let end = loss.offset.saturating_add(loss.length);
        self.lost.entry(loss.reason.clone()).or_default().insert(Span { start: loss.offset, end });
    }
}
