//! Where the cluster's events are kept, asked for what is there.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use taffrail_elasticsearch::{ElasticsearchConfig, find};
use taffrail_kafka::{KafkaConfig, read_topic};

use super::go_to_output;
use crate::config::{Config, Output};
use crate::verify::ndjson;

/// One of the places to which events go.
#[derive(Debug)]
pub enum Kept<'a> {
    /// A search engine.
    Engine(&'a ElasticsearchConfig),
    /// A topic.
    Topic(&'a KafkaConfig),
    /// Files.
    Files(&'a Path),
}

/// How often each document is there, by its id.
pub type Found = HashMap<String, u64>;

impl fmt::Display for Kept<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kept::Engine(_) => f.write_str("the search engine"),
            Kept::Topic(kafka) => write!(f, "the topic {}", kafka.events_topic),
            Kept::Files(folder) => write!(f, "the files in {}", folder.display()),
        }
    }
}

impl Kept<'_> {
    /// All places to which this configuration sends events.
    ///
    /// # Errors
    /// When there is none that keeps them.
    pub fn all(config: &Config) -> Result<Vec<Kept<'_>>> {
        let mut places: Vec<Kept<'_>> = config.elasticsearch.iter().map(Kept::Engine).collect();
        if go_to_output(config) {
            match &config.output {
                Output::Kafka(kafka) => places.push(Kept::Topic(kafka)),
                Output::File(file) => places.push(Kept::Files(&file.directory)),
                Output::Discard(_) => {}
            }
        }
        if places.is_empty() {
            bail!("events are kept nowhere; set elasticsearch.hosts, or events.enabled to always");
        }
        Ok(places)
    }

    /// Whether an event may be there more than once: where nobody compares ids, what an agent does not know to have arrived
    /// arrives again.
    #[must_use]
    pub fn may_repeat(&self) -> bool {
        match self {
            Kept::Engine(engine) => engine.data_stream,
            Kept::Topic(_) | Kept::Files(_) => true,
        }
    }

    /// How often it has documents with these ids.
    ///
    /// # Errors
    /// When it cannot be asked or read.
    pub fn find(&self, ids: &[String]) -> Result<Found> {
        let mut tally = Tally(ids.iter().map(|id| (id.clone(), 0)).collect());
        match self {
            Kept::Engine(engine) => return Ok(find(engine, ids)?),
            Kept::Topic(kafka) => {
                let topic = &kafka.events_topic;
                let read =
                    read_topic(kafka, topic, |message| tally.count(message.payload.unwrap_or_default()));
                read.with_context(|| format!("cannot read topic {topic}"))?;
            }
            Kept::Files(folder) => {
                for path in ndjson::list(folder, &["events-"])? {
                    let read = ndjson::lines(&path, |line| {
                        tally.count(line);
                        Ok(())
                    });
                    read?.map_err(anyhow::Error::msg)?;
                }
            }
        }
        tally.0.retain(|_, times| *times > 0);
        Ok(tally.0)
    }
}

/// How often each of some ids was met.
struct Tally(Found);

impl Tally {
    /// What is no event, or one with another id, is not counted.
    fn count(&mut self, document: &[u8]) {
        #[derive(Deserialize)]
        struct Document {
            event: Event,
        }
        #[derive(Deserialize)]
        struct Event {
            id: String,
        }
        let document = serde_json::from_slice::<Document>(document).ok();
        if let Some(times) = document.and_then(|document| self.0.get_mut(&document.event.id)) {
            *times += 1;
        }
    }
}
