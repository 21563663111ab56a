//! Against a real broker, read back by Kafka's own client: each way in which it can refuse or fall silent.
//!
//! All tests share one broker. Those that stop it have it to themselves meanwhile.

mod support;

use std::path::{Path, PathBuf};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use support::{Log, config, lines, metric, shipper, until};
use taffrail_envelope::{Encoding, EnvelopeConfig, Fields, locate_raw};
use taffrail_kafka::{Compression, KafkaConfig, KafkaShipper, Sasl, Secret, Tls, TopicTemplate, check};
use taffrail_parts::kafka::{ADMIN, Topic, USER, User};
use taffrail_parts::{Kafka, KafkaOptions, Listener, Record};
use taffrail_record::{BufferPool, LossReason, Ship};

static BROKER: OnceLock<RwLock<Kafka>> = OnceLock::new();

fn broker() -> &'static RwLock<Kafka> {
    BROKER.get_or_init(|| {
        let properties = vec![("auto.create.topics.enable".to_owned(), "false".to_owned())];
        let options = KafkaOptions { properties, secure: true, authorize: true, ..KafkaOptions::default() };
        RwLock::new(Kafka::start(options).expect("a broker"))
    })
}

fn shared() -> RwLockReadGuard<'static, Kafka> {
    broker().read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, Kafka> {
    broker().write().unwrap_or_else(PoisonError::into_inner)
}

/// A configuration for one topic, which does not exist yet.
fn config_for(kafka: &Kafka, listener: Listener, topic: &str) -> KafkaConfig {
    let mut config = config(&kafka.bootstrap_of(listener).expect("a listener"));
    config.topic = TopicTemplate::try_from(topic.to_owned()).expect("a topic");
    config.ledger_topic = None;
    config
}

fn sasl(user: User, password: &str) -> Option<Sasl> {
    let password = Some(Secret::from(password.to_owned()));
    Some(Sasl { username: user.name.to_owned(), password, ..Sasl::default() })
}

fn tls(ca: &Path) -> Option<Tls> {
    Some(Tls { ca_file: Some(ca.to_owned()), ..Tls::default() })
}

fn authority(kafka: &Kafka) -> PathBuf {
    kafka.tls().expect("certificates").authority.clone()
}

fn stored(kafka: &Kafka, topic: &str) -> Vec<Record> {
    kafka.consume_all(topic).expect("records")
}

fn message(record: &Record) -> String {
    let json: serde_json::Value =
        serde_json::from_slice(record.value.as_deref().expect("a value")).expect("json");
    json["message"].as_str().expect("text").to_owned()
}

fn messages(kafka: &Kafka, topic: &str) -> Vec<String> {
    stored(kafka, topic).iter().map(message).collect()
}

fn errors(shipper: &KafkaShipper, kind: &str) -> f64 {
    metric(shipper, "taffrail_kafka_errors_total", kind)
}

fn trouble(shipper: &KafkaShipper) -> String {
    shipper.status().get().unwrap_or_default()
}

/// Everything read is confirmed, the position is at the end, nobody complains.
fn assert_delivered(log: &Log, shipper: &mut KafkaShipper) {
    until(shipper, "the trouble's end", |shipper| shipper.status().get().is_none());
    let balance = log.account.balance();
    assert_eq!((balance.difference(), balance.pending.records), (0, 0));
    assert_eq!(log.tracker.position(), log.written);
}

/// What is held back is pending and not lost, and the position stays before it.
fn assert_held_back(log: &Log, position: u64) {
    let balance = log.account.balance();
    assert_eq!(balance.difference(), 0);
    assert!(balance.pending.records > 0);
    assert_eq!(balance.lost.iter().map(|lost| lost.records).sum::<u64>(), 0);
    assert_eq!(log.tracker.position(), position);
}

#[test]
fn records_for_a_topic_that_does_not_exist_wait_until_it_is_created() {
    let kafka = shared();
    let config = config_for(&kafka, Listener::Plain, "absent");
    assert!(check(&config, &[]).expect("reachable")[0].remark.contains("does not exist"));
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    shipper.ship(log.batch(&lines(0, 100, 50)));
    until(&mut shipper, "the refusal", |shipper| errors(shipper, "unknown_topic") >= 100.0);
    shipper.ship(log.batch(&lines(100, 100, 50)));
    until(&mut shipper, "the trouble", |shipper| {
        trouble(shipper).contains("topic absent") && trouble(shipper).contains("create it")
    });
    assert_held_back(&log, 0);
    kafka.create_topic("absent", 2).expect("created");
    until(&mut shipper, "the delivery", |_| log.is_settled());
    assert_delivered(&log, &mut shipper);
    assert_eq!(messages(&kafka, "absent"), lines(0, 200, 50));
}

#[test]
fn a_user_without_rights_is_told_which_and_loses_nothing_until_they_are_granted() {
    let kafka = shared();
    kafka.create_topic("guarded", 1).expect("created");
    let mut config = config_for(&kafka, Listener::Sasl, "guarded");
    config.sasl = sasl(USER, USER.password);
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    shipper.ship(log.batch(&lines(0, 100, 50)));
    until(&mut shipper, "the refusal", |shipper| trouble(shipper).contains("grant"));
    assert!(errors(&shipper, "topic_authorization") + errors(&shipper, "authentication") > 0.0);
    assert_held_back(&log, 0);
    let refused = check(&config, &[]).expect_err("refused").to_string();
    assert!(refused.contains("guarded") && refused.contains("grant Write"), "{refused}");
    kafka.allow(USER, "guarded").expect("granted");
    until(&mut shipper, "the delivery", |_| log.is_settled());
    assert_delivered(&log, &mut shipper);
    assert_eq!(messages(&kafka, "guarded"), lines(0, 100, 50));
}

#[test]
fn one_topic_that_is_refused_does_not_hold_up_another() {
    let kafka = shared();
    kafka.create_topic("mine", 1).expect("created");
    kafka.create_topic("theirs", 1).expect("created");
    kafka.allow(USER, "mine").expect("granted");
    let mut config = config_for(&kafka, Listener::Sasl, "{namespace}");
    config.sasl = sasl(USER, USER.password);
    let mut shipper = shipper(&config);
    let (mut refused, mut granted) = (Log::new("theirs", 1), Log::new("mine", 2));
    shipper.ship(refused.batch(&lines(0, 10, 50)));
    until(&mut shipper, "the refusal", |shipper| errors(shipper, "topic_authorization") > 0.0);
    shipper.ship(granted.batch(&lines(0, 10, 50)));
    until(&mut shipper, "the other topic", |_| granted.is_settled());
    assert_held_back(&refused, 0);
    kafka.allow(USER, "theirs").expect("granted");
    until(&mut shipper, "the refused topic", |_| refused.is_settled());
    assert_delivered(&refused, &mut shipper);
}

#[test]
fn a_wrong_password_is_trouble_that_names_the_login_and_sends_nothing() {
    let kafka = shared();
    kafka.create_topic("locked", 1).expect("created");
    let mut config = config_for(&kafka, Listener::SaslTls, "locked");
    config.tls = tls(&authority(&kafka));
    config.sasl = sasl(ADMIN, "wrong");
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    shipper.ship(log.batch(&lines(0, 10, 50)));
    until(&mut shipper, "the refusal", |shipper| trouble(shipper).contains("check kafka.sasl"));
    assert!(errors(&shipper, "authentication") >= 1.0);
    assert!(!trouble(&shipper).contains("wrong"), "a password in the status");
    assert_held_back(&log, 0);
    config.sasl = sasl(ADMIN, ADMIN.password);
    let mut right = self::shipper(&config);
    let mut again = Log::new("a", 1);
    right.ship(again.batch(&lines(0, 10, 50)));
    until(&mut right, "the delivery", |_| again.is_settled());
    assert_eq!(messages(&kafka, "locked"), lines(0, 10, 50));
}

#[test]
fn a_broker_whose_certificate_no_known_authority_signed_gets_nothing() {
    let kafka = shared();
    kafka.create_topic("sealed", 1).expect("created");
    let mut config = config_for(&kafka, Listener::Tls, "sealed");
    let stranger = kafka.tls().expect("certificates").certificate.clone();
    for wrong in [Some(Tls::default()), tls(&stranger)] {
        config.tls = wrong;
        let mut shipper = shipper(&config);
        let mut log = Log::new("a", 1);
        shipper.ship(log.batch(&lines(0, 10, 50)));
        until(&mut shipper, "the refusal", |shipper| errors(shipper, "authentication") >= 1.0);
        assert!(trouble(&shipper).contains("certificate"), "{}", trouble(&shipper));
        assert_held_back(&log, 0);
    }
    assert_eq!(kafka.end_offsets("sealed").expect("offsets"), [0]);
    config.tls = tls(&authority(&kafka));
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    shipper.ship(log.batch(&lines(0, 10, 50)));
    until(&mut shipper, "the delivery", |_| log.is_settled());
    assert_eq!(messages(&kafka, "sealed"), lines(0, 10, 50));
}

#[test]
fn a_record_larger_than_its_topic_takes_is_cut_flagged_and_counted_and_its_neighbours_arrive_whole() {
    let kafka = shared();
    let settings = &[("max.message.bytes", "4000")];
    kafka.create(&Topic { name: "narrow", partitions: 1, settings }).expect("created");
    let mut config = config_for(&kafka, Listener::Plain, "narrow");
    config.compression = Compression::None;
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    let large = "y".repeat(9000);
    shipper.ship(log.batch(&["before", &large, "after"]));
    until(&mut shipper, "the delivery", |_| log.is_settled());
    assert_delivered(&log, &mut shipper);
    let stored = stored(&kafka, "narrow");
    let mut found: Vec<String> = stored.iter().map(message).collect();
    // The whole records may pass the one that has to be cut, and keep their own order.
    let cut = found.iter().position(|text| text.starts_with('y')).expect("the cut record");
    let kept = found.remove(cut);
    assert_eq!(found, ["before", "after"]);
    assert!(kept.len() > 500 && kept.len() < 4000 && large.starts_with(&kept));
    assert!(stored[cut].text().contains("\"flags\":[\"oversize\"]"));
    let balance = log.account.balance();
    assert_eq!(balance.lost[LossReason::Truncated as usize].bytes, (large.len() - kept.len()) as u64);
    assert!(errors(&shipper, "too_large") >= 1.0);
    assert!(metric(&shipper, "taffrail_kafka_oversize_messages_total", "") >= 1.0);
}

#[test]
fn requests_larger_than_a_topic_takes_become_smaller_and_no_record_is_cut() {
    let kafka = shared();
    let settings = &[("max.message.bytes", "40000")];
    kafka.create(&Topic { name: "shallow", partitions: 1, settings }).expect("created");
    let mut config = config_for(&kafka, Listener::Plain, "shallow");
    config.compression = Compression::None;
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    for round in 0..4 {
        shipper.ship(log.batch(&lines(round * 100, 100, 1000)));
    }
    until(&mut shipper, "the delivery", |_| log.is_settled());
    assert_delivered(&log, &mut shipper);
    let mut found = messages(&kafka, "shallow");
    // Messages that went alone may be behind those of the same request that fitted another.
    found.sort();
    assert_eq!(found, lines(0, 400, 1000));
    assert!(metric(&shipper, "taffrail_kafka_oversize_messages_total", "").abs() < f64::EPSILON);
    let renewed = |shipper: &KafkaShipper| metric(shipper, "taffrail_kafka_producers_total", "") >= 1.0;
    until(&mut shipper, "a producer with smaller requests", renewed);
}

/// Ships lines before, during and after what is done to the broker; each arrives once and in order.
fn through(topic: &str, disturb: impl FnOnce(&mut Kafka, &mut dyn FnMut(&str))) {
    let mut kafka = alone();
    kafka.create_topic(topic, 1).expect("created");
    let config = config_for(&kafka, Listener::Plain, topic);
    let mut shipper = shipper(&config);
    let mut log = Log::new("a", 1);
    shipper.ship(log.batch(&lines(0, 1000, 100)));
    until(&mut shipper, "the first delivery", |_| log.is_settled());
    let delivered = log.written;
    let mut next = 1000;
    disturb(&mut kafka, &mut |wanted| {
        let batches = Instant::now() + Duration::from_millis(500);
        while Instant::now() < batches {
            shipper.ship(log.batch(&lines(next, 100, 100)));
            next += 100;
            std::thread::sleep(Duration::from_millis(20));
        }
        until(&mut shipper, wanted, |shipper| wanted.is_empty() || trouble(shipper).contains(wanted));
        assert_held_back(&log, delivered);
    });
    until(&mut shipper, "the delivery", |_| log.is_settled());
    shipper.ship(log.batch(&lines(next, 100, 100)));
    until(&mut shipper, "the delivery afterwards", |_| log.is_settled());
    assert_delivered(&log, &mut shipper);
    assert_eq!(messages(&kafka, topic), lines(0, next + 100, 100));
}

#[test]
fn while_the_broker_is_stopped_records_wait_and_then_arrive_once_and_in_order() {
    through("interrupted", |kafka, ship| {
        kafka.stop().expect("stopped");
        ship("check kafka.brokers");
        kafka.start_again().expect("started");
    });
}

#[test]
fn a_killed_broker_costs_neither_a_record_nor_a_repeat() {
    through("killed", |kafka, ship| {
        kafka.kill();
        ship("check kafka.brokers");
        kafka.start_again().expect("started");
    });
}

#[test]
fn while_the_broker_is_frozen_records_wait_and_then_arrive_once_and_in_order() {
    through("frozen", |kafka, ship| {
        kafka.freeze().expect("frozen");
        ship("");
        kafka.thaw().expect("thawed");
    });
}

#[test]
fn every_compression_is_read_back_by_kafka_s_own_client() {
    let kafka = shared();
    let kinds =
        [Compression::Lz4, Compression::Zstd, Compression::Snappy, Compression::Gzip, Compression::None];
    for compression in kinds {
        let topic = format!("compressed-{}", compression.as_str());
        kafka.create_topic(&topic, 1).expect("created");
        let mut config = config_for(&kafka, Listener::Plain, &topic);
        config.compression = compression;
        let mut shipper = shipper(&config);
        let mut log = Log::new("a", 1);
        shipper.ship(log.batch(&lines(0, 500, 200)));
        shipper.drain(Instant::now() + Duration::from_secs(120));
        assert!(log.is_settled(), "{topic}");
        assert_eq!(messages(&kafka, &topic), lines(0, 500, 200), "{topic}");
    }
}

#[test]
fn raw_records_keep_every_byte_and_carry_their_place_in_headers() {
    let kafka = shared();
    for (fields, topic, names) in [
        (Fields::Auto, "raw", &["taffrail.record"][..]),
        (Fields::Full, "raw-full", &["taffrail.origin", "taffrail.record"]),
    ] {
        kafka.create_topic(topic, 3).expect("created");
        let config = config_for(&kafka, Listener::Plain, topic);
        let envelope = EnvelopeConfig { encoding: Encoding::Raw, fields };
        let mut shipper = KafkaShipper::new(&config, envelope, BufferPool::new(1, 1 << 20)).expect("shipper");
        let mut log = Log::new("a", 7);
        let bodies: [&[u8]; 4] = [b"plain", b"", b"\xff\0\n", b"last"];
        // What the first batches left is used again by later ones, which are longer and shorter.
        let rounds: [&[&[u8]]; 4] = [&bodies, &bodies[..2], &bodies[1..], &bodies];
        for round in rounds {
            shipper.ship(log.batch(round));
            until(&mut shipper, "the delivery", |_| log.is_settled());
        }
        let stored = stored(&kafka, topic);
        let bodies = rounds.concat();
        assert_eq!(stored.len(), bodies.len());
        let mut offset = 0;
        for (record, body) in stored.iter().zip(bodies) {
            assert_eq!(record.value.as_deref().unwrap_or_default(), body);
            assert_eq!(record.key.as_deref(), Some(log.origin.display().as_bytes()));
            assert!(names.iter().all(|name| record.header(name).is_some()), "{topic}");
            let origin = record.header("taffrail.origin").unwrap_or_default();
            let located =
                locate_raw(origin, record.header("taffrail.record").expect("record")).expect("located");
            let length = body.len() as u64 + 1;
            assert_eq!((located.file, located.offset, located.length), (log.source.id, offset, length));
            assert_eq!(located.path.is_empty(), names.len() == 1);
            offset += length;
        }
    }
}
