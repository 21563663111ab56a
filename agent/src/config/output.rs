//! Where records go: exactly one shipper.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FileConfig, KafkaConfig};

/// The shipper and its section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "OutputKeys")]
pub enum Output {
    /// Kafka.
    Kafka(Box<KafkaConfig>),
    /// NDJSON files.
    File(FileConfig),
    /// Nowhere: encode, count, confirm.
    Discard(Discard),
}

/// The discarding shipper has nothing to configure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Discard {}

impl Default for Output {
    fn default() -> Self {
        Output::File(FileConfig::default())
    }
}

impl Output {
    /// The key under `output`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Output::Kafka(_) => "kafka",
            Output::File(_) => "file",
            Output::Discard(_) => "discard",
        }
    }
}

/// The section as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OutputKeys {
    /// A Kafka cluster.
    kafka: Option<Box<KafkaConfig>>,
    /// NDJSON files on this machine; what is used when nothing is said.
    file: Option<FileConfig>,
    /// Nowhere: records are encoded, counted and confirmed. For measuring.
    discard: Option<Discard>,
}

impl TryFrom<OutputKeys> for Output {
    type Error = String;

    fn try_from(keys: OutputKeys) -> Result<Self, String> {
        let mut outputs: Vec<Output> = Vec::new();
        outputs.extend(keys.kafka.map(Output::Kafka));
        outputs.extend(keys.file.map(Output::File));
        outputs.extend(keys.discard.map(Output::Discard));
        let names: Vec<String> = outputs.iter().map(|output| format!("`{}`", output.name())).collect();
        match outputs.pop() {
            None => Ok(Output::default()),
            Some(output) if outputs.is_empty() => Ok(output),
            Some(_) => Err(format!("`output` names {}; keep one", names.join(" and "))),
        }
    }
}

impl JsonSchema for Output {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Output".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        OutputKeys::json_schema(generator)
    }
}
