//! Is anything missing of the audit, and was anything changed? Answered from its documents alone.
//!
//! Each document names the one before it in the chain of its node by hash and has a number in it. So of a chain nothing can be
//! changed, taken out or put in unseen, but for its last documents, as long as no later chain and no [`Head`] names them. What is missing at the
//! beginning of a chain was removed by retention when the place in which the chain lies begins later than it once did; else it is
//! missing.
//!
//! Each session that has ended says how many documents there are of it, and what it lacks by itself: that the kernel's ring was
//! full is no failure of delivery, and is said. So it is with the pieces of its recording, if there is one.
//!
//! Memory is 32 bytes a document, and some hundreds a session.

mod head;
mod links;
mod report;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use taffrail_exec::chain::{Link, hash};
use taffrail_record::Span;

use self::links::{Hash, Links, Novelty, hash_of};
use super::intervals::Intervals;

pub use self::head::Head;
pub use self::report::{ChainReport, Report, SessionReport, SessionState};
pub(super) use self::table::render;

/// Beyond this no number is believed: anybody can write to a topic.
const HIGHEST: u64 = 1 << 62;
/// More documents than this do not say of one session who asked for it.
const MOST_ATTRIBUTIONS: u64 = 1000;

/// Where documents lie in one order, as far as retention is concerned: a partition, or the files of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(usize);

/// Holds documents against each other.
#[derive(Debug, Default)]
pub struct Verifier {
    chains: BTreeMap<String, Chain>,
    sessions: BTreeMap<String, Session>,
    /// Whether the beginning of each place was removed.
    places: Vec<bool>,
    /// Documents that were there once.
    heads: Vec<Head>,
    repeated: u64,
    foreign: u64,
}

/// What is known of a chain.
#[derive(Debug, Default)]
struct Chain {
    host: String,
    /// When its earliest document was made, as it says itself: for the order of chains.
    begun: Option<i128>,
    links: Links,
    /// What its first document says of the chain before.
    after: Option<(String, u64)>,
    places: BTreeSet<Place>,
}

/// What is known of a session.
#[derive(Debug, Default)]
struct Session {
    sequences: Intervals,
    found: u64,
    chains: BTreeSet<String>,
    /// How many documents it has, as it says at its end.
    told: Option<u64>,
    /// Documents that say who asked for it, by their numbers, and how many there are as it says at its end.
    attributions: BTreeSet<u64>,
    told_attributions: u64,
    gaps: BTreeSet<String>,
    /// Pieces of its recording.
    pieces: Intervals,
    pieces_found: u64,
    /// How many of them are in documents, as it says at its end.
    pieces_told: Option<u64>,
    /// In which container.
    container: String,
}

/// What is looked at of a document besides its link.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Looked {
    #[serde(rename = "@timestamp")]
    time: String,
    host: Named,
    event: Event,
    audit: Audit,
    kubernetes: Kubernetes,
    container: Named,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    id: String,
    action: String,
    sequence: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Audit {
    session: Told,
    attribution: Attribution,
    recording: Option<Recorded>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attribution {
    documents: u64,
}

/// Of a part of a recording which pieces it has, and of the end of a session how many there are.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Recorded {
    first: u64,
    count: u64,
    pieces: u64,
    lost: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    id: String,
    documents: u64,
    gaps: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Kubernetes {
    namespace: String,
    pod: Named,
}

impl Looked {
    /// Namespace, pod and container, as far as there are any.
    fn container(&self) -> String {
        let names = [&self.kubernetes.namespace, &self.kubernetes.pod.name, &self.container.name];
        names.into_iter().filter(|name| !name.is_empty()).cloned().collect::<Vec<_>>().join("/")
    }
}

impl Verifier {
    /// A document that was the last of its chain once: it is to be there, and the same.
    pub fn expect(&mut self, head: Head) {
        self.heads.push(head);
    }

    /// Another place in which documents lie.
    pub fn place(&mut self) -> Place {
        self.places.push(false);
        Place(self.places.len() - 1)
    }

    /// The beginning of `place` was removed, by retention or by whoever makes room.
    pub fn truncate(&mut self, place: Place) {
        if let Some(truncated) = self.places.get_mut(place.0) {
            *truncated = true;
        }
    }

    /// Whether nothing was given to it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.foreign == 0
    }

    /// Takes a document in, as its bytes were delivered.
    pub fn document(&mut self, bytes: &[u8], place: Place) {
        let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
        let link = value.as_ref().and_then(Link::read).filter(|link| link.sequence < HIGHEST);
        let (Some(value), Some(link)) = (value, link) else {
            self.foreign += 1;
            return;
        };
        let looked = Looked::deserialize(value).unwrap_or_default();
        let novelty = self.link(&link, &looked, bytes, place);
        match novelty {
            Novelty::Repeat => self.repeated += 1,
            Novelty::New => self.of_session(looked, link.id),
            Novelty::Other => {}
        }
    }

    fn link(&mut self, link: &Link, looked: &Looked, bytes: &[u8], place: Place) -> Novelty {
        let chain = self.chains.entry(link.id.clone()).or_default();
        chain.places.insert(place);
        if chain.host.is_empty() {
            chain.host.clone_from(&looked.host.name);
        }
        if let Ok(time) = looked.time.parse::<jiff::Timestamp>() {
            let time = time.as_nanosecond();
            chain.begun = Some(chain.begun.map_or(time, |begun| begun.min(time)));
        }
        let novelty = chain.links.add(link.sequence, hash_of(&link.previous), sum(bytes));
        if link.sequence == 0 && novelty == Novelty::New {
            chain.after.clone_from(&link.after);
        }
        novelty
    }

    fn of_session(&mut self, looked: Looked, chain: String) {
        if looked.audit.session.id.is_empty() {
            return;
        }
        let container = looked.container();
        let session = self.sessions.entry(looked.audit.session.id).or_default();
        session.chains.insert(chain);
        if let Some(sequence) = looked.event.sequence.filter(|sequence| *sequence < HIGHEST) {
            session.found += session.sequences.insert(Span { start: sequence, end: sequence + 1 });
        }
        let recorded = looked.audit.recording.unwrap_or_default();
        let end =
            recorded.first.checked_add(recorded.count).filter(|end| *end < HIGHEST && recorded.count > 0);
        if let Some(end) = end {
            session.pieces_found += session.pieces.insert(Span { start: recorded.first, end });
        }
        if session.container.is_empty() {
            session.container = container;
        }
        if looked.event.action == "session-attributed" {
            let number =
                looked.event.id.rsplit_once(".who.").and_then(|(_, number)| number.parse::<u64>().ok());
            session.attributions.extend(number.filter(|number| *number < MOST_ATTRIBUTIONS));
        }
        if looked.event.action == "session-ended" {
            // A life of the agent that ended too early may have told the end before; the last word is the larger one.
            session.told = session.told.max(Some(looked.audit.session.documents));
            let attributions = looked.audit.attribution.documents.min(MOST_ATTRIBUTIONS);
            session.told_attributions = session.told_attributions.max(attributions);
            session.gaps.extend(looked.audit.session.gaps);
            session.pieces_told =
                session.pieces_told.max(Some(recorded.pieces.saturating_sub(recorded.lost)));
        }
    }

    /// What can be said now.
    #[must_use]
    pub fn report(&self) -> Report {
        let chains = self.chains.iter().map(|(id, chain)| self.chain(id, chain));
        let absent = self.absent();
        let sessions: Vec<SessionReport> =
            self.sessions.iter().map(|(id, session)| self.session(id, session)).collect();
        Report::new(chains.chain(absent).collect(), sessions, self.repeated, self.foreign)
    }

    /// Whether documents may have been removed from the place of a chain.
    fn is_truncated(&self, chain: &Chain) -> bool {
        chain.places.iter().any(|place| self.places.get(place.0).copied().unwrap_or_default())
    }

    fn has_expired(&self, chain: &Chain) -> bool {
        chain.links.first() > Some(0) && self.is_truncated(chain)
    }

    fn chain(&self, id: &str, chain: &Chain) -> ChainReport {
        let links = &chain.links;
        let first = links.first().unwrap_or(0);
        let mut found = Findings {
            missing: links.holes().collect(),
            changed: links.broken() | links.twofold(),
            notes: Vec::new(),
        };
        if self.has_expired(chain) {
            found.notes.push(format!("begins at {first}: retention removed what was before"));
        } else if first > 0 {
            found.missing.insert(0, Span { start: 0, end: first });
            found.notes.push(format!(
                "begins at {first}, and nothing was removed from where it lies: is there another topic or directory with what was before?"
            ));
        }
        for (next, after) in self.next(id) {
            found.hold(&chain.links, &next.links, after);
        }
        for head in self.heads.iter().filter(|head| head.chain == id) {
            found.hold_to(links, head);
        }
        found.notes.extend(self.beginning(id, chain));
        let mut report = ChainReport::new(id, &chain.host, first..links.end(), links.len(), found);
        let head = links.last().map(|hash| Head { chain: id.to_owned(), number: links.end() - 1, hash });
        report.head = head.map(|head| head.to_string());
        report
    }

    /// Chains that begin after this one, and after which of its documents.
    fn next<'a>(&'a self, id: &'a str) -> impl Iterator<Item = (&'a Chain, u64)> {
        self.chains.iter().filter_map(move |(name, chain)| {
            let (of, after) = chain.after.as_ref()?;
            (of == id && name != id && *after < HIGHEST).then_some((chain, *after))
        })
    }

    /// What is to be said of a chain that does not name the one before it.
    fn beginning(&self, id: &str, chain: &Chain) -> Option<String> {
        if chain.links.first() != Some(0) || chain.after.is_some() {
            return None;
        }
        let is_older = |(name, other): &(&String, &Chain)| {
            *name != id && other.host == chain.host && other.begun < chain.begun
        };
        let (older, _) = self.chains.iter().filter(is_older).max_by_key(|(_, other)| other.begun)?;
        Some(format!(
            "begins anew, though the node had the chain {older} before: its state directory was removed, or is another one"
        ))
    }

    /// Chains that others begin after and of which nothing is there.
    fn absent(&self) -> Vec<ChainReport> {
        let is_truncated = self.places.contains(&true);
        let mut absent: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
        let mut look = |id, number: u64, host| {
            if !self.chains.contains_key(id) {
                let (last, _) = absent.entry(id).or_insert((number, host));
                *last = (*last).max(number);
            }
        };
        for next in self.chains.values() {
            if let Some((id, after)) = next.after.as_ref().filter(|(_, after)| *after < HIGHEST) {
                look(id.as_str(), *after, next.host.as_str());
            }
        }
        self.heads.iter().for_each(|head| look(&head.chain, head.number, ""));
        let report = |(id, (last, host)): (&str, (u64, &str))| {
            let all = Span { start: 0, end: last + 1 };
            let (missing, note) = if is_truncated {
                (Vec::new(), "nothing of it is there: retention removed it")
            } else {
                (vec![all], "nothing of it is there: is there another topic or directory with it?")
            };
            let found = Findings { missing, changed: BTreeSet::new(), notes: vec![note.to_owned()] };
            ChainReport::new(id, host, all.end..all.end, 0, found)
        };
        absent.into_iter().map(report).collect()
    }

    fn session(&self, id: &str, session: &Session) -> SessionReport {
        let begins = Span { start: 0, end: 1 };
        let lacks_beginning = session.sequences.gaps(begins).next().is_some();
        let is_cut = || {
            let mut chains = session.chains.iter().filter_map(|chain| self.chains.get(chain));
            lacks_beginning && chains.any(|chain| self.has_expired(chain))
        };
        // An end that came early counts what was known then.
        let attributions = session.attributions.len() as u64;
        let told = session.told.map(|told| told + session.told_attributions.max(attributions));
        let found = session.found + attributions;
        let pieces_missing = session.pieces_told.unwrap_or(0).saturating_sub(session.pieces_found);
        let lacks = |told: u64| found < told || pieces_missing > 0;
        let state = match told {
            None => SessionState::Open,
            Some(told) if lacks(told) && is_cut() => SessionState::Expired,
            Some(told) if lacks(told) => SessionState::Missing,
            Some(_) if !session.gaps.is_empty() => SessionState::WithGaps,
            Some(_) => SessionState::Complete,
        };
        SessionReport {
            id: id.to_owned(),
            container: session.container.clone(),
            state,
            found,
            told,
            pieces: session.pieces_found,
            pieces_missing,
            gaps: session.gaps.iter().cloned().collect(),
        }
    }
}

/// What was found of a chain.
struct Findings {
    missing: Vec<Span>,
    changed: BTreeSet<u64>,
    notes: Vec<String>,
}

impl Findings {
    /// Holds a chain against what the next one says of its document `after`.
    fn hold(&mut self, links: &Links, next: &Links, after: u64) {
        let end = links.end();
        match links.hash(after) {
            Some(hash) if Some(hash) != next.first_previous() => drop(self.changed.insert(after)),
            Some(_) if end > after + 1 => self.notes.push(format!(
                "goes on to {} beyond {after}, which the next chain begins after: a power cut took from the node's disk what had \
                 been delivered already",
                end - 1
            )),
            None => self.reach(end, after),
            _ => {}
        }
    }

    /// Holds a chain against what was its last document once.
    fn hold_to(&mut self, links: &Links, head: &Head) {
        match links.hash(head.number) {
            Some(hash) if hash != head.hash => drop(self.changed.insert(head.number)),
            Some(_) => {}
            None => self.reach(links.end(), head.number),
        }
    }

    /// A chain that ends at `end` was once as long as this document.
    fn reach(&mut self, end: u64, number: u64) {
        let known = self.missing.last().map_or(end, |span| span.end.max(end));
        if number >= known {
            self.missing.push(Span { start: known, end: number + 1 });
        }
    }
}

fn sum(bytes: &[u8]) -> Hash {
    hash_of(&hash(bytes)).unwrap_or_default()
}
