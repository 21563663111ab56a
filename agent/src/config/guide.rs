//! Reading YAML along the shape of the configuration, so that every mistake is found at its place.
//!
//! The result is a plain JSON value that holds only what was written. Types are checked here, where line and
//! column are still known; what remains for the typed configuration are rules between values.

use std::fmt;
use std::net::SocketAddr;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::nearest::nearest;
use super::shape::{Form, Key, Shape, Unit};
use super::units::{ByteSize, Period};

/// Reads one value of a given shape.
#[derive(Clone, Copy)]
pub(super) struct Guide<'a> {
    pub(super) shape: &'a Shape,
    /// Dotted path of the value, for messages.
    pub(super) path: &'a str,
    /// The whole configuration, to find keys that are somewhere else.
    pub(super) root: &'a Shape,
    /// Fails at the key of this path: how a problem found later gets its place.
    pub(super) trip: Option<&'a str>,
}

/// The message by which a trip is recognised.
pub(super) const TRIPPED: &str = "tripped";

impl Guide<'_> {
    fn wrong<E: Error>(&self, found: &str) -> E {
        let what =
            if self.path.is_empty() { "the configuration".to_owned() } else { format!("`{}`", self.path) };
        E::custom(format!("{what} takes {}, not {found}", takes(self.shape)))
    }
}

/// What a shape takes, in words.
pub(super) fn takes(shape: &Shape) -> String {
    match shape {
        Shape::Table { .. } => "keys of its own".to_owned(),
        Shape::List(_) => "a list".to_owned(),
        Shape::Text => "text".to_owned(),
        Shape::Form(Form::Size) | Shape::Integer { unit: Unit::Bytes, .. } => {
            "a size such as `16 MiB`".to_owned()
        }
        Shape::Form(Form::Period) | Shape::Integer { unit: Unit::Millis | Unit::Seconds, .. } => {
            "a duration such as `200ms` or `10s`".to_owned()
        }
        Shape::Form(Form::Address) => "an address and port such as `127.0.0.1:9126`".to_owned(),
        Shape::Choice(words) => format!("one of {}", listed(words.iter().map(|(word, _)| word.as_str()))),
        Shape::Integer { .. } => "a whole number".to_owned(),
        Shape::Number => "a number".to_owned(),
        Shape::Bool => "true or false".to_owned(),
        Shape::Optional(inner) => takes(inner),
        Shape::Any => "a value".to_owned(),
    }
}

/// `a`, `b`, `c` in backquotes.
pub(super) fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// `path.name`, or the name alone at the top.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// What to say about a key that is not known in `shape`.
pub(super) fn unknown_key(root: &Shape, shape: &Shape, path: &str, name: &str) -> String {
    let known = shape.keys().iter().map(|key| key.name.as_str());
    let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
    let hint = match nearest(name, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => match elsewhere(root, "", name).into_iter().min_by_key(|path| path.split('.').count()) {
            Some(top) if !top.contains('.') => format!("there is `{top}` at the top"),
            Some(path) => format!("there is `{path}`"),
            None => format!("known here: {}", listed(known)),
        },
    };
    format!("unknown key `{name}`{place}; {hint}")
}

/// The paths of all keys anywhere that have this very name.
fn elsewhere(shape: &Shape, path: &str, name: &str) -> Vec<String> {
    let below = shape.keys().iter().flat_map(|key| {
        let here = join(path, &key.name);
        if key.name == name { vec![here] } else { elsewhere(&key.shape, &here, name) }
    });
    below.collect()
}

impl<'de> DeserializeSeed<'de> for Guide<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.shape {
            Shape::Optional(_) => deserializer.deserialize_option(self),
            // Asked for as text, so that `0123` or `yes` stay what was written.
            Shape::Text | Shape::Choice(_) | Shape::Form(_) => deserializer.deserialize_option(self),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Guide<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&takes(self.shape))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        match self.shape {
            Shape::Table { keys, .. } => {
                missing(&self, keys, &Map::new())?;
                Ok(Value::Object(Map::new()))
            }
            Shape::List(_) => Ok(Value::Array(Vec::new())),
            Shape::Optional(inner) if matches!(**inner, Shape::Table { .. } | Shape::List(_)) => {
                Guide { shape: inner, ..self }.visit_unit()
            }
            Shape::Optional(_) | Shape::Any => Ok(Value::Null),
            _ => Err(E::custom(format!(
                "`{}` has no value; it takes {}, or leave the key out for its default",
                self.path,
                takes(self.shape)
            ))),
        }
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.shape {
            Shape::Optional(inner) => Guide { shape: inner, ..self }.deserialize(deserializer),
            _ => deserializer.deserialize_str(self),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        match self.shape {
            Shape::Bool | Shape::Any => Ok(Value::Bool(value)),
            _ => Err(self.wrong(&format!("`{value}`"))),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.integer(i128::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.integer(i128::from(value))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        self.integer(value)
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        self.integer(i128::try_from(value).unwrap_or(i128::MAX))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        match (self.shape, Number::from_f64(value)) {
            (Shape::Number | Shape::Any, Some(number)) => Ok(Value::Number(number)),
            _ => Err(self.wrong(&format!("`{value}`"))),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        match self.shape {
            Shape::Text | Shape::Any => Ok(Value::String(text.to_owned())),
            Shape::Form(form) => self.form(*form, text),
            Shape::Choice(words) => self.choice(words, text),
            Shape::Integer { unit, .. } => self.with_unit(*unit, text),
            // It stands where names and secrets belong together: it may be one of the secrets.
            Shape::Table { .. } => Err(self.wrong("text")),
            _ => Err(self.wrong(&format!("the text `{text}`"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let item = match self.shape {
            Shape::List(item) => item,
            Shape::Any => self.shape,
            _ => return Err(self.wrong("a list")),
        };
        let mut values = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, values.len());
            let guide = Guide { shape: item, path: &path, root: self.root, trip: self.trip };
            match list.next_element_seed(guide)? {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        if !matches!(self.shape, Shape::Table { .. } | Shape::Any) {
            return Err(self.wrong("keys of its own"));
        }
        let mut object = Map::new();
        while let Some(name) = map.next_key_seed(KeyGuide(self))? {
            let path = join(self.path, &name);
            let shape = below(self.shape, &name).unwrap_or(&Shape::Any);
            let guide = Guide { shape, path: &path, root: self.root, trip: self.trip };
            let value = map.next_value_seed(guide)?;
            object.insert(name, value);
        }
        missing(&self, self.shape.keys(), &object)?;
        Ok(Value::Object(object))
    }
}

/// The shape of a key of that name, known or free.
pub(super) fn below<'a>(shape: &'a Shape, name: &str) -> Option<&'a Shape> {
    match shape.inner() {
        Shape::Table { rest, .. } => shape.key(name).map(|key| &key.shape).or(rest.as_deref()),
        Shape::Any => Some(shape),
        _ => None,
    }
}

fn missing<E: Error>(guide: &Guide<'_>, keys: &[Key], object: &Map<String, Value>) -> Result<(), E> {
    match keys.iter().find(|key| key.required && !object.contains_key(&key.name)) {
        None => Ok(()),
        Some(key) => Err(E::custom(format!("`{}` needs `{}`: {}", guide.path, key.name, key.help))),
    }
}

impl Guide<'_> {
    fn integer<E: Error>(self, value: i128) -> Result<Value, E> {
        match self.shape {
            Shape::Integer { min, max, .. } => self.within(value, *min, *max),
            Shape::Number | Shape::Any => Ok(number(value)),
            _ => Err(self.wrong(&format!("`{value}`"))),
        }
    }

    fn within<E: Error>(self, value: i128, min: i128, max: i128) -> Result<Value, E> {
        if (min..=max).contains(&value) {
            return Ok(number(value));
        }
        Err(E::custom(format!("`{}` is `{value}`; it must be between {min} and {max}", self.path)))
    }

    fn with_unit<E: Error>(self, unit: Unit, text: &str) -> Result<Value, E> {
        let Shape::Integer { min, max, .. } = self.shape else { return Err(self.wrong(text)) };
        let value = match unit {
            Unit::None => text.parse().map_err(|_| self.wrong::<E>(&format!("`{text}`")))?,
            Unit::Bytes => i128::from(text.parse::<ByteSize>().map_err(|e| self.because(e))?.0),
            Unit::Millis => millis(text.parse::<Period>().map_err(|e| self.because(e))?),
            Unit::Seconds => {
                let millis = millis(text.parse::<Period>().map_err(|e| self.because(e))?);
                if millis % 1000 != 0 {
                    return Err(self.because("it must be whole seconds"));
                }
                millis / 1000
            }
        };
        self.within(value, *min, *max)
    }

    fn form<E: Error>(self, form: Form, text: &str) -> Result<Value, E> {
        let checked = match form {
            Form::Size => text.parse::<ByteSize>().map(|_| ()).map_err(|e| self.because(e)),
            Form::Period => text.parse::<Period>().map(|_| ()).map_err(|e| self.because(e)),
            Form::Address => {
                text.parse::<SocketAddr>().map(|_| ()).map_err(|_| self.wrong(&format!("`{text}`")))
            }
        };
        checked.map(|()| Value::String(text.to_owned()))
    }

    fn choice<E: Error>(self, words: &[(String, String)], text: &str) -> Result<Value, E> {
        if words.iter().any(|(word, _)| word == text) {
            return Ok(Value::String(text.to_owned()));
        }
        let known = words.iter().map(|(word, _)| word.as_str());
        let hint = match nearest(text, known) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => String::new(),
        };
        Err(E::custom(format!("`{}` takes {}, not `{text}`{hint}", self.path, takes(self.shape))))
    }

    fn because<E: Error>(&self, reason: impl fmt::Display) -> E {
        E::custom(format!("`{}`: {reason}", self.path))
    }
}

fn millis(period: Period) -> i128 {
    i128::try_from(period.0.as_millis()).unwrap_or(i128::MAX)
}

fn number(value: i128) -> Value {
    match (u64::try_from(value), i64::try_from(value)) {
        (Ok(value), _) => value.into(),
        (_, Ok(value)) => value.into(),
        _ => Value::Null,
    }
}

/// Reads a key, and refuses it there and then when it is not known.
struct KeyGuide<'a>(Guide<'a>);

impl<'de> DeserializeSeed<'de> for KeyGuide<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyGuide<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<String, E> {
        let Guide { shape, path, root, trip } = self.0;
        if trip.is_some_and(|trip| trip == join(path, name)) {
            return Err(E::custom(TRIPPED));
        }
        match below(shape, name) {
            Some(_) => Ok(name.to_owned()),
            None => Err(E::custom(unknown_key(root, shape, path, name))),
        }
    }
}
