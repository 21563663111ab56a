//! Does the cluster's API server answer, and may we ask it what we need?

use std::time::Duration;

use taffrail_api::{ApiError, Counters, Server, Wanted};
use tokio::time::timeout;

use super::Finding;
use crate::config::Config;

const SUBJECT: &str = "cluster";

/// How long each question may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn cluster(config: &Config) -> Vec<Finding> {
    let api = &config.kubernetes.api;
    if !api.is_wanted() {
        let why = match api.enabled {
            Wanted::Never => "kubernetes.api.enabled is never",
            Wanted::Auto | Wanted::Always => {
                "not asked: this is no pod with a service account, and kubernetes.api.kubeconfig is not set"
            }
        };
        return vec![Finding::note(SUBJECT, why)];
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(ask(config)),
        Err(error) => {
            vec![Finding::bad(SUBJECT, format!("no runtime: {error}"), "see the limits of this process")]
        }
    }
}

/// Each thing that the agent asks for, once.
async fn ask(config: &Config) -> Vec<Finding> {
    let server = match Server::open(&config.kubernetes.api, Counters::new()).await {
        Ok(server) => server,
        Err(error) => return vec![bad(&error)],
    };
    let node = config.node_name();
    let questions = [
        (
            "pods",
            format!("/api/v1/pods?limit=1&fieldSelector=spec.nodeName%3D{node}"),
            "the pods of this node",
        ),
        ("namespaces", "/api/v1/namespaces/kube-system".to_owned(), "namespaces"),
        ("nodes", format!("/api/v1/nodes/{node}"), "this node"),
    ];
    let mut findings = Vec::new();
    for (resource, path, what) in questions {
        let answer = timeout(PATIENCE, server.get(resource, &path)).await;
        let finding = match answer {
            Ok(Ok(_)) => Finding::good(SUBJECT, format!("the API server tells of {what}")),
            Ok(Err(error)) => bad(&error),
            Err(_) => Finding::bad(
                SUBJECT,
                format!("the API server does not answer within {} s", PATIENCE.as_secs()),
                "see that the network lets us through",
            ),
        };
        let unreachable = finding.status == super::Status::Bad && resource == "pods";
        findings.push(finding);
        if unreachable {
            break;
        }
    }
    findings
}

fn bad(error: &ApiError) -> Finding {
    Finding::bad(SUBJECT, error.to_string(), error.kind.remedy())
}
