//! Requests, counted by path and status.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus::{IntCounterVec, Opts, Registry};
use taffrail_prometheus::Bridge;
use taffrail_record::{Family, Kind};

use super::Shared;

/// What is counted.
pub static FAMILIES: &[Family] = &[Family {
    name: "taffrail_http_requests_total",
    kind: Kind::Counter,
    help: "Requests answered, by path and status; paths that do not exist count as other.",
    labels: &["path", "code"],
}];

/// The paths that have a series of their own: what clients ask for must not make series.
const PATHS: [&str; 10] = [
    "/",
    "/metrics",
    "/metrics/cadvisor",
    "/metrics/node",
    "/healthz",
    "/readyz",
    "/-/config",
    "/-/reload",
    "/tap",
    "/ledger",
];

/// The counter.
pub(super) struct Requests {
    registry: Registry,
    counter: Option<IntCounterVec>,
}

impl Requests {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let family = &FAMILIES[0];
        let counter = IntCounterVec::new(Opts::new(family.name, family.help), family.labels).ok();
        let counter = counter.filter(|counter| registry.register(Box::new(counter.clone())).is_ok());
        Requests { registry, counter }
    }

    pub(super) fn ask(&self) -> Bridge {
        Bridge::new("http", FAMILIES, self.registry.clone())
    }

    fn add(&self, path: &str, code: u16) {
        if let Some(counter) = &self.counter {
            counter.with_label_values(&[path, &code.to_string()]).inc();
        }
    }
}

/// Counts each request once its answer begins.
pub(super) async fn count(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let path = PATHS.iter().find(|path| **path == request.uri().path()).copied().unwrap_or("other");
    let response = next.run(request).await;
    shared.requests.add(path, response.status().as_u16());
    response
}
