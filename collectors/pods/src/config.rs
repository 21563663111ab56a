//! What is told of pods.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::allow::AllowList;
use crate::store::StoreOptions;

/// Metrics of pods, on `/metrics/pods`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PodsConfig {
    /// Whether they are told.
    pub enabled: bool,
    /// Labels of pods and of the node that are shown in `kube_pod_labels` and `kube_node_labels`: keys, patterns with one `*` in
    /// them, or `*` in the first place for all. Without any there are no such series.
    pub labels: Vec<String>,
    /// Annotations that are shown in `kube_pod_annotations` and `kube_node_annotations`, as with `labels`.
    pub annotations: Vec<String>,
    /// Whether there is a series for each toleration of each pod.
    pub tolerations: bool,
    /// Whether there is a series with the node selector of each pod.
    pub node_selectors: bool,
    /// Whether the node itself is told of, under the names `kube_node_*`.
    pub node: bool,
    /// For how long a pod that is gone is still known, in seconds: its last lines are still being read, and its terminations are
    /// still told.
    pub keep_gone_seconds: u64,
    /// How many pods that are gone are known at most; beyond it the longest gone are forgotten.
    pub most_gone: usize,
}

impl Default for PodsConfig {
    fn default() -> Self {
        PodsConfig {
            enabled: true,
            labels: Vec::new(),
            annotations: Vec::new(),
            tolerations: false,
            node_selectors: false,
            node: true,
            keep_gone_seconds: 600,
            most_gone: 500,
        }
    }
}

impl PodsConfig {
    /// What the store must keep for these metrics, and for others who need `annotations`.
    #[must_use]
    pub fn store_options(&self, annotations: &AllowList) -> StoreOptions {
        StoreOptions {
            annotations: AllowList::new(&self.annotations).or(annotations),
            keep_gone: Duration::from_secs(self.keep_gone_seconds),
            most_gone: self.most_gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_need_be_said_and_nothing_unknown_may_be() {
        assert_eq!(serde_json::from_str::<PodsConfig>("{}").expect("valid"), PodsConfig::default());
        assert!(serde_json::from_str::<PodsConfig>(r#"{"label":["app"]}"#).is_err());
    }

    #[test]
    fn the_store_keeps_what_is_shown_and_what_others_need() {
        let config = PodsConfig { annotations: vec!["a".to_owned()], ..PodsConfig::default() };
        let kept = config.store_options(&AllowList::new(&["b"])).annotations;
        assert!(kept.allows("a") && kept.allows("b") && !kept.allows("c"));
    }
}
