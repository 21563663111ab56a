//! What the agent must be allowed to do in the cluster, and whether it is.

use std::fmt;

use http::Method;
use serde::Deserialize;
use serde_json::json;
use taffrail_api::{ApiError, ErrorKind, Server};

use crate::config::Config;
use crate::events;

/// One thing that the agent does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// `list`, `watch`, ...
    pub verb: &'static str,
    /// API group; empty for the core.
    pub group: &'static str,
    /// `pods`, ...
    pub resource: &'static str,
    /// The namespace, when only one is meant.
    pub namespace: Option<String>,
    /// The object, when only one is meant.
    pub name: Option<String>,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in the namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// Everything that an agent with this configuration does.
#[must_use]
pub fn needed(config: &Config) -> Vec<Permission> {
    let core = |resource: &'static str, verbs: &[&'static str]| -> Vec<Permission> {
        let one = |verb: &&'static str| Permission { verb, group: "", resource, namespace: None, name: None };
        verbs.iter().map(one).collect()
    };
    let mut needed = core("namespaces", &["get"]);
    needed.extend(core("nodes", &["get"]));
    if config.metrics.pods.enabled && config.metrics.pods.node {
        needed.extend(core("nodes", &["list", "watch"]));
    }
    if !config.kubernetes.kubelet.is_instead(&config.kubernetes.api) {
        needed.extend(core("pods", &["list", "watch"]));
    }
    if config.audit.enabled && config.audit.requests.are_expected() {
        // Where a request's pod is, and which agent is there.
        needed.extend(core("pods", &["get"]));
        let (group, resource) = ("discovery.k8s.io", "endpointslices");
        let namespace = Some(config.events.namespace());
        needed.push(Permission { verb: "list", group, resource, namespace, name: None });
    }
    if events::are_wanted(config) {
        needed.extend(core("events", &["list", "watch"]));
        let is_there = needed.iter().any(|each| (each.verb, each.resource) == ("get", "pods"));
        if config.events.owners && !is_there {
            needed.extend(core("pods", &["get"]));
        }
        let namespace = Some(config.events.namespace());
        let (group, resource) = ("coordination.k8s.io", "leases");
        let of = |verb, name| Permission { verb, group, resource, namespace: namespace.clone(), name };
        // What is created has no name yet when the server decides.
        needed.push(of("create", None));
        needed.extend(
            config
                .events
                .leases()
                .flat_map(|name| ["get", "update"].map(|verb| of(verb, Some(name.clone())))),
        );
    }
    needed
}

#[derive(Deserialize)]
struct Review {
    status: Verdict,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Verdict {
    allowed: bool,
}

impl Permission {
    /// Whether the server grants it.
    ///
    /// # Errors
    /// [`ApiError`], when it does not say.
    pub async fn is_granted(&self, server: &Server) -> Result<bool, ApiError> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": self.verb, "group": self.group, "resource": self.resource,
                "namespace": self.namespace.as_deref().unwrap_or_default(),
                "name": self.name.as_deref().unwrap_or_default(),
            }},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = server.request(Method::POST, "selfsubjectaccessreviews", path, Some(&review)).await?;
        match serde_json::from_slice::<Review>(&answer) {
            Ok(review) => Ok(review.status.allowed),
            Err(error) => {
                let what = format!("POST {path}");
                let kind = ErrorKind::Garbled(format!("no SelfSubjectAccessReview: {error}"));
                Err(ApiError { what, kind, retry_after: None })
            }
        }
    }
}
