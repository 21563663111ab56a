//! A JSON object that is made of dotted names: `process.parent.pid`.
//!
//! Guarantee: what is written is valid JSON in which no name stands twice; the first to say something of a name is right, and what
//! would have to stand below a value is left out. It is made for being written once: names are grouped then, and not before.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

/// An object in the making.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tree {
    fields: Vec<(Cow<'static, str>, Value)>,
    /// What stands behind them, written already: no name of it is the first part of one of theirs.
    rest: Option<Arc<str>>,
}

impl Tree {
    /// Says something of a name; what says nothing is left out.
    pub(crate) fn put(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        let value = value.into();
        let says_something = match &value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Object(object) => !object.is_empty(),
            _ => true,
        };
        if says_something {
            self.fields.push((name.into(), value));
        }
    }

    /// Puts this behind all of it.
    pub(crate) fn end_with(&mut self, rest: Arc<str>) {
        self.rest = Some(rest).filter(|rest| !rest.is_empty());
    }

    /// Its bytes, with one more name.
    pub(crate) fn bytes(&self, name: &str, value: &Value) -> Vec<u8> {
        let own = self.fields.iter().map(|(name, value)| (&**name, value));
        let more = Some((name, value)).filter(|(_, value)| !value.is_null());
        let mut out = Vec::with_capacity(2048);
        out.push(b'{');
        write_fields(&own.chain(more).collect::<Vec<_>>(), &mut out);
        if let Some(rest) = &self.rest {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(rest.as_bytes());
        }
        out.push(b'}');
        out
    }

    /// Its fields, without the braces.
    pub(crate) fn fields(&self) -> String {
        let bytes = self.bytes("", &Value::Null);
        let inner = bytes.get(1..bytes.len() - 1).unwrap_or_default();
        String::from_utf8_lossy(inner).into_owned()
    }
}

/// The first part of a dotted name.
pub(crate) fn first(name: &str) -> &str {
    name.split_once('.').map_or(name, |(first, _)| first)
}

fn write_fields(fields: &[(&str, &Value)], out: &mut Vec<u8>) {
    let mut written: Vec<&str> = Vec::new();
    for (name, value) in fields {
        let part = first(name);
        if written.contains(&part) {
            continue;
        }
        if !written.is_empty() {
            out.push(b',');
        }
        written.push(part);
        write(&part, out);
        out.push(b':');
        if part.len() == name.len() {
            write(value, out);
            continue;
        }
        // Most differ at the dot already.
        let may_be = |name: &str| name.as_bytes().get(part.len()) == Some(&b'.');
        let below = fields.iter().filter(|(name, _)| may_be(name)).filter_map(|(name, value)| {
            let rest = name.strip_prefix(part)?.strip_prefix('.')?;
            Some((rest, *value))
        });
        let inner: Vec<(&str, &Value)> = below.collect();
        out.push(b'{');
        write_fields(&inner, out);
        out.push(b'}');
    }
}

fn write<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // To memory, and of what is text and numbers, it cannot fail.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(tree: &Tree, name: &str, value: &Value) -> Value {
        serde_json::from_slice(&tree.bytes(name, value)).expect("JSON")
    }

    #[test]
    fn names_are_grouped_wherever_they_were_said() {
        let mut tree = Tree::default();
        tree.put("b.c", 1);
        tree.put("a", "x\"\n");
        tree.put("b.d.e", json!([1, null]));
        tree.put(format!("b.{}", "f"), true);
        tree.put("none", Value::Null);
        tree.put("empty", "");
        tree.end_with(Arc::from(r#""z":{"y":2}"#));
        let text = String::from_utf8(tree.bytes("b.d.g", &json!({"h": 3}))).expect("text");
        assert_eq!(text, r#"{"b":{"c":1,"d":{"e":[1,null],"g":{"h":3}},"f":true},"a":"x\"\n","z":{"y":2}}"#);
        assert_eq!(tree.fields(), r#""b":{"c":1,"d":{"e":[1,null]},"f":true},"a":"x\"\n","z":{"y":2}"#);
    }

    #[test]
    fn the_first_to_say_something_is_right() {
        let mut tree = Tree::default();
        tree.put("a", 1);
        tree.put("a.b", 2);
        tree.put("c.d", 3);
        tree.put("c", 4);
        tree.put("c.d", 5);
        tree.put("c.d.e", 6);
        tree.put("cc", 7);
        assert_eq!(read(&tree, "", &Value::Null), json!({"a": 1, "c": {"d": 3}, "cc": 7}));
    }

    #[test]
    fn nothing_is_an_object_too() {
        let mut tree = Tree::default();
        assert_eq!(read(&tree, "", &Value::Null), json!({}));
        tree.end_with(Arc::from(r#""z":1"#));
        assert_eq!(read(&tree, "", &Value::Null), json!({"z": 1}));
    }
}
