//! Who a record is about: the node, and on it the pod and the container.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The machine this agent runs on and the names that go on everything it sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Host name (`host.name`), and in Kubernetes the node's name (`kubernetes.node.name`).
    pub name: String,
    /// Cluster name (`orchestrator.cluster.name`); empty when not configured.
    pub cluster: String,
    /// What no other cluster has: the UID of its namespace `kube-system` (`orchestrator.cluster.id`); empty when unknown.
    pub cluster_id: String,
    /// UID that the cluster gave it (`kubernetes.node.uid`); empty when unknown.
    pub uid: String,
    /// Host name as the cluster has it (`kubernetes.node.hostname`); empty when unknown.
    pub hostname: String,
    /// Labels that the cluster has of it, by their own names: those that are to go on records.
    pub labels: BTreeMap<String, String>,
    /// Static fields by dotted name, such as `service.environment` or `labels.idc`, in the order configured.
    pub fields: Vec<(String, String)>,
}

/// Which kind of place the records were found in; becomes `input.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Input {
    /// Container logs in the Kubernetes layout, CRI format.
    Kubernetes,
    /// Container logs of a Docker engine, json-file format.
    Docker,
    /// Plain files named by a glob.
    #[default]
    File,
    /// The agent itself (ledger statements).
    Agent,
    /// Events of the cluster, from its API server.
    Events,
    /// Sessions in containers, from the kernel.
    Audit,
}

/// A Kubernetes pod as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Pod UID.
    pub uid: String,
    /// Labels, by their own names (dots not yet replaced).
    pub labels: BTreeMap<String, String>,
    /// What the cluster says of it; none where nobody is asked.
    pub told: Option<Told>,
}

/// What the cluster says of a pod, beyond its path and its labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// How much that is.
    pub state: ToldState,
    /// Annotations, by their own names.
    pub annotations: BTreeMap<String, String>,
    /// Its address.
    pub ip: String,
    /// Who made it, nearest first: kind and name, such as `ReplicaSet` and `Deployment`.
    pub owners: Vec<(String, String)>,
    /// The controller that it once had and has no more, as `Kind/name`: somebody changed its labels. Empty for others.
    pub detached_from: String,
    /// UID of its namespace.
    pub namespace_uid: String,
    /// Labels of its namespace, by their own names.
    pub namespace_labels: BTreeMap<String, String>,
    /// Fields that are fed by labels, by dotted name: `service.name`.
    pub fields: Vec<(String, String)>,
}

/// How much the cluster has told of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ToldState {
    /// Everything.
    #[default]
    Whole,
    /// Nothing in time: only its path is known. Records say so.
    Nothing,
}

/// A container as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Name: the pod's name for it in Kubernetes, the engine's otherwise (no leading slash).
    pub name: String,
    /// Runtime's id, 64 hex digits; empty when unknown.
    pub id: String,
    /// Image reference as the runtime gives it; empty when unknown.
    pub image: String,
    /// `docker`, `containerd`, `cri-o`; empty when unknown.
    pub runtime: String,
    /// Labels of the container itself (Docker); empty in Kubernetes.
    pub labels: BTreeMap<String, String>,
}

/// Who a record is about. Immutable: a change of metadata makes a new origin, records keep the one they were read with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The node.
    pub node: Arc<Node>,
    /// The kind of place it was found in.
    pub input: Input,
    /// The pod, when the record comes from one.
    pub pod: Option<Pod>,
    /// The container, when the record comes from one.
    pub container: Option<Container>,
}

impl Origin {
    /// Namespace, pod and container, each empty when it does not apply: the labels of this origin's metrics.
    #[must_use]
    pub fn names(&self) -> [&str; 3] {
        [
            self.pod.as_ref().map_or("", |p| p.namespace.as_str()),
            self.pod.as_ref().map_or("", |p| p.name.as_str()),
            self.container.as_ref().map_or("", |c| c.name.as_str()),
        ]
    }

    /// `namespace/pod/container`, or the container's name, or `-`: for messages to people.
    #[must_use]
    pub fn display(&self) -> String {
        let names: Vec<&str> = self.names().into_iter().filter(|n| !n.is_empty()).collect();
        if names.is_empty() { "-".to_owned() } else { names.join("/") }
    }
}
