//! Records and statements from a Kafka.

use std::collections::HashMap;
use std::io;

use anyhow::{Context as _, Result};
use taffrail_kafka::{
    KafkaConfig, KafkaError, PartitionRead, ReadSummary, TopicMessage, TopicTemplate, read_topic,
};

use super::audit;
use super::places::Place;
use super::session::{Message, Session};

/// What to read of a Kafka.
#[derive(Debug, Default)]
pub(super) struct Topics {
    /// The brokers, and how to reach them.
    pub(super) config: KafkaConfig,
    /// Topics of records, or what their names are made by.
    pub(super) records: Vec<TopicTemplate>,
    /// Topic of statements.
    pub(super) ledger: Option<String>,
    /// Topic of the audit, where that is to be looked at.
    pub(super) audit: Option<String>,
}

/// What to know about what was read.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Topics of records by name.
    pub(super) topics: Vec<String>,
    /// Whether any topic that was asked for exists.
    pub(super) any: bool,
    /// For people.
    pub(super) notes: Vec<String>,
}

impl Known {
    /// What there is to say of a topic; nothing where it does not exist.
    fn note(&mut self, topic: &str, notes: Option<Vec<String>>) {
        self.any |= notes.is_some();
        self.notes.extend(notes.unwrap_or_else(|| vec![absent(topic)]));
    }
}

/// What is said of a topic that does not exist.
pub(super) fn absent(topic: &str) -> String {
    format!("topic {topic} does not exist: nothing was written there yet, or it is called otherwise")
}

/// None of a topic that does not exist: a topic is made when something is written.
fn there(read: Result<ReadSummary, KafkaError>) -> Result<Option<ReadSummary>, KafkaError> {
    match read {
        Err(KafkaError::NoTopic(_)) => Ok(None),
        read => read.map(Some),
    }
}

/// Reads the topics to where they end now.
///
/// # Errors
/// When brokers or topics cannot be used, or the output cannot be written.
pub(super) fn read(from: &Topics, session: &mut Session) -> Result<Known> {
    let mut known = Known::default();
    // Statements first: what they call confirmed was in the record topic before they were.
    if let Some(ledger) = &from.ledger {
        let notes = read_one(from, ledger, session)?;
        known.note(ledger, notes);
    }
    for template in &from.records {
        for topic in names(from, template, &mut known.notes)? {
            if !known.topics.contains(&topic) {
                let notes = read_one(from, &topic, session)?;
                known.note(&topic, notes);
                known.topics.push(topic);
            }
        }
    }
    Ok(known)
}

/// The topics that a template names.
fn names(from: &Topics, template: &TopicTemplate, notes: &mut Vec<String>) -> Result<Vec<String>> {
    let mut names = template.existing(&from.config).context("cannot list the topics")?;
    if template.constant().is_none() {
        // A template of placeholders alone fits everything.
        names.retain(|name| !name.starts_with("__") && from.ledger.as_ref() != Some(name));
        notes.push(match names.as_slice() {
            [] => format!("no topic fits {}", template.as_str()),
            names => format!("topics that fit {}: {}", template.as_str(), names.join(", ")),
        });
    }
    Ok(names)
}

/// The first message that was found in a partition.
struct First {
    place: Place,
    offset: i64,
    /// Nanoseconds since the Unix epoch.
    time: Option<i64>,
}

/// Returns notes on what is not in the topic any more; none, where it does not exist.
fn read_one(from: &Topics, topic: &str, session: &mut Session) -> Result<Option<Vec<String>>> {
    let mut firsts: HashMap<i32, First> = HashMap::new();
    let mut written = Ok(());
    let read = read_topic(&from.config, topic, |message| {
        let time = message.timestamp.and_then(|millis| millis.checked_mul(1_000_000));
        let first = firsts.entry(message.partition);
        let first = first.or_insert_with(|| First { place: session.place(), offset: message.offset, time });
        if written.is_ok() {
            written = take(message, first.place, time, session);
        }
    });
    let Some(summary) = there(read).with_context(|| format!("cannot read topic {topic}"))? else {
        return Ok(None);
    };
    written.context("cannot write the records")?;
    let mut notes = Vec::new();
    for partition in &summary.partitions {
        let first = firsts.remove(&partition.partition);
        let Some(begin) = removed_before(partition, first.as_ref()) else { continue };
        // Statements that were removed prove nothing, and excuse nothing.
        if from.ledger.as_deref() != Some(topic) {
            let place = first.as_ref().map_or_else(|| session.place(), |first| first.place);
            session.truncate(place, first.and_then(|first| first.time));
        }
        let partition = partition.partition;
        notes.push(format!(
            "{topic} partition {partition} begins at offset {begin}: retention removed what was before"
        ));
    }
    Ok(Some(notes))
}

/// Gives the documents of the audit in a topic to `verifier`; returns notes on what is not in the topic any more, or none where it
/// does not exist.
///
/// # Errors
/// When brokers or the topic cannot be used.
pub(super) fn read_audit(
    from: &Topics,
    topic: &str,
    verifier: &mut audit::Verifier,
) -> Result<Option<Vec<String>>> {
    let mut firsts: HashMap<i32, (audit::Place, i64)> = HashMap::new();
    let read = read_topic(&from.config, topic, |message| {
        let first = firsts.entry(message.partition);
        let (place, _) = *first.or_insert_with(|| (verifier.place(), message.offset));
        if let Some(document) = message.payload {
            verifier.document(document, place);
        }
    });
    let read = there(read).with_context(|| format!("cannot read topic {topic} of the audit"))?;
    let Some(summary) = read else { return Ok(None) };
    let mut notes = Vec::new();
    for read in &summary.partitions {
        let first = firsts.get(&read.partition);
        let begin = first.map_or(read.from, |(_, offset)| read.from.max(*offset));
        if begin > 0 {
            let place = first.map_or_else(|| verifier.place(), |(place, _)| *place);
            verifier.truncate(place);
            let partition = read.partition;
            notes.push(format!(
                "{topic} partition {partition} begins at offset {begin}: retention removed what was before"
            ));
        }
    }
    Ok(Some(notes))
}

/// Where a partition begins, when that is not its beginning. Retention may work while it is read.
fn removed_before(read: &PartitionRead, first: Option<&First>) -> Option<i64> {
    let begin = first.map_or(read.from, |first| first.offset.max(read.from));
    (begin > 0).then_some(begin)
}

fn take(
    message: &TopicMessage<'_>,
    place: Place,
    time: Option<i64>,
    session: &mut Session,
) -> io::Result<()> {
    let Some(value) = message.payload else { return Ok(()) };
    let header = |name| message.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| *value);
    let raw = header("taffrail.record").map(|record| (header("taffrail.origin").unwrap_or_default(), record));
    session.message(Message { value, raw, place, time })
}
