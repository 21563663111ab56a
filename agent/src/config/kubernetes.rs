//! The cluster: how it is asked, and what of its answers goes on records.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use taffrail_api::{ApiConfig, KubeletConfig};

/// The cluster that this node belongs to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesConfig {
    /// The API server. In a pod with a service account it is found by itself.
    pub api: ApiConfig,
    /// Kubelet, to be asked for the node's pods instead of the API server.
    pub kubelet: KubeletConfig,
    /// What the cluster says of pods and goes on their records.
    pub metadata: MetadataConfig,
}

/// What the cluster says of pods and goes on their records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataConfig {
    /// Labels of the pod that go on its records as `kubernetes.labels.*`, dots replaced by `_`: keys, `begin*` and `*end`,
    /// or `*` alone for all. Default all. Those that are left out cannot be asked for with `taffrail tap -l` either.
    pub labels: Vec<String>,
    /// Annotations, as `kubernetes.annotations.*`, in the same way. Default none.
    pub annotations: Vec<String>,
    /// Labels of the pod's namespace, as `kubernetes.namespace_labels.*`, in the same way. Default all.
    pub namespace_labels: Vec<String>,
    /// Labels of the node, as `kubernetes.node.labels.*`, in the same way: those that it had when the agent began. Default none.
    pub node_labels: Vec<String>,
    /// Fields that labels feed: the first of these labels that the pod has, else its namespace, becomes the field. Default:
    /// `service.name` from `app.kubernetes.io/name`, `app` or `k8s-app`; `service.version` from `app.kubernetes.io/version`;
    /// `service.environment` from `environment` or `env`; `labels.idc` from `idc`, unless the node has that
    /// label, which says where it really is; `labels.release_channel` from `release-channel` or `channel`.
    pub fields: BTreeMap<String, Vec<String>>,
}

impl Default for MetadataConfig {
    fn default() -> Self {
        let fields: [(&str, &[&str]); 5] = [
            ("service.name", &["app.kubernetes.io/name", "app", "k8s-app"]),
            ("service.version", &["app.kubernetes.io/version"]),
            ("service.environment", &["environment", "env"]),
            ("labels.idc", &["idc"]),
            ("labels.release_channel", &["release-channel", "channel"]),
        ];
        let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
        MetadataConfig {
            labels: vec!["*".to_owned()],
            annotations: Vec::new(),
            namespace_labels: vec!["*".to_owned()],
            node_labels: Vec::new(),
            fields: fields.map(|(field, labels)| (field.to_owned(), owned(labels))).into(),
        }
    }
}
