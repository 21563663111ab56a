//! An event as it is stored: a JSON document in ECS names, and its id.
//!
//! The id is the same whoever observes the event, and however often: made of the cluster, the event and its version. What
//! is said of the event itself is as near to Metricbeat's `kubernetes.event` as its source is; to whom it happened
//! stands where log records and metrics have it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Map, Value, json};
use taffrail_pods::Owner;
use taffrail_record::Node;
use taffrail_spool::stamp;

use crate::event::{Event, Reference};

const ECS_VERSION: &str = "8.0.0";

/// What is the same for every document that this agent writes.
#[derive(Debug, Clone)]
pub struct Writer {
    node: Arc<ArcSwap<Node>>,
    cluster: String,
}

/// A document and what is known about it besides.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Up to 512 bytes of printable ASCII.
    pub id: String,
    /// When it happened, nanoseconds since the Unix epoch.
    pub time: i64,
    /// The JSON.
    pub body: Vec<u8>,
}

/// Longer parts of an id are replaced by their hash.
const LONGEST_PART: usize = 128;

impl Writer {
    /// One that writes about the cluster with this id.
    #[must_use]
    pub fn new(node: Arc<ArcSwap<Node>>, cluster: impl Into<String>) -> Self {
        Writer { node, cluster: cluster.into() }
    }

    /// The document of an event that was observed `now` (nanoseconds since the Unix epoch), about an object with these
    /// owners, nearest first.
    #[must_use]
    pub fn document(&self, event: &Event, owners: &[Owner], now: i64) -> Document {
        let id = self.id(&event.meta.uid, &event.meta.version);
        let time = event.time().unwrap_or(now);
        let mut tree = self.head(&id, time, now);
        put(&mut tree, "message", event.message.as_str());
        described(&mut tree, event);
        told(&mut tree, event);
        concerned(&mut tree, event, owners);
        self.constants(&mut tree);
        Document { id, time, body: Value::Object(tree).to_string().into_bytes() }
    }

    /// The document of what should have been an event: what it was, whole, and why it is none. Its id is that of its
    /// content, where nothing better can be told.
    #[must_use]
    pub fn unreadable(&self, json: &str, why: &str, version: &str, now: i64) -> Document {
        let content = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(json.as_bytes()));
        let id = self.id(&content, version);
        let mut tree = self.head(&id, now, now);
        put(&mut tree, "message", "an event that cannot be read");
        put(&mut tree, "error.message", why);
        put(&mut tree, "event.original", json);
        put(&mut tree, "tags", json!(["unreadable_event"]));
        self.constants(&mut tree);
        Document { id, time: now, body: Value::Object(tree).to_string().into_bytes() }
    }

    pub(crate) fn id(&self, event: &str, version: &str) -> String {
        [self.cluster.as_str(), event, version].map(part).join(":")
    }

    fn head(&self, id: &str, time: i64, now: i64) -> Map<String, Value> {
        let mut tree = Map::new();
        put(&mut tree, "@timestamp", stamp(time));
        put(&mut tree, "event.id", id);
        put(&mut tree, "event.kind", "event");
        put(&mut tree, "event.module", "kubernetes");
        put(&mut tree, "event.dataset", "kubernetes.event");
        put(&mut tree, "event.created", stamp(now));
        tree
    }

    fn constants(&self, tree: &mut Map<String, Value>) {
        let node = self.node.load();
        put(tree, "orchestrator.type", "kubernetes");
        put(tree, "orchestrator.cluster.name", node.cluster.as_str());
        put(tree, "orchestrator.cluster.id", self.cluster.as_str());
        put(tree, "host.name", node.name.as_str());
        put(tree, "input.type", "kubernetes_events");
        put(tree, "ecs.version", ECS_VERSION);
        put(tree, "agent.type", "taffrail");
        put(tree, "agent.name", node.name.as_str());
        put(tree, "agent.version", env!("CARGO_PKG_VERSION"));
        for (name, value) in &node.fields {
            put(tree, name, value.as_str());
        }
    }
}

/// In the words of ECS.
fn described(tree: &mut Map<String, Value>, event: &Event) {
    let is_warning = event.kind == "Warning";
    put(tree, "event.type", json!([if is_warning { "error" } else { "info" }]));
    put(tree, "event.action", if event.action.is_empty() { &event.reason } else { &event.action }.as_str());
    put(tree, "event.reason", event.reason.as_str());
    put(tree, "event.provider", event.component.as_str());
    put(tree, "event.start", event.first.map(stamp));
    put(tree, "event.end", event.last.map(stamp));
    put(tree, "log.level", if is_warning { "warning" } else { "info" });
}

/// In the words of Metricbeat.
fn told(tree: &mut Map<String, Value>, event: &Event) {
    put(tree, "kubernetes.event.type", event.kind.as_str());
    put(tree, "kubernetes.event.reason", event.reason.as_str());
    put(tree, "kubernetes.event.message", event.message.as_str());
    put(tree, "kubernetes.event.action", event.action.as_str());
    put(tree, "kubernetes.event.count", event.count);
    put(tree, "kubernetes.event.source.component", event.component.as_str());
    put(tree, "kubernetes.event.source.host", event.host.as_str());
    put(tree, "kubernetes.event.source.instance", event.instance.as_str());
    put(tree, "kubernetes.event.timestamp.first_occurrence", event.first.map(stamp));
    put(tree, "kubernetes.event.timestamp.last_occurrence", event.last.map(stamp));
    put(tree, "kubernetes.event.involved_object", reference(&event.object));
    put(tree, "kubernetes.event.related", event.related.as_ref().map(reference));
    let meta = &event.meta;
    put(tree, "kubernetes.event.metadata.name", meta.name.as_str());
    put(tree, "kubernetes.event.metadata.generate_name", meta.generate_name.as_str());
    put(tree, "kubernetes.event.metadata.namespace", meta.namespace.as_str());
    put(tree, "kubernetes.event.metadata.uid", meta.uid.as_str());
    put(tree, "kubernetes.event.metadata.resource_version", meta.version.as_str());
    put(tree, "kubernetes.event.metadata.timestamp.created", meta.created.map(stamp));
    put(tree, "kubernetes.event.metadata.labels", json!(meta.labels));
    put(tree, "kubernetes.event.metadata.annotations", json!(meta.annotations));
}

/// Where records and metrics of the same object say whose they are.
fn concerned(tree: &mut Map<String, Value>, event: &Event, owners: &[Owner]) {
    let object = &event.object;
    put(tree, "orchestrator.api_version", object.api_version.as_str());
    put(tree, "orchestrator.namespace", object.namespace.as_str());
    put(tree, "orchestrator.resource.type", object.kind.to_lowercase());
    put(tree, "orchestrator.resource.name", object.name.as_str());
    put(tree, "orchestrator.resource.id", object.uid.as_str());
    put(tree, "kubernetes.namespace", object.namespace.as_str());
    put(tree, "kubernetes.node.name", event.node().unwrap_or_default());
    if let Some(field) = field_of(&object.kind) {
        put(tree, &format!("kubernetes.{field}.name"), object.name.as_str());
        put(tree, &format!("kubernetes.{field}.uid"), object.uid.as_str());
    }
    put(tree, "kubernetes.container.name", object.container().unwrap_or_default());
    for owner in owners {
        if let Some(field) = field_of(&owner.kind) {
            put(tree, &format!("kubernetes.{field}.name"), &*owner.name);
        }
    }
    if let Some(top) = owners.last() {
        put(tree, "orchestrator.resource.parent.type", top.kind.to_lowercase());
        put(tree, "kubernetes.event.owner", json!({ "kind": top.kind, "name": top.name }));
    }
}

fn field_of(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Pod" => "pod",
        "Node" => "node",
        "Deployment" => "deployment",
        "ReplicaSet" => "replicaset",
        "StatefulSet" => "statefulset",
        "DaemonSet" => "daemonset",
        "Job" => "job",
        "CronJob" => "cronjob",
        _ => return None,
    })
}

fn reference(object: &Reference) -> Value {
    let mut tree = Map::new();
    put(&mut tree, "api_version", object.api_version.as_str());
    put(&mut tree, "kind", object.kind.as_str());
    put(&mut tree, "name", object.name.as_str());
    put(&mut tree, "namespace", object.namespace.as_str());
    put(&mut tree, "uid", object.uid.as_str());
    put(&mut tree, "resource_version", object.version.as_str());
    put(&mut tree, "field_path", object.field_path.as_str());
    Value::Object(tree)
}

/// Puts a value under a dotted name unless it says nothing or stands already; the first to say something is right.
fn put(tree: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    let value = value.into();
    let says_nothing = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    };
    if says_nothing {
        return;
    }
    match name.split_once('.') {
        None => {
            tree.entry(name).or_insert(value);
        }
        Some((first, rest)) => {
            let below = tree.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(below) = below {
                put(below, rest, value);
            }
        }
    }
}

fn part(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    if text.len() <= LONGEST_PART && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> Writer {
        let fields = [("labels.idc", "b2"), ("kubernetes.namespace", "mine"), ("message.x", "no")];
        let node = Node {
            name: "n1".to_owned(),
            cluster: "prod".to_owned(),
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            ..Node::default()
        };
        Writer::new(Arc::new(ArcSwap::from_pointee(node)), "c-1")
    }

    #[test]
    fn what_is_found_out_later_is_on_documents_from_then_on() {
        let node = Arc::new(ArcSwap::from_pointee(Node::default()));
        let writer = Writer::new(Arc::clone(&node), "c-1");
        let name = || read(&writer.document(&event("{}"), &[], 0))["orchestrator"]["cluster"]["name"].clone();
        assert_eq!(name(), Value::Null);
        node.store(Arc::new(Node { cluster: "prod".to_owned(), ..Node::default() }));
        assert_eq!(name(), "prod");
    }

    fn event(object: &str) -> Event {
        let text = format!(
            r#"{{"metadata":{{"name":"web-0.17","namespace":"shop","uid":"u-1","resourceVersion":"42",
               "labels":{{"app":"x","app.kubernetes.io/name":"y"}}}},"involvedObject":{object},
               "reason":"BackOff","message":"Back-off","source":{{"component":"kubelet","host":"n7"}},
               "firstTimestamp":"2026-01-01T00:00:01Z","lastTimestamp":"2026-01-01T00:00:09Z","count":7,"type":"Warning"}}"#
        );
        Event::parse(&text).expect("an event")
    }

    fn read(document: &Document) -> Value {
        serde_json::from_slice(&document.body).expect("JSON")
    }

    const POD: &str = r#"{"kind":"Pod","namespace":"shop","name":"web-0","uid":"u-2","apiVersion":"v1",
        "resourceVersion":"41","fieldPath":"spec.containers{main}"}"#;

    #[test]
    fn a_document_says_what_happened_to_whom() {
        let owners = [Owner::new("ReplicaSet", "web-7d4b"), Owner::new("Deployment", "web")];
        let document = writer().document(&event(POD), &owners, 1_767_225_700_000_000_000);
        assert_eq!((document.id.as_str(), document.time), ("c-1:u-1:42", 1_767_225_609_000_000_000));
        let expected = json!({
            "@timestamp": "2026-01-01T00:00:09.000000000Z",
            "message": "Back-off",
            "event": {
                "id": "c-1:u-1:42", "kind": "event", "module": "kubernetes", "dataset": "kubernetes.event",
                "created": "2026-01-01T00:01:40.000000000Z", "type": ["error"], "action": "BackOff", "reason": "BackOff",
                "provider": "kubelet", "start": "2026-01-01T00:00:01.000000000Z", "end": "2026-01-01T00:00:09.000000000Z",
            },
            "log": { "level": "warning" },
            "kubernetes": {
                "event": {
                    "type": "Warning", "reason": "BackOff", "message": "Back-off", "count": 7,
                    "source": { "component": "kubelet", "host": "n7" },
                    "timestamp": {
                        "first_occurrence": "2026-01-01T00:00:01.000000000Z",
                        "last_occurrence": "2026-01-01T00:00:09.000000000Z",
                    },
                    "involved_object": {
                        "api_version": "v1", "kind": "Pod", "name": "web-0", "namespace": "shop", "uid": "u-2",
                        "resource_version": "41", "field_path": "spec.containers{main}",
                    },
                    "metadata": {
                        "name": "web-0.17", "namespace": "shop", "uid": "u-1", "resource_version": "42",
                        "labels": { "app": "x", "app.kubernetes.io/name": "y" },
                    },
                    "owner": { "kind": "Deployment", "name": "web" },
                },
                "namespace": "shop", "node": { "name": "n7" }, "pod": { "name": "web-0", "uid": "u-2" },
                "container": { "name": "main" }, "replicaset": { "name": "web-7d4b" }, "deployment": { "name": "web" },
            },
            "orchestrator": {
                "type": "kubernetes", "api_version": "v1", "namespace": "shop", "cluster": { "name": "prod", "id": "c-1" },
                "resource": { "type": "pod", "name": "web-0", "id": "u-2", "parent": { "type": "deployment" } },
            },
            "host": { "name": "n1" },
            "input": { "type": "kubernetes_events" },
            "ecs": { "version": ECS_VERSION },
            "agent": { "type": "taffrail", "name": "n1", "version": env!("CARGO_PKG_VERSION") },
            "labels": { "idc": "b2" },
        });
        assert_eq!(read(&document), expected);
    }

    #[test]
    fn an_event_of_a_node_is_in_no_namespace() {
        let text = r#"{"kind":"Node","name":"n7","uid":"n7"}"#;
        let document = read(&writer().document(&event(text), &[], 0));
        assert_eq!(document["kubernetes"]["node"], json!({ "name": "n7", "uid": "n7" }));
        assert_eq!(document["kubernetes"]["namespace"], "mine", "what nobody else says may be configured");
        assert_eq!(document["orchestrator"]["namespace"], Value::Null);
    }

    #[test]
    fn an_event_without_a_time_has_that_of_its_observation() {
        let empty = Event::parse(r#"{"metadata":{}}"#).expect("an event");
        let document = writer().document(&empty, &[], 7);
        assert_eq!(document.time, 7);
        assert_eq!(read(&document)["kubernetes"]["event"], json!({ "count": 1 }));
    }

    #[test]
    fn ids_are_bounded_and_printable_whatever_they_are_made_of() {
        let long = "x".repeat(5000);
        for uid in [long.as_str(), "a:b", "a b", "\u{1b}[2J", "ü", "\0"] {
            let id = Writer::new(Arc::default(), long.clone()).id(uid, "1");
            assert!(id.len() <= 512 && id.bytes().all(|byte| byte.is_ascii_graphic()), "{id}");
        }
        let writer = writer();
        assert_ne!(writer.id("a:b", "1"), writer.id("a", "b:1"));
        assert_eq!(writer.id("", "1"), "c-1::1");
    }

    #[test]
    fn what_cannot_be_read_is_kept_whole_with_the_reason() {
        let text = "{\"metadata\":{},\"reason\":\"\\ud800\u{7}\"}";
        let why = Event::parse(text).expect_err("no event");
        let document = writer().unreadable(text, &why, "9", 5);
        let value = read(&document);
        assert_eq!(value["event"]["original"], text);
        assert_eq!(value["error"]["message"].as_str(), Some(why.as_str()));
        assert_eq!(document, writer().unreadable(text, &why, "9", 5));
    }

    #[test]
    fn a_megabyte_of_anything_is_a_document() {
        let message = "\u{0}\u{1b}\"\\\u{2028}é".repeat(100_000);
        let text = json!({ "metadata": { "uid": "u" }, "message": message }).to_string();
        let document = writer().document(&Event::parse(&text).expect("an event"), &[], 0);
        assert_eq!(read(&document)["message"].as_str(), Some(message.as_str()));
    }
}
