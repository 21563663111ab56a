//! Does the cluster's API server answer, and may we ask it what we need?

use std::time::Duration;

use taffrail_api::{ApiError, Counters, ErrorKind, Server, Wanted};
use taffrail_exec::Whose;
use tokio::time::timeout;

use super::{Finding, policies};
use crate::config::Config;
use crate::events;
use crate::kubernetes::permissions::{self, Permission};
use crate::kubernetes::{kubelet_remedy, of_kubelet};

const SUBJECT: &str = "cluster";
const KUBELET: &str = "kubelet";

/// How long each question may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn cluster(config: &Config) -> Vec<Finding> {
    let here = policies::of_engine(config);
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(async {
            let mut findings = api_server(config, here).await;
            findings.extend(kubelet(config).await);
            findings
        }),
        Err(error) => {
            vec![Finding::bad(SUBJECT, format!("no runtime: {error}"), "see the limits of this process")]
        }
    }
}

/// `here` are containers that are known without it.
async fn api_server(config: &Config, here: Vec<Whose>) -> Vec<Finding> {
    let api = &config.kubernetes.api;
    if !api.is_wanted() {
        let why = match api.enabled {
            Wanted::Never => "kubernetes.api.enabled is never",
            Wanted::Auto | Wanted::Always => {
                "not asked: this is no pod with a service account, and kubernetes.api.kubeconfig is not set"
            }
        };
        if events::are_wanted_without_a_server(config) {
            let remedy = "set kubernetes.api.kubeconfig, mount a service account's token, or take `elasticsearch` and \
                          `events` out of the configuration";
            return vec![Finding::bad(
                SUBJECT,
                format!("events are wanted, but nobody can be asked for them: {why}"),
                remedy,
            )];
        }
        let mut findings = vec![Finding::note(SUBJECT, why)];
        findings.extend(policies::alone(config, &here));
        return findings;
    }
    ask(config, here).await
}

/// Whether the server answers, and grants each thing that the agent does.
async fn ask(config: &Config, here: Vec<Whose>) -> Vec<Finding> {
    let server = match Server::open(&config.kubernetes.api, Counters::new()).await {
        Ok(server) => server,
        Err(error) => return vec![bad(&error)],
    };
    let needed = permissions::needed(config);
    let mut missing = Vec::new();
    for permission in &needed {
        match timeout(PATIENCE, permission.is_granted(&server)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => missing.push(permission),
            Ok(Err(error)) => return vec![bad(&error)],
            Err(_) => return vec![silent(SUBJECT, "the API server")],
        }
    }
    let mut findings = Vec::new();
    if missing.is_empty() {
        findings.push(Finding::good(
            SUBJECT,
            format!("the API server answers, and grants all {} things that are asked of it", needed.len()),
        ));
    }
    let remedy = "bind the roles in deploy/kubernetes/rbac.yaml to the agent's service account";
    let finding =
        |permission: &Permission| Finding::bad(SUBJECT, format!("the agent may not {permission}"), remedy);
    findings.extend(missing.into_iter().map(finding));
    findings.extend(node(&server, &config.node_name()).await);
    if let Ok(told) = timeout(PATIENCE, policies::all(&server, config, here)).await {
        findings.extend(told);
    }
    if events::are_wanted(config) {
        findings.extend(lease_namespace(&server, &config.events.namespace()).await);
    }
    findings
}

/// What is wrong with where the Leases are to be.
async fn lease_namespace(server: &Server, name: &str) -> Option<Finding> {
    match timeout(PATIENCE, server.get("namespaces", &format!("/api/v1/namespaces/{name}"))).await {
        Ok(Err(ApiError { kind: ErrorKind::NotFound(_), .. })) => {
            let what = format!("there is no namespace {name:?}: nobody would watch events");
            Some(Finding::bad(SUBJECT, what, "make it, or name another: events.lease_namespace"))
        }
        _ => None,
    }
}

/// What is wrong with the node's name. Whether the node may be asked for is said elsewhere.
async fn node(server: &Server, name: &str) -> Option<Finding> {
    match timeout(PATIENCE, server.get("nodes", &format!("/api/v1/nodes/{name}"))).await {
        Ok(Err(ApiError { kind: ErrorKind::NotFound(_), .. })) => {
            let remedy = "set node.name, or the variable NODE_NAME, to the name that `kubectl get nodes` has";
            let what = format!("there is no node {name:?} in the cluster: no pod of it would be found");
            Some(Finding::bad(SUBJECT, what, remedy))
        }
        _ => None,
    }
}

/// Whether kubelet tells of its pods, where it is to be asked.
async fn kubelet(config: &Config) -> Option<Finding> {
    let (api, kubelet) = (&config.kubernetes.api, &config.kubernetes.kubelet);
    if !kubelet.enabled {
        return None;
    }
    let answer = async {
        let server = Server::open_kubelet(api, kubelet, Counters::new()).await?;
        server.get("kubelet_pods", "/pods").await
    };
    Some(match timeout(PATIENCE, answer).await {
        Ok(Ok(_)) => Finding::good(KUBELET, format!("{} tells of its pods", kubelet.url)),
        Ok(Err(error)) => Finding::bad(KUBELET, of_kubelet(&error), kubelet_remedy(&error.kind)),
        Err(_) => silent(KUBELET, "kubelet"),
    })
}

fn silent(subject: &'static str, who: &str) -> Finding {
    let seconds = PATIENCE.as_secs();
    Finding::bad(
        subject,
        format!("{who} does not answer within {seconds} s"),
        "see that the network lets us through",
    )
}

fn bad(error: &ApiError) -> Finding {
    Finding::bad(SUBJECT, error.to_string(), error.kind.remedy())
}
