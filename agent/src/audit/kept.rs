//! Where the documents of the audit are kept, read back from there.
//!
//! Guarantee: of a session each document is told once, in the order in which things happened, however often and in whatever order
//! it arrived. No more than the documents of one session are held in memory.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use taffrail_kafka::{KafkaConfig, read_topic};

use crate::config::{Config, Output};
use crate::verify::ndjson;

/// How many sessions are named whose names begin alike.
const NAMED: usize = 8;

/// The place to which documents go.
#[derive(Debug)]
pub(crate) enum Kept<'a> {
    /// A topic.
    Topic(&'a KafkaConfig),
    /// Files.
    Files(&'a Path),
}

impl fmt::Display for Kept<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kept::Topic(kafka) => write!(f, "the topic {}", kafka.audit_topic),
            Kept::Files(folder) => write!(f, "the files in {}", folder.display()),
        }
    }
}

impl<'a> Kept<'a> {
    /// The place to which this configuration sends documents, whether it audits now or not.
    ///
    /// # Errors
    /// When it keeps none.
    pub(crate) fn of(config: &'a Config) -> Result<Kept<'a>> {
        match &config.output {
            Output::Kafka(kafka) => Ok(Kept::Topic(kafka)),
            Output::File(file) => Ok(Kept::Files(&file.directory)),
            Output::Discard(_) => bail!(
                "the configured output is `discard`, which keeps no document of the audit; give the --config of an agent that has \
                 output.kafka or output.file"
            ),
        }
    }

    /// The documents of the session that is called so, or the only one whose name begins so.
    ///
    /// # Errors
    /// When the place cannot be read, or there is no such session, or more than one.
    pub(crate) fn session(&self, wanted: &str) -> Result<Session> {
        let mut search = Search::new(wanted);
        match self {
            Kept::Topic(kafka) => {
                let topic = &kafka.audit_topic;
                let read =
                    read_topic(kafka, topic, |message| search.take(message.payload.unwrap_or_default()));
                read.with_context(|| format!("cannot read topic {topic}"))?;
            }
            Kept::Files(folder) => {
                for path in ndjson::list(folder, &["audit-"])? {
                    let read = ndjson::lines(&path, |line| {
                        search.take(line);
                        Ok(())
                    });
                    read?.map_err(anyhow::Error::msg)?;
                }
            }
        }
        search.finish().map_err(|why| anyhow::anyhow!("{}", why.of(wanted, self)))
    }
}

/// What there is of a session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Session {
    /// Its name.
    pub(crate) id: String,
    /// Its documents as they arrived, each once, in the order in which things happened.
    pub(crate) documents: Vec<String>,
}

impl Session {
    /// The documents, read.
    pub(crate) fn values(&self) -> Vec<Value> {
        self.documents.iter().filter_map(|text| serde_json::from_str(text).ok()).collect()
    }
}

/// Why a session cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NotFound {
    /// Nothing begins so.
    Unknown,
    /// More than one does.
    Ambiguous(BTreeSet<String>),
}

impl NotFound {
    fn of(&self, wanted: &str, place: &Kept<'_>) -> String {
        let wanted = taffrail_exec::plain(wanted);
        match self {
            NotFound::Unknown => format!(
                "no document of a session `{wanted}` is in {place}; `taffrail sessions` lists those that the agent remembers, and its \
                 documents arrive some moments after it began, unless a policy says `record: off`"
            ),
            NotFound::Ambiguous(ids) => {
                let ids: Vec<String> = ids.iter().map(|id| taffrail_exec::plain(id)).collect();
                format!(
                    "more than one session begins with `{wanted}`: {}; give more of its name",
                    ids.join(", ")
                )
            }
        }
    }
}

/// What is looked at of every document.
#[derive(Deserialize)]
struct Head {
    event: Event,
    audit: Audit,
}

#[derive(Deserialize)]
struct Event {
    id: String,
    sequence: Option<u64>,
}

#[derive(Deserialize)]
struct Audit {
    session: Named,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

/// Looks for a session among documents in any order.
struct Search<'a> {
    wanted: &'a str,
    /// Names that begin so: a few of them.
    ids: BTreeSet<String>,
    /// Documents of the only one so far, or of the one that is called exactly so: place in the session, and text.
    documents: Vec<(u64, String)>,
    /// Their `event.id`s.
    seen: HashSet<String>,
    is_exact: bool,
}

impl<'a> Search<'a> {
    fn new(wanted: &'a str) -> Self {
        Search { wanted, ids: BTreeSet::new(), documents: Vec::new(), seen: HashSet::new(), is_exact: false }
    }

    /// What is no document of the audit is passed over.
    fn take(&mut self, bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if !text.contains(self.wanted) {
            return;
        }
        let Ok(Head { event, audit }) = serde_json::from_str::<Head>(text) else { return };
        let id = audit.session.id;
        if !id.starts_with(self.wanted) || (self.is_exact && id != self.wanted) {
            return;
        }
        self.meet(&id);
        if (self.ids.len() == 1 || id == self.wanted) && self.seen.insert(event.id) {
            self.documents.push((event.sequence.unwrap_or(u64::MAX), text.to_owned()));
        }
    }

    /// Nothing is kept any more of what cannot be meant.
    fn meet(&mut self, id: &str) {
        let is_new = !self.ids.contains(id);
        let is_exact = id == self.wanted;
        if is_new && (is_exact || !self.ids.is_empty()) {
            self.documents.clear();
            self.seen.clear();
        }
        if is_exact && !self.is_exact {
            self.is_exact = true;
            self.ids.clear();
        }
        if is_new && self.ids.len() < NAMED {
            self.ids.insert(id.to_owned());
        }
    }

    fn finish(mut self) -> Result<Session, NotFound> {
        let id = match self.ids.len() {
            0 => return Err(NotFound::Unknown),
            1 => self.ids.pop_first().unwrap_or_default(),
            _ => return Err(NotFound::Ambiguous(self.ids)),
        };
        self.documents.sort_by_key(|(sequence, _)| *sequence);
        Ok(Session { id, documents: self.documents.into_iter().map(|(_, text)| text).collect() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(session: &str, sequence: Option<u64>) -> String {
        let id = sequence.map_or_else(|| "end".to_owned(), |sequence| sequence.to_string());
        json!({"event": {"id": format!("{session}.{id}"), "sequence": sequence}, "audit": {"session": {"id": session}}})
            .to_string()
    }

    fn search(wanted: &str, documents: &[String]) -> Result<Session, NotFound> {
        let mut search = Search::new(wanted);
        documents.iter().for_each(|document| search.take(document.as_bytes()));
        search.finish()
    }

    #[test]
    fn of_a_session_each_document_is_told_once_and_in_its_order() {
        let said = |sequence| document("a1-b", sequence);
        let documents = [said(None), said(Some(2)), said(Some(0)), document("c2-d", Some(1)), said(Some(2))];
        let session = search("a1", &documents).expect("found");
        assert_eq!(session.id, "a1-b");
        assert_eq!(session.documents, [said(Some(0)), said(Some(2)), said(None)]);
        assert_eq!(session.values().len(), 3);
    }

    #[test]
    fn a_beginning_that_two_sessions_share_names_neither() {
        let documents = ["a1", "a2", "a1", "a2"].map(|session| document(session, Some(0)));
        let both: BTreeSet<String> = ["a1", "a2"].map(str::to_owned).into();
        assert_eq!(search("a", &documents), Err(NotFound::Ambiguous(both.clone())));
        assert_eq!(search("b", &documents), Err(NotFound::Unknown));
        let place = Kept::Files(Path::new("/far"));
        let said = NotFound::Ambiguous(both).of("a", &place);
        assert_eq!(said, "more than one session begins with `a`: a1, a2; give more of its name");
        assert!(NotFound::Unknown.of("\u{1b}", &place).contains("`\\u{1b}` is in the files in /far"));
    }

    #[test]
    fn a_session_that_is_called_exactly_so_is_meant_though_others_begin_so() {
        for order in [["a1", "a12", "a1", "a13"], ["a12", "a1", "a13", "a1"], ["a12", "a13", "a1", "a12"]] {
            let documents: Vec<String> =
                (0..).zip(order).map(|(sequence, session)| document(session, Some(sequence))).collect();
            let session = search("a1", &documents).expect("found");
            let expected: Vec<String> = (0..)
                .zip(order)
                .filter(|(_, session)| *session == "a1")
                .map(|(sequence, _)| document("a1", Some(sequence)))
                .collect();
            assert_eq!((session.id.as_str(), session.documents), ("a1", expected));
        }
    }
}
