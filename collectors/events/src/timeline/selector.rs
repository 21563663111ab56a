//! Whose timeline: a pod, a workload, a node or a whole namespace.

use std::collections::HashSet;

use super::Entry;
use crate::owner::may_have_made;

/// Whom a timeline is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// In lower case, singular.
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Namespaces and names of the pods that a node has.
    pub(super) pods: HashSet<(String, String)>,
}

/// What is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Not `KIND/NAME`.
    #[error("{0:?} names nothing; write it like pod/web-0, deployment/web or node/worker-1")]
    Unnamed(String),
    /// A kind that has no timeline.
    #[error(
        "{0:?} is none of pod, deployment, replicaset, statefulset, daemonset, job, cronjob, node, namespace"
    )]
    Kind(String),
}

/// As people write them, and as they are called here.
const KINDS: [(&str, &str); 25] = [
    ("pod", "pod"),
    ("pods", "pod"),
    ("po", "pod"),
    ("deployment", "deployment"),
    ("deployments", "deployment"),
    ("deploy", "deployment"),
    ("replicaset", "replicaset"),
    ("replicasets", "replicaset"),
    ("rs", "replicaset"),
    ("statefulset", "statefulset"),
    ("statefulsets", "statefulset"),
    ("sts", "statefulset"),
    ("daemonset", "daemonset"),
    ("daemonsets", "daemonset"),
    ("ds", "daemonset"),
    ("job", "job"),
    ("jobs", "job"),
    ("cronjob", "cronjob"),
    ("cronjobs", "cronjob"),
    ("cj", "cronjob"),
    ("node", "node"),
    ("no", "node"),
    ("namespace", "namespace"),
    ("namespaces", "namespace"),
    ("ns", "namespace"),
];

impl Selector {
    /// `KIND/NAME`, or the name of a pod alone. The namespace says nothing for a node.
    ///
    /// # Errors
    /// [`SelectorError`].
    pub fn new(text: &str, namespace: &str) -> Result<Self, SelectorError> {
        let (kind, name) = text.split_once('/').unwrap_or(("pod", text));
        let lower = kind.to_lowercase();
        let known = KINDS.iter().find(|(written, _)| *written == lower || format!("{written}s") == lower);
        let kind = known.ok_or_else(|| SelectorError::Kind(kind.to_owned()))?.1;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(SelectorError::Unnamed(text.to_owned()));
        }
        let namespace = match kind {
            "node" => "",
            "namespace" => name,
            _ => namespace,
        };
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Ok(Selector { kind: kind.to_owned(), namespace, name, pods: HashSet::new() })
    }

    /// Whether an event belongs to the timeline.
    #[must_use]
    pub fn takes(&self, entry: &Entry) -> bool {
        let kind = entry.object_kind.to_lowercase();
        if self.kind == "node" {
            let is_of_pod =
                || kind == "pod" && self.pods.contains(&(entry.namespace.clone(), entry.name.clone()));
            return entry.node == self.name || (kind == "node" && entry.name == self.name) || is_of_pod();
        }
        if entry.namespace != self.namespace {
            return false;
        }
        if self.kind == "namespace" {
            return true;
        }
        let is_it = kind == self.kind && entry.name == self.name;
        is_it || (self.kind != "pod" && self.owns(entry, &kind))
    }

    /// By what is known of its owners, else by its name.
    fn owns(&self, entry: &Entry, kind: &str) -> bool {
        let owner = |owner: &String| {
            owner
                .split_once('/')
                .is_some_and(|(kind, name)| kind.to_lowercase() == self.kind && name == self.name)
        };
        if !entry.owners.is_empty() {
            return entry.owners.iter().any(owner);
        }
        let between = match self.kind.as_str() {
            "deployment" => Some("replicaset"),
            "cronjob" => Some("job"),
            _ => None,
        };
        (kind == "pod" || Some(kind) == between) && may_have_made(&self.name, &entry.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, name: &str, owners: &[&str], node: &str) -> Entry {
        Entry {
            object_kind: kind.to_owned(),
            namespace: if kind == "Node" { String::new() } else { "shop".to_owned() },
            name: name.to_owned(),
            owners: owners.iter().map(ToString::to_string).collect(),
            node: node.to_owned(),
            ..Entry::default()
        }
    }

    #[test]
    fn a_timeline_takes_what_happened_to_it_and_what_it_owns() {
        let owned = entry("Pod", "web-7d4b-x2x9z", &["ReplicaSet/web-7d4b", "Deployment/web"], "n1");
        let unknown = entry("Pod", "web-7d4b-x2x9z", &[], "n1");
        let set = entry("ReplicaSet", "web-7d4b", &["Deployment/web"], "");
        let other = entry("Pod", "web-0", &["StatefulSet/web"], "n2");
        let node = entry("Node", "n1", &[], "n1");
        let of = |text: &str| {
            let selector = Selector::new(text, "shop").expect("a selector");
            [&owned, &unknown, &set, &other, &node].map(|entry| selector.takes(entry))
        };
        assert_eq!(of("deploy/web"), [true, true, true, false, false]);
        assert_eq!(of("rs/web-7d4b"), [true, true, true, false, false]);
        assert_eq!(
            of("StatefulSets/web"),
            [false, true, false, true, false],
            "by name where nothing better is known"
        );
        assert_eq!(of("web-0"), [false, false, false, true, false]);
        assert_eq!(of("nodes/n1"), [true, true, false, false, true]);
        assert_eq!(of("ns/shop"), [true, true, true, true, false]);
        let mut selector = Selector::new("node/n1", "").expect("a selector");
        assert!(!selector.takes(&other));
        selector.pods.insert(("shop".to_owned(), "web-0".to_owned()));
        assert!(selector.takes(&other), "what the scheduler says of a pod names no node");
        assert!(!Selector::new("web-0", "other").expect("a selector").takes(&other));
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        assert_eq!(Selector::new("service/x", "n"), Err(SelectorError::Kind("service".to_owned())));
        for text in ["", "pod/", "pod/a&b", "pod/a,b", "node/a/b"] {
            assert!(matches!(Selector::new(text, "n"), Err(SelectorError::Unnamed(_))), "{text}");
        }
    }
}
