//! Records as consumers see them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};
use taffrail_envelope::{Encoded, Encoder, Encoding, EnvelopeConfig, Fields, locate_json, locate_raw};
use taffrail_record::{
    Batch, Container, Extra, FileId, Flags, Fragment, Input, Ledger, Node, Origin, Payload, Pod, Receipt,
    Record, Source, Span, Stream, Told, ToldState,
};

fn batch(origin: Origin, bodies: &[(&[u8], Record)]) -> Batch {
    let mut data = Vec::new();
    let mut records = Vec::new();
    for (body, record) in bodies {
        data.extend_from_slice(b"framing ");
        let start = u32::try_from(data.len()).expect("small");
        data.extend_from_slice(body);
        let end = u32::try_from(data.len()).expect("small");
        records.push(Record { body: start..end, ..record.clone() });
    }
    let account = Ledger::new().account(origin.names());
    account.read(records.iter().map(Record::length).sum());
    Batch {
        payload: Payload::Line,
        origin: Arc::new(origin),
        source: Arc::new(Source {
            id: FileId(0xabc),
            path: "/var/log/x.log".into(),
            device: 64768,
            inode: 42,
        }),
        receipt: Receipt::new(Vec::new(), account, &records, None),
        data,
        records,
    }
}

fn record(start: u64, length: u64, time: i64) -> Record {
    Record {
        body: 0..0,
        span: Span::at(start, length),
        time,
        stream: Stream::Stdout,
        flags: Flags::NONE,
        extra: None,
    }
}

fn encode(config: EnvelopeConfig, batch: &Batch) -> Encoded {
    let mut encoded = Encoded::default();
    let _ = Encoder::new(config).encode(batch, &mut encoded);
    encoded
}

fn values(encoded: &Encoded) -> Vec<Value> {
    encoded
        .messages
        .iter()
        .map(|m| serde_json::from_slice(&encoded.data[m.value.clone()]).expect("json"))
        .collect()
}

fn pod_origin() -> Origin {
    let labels = [("app", "web"), ("app.kubernetes.io/name", "shop")];
    Origin {
        node: Arc::new(Node {
            name: "node-1".into(),
            cluster: "prod".into(),
            fields: vec![
                ("service.environment".into(), "live".into()),
                ("labels.idc".into(), "fra".into()),
                ("kubernetes.zone".into(), "a".into()),
                ("log.level".into(), "info".into()),
                ("message".into(), "never".into()),
                ("host.name.x".into(), "never".into()),
                ("kubernetes.pod".into(), "never".into()),
            ],
            ..Node::default()
        }),
        input: Input::Kubernetes,
        pod: Some(Pod {
            namespace: "shop".into(),
            name: "web-0".into(),
            uid: "u-1".into(),
            labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..Pod::default()
        }),
        container: Some(Container {
            name: "web".into(),
            id: "c0ffee".into(),
            image: "shop/web:1".into(),
            runtime: "containerd".into(),
            labels: [].into(),
        }),
    }
}

#[test]
fn a_pod_s_record_has_the_fields_that_filebeat_writes() {
    let batch = batch(pod_origin(), &[(b"hello", record(100, 51, 1_795_255_872_000_000_001))]);
    let encoded = encode(EnvelopeConfig::default(), &batch);
    assert_eq!(
        values(&encoded),
        [json!({
            "@timestamp": "2026-11-21T10:11:12.000000001Z",
            "message": "hello",
            "stream": "stdout",
            "log": {
                "offset": 100,
                "length": 51,
                "file": {
                    "path": "/var/log/x.log", "device_id": "64768", "inode": "42",
                    "fingerprint": "00000000000000000000000000000abc",
                },
                "level": "info",
            },
            "input": {"type": "container"},
            "host": {"name": "node-1"},
            "container": {"id": "c0ffee", "runtime": "containerd", "image": {"name": "shop/web:1"}},
            "kubernetes": {
                "namespace": "shop", "node": {"name": "node-1"}, "pod": {"name": "web-0", "uid": "u-1"},
                "container": {"name": "web"}, "labels": {"app": "web", "app_kubernetes_io/name": "shop"},
                "zone": "a",
            },
            "orchestrator": {"cluster": {"name": "prod"}},
            "ecs": {"version": "8.0.0"},
            "agent": {"type": "taffrail", "name": "node-1", "version": env!("CARGO_PKG_VERSION")},
            "service": {"environment": "live"},
            "labels": {"idc": "fra"},
        })]
    );
}

#[test]
fn what_the_cluster_says_of_a_pod_has_the_names_that_filebeat_gives_it() {
    let own = |pairs: &[(&str, &str)]| -> std::collections::BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let told = Told {
        annotations: own(&[("team.io/owner", "checkout")]),
        ip: "10.1.2.3".into(),
        owners: vec![
            ("ReplicaSet".into(), "web-7d9".into()),
            ("Deployment".into(), "web".into()),
            ("x.y".into(), "never".into()),
        ],
        namespace_uid: "n-1".into(),
        namespace_labels: own(&[("env", "live")]),
        fields: vec![("service.name".into(), "shop".into()), ("message".into(), "never".into())],
        ..Told::default()
    };
    let mut origin = pod_origin();
    origin.node = Arc::new(Node {
        name: "n-1".into(),
        cluster_id: "c-1".into(),
        uid: "u-9".into(),
        hostname: "host-1".into(),
        labels: own(&[("disk.io/kind", "ssd")]),
        ..Node::default()
    });
    origin.pod.as_mut().expect("a pod").told = Some(told);
    let value =
        &values(&encode(EnvelopeConfig::default(), &batch(origin.clone(), &[(b"x", record(0, 1, 0))])))[0];
    assert_eq!(
        value["kubernetes"],
        json!({
            "namespace": "shop", "pod": {"name": "web-0", "uid": "u-1", "ip": "10.1.2.3"}, "container": {"name": "web"},
            "node": {"name": "n-1", "uid": "u-9", "hostname": "host-1", "labels": {"disk_io/kind": "ssd"}},
            "namespace_uid": "n-1", "replicaset": {"name": "web-7d9"}, "deployment": {"name": "web"},
            "labels": {"app": "web", "app_kubernetes_io/name": "shop"},
            "annotations": {"team_io/owner": "checkout"}, "namespace_labels": {"env": "live"},
        })
    );
    assert_eq!(value["orchestrator"], json!({"cluster": {"id": "c-1"}}));
    assert_eq!(value["service"], json!({"name": "shop"}));
    assert_eq!(value["message"], json!("x"));

    origin.pod.as_mut().expect("a pod").told = Some(Told { state: ToldState::Nothing, ..Told::default() });
    let value = &values(&encode(EnvelopeConfig::default(), &batch(origin, &[(b"x", record(0, 1, 0))])))[0];
    assert_eq!(value["kubernetes"]["metadata"], json!("missing"));
}

#[test]
fn minimal_fields_leave_out_what_does_not_name_the_record() {
    let labels = [("com.example.team".to_owned(), "a".to_owned())];
    let container = Container { name: "web".into(), labels: labels.into(), ..Container::default() };
    let origin = Origin { input: Input::Docker, container: Some(container), ..Origin::default() };
    let batch = batch(origin, &[(b"x", record(0, 1, 0))]);
    let full = &values(&encode(EnvelopeConfig::default(), &batch))[0];
    assert_eq!(full["container"], json!({"name": "web", "labels": {"com_example_team": "a"}}));
    assert_eq!(full["input"]["type"], "docker");
    let config = EnvelopeConfig { fields: Fields::Minimal, ..EnvelopeConfig::default() };
    let minimal = &values(&encode(config, &batch))[0];
    assert_eq!(minimal["container"], json!({"name": "web"}));
    let names: Vec<&String> = minimal.as_object().expect("object").keys().collect();
    assert_eq!(names, ["@timestamp", "message", "stream", "log", "container"]);
}

#[test]
fn what_few_records_have_is_written_for_those() {
    let fragments = vec![
        Fragment { file: FileId(1), span: Span::at(900, 100) },
        Fragment { file: FileId(0xabc), span: Span::at(0, 20) },
    ];
    let extra = Some(Box::new(Extra { fragments, cut: 7, id: None }));
    let special =
        Record { flags: Flags::TRUNCATED | Flags::CRLF, extra, stream: Stream::None, ..record(0, 20, 0) };
    let batch = batch(Origin::default(), &[(b"a\xffb", special), (b"", record(20, 5, 0))]);
    let encoded = encode(EnvelopeConfig::default(), &batch);
    let values = values(&encoded);
    let log = &values[0]["log"];
    assert_eq!(values[0].get("stream"), None);
    assert_eq!(log["flags"], json!(["truncated", "crlf", "invalid_utf8"]));
    assert_eq!(
        (&log["offset"], &log["length"], &log["truncated_bytes"]),
        (&json!(0), &json!(120), &json!(7))
    );
    assert_eq!(log["fragments"][0]["offset"], 900);
    assert_eq!(log["original"], STANDARD.encode(b"a\xffb"));
    assert_eq!(values[0]["message"], "a\u{fffd}b");
    assert_eq!(values[1]["message"], "");
    assert_eq!(values[1]["log"].get("flags"), None);

    let located = locate_json(&encoded.data[encoded.messages[0].value.clone()]).expect("located");
    assert_eq!((located.file, located.offset, located.length, located.truncated), (FileId(0xabc), 0, 120, 7));
    assert_eq!(
        located.pieces().map(|p| (p.file.0, p.span.start, p.span.len())).collect::<Vec<_>>(),
        [(1, 900, 100), (0xabc, 0, 20)]
    );
}

#[test]
fn statements_pass_as_they_are_and_newlines_stay_outside_of_the_values() {
    let mut batch =
        batch(Origin::default(), &[(b"{\"ledger\":{}}", record(0, 0, 0)), (b"{}", record(0, 0, 0))]);
    batch.payload = Payload::Statement;
    let mut encoded = Encoded::default();
    for encoding in [Encoding::Json, Encoding::Raw] {
        encoded.clear();
        let config = EnvelopeConfig { encoding, ..EnvelopeConfig::default() };
        let _ = Encoder::new(config).with_newlines().encode(&batch, &mut encoded);
        assert_eq!(encoded.data, b"{\"ledger\":{}}\n{}\n");
        assert_eq!(&encoded.data[encoded.messages[1].value.clone()], b"{}");
        assert!(encoded.messages[1].head.is_empty());
    }
}

#[test]
fn a_raw_record_is_placed_by_its_one_header() {
    let batch = batch(pod_origin(), &[(b"x", record(7, 9, 0))]);
    let mut encoded = Encoded::default();
    let config = EnvelopeConfig { encoding: Encoding::Raw, ..EnvelopeConfig::default() };
    let constants = Encoder::new(config).encode(&batch, &mut encoded);
    assert!(constants.header.is_empty());
    let located =
        locate_raw(&constants.header, &encoded.data[encoded.messages[0].head.clone()]).expect("located");
    assert_eq!((located.file, located.offset, located.length), (FileId(0xabc), 7, 9));
}

#[test]
fn somebody_else_s_message_is_not_a_record() {
    for value in ["", "plain", "{}", r#"{"log":{"offset":1,"length":2,"file":{}}}"#, r#"{"ledger":{}}"#] {
        assert!(locate_json(value.as_bytes()).is_err(), "{value}");
    }
}

proptest! {
    #[test]
    fn any_bytes_come_back_from_a_json_record(
        bodies in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..120), any::<i64>(), 0_u64..1000), 1..8),
        start in 0_u64..u64::from(u32::MAX),
    ) {
        let mut offset = start;
        let lines: Vec<(&[u8], Record)> = bodies.iter().map(|(body, time, length)| {
            offset += length;
            (body.as_slice(), record(offset - length, *length, *time))
        }).collect();
        let batch = batch(pod_origin(), &lines);
        let encoded = encode(EnvelopeConfig::default(), &batch);
        prop_assert_eq!(encoded.messages.len(), lines.len());
        for (message, (body, record)) in encoded.messages.iter().zip(&lines) {
            let bytes = &encoded.data[message.value.clone()];
            let value: Value = serde_json::from_slice(bytes).expect("json");
            let text = value["message"].as_str().expect("text");
            prop_assert_eq!(text, String::from_utf8_lossy(body));
            let original = value["log"]["original"].as_str().map(|o| STANDARD.decode(o).expect("base64"));
            prop_assert_eq!(original.as_deref().unwrap_or(text.as_bytes()), *body);
            let located = locate_json(bytes).expect("located");
            prop_assert_eq!(Span::at(located.offset, located.length), record.span);
            prop_assert_eq!(located.path.as_ref(), "/var/log/x.log");
        }
    }

    #[test]
    fn a_raw_record_is_the_bytes_and_its_headers_place_it(
        body in prop::collection::vec(any::<u8>(), 0..120), start in any::<u32>(), length in any::<u32>(),
    ) {
        let flagged = Record { flags: Flags::PARTIAL, ..record(start.into(), length.into(), 5) };
        let batch = batch(pod_origin(), &[(&body, flagged)]);
        let mut encoded = Encoded::default();
        let config = EnvelopeConfig { encoding: Encoding::Raw, fields: Fields::Full };
        let constants = Encoder::new(config).encode(&batch, &mut encoded);
        let message = &encoded.messages[0];
        prop_assert_eq!(&encoded.data[message.value.clone()], &body);
        let head = &encoded.data[message.head.clone()];
        let located = locate_raw(&constants.header, head).expect("located");
        prop_assert_eq!((located.file, located.offset, located.length), (FileId(0xabc), start.into(), length.into()));
        prop_assert_eq!(located.path.as_ref(), "/var/log/x.log");
        let head = std::str::from_utf8(head).expect("text");
        prop_assert!(head.contains(" stdout 1970-01-01T00:00:00.000000005Z "), "{}", head);
        prop_assert!(head.ends_with(" flags=partial"), "{}", head);
        let origin: Value = serde_json::from_slice(&constants.header).expect("json");
        prop_assert_eq!(&origin["kubernetes"]["pod"]["name"], "web-0");
    }
}
