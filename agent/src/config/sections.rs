//! The sections that belong to the agent itself; each collector's and shipper's section lives in its own crate.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use taffrail_cgroup::ContainersConfig;
use taffrail_kernfs::Roots;
use taffrail_node::NodeMetricsConfig;
use taffrail_pods::PodsConfig;

use super::fields::Fields;
use super::units::{ByteSize, Period};

/// The machine this agent runs on, and what goes on everything it sends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Name of this machine (`host.name`, `kubernetes.node.name`). Empty: the variable `NODE_NAME`, else the
    /// host's name.
    pub name: String,
    /// Name of the cluster (`orchestrator.cluster.name`). Empty: left out.
    pub cluster: String,
    /// Static fields by dotted name, such as `service.environment: production` or `labels.idc: ams1`.
    pub fields: Fields,
}

/// Where the agent remembers what has been confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StateConfig {
    /// Directory for the checkpoint, the socket and the default output. Not set: `/var/lib/taffrail`, and for
    /// other users than root `$XDG_STATE_HOME/taffrail` or `~/.local/state/taffrail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// How often moved positions are written down.
    pub checkpoint_interval: Period,
    /// How much that is confirmed may wait to be written down; readers wait beyond it. With `pipeline.memory` it is
    /// what a crash repeats at most.
    pub checkpoint_bytes: ByteSize,
}

impl Default for StateConfig {
    fn default() -> Self {
        StateConfig {
            directory: None,
            checkpoint_interval: Period(std::time::Duration::from_millis(200)),
            checkpoint_bytes: ByteSize(8 << 20),
        }
    }
}

/// What lies between reading and confirmation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PipelineConfig {
    /// Memory for records that are read and not yet confirmed. When it is full, reading waits; the files keep
    /// the data.
    pub memory: ByteSize,
    /// How long a stop waits for records under way to be confirmed. What is left is sent again after the next
    /// start.
    pub drain_timeout: Period,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        PipelineConfig {
            memory: ByteSize(16 << 20),
            drain_timeout: Period(std::time::Duration::from_secs(10)),
        }
    }
}

/// Metrics and health over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Whether to listen at all.
    pub enabled: bool,
    /// Address and port of `/metrics`, `/healthz`, `/readyz`, `/-/config` and `/-/reload`. Loopback unless
    /// changed: without `http.web_config` there is neither TLS nor authentication.
    #[schemars(extend("format" = "address"))]
    pub listen: SocketAddr,
    /// File with certificate, client authentication and users, in the form that the exporters of Prometheus share.
    /// Not set: plain HTTP for everybody. The file, certificates and users are taken anew when they change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_config: Option<PathBuf>,
    /// How many containers have metrics of their own; further ones are summed under `other`.
    pub container_series: u32,
    /// How long one collector may take to answer a scrape before the answer goes out without it.
    pub collector_timeout: Period,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            enabled: true,
            listen: SocketAddr::from(([127, 0, 0, 1], 9126)),
            web_config: None,
            container_series: 200,
            collector_timeout: Period(std::time::Duration::from_secs(5)),
        }
    }
}

/// Metrics of this machine and its containers, collected when Prometheus asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// The host's `/proc`; in a pod where it is mounted, such as `/host/proc`.
    pub procfs: PathBuf,
    /// The host's `/sys`.
    pub sysfs: PathBuf,
    /// The host's `/`.
    pub rootfs: PathBuf,
    /// Containers, pods and other cgroups.
    pub containers: ContainersConfig,
    /// The node itself.
    pub node: NodeMetricsConfig,
    /// The node's pods, as the cluster tells of them.
    pub pods: PodsConfig,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        let Roots { proc: procfs, sys: sysfs, rootfs } = Roots::default();
        let (containers, node) = (ContainersConfig::default(), NodeMetricsConfig::default());
        MetricsConfig { procfs, sysfs, rootfs, containers, node, pods: PodsConfig::default() }
    }
}

impl MetricsConfig {
    /// Where the host's trees are.
    #[must_use]
    pub fn roots(&self) -> Roots {
        Roots { proc: self.procfs.clone(), sys: self.sysfs.clone(), rootfs: self.rootfs.clone() }
    }
}

/// The Unix socket that `taffrail tap` and `taffrail ledger` talk to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TapConfig {
    /// Path of the socket; only its owner can use it. Not set: `tap.sock` in the state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

/// The agent's own log, on standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`, also per part: `info,taffrail_kafka=debug`.
    pub level: String,
    /// How lines are written.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// How the agent's own log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}
