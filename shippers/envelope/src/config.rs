//! What the user may choose about the form of records.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How records are written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EnvelopeConfig {
    /// `json` (default): one JSON object per record in ECS names, as Filebeat writes them. `raw`: the message's
    /// bytes untouched, with the metadata beside them (Kafka headers).
    pub encoding: Encoding,
    /// `auto` (default): `full` for JSON, `minimal` for raw. `full`: everything that is known; raw records then carry
    /// it in a second header, `taffrail.origin`, which costs more than all the rest of them. `minimal`: without
    /// `agent`, `ecs`, `input`, container labels, device and inode, which makes each JSON record about 150 bytes
    /// smaller. Raw records then have the header `taffrail.record` alone; whose they are stands in their key, and in
    /// full in the ledger's `opened` statement of their fingerprint.
    pub fields: Fields,
}

/// The form of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// A JSON object in ECS names.
    #[default]
    Json,
    /// The message's bytes; where they lay, when and on which stream goes into the header `taffrail.record`.
    Raw,
}

/// How much metadata goes with a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fields {
    /// What the encoding is used for.
    #[default]
    Auto,
    /// All of it.
    Full,
    /// What names the place of the record and its container.
    Minimal,
}

impl EnvelopeConfig {
    /// Whether everything that is known goes with each record.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self.fields {
            Fields::Auto => self.encoding == Encoding::Json,
            Fields::Full => true,
            Fields::Minimal => false,
        }
    }
}
