//! Against librdkafka's mock cluster: what happens on each kind of error. A real broker proves delivery elsewhere.

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use support::{Log, Seen, config, lines, metric, read, shipper, until};
use taffrail_envelope::{Encoding, EnvelopeConfig, locate_json, locate_raw};
use taffrail_kafka::{KafkaConfig, KafkaShipper, TopicTemplate, check, read_topic};
use taffrail_record::{BufferPool, LossReason, Ship};

const LOGS: &str = "taffrail.logs";

fn cluster() -> (MockCluster<'static, DefaultProducerContext>, KafkaConfig) {
    let cluster = MockCluster::new(1).expect("mock cluster");
    cluster.create_topic(LOGS, 3, 1).expect("topic");
    cluster.create_topic("taffrail.ledger", 1, 1).expect("topic");
    let config = config(&cluster.bootstrap_servers());
    (cluster, config)
}

fn messages(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(Seen::message).collect()
}

#[test]
fn records_arrive_once_in_order_with_their_key_and_the_receipt_is_settled() {
    let (_cluster, config) = cluster();
    let mut shipper = shipper(&config);
    let mut logs = [Log::new("a", 1), Log::new("b", 2)];
    for round in 0..5 {
        for log in &mut logs {
            shipper.ship(log.batch(&lines(round * 200, 200, 100)));
        }
    }
    shipper.drain(Instant::now() + Duration::from_secs(120));
    let seen = read(&config, LOGS);
    for log in &logs {
        assert!(log.is_settled());
        assert_eq!(log.account.balance().confirmed.records, 1000);
        assert_eq!(log.tracker.position(), log.written);
        let key = log.origin.display();
        let own: Vec<Seen> = seen.iter().filter(|seen| seen.key == key.as_bytes()).cloned().collect();
        assert_eq!(messages(&own), lines(0, 1000, 100));
        assert_eq!(
            own.iter().map(|seen| seen.partition).collect::<BTreeSet<_>>().len(),
            1,
            "one key, one partition"
        );
        let mut offset = 0;
        for record in &own {
            let located = locate_json(&record.payload).expect("located");
            assert_eq!((located.file, located.offset), (log.source.id, offset));
            offset += located.length;
        }
    }
    assert_eq!(seen.len(), 2000);
    assert_eq!(shipper.status().get(), None);
    assert!((metric(&shipper, "taffrail_kafka_messages_total", "") - 2000.0).abs() < f64::EPSILON);
    assert!(metric(&shipper, "taffrail_kafka_queue_messages", "").abs() < f64::EPSILON);
    assert!(metric(&shipper, "taffrail_kafka_queue_bytes", "").abs() < f64::EPSILON);
}

#[test]
fn statements_go_to_the_ledger_topic_by_file_and_without_one_are_settled_at_once() {
    let (_cluster, mut config) = cluster();
    let mut log = Log::new("a", 7);
    let mut first = shipper(&config);
    first.ship(log.statements(&["{\"ledger\":{\"kind\":\"opened\"}}", "{}"]));
    first.drain(Instant::now() + Duration::from_secs(120));
    assert!(log.is_settled());
    let seen = read(&config, "taffrail.ledger");
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].payload, b"{\"ledger\":{\"kind\":\"opened\"}}");
    assert_eq!(seen[0].key, b"00000000000000000000000000000007");

    config.ledger_topic = None;
    let mut second = shipper(&config);
    second.ship(log.statements(&["{}"]));
    assert!(log.is_settled());
    assert_eq!(read(&config, "taffrail.ledger").len(), 2);
}

#[test]
fn raw_records_that_are_refused_and_sent_again_keep_their_own_headers() {
    let (cluster, mut config) = cluster();
    config.topic = TopicTemplate::try_from("logs.{namespace}".to_owned()).expect("valid");
    cluster.create_topic("logs.a", 3, 1).expect("topic");
    let envelope = EnvelopeConfig { encoding: Encoding::Raw, ..EnvelopeConfig::default() };
    let mut shipper = KafkaShipper::new(&config, envelope, BufferPool::new(1, 1 << 20)).expect("shipper");
    let mut log = Log::new("a", 7);
    shipper.ship(log.batch(&lines(0, 10, 50)));
    until(&mut shipper, "the first delivery", |_| log.is_settled());
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::Produce, &[refused, refused]);
    for round in 1..5 {
        shipper.ship(log.batch(&lines(round * 10, 10, 50)));
    }
    until(&mut shipper, "all", |_| log.is_settled());
    assert!(metric(&shipper, "taffrail_kafka_resent_messages_total", "") >= 10.0, "some were refused");
    let seen = read(&config, "logs.a");
    let payloads: Vec<_> = seen.iter().map(|seen| String::from_utf8_lossy(&seen.payload)).collect();
    assert_eq!(payloads, lines(0, 50, 50));
    for (record, offset) in seen.iter().zip((0..).step_by(51)) {
        let [(name, head)] = &record.headers[..] else { panic!("one header: {:?}", record.headers) };
        let located = locate_raw(b"", head).expect("located");
        assert_eq!((name.as_str(), located.offset, located.length), ("taffrail.record", offset, 51));
        assert_eq!(record.partition, seen[0].partition);
    }
}

#[test]
fn a_broker_that_is_down_is_waited_for_and_nothing_is_lost() {
    let (cluster, config) = cluster();
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    shipper.ship(log.batch(&lines(0, 10, 50)));
    until(&mut shipper, "the first delivery", |_| log.is_settled());
    cluster.broker_down(1).expect("down");
    shipper.ship(log.batch(&lines(10, 10, 50)));
    until(&mut shipper, "the trouble", |shipper| shipper.status().get().is_some());
    let status = shipper.status().get().expect("trouble");
    assert!(status.contains("kafka.brokers"), "{status}");
    assert!(!log.is_settled());
    assert!(metric(&shipper, "taffrail_kafka_errors_total", "connection") >= 1.0);
    cluster.broker_up(1).expect("up");
    until(&mut shipper, "the second delivery", |_| log.is_settled());
    until(&mut shipper, "the trouble's end", |shipper| shipper.status().get().is_none());
    assert_eq!(messages(&read(&config, LOGS)), lines(0, 20, 50));
}

#[test]
fn a_topic_that_refuses_holds_up_only_itself_and_is_delivered_in_order_when_it_no_longer_does() {
    for (error, name) in [
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "unknown_topic"),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "topic_authorization"),
    ] {
        let (cluster, mut config) = cluster();
        config.topic = TopicTemplate::try_from("logs.{namespace}".to_owned()).expect("valid");
        for topic in ["logs.good", "logs.bad"] {
            cluster.create_topic(topic, 1, 1).expect("topic");
        }
        cluster.topic_error("logs.bad", error).expect("topic error");
        let mut shipper = shipper(&config);
        let (mut good, mut bad) = (Log::new("good", 1), Log::new("bad", 2));
        for round in 0..4 {
            shipper.ship(bad.batch(&lines(round * 10, 10, 50)));
            shipper.ship(good.batch(&lines(round * 10, 10, 50)));
        }
        until(&mut shipper, "the good topic", |_| good.is_settled());
        until(&mut shipper, "the trouble", |s| {
            s.status().get().is_some_and(|text| text.contains("logs.bad"))
        });
        let status = shipper.status().get().expect("trouble");
        assert!(!status.contains("logs.good"), "{status}");
        until(&mut shipper, "the count", |s| metric(s, "taffrail_kafka_errors_total", name) >= 10.0);
        shipper.ship(bad.batch(&lines(40, 10, 50)));
        shipper.ship(good.batch(&lines(40, 10, 50)));
        until(&mut shipper, "the good topic again", |_| good.is_settled());
        assert!(!bad.is_settled());
        assert_eq!(bad.tracker.position(), 0);
        cluster.topic_error("logs.bad", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).expect("no more error");
        until(&mut shipper, "the bad topic", |_| bad.is_settled());
        until(&mut shipper, "the trouble's end", |shipper| shipper.status().get().is_none());
        assert_eq!(messages(&read(&config, "logs.bad")), lines(0, 50, 50), "{name}");
        assert_eq!(bad.tracker.position(), bad.written);
    }
}

#[test]
fn a_record_larger_than_the_producer_takes_is_cut_flagged_and_counted() {
    let (_cluster, mut config) = cluster();
    config.properties.0.insert("message.max.bytes".into(), "20000".into());
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    let large = "y".repeat(50_000);
    shipper.ship(log.batch(&["before", &large, "after"]));
    shipper.drain(Instant::now() + Duration::from_secs(120));
    assert!(log.is_settled());
    let seen = read(&config, LOGS);
    let kept = seen[1].message();
    let json = seen[1].json();
    assert!(kept.len() > 15_000 && large.starts_with(&kept));
    assert_eq!(json["log"]["flags"], serde_json::json!(["oversize"]));
    assert_eq!(json["log"]["truncated_bytes"], large.len() - kept.len());
    assert_eq!(json["log"]["length"], large.len() + 1);
    assert_eq!((seen[0].message(), seen[2].message()), ("before".to_owned(), "after".to_owned()));
    let balance = log.account.balance();
    assert_eq!(balance.lost[LossReason::Truncated as usize].bytes, (large.len() - kept.len()) as u64);
    assert_eq!((balance.difference(), balance.confirmed.records), (0, 3));
    assert!((metric(&shipper, "taffrail_kafka_oversize_messages_total", "") - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_request_too_large_for_the_broker_is_sent_message_by_message_and_every_record_arrives() {
    let (cluster, mut config) = cluster();
    config.linger_ms = 50;
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    // The request of the whole batch, then two of its messages by themselves.
    cluster.request_errors(RDKafkaApiKey::Produce, &[too_large, too_large, too_large]);
    let written = lines(0, 20, 2000);
    shipper.ship(log.batch(&written));
    until(&mut shipper, "the delivery", |_| log.is_settled());
    let seen = read(&config, LOGS);
    let mut whole = 0;
    let mut cut = 0;
    for record in &seen {
        let message = record.message();
        if record.json()["log"].get("flags").is_some() {
            assert!(written.iter().any(|line| line.starts_with(&message) && message.len() < line.len()));
            cut += 1;
        } else {
            assert!(written.contains(&message));
            whole += 1;
        }
    }
    assert_eq!((whole, cut), (18, 2));
    let balance = log.account.balance();
    assert_eq!((balance.difference(), balance.confirmed.records), (0, 20));
    assert!(balance.lost[LossReason::Truncated as usize].bytes > 0);
    until(&mut shipper, "the trouble's end", |shipper| shipper.status().get().is_none());
}

#[test]
fn when_no_message_is_too_large_by_itself_requests_become_smaller() {
    let (cluster, config) = cluster();
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    shipper.ship(log.batch(&lines(0, 20, 100)));
    until(&mut shipper, "the delivery", |_| log.is_settled());
    until(&mut shipper, "a new producer", |s| metric(s, "taffrail_kafka_producers_total", "") >= 1.0);
    shipper.ship(log.batch(&lines(20, 20, 100)));
    until(&mut shipper, "more", |_| log.is_settled());
    assert_eq!(messages(&read(&config, LOGS)), lines(0, 40, 100));
    assert!(metric(&shipper, "taffrail_kafka_oversize_messages_total", "").abs() < f64::EPSILON);
}

#[test]
fn a_record_that_cannot_be_cut_enough_is_declared_lost_and_the_rest_confirmed() {
    let (cluster, mut config) = cluster();
    config.linger_ms = 50;
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 64];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    shipper.ship(log.batch(&["only"]));
    until(&mut shipper, "the loss", |s| metric(s, "taffrail_kafka_too_large_messages_total", "") >= 1.0);
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    let balance = log.account.balance();
    assert_eq!(balance.lost[LossReason::TooLarge as usize].records, 1);
    assert_eq!(balance.lost[LossReason::TooLarge as usize].bytes, 5);
    assert_eq!((balance.pending.records, balance.difference()), (0, 0));
    assert_eq!(log.tracker.undeclared(), 1, "the position waits for the declaration");
}

#[test]
fn after_a_fatal_error_a_new_producer_sends_again_what_was_not_confirmed_in_order() {
    let (cluster, config) = cluster();
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    shipper.ship(log.batch(&lines(0, 10, 50)));
    until(&mut shipper, "the first delivery", |_| log.is_settled());
    let fatal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
    let order = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    cluster.request_errors(RDKafkaApiKey::Produce, &[order, fatal]);
    for round in 1..6 {
        shipper.ship(log.batch(&lines(round * 10, 10, 50)));
    }
    until(&mut shipper, "all", |_| log.is_settled());
    let mut seen = messages(&read(&config, LOGS));
    seen.dedup();
    assert_eq!(seen, lines(0, 60, 50));
    assert!(metric(&shipper, "taffrail_kafka_producers_total", "") >= 1.0, "it was fatal");
    until(&mut shipper, "no trouble", |shipper| shipper.status().get().is_none());
}

#[test]
fn what_is_not_delivered_at_the_end_is_abandoned_and_the_position_stays() {
    let (cluster, config) = cluster();
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    shipper.ship(log.batch(&lines(0, 10, 50)));
    until(&mut shipper, "the first delivery", |_| log.is_settled());
    let delivered = log.written;
    cluster.broker_down(1).expect("down");
    shipper.ship(log.batch(&lines(10, 10, 50)));
    shipper.drain(Instant::now() + Duration::from_millis(200));
    drop(shipper);
    assert_eq!(log.tracker.position(), delivered);
    assert_eq!(log.tracker.take_rewind(), Some(delivered));
    assert_eq!(log.account.balance().repeated, log.written - delivered);
}

#[test]
fn check_tells_topics_apart_and_names_what_to_change() {
    let (cluster, mut config) = cluster();
    let reports = check(&config, &[]).expect("reachable");
    assert_eq!(reports.iter().map(|report| report.partitions).collect::<Vec<_>>(), [Some(3), Some(1)]);
    let with_events = check(&config, &[config.events_topic.as_str()]).expect("reachable");
    assert_eq!(with_events.last().map(|report| &report.topic), Some(&config.events_topic));
    config.topic = TopicTemplate::try_from("logs.{pod}".to_owned()).expect("valid");
    config.ledger_topic = None;
    assert!(check(&config, &[]).expect("reachable")[0].remark.contains("depends on the record"));
    config.topic = TopicTemplate::default();
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.topic_error(LOGS, refused).expect("topic error");
    let error = check(&config, &[]).expect_err("refused").to_string();
    assert!(error.contains(LOGS) && error.contains("grant Write"), "{error}");
    let error = check(&support::config("127.0.0.1:1"), &[]).expect_err("nobody there").to_string();
    assert!(error.contains("kafka.brokers"), "{error}");
}

#[test]
fn reading_a_topic_that_does_not_exist_says_which() {
    let (cluster, config) = cluster();
    cluster
        .topic_error("absent", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .expect("topic error");
    let error = read_topic(&config, "absent", |_| {}).expect_err("absent").to_string();
    assert!(error.contains("absent"), "{error}");
}
