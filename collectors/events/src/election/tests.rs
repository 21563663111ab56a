//! Elections against a scripted API server that keeps Leases and nothing else, and fails when it is told to.

#![expect(clippy::disallowed_methods, reason = "what a test writes need not last")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Value, json};
use taffrail_api::{ApiConfig, Counters, Server};
use tokio::time::{Instant as TokioInstant, timeout};

use super::*;

/// Keeps Leases with versions and preconditions as the real one does.
#[derive(Default)]
struct Scripted {
    leases: Mutex<BTreeMap<String, Value>>,
    version: AtomicU64,
    /// Answers 503 to everything.
    fails: AtomicBool,
    /// Takes what is written, and says that it has failed.
    lies: AtomicBool,
    /// Never answers.
    hangs: AtomicBool,
    reads: AtomicU64,
}

type Shared = State<Arc<Scripted>>;

impl Scripted {
    async fn start() -> (Arc<Scripted>, Leases, tempfile::TempDir) {
        let scripted = Arc::new(Scripted::default());
        let many = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases";
        let one = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}";
        let router = Router::new()
            .route(many, axum::routing::post(create))
            .route(one, get(read).put(update))
            .with_state(Arc::clone(&scripted));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = tempfile::tempdir().expect("a folder");
        let kubeconfig = folder.path().join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{address}") } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
            "users": [{ "name": "u", "user": {} }],
        });
        std::fs::write(&kubeconfig, text.to_string()).expect("written");
        let config = ApiConfig { kubeconfig: Some(kubeconfig), ..ApiConfig::default() };
        let server = Server::open(&config, Counters::new()).await.expect("a server");
        let patience = Duration::from_millis(300);
        (scripted, Leases { server, namespace: "n".to_owned(), patience }, folder)
    }

    async fn trouble(&self) -> Option<Response> {
        if self.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        self.fails.load(Ordering::SeqCst).then(|| StatusCode::SERVICE_UNAVAILABLE.into_response())
    }

    fn store(&self, name: String, mut lease: Value) -> Response {
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        lease["metadata"]["resourceVersion"] = version.to_string().into();
        self.leases.lock().insert(name, lease.clone());
        if self.lies.load(Ordering::SeqCst) {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        axum::Json(lease).into_response()
    }

    fn holder(&self, name: &str) -> String {
        let leases = self.leases.lock();
        leases
            .get(name)
            .and_then(|lease| lease["spec"]["holderIdentity"].as_str())
            .unwrap_or_default()
            .to_owned()
    }
}

async fn read(State(scripted): Shared, Path((_, name)): Path<(String, String)>) -> Response {
    scripted.reads.fetch_add(1, Ordering::SeqCst);
    if let Some(trouble) = scripted.trouble().await {
        return trouble;
    }
    match scripted.leases.lock().get(&name) {
        Some(lease) => axum::Json(lease.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn create(State(scripted): Shared, body: Bytes) -> Response {
    if let Some(trouble) = scripted.trouble().await {
        return trouble;
    }
    let lease: Value = serde_json::from_slice(&body).expect("JSON");
    let name = lease["metadata"]["name"].as_str().expect("a name").to_owned();
    if scripted.leases.lock().contains_key(&name) {
        return StatusCode::CONFLICT.into_response();
    }
    scripted.store(name, lease)
}

async fn update(State(scripted): Shared, Path((_, name)): Path<(String, String)>, body: Bytes) -> Response {
    if let Some(trouble) = scripted.trouble().await {
        return trouble;
    }
    let lease: Value = serde_json::from_slice(&body).expect("JSON");
    let same =
        scripted.leases.lock().get(&name).is_some_and(|known| {
            known["metadata"]["resourceVersion"] == lease["metadata"]["resourceVersion"]
        });
    if same { scripted.store(name, lease) } else { StatusCode::CONFLICT.into_response() }
}

fn timing() -> Timing {
    let millis = Duration::from_millis;
    Timing {
        lease: millis(900),
        deadline: millis(600),
        retry: millis(100),
        standby_lease: millis(3000),
        standby_renew: millis(1000),
        glance: millis(1500),
        position: millis(200),
    }
}

fn candidate(leases: &Leases, name: &str) -> Candidate {
    Candidate::new(leases.clone(), "l", name.to_owned(), timing(), Arc::default())
}

const SOON: Duration = Duration::from_secs(10);

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(SOON, work).await.expect("in time")
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn of_all_who_start_at_once_one_wins_and_a_few_stand_by() {
    let (scripted, leases, _folder) = Scripted::start().await;
    let mut tasks = Vec::new();
    let winners = Arc::new(AtomicU64::new(0));
    let statuses: Vec<Arc<Status>> = (0..12).map(|_| Arc::default()).collect();
    for (number, status) in statuses.iter().enumerate() {
        let mut candidate =
            Candidate::new(leases.clone(), "l", format!("a{number}"), timing(), Arc::clone(status));
        let winners = Arc::clone(&winners);
        tasks.push(tokio::spawn(async move {
            candidate.win().await;
            winners.fetch_add(1, Ordering::SeqCst);
            candidate.hold(&|| None).await
        }));
    }
    let roles = |role| statuses.iter().filter(|status| status.view().role == role).count();
    soon(async {
        while (roles(Role::Leader), roles(Role::Standby), roles(Role::Bystander)) != (1, 4, 7) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    sleep(timing().lease * 2).await;
    assert_eq!(winners.load(Ordering::SeqCst), 1);
    let leader = scripted.holder("l");
    assert!(statuses.iter().all(|status| status.view().leader == leader));
    // What everybody else asks for is little: here a look at two Leases in about a second and a half.
    let before = scripted.reads.load(Ordering::SeqCst);
    sleep(timing().glance * 2).await;
    let reads = scripted.reads.load(Ordering::SeqCst) - before;
    let standing_by = 4 * 3000 / 75;
    assert!(reads <= standing_by + 7 * 6, "{reads}");
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn who_cannot_renew_has_no_authority_any_more_before_another_can_have_it() {
    let (scripted, leases, _folder) = Scripted::start().await;
    let (mut first, mut second) = (candidate(&leases, "a"), candidate(&leases, "b"));
    assert_eq!(soon(first.win()).await, None);
    let authority = first.authority.clone();
    assert!(authority.holds());
    scripted.hangs.store(true, Ordering::SeqCst);
    let lost = tokio::spawn(async move { first.hold(&|| None).await });
    let why = soon(lost).await.expect("no panic");
    assert!(!authority.holds(), "{why}");
    assert_eq!(scripted.holder("l"), "a", "as far as anybody else can see");
    scripted.hangs.store(false, Ordering::SeqCst);
    let began = TokioInstant::now();
    soon(second.win()).await;
    assert!(began.elapsed() >= timing().lease, "{:?}", began.elapsed());
    assert_eq!(scripted.holder("l"), "b");
}

#[tokio::test]
async fn a_server_that_fails_for_a_moment_deposes_nobody() {
    let (scripted, leases, _folder) = Scripted::start().await;
    let mut first = candidate(&leases, "a");
    soon(first.win()).await;
    let authority = first.authority.clone();
    let holding = tokio::spawn(async move { first.hold(&|| None).await });
    for _ in 0..3 {
        scripted.fails.store(true, Ordering::SeqCst);
        sleep(timing().deadline / 2).await;
        scripted.fails.store(false, Ordering::SeqCst);
        sleep(timing().deadline / 2).await;
    }
    assert!(authority.holds() && !holding.is_finished());
    // What was written although the answer was lost is a conflict with oneself.
    scripted.lies.store(true, Ordering::SeqCst);
    sleep(timing().retry * 2).await;
    scripted.lies.store(false, Ordering::SeqCst);
    sleep(timing().deadline).await;
    assert!(authority.holds() && !holding.is_finished());
    holding.abort();
}

#[tokio::test]
async fn who_was_asleep_finds_that_another_holds_it() {
    let (scripted, leases, _folder) = Scripted::start().await;
    let (mut first, mut second) = (candidate(&leases, "a"), candidate(&leases, "b"));
    soon(first.win()).await;
    let authority = first.authority.clone();
    // It does not renew: as if it had been stopped. The other one takes over.
    soon(second.win()).await;
    assert!(!authority.holds());
    let why = soon(first.hold(&|| Some(99))).await;
    assert!(why.contains("in time"), "{why}");
    assert_eq!(scripted.holder("l"), "b");
    assert_eq!(
        scripted.leases.lock()["l"]["metadata"]["annotations"],
        Value::Null,
        "no position of a deposed one"
    );
    first.release(Some(99)).await;
    assert_eq!(scripted.holder("l"), "b", "nor does it release what is not its own");
}

#[tokio::test]
async fn a_released_lease_goes_over_at_once_with_the_position() {
    let (scripted, leases, _folder) = Scripted::start().await;
    // So long that nobody who waits for its end has it soon.
    let timing = Timing { lease: SOON * 3, deadline: SOON * 2, ..timing() };
    let candidate = |name: &str| Candidate::new(leases.clone(), "l", name.to_owned(), timing, Arc::default());
    let (mut first, mut second) = (candidate("a"), candidate("b"));
    soon(first.win()).await;
    let waiting = tokio::spawn(async move { (second.win().await, second) });
    // It takes a place to stand by meanwhile.
    let places = || (1..=4).filter(|n| scripted.holder(&format!("l-standby-{n}")) == "b").count();
    soon(until(|| places() == 1)).await;
    first.release(Some(42)).await;
    let (position, mut second) = soon(waiting).await.expect("no panic");
    assert_eq!(position, Some(42));
    assert_eq!(places(), 0);
    // The position is written with the renewals, and kept when there is nothing new.
    let holding = tokio::spawn(async move { second.hold(&|| Some(50)).await });
    let position =
        || scripted.leases.lock()["l"]["metadata"]["annotations"]["taffrail.io/events-position"].clone();
    soon(until(|| position() == "50")).await;
    holding.abort();
}

#[tokio::test]
async fn a_deleted_lease_deposes_its_holder() {
    let (scripted, leases, _folder) = Scripted::start().await;
    let mut first = candidate(&leases, "a");
    soon(first.win()).await;
    scripted.leases.lock().clear();
    let why = soon(first.hold(&|| None)).await;
    assert!(why.contains("deleted"), "{why}");
    assert!(!first.authority.holds());
}
