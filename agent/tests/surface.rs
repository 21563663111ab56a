//! What a running agent shows, over real connections.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use serde_json::Value;
use taffrail::components::{Cause, Components, State};
use taffrail::config::{Config, load};
use taffrail::events::Timelines;
use taffrail::http::{Handle, Shipper, Surface, serve};
use taffrail::reload::Reload;
use taffrail::tap::{TapHub, TapRecord};
use taffrail::{client, ledger_report::LedgerReport};
use taffrail_exec::{AuditCollector, AuditConfig, Namer, Whose};
use taffrail_kernfs::Roots;
use taffrail_process::OwnProcess;
use taffrail_record::{
    Batch, Budget, Container, FileId, Flags, Ledger, Origin, Payload, Pod, Receipt, Record, Source, Span,
    Stream,
};

struct Agent {
    ledger: Arc<Ledger>,
    components: Arc<Components>,
    tap: Arc<TapHub>,
    trouble: Arc<AtomicBool>,
    reload_works: Arc<AtomicBool>,
    socket: PathBuf,
    address: SocketAddr,
    handle: Option<Handle>,
    _directory: tempfile::TempDir,
}

fn agent() -> Agent {
    let directory = tempfile::tempdir().expect("directory");
    let socket = directory.path().join("tap.sock");
    let variables =
        [("TAFFRAIL_NODE__NAME", "n<1"), ("TAFFRAIL_NODE__FIELDS", "{app.secret_token: hunter2}")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = load(None, variables).expect("valid");
    let (trouble, reload_works) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let (troubled, works) = (Arc::clone(&trouble), Arc::clone(&reload_works));
    let surface = Surface {
        timelines: Timelines::default(),
        audit: None,
        ledger: Ledger::new(),
        budget: Budget::new(1 << 20),
        asks: vec![Arc::new(OwnProcess)],
        pages: Vec::new(),
        shippers: Box::new(move || {
            let trouble = troubled.load(Ordering::SeqCst).then(|| "no broker answers".to_owned());
            vec![Shipper { name: "kafka".to_owned(), trouble }]
        }),
        components: Components::new(),
        tap: TapHub::new(),
        config: Arc::new(ArcSwap::from_pointee(config)),
        reload: Arc::new(Reload::new(move || match works.load(Ordering::SeqCst) {
            true => Ok("nothing changed".to_owned()),
            false => Err("t.yaml:1:1: unknown key `x`".to_owned()),
        })),
        web: None,
    };
    let (ledger, components, tap) =
        (Arc::clone(&surface.ledger), Arc::clone(&surface.components), Arc::clone(&surface.tap));
    let handle = serve(surface, Some(SocketAddr::from(([127, 0, 0, 1], 0))), Some(&socket)).expect("served");
    let address = handle.address().expect("listens");
    let handle = Some(handle);
    Agent { ledger, components, tap, trouble, reload_works, socket, address, handle, _directory: directory }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }
}

impl Agent {
    fn ask(&self, method: &str, target: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("connects");
        write!(stream, "{method} {target} HTTP/1.0\r\nHost: x\r\n{headers}\r\n").expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(answer[..end].to_vec()).expect("text").to_lowercase();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        Answer { status, head, body: answer[end + 4..].to_vec() }
    }

    fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "")
    }
}

fn batch(pod: &str, lines: &[&str]) -> Batch {
    let (mut data, mut records) = (Vec::new(), Vec::new());
    for line in lines {
        let start = data.len();
        data.extend_from_slice(line.as_bytes());
        records.push(Record {
            body: start as u32..data.len() as u32,
            span: Span::at(start as u64, line.len() as u64),
            time: 0,
            stream: Stream::Stderr,
            flags: Flags::NONE,
            extra: None,
        });
    }
    let account = Ledger::new().account(["", "", ""]);
    account.read(data.len() as u64);
    let pod = Pod { namespace: "shop".to_owned(), name: pod.to_owned(), ..Pod::default() };
    let container = Container { name: "app".to_owned(), ..Container::default() };
    Batch {
        payload: Payload::Line,
        origin: Arc::new(Origin { pod: Some(pod), container: Some(container), ..Origin::default() }),
        source: Arc::new(Source { id: FileId(1), path: PathBuf::from("/0.log"), device: 0, inode: 0 }),
        receipt: Receipt::new(Vec::new(), account, &records, None),
        data,
        records,
    }
}

#[test]
fn sessions_are_told_over_the_socket_and_an_agent_that_does_not_audit_says_how_it_would() {
    let agent = agent();
    let error = client::get(&agent.socket, "/sessions").expect_err("none");
    assert!(error.to_string().contains("set audit.enabled: true"), "{error}");
    assert_eq!(agent.get("/sessions").status, 404, "not for everybody");

    let directory = tempfile::tempdir().expect("directory");
    let socket = directory.path().join("tap.sock");
    let collector = AuditCollector::new(
        AuditConfig::default(),
        Arc::default(),
        Roots::default(),
        Arc::new(Nameless),
        directory.path(),
    );
    let surface = Surface {
        timelines: Timelines::default(),
        audit: Some(collector.handle()),
        ledger: Ledger::new(),
        budget: Budget::new(1),
        asks: Vec::new(),
        pages: Vec::new(),
        shippers: Box::new(Vec::new),
        components: Components::new(),
        tap: TapHub::new(),
        config: Arc::default(),
        reload: Arc::new(Reload::new(|| Ok(String::new()))),
        web: None,
    };
    let _served = serve(surface, None, Some(&socket)).expect("served");
    let body = client::get(&socket, "/sessions").expect("answered");
    let report: Value = serde_json::from_reader(body).expect("JSON");
    assert_eq!((&report["tier"], &report["trouble"]), (&Value::from("none"), &Value::Null));
    assert_eq!(report["sessions"], Value::Array(Vec::new()));
    assert!(report["node"].is_string());
}

/// Knows nobody.
struct Nameless;

impl Namer for Nameless {
    fn whose(&self, _: &str, _: &str) -> (Whose, bool) {
        (Whose::default(), true)
    }
}

#[test]
fn metrics_come_in_the_format_that_is_asked_for() {
    let agent = agent();
    agent.ledger.account(["shop", "web-1", "app"]).read(42);
    let text = agent.get("/metrics");
    assert_eq!(text.status, 200);
    assert!(text.head.contains("content-type: text/plain; version=0.0.4"), "{}", text.head);
    for line in [
        "taffrail_ledger_read_bytes 42\n",
        "taffrail_container_read_bytes{namespace=\"shop\",pod=\"web-1\",container=\"app\"} 42\n",
        "taffrail_scrape_collector_success{collector=\"process\"} 1\n",
        "taffrail_scrape_collector_success{collector=\"ledger\"} 1\n",
        "taffrail_config_last_reload_successful 1\n",
        "# TYPE process_cpu_seconds_total counter\n",
    ] {
        assert!(text.text().contains(line), "{line} in {}", text.text());
    }
    let open = agent.ask(
        "GET",
        "/metrics?collect[]=process",
        "Accept: application/openmetrics-text;version=1.0.0\r\n",
    );
    assert!(open.head.contains("application/openmetrics-text; version=1.0.0"), "{}", open.head);
    assert!(open.text().contains("# TYPE process_cpu_seconds counter\n") && open.text().ends_with("# EOF\n"));
    assert!(!open.text().contains("taffrail_ledger"), "only what was asked for");
    let second = agent.get("/metrics").text();
    assert!(second.contains("taffrail_http_requests_total{path=\"/metrics\",code=\"200\"} 2\n"), "{second}");
}

#[test]
fn a_large_answer_is_compressed_when_the_client_takes_it() {
    let agent = agent();
    let answer = agent.ask("GET", "/metrics", "Accept-Encoding: gzip\r\n");
    assert!(answer.head.contains("content-encoding: gzip"), "{}", answer.head);
    let mut text = String::new();
    flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text).expect("gzip");
    assert!(text.contains("taffrail_ledger_read_bytes 0\n"));
}

#[test]
fn readiness_follows_components_and_shippers() {
    let agent = agent();
    assert_eq!(agent.get("/readyz").status, 503, "nothing has been started");
    agent.components.set("logs", State::Running);
    assert_eq!(agent.get("/readyz").status, 200);
    agent.trouble.store(true, Ordering::SeqCst);
    agent.components.fail("logs", Cause::Error, "no inotify");
    let answer = agent.get("/readyz");
    let readiness: Value = serde_json::from_slice(&answer.body).expect("json");
    assert_eq!(answer.status, 503);
    assert_eq!(readiness["reasons"][1], "kafka: no broker answers");
    assert_eq!(readiness["components"][0]["last_error"], "no inotify");
    assert_eq!(agent.get("/healthz").status, 200);
}

#[test]
fn the_configuration_is_shown_without_secrets() {
    let agent = agent();
    let yaml = agent.get("/-/config").text();
    assert!(yaml.contains("127.0.0.1:9126") && !yaml.contains("hunter2"), "{yaml}");
    let json = agent.ask("GET", "/-/config", "Accept: application/json\r\n");
    let value: Value = serde_json::from_slice(&json.body).expect("json");
    assert_eq!(value["node"]["fields"]["app.secret_token"], "(redacted)");
    let read: Config = serde_saphyr::from_str(&yaml).expect("what is shown can be read");
    assert_eq!(read.node.name, "n<1");
}

#[test]
fn a_reload_is_answered_and_counted() {
    let agent = agent();
    assert_eq!(agent.get("/-/reload").status, 405);
    assert_eq!(agent.ask("POST", "/-/reload", "Content-Length: 0\r\n").status, 200);
    agent.reload_works.store(false, Ordering::SeqCst);
    let refused = agent.ask("POST", "/-/reload", "Content-Length: 0\r\n");
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("unknown key `x`"), "{}", refused.text());
    let metrics = agent.get("/metrics").text();
    assert!(metrics.contains("taffrail_config_last_reload_successful 0\n"));
    assert!(metrics.contains("taffrail_config_reloads_total{result=\"refused\"} 1\n"));
}

#[test]
fn the_index_lists_the_pages_and_escapes_the_node() {
    let agent = agent();
    let index = agent.get("/").text();
    assert!(index.contains("taffrail on n&lt;1") && index.contains("href=\"/metrics\""), "{index}");
    assert_eq!(agent.get("/nothing").status, 404);
    assert!(agent.get("/metrics").text().contains("path=\"other\",code=\"404\"} 1\n"));
}

#[test]
fn records_and_the_ledger_are_not_on_the_network() {
    let agent = agent();
    assert_eq!((agent.get("/tap").status, agent.get("/ledger").status), (404, 404));
}

#[test]
fn the_ledger_comes_over_the_socket() {
    let agent = agent();
    agent.ledger.account(["shop", "web-1", "app"]).read(42);
    let report: LedgerReport =
        serde_json::from_reader(client::get(&agent.socket, "/ledger").expect("answers")).expect("json");
    assert!(report.adds_up);
    assert_eq!((report.node.as_str(), report.accounts[0].carried_bytes), ("n<1", 42));
}

#[test]
fn matching_records_come_over_the_socket_as_they_pass() {
    let agent = agent();
    let target = format!("/tap?{}", client::query(&[("pod", Some("web")), ("grep", Some("o n|two"))]));
    let mut lines = client::get(&agent.socket, &target).expect("listens").lines();
    let first = lines.next().expect("a line").expect("readable");
    assert_eq!(first, "{\"unknown\":true}", "nothing of it was read yet");
    let _account = agent.ledger.account(["shop", "web-1", "app"]);
    let mut lines = client::get(&agent.socket, &target).expect("listens").lines();
    agent.tap.offer(&batch("web-1", &["to no one", "one", "two"]));
    agent.tap.offer(&batch("api-1", &["two"]));
    agent.tap.offer(&batch("web-2", &["two"]));
    let mut next = || lines.next().expect("a line").expect("readable");
    let messages = [next(), next(), next()].map(|line| {
        let record: TapRecord<'_> = serde_json::from_str(&line).expect("json");
        format!("{} {} {}", record.pod, record.stream, record.message)
    });
    assert_eq!(messages, ["web-1 stderr to no one", "web-1 stderr two", "web-2 stderr two"]);
}

#[test]
fn a_bad_filter_is_refused_with_its_reason() {
    let agent = agent();
    let error = client::get(&agent.socket, "/tap?grep=%28").expect_err("no expression");
    assert!(error.to_string().starts_with("the agent says: `(` is not a regular expression"), "{error}");
    let error = client::get(&agent.socket, "/tap?podd=x").expect_err("no such filter");
    assert!(error.to_string().contains("podd"), "{error}");
}

#[test]
fn a_stop_ends_those_who_listen_and_removes_the_socket() {
    let mut agent = agent();
    let mut body = client::get(&agent.socket, "/tap").expect("listens");
    agent.handle.take().expect("served").stop();
    let mut rest = Vec::new();
    body.read_to_end(&mut rest).expect("ends");
    assert!(rest.is_empty());
    assert!(!agent.socket.exists());
    assert!(TcpStream::connect(agent.address).is_err());
}

#[test]
fn a_second_agent_on_the_same_socket_is_refused() {
    let agent = agent();
    let surface = Surface {
        timelines: Timelines::default(),
        audit: None,
        ledger: Ledger::new(),
        budget: Budget::new(1),
        asks: Vec::new(),
        pages: Vec::new(),
        shippers: Box::new(Vec::new),
        components: Components::new(),
        tap: TapHub::new(),
        config: Arc::default(),
        reload: Arc::new(Reload::new(|| Ok(String::new()))),
        web: None,
    };
    let error = serve(surface, None, Some(&agent.socket)).err().expect("taken");
    assert!(error.to_string().starts_with("another agent listens on"), "{error}");
}
