//! Which path answers what.

use std::convert::Infallible;
use std::sync::Arc;

use super::Shared;
use super::answers::{self, AuditedBy, Readiness, alive};
use super::pages::{self, Wish};
use crate::audit::SessionsReport;
use crate::ledger_report::LedgerReport;
use crate::tap::{Filter, Wanted};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use taffrail_events::Selector;

type Here = State<Arc<Shared>>;

/// What anybody may see who reaches the address and whom the web configuration lets in.
pub(super) fn public(shared: &Arc<Shared>) -> Router {
    let mut router = Router::new().route("/", get(index)).route("/metrics", get(metrics));
    for (number, page) in shared.pages.iter().enumerate() {
        let answer =
            move |state: Here, query: RawQuery, headers: HeaderMap| page_of(number, state, query, headers);
        router = router.route(page.path, get(answer));
    }
    let router = router
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/-/config", get(config))
        .route("/-/reload", post(reload));
    shared.counted(shared.guarded(router.fallback(not_found)))
}

/// What only the socket's owner may see.
pub(super) fn private(shared: &Arc<Shared>) -> Router {
    let router = Router::new()
        .route("/tap", get(tap))
        .route("/ledger", get(ledger))
        .route("/events", get(events))
        .route("/sessions", get(sessions))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz));
    shared.counted(router.fallback(not_found))
}

async fn index(State(shared): Here) -> Html<String> {
    let pages: Vec<(&str, &str)> = shared.pages.iter().map(|page| (page.path, page.what)).collect();
    Html(answers::index(&shared.surface.config.load().node_name(), &pages))
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "not found; / lists what is here\n")
}

async fn metrics(State(shared): Here, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let wish = match Wish::of(query.as_deref(), &headers, &shared.scraper) {
        Ok(wish) => wish,
        Err(refusal) => return refusal.into_response(),
    };
    match tokio::task::spawn_blocking(move || wish.answer(&shared.scraper)).await {
        Ok(answer) => answer.into_response(),
        Err(_) => broken_off(),
    }
}

async fn page_of(
    number: usize,
    State(shared): Here,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let wish = match Wish::of(query.as_deref(), &headers, &shared.pages[number].scraper) {
        Ok(wish) => wish,
        Err(refusal) => return refusal.into_response(),
    };
    match pages::answer(shared, number, wish).await {
        Some(answer) => answer.into_response(),
        None => broken_off(),
    }
}

fn broken_off() -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, "the scrape broke off\n").into_response()
}

async fn healthz(State(shared): Here) -> (StatusCode, String) {
    match alive(shared.surface.components.silence()) {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

async fn readyz(State(shared): Here) -> Response {
    let mut readiness = Readiness::of(&shared.surface.components, (shared.surface.shippers)());
    readiness.audit = shared.surface.audit.as_ref().map(AuditedBy::of);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(readiness)).into_response()
}

async fn config(State(shared): Here, headers: HeaderMap) -> Response {
    let redacted = shared.surface.config.load().redacted();
    let json =
        headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"));
    if json {
        return axum::Json(redacted).into_response();
    }
    match serde_saphyr::to_string(&redacted) {
        Ok(yaml) => ([(header::CONTENT_TYPE, "application/yaml")], yaml).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn reload(State(shared): Here) -> (StatusCode, String) {
    let reload = Arc::clone(&shared.surface.reload);
    match tokio::task::spawn_blocking(move || reload.run()).await {
        Ok(Ok(done)) => (StatusCode::OK, format!("{done}\n")),
        Ok(Err(error)) => {
            (StatusCode::BAD_REQUEST, format!("refused, the old configuration stays: {error}\n"))
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the reload broke off\n".to_owned()),
    }
}

/// Whose events are asked for.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Whose {
    object: Option<String>,
    namespace: Option<String>,
}

async fn events(State(shared): Here, Query(whose): Query<Whose>) -> Response {
    let object = whose.object.unwrap_or_else(|| format!("node/{}", shared.surface.config.load().node_name()));
    let selector = match Selector::new(&object, whose.namespace.as_deref().unwrap_or("default")) {
        Ok(selector) => selector,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    match shared.surface.timelines.of(&selector).await {
        Ok(timeline) => axum::Json(timeline).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error).into_response(),
    }
}

async fn sessions(State(shared): Here) -> Response {
    const OFF: &str =
        "sessions in containers are not audited on this node; set audit.enabled: true and restart the agent";
    let node = shared.surface.config.load().node_name();
    match &shared.surface.audit {
        Some(audit) => axum::Json(SessionsReport::new(node, audit)).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, OFF).into_response(),
    }
}

async fn ledger(State(shared): Here) -> axum::Json<LedgerReport> {
    let node = shared.surface.config.load().node_name();
    axum::Json(LedgerReport::new(node, &shared.surface.ledger))
}

/// Records as NDJSON until the client or the agent ends; `{"unknown":true}` before them when nothing that could match has
/// been read yet.
async fn tap(State(shared): Here, Query(wanted): Query<Wanted>) -> Response {
    let filter = match Filter::new(&wanted) {
        Ok(filter) => filter,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let accounts = shared.surface.ledger.accounts();
    let unknown = filter.names_somebody() && !accounts.iter().any(|account| filter.concerns(account.names()));
    let notice = unknown.then(|| Ok(Bytes::from_static(b"{\"unknown\":true}\n")));
    let listener = match shared.surface.tap.listen(filter) {
        Ok(listener) => listener,
        Err(error) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    };
    let lines = stream::unfold((listener, shared.stop.clone()), |(mut listener, mut stop)| async move {
        let chunk = tokio::select! {
            chunk = listener.next() => chunk,
            _ = stop.wait_for(|stopped| *stopped) => return None,
        };
        Some((Ok::<Bytes, Infallible>(chunk.into()), (listener, stop)))
    });
    let lines = stream::iter(notice).chain(lines);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
