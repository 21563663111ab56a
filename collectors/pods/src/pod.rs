//! A pod as far as anybody here uses it.
//!
//! The fields have the API's shape (`v1`, kind `Pod`) and Rust's names. Times are Unix seconds. Empty text means that
//! the object does not say.

use std::sync::Arc;

use serde::Deserialize;

use crate::allow::AllowList;
use crate::spec::Spec;
use crate::status::Status;
use crate::text::{Text, TextMap, or_none, seconds};

/// What kubelet writes on the mirror of a static pod: the pod's own uid.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// One pod.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Pod {
    /// Who it is.
    #[serde(default, rename = "metadata", deserialize_with = "or_none")]
    pub meta: Meta,
    /// What was asked for.
    #[serde(default, deserialize_with = "or_none")]
    pub spec: Spec,
    /// How it is.
    #[serde(default, deserialize_with = "or_none")]
    pub status: Status,
}

/// Who a pod is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    /// Namespace.
    #[serde(deserialize_with = "or_none")]
    pub namespace: Text,
    /// Name, unique in its namespace at a time.
    #[serde(deserialize_with = "or_none")]
    pub name: Text,
    /// Its own for ever. Shared, because others keep it.
    #[serde(deserialize_with = "uid")]
    pub uid: Arc<str>,
    /// The uid that kubelet itself uses for a static pod, in the names of its logs and cgroups, where this object is the API
    /// server's mirror of it; empty for all others.
    #[serde(skip)]
    pub static_uid: Text,
    /// Version of the object; compared for equality only.
    #[serde(deserialize_with = "or_none")]
    pub resource_version: Text,
    /// When it was created.
    #[serde(rename = "creationTimestamp", deserialize_with = "seconds")]
    pub created: Option<i64>,
    /// When it is to be gone at the latest, once somebody deleted it.
    #[serde(rename = "deletionTimestamp", deserialize_with = "seconds")]
    pub deleted: Option<i64>,
    /// Labels.
    #[serde(deserialize_with = "or_none")]
    pub labels: TextMap,
    /// Those annotations that were asked for.
    #[serde(deserialize_with = "or_none")]
    pub annotations: TextMap,
    /// Who owns it.
    #[serde(rename = "ownerReferences", deserialize_with = "or_none")]
    pub owners: Box<[OwnerReference]>,
}

impl Default for Meta {
    fn default() -> Self {
        Meta {
            namespace: Text::default(),
            name: Text::default(),
            uid: Arc::from(""),
            static_uid: Text::default(),
            resource_version: Text::default(),
            created: None,
            deleted: None,
            labels: TextMap::default(),
            annotations: TextMap::default(),
            owners: Box::default(),
        }
    }
}

/// One of a pod's owners.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct OwnerReference {
    /// `ReplicaSet`, ...
    #[serde(deserialize_with = "or_none")]
    pub kind: Text,
    /// Its name.
    #[serde(deserialize_with = "or_none")]
    pub name: Text,
    /// Whether it is the one that made the pod and looks after it.
    pub controller: Option<bool>,
}

/// Why an object is not one that can be known.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// Not JSON, or a field has another type than the API's.
    #[error("not an object as the API server writes them: {cause}")]
    Unreadable {
        /// Where and what.
        cause: serde_json::Error,
    },
    /// Nothing to know it by.
    #[error("a {what} without {missing} (namespace {namespace:?}, name {name:?})")]
    Nameless {
        /// What it should be.
        what: &'static str,
        /// The field.
        missing: &'static str,
        /// As far as it says.
        namespace: Text,
        /// As far as it says.
        name: Text,
    },
}

impl Pod {
    /// Reads the JSON of an object, without any annotation.
    ///
    /// # Errors
    /// [`PodError`] when it is not a pod with a namespace, a name and a uid.
    pub fn parse(json: &[u8]) -> Result<Pod, PodError> {
        Self::parse_keeping(json, &AllowList::default())
    }

    /// Reads the JSON of an object, with the annotations that `kept` allows. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`PodError`] when it is not a pod with a namespace, a name and a uid.
    pub fn parse_keeping(json: &[u8], kept: &AllowList) -> Result<Pod, PodError> {
        let text = String::from_utf8_lossy(json);
        let mut pod: Pod = serde_json::from_str(&text).map_err(|cause| PodError::Unreadable { cause })?;
        pod.meta.static_uid = pod.meta.annotations.get(MIRROR).unwrap_or_default().into();
        pod.meta.annotations.retain(|key| kept.allows(key));
        let meta = &pod.meta;
        for (missing, value) in [("namespace", &*meta.namespace), ("name", &meta.name), ("uid", &meta.uid)] {
            if value.is_empty() {
                let (namespace, name) = (meta.namespace.clone(), meta.name.clone());
                return Err(PodError::Nameless { what: "pod", missing, namespace, name });
            }
        }
        Ok(pod)
    }

    /// The owner that made it, if it names one.
    #[must_use]
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.meta.owners.iter().find(|owner| owner.controller == Some(true))
    }
}

fn uid<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
    let text: Text = or_none(from)?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_NULL: &str = r#"{
        "kind": "Pod", "apiVersion": "v1", "unknown": [1, {"x": null}],
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": null, "creationTimestamp": null,
            "deletionTimestamp": null, "labels": null, "annotations": null, "ownerReferences": null, "managedFields": []},
        "spec": {"nodeName": null, "hostNetwork": null, "priorityClassName": null, "serviceAccountName": null,
            "schedulerName": null, "restartPolicy": null, "runtimeClassName": null, "overhead": null, "nodeSelector": null,
            "tolerations": null, "volumes": null, "containers": null, "initContainers": null, "resourceClaims": null},
        "status": {"phase": null, "reason": null, "message": null, "hostIP": null, "podIP": null, "podIPs": null,
            "qosClass": null, "startTime": null, "conditions": null, "containerStatuses": null,
            "initContainerStatuses": null, "ephemeralContainerStatuses": null, "resourceClaimStatuses": null}
    }"#;

    #[test]
    fn null_means_nothing_wherever_it_stands() {
        let pod = Pod::parse(ALL_NULL.as_bytes()).expect("a pod");
        let bare = Pod::parse(br#"{"metadata":{"name":"p","namespace":"n","uid":"u"},"spec":null}"#);
        assert_eq!(pod, bare.expect("a pod"));
    }

    #[test]
    fn what_has_no_name_is_refused_with_what_is_missing() {
        let error = Pod::parse(br#"{"metadata":{"name":"p","namespace":"n"}}"#).expect_err("no uid");
        assert_eq!(error.to_string(), r#"a pod without uid (namespace "n", name "p")"#);
        let error = Pod::parse(br#"{"metadata":7}"#).expect_err("no map");
        assert!(error.to_string().starts_with("not an object as the API server writes them: "), "{error}");
    }

    #[test]
    fn annotations_are_kept_when_they_are_asked_for() {
        let json =
            br#"{"metadata":{"name":"p","namespace":"n","uid":"u","annotations":{"a/x":"1","b":"2"}}}"#;
        assert!(Pod::parse(json).expect("a pod").meta.annotations.is_empty());
        let kept = Pod::parse_keeping(json, &AllowList::new(&["a/*"])).expect("a pod");
        assert_eq!(kept.meta.annotations.iter().collect::<Vec<_>>(), [("a/x", "1")]);
    }

    #[test]
    fn the_mirror_of_a_static_pod_says_which_one_it_is() {
        let json = br#"{"metadata":{"name":"etcd-n","namespace":"n","uid":"u","annotations":{"kubernetes.io/config.mirror":"abc"}}}"#;
        let pod = Pod::parse(json).expect("a pod");
        assert_eq!((&*pod.meta.static_uid, pod.meta.annotations.len()), ("abc", 0));
    }

    #[test]
    fn broken_objects_never_panic() {
        let whole = include_bytes!("../tests/fixtures/big.json");
        Pod::parse(whole).expect("a pod");
        for end in (0..whole.len()).step_by(97) {
            let _ = Pod::parse(&whole[..end]);
        }
        for at in (0..whole.len()).step_by(61) {
            let mut hurt = whole.to_vec();
            hurt[at] = b"\x00\xff\"{}[]0-n"[at % 10];
            let _ = Pod::parse(&hurt);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let json =
            b"{\"metadata\":{\"name\":\"p\",\"namespace\":\"n\",\"uid\":\"u\",\"labels\":{\"a\":\"\xff\"}}}";
        assert_eq!(Pod::parse(json).expect("a pod").meta.labels.get("a"), Some("\u{fffd}"));
    }
}
