//! Kafka: every record confirmed by the brokers.
//!
//! [`KafkaShipper`] hands each batch to librdkafka in one call and without a copy, and settles its receipt when all
//! in-sync replicas have acknowledged every message of it. Nothing expires: a broker that is down, a leader that
//! moves, a topic that does not exist or may not be written are waited for and shown ([`Ship::status`],
//! `taffrail_kafka_errors_total`), while the log files keep what cannot be sent yet.
//!
//! Messages of one container have one key and so one partition and one order. Retries keep that order; a repeat is
//! possible only when the brokers' answer was lost beyond what idempotence repairs (a new producer after a fatal
//! error, a new process), and every record's id tells it.
//!
//! [`read_topic`] reads a whole topic back, for `taffrail verify`; [`check`] asks the brokers whether all this can
//! work, for `taffrail check`.
//!
//! [`Ship::status`]: taffrail_record::Ship::status

mod check;
mod client;
mod codes;
mod config;
mod error;
mod flight;
mod headers;
mod heap;
mod lane;
mod metrics;
mod producer;
mod properties;
mod read;
mod renewal;
mod shipper;
mod topic;
mod trouble;
mod validate;

pub use check::{TopicReport, check};
pub use config::{Compression, KafkaConfig, Properties, Sasl, Tls};
pub use error::KafkaError;
pub use properties::{consumer_properties, producer_properties};
pub use read::{PartitionRead, ReadSummary, TopicMessage, read_topic};
pub use shipper::KafkaShipper;
pub use taffrail_record::Secret;
pub use topic::{TopicError, TopicTemplate};
pub use validate::Invalid;
