//! Replies that a real engine cannot be made to give, by a stand-in that follows a script.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use taffrail_elasticsearch::{Auth, ElasticsearchConfig, check};
use taffrail_record::{LossReason, Secret, Ship as _};

mod support;
use support::{Event, Events, config, letters, metric, shipper, until, until_status};

/// What was asked.
#[derive(Debug, Clone)]
struct Asked {
    when: Instant,
    method: Method,
    path: String,
    login: String,
    body: String,
}

/// An answer of the script.
#[derive(Debug, Clone)]
enum Reply {
    /// As an engine that stores everything.
    Store,
    /// This status, header and body.
    Say(u16, Option<(&'static str, &'static str)>, String),
    /// As an engine, without the last bytes of the answer.
    Torn,
    /// As an engine, with the ids of other documents.
    Misplaced,
}

fn say(status: u16, body: impl Into<String>) -> Reply {
    Reply::Say(status, None, body.into())
}

#[derive(Debug, Default)]
struct Script {
    bulks: VecDeque<Reply>,
    /// By method and path, for what is not a bulk.
    others: Vec<(Method, &'static str, Reply)>,
    page: Option<Reply>,
    asked: Vec<Asked>,
    /// Every document that was answered for as stored, in order.
    stored: Vec<String>,
    /// Bodies beyond this many bytes are too large.
    largest: Option<usize>,
}

type Shared = Arc<Mutex<Script>>;

/// A stand-in that follows the script; it ends with the process.
fn stand_in(script: Script) -> (String, Shared) {
    let shared = Arc::new(Mutex::new(script));
    let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
    let (give, take) = std::sync::mpsc::channel::<SocketAddr>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            give.send(listener.local_addr().expect("address")).expect("told");
            axum::serve(listener, app).await.expect("served");
        });
    });
    (format!("http://{}", take.recv().expect("started")), shared)
}

async fn answer(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut script = shared.lock().expect("no panic");
    let path = uri.path().trim_start_matches('/').to_owned();
    let login = headers.get("authorization").and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
    let text = String::from_utf8_lossy(&body).into_owned();
    script.asked.push(Asked {
        when: Instant::now(),
        method: method.clone(),
        path: path.clone(),
        login,
        body: text.clone(),
    });
    if path == "_bulk" {
        if script.largest.is_some_and(|largest| body.len() > largest) {
            return respond(413, None, "too large".to_owned());
        }
        let reply = script.bulks.pop_front().unwrap_or(Reply::Store);
        return bulk(&mut script, reply, &text);
    }
    let engine = json!({"version": {"number": "8.19.0"}, "tagline": "You Know, for Search"}).to_string();
    let reply = match script.others.iter().find(|(of, at, _)| *of == method && path == *at) {
        Some((_, _, reply)) => reply.clone(),
        None if path.is_empty() => script.page.clone().unwrap_or(say(200, engine)),
        None if method == Method::GET => {
            say(404, r#"{"error":{"type":"resource_not_found_exception","reason":"x"}}"#)
        }
        None => say(200, r#"{"acknowledged":true}"#),
    };
    match reply {
        Reply::Say(status, header, body) => respond(status, header, body),
        _ => respond(500, None, String::new()),
    }
}

fn bulk(script: &mut Script, reply: Reply, text: &str) -> Response {
    if let Reply::Say(status, header, body) = reply {
        return respond(status, header, body);
    }
    let actions = text.lines().step_by(2).map(|line| serde_json::from_str::<Value>(line).expect("an action"));
    let mut ids: Vec<String> =
        actions.map(|it| it["create"]["_id"].as_str().expect("id").to_owned()).collect();
    if matches!(reply, Reply::Store) {
        script.stored.extend(ids.iter().cloned());
    }
    if matches!(reply, Reply::Misplaced) {
        ids.rotate_left(1);
    }
    let items: Vec<Value> = ids.iter().map(|id| json!({"create": {"_id": id, "status": 201}})).collect();
    let mut body = json!({"items": items}).to_string();
    if matches!(reply, Reply::Torn) {
        body.truncate(body.len() - 3);
    }
    respond(200, None, body)
}

fn respond(status: u16, header: Option<(&'static str, &'static str)>, body: String) -> Response {
    let mut response = (StatusCode::from_u16(status).expect("status"), body).into_response();
    if let Some((name, value)) = header {
        response.headers_mut().insert(name, value.parse().expect("value"));
    }
    response
}

fn plain(host: &str) -> ElasticsearchConfig {
    ElasticsearchConfig { gzip: false, requests: 1, ..config(host) }
}

fn numbered(count: usize) -> Vec<Event> {
    (0..count).map(Event::numbered).collect()
}

#[test]
fn answers_that_do_not_fit_confirm_nothing_and_are_told_of() -> Result<()> {
    for (reply, says) in [
        (Reply::Torn, "do not fit the requests"),
        (Reply::Misplaced, "do not fit the requests"),
        (say(200, "{}"), "do not fit the requests"),
        (say(200, "<html>Welcome to the proxy</html>"), "neither Elasticsearch nor OpenSearch"),
        (say(302, ""), "neither Elasticsearch nor OpenSearch"),
        (say(404, "404 page not found"), "neither Elasticsearch nor OpenSearch"),
        (say(400, "<html>plain HTTP request to HTTPS port"), "neither Elasticsearch nor OpenSearch"),
        (say(503, ""), "look into the engine's log"),
        (say(500, r#"{"error":{"type":"x","reason":"y"}}"#), "x: y"),
        (say(401, ""), "check the credentials"),
        (say(403, ""), "create_index"),
        (say(429, ""), "more memory or nodes"),
    ] {
        let script = Script { bulks: vec![reply.clone(); 4].into(), ..Script::default() };
        let (host, shared) = stand_in(script);
        let folder = tempfile::tempdir()?;
        let mut events = Events::new();
        let mut shipper = shipper(&plain(&host), folder.path());
        shipper.ship(events.batch(&numbered(3)));
        until_status(&mut shipper, says);
        assert_eq!(events.balance().confirmed.records, 0, "{reply:?}");
        until(&mut shipper, "the rest of the script", || events.is_settled());
        let status = shipper.status();
        until(&mut shipper, "the trouble to be over", || status.get().is_none());
        assert_eq!(shared.lock().expect("no panic").stored.len(), 3, "{reply:?}");
        assert_eq!(letters(folder.path()), Vec::<String>::new(), "{reply:?}");
    }
    Ok(())
}

#[test]
fn the_pause_that_is_asked_for_is_kept() -> Result<()> {
    for status in [429, 503] {
        let reply = Reply::Say(status, Some(("retry-after", "1")), String::new());
        let (host, shared) = stand_in(Script { bulks: [reply].into(), ..Script::default() });
        let folder = tempfile::tempdir()?;
        let mut events = Events::new();
        let mut shipper = shipper(&plain(&host), folder.path());
        shipper.ship(events.batch(&numbered(3)));
        until(&mut shipper, "all to be stored", || events.is_settled());
        let script = shared.lock().expect("no panic");
        let bulks: Vec<Instant> =
            script.asked.iter().filter(|it| it.path == "_bulk").map(|it| it.when).collect();
        assert!(bulks[1] - bulks[0] >= Duration::from_secs(1), "{:?}", bulks[1] - bulks[0]);
    }
    Ok(())
}

#[test]
fn a_request_that_is_too_large_is_divided_and_a_single_document_is_a_dead_letter() -> Result<()> {
    let (host, shared) = stand_in(Script { largest: Some(20_000), ..Script::default() });
    let folder = tempfile::tempdir()?;
    let mut events = Events::new();
    let mut shipper = shipper(&plain(&host), folder.path());
    let mut all = numbered(300);
    all[150] = Event::new("giant", format!(r#"{{"message":"{}"}}"#, "x".repeat(50_000)));
    shipper.ship(events.batch(&all));
    until(&mut shipper, "all to be settled", || events.is_settled());
    let balance = events.balance();
    assert_eq!(balance.confirmed.records, 299);
    assert_eq!(balance.lost[LossReason::TooLarge as usize].records, 1);
    let found = letters(folder.path());
    assert!(found.len() == 1 && found[0].contains(r#""status":413"#), "{found:.300?}");
    let mut stored = shared.lock().expect("no panic").stored.clone();
    stored.sort();
    stored.dedup();
    assert_eq!(stored.len(), 299);
    Ok(())
}

#[test]
fn one_document_that_makes_a_whole_request_invalid_is_found_and_kept_as_a_dead_letter() -> Result<()> {
    let invalid = r#"{"error":{"type":"action_request_validation_exception","reason":"id is too long"}}"#;
    // Eight documents: halves are refused until one is alone.
    let script = Script { bulks: vec![say(400, invalid); 4].into(), ..Script::default() };
    let (host, shared) = stand_in(script);
    let folder = tempfile::tempdir()?;
    let mut events = Events::new();
    let mut shipper = shipper(&plain(&host), folder.path());
    shipper.ship(events.batch(&numbered(8)));
    until(&mut shipper, "all to be settled", || events.is_settled());
    assert_eq!(shared.lock().expect("no panic").stored.len(), 7);
    assert!(letters(folder.path())[0].contains("id is too long"));
    Ok(())
}

#[test]
fn an_index_that_the_cluster_has_no_room_for_is_waited_for() -> Result<()> {
    let full = r#"{"items":[{"create":{"_id":"id-00000000","status":400,"error":{"type":"validation_exception",
        "reason":"Validation Failed: 1: this action would add [2] shards, but this cluster currently has [1000]/[1000] maximum normal shards open;"}}}]}"#;
    let (host, shared) = stand_in(Script { bulks: vec![say(200, full); 3].into(), ..Script::default() });
    let folder = tempfile::tempdir()?;
    let mut events = Events::new();
    let mut shipper = shipper(&plain(&host), folder.path());
    shipper.ship(events.batch(&numbered(1)));
    until_status(&mut shipper, "cluster.max_shards_per_node");
    until(&mut shipper, "room", || events.is_settled());
    assert_eq!(shared.lock().expect("no panic").stored.len(), 1);
    assert_eq!(metric(&shipper, "taffrail_elasticsearch_retried_documents_total", "shards"), 3.0);
    Ok(())
}

#[test]
fn each_login_is_sent_with_every_request() -> Result<()> {
    let secret = |text: &str| Some(Secret::from(text.to_owned()));
    for (auth, expected) in [
        (Auth { api_key: secret("id:key"), ..Auth::default() }, "ApiKey aWQ6a2V5"),
        (Auth { bearer_token: secret("t"), ..Auth::default() }, "Bearer t"),
        (Auth { username: Some("u".to_owned()), password: secret("p"), ..Auth::default() }, "Basic dTpw"),
    ] {
        let (host, shared) = stand_in(Script::default());
        let folder = tempfile::tempdir()?;
        let mut events = Events::new();
        let config = ElasticsearchConfig { auth: Some(auth), ..plain(&host) };
        let mut shipper = shipper(&config, folder.path());
        shipper.ship(events.batch(&numbered(1)));
        until(&mut shipper, "it to be stored", || events.is_settled());
        let script = shared.lock().expect("no panic");
        assert!(script.asked.len() >= 4 && script.asked.iter().all(|it| it.login == expected), "{script:?}");
    }
    Ok(())
}

#[test]
fn the_first_contact_is_repeated_until_an_engine_answers_also_when_nothing_is_to_be_sent() -> Result<()> {
    let script = Script { page: Some(say(200, r#"{"name":"something else"}"#)), ..Script::default() };
    let (host, shared) = stand_in(script);
    let folder = tempfile::tempdir()?;
    let mut shipper = shipper(&plain(&host), folder.path());
    let status = until_status(&mut shipper, "neither Elasticsearch nor OpenSearch");
    assert!(status.contains(&host), "{status}");
    assert!(!check(&plain(&host), folder.path())?.is_usable());
    shared.lock().expect("no panic").page = None;
    let status = shipper.status();
    until(&mut shipper, "the trouble to be over", || status.get().is_none());
    let asked = shared.lock().expect("no panic").asked.len();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(shared.lock().expect("no panic").asked.len(), asked, "an idle shipper asks nothing");
    Ok(())
}

/// What a shipper with this retention does about its policy: what it puts, where.
fn policy(script: Script, data_stream: bool) -> Result<Vec<(String, Value)>> {
    let (host, shared) = stand_in(script);
    let folder = tempfile::tempdir()?;
    let mut events = Events::new();
    let mut config = ElasticsearchConfig { retention: Some("30d".to_owned()), data_stream, ..plain(&host) };
    if data_stream {
        config.index = "taffrail-events".to_owned().try_into()?;
    }
    let mut shipper = shipper(&config, folder.path());
    shipper.ship(events.batch(&numbered(1)));
    until(&mut shipper, "it to be stored", || events.is_settled());
    let script = shared.lock().expect("no panic");
    let puts = script.asked.iter().filter(|it| it.method == Method::PUT);
    Ok(puts.map(|it| (it.path.clone(), serde_json::from_str(&it.body).expect("json"))).collect())
}

const ILM: &str = "_ilm/policy/taffrail-events";
const ISM: &str = "_plugins/_ism/policies/taffrail-events";

#[test]
fn elasticsearch_gets_a_policy_that_the_template_names_and_a_persons_is_left_alone() -> Result<()> {
    let there = |meta: Value| {
        let page = json!({"taffrail-events": {"version": 3, "policy": {"_meta": meta, "phases": {}}}});
        Script { others: vec![(Method::GET, ILM, say(200, page.to_string()))], ..Script::default() }
    };
    let puts = policy(Script::default(), false)?;
    let [(path, made), (_, template)] = puts.as_slice() else { panic!("{puts:?}") };
    assert_eq!(path, ILM);
    assert_eq!(made["policy"]["phases"]["delete"]["min_age"], "30d");
    assert_eq!(made["policy"]["_meta"]["revision"], 1);
    assert_eq!(template["template"]["settings"]["index"]["lifecycle"]["name"], "taffrail-events");

    let ours = json!({"managed_by": "taffrail", "revision": 3, "retention": "30d", "rollover": false});
    let mut older = ours.clone();
    older["retention"] = json!("7d");
    let mut touched = older.clone();
    touched["revision"] = json!(2);
    for (meta, expected) in [(ours, None), (older, Some(4)), (touched, None), (Value::Null, None)] {
        let puts = policy(there(meta.clone()), false)?;
        let made = puts.iter().find(|(path, _)| path == ILM);
        assert_eq!(
            made.map(|(_, it)| it["policy"]["_meta"]["revision"].clone()),
            expected.map(|it| json!(it)),
            "{meta}"
        );
    }
    let puts = policy(Script::default(), true)?;
    assert_eq!(puts[0].1["policy"]["phases"]["hot"]["actions"]["rollover"]["max_age"], "1d");
    assert_eq!(puts[1].1["data_stream"], json!({}));
    Ok(())
}

#[test]
fn opensearch_gets_a_policy_that_finds_its_indices_and_a_persons_is_left_alone() -> Result<()> {
    let opensearch = || {
        let page = json!({"version": {"number": "2.19.0", "distribution": "opensearch"}});
        Script { page: Some(say(200, page.to_string())), ..Script::default() }
    };
    let there = |description: &str| {
        let page =
            json!({"_version": 3, "_seq_no": 17, "_primary_term": 2, "policy": {"description": description}});
        Script { others: vec![(Method::GET, ISM, say(200, page.to_string()))], ..opensearch() }
    };
    let puts = policy(opensearch(), false)?;
    let made = &puts.iter().find(|(path, _)| path == ISM).expect("a policy").1["policy"];
    assert_eq!(made["ism_template"][0]["index_patterns"], json!(["taffrail-events-*"]));
    assert_eq!(made["states"][0]["transitions"][0]["conditions"]["min_index_age"], "30d");
    for (description, expected) in [
        ("Events kept for 30d; managed by taffrail, revision 3", false),
        ("Events kept for 7d; managed by taffrail, revision 3", true),
        ("Events kept for 7d; managed by taffrail, revision 2", false),
        ("mine", false),
    ] {
        let puts = policy(there(description), false)?;
        assert_eq!(puts.iter().any(|(path, _)| path == ISM), expected, "{description}");
    }
    Ok(())
}

#[test]
fn a_template_that_may_not_be_managed_is_a_remark_and_holds_nothing_up() -> Result<()> {
    let forbidden = say(403, r#"{"error":{"type":"security_exception","reason":"no permissions"}}"#);
    let template = "_index_template/taffrail-events";
    let script = Script { others: vec![(Method::GET, template, forbidden)], ..Script::default() };
    let (host, _shared) = stand_in(script);
    let folder = tempfile::tempdir()?;
    let mut events = Events::new();
    let mut shipper = shipper(&plain(&host), folder.path());
    shipper.ship(events.batch(&numbered(1)));
    until(&mut shipper, "it to be stored", || events.is_settled());
    assert_eq!(metric(&shipper, "taffrail_elasticsearch_template_ok", ""), 0.0);
    let report = check(&plain(&host), folder.path())?;
    assert!(report.remarks.iter().any(|it| it.text.contains("no permissions")), "{report:?}");
    Ok(())
}

#[test]
fn who_may_only_write_need_not_see_who_it_is() -> Result<()> {
    let reason = "action [cluster:monitor/main] is unauthorized for API key";
    let error = json!({"error": {"type": "security_exception", "reason": reason}, "status": 403});
    let (host, shared) = stand_in(Script { page: Some(say(403, error.to_string())), ..Script::default() });
    let folder = tempfile::tempdir()?;
    let mut events = Events::new();
    let mut shipper = shipper(&plain(&host), folder.path());
    shipper.ship(events.batch(&numbered(1)));
    until(&mut shipper, "it to be stored", || events.is_settled());
    let script = shared.lock().expect("no panic");
    let template = script.asked.iter().find(|it| it.method == Method::PUT).expect("a template");
    assert!(template.body.contains("flattened"), "{template:?}");
    Ok(())
}

#[test]
fn a_dead_letter_that_cannot_be_written_is_waited_for_and_not_declared_lost() -> Result<()> {
    let (host, _shared) = stand_in(Script::default());
    let folder = tempfile::tempdir()?;
    let mut events = Events::new();
    let mut shipper = shipper(&plain(&host), folder.path());
    let directory = folder.path().join("dead-letter");
    std::fs::remove_dir(&directory)?;
    shipper.ship(events.batch(&[Event::new("a", b"[]".to_vec()), Event::numbered(1)]));
    until_status(&mut shipper, "cannot keep a dead letter");
    assert_eq!(events.balance().lost_bytes(), 0);
    std::fs::create_dir(&directory)?;
    until(&mut shipper, "it to be written", || events.is_settled());
    assert_eq!(events.balance().lost[LossReason::Refused as usize].records, 1);
    assert_eq!(letters(folder.path()).len(), 1);
    assert_eq!(shipper.status().get(), None);
    Ok(())
}
