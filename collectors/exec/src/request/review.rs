//! Admission reviews, as the API server sends them to a webhook before it does what it is asked for.

use std::collections::HashSet;

use serde::Deserialize;

use super::path::of_kubelet;
use super::{Asked, Request, Source, User};

#[derive(Deserialize)]
struct Review {
    request: Asking,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Asking {
    uid: String,
    resource: Resource,
    sub_resource: String,
    name: String,
    namespace: String,
    user_info: User,
    object: Option<Object>,
    old_object: Option<Object>,
    dry_run: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resource {
    resource: String,
}

/// Of the options of exec, attach and proxy, and of a pod, what is looked at.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Object {
    metadata: Metadata,
    spec: Spec,
    container: String,
    command: Option<Vec<String>>,
    tty: bool,
    path: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    uid: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    ephemeral_containers: Option<Vec<Ephemeral>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Ephemeral {
    name: String,
    tty: bool,
}

impl Object {
    /// Containers that are added to a running pod, each a request like `request`, but for those of `known`.
    pub(super) fn added(self, request: &Request, known: Option<&Object>) -> Vec<Request> {
        let known = known.and_then(|pod| pod.spec.ephemeral_containers.as_ref());
        let known: HashSet<&str> =
            known.into_iter().flatten().map(|container| container.name.as_str()).collect();
        let uid = self.metadata.uid;
        let all = self.spec.ephemeral_containers.unwrap_or_default().into_iter();
        let added = all.filter(|container| !known.contains(container.name.as_str()));
        let added = added.map(|container| Request {
            container: container.name,
            pod_uid: uid.clone(),
            tty: Some(container.tty),
            ..request.clone()
        });
        added.collect()
    }
}

/// The uid of an admission review that came `at` nanoseconds after the Unix epoch, which the answer must have, and what it asks
/// for: mostly one thing, nothing when it is none of what begins something in a container.
///
/// # Errors
/// What is wrong with it.
pub fn review(bytes: &[u8], at: i64) -> Result<(String, Vec<Request>), serde_json::Error> {
    let Review { request: asking } = serde_json::from_slice(bytes)?;
    let uid = asking.uid.clone();
    Ok((uid, asking.requests(at).into_iter().map(Request::bounded).collect()))
}

impl Asking {
    fn requests(self, at: i64) -> Vec<Request> {
        let object = self.object.unwrap_or_default();
        let request = Request {
            sources: vec![Source::Webhook],
            ids: vec![self.uid],
            at,
            user: self.user_info,
            namespace: self.namespace,
            pod: self.name,
            ..Request::default()
        };
        let options = |asked| Request {
            asked,
            container: object.container.clone(),
            command: object.command.clone(),
            tty: Some(object.tty),
            ..request.clone()
        };
        match (self.resource.resource.as_str(), self.sub_resource.as_str()) {
            _ if self.dry_run == Some(true) => Vec::new(),
            ("pods", "exec") => vec![options(Asked::Exec)],
            ("pods", "attach") => vec![options(Asked::Attach)],
            ("pods", "ephemeralcontainers") => {
                let request = Request { asked: Asked::Debug, ..request };
                object.added(&request, self.old_object.as_ref())
            }
            ("nodes", "proxy") => {
                let Request { sources, ids, at, user, .. } = request;
                of_kubelet(&object.path)
                    .map(|proxied| Request { sources, ids, at, user, ..proxied })
                    .into_iter()
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// As an API server of 1.34 sends it.
    fn sent(resource: &str, subresource: &str, object: &Value, old: &Value) -> Vec<u8> {
        json!({
            "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {"group": "", "version": "v1", "kind": object["kind"]},
                "resource": {"group": "", "version": "v1", "resource": resource}, "subResource": subresource,
                "requestKind": {"group": "", "version": "v1", "kind": object["kind"]},
                "requestResource": {"group": "", "version": "v1", "resource": resource}, "requestSubResource": subresource,
                "name": "web-0", "namespace": "shop", "operation": "CONNECT",
                "userInfo": {"username": "ana@example.org", "uid": "u-1", "groups": ["sre", "system:authenticated"],
                             "extra": {"authentication.kubernetes.io/credential-id": ["JTI=1"]}},
                "object": object, "oldObject": old, "dryRun": false, "options": null
            }
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn an_exec_says_who_wants_to_run_what_where() {
        let object = json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "stdout": true, "tty": true,
                            "container": "app", "command": ["sh", "-c", "ls; \u{1b}[2J"]});
        let (uid, requests) = review(&sent("pods", "exec", &object, &Value::Null), 7).expect("a review");
        assert_eq!(uid, "705ab4f5-6393-11e8-b7cc-42010a800002");
        let expected = Request {
            sources: vec![Source::Webhook],
            ids: vec![uid],
            asked: Asked::Exec,
            at: 7,
            user: User {
                name: "ana@example.org".to_owned(),
                uid: "u-1".to_owned(),
                groups: vec!["sre".to_owned(), "system:authenticated".to_owned()],
            },
            namespace: "shop".to_owned(),
            pod: "web-0".to_owned(),
            container: "app".to_owned(),
            command: Some(["sh", "-c", "ls; \u{1b}[2J"].map(str::to_owned).to_vec()),
            tty: Some(true),
            ..Request::default()
        };
        assert_eq!(requests, [expected]);
    }

    #[test]
    fn a_container_that_is_added_is_told_from_those_that_were_there() {
        let pod = |names: &[&str]| {
            let containers: Vec<Value> =
                names.iter().map(|name| json!({"name": name, "tty": true})).collect();
            json!({"kind": "Pod", "metadata": {"uid": "p-1"}, "spec": {"containers": [], "ephemeralContainers": containers}})
        };
        let bytes = sent("pods", "ephemeralcontainers", &pod(&["old", "new"]), &pod(&["old"]));
        let (_, requests) = review(&bytes, 7).expect("a review");
        let told: Vec<_> =
            requests.iter().map(|r| (r.asked, r.container.as_str(), r.pod_uid.as_str())).collect();
        assert_eq!(told, [(Asked::Debug, "new", "p-1")]);
    }

    #[test]
    fn what_is_asked_of_a_kubelet_has_the_pod_in_its_path() {
        let object = json!({"kind": "NodeProxyOptions", "apiVersion": "v1", "path": "exec/shop/web-1/app"});
        let (_, requests) = review(&sent("nodes", "proxy", &object, &Value::Null), 7).expect("a review");
        assert_eq!((requests[0].asked, requests[0].pod.as_str()), (Asked::Proxy, "web-1"));
        assert_eq!(requests[0].user.name, "ana@example.org");
        let object = json!({"kind": "NodeProxyOptions", "apiVersion": "v1", "path": "metrics"});
        assert!(review(&sent("nodes", "proxy", &object, &Value::Null), 7).expect("a review").1.is_empty());
    }

    #[test]
    fn what_is_no_review_is_refused_and_what_is_too_long_is_cut() {
        for text in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"request":7}"#,
            r#"{"request":{"userInfo":"ana"}}"#,
            r#"{"request":{"object":{"command":"sh"}}}"#,
        ] {
            assert!(review(text.as_bytes(), 0).is_err(), "{text}");
        }
        let object = json!({"kind": "PodExecOptions", "container": "é".repeat(9000)});
        let (_, requests) = review(&sent("pods", "exec", &object, &Value::Null), 7).expect("a review");
        assert_eq!(requests[0].container.len(), 4096);
    }

    proptest! {
        #[test]
        fn nothing_is_too_odd_to_be_read(text in r#"[{}\[\]":,a-z0-9 ]{0,60}"#) {
            let _ = review(text.as_bytes(), 0);
        }
    }
}
