//! Records and statements from a Kafka.

use std::io;

use anyhow::{Context as _, Result, bail};
use taffrail_kafka::{KafkaConfig, TopicMessage, read_topic};

use super::session::{Message, Session};

/// Where to read.
#[derive(Debug, Clone, clap::Args)]
pub struct TopicArgs {
    /// Brokers to begin with, `host:port`, separated by commas; without them, only paths are read
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    pub brokers: Vec<String>,
    /// Topic of records; give it again for each further one
    #[arg(long, default_value = "taffrail.logs", value_name = "TOPIC")]
    pub topic: Vec<String>,
    /// Topic of statements; empty for none, and then nobody says where files end
    #[arg(long, default_value = "taffrail.ledger", value_name = "TOPIC")]
    pub ledger_topic: String,
    /// A property of librdkafka, such as `sasl.username=me`; give it again for each further one
    #[arg(short = 'X', value_name = "PROPERTY=VALUE")]
    pub properties: Vec<String>,
}

impl Default for TopicArgs {
    fn default() -> Self {
        TopicArgs {
            brokers: Vec::new(),
            topic: vec!["taffrail.logs".to_owned()],
            ledger_topic: "taffrail.ledger".to_owned(),
            properties: Vec::new(),
        }
    }
}

impl TopicArgs {
    fn config(&self) -> Result<KafkaConfig> {
        let mut config = KafkaConfig { brokers: self.brokers.clone(), ..KafkaConfig::default() };
        for property in &self.properties {
            let Some((name, value)) = property.split_once('=') else {
                bail!("-X {property}: write it as PROPERTY=VALUE");
            };
            config.properties.0.insert(name.trim().to_owned(), value.to_owned());
        }
        Ok(config)
    }
}

/// Reads the topics to where they end now. Returns notes on what they do not hold any more.
///
/// # Errors
/// When brokers or topics cannot be used, or the output cannot be written.
pub(super) fn read(args: &TopicArgs, session: &mut Session) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    if args.brokers.is_empty() {
        return Ok(notes);
    }
    let config = args.config()?;
    // Statements first: what they call confirmed was in the record topic before they were.
    let ledger = Some(&args.ledger_topic).filter(|topic| !topic.is_empty());
    for topic in ledger.into_iter().chain(&args.topic) {
        let mut written = Ok(());
        let read = read_topic(&config, topic, |message| {
            if written.is_ok() {
                written = take(message, session);
            }
        });
        let summary = read.with_context(|| format!("cannot read topic {topic}"))?;
        written.context("cannot write the records")?;
        notes.extend(summary.partitions.iter().filter(|read| read.from > 0).map(|read| {
            let (partition, from) = (read.partition, read.from);
            format!(
                "{topic} partition {partition} begins at offset {from}: retention removed what was before"
            )
        }));
    }
    Ok(notes)
}

fn take(message: &TopicMessage<'_>, session: &mut Session) -> io::Result<()> {
    let Some(value) = message.payload else { return Ok(()) };
    let header = |name| message.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| *value);
    let raw = header("taffrail.record").map(|record| (header("taffrail.origin").unwrap_or_default(), record));
    session.message(Message { value, raw })
}
