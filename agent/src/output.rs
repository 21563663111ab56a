//! The one list of shippers: from the configuration to something that ships.

use std::path::PathBuf;
use std::sync::Arc;

use taffrail_discard::DiscardShipper;
use taffrail_elasticsearch::{ElasticsearchError, ElasticsearchShipper};
use taffrail_file::FileShipper;
use taffrail_kafka::KafkaShipper;
use taffrail_record::{Ask, BufferPool, Ship};

use crate::config::{Config, Output};

/// A shipper and its counters.
pub struct Made {
    /// The shipper.
    pub ship: Box<dyn Ship>,
    /// Its counters.
    pub metrics: Arc<dyn Ask>,
}

/// A way to the far side: what goes it, and how its shipper is made.
pub struct Way {
    /// The name of its thread.
    pub(crate) thread: &'static str,
    /// The shipper's name.
    pub(crate) name: fn(&Config) -> &'static str,
    /// Makes the shipper.
    pub(crate) make: fn(&Config, &Arc<BufferPool>) -> Result<Made, OutputError>,
    /// Whether two configurations ask for different shippers.
    pub(crate) differs: fn(&Config, &Config) -> bool,
}

/// The way of everything that has none of its own: `output`.
pub static OUTPUT: Way = Way {
    thread: "pump",
    name: |config| config.output.name(),
    make: make_shipper,
    differs: |one, other| one.output != other.output || one.envelope != other.envelope,
};

/// The way of the cluster's events where a search engine is configured: `elasticsearch`.
pub static EVENTS: Way = Way {
    thread: "pump-events",
    name: |_| "elasticsearch",
    make: make_elasticsearch,
    differs: |one, other| one.elasticsearch != other.elasticsearch,
};

fn make_elasticsearch(config: &Config, pool: &Arc<BufferPool>) -> Result<Made, OutputError> {
    let failed =
        |cause: ElasticsearchError| OutputError::Shipper { name: "elasticsearch", cause: cause.into() };
    // Who takes the section out of the file has it until the next start.
    let section = config.elasticsearch.clone().unwrap_or_default();
    let shipper =
        ElasticsearchShipper::new(&section, &dead_letters(config), Arc::clone(pool)).map_err(failed)?;
    Ok(Made { metrics: shipper.metrics(), ship: Box::new(shipper) })
}

/// Where documents are kept that the search engine refuses for good.
#[must_use]
pub fn dead_letters(config: &Config) -> PathBuf {
    config.state_directory().join("dead-letters")
}

/// Why the pipeline cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The shipper cannot be made from its configuration.
    #[error("output {name}: {cause}")]
    Shipper {
        /// The key under `output`.
        name: &'static str,
        /// The cause.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system grants no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl From<std::io::Error> for OutputError {
    fn from(cause: std::io::Error) -> Self {
        OutputError::Thread(cause)
    }
}

/// Makes the configured shipper.
///
/// # Errors
/// When its settings do not work: a directory that cannot be written, a property that librdkafka refuses.
pub fn make_shipper(config: &Config, pool: &Arc<BufferPool>) -> Result<Made, OutputError> {
    let envelope = config.envelope.clone();
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| OutputError::Shipper {
        name: config.output.name(),
        cause,
    };
    Ok(match &config.output {
        Output::Kafka(kafka) => {
            let shipper =
                KafkaShipper::new(kafka, envelope, Arc::clone(pool)).map_err(|e| failed(e.into()))?;
            Made { metrics: shipper.metrics(), ship: Box::new(shipper) }
        }
        Output::File(file) => {
            let shipper = FileShipper::new(file, envelope, Arc::clone(pool)).map_err(|e| failed(e.into()))?;
            Made { metrics: shipper.metrics(), ship: Box::new(shipper) }
        }
        Output::Discard(_) => {
            let shipper = DiscardShipper::new(envelope, Arc::clone(pool));
            Made { metrics: shipper.metrics(), ship: Box::new(shipper) }
        }
    })
}
