//! Following a scripted server, which gives the answers that a real one cannot be made to give on command. The real one
//! is asked in `tests/suite`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use parking_lot::Mutex;
use serde_json::{Value, json};
use taffrail_api::{
    ApiConfig, Change, Counters, Health, KubeletConfig, Listener, Resource, Server, Wanted, follow, list,
};
use tokio::sync::mpsc;

/// One answer of the script.
enum Answer {
    /// Whole, with a status.
    Plain(u16, Value),
    /// A watch that says these lines and ends.
    Ends(Vec<Value>),
    /// A watch that says these lines and then nothing.
    Hangs(Vec<Value>),
    /// As `Plain`, asking for patience.
    Patience(u64),
}

/// What was asked: path with query, and the token.
type Asked = (String, String);

#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: mpsc::UnboundedSender<Asked>,
}

impl Script {
    fn answer(&self, request: &Request) -> Response {
        let path = request.uri().to_string();
        let token = request.headers().get("authorization").and_then(|v| v.to_str().ok()).unwrap_or("");
        let _ = self.asked.send((path, token.to_owned()));
        let answer = self.answers.lock().pop_front().unwrap_or(Answer::Hangs(Vec::new()));
        match answer {
            Answer::Plain(status, body) => plain(status).body(Body::from(body.to_string())),
            Answer::Patience(seconds) => plain(429).header("retry-after", seconds).body(Body::empty()),
            Answer::Ends(lines) => plain(200).body(Body::from(text(&lines))),
            Answer::Hangs(lines) => {
                let begin = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(text(&lines)))]);
                let stream = futures_util::StreamExt::chain(begin, futures_util::stream::pending());
                plain(200).body(Body::from_stream(stream))
            }
        }
        .expect("an answer")
    }
}

fn plain(status: u16) -> axum::http::response::Builder {
    Response::builder().status(StatusCode::from_u16(status).expect("a status"))
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// What the listener was told, a word each.
#[derive(Clone)]
struct Told(mpsc::UnboundedSender<String>);

impl Listener for Told {
    fn list_begins(&mut self) {
        let _ = self.0.send("list".to_owned());
    }

    fn object(&mut self, change: Change, object: &str, version: &str) {
        let object: Value = serde_json::from_str(object).expect("JSON");
        let _ = self
            .0
            .send(format!("{change:?} {} {version}", object["metadata"]["name"].as_str().unwrap_or("")));
    }

    fn listed(&mut self, version: &str) {
        let _ = self.0.send(format!("listed {version}"));
    }

    fn reached(&mut self, version: &str) {
        let _ = self.0.send(format!("reached {version}"));
    }
}

struct Run {
    told: mpsc::UnboundedReceiver<String>,
    asked: mpsc::UnboundedReceiver<Asked>,
    health: Health,
    token: tempfile::NamedTempFile,
    _config: tempfile::NamedTempFile,
}

impl Run {
    /// Follows pods of a server with this script.
    async fn new(answers: impl IntoIterator<Item = Answer>, change: impl FnOnce(&mut Resource)) -> Run {
        let (address, asked) = serve(answers).await;

        let token = file("one");
        let config = file(
            &json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "a",
                "clusters": [{"name": "a", "cluster": {"server": format!("http://{address}")}}],
                "users": [{"name": "a", "user": {"tokenFile": token.path()}}],
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            })
            .to_string(),
        );
        let api = ApiConfig { enabled: Wanted::Always, kubeconfig: Some(config.path().to_owned()) };
        let (telling, told) = mpsc::unbounded_channel();
        let health = Health::new();
        let mut resource = Resource::cached("pods", "/api/v1/pods").only("spec.nodeName=a");
        change(&mut resource);
        let watched = health.clone();
        tokio::spawn(async move {
            let server = Server::open(&api, Counters::new()).await.expect("a server");
            follow(&server, &resource, None, &watched, &mut Told(telling)).await;
        });
        Run { told, asked, health, token, _config: config }
    }

    async fn told(&mut self, words: &[&str]) {
        for word in words {
            let told = tokio::time::timeout(Duration::from_secs(60), self.told.recv()).await;
            assert_eq!(told.expect("in time").as_deref(), Some(*word));
        }
    }

    async fn asked(&mut self) -> Asked {
        let asked = tokio::time::timeout(Duration::from_secs(60), self.asked.recv()).await;
        asked.expect("in time").expect("a request")
    }
}

/// Serves this script; what it is asked comes by the queue.
async fn serve(
    answers: impl IntoIterator<Item = Answer>,
) -> (std::net::SocketAddr, mpsc::UnboundedReceiver<Asked>) {
    let (asking, asked) = mpsc::unbounded_channel();
    let script = Script { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: asking };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let app = Router::new().fallback(move |request: Request| {
        let answer = script.answer(&request);
        async move { answer }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, asked)
}

fn file(content: &str) -> tempfile::NamedTempFile {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(content.as_bytes()).expect("written");
    file
}

fn pod(name: &str, version: u64) -> Value {
    json!({"metadata": {"name": name, "resourceVersion": version.to_string()}})
}

fn change(kind: &str, name: &str, version: u64) -> Value {
    json!({"type": kind, "object": pod(name, version)})
}

fn bookmark(version: u64, end: bool) -> Value {
    let annotations = if end { json!({"k8s.io/initial-events-end": "true"}) } else { Value::Null };
    json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version.to_string(), "annotations": annotations}}})
}

fn page(version: u64, more: &str, items: &[Value]) -> Answer {
    Answer::Plain(
        200,
        json!({"metadata": {"resourceVersion": version.to_string(), "continue": more}, "items": items}),
    )
}

fn gone() -> Value {
    json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}})
}

fn old_server() -> Answer {
    Answer::Plain(422, json!({"kind": "Status", "code": 422, "message": "sendInitialEvents is forbidden"}))
}

#[tokio::test]
async fn a_stream_lists_what_there_is_and_goes_on_where_it_was_cut_off() {
    let script = [
        Answer::Ends(vec![
            change("ADDED", "a", 5),
            bookmark(7, true),
            change("MODIFIED", "a", 9),
            bookmark(12, false),
        ]),
        Answer::Hangs(vec![change("DELETED", "a", 13)]),
    ];
    let mut run = Run::new(script, |_| {}).await;
    run.told(&["list", "Listed a 5", "listed 7", "Modified a 9", "reached 12", "Deleted a 13"]).await;
    let first = run.asked().await.0;
    assert!(
        first.contains("sendInitialEvents=true") && first.contains("fieldSelector=spec.nodeName%3Da"),
        "{first}"
    );
    let second = run.asked().await.0;
    assert!(second.contains("resourceVersion=12") && !second.contains("sendInitialEvents"), "{second}");
    assert!(run.health.is_listed() && run.health.current_trouble().is_none());
}

#[tokio::test]
async fn a_server_that_cannot_stream_is_listed_page_by_page() {
    let script = [
        old_server(),
        page(7, "next", &[pod("a", 5)]),
        page(7, "", &[pod("b", 6)]),
        Answer::Hangs(vec![change("ADDED", "c", 8)]),
    ];
    let mut run = Run::new(script, |_| {}).await;
    run.told(&["list", "list", "Listed a 5", "Listed b 6", "listed 7", "Added c 8"]).await;
    let paths = [run.asked().await.0, run.asked().await.0, run.asked().await.0, run.asked().await.0];
    assert!(paths[1].contains("limit=500&resourceVersion=0"), "{}", paths[1]);
    assert!(paths[2].contains("continue=next") && !paths[2].contains("resourceVersion"), "{}", paths[2]);
    assert!(paths[3].contains("watch=1") && paths[3].contains("resourceVersion=7"), "{}", paths[3]);
}

#[tokio::test]
async fn a_version_that_the_server_has_forgotten_is_listed_again_and_never_from_an_older_one() {
    let script = [
        old_server(),
        page(7, "", &[pod("a", 5)]),
        Answer::Ends(vec![change("MODIFIED", "a", 20), gone()]),
        page(30, "", &[]),
        Answer::Hangs(Vec::new()),
    ];
    let mut run = Run::new(script, |_| {}).await;
    run.told(&["list", "list", "Listed a 5", "listed 7", "Modified a 20", "list", "listed 30"]).await;
    for _ in 0..3 {
        run.asked().await;
    }
    let again = run.asked().await.0;
    assert!(again.contains("resourceVersion=20&resourceVersionMatch=NotOlderThan"), "{again}");
}

#[tokio::test]
async fn a_server_that_was_restored_to_an_older_version_is_listed_again() {
    for late in [bookmark(9, false), change("MODIFIED", "a", 9)] {
        let script = [
            old_server(),
            page(20, "", &[pod("a", 15)]),
            Answer::Hangs(vec![late]),
            page(9, "", &[pod("a", 9)]),
            Answer::Hangs(Vec::new()),
        ];
        let mut run = Run::new(script, |_| {}).await;
        run.told(&["list", "list", "Listed a 15", "listed 20", "list", "Listed a 9", "listed 9"]).await;
        for _ in 0..3 {
            run.asked().await;
        }
        let again = run.asked().await.0;
        assert!(again.ends_with("resourceVersion=0"), "{again}");
    }
}

#[tokio::test]
async fn a_list_whose_pages_expire_begins_again() {
    let expired = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "the continue token is too old"});
    let script = [
        old_server(),
        page(7, "next", &[pod("a", 5)]),
        Answer::Plain(410, expired),
        page(9, "", &[pod("a", 5), pod("b", 8)]),
        Answer::Hangs(Vec::new()),
    ];
    let mut run = Run::new(script, |_| {}).await;
    run.told(&["list", "list", "Listed a 5", "list", "Listed a 5", "Listed b 8", "listed 9"]).await;
}

#[tokio::test]
async fn a_token_that_was_rotated_is_read_anew_and_the_watch_goes_on() {
    let unknown = json!({"kind": "Status", "code": 401, "message": "Unauthorized"});
    let script = [
        Answer::Ends(vec![bookmark(7, true)]),
        Answer::Plain(401, unknown),
        Answer::Hangs(vec![change("ADDED", "a", 8)]),
    ];
    let mut run = Run::new(script, |_| {}).await;
    assert_eq!(run.asked().await.1, "Bearer one");
    {
        use std::io::{Seek as _, Write as _};
        let mut token = run.token.reopen().expect("the token");
        token.rewind().and_then(|()| token.write_all(b"two")).expect("rotated");
    }
    run.told(&["list", "listed 7", "Added a 8"]).await;
    run.asked().await;
    assert_eq!(run.asked().await.1, "Bearer two");
}

#[tokio::test]
async fn a_server_that_asks_for_patience_gets_it_and_the_trouble_is_seen_until_it_is_over() {
    let script = [Answer::Patience(2), Answer::Hangs(vec![bookmark(7, true)])];
    let mut run = Run::new(script, |_| {}).await;
    let begun = std::time::Instant::now();
    run.asked().await;
    run.told(&["list"]).await;
    while run.health.current_trouble().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    run.told(&["list", "listed 7"]).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(run.health.current_trouble(), None);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_left_and_the_watch_goes_on() {
    let script = [
        Answer::Ends(vec![bookmark(7, true)]),
        Answer::Hangs(vec![change("ADDED", "a", 8)]),
        Answer::Hangs(vec![change("ADDED", "b", 9)]),
    ];
    let mut run = Run::new(script, |resource| resource.silence = Duration::from_millis(300)).await;
    run.told(&["list", "listed 7", "Added a 8", "Added b 9"]).await;
    run.asked().await;
    run.asked().await;
    assert!(run.asked().await.0.contains("resourceVersion=8"));
}

#[tokio::test]
async fn what_is_no_api_server_is_trouble_with_a_remedy_and_is_asked_again() {
    let html = || Answer::Ends(vec![json!("<html>")]);
    let script = [html(), old_server(), page(7, "", &[]), Answer::Hangs(Vec::new())];
    let mut run = Run::new(script, |_| {}).await;
    run.told(&["list"]).await;
    while run.health.current_trouble().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let trouble = run.health.current_trouble().unwrap_or_default();
    assert!(trouble.contains("not what an API server answers"), "{trouble}");
    run.told(&["list", "list", "listed 7"]).await;
}

#[tokio::test]
async fn kubelet_s_read_only_port_is_asked_without_credentials_and_its_list_has_no_version() {
    let pods = json!({"kind": "PodList", "metadata": {}, "items": [{"metadata": {"name": "a"}}]});
    let (address, mut asked) = serve([Answer::Plain(200, pods)]).await;
    let server = kubelet_at(format!("http://{address}")).await.expect("a server");
    let (telling, mut told) = mpsc::unbounded_channel();
    list(&server, "pods", "/pods", &mut Told(telling)).await.expect("a list");
    for word in ["list", "Listed a ", "listed "] {
        assert_eq!(told.recv().await.as_deref(), Some(word));
    }
    assert_eq!(asked.recv().await, Some(("/pods".to_owned(), String::new())));
}

#[tokio::test]
async fn what_cannot_be_read_of_a_watch_does_not_come_again_and_again() {
    let listed = |version| vec![change("ADDED", "a", 5), bookmark(version, true)];
    let script = [
        Answer::Ends(listed(7)),
        Answer::Ends(vec![json!({"type": "MODIFIED", "object": 7})]),
        Answer::Hangs(listed(9)),
    ];
    let mut run = Run::new(script, |_| {}).await;
    run.told(&["list", "Listed a 5", "listed 7", "list", "Listed a 5", "listed 9"]).await;
    let _ = (run.asked().await, run.asked().await);
    assert!(run.asked().await.0.contains("sendInitialEvents=true"));
}

async fn kubelet_at(url: String) -> Result<Server, taffrail_api::ApiError> {
    let kubelet = KubeletConfig { enabled: true, url, ..KubeletConfig::default() };
    let config = ApiConfig { enabled: Wanted::Never, kubeconfig: None };
    Server::open_kubelet(&config, &kubelet, Counters::new()).await
}

#[tokio::test]
async fn pages_that_are_too_large_are_asked_for_in_smaller_parts() {
    let large = json!({"metadata": {"name": "x".repeat(9 << 20)}});
    let script = [page(7, "", &[large]), page(7, "next", &[pod("a", 5)]), page(7, "", &[pod("b", 6)])];
    let (address, mut asked) = serve(script).await;
    let server = kubelet_at(format!("http://{address}")).await.expect("a server");
    let mut names = Vec::new();
    let each = |object: &str| names.push(object.contains("\"a\""));
    let version = taffrail_api::pages(&server, "events", "/api/v1/events?x=y", each).await.expect("pages");
    assert_eq!((version.as_str(), names), ("7", vec![true, false]));
    for query in ["limit=500", "limit=125", "limit=125&continue=next"] {
        assert_eq!(asked.recv().await.map(|asked| asked.0), Some(format!("/api/v1/events?x=y&{query}")));
    }
}

#[tokio::test]
async fn an_address_without_a_scheme_is_refused() {
    for url in ["127.0.0.1:10250", "/pods", "ftp://127.0.0.1", "kubelet"] {
        let error = kubelet_at(url.to_owned()).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("https://HOST:PORT") || error.contains("kubelet.url"), "{url}: {error}");
    }
}
