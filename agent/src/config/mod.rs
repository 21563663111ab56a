//! The configuration: one YAML file, every key optional, the environment over it.
//!
//! [`load`] returns a configuration that has been checked: past this point values are valid. A mistake is refused
//! with its file, line and column, the nearest known name and the remedy. Every key's default stands beside its
//! field; the reference page is generated from the same types ([`shape`]).

mod env;
mod error;
mod fields;
mod guide;
mod kubernetes;
mod nearest;
mod output;
mod read;
mod redact;
mod sections;
pub mod shape;
pub mod units;
mod validate;

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use env::PREFIX;
pub use error::{ConfigError, Given, Place, Problem};
pub use fields::Fields;
pub use kubernetes::{KubernetesConfig, MetadataConfig};
pub use nearest::nearest;
pub use output::{Discard, Output};
pub(crate) use read::Strict;
pub use read::{load, parse};
pub use redact::{MASK, is_secret};
pub use sections::{
    HttpConfig, LogConfig, LogFormat, MetricsConfig, NodeConfig, PipelineConfig, StateConfig, TapConfig,
};

pub use taffrail_cri::CriConfig;
pub use taffrail_docker::DockerConfig;
pub use taffrail_elasticsearch::ElasticsearchConfig;
pub use taffrail_envelope::EnvelopeConfig;
pub use taffrail_events::EventsConfig;
pub use taffrail_exec::AuditConfig;
use taffrail_exec::Engines;
pub use taffrail_file::FileConfig;
pub use taffrail_kafka::KafkaConfig;
pub use taffrail_logs::LogsConfig;
use taffrail_record::Node;

/// Where the configuration is looked for when no `--config` is given.
pub const DEFAULT_PATH: &str = "/etc/taffrail/taffrail.yaml";

/// The whole configuration.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The machine this agent runs on, and what goes on everything it sends.
    pub node: NodeConfig,
    /// Container and file logs.
    pub logs: LogsConfig,
    /// Containers of a Docker engine.
    pub docker: DockerConfig,
    /// Names of containers and pods from a CRI runtime (containerd, CRI-O), for metrics.
    pub cri: CriConfig,
    /// The cluster that this node belongs to.
    pub kubernetes: KubernetesConfig,
    /// Events of the cluster.
    pub events: EventsConfig,
    /// Who comes into containers, and what they do there.
    pub audit: AuditConfig,
    /// The search engine that events are stored in. Not set: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elasticsearch: Option<ElasticsearchConfig>,
    /// Where records go.
    pub output: Output,
    /// How records are written.
    pub envelope: EnvelopeConfig,
    /// Where the agent remembers what has been confirmed.
    pub state: StateConfig,
    /// What lies between reading and confirmation.
    pub pipeline: PipelineConfig,
    /// Metrics of this machine and its containers.
    pub metrics: MetricsConfig,
    /// Metrics and health over HTTP.
    pub http: HttpConfig,
    /// The socket that `taffrail tap` and `taffrail ledger` talk to.
    pub tap: TapConfig,
    /// The agent's own log.
    pub log: LogConfig,
}

impl fmt::Debug for Config {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config({})", self.redacted())
    }
}

impl Config {
    /// Fills in what depends on other values: the default output lies in the state directory, the runtime's socket below
    /// the host's root.
    fn resolve(&mut self) {
        let records = self.state_directory().join("records");
        if let Output::File(file) = &mut self.output
            && file.directory.as_os_str().is_empty()
        {
            file.directory = records;
        }
        self.cri.rootfs = Some(self.metrics.rootfs.clone()).filter(|root| root.as_os_str() != "/");
    }

    /// Whom the audit asks where the kernel tells nothing.
    #[must_use]
    pub fn engines(&self) -> Engines {
        Engines { docker: self.docker.clone(), cri: self.cri.clone() }
    }

    /// Every value in force, secrets masked.
    #[must_use]
    pub fn redacted(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        redact::redact(&mut value);
        value
    }

    /// The directory for everything the agent keeps.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.state.directory.clone().unwrap_or_else(default_state_directory)
    }

    /// The socket of `tap` and `ledger`.
    #[must_use]
    pub fn tap_socket(&self) -> PathBuf {
        self.tap.socket.clone().unwrap_or_else(|| self.state_directory().join("tap.sock"))
    }

    /// This node's name: as configured, else `NODE_NAME`, else the host's name.
    #[must_use]
    pub fn node_name(&self) -> String {
        if !self.node.name.is_empty() {
            return self.node.name.clone();
        }
        let given = std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
        given.unwrap_or_else(host_name)
    }

    /// This node as it is configured, without what its cluster says of it.
    #[must_use]
    pub fn node(&self) -> Node {
        Node {
            name: self.node_name(),
            cluster: self.node.cluster.clone(),
            fields: self.node.fields.0.clone(),
            ..Node::default()
        }
    }
}

/// The environment as far as it is text; what is not cannot be an override.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

fn default_state_directory() -> PathBuf {
    let system = PathBuf::from("/var/lib/taffrail");
    if nix::unistd::geteuid().is_root() {
        return system;
    }
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    user.map_or(system, |base| base.join("taffrail"))
}
