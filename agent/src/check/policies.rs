//! Do the policies of the audit fit anything in the cluster, or in the Docker engine?

use std::collections::BTreeSet;

use taffrail_api::{ApiError, ErrorKind, Server, pages};
use taffrail_docker::{ContainerInfo, Enabled, is_sandbox, origin};
use taffrail_exec::{Policies, Policy, Whose};
use taffrail_pods::{AllowList, Pod};

use super::{Finding, sources};
use crate::config::Config;

const SUBJECT: &str = "audit";

/// The policies, if any is asked.
fn asked(config: &Config) -> &[Policy] {
    if config.audit.enabled { &config.audit.policies } else { &[] }
}

/// The Docker engine's containers, as the audit knows them. It waits for the engine: not to be asked within a runtime.
pub(super) fn of_engine(config: &Config) -> Vec<Whose> {
    if asked(config).is_empty() || config.docker.enabled == Enabled::Never {
        return Vec::new();
    }
    let containers = sources::first_snapshot(&config.docker).map(|snapshot| snapshot.containers);
    containers
        .unwrap_or_default()
        .iter()
        .filter(|info| info.running && !is_sandbox(info))
        .map(whose)
        .collect()
}

fn whose(info: &ContainerInfo) -> Whose {
    let origin = origin(info, &std::sync::Arc::default());
    let container = origin.container.unwrap_or_default();
    Whose {
        namespace: origin.pod.map(|pod| pod.namespace).unwrap_or_default(),
        container: container.name,
        labels: container.labels.into_iter().collect(),
        ..Whose::default()
    }
}

/// What is said where no API server may be asked: of policies that fit nothing of what is here.
pub(super) fn alone(config: &Config, here: &[Whose]) -> Vec<Finding> {
    idle(asked(config), here)
}

/// What is said of policies that fit nothing in the cluster, or besides in what is here. Who may not be asked is not told here.
pub(super) async fn all(server: &Server, config: &Config, mut here: Vec<Whose>) -> Vec<Finding> {
    let policies = asked(config);
    if policies.is_empty() {
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

/// Policies that fit none of these containers.
fn idle(policies: &[Policy], here: &[Whose]) -> Vec<Finding> {
    let all = Policies::new(policies);
    let fitting: BTreeSet<usize> = here.iter().flat_map(|whose| all.fitting(whose)).collect();
    let idle = (0..policies.len()).filter(|number| !fitting.contains(number));
    idle.map(|number| {
        Finding::note(SUBJECT, format!("audit.policies[{number}] fits no container that is here now"))
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
    fn an_engines_containers_are_held_against_policies_too() {
        let info = |name: &str, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            whose(&ContainerInfo { name: name.to_owned(), labels, ..ContainerInfo::default() })
        };
        let pod = [
            ("io.kubernetes.pod.name", "web-1"),
            ("io.kubernetes.pod.namespace", "shop"),
            ("io.kubernetes.container.name", "app"),
        ];
        let here = [info("redis-1", &[("tier", "cache")]), info("k8s_app_web-1_shop_u_0", &pod)];
        let policies: Vec<Policy> = serde_json::from_str(
            r#"[{"containers":["redis*"]},{"labels":{"tier":"cache"}},{"namespaces":["shop"],"containers":["app"]},{"containers":["nosuch*"]}]"#,
        )
        .expect("policies");
        let told: Vec<String> = idle(&policies, &here).into_iter().map(|finding| finding.detail).collect();
        assert_eq!(told, ["audit.policies[3] fits no container that is here now"]);
    }

    #[test]
    fn only_names_are_asked_for() {
        assert!(is_name("kube-system") && is_name("a1"));
        assert!(!["", "kube-*", "../x", "a?b", "A"].into_iter().any(is_name));
    }
}
