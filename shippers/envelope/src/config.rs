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
    /// `full` (default): everything that is known. `minimal`: without `agent`, `ecs`, `input`, container labels,
    /// device and inode, which makes each record about 150 bytes smaller. Raw records then have the header
    /// `taffrail.record` alone, which costs half as much CPU; whose they are stands in their key, and in full in the
    /// ledger's `opened` statement of their `log.file.fingerprint`.
    pub fields: Fields,
}

/// The form of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// A JSON object in ECS names.
    #[default]
    Json,
    /// The message's bytes; the metadata goes into the headers `taffrail.origin` and `taffrail.record`.
    Raw,
}

/// How much metadata goes with a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fields {
    /// All of it.
    #[default]
    Full,
    /// What names the place of the record and its container.
    Minimal,
}
