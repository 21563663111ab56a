//! What can be wrong with Kafka from here.

use std::io;
use std::path::PathBuf;

/// An error of this crate; all of them name what to change.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// No broker is configured.
    #[error("kafka.brokers is empty; set it to one or more host:port")]
    NoBrokers,
    /// A property that librdkafka does not know or whose value it refuses.
    #[error("kafka property {name}: {problem}")]
    Property {
        /// The property.
        name: String,
        /// What librdkafka says, or why it is refused here.
        problem: String,
    },
    /// Contradiction in the `sasl` section.
    #[error("kafka.sasl: set one of password and password_file")]
    Password,
    /// A file with a secret cannot be read.
    #[error("cannot read {path}: {cause}")]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// librdkafka makes no client out of this configuration.
    #[error("cannot make a kafka client: {0}")]
    Client(String),
    /// The ledger topic's name is not legal.
    #[error("kafka.ledger_topic: {0}")]
    LedgerTopic(crate::TopicError),
    /// The brokers do not answer.
    #[error("kafka ({client}): {problem}; {remedy}")]
    Unreachable {
        /// Name of the client that asked, as in the brokers' logs.
        client: String,
        /// What happened.
        problem: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A topic that was to be read does not exist.
    #[error("kafka topic {0} does not exist: nothing was written there yet, or it is called otherwise")]
    NoTopic(String),
    /// A topic cannot be used.
    #[error("kafka topic {topic}: {problem}; {remedy}")]
    Topic {
        /// The topic.
        topic: String,
        /// What the broker says.
        problem: String,
        /// What to do about it.
        remedy: &'static str,
    },
}
