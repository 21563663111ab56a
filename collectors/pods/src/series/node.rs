//! What is told of the node itself.

use serde::Deserialize;

use crate::pod::PodError;
use crate::series::families::OfNode;
use crate::series::keys::{self, sanitised};
use crate::series::pod::{CONDITIONS, Shown};
use crate::series::render::{Rendered, Writer, flag};
use crate::series::resources::Unit;
use crate::spec::ResourceAmounts;
use crate::status::Condition;
use crate::text::{Text, TextMap, or_none, seconds};

const ROLE: &str = "node-role.kubernetes.io/";

/// A node as far as it is told of; nothing of it is kept but its series.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    #[serde(rename = "metadata", deserialize_with = "or_none")]
    meta: Meta,
    #[serde(deserialize_with = "or_none")]
    spec: Spec,
    #[serde(deserialize_with = "or_none")]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Meta {
    #[serde(deserialize_with = "or_none")]
    name: Text,
    #[serde(rename = "creationTimestamp", deserialize_with = "seconds")]
    created: Option<i64>,
    #[serde(rename = "deletionTimestamp", deserialize_with = "seconds")]
    deleted: Option<i64>,
    #[serde(deserialize_with = "or_none")]
    labels: TextMap,
    #[serde(deserialize_with = "or_none")]
    annotations: TextMap,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(rename = "podCIDR", deserialize_with = "or_none")]
    pod_cidr: Text,
    #[serde(rename = "podCIDRs", deserialize_with = "or_none")]
    pod_cidrs: Vec<Text>,
    #[serde(rename = "providerID", deserialize_with = "or_none")]
    provider_id: Text,
    #[serde(deserialize_with = "or_none")]
    taints: Vec<Taint>,
    #[serde(deserialize_with = "or_none")]
    unschedulable: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Taint {
    #[serde(deserialize_with = "or_none")]
    key: Text,
    #[serde(deserialize_with = "or_none")]
    value: Text,
    #[serde(deserialize_with = "or_none")]
    effect: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(deserialize_with = "or_none")]
    addresses: Vec<Address>,
    #[serde(deserialize_with = "or_none")]
    allocatable: ResourceAmounts,
    #[serde(deserialize_with = "or_none")]
    capacity: ResourceAmounts,
    #[serde(deserialize_with = "or_none")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "or_none")]
    node_info: NodeInfo,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    #[serde(rename = "type", deserialize_with = "or_none")]
    kind: Text,
    #[serde(deserialize_with = "or_none")]
    address: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeInfo {
    #[serde(deserialize_with = "or_none")]
    kernel_version: Text,
    #[serde(deserialize_with = "or_none")]
    os_image: Text,
    #[serde(deserialize_with = "or_none")]
    container_runtime_version: Text,
    #[serde(deserialize_with = "or_none")]
    kubelet_version: Text,
    #[serde(rename = "systemUUID", deserialize_with = "or_none")]
    system_uuid: Text,
}

/// All series of a node, out of the API's JSON.
pub(super) fn render(json: &[u8], shown: &Shown) -> Result<Rendered, PodError> {
    let text = String::from_utf8_lossy(json);
    let node: Node = serde_json::from_str(&text).map_err(|cause| PodError::Unreadable { cause })?;
    if node.meta.name.is_empty() {
        let (namespace, name) = (Text::default(), Text::default());
        return Err(PodError::Nameless { what: "node", missing: "name", namespace, name });
    }
    let mut told = Told(Writer::new(&[("node", &node.meta.name)]));
    told.identity(&node);
    told.meta(&node.meta, shown);
    told.spec(&node.spec);
    told.status(&node.status);
    Ok(told.0.done())
}

struct Told(Writer);

impl Told {
    fn put(&mut self, family: OfNode, labels: &[(&str, &str)], value: f64) {
        self.0.put(family as u8, labels, value);
    }

    fn identity(&mut self, node: &Node) {
        let info = &node.status.node_info;
        let mut addresses = node.status.addresses.iter().rev();
        let internal = addresses.find(|address| &*address.kind == "InternalIP");
        let labels = [
            ("kernel_version", &*info.kernel_version),
            ("os_image", &info.os_image),
            ("container_runtime_version", &info.container_runtime_version),
            ("kubelet_version", &info.kubelet_version),
            // Kubernetes no longer says it, and kube-state-metrics says so.
            ("kubeproxy_version", "deprecated"),
            ("provider_id", &node.spec.provider_id),
            ("pod_cidr", &node.spec.pod_cidr),
            ("system_uuid", &info.system_uuid),
            ("internal_ip", internal.map_or("", |address| &address.address)),
        ];
        self.put(OfNode::Info, &labels, 1.0);
    }

    fn meta(&mut self, meta: &Meta, shown: &Shown) {
        for (family, time) in [(OfNode::Created, meta.created), (OfNode::Deletion, meta.deleted)] {
            if let Some(time) = time {
                self.put(family, &[], time as f64);
            }
        }
        for role in meta.labels.iter().filter_map(|(key, _)| key.strip_prefix(ROLE)) {
            self.put(OfNode::Role, &[("role", role)], 1.0);
        }
        for (family, prefix, all, allowed) in [
            (OfNode::Labels, "label", &meta.labels, &shown.labels),
            (OfNode::Annotations, "annotation", &meta.annotations, &shown.annotations),
        ] {
            if !allowed.is_empty() {
                let named = keys::shown(prefix, all, allowed);
                let labels: Vec<(&str, &str)> = named.iter().map(|(name, value)| (&**name, *value)).collect();
                self.put(family, &labels, 1.0);
            }
        }
    }

    fn spec(&mut self, spec: &Spec) {
        for range in &spec.pod_cidrs {
            self.put(OfNode::PodCidrs, &[("pod_cidr", range)], 1.0);
        }
        for Taint { key, value, effect } in &spec.taints {
            self.put(OfNode::Taint, &[("key", key), ("value", value), ("effect", effect)], 1.0);
        }
        self.put(OfNode::Unschedulable, &[], flag(spec.unschedulable));
    }

    fn status(&mut self, status: &Status) {
        for (family, amounts) in
            [(OfNode::Allocatable, &status.allocatable), (OfNode::Capacity, &status.capacity)]
        {
            for (resource, amount) in amounts.iter() {
                let pods = (resource == "pods").then_some(Unit::Integer);
                if let Some(unit) = pods.or(Unit::of(resource)) {
                    let labels = [("resource", &*sanitised(resource)), ("unit", unit.name())];
                    self.put(family, &labels, amount.cores());
                }
            }
        }
        for condition in &status.conditions {
            for (is, label) in CONDITIONS {
                let labels = [("condition", &*condition.kind), ("status", label)];
                self.put(OfNode::Condition, &labels, flag(*condition.status == *is));
            }
        }
        for Address { kind, address } in &status.addresses {
            self.put(OfNode::Addresses, &[("type", kind), ("address", address)], 1.0);
        }
    }
}
