//! The index of a document, from a template that is checked once.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The engines' limit on an index's name, in bytes.
const LONGEST: usize = 255;

/// Bytes that a cluster's name may take of it.
const LONGEST_CLUSTER: usize = 100;

/// An index name with places for the event's time and its cluster, such as `taffrail-events-{yyyy.MM.dd}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct IndexTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Cluster,
    Date(Vec<Unit>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Year,
    Month,
    Day,
    Separator(char),
}

/// Why a template is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Nothing there.
    #[error("index is empty; write a name such as taffrail-events-{{yyyy.MM.dd}}")]
    Empty,
    /// A brace without its partner.
    #[error("index {0:?} has a brace without its partner")]
    Brace(String),
    /// A placeholder that does not exist.
    #[error(
        "index {template:?} has the unknown placeholder {{{name}}}; known are {{cluster}} and dates of yyyy, MM and dd with \
         '.', '-' or '_' between, such as {{yyyy.MM.dd}}"
    )]
    Placeholder {
        /// The whole template.
        template: String,
        /// What stands between the braces.
        name: String,
    },
    /// A character that no index may have.
    #[error(
        "index {0:?} may have only lower case letters, digits, '.', '_', '-' and '+' outside of placeholders, and must not \
         begin with '.', '_', '-' or '+'"
    )]
    Character(String),
    /// A name that is longer than the engines take.
    #[error("index {0:?} can become longer than the {max} bytes that an index may have; choose a shorter one", max = LONGEST)]
    Long(String),
}

impl Default for IndexTemplate {
    fn default() -> Self {
        let units = [Unit::Year, Unit::Separator('.'), Unit::Month, Unit::Separator('.'), Unit::Day];
        IndexTemplate {
            text: "taffrail-events-{yyyy.MM.dd}".to_owned(),
            parts: vec![Part::Literal("taffrail-events-".to_owned()), Part::Date(units.to_vec())],
        }
    }
}

impl TryFrom<String> for IndexTemplate {
    type Error = IndexError;

    fn try_from(text: String) -> Result<Self, IndexError> {
        if text.is_empty() {
            return Err(IndexError::Empty);
        }
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((literal, after)) = rest.split_once('{') {
            let (name, next) = after.split_once('}').ok_or_else(|| IndexError::Brace(text.clone()))?;
            parts.push(Part::Literal(checked(literal, &text)?));
            parts.push(placeholder(name, &text)?);
            rest = next;
        }
        parts.push(Part::Literal(checked(rest, &text)?));
        parts.retain(|part| *part != Part::Literal(String::new()));
        if text.starts_with(['.', '_', '-', '+']) {
            return Err(IndexError::Character(text));
        }
        let template = IndexTemplate { text, parts };
        if template.longest() > LONGEST { Err(IndexError::Long(template.text)) } else { Ok(template) }
    }
}

impl From<IndexTemplate> for String {
    fn from(template: IndexTemplate) -> String {
        template.text
    }
}

impl IndexTemplate {
    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has a place for the time.
    #[must_use]
    pub fn has_date(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Date(_)))
    }

    /// Text before the first placeholder.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// The pattern that matches every name it can make, such as `taffrail-events-*`.
    #[must_use]
    pub fn pattern(&self) -> String {
        let star = |part: &Part| match part {
            Part::Literal(text) => text.clone(),
            Part::Cluster | Part::Date(_) => "*".to_owned(),
        };
        self.parts.iter().map(star).collect()
    }

    /// A name for what belongs to all its indices (template, policy): its own text without placeholders.
    #[must_use]
    pub fn title(&self) -> String {
        let literals = self.parts.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.trim_matches(['-', '.', '_', '+'])),
            _ => None,
        });
        let title = literals.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("-");
        if title.is_empty() { "taffrail".to_owned() } else { title }
    }

    /// The legal index name for an event of this time (Unix nanoseconds) in this cluster.
    #[must_use]
    pub fn render(&self, time: i64, cluster: &str) -> String {
        let mut name = String::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                Part::Literal(text) => name.push_str(text),
                Part::Cluster => push_cluster(&mut name, cluster),
                Part::Date(units) => push_date(&mut name, units, time),
            }
        }
        // What a cluster's name begins with is not known when the template is checked.
        if name.starts_with(['.', '_', '-', '+']) {
            name.insert(0, 'x');
        }
        name
    }

    fn longest(&self) -> usize {
        let length = |part: &Part| match part {
            Part::Literal(text) => text.len(),
            Part::Cluster => LONGEST_CLUSTER,
            Part::Date(units) => units.len() * 4,
        };
        self.parts.iter().map(length).sum::<usize>() + 1
    }
}

fn placeholder(name: &str, template: &str) -> Result<Part, IndexError> {
    let unknown = || IndexError::Placeholder { template: template.to_owned(), name: name.to_owned() };
    if name == "cluster" {
        return Ok(Part::Cluster);
    }
    let mut units = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let (unit, length) = match first {
            'y' if rest.starts_with("yyyy") => (Unit::Year, 4),
            'M' if rest.starts_with("MM") => (Unit::Month, 2),
            'd' if rest.starts_with("dd") => (Unit::Day, 2),
            '.' | '-' | '_' => (Unit::Separator(first), 1),
            _ => return Err(unknown()),
        };
        units.push(unit);
        rest = &rest[length..];
    }
    if units.contains(&Unit::Year) { Ok(Part::Date(units)) } else { Err(unknown()) }
}

fn checked(literal: &str, template: &str) -> Result<String, IndexError> {
    if literal.contains('}') {
        return Err(IndexError::Brace(template.to_owned()));
    }
    if literal.chars().all(legal) {
        Ok(literal.to_owned())
    } else {
        Err(IndexError::Character(template.to_owned()))
    }
}

fn legal(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || matches!(character, '.' | '_' | '-' | '+')
}

fn push_cluster(name: &mut String, cluster: &str) {
    if cluster.is_empty() {
        name.push_str("none");
    }
    let lower = cluster.chars().take(LONGEST_CLUSTER).map(|character| character.to_ascii_lowercase());
    name.extend(lower.map(|character| if legal(character) { character } else { '-' }));
}

fn push_date(name: &mut String, units: &[Unit], time: i64) {
    let when = Timestamp::from_nanosecond(time.into()).unwrap_or_default().to_zoned(TimeZone::UTC);
    for unit in units {
        let _ = match unit {
            Unit::Year => write!(name, "{:04}", when.year()),
            Unit::Month => write!(name, "{:02}", when.month()),
            Unit::Day => write!(name, "{:02}", when.day()),
            Unit::Separator(character) => write!(name, "{character}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T00:00:00Z.
    const TIME: i64 = 1_795_305_600_000_000_000;

    fn template(text: &str) -> Result<IndexTemplate, IndexError> {
        IndexTemplate::try_from(text.to_owned())
    }

    #[test]
    fn placeholders_become_the_time_and_the_cluster_in_legal_characters() {
        for (text, time, cluster, expected) in [
            ("taffrail-events-{yyyy.MM.dd}", TIME, "", "taffrail-events-2026.11.22"),
            ("taffrail-events-{yyyy.MM.dd}", TIME - 1, "", "taffrail-events-2026.11.21"),
            ("e-{yyyy-MM}", 0, "", "e-1970-01"),
            ("e-{yyyy}", i64::MIN, "", "e-1677"),
            ("e-{yyyy}", i64::MAX, "", "e-2262"),
            ("e-{cluster}-{yyyy}", TIME, "Prod/EU büro", "e-prod-eu-b-ro-2026"),
            ("e-{cluster}", TIME, "", "e-none"),
            ("{cluster}-e", TIME, "_x", "x_x-e"),
            ("events", TIME, "c", "events"),
        ] {
            assert_eq!(template(text).expect(text).render(time, cluster), expected);
        }
        let long = template("{cluster}-{cluster}").expect("valid").render(TIME, &"ü".repeat(500));
        assert!(long.len() <= LONGEST, "{long}");
    }

    #[test]
    fn a_bad_template_is_refused_with_its_text() {
        let long = "x".repeat(LONGEST + 1);
        for text in [
            "",
            "A",
            "a b",
            "a{b",
            "a}b",
            "{nope}",
            "{MM}",
            "{yyyy/MM}",
            "{}",
            "a,b",
            "a*",
            "-a",
            "_a",
            "+a",
            "..",
            "a:b",
            "a#b",
            "ü",
            "{cluster}{cluster}{cluster}",
            &long,
        ] {
            let error = template(text).expect_err(text).to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn pattern_and_title_fit_all_its_indices() {
        for (text, pattern, title) in [
            ("taffrail-events-{yyyy.MM.dd}", "taffrail-events-*", "taffrail-events"),
            ("a-{cluster}-events-{yyyy}", "a-*-events-*", "a-events"),
            ("events", "events", "events"),
            ("{cluster}", "*", "taffrail"),
        ] {
            let template = template(text).expect(text);
            assert_eq!((template.pattern().as_str(), template.title().as_str()), (pattern, title));
        }
        assert_eq!(template("taffrail-events-{yyyy.MM.dd}").expect("valid"), IndexTemplate::default());
    }
}
