//! Records and statements in, a report out. Pure: where they come from is the callers' business.
//!
//! Memory is by files and by runs of covered bytes, not by records, so the size of a topic does not matter.
//! With contents compared (`--deep`) it is some 40 bytes a record.
//!
//! A record is a *repeat* when every byte that it stands for is covered by records before it. One that brings a new
//! byte is never called a repeat, so dropping the repeats never drops a byte.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use taffrail_envelope::Located;
use taffrail_record::{FileId, Statement};

use super::file::{File, Tally};
use super::report::Report;

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

    /// Takes a record in. `owner` says whose it is and is called once for each file, `content` gives the message
    /// and is called when contents are compared.
    pub fn record<'c>(
        &mut self,
        record: &Located<'_>,
        owner: impl FnOnce() -> String,
        content: impl FnOnce() -> Option<std::borrow::Cow<'c, [u8]>>,
    ) -> Novelty {
        self.total.records += 1;
        let (mut length, mut new) = (0, 0);
        for piece in record.pieces() {
            length += piece.span.len();
            new += self.files.entry(piece.file).or_default().cover(piece.span);
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

    /// Takes a statement in; `owner` says whose file it is about. Returns whether it names a file.
    pub fn statement(&mut self, statement: &Statement, owner: impl FnOnce() -> String) -> bool {
        let Some(id) = statement.file() else { return false };
        self.statements += 1;
        let file = self.files.entry(id).or_default();
        if file.owner.is_empty() {
            file.owner = owner();
        }
        file.state(statement);
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
        let files = sorted.into_iter().map(|((_, _, id), file)| super::report::FileReport::new(*id, file));
        Report::new(files.collect(), self.statements, self.foreign)
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
