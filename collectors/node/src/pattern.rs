//! Regular expressions in a configuration.

use std::borrow::Cow;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A regular expression, compiled. Empty: none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Option<Regex>);

impl Pattern {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it and where.
    pub fn new(text: &str) -> Result<Pattern, String> {
        if text.is_empty() {
            return Ok(Pattern(None));
        }
        let refused = |error: regex::Error| format!("`{text}` is no regular expression: {}", reason(&error));
        Regex::new(text).map(|regex| Pattern(Some(regex))).map_err(refused)
    }

    /// One of ours, known to be valid.
    pub(crate) fn known(text: &'static str) -> Pattern {
        Pattern(Regex::new(text).ok())
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_ref().map_or("", Regex::as_str)
    }

    /// Whether it matches anywhere in `text`; nothing when there is no expression.
    #[must_use]
    pub fn matches(&self, text: &str) -> Option<bool> {
        Some(self.0.as_ref()?.is_match(text))
    }
}

/// The library draws an arrow below the expression; one line says the same.
fn reason(error: &regex::Error) -> String {
    let drawn = error.to_string();
    let said = drawn.lines().find_map(|line| line.strip_prefix("error: "));
    // The expression is indented by four.
    let arrow = drawn.lines().find(|line| !line.is_empty() && line.bytes().all(|byte| b" ^".contains(&byte)));
    let place = arrow.and_then(|line| line.find('^')?.checked_sub(4));
    match (said, place) {
        (Some(said), Some(place)) => format!("{said} (character {})", place + 1),
        (Some(said), None) => said.to_owned(),
        _ => drawn.replace('\n', " "),
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Pattern, String> {
        Pattern::new(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.as_str().to_owned()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl JsonSchema for Pattern {
    fn schema_name() -> Cow<'static, str> {
        "Pattern".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "regex" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let error = Pattern::new("^(veth.*|[a-f").expect_err("not closed");
        assert_eq!(
            error,
            "`^(veth.*|[a-f` is no regular expression: unclosed character class (character 10)"
        );
        assert!(Pattern::new(&"a{1000}{1000}".repeat(9)).expect_err("too large").contains("size limit"));
    }

    #[test]
    fn an_empty_one_says_nothing() {
        let pattern = Pattern::new("").expect("valid");
        assert_eq!((pattern.matches("a"), pattern.as_str()), (None, ""));
        assert_eq!(Pattern::new("^a").expect("valid").matches("ba"), Some(false));
    }
}
