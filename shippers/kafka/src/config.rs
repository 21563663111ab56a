//! What the user may choose about Kafka, with the defaults beside the fields.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use taffrail_record::Secret;

use crate::TopicTemplate;

/// Where and how records are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers to begin with, `host:port`. Required.
    pub brokers: Vec<String>,
    /// Topic of the records. May contain `{cluster}`, `{namespace}`, `{pod}`, `{container}`, `{node}` and
    /// `{label:NAME}`; what is empty becomes `none`, characters that no topic may have become `_`.
    /// Default `taffrail.logs`.
    pub topic: TopicTemplate,
    /// Topic of the ledger's statements; `null` for none, and then `taffrail verify` cannot tell what is missing.
    /// Default `taffrail.ledger`.
    pub ledger_topic: Option<String>,
    /// Topic of the cluster's events, where they go here: `events.copy_to_output` is set, or `events.enabled` is `always` and there is
    /// no `elasticsearch`. Default `taffrail.events`.
    pub events_topic: String,
    /// Topic of what is done in containers, where `audit.enabled` is set. All of a node is in one partition, in its order. Default
    /// `taffrail.audit`.
    pub audit_topic: String,
    /// `lz4` (default), `zstd`, `snappy`, `gzip` or `none`.
    pub compression: Compression,
    /// How long a record may wait for others to share a request with while more keep coming, in milliseconds; when
    /// none come for a tenth of a second it goes at once. Default 500. Shorter than the brokers take to answer costs
    /// much CPU.
    pub linger_ms: u32,
    /// Largest pause between attempts on a topic that refuses, in milliseconds. Default 30000.
    pub retry_max_ms: u32,
    /// Login. Default: none.
    pub sasl: Option<Sasl>,
    /// Encryption. Default: none.
    pub tls: Option<Tls>,
    /// Any property of librdkafka, passed on as it is. Those that would break the promise that nothing is lost
    /// uncounted are refused.
    pub properties: Properties,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        KafkaConfig {
            brokers: Vec::new(),
            topic: TopicTemplate::default(),
            ledger_topic: Some("taffrail.ledger".to_owned()),
            events_topic: "taffrail.events".to_owned(),
            audit_topic: "taffrail.audit".to_owned(),
            compression: Compression::Lz4,
            linger_ms: 500,
            retry_max_ms: 30_000,
            sasl: None,
            tls: None,
            properties: Properties::default(),
        }
    }
}

/// How requests are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Fast, about 4:1 on logs.
    #[default]
    Lz4,
    /// Smaller; about as fast at its lowest level.
    Zstd,
    /// For clusters that have it everywhere.
    Snappy,
    /// Small and slow.
    Gzip,
    /// Not at all.
    None,
}

impl Compression {
    /// The name, as librdkafka has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
            Compression::Snappy => "snappy",
            Compression::Gzip => "gzip",
            Compression::None => "none",
        }
    }
}

/// Login at the brokers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` (default) or `OAUTHBEARER`. `GSSAPI` (Kerberos) needs a system library
    /// and is not built in.
    pub mechanism: Option<String>,
    /// User name.
    pub username: String,
    /// Password. Better: `password_file`.
    pub password: Option<Secret>,
    /// File with the password; one newline at its end is not part of it.
    pub password_file: Option<PathBuf>,
}

/// Encryption towards the brokers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the authorities that sign the brokers' certificates. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with this client's certificate, when brokers ask for one.
    pub certificate_file: Option<PathBuf>,
    /// PEM file with the key of that certificate.
    pub key_file: Option<PathBuf>,
    /// File with the passphrase of that key.
    pub key_password_file: Option<PathBuf>,
    /// Whether a broker's certificate must name the host that was connected to. Default true.
    pub verify_hostname: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            ca_file: None,
            certificate_file: None,
            key_file: None,
            key_password_file: None,
            verify_hostname: true,
        }
    }
}

const HIDDEN: &str = "***";

/// librdkafka properties by name.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Properties(pub BTreeMap<String, String>);

impl Properties {
    /// Whether a property's value must not be shown.
    #[must_use]
    pub fn is_secret(name: &str) -> bool {
        ["password", "secret", "key.pem", "token", "jaas", "private.key", "sasl.oauthbearer.config"]
            .iter()
            .any(|part| name.contains(part))
    }

    fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), if Self::is_secret(name) { HIDDEN } else { value }))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_appear_neither_in_debug_output_nor_when_serialised() {
        let config: KafkaConfig = serde_json::from_str(
            r#"{"brokers":["b:9092"],"sasl":{"username":"u","password":"hunter2"},
                "properties":{"sasl.password":"hunter2","ssl.key.pem":"hunter2","ssl.key.password":"hunter2",
                "sasl.oauthbearer.client.secret":"hunter2","batch.size":"5"}}"#,
        )
        .expect("valid");
        let shown = format!("{config:?} {}", serde_json::to_string(&config).expect("json"));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("batch.size"));
        assert_eq!(config.sasl.expect("sasl").password.expect("password").expose(), "hunter2");
    }

    #[test]
    fn unknown_keys_and_bad_topics_are_refused() {
        for (text, names) in [
            (r#"{"broker":[]}"#, "broker"),
            (r#"{"tls":{"ca":"x"}}"#, "ca"),
            (r#"{"topic":"a b"}"#, "a b"),
            (r#"{"compression":"brotli"}"#, "brotli"),
        ] {
            let error = serde_json::from_str::<KafkaConfig>(text).expect_err(text).to_string();
            assert!(error.contains(names), "{error}");
        }
    }
}
