//! What the user may choose about Elasticsearch and OpenSearch, with the defaults beside the fields.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use taffrail_record::Secret;

use crate::IndexTemplate;

/// Where and how documents are stored. Elasticsearch (7.14 and newer) and OpenSearch are told apart by asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ElasticsearchConfig {
    /// Nodes, as `https://host:9200`; one that is down rests while the others are asked. Required.
    pub hosts: Vec<String>,
    /// Index of a document, by the event's own time (UTC) and cluster. May contain dates, such as `{yyyy.MM.dd}`,
    /// `{yyyy.MM}` or `{yyyy}`, and `{cluster}`: `node.cluster` as it is configured, which must be the same for all agents of the
    /// cluster, else the cluster's id; lowercased, with `-` for what no index may have.
    /// Default `taffrail-events-{yyyy.MM.dd}`.
    pub index: IndexTemplate,
    /// Whether `index` is a data stream. Its name must then have no date. A document may then be stored twice when the
    /// stream rolled over between two attempts: ids are unique within one backing index only. Default false.
    pub data_stream: bool,
    /// Login. Default: none.
    pub auth: Option<Auth>,
    /// Certificates, where `hosts` have `https`.
    pub tls: Tls,
    /// Whether requests are compressed. Default true.
    pub gzip: bool,
    /// Largest request, in bytes before compression. Default 5242880 (5 MiB).
    pub bulk_bytes: u64,
    /// Most documents in a request. Default 1000.
    pub bulk_documents: u32,
    /// How long a document may wait for others to share a request with, in milliseconds. Default 1000.
    pub flush_ms: u64,
    /// Requests under way at once. Default 2.
    pub requests: u32,
    /// How long an answer may take, in milliseconds; then the next node is asked. Default 60000.
    pub timeout_ms: u64,
    /// Largest pause between attempts, in milliseconds. Default 30000.
    pub retry_max_ms: u64,
    /// Whether to install an index template, and keep it up to date until a person changes it. Default true.
    pub template: bool,
    /// Age at which indices are deleted, such as `30d`, by a policy that is installed along with the template (ILM on
    /// Elasticsearch, ISM on OpenSearch) and kept up to date until a person changes it. Default: none, they are kept.
    pub retention: Option<String>,
    /// Bytes of documents kept that were refused for good; beyond, the oldest are deleted. Default 268435456 (256 MiB).
    pub dead_letter_bytes: u64,
}

impl Default for ElasticsearchConfig {
    fn default() -> Self {
        ElasticsearchConfig {
            hosts: Vec::new(),
            index: IndexTemplate::default(),
            data_stream: false,
            auth: None,
            tls: Tls::default(),
            gzip: true,
            bulk_bytes: 5 << 20,
            bulk_documents: 1000,
            flush_ms: 1000,
            requests: 2,
            timeout_ms: 60_000,
            retry_max_ms: 30_000,
            template: true,
            retention: None,
            dead_letter_bytes: 256 << 20,
        }
    }
}

/// Login: a user, an API key or a token. Files are read again for each attempt, so that what is in them may change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// User name.
    pub username: Option<String>,
    /// Password. Better: `password_file`.
    pub password: Option<Secret>,
    /// File with the password; white space at its end is not part of it.
    pub password_file: Option<PathBuf>,
    /// API key of Elasticsearch, encoded as the engine shows it, or `id:key`. Better: `api_key_file`.
    pub api_key: Option<Secret>,
    /// File with the API key.
    pub api_key_file: Option<PathBuf>,
    /// Token for `Authorization: Bearer`. Better: `bearer_token_file`.
    pub bearer_token: Option<Secret>,
    /// File with that token.
    pub bearer_token_file: Option<PathBuf>,
}

/// Encryption towards the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the authorities that sign the nodes' certificates. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with this client's certificate, when nodes ask for one.
    pub certificate_file: Option<PathBuf>,
    /// PEM file with the key of that certificate.
    pub key_file: Option<PathBuf>,
    /// Whether any certificate will do, of whomever: documents and login then go to whoever answers. Default false.
    pub insecure_skip_verify: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_appear_neither_in_debug_output_nor_when_serialised() {
        let config: ElasticsearchConfig = serde_json::from_str(
            r#"{"hosts":["http://h:9200"],"auth":{"username":"u","password":"hunter2","api_key":"hunter2",
                "bearer_token":"hunter2"}}"#,
        )
        .expect("valid");
        let shown = format!("{config:?} {}", serde_json::to_string(&config).expect("json"));
        assert!(!shown.contains("hunter2") && shown.contains("http://h:9200"), "{shown}");
    }

    #[test]
    fn unknown_keys_and_bad_indices_are_refused() {
        for (text, names) in [
            (r#"{"host":[]}"#, "host"),
            (r#"{"tls":{"ca":"x"}}"#, "ca"),
            (r#"{"auth":{"user":"x"}}"#, "user"),
            (r#"{"index":"A b"}"#, "A b"),
        ] {
            let error = serde_json::from_str::<ElasticsearchConfig>(text).expect_err(text).to_string();
            assert!(error.contains(names), "{error}");
        }
    }
}
