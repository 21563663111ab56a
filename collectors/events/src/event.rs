//! One observation of an event, out of either shape that the API has for it: `v1` and `events.k8s.io/v1`.
//!
//! Everything may be null or missing, and nothing is taken for granted: a field that is not what it should be counts as
//! missing. Only an object without any metadata is refused.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

const DAY: i64 = 86_400_000_000_000;
/// How long before the API server was first told something may have happened: news are late where they come from elsewhere.
const BEFORE: i64 = 7 * DAY;
/// How long after the API server was last told: clocks differ ...
const AFTER: i64 = DAY;
/// ... and how long a series may go on where the server does not say when it was last told.
const SERIES: i64 = 30 * DAY;

/// What was seen of an event at one version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The event's own metadata.
    pub meta: Meta,
    /// What it is about.
    pub object: Reference,
    /// What else it is about.
    pub related: Option<Reference>,
    /// Why: one word for machines.
    pub reason: String,
    /// What happened: for people.
    pub message: String,
    /// `Normal` or `Warning`, so far.
    pub kind: String,
    /// What was done about it.
    pub action: String,
    /// How often so far; at least 1.
    pub count: u64,
    /// Who says so: `kubelet`.
    pub component: String,
    /// On which node.
    pub host: String,
    /// Which of several, such as a pod's name.
    pub instance: String,
    /// When it happened first, nanoseconds since the Unix epoch.
    pub first: Option<i64>,
    /// When it happened last.
    pub last: Option<i64>,
}

/// Metadata of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Identity.
    pub uid: String,
    /// The version that this observation is of.
    pub version: String,
    /// What its name was made of.
    pub generate_name: String,
    /// When the object was made, nanoseconds since the Unix epoch.
    pub created: Option<i64>,
    /// When the server took the last change of it, if it says so.
    pub changed: Option<i64>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// An object that an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reference {
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// `Pod`.
    pub kind: String,
    /// Namespace; empty for objects that are in none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Identity.
    pub uid: String,
    /// Version.
    pub version: String,
    /// Which part: `spec.containers{main}`.
    pub field_path: String,
}

impl Event {
    /// Reads an event of either shape.
    ///
    /// # Errors
    /// What is wrong with it, when it is no JSON object with metadata.
    pub fn parse(json: &str) -> Result<Event, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let object = value.as_object().ok_or("not an object")?;
        let meta = meta(object.get("metadata").and_then(Value::as_object).ok_or("no metadata")?);
        let either =
            |old: &str, new: &str| object.get(old).filter(|v| !v.is_null()).or_else(|| object.get(new));
        let source = either("source", "deprecatedSource").and_then(Value::as_object);
        let of_source = |key| source.map(|source| text(source, key)).unwrap_or_default();
        let series = object.get("series").and_then(Value::as_object);
        let event_time = time(object.get("eventTime"));
        let counted = series.and_then(|series| series.get("count")).filter(|count| count.as_u64().is_some());
        let last = series
            .and_then(|series| time(series.get("lastObservedTime")))
            .or_else(|| time(either("lastTimestamp", "deprecatedLastTimestamp")));
        Ok(Event {
            reason: text(object, "reason"),
            message: string(either("message", "note")),
            kind: text(object, "type"),
            action: text(object, "action"),
            count: counted
                .or_else(|| either("count", "deprecatedCount"))
                .and_then(Value::as_u64)
                .unwrap_or(1)
                .max(1),
            component: first_said([
                of_source("component"),
                text(object, "reportingComponent"),
                text(object, "reportingController"),
            ]),
            host: of_source("host"),
            instance: text(object, "reportingInstance"),
            first: time(either("firstTimestamp", "deprecatedFirstTimestamp")).or(event_time).or(meta.created),
            last: last.or(event_time).or(meta.created),
            object: reference(either("involvedObject", "regarding")).unwrap_or_default(),
            related: reference(object.get("related")),
            meta,
        })
    }

    /// When what was seen happened, as whoever wrote the event says. What lies far from when the API server was told is not
    /// believed, but its own time: days are indices, of which an engine has few, and many may write events.
    #[must_use]
    pub fn time(&self) -> Option<i64> {
        let Some(created) = self.meta.created else { return self.last };
        let latest = self.meta.changed.map_or(created.saturating_add(SERIES), |changed| changed.max(created));
        let sane = created.saturating_sub(BEFORE)..=latest.saturating_add(AFTER);
        self.last.filter(|time| sane.contains(time)).or(Some(created))
    }

    /// The node whose kubelet says so, or that it is about.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        let node = if self.object.kind == "Node" { &self.object.name } else { &self.host };
        (!node.is_empty()).then_some(node.as_str())
    }
}

impl Reference {
    /// The container that the field path names.
    #[must_use]
    pub fn container(&self) -> Option<&str> {
        let (field, name) = self.field_path.strip_suffix('}')?.split_once('{')?;
        ["spec.containers", "spec.initContainers", "spec.ephemeralContainers"]
            .contains(&field)
            .then_some(name)
    }
}

fn meta(object: &Map<String, Value>) -> Meta {
    let managers = object.get("managedFields").and_then(Value::as_array).into_iter().flatten();
    Meta {
        name: text(object, "name"),
        namespace: text(object, "namespace"),
        uid: text(object, "uid"),
        version: text(object, "resourceVersion"),
        generate_name: text(object, "generateName"),
        created: time(object.get("creationTimestamp")),
        changed: managers.filter_map(|manager| time(manager.get("time"))).max(),
        labels: texts(object.get("labels")),
        annotations: texts(object.get("annotations")),
    }
}

fn reference(value: Option<&Value>) -> Option<Reference> {
    let object = value?.as_object()?;
    let reference = Reference {
        api_version: text(object, "apiVersion"),
        kind: text(object, "kind"),
        namespace: text(object, "namespace"),
        name: text(object, "name"),
        uid: text(object, "uid"),
        version: text(object, "resourceVersion"),
        field_path: text(object, "fieldPath"),
    };
    (reference != Reference::default()).then_some(reference)
}

fn string(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn text(object: &Map<String, Value>, key: &str) -> String {
    string(object.get(key))
}

fn texts(value: Option<&Value>) -> BTreeMap<String, String> {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn first_said<const N: usize>(texts: [String; N]) -> String {
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

fn time(value: Option<&Value>) -> Option<i64> {
    let time: jiff::Timestamp = value?.as_str()?.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: &str = r#"{"kind":"Event","apiVersion":"v1",
        "metadata":{"name":"web-0.17","namespace":"shop","uid":"u-1","resourceVersion":"42",
                    "creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"x","app.kubernetes.io/name":"y"}},
        "involvedObject":{"kind":"Pod","namespace":"shop","name":"web-0","uid":"u-2","apiVersion":"v1",
                          "resourceVersion":"41","fieldPath":"spec.containers{main}"},
        "reason":"BackOff","message":"Back-off restarting","source":{"component":"kubelet","host":"n1"},
        "firstTimestamp":"2026-01-01T00:00:01Z","lastTimestamp":"2026-01-01T00:00:09Z","count":7,
        "type":"Warning","eventTime":null,"reportingComponent":"kubelet","reportingInstance":"n1"}"#;

    const NEWER: &str = r#"{"kind":"Event","apiVersion":"events.k8s.io/v1",
        "metadata":{"name":"web-0.18","namespace":"shop","uid":"u-3","resourceVersion":"43"},
        "regarding":{"kind":"Pod","namespace":"shop","name":"web-0","uid":"u-2"},
        "related":{"kind":"Node","name":"n1"},
        "reason":"Scheduled","note":"Assigned","action":"Binding","type":"Normal",
        "eventTime":"2026-01-01T00:00:02.000003Z","reportingController":"scheduler","reportingInstance":"s-1",
        "series":{"count":3,"lastObservedTime":"2026-01-01T00:00:05.000006Z"},
        "deprecatedCount":null,"deprecatedFirstTimestamp":null,"deprecatedSource":{}}"#;

    const FIRST: i64 = 1_767_225_600_000_000_000;

    #[test]
    fn an_event_of_the_first_shape_is_read() {
        let event = Event::parse(CORE).expect("an event");
        assert_eq!((event.meta.uid.as_str(), event.meta.version.as_str(), event.count), ("u-1", "42", 7));
        assert_eq!((event.component.as_str(), event.node()), ("kubelet", Some("n1")));
        assert_eq!((event.first, event.last), (Some(FIRST + 1_000_000_000), Some(FIRST + 9_000_000_000)));
        assert_eq!((event.object.kind.as_str(), event.object.container()), ("Pod", Some("main")));
        assert_eq!(event.meta.labels["app.kubernetes.io/name"], "y");
        assert_eq!(event.related, None);
    }

    #[test]
    fn a_time_far_from_the_servers_own_is_not_believed() {
        let changed = r#","managedFields":[{"time":"2026-01-03T00:00:00Z"},{"time":null},7]"#;
        for (managed, last, expected) in [
            ("", "2025-12-31T23:00:00Z", -3600),
            ("", "2025-12-26T00:00:00Z", -6 * 86_400),
            ("", "2025-12-24T00:00:00Z", 0),
            ("", "2026-01-31T00:00:00Z", 30 * 86_400),
            ("", "2026-02-02T00:00:00Z", 0),
            ("", "9999-01-01T00:00:00Z", 0),
            (changed, "2026-01-03T00:00:00Z", 2 * 86_400),
            (changed, "2026-01-03T12:00:00Z", 5 * 43_200),
            (changed, "2026-01-05T00:00:00Z", 0),
        ] {
            let text = format!(
                r#"{{"metadata":{{"creationTimestamp":"2026-01-01T00:00:00Z"{managed}}},"lastTimestamp":"{last}"}}"#
            );
            let event = Event::parse(&text).expect("an event");
            assert_eq!(event.time().map(|time| (time - FIRST) / 1_000_000_000), Some(expected), "{last}");
        }
    }

    #[test]
    fn an_event_of_the_second_shape_is_read() {
        let event = Event::parse(NEWER).expect("an event");
        assert_eq!((event.message.as_str(), event.action.as_str(), event.count), ("Assigned", "Binding", 3));
        assert_eq!((event.component.as_str(), event.instance.as_str()), ("scheduler", "s-1"));
        assert_eq!(event.first, Some(FIRST + 2_000_003_000));
        assert_eq!(event.last, Some(FIRST + 5_000_006_000), "of the series");
        assert_eq!(event.object.name, "web-0");
        assert_eq!(event.related.expect("related").kind, "Node");
    }

    #[test]
    fn the_time_is_the_best_there_is() {
        let time = |fields: &str| {
            let text = format!(r#"{{"metadata":{{"creationTimestamp":"2026-01-01T00:00:01Z"}}{fields}}}"#);
            Event::parse(&text).expect("an event").time().map(|time| (time - FIRST) / 1_000_000_000)
        };
        assert_eq!(time(""), Some(1));
        assert_eq!(time(r#","eventTime":"2026-01-01T00:00:02Z","lastTimestamp":null"#), Some(2));
        assert_eq!(
            time(r#","eventTime":"2026-01-01T00:00:02Z","lastTimestamp":"2026-01-01T00:00:03Z""#),
            Some(3)
        );
        let series =
            r#","lastTimestamp":"2026-01-01T00:00:03Z","series":{"lastObservedTime":"2026-01-01T00:00:04Z"}"#;
        assert_eq!(time(series), Some(4));
        assert_eq!(time(r#","deprecatedLastTimestamp":"2026-01-01T00:00:05Z""#), Some(5));
        assert_eq!(time(r#","lastTimestamp":"soon","eventTime":17"#), Some(1), "nonsense is nothing");
        assert_eq!(Event::parse(r#"{"metadata":{}}"#).expect("an event").time(), None);
    }

    #[test]
    fn whatever_is_null_missing_or_of_another_type_is_missing() {
        let nulls = CORE
            .replace("\"Back-off restarting\"", "null")
            .replace("{\"component\":\"kubelet\",\"host\":\"n1\"}", "null")
            .replace("\"count\":7", "\"count\":\"seven\"");
        let event = Event::parse(&nulls).expect("an event");
        assert_eq!((event.message.as_str(), event.count, event.component.as_str()), ("", 1, "kubelet"));
        let nothing = r#"{"metadata":{"labels":null,"annotations":[1],"uid":7},"involvedObject":null,"series":[],
                          "source":"x","related":{},"count":-3,"type":{}}"#;
        let event = Event::parse(nothing).expect("an event");
        assert_eq!(event, Event { count: 1, ..Event::default() });
    }

    #[test]
    fn what_is_no_event_is_refused_with_the_reason() {
        for text in [
            "",
            "[]",
            "null",
            "{}",
            r#"{"metadata":null}"#,
            "{\"metadata\":{}",
            r#"{"metadata":{},"reason":"\ud800"}"#,
        ] {
            assert!(Event::parse(text).is_err(), "{text}");
        }
        let deep = format!(r#"{{"metadata":{{}},"x":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert!(Event::parse(&deep).is_err());
    }

    #[test]
    fn only_paths_of_containers_name_one() {
        let of = |path: &str| {
            Reference { field_path: path.to_owned(), ..Reference::default() }.container().map(str::to_owned)
        };
        assert_eq!(of("spec.initContainers{setup}"), Some("setup".to_owned()));
        assert_eq!(of("spec.ephemeralContainers{debug}"), Some("debug".to_owned()));
        for path in ["", "spec.containers", "spec.volumes{x}", "{x}", "spec.containers{x"] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
