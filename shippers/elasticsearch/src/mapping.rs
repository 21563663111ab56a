//! The index template: how the fields of events are found again.
//!
//! No document changes the mapping. Labels are one field whatever their names are, so `app` and `app.kubernetes.io/name`
//! live beside each other; annotations are kept and not searched; a date that is none spoils nothing but itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::ElasticsearchConfig;
use crate::product::Engine;

/// Who made it, in `_meta` of what is installed.
pub(crate) const OWNER: &str = "taffrail";

/// Above those of the engines' own templates (100 to 200).
const PRIORITY: u64 = 250;

const KEYWORDS: [&str; 58] = [
    "agent.id",
    "agent.name",
    "agent.type",
    "agent.version",
    "cloud.availability_zone",
    "cloud.region",
    "container.id",
    "container.image.name",
    "container.name",
    "container.runtime",
    "ecs.version",
    "error.message",
    "event.action",
    "event.category",
    "event.code",
    "event.dataset",
    "event.id",
    "event.kind",
    "event.module",
    "event.outcome",
    "event.provider",
    "event.reason",
    "event.type",
    "host.hostname",
    "host.name",
    "input.type",
    "kubernetes.container.name",
    "kubernetes.cronjob.name",
    "kubernetes.cronjob.uid",
    "kubernetes.daemonset.name",
    "kubernetes.daemonset.uid",
    "kubernetes.deployment.name",
    "kubernetes.deployment.uid",
    "kubernetes.job.name",
    "kubernetes.job.uid",
    "kubernetes.namespace",
    "kubernetes.node.name",
    "kubernetes.node.uid",
    "kubernetes.pod.name",
    "kubernetes.pod.uid",
    "kubernetes.replicaset.name",
    "kubernetes.replicaset.uid",
    "kubernetes.statefulset.name",
    "kubernetes.statefulset.uid",
    "log.level",
    "observer.name",
    "orchestrator.api_version",
    "orchestrator.cluster.id",
    "orchestrator.cluster.name",
    "orchestrator.namespace",
    "orchestrator.resource.id",
    "orchestrator.resource.name",
    "orchestrator.resource.parent.type",
    "orchestrator.resource.type",
    "orchestrator.type",
    "service.environment",
    "service.name",
    "service.version",
];

/// Below `kubernetes.event`.
const EVENT_KEYWORDS: [&str; 30] = [
    "action",
    "involved_object.api_version",
    "involved_object.field_path",
    "involved_object.kind",
    "involved_object.name",
    "involved_object.namespace",
    "involved_object.resource_version",
    "involved_object.uid",
    "metadata.generate_name",
    "metadata.name",
    "metadata.namespace",
    "metadata.resource_version",
    "metadata.uid",
    "owner.kind",
    "owner.name",
    "owner.uid",
    "reason",
    "related.api_version",
    "related.field_path",
    "related.kind",
    "related.name",
    "related.namespace",
    "related.resource_version",
    "related.uid",
    "reporting_component",
    "reporting_instance",
    "source.component",
    "source.host",
    "source.instance",
    "type",
];

const DATES: [&str; 10] = [
    "event.created",
    "event.end",
    "event.ingested",
    "event.start",
    "kubernetes.event.event_time",
    "kubernetes.event.metadata.creation_timestamp",
    "kubernetes.event.metadata.timestamp.created",
    "kubernetes.event.series.last_observed_time",
    "kubernetes.event.timestamp.first_occurrence",
    "kubernetes.event.timestamp.last_occurrence",
];

const NUMBERS: [&str; 5] = [
    "event.duration",
    "event.sequence",
    "event.severity",
    "kubernetes.event.count",
    "kubernetes.event.series.count",
];

/// Objects whose keys are anybody's choice.
const LABELS: [&str; 7] = [
    "container.labels",
    "kubernetes.event.involved_object.labels",
    "kubernetes.event.metadata.labels",
    "kubernetes.labels",
    "kubernetes.namespace_labels",
    "kubernetes.node.labels",
    "labels",
];

const KEPT: [&str; 3] =
    ["kubernetes.annotations", "kubernetes.event.metadata.annotations", "kubernetes.namespace_annotations"];

/// The template for this engine; `policy` names its lifecycle policy, where the engine reads it from here.
pub(crate) fn template(config: &ElasticsearchConfig, engine: &Engine, policy: Option<&str>) -> Value {
    let mut index = json!({"number_of_shards": "1", "refresh_interval": "5s", "codec": "best_compression"});
    if let Some(policy) = policy {
        index["lifecycle"] = json!({"name": policy});
    }
    let mut template = json!({
        "index_patterns": [config.index.pattern()],
        "priority": PRIORITY,
        "template": {"settings": {"index": index}, "mappings": mappings(engine)},
    });
    if config.data_stream {
        template["data_stream"] = json!({});
    }
    let hash = fingerprint(&template);
    template["_meta"] = json!({
        "managed_by": OWNER,
        "fingerprint": hash,
        "description": "Events kept by taffrail. It brings this up to date until somebody changes it.",
    });
    template
}

fn mappings(engine: &Engine) -> Value {
    let keyword = json!({"type": "keyword", "ignore_above": 1024});
    let mut root = Map::new();
    put(&mut root, "@timestamp", json!({"type": "date_nanos"}));
    put(&mut root, "tags", keyword.clone());
    let searched = json!({"keyword": {"type": "keyword", "ignore_above": 1024}});
    put(&mut root, "message", json!({"type": "text", "fields": searched}));
    for name in KEYWORDS {
        put(&mut root, name, keyword.clone());
    }
    for name in EVENT_KEYWORDS {
        put(&mut root, &format!("kubernetes.event.{name}"), keyword.clone());
    }
    for name in ["event.original", "kubernetes.event.message", "kubernetes.event.note"] {
        put(&mut root, name, json!({"type": "keyword", "index": false, "doc_values": false}));
    }
    for name in DATES {
        put(&mut root, name, json!({"type": "date_nanos", "ignore_malformed": true}));
    }
    for name in NUMBERS {
        put(&mut root, name, json!({"type": "long", "ignore_malformed": true}));
    }
    for name in LABELS {
        put(&mut root, name, engine.any_labels());
    }
    for name in KEPT {
        put(&mut root, name, json!({"type": "object", "enabled": false}));
    }
    json!({"dynamic": "false", "date_detection": false, "properties": root})
}

/// Puts a field into nested `properties`, by its dotted name.
fn put(properties: &mut Map<String, Value>, name: &str, field: Value) {
    match name.split_once('.') {
        None => {
            properties.insert(name.to_owned(), field);
        }
        Some((first, rest)) => {
            let object = properties.entry(first).or_insert_with(|| json!({"properties": {}}));
            if let Some(inner) = object["properties"].as_object_mut() {
                put(inner, rest, field);
            }
        }
    }
}

/// What a template says, whatever the order of its keys and however its values are written; `_meta` aside.
pub(crate) fn fingerprint(template: &Value) -> String {
    let mut leaves = BTreeMap::new();
    for part in ["index_patterns", "priority", "template", "data_stream"] {
        flatten(part, &template[part], &mut leaves);
    }
    let mut text = String::new();
    for (name, value) in leaves {
        text.push_str(&name);
        text.push('=');
        text.push_str(&value);
        text.push('\n');
    }
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

fn flatten(name: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(key, value)| flatten(&format!("{name}.{key}"), value, leaves));
        }
        Value::Array(array) => {
            array.iter().enumerate().for_each(|(at, value)| flatten(&format!("{name}.{at}"), value, leaves));
        }
        Value::Null => {}
        Value::String(text) => drop(leaves.insert(name.to_owned(), text.clone())),
        other => drop(leaves.insert(name.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::Product;

    fn engine(product: Product) -> Engine {
        Engine { product, version: "2.19.6".to_owned() }
    }

    #[test]
    fn a_fingerprint_is_of_what_is_said_and_not_how() {
        let one = json!({"template": {"a": {"b": true, "c": 1}}, "priority": 7, "_meta": {"x": 1}});
        let same = json!({"priority": "7", "template": {"a": {"c": "1", "b": "true"}, "n": null}});
        let other = json!({"template": {"a": {"b": false, "c": 1}}, "priority": 7});
        assert_eq!(fingerprint(&one), fingerprint(&same));
        assert_ne!(fingerprint(&one), fingerprint(&other));
    }

    #[test]
    fn labels_are_one_field_in_the_words_of_each_engine() {
        let config = ElasticsearchConfig::default();
        for (product, kind) in [(Product::OpenSearch, "flat_object"), (Product::Elasticsearch, "flattened")] {
            let made = template(&config, &engine(product), None);
            let field = |path: &str| made.pointer(&format!("/template/mappings/properties/{path}")).cloned();
            assert_eq!(field("kubernetes/properties/labels/type"), Some(json!(kind)));
            assert_eq!(field("labels/type"), Some(json!(kind)));
            assert_eq!(field("@timestamp/type"), Some(json!("date_nanos")));
            assert_eq!(made["index_patterns"], json!(["taffrail-events-*"]));
        }
        let old = Engine { product: Product::OpenSearch, version: "2.6.0".to_owned() };
        assert_eq!(old.any_labels(), json!({"type": "object", "enabled": false}));
    }
}
