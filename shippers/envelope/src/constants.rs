//! What all records of one origin and one file have in common, rendered once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use serde_json::{Map, Value};
use taffrail_record::{Container, Input, Origin, Pod, Source, Told, ToldState};

use crate::EnvelopeConfig;

/// Version of the field names (`ecs.version`), the one Filebeat 8 writes.
const ECS_VERSION: &str = "8.0.0";

/// How many origins and files the cache keeps.
const KEPT: usize = 4096;

/// The common part of the records of one origin and one file.
#[derive(Debug, PartialEq, Eq)]
pub struct Constants {
    /// What keeps the records of one container in order: `namespace/pod/container`, the container's name, or the
    /// file's path.
    pub key: Box<[u8]>,
    /// All constant fields as one JSON object: the header `taffrail.origin` of raw records. Empty with minimal fields.
    pub header: Box<[u8]>,
    /// The end of a JSON record: the rest of `log`, all other constant fields and the closing brace.
    pub(crate) tail: Box<[u8]>,
    /// The beginning of a raw record's head: its file.
    pub(crate) head_start: Box<[u8]>,
}

impl Constants {
    fn new(config: &EnvelopeConfig, origin: &Origin, source: &Source) -> Self {
        let full = config.is_full();
        let tree = tree(full, origin, source);
        let header = if full { Value::Object(tree.clone()).to_string() } else { String::new() };
        Constants {
            key: key(origin, source).into_bytes().into(),
            header: header.into_bytes().into(),
            tail: tail(tree).into_bytes().into(),
            head_start: format!("{} ", source.id).into_bytes().into(),
        }
    }
}

/// Keeps constants for as long as their origin and file are in use, and some longer. An entry owns the `Arc`s whose
/// addresses name it, so an address is never found under another's name.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<(usize, usize), Cached>,
}

#[derive(Debug)]
struct Cached {
    origin: Arc<Origin>,
    source: Arc<Source>,
    constants: Arc<Constants>,
}

impl Cache {
    pub(crate) fn get(
        &mut self,
        config: &EnvelopeConfig,
        origin: &Arc<Origin>,
        source: &Arc<Source>,
    ) -> Arc<Constants> {
        if self.entries.len() >= KEPT {
            self.shrink();
        }
        match self.entries.entry((Arc::as_ptr(origin).addr(), Arc::as_ptr(source).addr())) {
            Entry::Occupied(entry) => Arc::clone(&entry.get().constants),
            Entry::Vacant(entry) => {
                let constants = Arc::new(Constants::new(config, origin, source));
                let (origin, source) = (Arc::clone(origin), Arc::clone(source));
                Arc::clone(&entry.insert(Cached { origin, source, constants }).constants)
            }
        }
    }

    /// Forgets what nobody else holds; everything, when that would not be half.
    fn shrink(&mut self) {
        self.entries.retain(|_, cached| {
            Arc::strong_count(&cached.origin) > 1 && Arc::strong_count(&cached.source) > 1
        });
        if self.entries.len() > KEPT / 2 {
            self.entries.clear();
        }
    }
}

fn key(origin: &Origin, source: &Source) -> String {
    let named = origin.display();
    if named == "-" { source.path.to_string_lossy().into_owned() } else { named }
}

/// The JSON text after the record's own members of `log`, which is still open.
fn tail(mut tree: Map<String, Value>) -> String {
    let mut text = String::new();
    if let Some(Value::Object(log)) = tree.shift_remove("log") {
        push_members(&mut text, log);
    }
    text.push('}');
    push_members(&mut text, tree);
    text.push('}');
    text
}

fn push_members(text: &mut String, members: Map<String, Value>) {
    for (name, value) in members {
        text.push(',');
        text.push_str(&Value::String(name).to_string());
        text.push(':');
        text.push_str(&value.to_string());
    }
}

fn tree(full: bool, origin: &Origin, source: &Source) -> Map<String, Value> {
    let mut tree = Map::new();
    let mut put = |name: &str, value: &str| {
        if !value.is_empty() {
            insert(&mut tree, name, value);
        }
    };
    put("log.file.path", &source.path.to_string_lossy());
    if full && (source.device, source.inode) != (0, 0) {
        put("log.file.device_id", &source.device.to_string());
        put("log.file.inode", &source.inode.to_string());
    }
    put("log.file.fingerprint", &source.id.to_string());
    if full {
        put("input.type", input_type(origin.input));
    }
    put("host.name", &origin.node.name);
    if let Some(container) = &origin.container {
        put_container(&mut put, container, origin.pod.is_some());
    }
    if let Some(pod) = &origin.pod {
        put_pod(&mut put, pod, origin);
    }
    put("orchestrator.cluster.name", &origin.node.cluster);
    if full {
        put("orchestrator.cluster.id", &origin.node.cluster_id);
        if origin.pod.is_some() {
            put("kubernetes.node.uid", &origin.node.uid);
            put("kubernetes.node.hostname", &origin.node.hostname);
        }
        put("ecs.version", ECS_VERSION);
        put("agent.type", "taffrail");
        put("agent.name", &origin.node.name);
        put("agent.version", env!("CARGO_PKG_VERSION"));
    }
    if let Some(pod) = &origin.pod {
        if full && let Some(Value::Object(kubernetes)) = tree.get_mut("kubernetes") {
            insert_labels(kubernetes, "node", "labels", &origin.node.labels);
        }
        insert_labels(&mut tree, "kubernetes", "labels", &pod.labels);
        if let Some(told) = &pod.told {
            insert_labels(&mut tree, "kubernetes", "annotations", &told.annotations);
            insert_labels(&mut tree, "kubernetes", "namespace_labels", &told.namespace_labels);
            insert_fields(&mut tree, &told.fields);
        }
    }
    if let Some(container) = origin.container.as_ref().filter(|_| full) {
        insert_labels(&mut tree, "container", "labels", &container.labels);
    }
    insert_fields(&mut tree, &origin.node.fields);
    tree
}

fn put_container(put: &mut impl FnMut(&str, &str), container: &Container, in_pod: bool) {
    put("container.id", &container.id);
    // In Kubernetes the name is the pod's business and goes into `kubernetes.container.name`, as Filebeat has it.
    if !in_pod {
        put("container.name", &container.name);
    }
    put("container.runtime", &container.runtime);
    put("container.image.name", &container.image);
}

fn put_pod(put: &mut impl FnMut(&str, &str), pod: &Pod, origin: &Origin) {
    put("kubernetes.namespace", &pod.namespace);
    put("kubernetes.node.name", &origin.node.name);
    put("kubernetes.pod.name", &pod.name);
    put("kubernetes.pod.uid", &pod.uid);
    put("kubernetes.container.name", origin.container.as_ref().map_or("", |c| c.name.as_str()));
    if let Some(told) = &pod.told {
        put_told(put, told);
    }
}

fn put_told(put: &mut impl FnMut(&str, &str), told: &Told) {
    put("kubernetes.pod.ip", &told.ip);
    put("kubernetes.namespace_uid", &told.namespace_uid);
    for (kind, name) in &told.owners {
        // A kind is CamelCase; whatever else an owner reference says would make fields of its own.
        if kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            put(&format!("kubernetes.{}.name", kind.to_ascii_lowercase()), name);
        }
    }
    put("kubernetes.detached_from", &told.detached_from);
    if told.state == ToldState::Nothing {
        put("kubernetes.metadata", "missing");
    }
}

fn input_type(input: Input) -> &'static str {
    match input {
        Input::Kubernetes => "container",
        Input::Docker => "docker",
        Input::File => "filestream",
        Input::Agent => "taffrail",
        Input::Events => "kubernetes_events",
        Input::Audit => "audit",
    }
}

/// Labels keep their own names but for the dots, which become underscores as Filebeat's `labels.dedot` makes them:
/// `app` and `app.kubernetes.io/name` could not both be fields otherwise.
fn insert_labels<'a>(
    tree: &mut Map<String, Value>,
    of: &str,
    field: &str,
    labels: impl IntoIterator<Item = (&'a String, &'a String)>,
) {
    let labels: Map<String, Value> = labels
        .into_iter()
        .map(|(name, value)| (name.replace('.', "_"), Value::from(value.as_str())))
        .collect();
    if labels.is_empty() {
        return;
    }
    let parent = tree.entry(of).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(parent) = parent {
        parent.insert(field.to_owned(), Value::Object(labels));
    }
}

/// Fields that somebody has named. Those that [`check_field`] refuses would displace what the record itself says: left out.
fn insert_fields(tree: &mut Map<String, Value>, fields: &[(String, String)]) {
    for (name, value) in fields.iter().filter(|(name, _)| check_field(name).is_ok()) {
        insert(tree, name, value);
    }
}

/// Puts a string under a dotted name. Where a part of the name is a value already, nothing happens.
fn insert(tree: &mut Map<String, Value>, name: &str, value: &str) {
    let mut parts = name.split('.').peekable();
    let mut level = tree;
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            if !matches!(level.get(part), Some(Value::Object(_))) {
                level.insert(part.to_owned(), Value::from(value));
            }
            return;
        }
        match level.entry(part).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(next) => level = next,
            _ => return,
        }
    }
}

/// A static field's name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// A part between dots is empty.
    #[error("field name {0:?} has an empty part; write it like service.environment")]
    Empty(String),
    /// Records have this field already, and it differs from record to record.
    #[error("field name {0:?} is taken by the record itself; choose another, such as labels.{0}")]
    Taken(String),
}

/// Checks the dotted name of a static field; the configuration calls it before the first record is written.
///
/// # Errors
/// [`FieldError`] when the name is malformed or the record's own.
pub fn check_field(name: &str) -> Result<(), FieldError> {
    const OWN: [&str; 11] = [
        "@timestamp",
        "message",
        "stream",
        "log.offset",
        "log.length",
        "log.flags",
        "log.fragments",
        "log.truncated_bytes",
        "log.original",
        "log.file",
        "ledger",
    ];
    if name.split('.').any(str::is_empty) {
        return Err(FieldError::Empty(name.to_owned()));
    }
    let taken = name == "log"
        || OWN
            .iter()
            .any(|own| name.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
    if taken { Err(FieldError::Taken(name.to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use taffrail_record::FileId;

    use super::*;

    fn source(path: &str) -> Arc<Source> {
        Arc::new(Source { id: FileId(7), path: path.into(), device: 0, inode: 0 })
    }

    #[test]
    fn names_that_belong_to_the_record_are_refused() {
        for taken in ["message", "log", "log.offset", "log.file.path", "@timestamp", "stream.x"] {
            assert_eq!(check_field(taken), Err(FieldError::Taken(taken.to_owned())));
        }
        for empty in ["", "a..b", ".a", "a."] {
            assert_eq!(check_field(empty), Err(FieldError::Empty(empty.to_owned())));
        }
        for good in ["labels.idc", "log.level", "logs", "service.environment", "messages"] {
            assert_eq!(check_field(good), Ok(()));
        }
    }

    #[test]
    fn constants_are_rendered_once_per_origin_and_file_and_the_cache_is_bounded() {
        let mut cache = Cache::default();
        let config = EnvelopeConfig::default();
        let origin = Arc::new(Origin::default());
        let (one, two) = (source("/one"), source("/two"));
        let first = cache.get(&config, &origin, &one);
        assert!(Arc::ptr_eq(&first, &cache.get(&config, &origin, &one)));
        assert_eq!(&*cache.get(&config, &origin, &two).key, b"/two");
        for _ in 0..2 * KEPT {
            let _ = cache.get(&config, &origin, &source("/gone"));
        }
        assert!(cache.entries.len() <= KEPT);
        assert_eq!(cache.get(&config, &origin, &one), first);
    }

    #[test]
    fn the_key_is_the_container_or_else_the_file() {
        let pod = Pod { namespace: "ns".into(), name: "pod".into(), ..Pod::default() };
        let container = Container { name: "c".into(), ..Container::default() };
        let docker = Origin { container: Some(container.clone()), ..Origin::default() };
        let kubernetes = Origin { pod: Some(pod), container: Some(container), ..Origin::default() };
        assert_eq!(key(&Origin::default(), &source("/f")), "/f");
        assert_eq!(key(&docker, &source("/f")), "c");
        assert_eq!(key(&kubernetes, &source("/f")), "ns/pod/c");
    }
}
