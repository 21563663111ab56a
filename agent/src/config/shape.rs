//! The shape of the configuration, taken from the types: what keys there are, of what kind, with what help.
//!
//! Reading with places, environment overrides and the generated reference all walk this one tree, so that none of
//! them can know a key that the types do not have.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// One key of a table.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub shape: Shape,
    /// What it means, from the doc comment.
    pub help: String,
    /// Whether it must be given.
    pub required: bool,
    /// Its default, when the type states one.
    pub default: Option<Value>,
}

/// What a key takes.
#[derive(Debug, Clone)]
pub enum Shape {
    /// Keys, and when `rest` is there also keys of any other name.
    Table {
        /// The known keys.
        keys: Vec<Key>,
        /// What keys of other names take.
        rest: Option<Box<Shape>>,
    },
    /// A list.
    List(Box<Shape>),
    /// Text as it stands.
    Text,
    /// Text with a form of its own.
    Form(Form),
    /// One of these words, each with its help.
    Choice(Vec<(String, String)>),
    /// A whole number within bounds.
    Integer {
        /// Smallest.
        min: i128,
        /// Largest.
        max: i128,
        /// What it counts, when its name says so: then it may be written with a unit.
        unit: Unit,
    },
    /// Any number.
    Number,
    /// `true` or `false`.
    Bool,
    /// What the inner shape takes, or nothing at all: `null`.
    Optional(Box<Shape>),
    /// Anything.
    Any,
}

/// Texts that have a form of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A [`super::units::ByteSize`].
    Size,
    /// A [`super::units::Period`].
    Period,
    /// An address and port.
    Address,
}

/// What an integer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nothing in particular.
    None,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// Told by the key's name, as every section names its keys.
    fn of(name: &str) -> Unit {
        match name {
            name if name.ends_with("_bytes") || name.starts_with("bytes_") => Unit::Bytes,
            name if name.ends_with("_ms") => Unit::Millis,
            name if name.ends_with("_seconds") => Unit::Seconds,
            _ => Unit::None,
        }
    }
}

impl Shape {
    /// The shape of `T`.
    #[must_use]
    pub fn of<T: JsonSchema>() -> Shape {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        shape(settings.into_generator().into_root_schema_for::<T>().as_value(), "")
    }

    /// The shape of a value that is there.
    #[must_use]
    pub fn inner(&self) -> &Shape {
        match self {
            Shape::Optional(inner) => inner,
            shape => shape,
        }
    }

    fn into_inner(self) -> Shape {
        match self {
            Shape::Optional(inner) => *inner,
            shape => shape,
        }
    }

    /// The known keys; none when this is no table.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        match self.inner() {
            Shape::Table { keys, .. } => keys,
            _ => &[],
        }
    }

    /// The key of that name, and the name as it is really written.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&Key> {
        self.keys().iter().find(|key| key.name == name)
    }
}

fn shape(schema: &Value, name: &str) -> Shape {
    let Some(object) = schema.as_object() else { return Shape::Any };
    let shape = present(object, name);
    if may_be_null(object) && !matches!(shape, Shape::Any) { Shape::Optional(Box::new(shape)) } else { shape }
}

fn may_be_null(object: &Map<String, Value>) -> bool {
    let is_null = |kind: &Value| kind.as_str() == Some("null");
    let own = object.get("type").and_then(Value::as_array).is_some_and(|types| types.iter().any(is_null));
    let alternatives = ["oneOf", "anyOf"].iter().find_map(|key| object.get(*key)?.as_array());
    own || alternatives.is_some_and(|all| all.iter().any(|one| one.get("type").is_some_and(is_null)))
}

/// The shape, null aside.
fn present(object: &Map<String, Value>, name: &str) -> Shape {
    if let Some(alternatives) = ["oneOf", "anyOf", "allOf"].iter().find_map(|k| object.get(*k)?.as_array()) {
        return alternative(object, alternatives, name);
    }
    if let Some(words) = object.get("enum").and_then(Value::as_array) {
        let words = words.iter().filter_map(Value::as_str);
        return Shape::Choice(words.map(|word| (word.to_owned(), String::new())).collect());
    }
    if let Some(word) = object.get("const").and_then(Value::as_str) {
        return Shape::Choice(vec![(word.to_owned(), help(object))]);
    }
    by_type(object, name)
}

fn by_type(object: &Map<String, Value>, name: &str) -> Shape {
    let form = match object.get("format").and_then(Value::as_str) {
        Some("size") => Some(Form::Size),
        Some("duration") => Some(Form::Period),
        Some("address") => Some(Form::Address),
        _ => None,
    };
    if let Some(form) = form {
        return Shape::Form(form);
    }
    match types(object).as_slice() {
        ["object"] => table(object),
        ["array"] => {
            Shape::List(Box::new(object.get("items").map_or(Shape::Any, |items| shape(items, name))))
        }
        ["string"] => Shape::Text,
        ["integer"] => integer(object, name),
        ["number"] => Shape::Number,
        ["boolean"] => Shape::Bool,
        _ => Shape::Any,
    }
}

/// The types a value may have, null aside.
fn types(object: &Map<String, Value>) -> Vec<&str> {
    let names = match object.get("type") {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    names.into_iter().filter(|name| *name != "null").collect()
}

fn table(object: &Map<String, Value>) -> Shape {
    let required = object.get("required").and_then(Value::as_array);
    let required = |name: &str| required.is_some_and(|r| r.iter().any(|r| r == name));
    let keys = object.get("properties").and_then(Value::as_object).into_iter().flatten();
    let keys = keys
        .map(|(name, schema)| Key {
            name: name.clone(),
            shape: shape(schema, name),
            help: schema.as_object().map(help).unwrap_or_default(),
            required: required(name),
            default: schema.get("default").cloned(),
        })
        .collect();
    let rest = match object.get("additionalProperties") {
        Some(Value::Bool(false)) => None,
        Some(schema) => Some(Box::new(shape(schema, ""))),
        None => object.get("properties").is_none().then(|| Box::new(Shape::Any)),
    };
    Shape::Table { keys, rest }
}

/// Several alternatives: words become one choice, tables one table of all their keys.
fn alternative(object: &Map<String, Value>, alternatives: &[Value], name: &str) -> Shape {
    let is_null = |schema: &&Value| schema.get("type").and_then(Value::as_str) == Some("null");
    let mut shapes: Vec<(Shape, String)> = alternatives
        .iter()
        .filter(|schema| !is_null(schema))
        .map(|schema| (shape(schema, name).into_inner(), schema.as_object().map(help).unwrap_or_default()))
        .collect();
    if shapes.len() == 1 && !object.contains_key("properties") {
        return shapes.remove(0).0;
    }
    if shapes.iter().all(|(shape, _)| matches!(shape, Shape::Choice(_))) {
        let words = shapes.into_iter().flat_map(|(shape, help)| match shape {
            Shape::Choice(words) => {
                words.into_iter().map(|(w, h)| (w, if h.is_empty() { help.clone() } else { h })).collect()
            }
            _ => Vec::new(),
        });
        return Shape::Choice(words.collect());
    }
    if shapes.iter().all(|(shape, _)| matches!(shape, Shape::Table { .. })) {
        let own = object.contains_key("properties").then(|| table(object));
        return merged(own.into_iter().chain(shapes.into_iter().map(|(shape, _)| shape)));
    }
    Shape::Any
}

fn merged(tables: impl Iterator<Item = Shape>) -> Shape {
    let mut all: Vec<Key> = Vec::new();
    let mut any_rest = None;
    for table in tables {
        let Shape::Table { keys, rest } = table else { continue };
        any_rest = any_rest.or(rest);
        for key in keys {
            if !all.iter().any(|known| known.name == key.name) {
                all.push(Key { required: false, ..key });
            }
        }
    }
    Shape::Table { keys: all, rest: any_rest }
}

fn integer(object: &Map<String, Value>, name: &str) -> Shape {
    let bound = |key: &str| object.get(key).and_then(Value::as_i64).map(i128::from);
    let (low, high) = match object.get("format").and_then(Value::as_str) {
        Some("uint8") => (0, i128::from(u8::MAX)),
        Some("uint16") => (0, i128::from(u16::MAX)),
        Some("uint32") => (0, i128::from(u32::MAX)),
        Some("uint64" | "uint") => (0, i128::from(u64::MAX)),
        Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
        _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
    };
    Shape::Integer {
        min: bound("minimum").unwrap_or(low),
        max: bound("maximum").unwrap_or(high),
        unit: Unit::of(name),
    }
}

/// The doc comment, as one paragraph.
fn help(object: &Map<String, Value>) -> String {
    let text = object.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
