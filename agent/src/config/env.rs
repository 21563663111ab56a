//! Overrides from the environment: `TAFFRAIL_HTTP__LISTEN=0.0.0.0:9126` sets `http.listen`.
//!
//! Names are matched without regard to case; values are typed by the key they set. Lists are written with commas
//! or as YAML, whole tables as YAML. Variables without a double underscore are none of ours: Kubernetes puts
//! `TAFFRAIL_PORT` and the like into every pod beside a service named taffrail.

use serde::de::{DeserializeSeed, Visitor};
use serde_json::{Map, Value};

use super::error::{Given, Problem};
use super::guide::{Guide, below, join, unknown_key};
use super::shape::Shape;

/// What every override begins with.
pub const PREFIX: &str = "TAFFRAIL_";

/// One variable that sets one key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Override {
    pub(super) variable: String,
    pub(super) path: Vec<String>,
    pub(super) value: Value,
}

impl Override {
    /// Whether it sets this dotted path, something above it or something below it.
    pub(super) fn touches(&self, path: &str) -> bool {
        let own = self.path.join(".");
        let within = |outer: &str, inner: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        within(&own, path) || within(path, &own)
    }

    /// Puts the value into `root`.
    pub(super) fn apply(&self, root: &mut Value) {
        let mut place = root;
        for name in &self.path {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let Value::Object(object) = place else { return };
            place = object.entry(name.clone()).or_insert(Value::Null);
        }
        *place = self.value.clone();
    }
}

/// Reads all overrides among `variables`, in the order of their names.
pub(super) fn overrides(
    root: &Shape,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<Override>, Vec<Problem>> {
    let mut ours: Vec<(String, String)> = variables
        .into_iter()
        .filter(|(name, _)| strip_prefix(name).is_some_and(|rest| rest.contains("__")))
        .collect();
    ours.sort();
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (variable, text) in ours {
        match one(root, &variable, &text) {
            Ok((path, value)) => found.push(Override { variable, path, value }),
            Err(message) => problems.push(Problem { given: Given::Variable(variable), message }),
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

fn strip_prefix(name: &str) -> Option<&str> {
    let head = name.get(..PREFIX.len())?;
    head.eq_ignore_ascii_case(PREFIX).then(|| &name[PREFIX.len()..])
}

fn one(root: &Shape, variable: &str, text: &str) -> Result<(Vec<String>, Value), String> {
    let mut shape = root;
    let mut path: Vec<String> = Vec::new();
    for segment in strip_prefix(variable).unwrap_or_default().split("__") {
        let name = written(shape, segment);
        let dotted = path.join(".");
        shape = below(shape, &name).ok_or_else(|| no_key(root, shape, &dotted, &name))?;
        path.push(name);
    }
    let value = typed(root, shape, &path.join("."), text)?;
    Ok((path, value))
}

/// The key's name as the types write it; a free name is taken in lower case.
fn written(shape: &Shape, segment: &str) -> String {
    let known = shape.keys().iter().find(|key| key.name.eq_ignore_ascii_case(segment));
    known.map_or_else(|| segment.to_lowercase(), |key| key.name.clone())
}

fn no_key(root: &Shape, shape: &Shape, path: &str, name: &str) -> String {
    match shape.inner() {
        Shape::Table { .. } => unknown_key(root, shape, path, name),
        Shape::List(_) => format!("`{path}` is a list; set it as a whole, with commas or as YAML"),
        _ => format!("`{path}` has no keys of its own, so there is no `{}`", join(path, name)),
    }
}

fn typed(root: &Shape, shape: &Shape, path: &str, text: &str) -> Result<Value, String> {
    if matches!(shape, Shape::Optional(_)) && matches!(text.trim(), "null" | "~") {
        return Ok(Value::Null);
    }
    match shape.inner() {
        Shape::Text => return Ok(Value::String(text.to_owned())),
        Shape::List(item) if !text.trim_start().starts_with(['[', '-']) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            return parts.map(|part| typed(root, item, path, part)).collect();
        }
        _ => {}
    }
    let guide = Guide { shape, path, root, trip: None };
    if text.trim().is_empty() {
        return guide.visit_unit().map_err(|error: serde::de::value::Error| error.to_string());
    }
    serde_saphyr::with_deserializer_from_str(text, |yaml| guide.deserialize(yaml))
        .map_err(|error| super::read::message(&error))
}
