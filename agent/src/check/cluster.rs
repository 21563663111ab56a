//! Does the cluster's API server answer, and may we ask it what we need?

use std::time::Duration;

use taffrail_api::{ApiError, Counters, Server, Wanted};
use tokio::time::timeout;

use super::Finding;
use crate::config::Config;
use crate::events;
use crate::kubernetes::permissions::{self, Permission};

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
        if events::are_wanted_without_a_server(config) {
            let remedy = "set kubernetes.api.kubeconfig, mount a service account's token, or take `elasticsearch` and \
                          `events` out of the configuration";
            return vec![Finding::bad(
                SUBJECT,
                format!("events are wanted, but nobody can be asked for them: {why}"),
                remedy,
            )];
        }
        return vec![Finding::note(SUBJECT, why)];
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(ask(config)),
        Err(error) => {
            vec![Finding::bad(SUBJECT, format!("no runtime: {error}"), "see the limits of this process")]
        }
    }
}

/// Whether the server answers, and grants each thing that the agent does.
async fn ask(config: &Config) -> Vec<Finding> {
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
            Err(_) => return vec![silent()],
        }
    }
    if missing.is_empty() {
        return vec![Finding::good(
            SUBJECT,
            format!("the API server answers, and grants all {} things that are asked of it", needed.len()),
        )];
    }
    let remedy = "bind the roles in deploy/kubernetes/rbac.yaml to the agent's service account";
    let finding =
        |permission: &Permission| Finding::bad(SUBJECT, format!("the agent may not {permission}"), remedy);
    missing.into_iter().map(finding).collect()
}

fn silent() -> Finding {
    let seconds = PATIENCE.as_secs();
    Finding::bad(
        SUBJECT,
        format!("the API server does not answer within {seconds} s"),
        "see that the network lets us through",
    )
}

fn bad(error: &ApiError) -> Finding {
    Finding::bad(SUBJECT, error.to_string(), error.kind.remedy())
}
