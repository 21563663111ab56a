//! Against real engines: what is stored is what was sent, no more and no less.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use taffrail_elasticsearch::{Auth, ElasticsearchConfig, Product, Tls, check, resend};
use taffrail_parts::search::LOGIN;
use taffrail_parts::{SearchEngine, SearchOptions};
use taffrail_record::{Budget, LossReason, Secret, Ship as _};

mod support;
use support::{Event, Events, INDEX, TIME, config, letters, metric, shipper, until, until_status};

const TEMPLATE: &str = "_index_template/taffrail-events";

fn engines() -> Result<[SearchEngine; 2]> {
    Ok([
        SearchEngine::opensearch(SearchOptions::default())?,
        SearchEngine::elasticsearch(SearchOptions::default())?,
    ])
}

/// Ids and documents of all indices of events.
fn stored(engine: &SearchEngine) -> Result<Vec<(String, Value)>> {
    engine.documents("taffrail-events-*")
}

fn sent(events: &[Event]) -> Vec<(String, Value)> {
    let document = |event: &Event| serde_json::from_slice(&event.body).expect("json");
    let mut sent: Vec<_> = events.iter().map(|event| (event.id.clone(), document(event))).collect();
    sent.sort_by(|one, other| one.0.cmp(&other.0));
    sent
}

#[test]
fn each_event_is_stored_once_however_often_it_is_sent_under_its_own_days_index() -> Result<()> {
    for engine in engines()? {
        let folder = tempfile::tempdir()?;
        let mut events = Events::new();
        let mut all: Vec<Event> = (0..50).map(Event::numbered).collect();
        all[0].body = br#"{"kubernetes":{"labels":{"app":"x","other":1}},"message":"one"}"#.to_vec();
        all[1].body = br#"{"kubernetes":{"labels":{"app.kubernetes.io/name":"y","app":{"z":true}}},
            "labels":{"a":{"b":"c"}}, "message":"two", "@timestamp":"2026-11-22T10:00:00.123456789Z"}"#
            .to_vec();
        all[2].time = TIME - 1;
        // Nothing spoils a document but what its own time says.
        all[3].body = br#"{"event":{"created":"never","severity":"high"},"kubernetes":{"annotations":{"a":"b","a.c":{}}}}"#.to_vec();
        all[4].body = format!(r#"{{"message":"{}"}}"#, "ü".repeat(500_000)).into_bytes();
        all[5].body = format!(
            r#"{{"kubernetes":{{"annotations":{{"big":"{}"}}}},"event":{{"reason":"{}"}}}}"#,
            "a".repeat(100_000),
            "b".repeat(100_000)
        )
        .into_bytes();
        all[6].id = "an id with \"quotes\", / and ü".to_owned();
        let mut shipper = shipper(&config(&engine.url()), folder.path());
        for _ in 0..2 {
            shipper.ship(events.batch(&all));
            until(&mut shipper, "all to be stored", || events.is_settled());
        }

        assert_eq!(stored(&engine)?, sent(&all));
        assert_eq!(letters(folder.path()), Vec::<String>::new());
        assert_eq!(engine.count("taffrail-events-2026.11.21")?, 1);
        assert_eq!(engine.count(INDEX)?, 49);
        assert_eq!(events.balance().confirmed.records, 100);
        assert_eq!(metric(&shipper, "taffrail_elasticsearch_documents_total", "stored"), 50.0);
        assert_eq!(metric(&shipper, "taffrail_elasticsearch_documents_total", "duplicate"), 50.0);
        assert_eq!(metric(&shipper, "taffrail_elasticsearch_up", &engine.url()), 1.0);

        let mapping = engine.json("GET", &format!("{INDEX}/_mapping"), None)?;
        let field = |name: &str| mapping.pointer(&format!("/{INDEX}/mappings/properties/{name}")).cloned();
        let label = field("kubernetes/properties/labels/type");
        assert!(label == Some(json!("flat_object")) || label == Some(json!("flattened")), "{label:?}");
        assert_eq!(field("@timestamp/type"), Some(json!("date_nanos")));
        for query in ["kubernetes.labels.app:x", "message:restarting", "event.reason:BackOff"] {
            let found = engine.json("GET", &format!("{INDEX}/_search?q={query}"), None)?;
            assert_ne!(found.pointer("/hits/total/value"), Some(&json!(0)), "{query}");
        }
        assert_eq!(shipper.status().get(), None);
    }
    Ok(())
}

#[test]
fn the_template_is_brought_up_to_date_until_a_person_changes_it() -> Result<()> {
    for engine in engines()? {
        let folder = tempfile::tempdir()?;
        let mut events = Events::new();
        let mut send = |config: &ElasticsearchConfig, id: &str| -> Result<Value> {
            let mut shipper = shipper(config, folder.path());
            shipper.ship(events.batch(&[Event::new(id, "{}")]));
            until(&mut shipper, "it to be stored", || events.is_settled());
            let found = engine.json("GET", TEMPLATE, None)?;
            found.pointer("/index_templates/0/index_template").cloned().context("no template")
        };
        let plain = config(&engine.url());
        let first = send(&plain, "a")?;
        assert_eq!(first["_meta"]["managed_by"], "taffrail");
        assert_eq!(send(&plain, "b")?, first, "the engine gives it back as another than it is");

        // An older one of ours, as it left our hands: replaced.
        let mut wider = plain.clone();
        wider.index = "taffrail-events-{cluster}-{yyyy}".to_owned().try_into()?;
        let older = send(&wider, "c")?;
        assert_eq!(older["index_patterns"], json!(["taffrail-events-*-*"]));
        assert_eq!(send(&plain, "d")?, first);

        // One that somebody has changed: left alone.
        let mut changed = first.clone();
        changed["template"]["settings"]["index"]["number_of_replicas"] = json!("0");
        engine.json("PUT", TEMPLATE, Some(&changed))?;
        let kept = send(&wider, "e")?;
        assert_eq!(kept["template"]["settings"]["index"]["number_of_replicas"], "0");
        assert_eq!(kept["index_patterns"], first["index_patterns"]);
        let report = check(&plain, folder.path())?;
        assert!(report.remarks.iter().any(|it| it.text.contains("changed by a person")), "{report:?}");
    }
    Ok(())
}

#[test]
fn retention_where_the_engine_has_none_is_a_remark_and_holds_nothing_up() -> Result<()> {
    for engine in engines()? {
        let folder = tempfile::tempdir()?;
        let mut events = Events::new();
        let config = ElasticsearchConfig { retention: Some("30d".to_owned()), ..config(&engine.url()) };
        let mut shipper = shipper(&config, folder.path());
        shipper.ship(events.batch(&[Event::numbered(1)]));
        until(&mut shipper, "it to be stored", || events.is_settled());
        assert_eq!(shipper.status().get(), None);
        assert_eq!(metric(&shipper, "taffrail_elasticsearch_template_ok", ""), 0.0);
        engine.json("GET", TEMPLATE, None)?;
        let report = check(&config, folder.path())?;
        let policy =
            report.remarks.iter().find(|it| it.subject == "lifecycle policy").context("no remark")?;
        assert!(policy.text.contains("no lifecycle policy"), "{policy:?}");
        assert!(policy.remedy.contains("retention"), "{policy:?}");
        let product = report.nodes[0].product.context("no product")?;
        assert_eq!(product == Product::OpenSearch, engine.product() == taffrail_parts::Product::OpenSearch);
        assert!(report.is_usable() && report.nodes[0].version.contains(".19."), "{report:?}");
    }
    Ok(())
}

#[test]
fn what_conflicts_with_the_mapping_is_a_dead_letter_and_is_sent_again_once_that_is_mended() -> Result<()> {
    for engine in engines()? {
        let folder = tempfile::tempdir()?;
        let mut events = Events::new();
        let config = config(&engine.url());
        let mapping =
            json!({"mappings": {"properties": {"event": {"properties": {"risk": {"type": "long"}}}}}});
        engine.json("PUT", INDEX, Some(&mapping))?;
        let mut shipper = shipper(&config, folder.path());
        let good = Event::numbered(1);
        let bad = [
            Event::new("bad", r#"{"event":{"risk":"high"}}"#),
            Event::new("broken", b"\xff not json".to_vec()),
            Event::new("", "{}"),
        ];
        shipper.ship(events.batch(std::slice::from_ref(&good)));
        shipper.ship(events.batch(&bad));
        until(&mut shipper, "all to be settled", || events.is_settled());

        let balance = events.balance();
        assert_eq!((balance.confirmed.records, balance.lost[LossReason::Refused as usize].records), (1, 3));
        let found: Vec<Value> =
            letters(folder.path()).iter().map(|line| serde_json::from_str(line).expect("json")).collect();
        let kind = |letter: &Value| letter["type"].as_str().unwrap_or_default().to_owned();
        let of = |id: &str| found.iter().find(|letter| letter["id"] == id).cloned().unwrap_or_default();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(kind(&of("bad")).ends_with("_parsing_exception"), "{found:?}");
        assert!(of("bad")["reason"].as_str().is_some_and(|text| text.contains("risk")), "{found:?}");
        assert_eq!(of("bad")["document"], json!({"event": {"risk": "high"}}));
        assert_eq!((of("bad")["status"].clone(), of("bad")["index"].clone()), (json!(400), json!(INDEX)));
        assert_eq!(
            (kind(&of("broken")).as_str(), kind(&of("")).as_str()),
            ("taffrail_invalid_utf8", "taffrail_invalid_id")
        );
        let report = check(&config, &folder.path().join("dead-letter"))?;
        assert!(report.remarks.iter().any(|it| it.subject == "dead letters"), "{report:?}");

        let directory = folder.path().join("dead-letter");
        let summary = resend(&directory, &config)?;
        let counts = (summary.letters, summary.stored, summary.refused, summary.unsendable);
        assert_eq!(counts, (3, 0, 1, 2), "{summary:?}");
        assert!(summary.reason.as_ref().is_some_and(|text| text.contains("risk")), "{summary:?}");

        // The shipper goes on meanwhile, and the index is made anew with a mapping that takes the document.
        engine.json("DELETE", INDEX, None)?;
        engine.json("PUT", INDEX, None)?;
        shipper.ship(events.batch(&[Event::new("worse", b"[]".to_vec()), good.clone()]));
        until(&mut shipper, "all to be settled", || events.is_settled());
        let summary = resend(&directory, &config)?;
        assert_eq!((summary.letters, summary.stored, summary.unsendable), (4, 1, 3), "{summary:?}");
        let mut expected = sent(&[good, bad[0].clone()]);
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(stored(&engine)?, expected);
        assert_eq!(letters(folder.path()).len(), 3);
    }
    Ok(())
}

#[test]
fn an_engine_that_pushes_back_gets_smaller_requests_and_all_documents_in_the_end() -> Result<()> {
    for engine in engines()? {
        let folder = tempfile::tempdir()?;
        let mut events = Events::new();
        let mut shipper = shipper(&config(&engine.url()), folder.path());
        let all: Vec<Event> = (0..3000).map(Event::numbered).collect();
        engine.set("network.breaker.inflight_requests.limit", &json!("24kb"))?;
        for chunk in all.chunks(500) {
            shipper.ship(events.batch(chunk));
        }
        let counters = shipper.metrics();
        until(&mut shipper, "requests to be refused", || {
            let mut gathered = taffrail_record::Gathered::default();
            counters.ask(&mut gathered).expect("asked");
            gathered.samples().iter().any(|it| it.labels.contains("429") && it.value > 2.0)
        });
        assert!(metric(&shipper, "taffrail_elasticsearch_batch_documents", "") < 1000.0);
        until(&mut shipper, "small requests to pass", || events.balance().confirmed.records > 0);
        engine.set("network.breaker.inflight_requests.limit", &Value::Null)?;
        until(&mut shipper, "all to be stored", || events.is_settled());
        assert_eq!(stored(&engine)?, sent(&all));
        assert_eq!(shipper.status().get(), None);
    }
    Ok(())
}

#[test]
fn a_blocked_or_missing_index_makes_its_documents_wait_and_no_others() -> Result<()> {
    for engine in engines()? {
        let folder = tempfile::tempdir()?;
        let mut events = Events::new();
        let mut other = Events::new();
        let mut shipper = shipper(&config(&engine.url()), folder.path());
        engine.json("PUT", INDEX, None)?;
        let block = |name: &str, value: Value| {
            engine.json("PUT", &format!("{INDEX}/_settings"), Some(&json!({name: value})))
        };
        let mut all = Vec::new();
        for (number, name, says) in [
            (1, "index.blocks.read_only_allow_delete", "free disk space"),
            (2, "index.blocks.write", "lift the index's block"),
        ] {
            block(name, json!(true))?;
            all.push(Event::numbered(number));
            shipper.ship(events.batch(&all[all.len() - 1..]));
            let status = until_status(&mut shipper, says);
            assert!(status.contains(INDEX), "{status}");
            let yesterday = Event { time: TIME - 1, ..Event::numbered(100 + number) };
            shipper.ship(other.batch(&[yesterday]));
            until(&mut shipper, "another index's document", || other.is_settled());
            assert!(!events.is_settled(), "a blocked index took a document");
            block(name, Value::Null)?;
            until(&mut shipper, "it to be stored", || events.is_settled());
            let status = shipper.status();
            until(&mut shipper, "the trouble to be over", || status.get().is_none());
        }

        engine.set("action.auto_create_index", &json!("false"))?;
        let tomorrow = Event { time: TIME + 86_400_000_000_000, ..Event::numbered(3) };
        shipper.ship(events.batch(std::slice::from_ref(&tomorrow)));
        until_status(&mut shipper, "action.auto_create_index");
        assert!(!events.is_settled());
        engine.set("action.auto_create_index", &Value::Null)?;
        until(&mut shipper, "it to be stored", || events.is_settled());
        assert_eq!(stored(&engine)?.len(), 5);
        assert_eq!(letters(folder.path()), Vec::<String>::new());
    }
    Ok(())
}

#[test]
fn a_disk_that_is_too_full_makes_events_wait_until_there_is_room() -> Result<()> {
    let engine = SearchEngine::opensearch(SearchOptions::default())?;
    let watermarks = |free: &str| {
        let name = |mark: &str| format!("cluster.routing.allocation.disk.watermark.{mark}");
        let marks = ["low", "high", "flood_stage"].map(|mark| (name(mark), json!(free)));
        let mut settings = serde_json::Map::from_iter(marks);
        // No more often does it look at its disk.
        settings.insert("cluster.info.update.interval".to_owned(), json!("10s"));
        settings.insert("cluster.routing.allocation.disk.threshold_enabled".to_owned(), json!("true"));
        engine.json("PUT", "_cluster/settings", Some(&json!({"transient": settings}))).map(drop)
    };
    let folder = tempfile::tempdir()?;
    let mut events = Events::new();
    let mut shipper = shipper(&config(&engine.url()), folder.path());
    let all = [Event::numbered(1), Event::numbered(2)];
    shipper.ship(events.batch(&all[..1]));
    until(&mut shipper, "the first to be stored", || events.is_settled());
    // More than any disk has free.
    watermarks("900tb")?;
    until(&mut shipper, "the engine to close its index", || {
        let settings = engine.json("GET", &format!("{INDEX}/_settings"), None).unwrap_or_default();
        settings[INDEX]["settings"]["index"]["blocks"]["read_only_allow_delete"] == "true"
    });
    shipper.ship(events.batch(&all[1..]));
    let status = until_status(&mut shipper, "free disk space");
    assert!(status.contains(INDEX) && !events.is_settled(), "{status}");
    // Where there is room again the engine opens it by itself.
    watermarks("1b")?;
    until(&mut shipper, "it to be stored", || events.is_settled());
    assert_eq!(stored(&engine)?, sent(&all));
    assert_eq!(letters(folder.path()), Vec::<String>::new());
    Ok(())
}

#[test]
fn kills_and_freezes_in_the_middle_neither_lose_nor_double_a_document() -> Result<()> {
    for mut engine in engines()? {
        let folder = tempfile::tempdir()?;
        let mut events = Events::new();
        let config = ElasticsearchConfig { timeout_ms: 2000, ..config(&engine.url()) };
        let mut shipper = shipper(&config, folder.path());
        let all: Vec<Event> = (0..10_000).map(Event::numbered).collect();
        let mut chunks = all.chunks(125);
        let mut ship = |shipper: &mut taffrail_elasticsearch::ElasticsearchShipper, count: usize| {
            for chunk in chunks.by_ref().take(count) {
                shipper.ship(events.batch(chunk));
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        for round in 0..4 {
            ship(&mut shipper, 10);
            if round % 2 == 0 {
                engine.kill();
                ship(&mut shipper, 10);
                until_status(&mut shipper, "check elasticsearch.hosts");
                engine.start_again()?;
            } else {
                engine.freeze()?;
                ship(&mut shipper, 10);
                until_status(&mut shipper, "timeout_ms");
                engine.thaw()?;
            }
        }
        until(&mut shipper, "all to be stored", || events.is_settled());
        assert_eq!(events.balance().confirmed.records, 10_000);
        assert_eq!(stored(&engine)?, sent(&all));
        assert_eq!(shipper.status().get(), None);
    }
    Ok(())
}

#[test]
fn what_is_not_stored_at_the_end_is_abandoned_and_memory_is_bounded_while_the_engine_is_away() -> Result<()> {
    let mut engine = SearchEngine::opensearch(SearchOptions::default())?;
    let folder = tempfile::tempdir()?;
    let mut events = Events::new();
    let budget = Budget::new(8 << 20);
    let mut first = shipper(&config(&engine.url()), folder.path());
    let all: Vec<Event> = (0..60_000).map(Event::numbered).collect();
    engine.kill();
    let before = resident()?;
    let mut chunks = all.chunks(500);
    let mut taken = 0;
    for chunk in chunks.by_ref() {
        let Some(batch) = events.charged(chunk, Some(&budget)) else { break };
        taken += chunk.len();
        first.ship(batch);
    }
    assert!(taken > 2000 && taken < 40_000, "{taken} documents fit into the budget");
    until_status(&mut first, "check elasticsearch.hosts");
    let grown = resident()?.saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more for a budget of 8 MiB");
    first.drain(Instant::now() + Duration::from_millis(200));
    drop(first);
    assert_eq!(events.balance().confirmed.records, 0, "nothing was there to confirm it");
    assert_eq!(budget.level().0, 0, "abandoned batches give their memory back");

    engine.start_again()?;
    let mut second = shipper(&config(&engine.url()), folder.path());
    let mut events = Events::new();
    let again = &all[..10_000];
    for chunk in again.chunks(500) {
        let batch = loop {
            if let Some(batch) = events.charged(chunk, Some(&budget)) {
                break batch;
            }
        };
        second.ship(batch);
    }
    second.drain(Instant::now() + Duration::from_secs(240));
    assert!(events.is_settled(), "a drain with time sends everything");
    assert_eq!(engine.count("taffrail-events-*")?, 10_000);
    Ok(())
}

/// Bytes of memory that this process has.
fn resident() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).context("no figure")?.parse()?;
    Ok(pages * 4096)
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a password that is exchanged need not survive")]
fn only_who_knows_the_password_and_trusts_the_certificate_gets_in() -> Result<()> {
    let wants_certificates = ("plugins.security.ssl.http.clientauth_mode".to_owned(), "REQUIRE".to_owned());
    let settings = vec![wants_certificates];
    let options = SearchOptions { secure: true, heap_mib: 384, settings, ..SearchOptions::default() };
    let engine = SearchEngine::opensearch(options)?;
    let folder = tempfile::tempdir()?;
    let password = folder.path().join("password");
    std::fs::write(&password, "wrong\n")?;
    let files = engine.tls().context("no certificates")?.clone();
    let auth =
        Auth { username: Some(LOGIN.0.to_owned()), password_file: Some(password.clone()), ..Auth::default() };
    let tls = Tls {
        ca_file: Some(files.authority),
        certificate_file: Some(files.certificate),
        key_file: Some(files.key),
        ..Tls::default()
    };
    let secure = ElasticsearchConfig { auth: Some(auth), tls, ..config(&engine.url()) };
    assert_eq!(secure.validate(), []);

    let mut events = Events::new();
    let mut shipper = support::shipper(&secure, folder.path());
    shipper.ship(events.batch(&[Event::numbered(1)]));
    let status = until_status(&mut shipper, "check the credentials under elasticsearch.auth");
    assert!(!status.contains("wrong"), "{status}");
    let report = check(&secure, folder.path())?;
    assert!(!report.is_usable(), "{report:?}");
    std::fs::write(&password, LOGIN.1)?;
    until(&mut shipper, "the new password to be used", || events.is_settled());
    assert_eq!(engine.count(INDEX)?, 1);
    assert!(check(&secure, folder.path())?.is_usable());

    let nameless = Tls { certificate_file: None, key_file: None, ..secure.tls.clone() };
    let nameless = ElasticsearchConfig { tls: nameless, ..secure.clone() };
    assert!(!check(&nameless, folder.path())?.is_usable(), "it asks for our certificate");
    let strange = Tls { ca_file: None, ..secure.tls.clone() };
    let strange = ElasticsearchConfig { tls: strange, ..secure.clone() };
    let report = check(&strange, folder.path())?;
    let problem = report.nodes[0].problem.clone().context("an unknown authority passed")?;
    assert!(problem.text.contains("certificate") && problem.remedy.contains("tls"), "{problem:?}");
    let careless = Tls { insecure_skip_verify: true, ca_file: None, ..secure.tls.clone() };
    assert!(check(&ElasticsearchConfig { tls: careless, ..secure.clone() }, folder.path())?.is_usable());
    let nobody = Some(Auth { api_key: Some(Secret::from("bm86a2V5".to_owned())), ..Auth::default() });
    let report = check(&ElasticsearchConfig { auth: nobody, ..secure }, folder.path())?;
    let problem = report.nodes[0].problem.clone().context("an unknown key passed")?;
    assert!(problem.text.contains("401") && problem.remedy.contains("credentials"), "{problem:?}");
    Ok(())
}

#[test]
fn a_node_that_is_down_is_passed_over() -> Result<()> {
    let engine = SearchEngine::opensearch(SearchOptions::default())?;
    let gone = std::net::TcpListener::bind("127.0.0.1:0")?;
    let dead = format!("http://{}", gone.local_addr()?);
    drop(gone);
    let folder = tempfile::tempdir()?;
    let hosts = vec![dead.clone(), engine.url(), "http://no.such.name.invalid:9200".to_owned()];
    let config = ElasticsearchConfig { hosts, ..config("") };
    let mut shipper = shipper(&config, folder.path());
    let mut events = Events::new();
    for number in 0..20 {
        shipper.ship(events.batch(&[Event::numbered(number)]));
        std::thread::sleep(Duration::from_millis(30));
    }
    until(&mut shipper, "all to be stored", || events.is_settled());
    assert_eq!(engine.count(INDEX)?, 20);
    assert_eq!(metric(&shipper, "taffrail_elasticsearch_up", &engine.url()), 1.0);
    assert_eq!(metric(&shipper, "taffrail_elasticsearch_up", &dead), 0.0);
    assert_eq!(shipper.status().get(), None, "one node of three delivers");
    let report = check(&config, folder.path())?;
    assert!(report.is_usable());
    assert_eq!(report.nodes.iter().filter(|node| node.problem.is_some()).count(), 2, "{report:?}");
    Ok(())
}

#[test]
fn a_data_stream_takes_events_of_any_time() -> Result<()> {
    for engine in engines()? {
        let folder = tempfile::tempdir()?;
        let index = "taffrail-stream".to_owned().try_into()?;
        let config = ElasticsearchConfig { index, data_stream: true, ..config(&engine.url()) };
        assert_eq!(config.validate(), []);
        let mut shipper = shipper(&config, folder.path());
        let mut events = Events::new();
        let of_day =
            |day: i64, number| Event { time: TIME - day * 86_400_000_000_000, ..Event::numbered(number) };
        let all: Vec<Event> = (0..100).map(|number| of_day(number as i64, number)).collect();
        for _ in 0..2 {
            shipper.ship(events.batch(&all));
            until(&mut shipper, "all to be stored", || events.is_settled());
        }
        assert_eq!(engine.documents("taffrail-stream")?, sent(&all));
        let found = engine.json("GET", "taffrail-stream/_mapping", None)?;
        let names: Vec<&String> = found.as_object().context("no indices")?.keys().collect();
        assert!(names.len() == 1 && names[0].starts_with(".ds-taffrail-stream-"), "{names:?}");
        assert_eq!(letters(folder.path()), Vec::<String>::new());
    }
    Ok(())
}

#[test]
fn records_that_are_no_events_are_left_unsettled_and_told_of() -> Result<()> {
    let engine = SearchEngine::opensearch(SearchOptions::default())?;
    let folder = tempfile::tempdir()?;
    let mut shipper = shipper(&config(&engine.url()), folder.path());
    let mut events = Events::new();
    let mut batch = events.batch(&[Event::numbered(1)]);
    batch.payload = taffrail_record::Payload::Line;
    let account = Arc::clone(&events.account);
    shipper.ship(batch);
    until_status(&mut shipper, "belong to another output");
    assert_eq!(account.balance().confirmed.records, 0);
    assert_eq!(account.balance().lost_bytes(), 0);
    Ok(())
}
