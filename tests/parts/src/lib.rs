//! The one place that knows how to get, start, wait for and stop every real part that tests,
//! benches and a person at the shell run taffrail against.
//!
//! | part | what it is | needs |
//! |---|---|---|
//! | [`Kafka`] | Apache Kafka in KRaft mode, one broker | a JDK, Maven |
//! | [`SearchEngine`] | OpenSearch, also with TLS and logins, or Elasticsearch, one node | a JDK, Maven |
//! | [`Docker`] | the Docker engine of Debian, apart from the machine's own | root |
//! | [`Node`] | a Kubernetes node: etcd, API server, kubelet, containerd | root, Go |
//! | [`Cadvisor`] | cAdvisor by itself | root, Go |
//! | [`KubeStateMetrics`] | what kube-state-metrics says of objects | Go 1.26 |
//! | [`NodeExporter`] | the node_exporter of Debian | |
//! | [`Prometheus`] | the Prometheus server of Debian, and promtool | |
//! | [`Vm`] | a virtual machine with a kernel of its own, which runs a script to its end | x86-64 |
//!
//! Guarantees, for every part:
//! - `start` returns when the part answers, or fails within its limit with the tail of the part's own log.
//! - Everything listens on loopback, on ports that no other part of this machine has taken.
//! - Dropping the value ends the part. So does the death of the process that started it, however it
//!   dies: no process, mount, cgroup, network interface or file of the part is left behind.
//! - What is downloaded or built is kept outside the tree, keyed by its pins ([`cache`]), and made by
//!   one process at a time. A broken download is never taken for a whole one.
//!
//! The same parts at the shell: `cargo run -p taffrail-parts -- up kafka docker`.

pub mod cache;
mod cadvisor;
mod cgroup;
pub mod docker;
mod exporter;
mod go;
mod http;
mod image;
mod janitor;
pub mod kafka;
mod kube_state_metrics;
pub mod machine;
mod maven;
pub mod node;
mod node_exporter;
pub mod packages;
mod pki;
mod ports;
mod process;
pub mod prometheus;
pub mod prometheus_operator;
pub mod search;
pub mod terminal;
mod tools;
pub mod vm;

pub use cadvisor::{Cadvisor, CadvisorOptions, LabelSet, MetricSet};
pub use docker::Docker;
pub use exporter::Exporter;
pub use image::IMAGE;
pub use kafka::{Kafka, KafkaOptions, Listener, Record};
pub use kube_state_metrics::KubeStateMetrics;
pub use node::{Node, NodeOptions};
pub use node_exporter::{KUBE_PROMETHEUS, NodeExporter};
pub use prometheus::{Prometheus, Target};
pub use search::{Product, SearchEngine, SearchOptions};
pub use terminal::Terminal;
pub use vm::{Kernel, Vm};

/// A part as `parts list` shows it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name on the command line.
    pub name: &'static str,
    /// The version that would be started.
    pub version: String,
    /// Whether it could be started at once.
    pub state: &'static str,
}

/// Folders in the cache that are none of these parts: other programs' (the benches' peers), and parts of other pins.
///
/// # Errors
/// When there is no folder for the cache, or it cannot be read.
pub fn kept_by_others() -> anyhow::Result<Vec<String>> {
    let [older, newer] = Kernel::EACH.map(Kernel::entry);
    cache::folders_but(&[
        kafka::ENTRY,
        search::OPENSEARCH_ENTRY,
        search::SECURE_ENTRY,
        search::ELASTICSEARCH_ENTRY,
        node::ENTRY,
        cadvisor::ENTRY,
        kube_state_metrics::ENTRY,
        older,
        newer,
    ])
}

/// All parts, with what is known of them without fetching anything.
pub fn catalogue() -> Vec<Listed> {
    let cached = |ready| if ready { "cached" } else { "not cached" };
    let installed = |program| if packages::find(program).is_some() { "installed" } else { "not installed" };
    vec![
        Listed {
            name: "kafka",
            version: format!("Kafka {}", kafka::version()),
            state: cached(kafka::ENTRY.is_ready()),
        },
        Listed {
            name: "opensearch",
            version: format!("OpenSearch {}", search::version(Product::OpenSearch)),
            state: cached(search::OPENSEARCH_ENTRY.is_ready() && search::SECURE_ENTRY.is_ready()),
        },
        Listed {
            name: "elasticsearch",
            version: format!("Elasticsearch {}", search::version(Product::Elasticsearch)),
            state: cached(search::ELASTICSEARCH_ENTRY.is_ready()),
        },
        Listed {
            name: "node",
            version: format!("Kubernetes {}", node::version()),
            state: cached(node::ENTRY.is_ready()),
        },
        Listed {
            name: "cadvisor",
            version: format!("cAdvisor {}", cadvisor::version()),
            state: cached(cadvisor::ENTRY.is_ready()),
        },
        Listed {
            name: "kube-state-metrics",
            version: format!("kube-state-metrics {}", kube_state_metrics::version()),
            state: cached(kube_state_metrics::ENTRY.is_ready()),
        },
        Listed { name: "docker", version: docker::version(), state: installed("dockerd") },
        Listed {
            name: "node-exporter",
            version: node_exporter::version(),
            state: installed("prometheus-node-exporter"),
        },
        Listed { name: "prometheus", version: prometheus::version(), state: installed("prometheus") },
        Listed { name: "vm", version: vm::version(), state: cached(vm::is_ready()) },
    ]
}
