//! Which cluster this is, and what it says of this node: asked at the start, and later where nobody answered then;
//! remembered for a start at which nobody answers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use taffrail_api::{ApiError, ErrorKind, Server};
use taffrail_pods::AllowList;
use taffrail_record::Node;

/// How long the start waits to be told.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found out about the cluster and this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Facts {
    /// The UID of the namespace `kube-system`.
    pub(super) cluster_id: String,
    /// The cluster's name, where whoever built the cluster wrote it on its nodes.
    pub(super) cluster_name: String,
    /// `cloud.region`.
    pub(super) region: String,
    /// `cloud.availability_zone`.
    pub(super) zone: String,
    /// What runs this node's containers, as their ids begin: `containerd`.
    pub(super) runtime: String,
    /// The node's UID.
    pub(super) node_uid: String,
    /// The node's host name.
    pub(super) hostname: String,
    /// All labels of the node.
    pub(super) node_labels: BTreeMap<String, String>,
}

/// Labels and annotations in which those who build clusters leave the cluster's name on its nodes.
const NAMES: [&str; 5] = [
    "cluster.x-k8s.io/cluster-name",
    "alpha.eksctl.io/cluster-name",
    "kubernetes.azure.com/cluster",
    "kops.k8s.io/cluster",
    "topology.taffrail.io/cluster",
];
const REGIONS: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];
const HOSTNAME: &str = "kubernetes.io/hostname";
const IDCS: [&str; 2] = ["idc", "topology.taffrail.io/idc"];
const ZONES: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];

#[derive(Deserialize, Default)]
#[serde(default)]
struct Object {
    metadata: Metadata,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    node_info: NodeInfo,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct NodeInfo {
    /// `containerd://1.7.1`.
    container_runtime_version: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    uid: String,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Metadata {
    fn first(&self, names: &[&str]) -> String {
        let of = |name: &&str| {
            let maps = [&self.labels, &self.annotations];
            maps.into_iter().flatten().find_map(|map| map.get(*name).cloned())
        };
        names.iter().find_map(of).unwrap_or_default()
    }
}

/// Why something was not told.
#[derive(Debug)]
pub(super) struct Untold {
    pub(super) why: String,
    /// For how long the server asks not to be asked.
    pub(super) retry_after: Option<Duration>,
}

impl From<String> for Untold {
    fn from(why: String) -> Self {
        Untold { why, retry_after: None }
    }
}

impl From<ApiError> for Untold {
    fn from(error: ApiError) -> Self {
        Untold { why: format!("{error}; {}", error.kind.remedy()), retry_after: error.retry_after }
    }
}

impl Facts {
    /// What the server says; each fact that it does not say stays as it was.
    async fn ask(&mut self, server: &Server, node: &str) -> Result<(), ApiError> {
        let cluster = server.get("namespaces", "/api/v1/namespaces/kube-system?resourceVersion=0").await;
        // Where this node stands can be asked, too, by who may not ask which cluster it is.
        let cluster = cluster.map(|cluster| {
            self.cluster_id = serde_json::from_slice::<Object>(&cluster).unwrap_or_default().metadata.uid;
        });
        let node = server.get("nodes", &format!("/api/v1/nodes/{node}?resourceVersion=0")).await?;
        let mut node: Object = serde_json::from_slice(&node).unwrap_or_default();
        self.cluster_name = node.metadata.first(&NAMES);
        self.region = node.metadata.first(&REGIONS);
        self.zone = node.metadata.first(&ZONES);
        let runtime = node.status.node_info.container_runtime_version;
        self.runtime = runtime.split_once("://").map(|(name, _)| name.to_owned()).unwrap_or_default();
        self.hostname = node.metadata.first(&[HOSTNAME]);
        self.node_labels = node.metadata.labels.take().unwrap_or_default();
        self.node_uid = node.metadata.uid;
        cluster
    }

    /// Asks the server, but not for long, and remembers in the file `kept` what it says. What it does not say is as it was
    /// remembered. With why it did not say everything.
    pub(super) async fn find(server: &Server, node: &str, kept: &Path) -> (Facts, Option<Untold>) {
        let mut facts = Facts::read(kept).unwrap_or_default();
        let before = facts.clone();
        let why = match tokio::time::timeout(PATIENCE, facts.ask(server, node)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) if matches!(error.kind, ErrorKind::NotFound(_)) => Some(unknown_node(node).into()),
            Ok(Err(error)) => Some(error.into()),
            Err(_) => Some(format!("the API server does not answer within {} s", PATIENCE.as_secs()).into()),
        };
        if facts != before
            && let Err(error) = facts.write(kept)
        {
            tracing::warn!(path = %kept.display(), %error, "what is known of the cluster is not remembered");
        }
        (facts, why)
    }

    /// The node as it is configured, with what is known of it and its cluster; those of its labels that `labels` has.
    pub(super) fn name(&self, configured: &Node, labels: &AllowList) -> Node {
        let mut node = configured.clone();
        if node.cluster.is_empty() {
            node.cluster.clone_from(&self.cluster_name);
        }
        let idc = IDCS.iter().find_map(|label| self.node_labels.get(*label)).cloned().unwrap_or_default();
        let places =
            [("cloud.region", &self.region), ("cloud.availability_zone", &self.zone), ("labels.idc", &idc)];
        for (field, value) in places {
            if !value.is_empty() && !node.fields.iter().any(|(name, _)| name == field) {
                node.fields.push((field.to_owned(), value.clone()));
            }
        }
        let labels = self.node_labels.iter().filter(|(key, _)| labels.allows(key));
        Node {
            cluster_id: self.cluster_id.clone(),
            uid: self.node_uid.clone(),
            hostname: self.hostname.clone(),
            labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
            ..node
        }
    }

    pub(super) fn read(path: &Path) -> Option<Facts> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let aside = path.with_extension("tmp");
        let mut file = File::create(&aside)?;
        file.write_all(serde_json::to_string(self).unwrap_or_default().as_bytes())?;
        file.sync_all()?;
        fs::rename(aside, path)
    }
}

/// What it means when the cluster has no node of this name, and the remedy.
pub(super) fn unknown_node(node: &str) -> String {
    format!(
        "the cluster knows no node {node:?}: no pod of it will be found; set node.name or NODE_NAME to the node's name"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_remembered_and_a_damaged_memory_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cluster.json");
        let facts = Facts { cluster_id: "c-1".into(), zone: "a".into(), ..Facts::default() };
        facts.write(&path).expect("written");
        assert_eq!(Facts::read(&path), Some(facts));
        File::create(&path).and_then(|mut file| file.write_all(b"{")).expect("damaged");
        assert_eq!(Facts::read(&path), None);
    }

    #[test]
    fn the_first_name_that_is_there_counts_label_or_annotation() {
        let node: Object = serde_json::from_value(serde_json::json!({"metadata": {
            "labels": {"topology.kubernetes.io/zone": "z", "kubernetes.azure.com/cluster": "later"},
            "annotations": {"cluster.x-k8s.io/cluster-name": "first"},
        }}))
        .expect("a node");
        assert_eq!((node.metadata.first(&NAMES), node.metadata.first(&ZONES)), ("first".into(), "z".into()));
        assert_eq!(node.metadata.first(&REGIONS), "");
    }

    #[test]
    fn what_is_configured_counts_more_than_what_the_cluster_says() {
        let configured = Node {
            name: "n-1".into(),
            cluster: "mine".into(),
            fields: vec![("cloud.region".into(), "here".into())],
            ..Node::default()
        };
        let facts = Facts {
            cluster_id: "c-1".into(),
            cluster_name: "theirs".into(),
            region: "there".into(),
            zone: "z".into(),
            node_uid: "u-1".into(),
            hostname: "host".into(),
            node_labels: [("kept", "a"), ("left", "b"), ("idc", "ams1")]
                .map(|(k, v)| (k.into(), v.into()))
                .into(),
            ..Facts::default()
        };
        let node = facts.name(&configured, &AllowList::new(&["kept"]));
        assert_eq!(
            (node.name.as_str(), node.cluster.as_str(), node.cluster_id.as_str()),
            ("n-1", "mine", "c-1")
        );
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            node.fields,
            [
                field("cloud.region", "here"),
                field("cloud.availability_zone", "z"),
                field("labels.idc", "ams1")
            ]
        );
        assert_eq!((node.uid.as_str(), node.hostname.as_str()), ("u-1", "host"));
        assert_eq!(node.labels.keys().collect::<Vec<_>>(), ["kept"]);
        assert_eq!(facts.name(&Node::default(), &AllowList::new(&["*"])).cluster, "theirs");
    }
}
