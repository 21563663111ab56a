//! Who answers: Elasticsearch, OpenSearch, or neither.

use serde_json::{Value, json};

use crate::client::Answer;

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// Elasticsearch.
    Elasticsearch,
    /// OpenSearch.
    OpenSearch,
}

impl Product {
    /// As people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Product::Elasticsearch => "Elasticsearch",
            Product::OpenSearch => "OpenSearch",
        }
    }
}

/// An engine and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Engine {
    pub(crate) product: Product,
    pub(crate) version: String,
}

impl Engine {
    /// Reads the page at `/`; none when it is another program's.
    pub(crate) fn of(page: &Answer) -> Option<Engine> {
        let page = page.json();
        let version = page["version"]["number"].as_str()?.to_owned();
        let says = |pointer: &str, text: &str| {
            page.pointer(pointer).and_then(Value::as_str).is_some_and(|value| value.contains(text))
        };
        let product = if says("/version/distribution", "opensearch") || says("/tagline", "OpenSearch") {
            Product::OpenSearch
        } else if says("/tagline", "You Know, for Search") {
            Product::Elasticsearch
        } else {
            return None;
        };
        Some(Engine { product, version })
    }

    /// Whoever may only write need not see the page; what the engine says instead tells which it is, and not its version.
    pub(crate) fn that_refuses(answer: &Answer) -> Engine {
        let is_opensearch = String::from_utf8_lossy(&answer.body).contains("no permissions for [");
        let product = if is_opensearch { Product::OpenSearch } else { Product::Elasticsearch };
        Engine { product, version: String::new() }
    }

    /// Major and minor; what is not known is taken for new.
    fn numbers(&self) -> (u32, u32) {
        if self.version.is_empty() {
            return (u32::MAX, 0);
        }
        let mut numbers = self.version.split('.').map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// The mapping of an object with any keys.
    pub(crate) fn any_labels(&self) -> Value {
        match self.product {
            Product::Elasticsearch => json!({"type": "flattened", "ignore_above": 1024}),
            Product::OpenSearch if self.numbers() >= (2, 7) => json!({"type": "flat_object"}),
            Product::OpenSearch => json!({"type": "object", "enabled": false}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_told_apart_and_others_are_neither() {
        let of = |body: &str| Engine::of(&Answer { status: 200, body: body.into(), ..Answer::default() });
        for (body, expected) in [
            (
                r#"{"version":{"number":"8.19.21"},"tagline":"You Know, for Search"}"#,
                Some((Product::Elasticsearch, "8.19.21")),
            ),
            (
                r#"{"version":{"distribution":"opensearch","number":"2.19.6"},"tagline":"The OpenSearch Project: x"}"#,
                Some((Product::OpenSearch, "2.19.6")),
            ),
            // With compatibility.override_main_response_version.
            (
                r#"{"version":{"number":"7.10.2"},"tagline":"The OpenSearch Project: x"}"#,
                Some((Product::OpenSearch, "7.10.2")),
            ),
            (r#"{"version":{"number":"1"},"tagline":"Something"}"#, None),
            ("<html>", None),
            ("", None),
        ] {
            let found = of(body);
            let found = found.as_ref().map(|engine| (engine.product, engine.version.as_str()));
            assert_eq!(found, expected, "{body}");
        }
    }
}
