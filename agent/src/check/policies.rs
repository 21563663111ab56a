//! Do the policies of the audit fit anything in the cluster?

use std::collections::BTreeSet;

use taffrail_api::{ApiError, ErrorKind, Server, pages};
use taffrail_exec::{Policies, Policy, Whose};
use taffrail_pods::{AllowList, Pod};

use super::Finding;
use crate::config::Config;

const SUBJECT: &str = "audit";

/// What is said of policies that fit nothing. Who may not be asked is not told here.
pub(super) async fn all(server: &Server, config: &Config) -> Vec<Finding> {
    let policies = &config.audit.policies;
    if !config.audit.enabled || policies.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, policy) in policies.iter().enumerate() {
        for name in policy.namespaces.iter().filter(|name| is_name(name)) {
            let asked = server.get("namespaces", &format!("/api/v1/namespaces/{name}")).await;
            if matches!(asked, Err(ApiError { kind: ErrorKind::NotFound(_), .. })) {
                findings.push(unknown(number, name));
            }
        }
    }
    let node = config.node_name();
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
    let labels = AllowList::new(&config.kubernetes.metadata.labels);
    let mut here = Vec::new();
    let listed = pages(server, "pods", &path, |json| here.extend(containers(json, &labels))).await;
    if listed.is_ok() {
        findings.extend(idle(policies, &here));
    }
    findings
}

/// Whether it is the name of one namespace: only such ones go into a path.
fn is_name(pattern: &str) -> bool {
    !pattern.is_empty() && pattern.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn unknown(number: usize, name: &str) -> Finding {
    Finding::warning(
        SUBJECT,
        format!("audit.policies[{number}].namespaces: there is no namespace {name:?} in the cluster"),
        "see `kubectl get namespaces`; `*` stands for any text",
    )
}

/// Policies for pods that fit none of these containers.
fn idle(policies: &[Policy], here: &[Whose]) -> Vec<Finding> {
    let all = Policies::new(policies);
    let fitting: BTreeSet<usize> = here.iter().flat_map(|whose| all.fitting(whose)).collect();
    let idle = (0..policies.len()).filter(|number| !fitting.contains(number));
    idle.map(|number| {
        Finding::note(
            SUBJECT,
            format!("audit.policies[{number}] fits no container of a pod on this node now"),
        )
    })
    .collect()
}

fn containers(json: &str, labels: &AllowList) -> Vec<Whose> {
    let Ok(pod) = Pod::parse(json.as_bytes()) else { return Vec::new() };
    let kept = pod.meta.labels.iter().filter(|(key, _)| labels.allows(key));
    let whose = Whose {
        namespace: pod.meta.namespace.to_string(),
        labels: kept.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        ..Whose::default()
    };
    let specs = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    specs.map(|spec| Whose { container: spec.name.to_string(), ..whose.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_that_fit_no_container_here_are_named() {
        let pod = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u", "labels": {"app": "web", "x": "y"}},
            "spec": {"containers": [{"name": "app"}, {"name": "side"}]}});
        let here = containers(&pod.to_string(), &AllowList::new(&["app"]));
        let policies: Vec<Policy> = serde_json::from_str(
            r#"[{"namespaces":["sh*"]},{"namespaces":["other"]},{"labels":{"app":"w*"},"containers":["side"]},{"labels":{"x":"y"}},{"origins":["probe"]}]"#,
        )
        .expect("policies");
        let told: Vec<String> = idle(&policies, &here).into_iter().map(|finding| finding.detail).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("policies[1]") && told[1].contains("policies[3]"), "{told:?}");
        assert!(containers("{", &AllowList::default()).is_empty());
    }

    #[test]
    fn only_names_are_asked_for() {
        assert!(is_name("kube-system") && is_name("a1"));
        assert!(!["", "kube-*", "../x", "a?b", "A"].into_iter().any(is_name));
    }
}
