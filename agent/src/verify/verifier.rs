//! Records and statements in, a report out. Pure: where they come from is the callers' business.
//!
//! Memory is by files and by runs of covered bytes, not by records, so the size of a topic does not matter.
//! With contents compared (`--deep`) it is some 40 bytes a record.
//!
//! A record is a *repeat* when every byte that it stands for is covered by records before it. One that brings a new
//! byte is never called a repeat, so dropping the repeats never drops a byte.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use taffrail_envelope::Located;
use taffrail_record::{FileId, Statement};

use super::file::{File, Tally};
use super::places::{Place, Places, Written};
use super::report::{FileReport, Report};

/// What a record brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// Nothing of it was there.
    New,
    /// A part of it was there.
    Overlapping,
    /// All of it was there.
    Repeat,
}

/// Holds records against statements.
#[derive(Debug, Default)]
pub struct Verifier {
    files: HashMap<FileId, File>,
    places: Places,
    deep: bool,
    total: Tally,
    statements: u64,
    foreign: u64,
}

impl Verifier {
    /// A verifier that has seen nothing; `deep` compares the contents of repeats.
    #[must_use]
    pub fn new(deep: bool) -> Self {
        Verifier { deep, ..Verifier::default() }
    }

    /// Another place in which records lie, for [`Written::place`].
    pub fn place(&mut self) -> Place {
        self.places.add()
    }

    /// The beginning of `place` was removed, by retention or by whoever makes room. What is left there was written
    /// from `oldest` (nanoseconds since the Unix epoch) on; `None` when nothing is left.
    pub fn truncate(&mut self, place: Place, oldest: Option<i64>) {
        self.places.truncate(place, oldest);
    }

    /// Takes a record in. `owner` says whose it is and is called once for each file, `content` gives the message
    /// and is called when contents are compared.
    pub fn record<'c>(
        &mut self,
        record: &Located<'_>,
        written: Written,
        owner: impl FnOnce() -> String,
        content: impl FnOnce() -> Option<std::borrow::Cow<'c, [u8]>>,
    ) -> Novelty {
        self.total.records += 1;
        let (mut length, mut new) = (0, 0);
        for piece in record.pieces() {
            length += piece.span.len();
            new += self.files.entry(piece.file).or_default().cover(piece.span, written);
        }
        self.total.bytes += new;
        let novelty = match new {
            // A record of no bytes has no place by which to know it again.
            _ if new == length => Novelty::New,
            0 => Novelty::Repeat,
            _ => Novelty::Overlapping,
        };
        let file = self.files.entry(record.file).or_default();
        if file.path.is_empty() {
            file.path = record.path.clone().into_owned();
        }
        if file.owner.is_empty() {
            file.owner = owner();
        }
        match novelty {
            Novelty::Repeat => file.repeated.records += 1,
            Novelty::New | Novelty::Overlapping => {
                file.new.records += 1;
                file.truncated += record.truncated;
                file.overlapping += u64::from(novelty == Novelty::Overlapping);
            }
        }
        if self.deep
            && length > 0
            && let Some(content) = content()
        {
            file.compare(record.offset, length, hash(record, &content));
        }
        novelty
    }

    /// Takes a statement in that was made at `time` (nanoseconds since the Unix epoch); `owner` says whose file it is
    /// about. Returns whether it names a file.
    pub fn statement(
        &mut self,
        statement: &Statement,
        time: Option<i64>,
        owner: impl FnOnce() -> String,
    ) -> bool {
        let Some(id) = statement.file() else { return false };
        self.statements += 1;
        let file = self.files.entry(id).or_default();
        if file.owner.is_empty() {
            file.owner = owner();
        }
        file.state(statement, time);
        true
    }

    /// Counts a message that is neither record nor statement.
    pub fn foreign(&mut self) {
        self.foreign += 1;
    }

    /// Records so far, repeats included, and the bytes that they cover.
    #[must_use]
    pub fn seen(&self) -> Tally {
        self.total
    }

    /// What can be said now.
    #[must_use]
    pub fn report(&self) -> Report {
        let sorted: BTreeMap<_, _> =
            self.files.iter().map(|(id, file)| ((&file.owner, &file.path, id), file)).collect();
        let ways = self.ways();
        let way = |file: &File| ways.get(file.key()).filter(|places| !places.is_empty());
        let files = sorted
            .into_iter()
            .map(|((_, _, id), file)| FileReport::new(*id, file, self.removed_until(file, way(file))))
            .collect();
        let mut report = Report::new(files, self.statements, self.foreign);
        let absent = |file: &&FileReport| {
            let known = self.files.get(&file.id).is_some_and(|file| way(file).is_some());
            file.missing.bytes > 0 && !known
        };
        report.absent = report.files.iter().filter(absent).count();
        report
    }

    /// The places in which the records of a key lie; those of one container go one way.
    fn ways(&self) -> HashMap<&str, BTreeSet<Place>> {
        let mut ways: HashMap<&str, BTreeSet<Place>> = HashMap::new();
        for file in self.files.values() {
            ways.entry(file.key()).or_default().extend(file.places());
        }
        ways
    }

    /// Up to when records of `file` may have been removed by retention; `None` when none can have been.
    fn removed_until(&self, file: &File, way: Option<&BTreeSet<Place>>) -> Option<i64> {
        match (file.first_place(), way) {
            (Some(place), _) => self.places.removed_until(place),
            (None, Some(places)) => places.iter().filter_map(|place| self.places.removed_until(*place)).max(),
            (None, None) => self.places.removed_anywhere_until(),
        }
    }
}

fn hash(record: &Located<'_>, content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    record.truncated.hash(&mut hasher);
    for piece in &record.fragments {
        (piece.file, piece.span).hash(&mut hasher);
    }
    hasher.finish()
}
