//! The topic of a record, from a template that is checked once.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use taffrail_record::Origin;

use crate::read::topic_names;
use crate::{KafkaConfig, KafkaError};

/// Kafka's limit on a topic's name.
const LONGEST: usize = 249;

/// A topic name with places for what the origin says, such as `logs.{namespace}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct TopicTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Cluster,
    Namespace,
    Pod,
    Container,
    Node,
    Label(String),
}

/// Why a template is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Nothing there.
    #[error("topic is empty; write a name such as taffrail.logs")]
    Empty,
    /// A brace without its partner.
    #[error("topic {0:?} has a brace without its partner")]
    Brace(String),
    /// A placeholder that does not exist.
    #[error(
        "topic {template:?} has the unknown placeholder {{{name}}}; known are {{cluster}}, {{namespace}}, {{pod}}, \
         {{container}}, {{node}} and {{label:NAME}}"
    )]
    Placeholder {
        /// The whole template.
        template: String,
        /// What stands between the braces.
        name: String,
    },
    /// A character that Kafka does not allow.
    #[error("topic {0:?} may have only letters, digits, '.', '_' and '-' outside of placeholders")]
    Character(String),
    /// One of the two names that Kafka keeps to itself.
    #[error("topic {0:?} is not a name that Kafka takes; choose another, such as taffrail.logs")]
    Reserved(String),
    /// A name that is longer than Kafka takes.
    #[error("topic {0:?} is longer than the {max} bytes that Kafka takes; choose a shorter one", max = LONGEST)]
    Long(String),
    /// A placeholder where records of no container go.
    #[error("topic {0:?} has a placeholder, and statements are about many containers; write a name without")]
    Fixed(String),
}

impl Default for TopicTemplate {
    fn default() -> Self {
        let text = "taffrail.logs".to_owned();
        TopicTemplate { parts: vec![Part::Literal(text.clone())], text }
    }
}

impl TryFrom<String> for TopicTemplate {
    type Error = TopicError;

    fn try_from(text: String) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((literal, after)) = rest.split_once('{') {
            let (name, next) = after.split_once('}').ok_or_else(|| TopicError::Brace(text.clone()))?;
            parts.push(Part::Literal(checked(literal, &text)?));
            parts.push(placeholder(name, &text)?);
            rest = next;
        }
        parts.push(Part::Literal(checked(rest, &text)?));
        parts.retain(|part| *part != Part::Literal(String::new()));
        if text == "." || text == ".." {
            return Err(TopicError::Reserved(text));
        }
        let template = TopicTemplate { text, parts };
        match template.constant() {
            Some(name) if name.len() > LONGEST => Err(TopicError::Long(template.text)),
            _ => Ok(template),
        }
    }
}

impl From<TopicTemplate> for String {
    fn from(template: TopicTemplate) -> String {
        template.text
    }
}

impl TopicTemplate {
    /// The name of the ledger's topic, which is the same for every origin.
    ///
    /// # Errors
    /// [`TopicError`], also for a placeholder.
    pub(crate) fn fixed(text: &str) -> Result<TopicTemplate, TopicError> {
        let template = TopicTemplate::try_from(text.to_owned())?;
        if template.constant().is_some() { Ok(template) } else { Err(TopicError::Fixed(text.to_owned())) }
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The topic when it is the same for every origin.
    #[must_use]
    pub fn constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Literal(topic)] => Some(topic),
            _ => None,
        }
    }

    /// Whether it may have made this name, for some origin.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let cut = || {
            let (start, hash) = topic.split_at_checked(LONGEST - 17)?;
            let hash = hash.strip_prefix('-')?;
            (hash.len() == 16 && hash.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(start)
        };
        fits(&self.parts, topic, false) || cut().is_some_and(|start| fits(&self.parts, start, true))
    }

    /// The topics of these brokers that it may have made, by name; its own name, there or not, when it is
    /// [`TopicTemplate::constant`].
    ///
    /// # Errors
    /// [`KafkaError`] when the brokers cannot be used.
    pub fn existing(&self, config: &KafkaConfig) -> Result<Vec<String>, KafkaError> {
        if let Some(topic) = self.constant() {
            return Ok(vec![topic.to_owned()]);
        }
        let mut topics = topic_names(config)?;
        topics.retain(|topic| self.matches(topic));
        topics.sort_unstable();
        Ok(topics)
    }

    /// The legal topic name for an origin's records.
    #[must_use]
    pub fn render(&self, origin: &Origin) -> String {
        let [namespace, pod, container] = origin.names();
        let mut topic = String::new();
        for part in &self.parts {
            let value = match part {
                Part::Literal(text) => {
                    topic.push_str(text);
                    continue;
                }
                Part::Cluster => &origin.node.cluster,
                Part::Namespace => namespace,
                Part::Pod => pod,
                Part::Container => container,
                Part::Node => &origin.node.name,
                Part::Label(name) => label(origin, name),
            };
            push_sanitised(&mut topic, value);
        }
        shorten(topic)
    }
}

/// Whether `parts` can become `rest`, or with `cut` begin with it.
fn fits(parts: &[Part], rest: &str, cut: bool) -> bool {
    match parts {
        _ if cut && rest.is_empty() => true,
        [] => rest.is_empty(),
        [Part::Literal(text), parts @ ..] => match rest.strip_prefix(text.as_str()) {
            Some(rest) => fits(parts, rest, cut),
            None => cut && text.starts_with(rest),
        },
        // Nothing becomes nothing: what is empty is called `none`.
        [_, parts @ ..] => (1..=rest.len())
            .any(|end| rest.split_at_checked(end).is_some_and(|(_, rest)| fits(parts, rest, cut))),
    }
}

fn placeholder(name: &str, template: &str) -> Result<Part, TopicError> {
    Ok(match name {
        "cluster" => Part::Cluster,
        "namespace" => Part::Namespace,
        "pod" => Part::Pod,
        "container" => Part::Container,
        "node" => Part::Node,
        _ => match name.strip_prefix("label:") {
            Some(label) if !label.is_empty() => Part::Label(label.to_owned()),
            _ => {
                return Err(TopicError::Placeholder { template: template.to_owned(), name: name.to_owned() });
            }
        },
    })
}

fn checked(literal: &str, template: &str) -> Result<String, TopicError> {
    if literal.contains('}') {
        return Err(TopicError::Brace(template.to_owned()));
    }
    if literal.chars().all(legal) {
        Ok(literal.to_owned())
    } else {
        Err(TopicError::Character(template.to_owned()))
    }
}

fn legal(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

/// The pod's label, or else the container's own (Docker).
fn label<'a>(origin: &'a Origin, name: &str) -> &'a str {
    let of_pod = origin.pod.as_ref().and_then(|pod| pod.labels.get(name));
    let of_container = || origin.container.as_ref().and_then(|container| container.labels.get(name));
    of_pod.or_else(of_container).map_or("", String::as_str)
}

fn push_sanitised(topic: &mut String, value: &str) {
    if value.is_empty() {
        topic.push_str("none");
    }
    topic.extend(value.chars().map(|character| if legal(character) { character } else { '_' }));
}

/// Makes a name that is too long, or one of the two that Kafka reserves, into one that it takes. Long names keep their
/// beginning and end in a hash of the whole, so that two of them stay two.
fn shorten(topic: String) -> String {
    if topic == "." || topic == ".." {
        return topic.replace('.', "_");
    }
    if topic.len() <= LONGEST {
        return topic;
    }
    // FNV-1a: stable for ever, which std's hasher does not promise.
    let hash = topic.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut short = topic;
    short.truncate(LONGEST - 17);
    let _ = write!(short, "-{hash:016x}");
    short
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use taffrail_record::{Container, Node, Pod};

    use super::*;

    fn template(text: &str) -> Result<TopicTemplate, TopicError> {
        TopicTemplate::try_from(text.to_owned())
    }

    fn origin(namespace: &str, label: &str) -> Origin {
        Origin {
            node: Arc::new(Node { name: "n1".into(), cluster: "prod/eu".into(), ..Node::default() }),
            pod: Some(Pod {
                namespace: namespace.into(),
                name: "p".into(),
                labels: [("team".to_owned(), label.to_owned())].into(),
                ..Pod::default()
            }),
            container: Some(Container { name: "c".into(), ..Container::default() }),
            ..Origin::default()
        }
    }

    #[test]
    fn placeholders_become_what_the_origin_says_in_legal_characters() {
        let long = "x".repeat(300);
        for (text, origin, expected) in [
            ("logs", origin("ns", ""), "logs"),
            ("logs.{namespace}", origin("ns", ""), "logs.ns"),
            ("{cluster}-{node}.{namespace}.{pod}.{container}", origin("ns", ""), "prod_eu-n1.ns.p.c"),
            ("{label:team}", origin("ns", "büro 7"), "b_ro_7"),
            ("t.{label:team}", origin("ns", ""), "t.none"),
            ("t.{namespace}", Origin::default(), "t.none"),
            ("{namespace}", origin("..", ""), "__"),
        ] {
            assert_eq!(template(text).expect(text).render(&origin), expected);
        }
        let one = template("a{namespace}1").expect("valid").render(&origin(&long, ""));
        let two = template("a{namespace}2").expect("valid").render(&origin(&long, ""));
        assert_eq!((one.len(), two.len()), (LONGEST, LONGEST));
        assert_ne!(one, two);
    }

    #[test]
    fn a_bad_template_is_refused_with_its_text() {
        let long = "x".repeat(LONGEST + 1);
        for text in ["", "a{b", "a}b", "{nope}", "{label:}", "a b", "a/{pod}", "ü", ".", "..", &long] {
            let error = template(text).expect_err(text).to_string();
            assert!(error.contains(text), "{error}");
        }
        assert!(matches!(TopicTemplate::fixed("a.{pod}"), Err(TopicError::Fixed(_))));
    }

    #[test]
    fn a_template_knows_the_names_that_it_may_have_made() {
        for (text, topic, expected) in [
            ("logs", "logs", true),
            ("logs", "logs.a", false),
            ("logs.{namespace}", "logs.shop", true),
            ("logs.{namespace}", "logs.", false),
            ("logs.{namespace}", "other.shop", false),
            ("{cluster}.{namespace}.logs", "eu.a.b.logs", true),
            ("{cluster}.{namespace}.logs", "eu.logs", false),
            ("{pod}{container}", "a", false),
        ] {
            assert_eq!(template(text).expect(text).matches(topic), expected, "{text} {topic}");
        }
        let long = "x".repeat(300);
        for text in
            ["a{namespace}1", "{namespace}.{pod}", "{label:team}.{namespace}", "{label:none}{cluster}"]
        {
            let template = template(text).expect(text);
            for origin in [origin("ns", ""), origin("..", "b ü"), origin(&long, "t"), Origin::default()] {
                let topic = template.render(&origin);
                assert!(template.matches(&topic), "{text} {topic}");
            }
        }
    }

    #[test]
    fn a_template_without_placeholders_is_constant() {
        assert_eq!(template("a.b").expect("valid").constant(), Some("a.b"));
        assert_eq!(template("a.{pod}").expect("valid").constant(), None);
        assert_eq!(TopicTemplate::default().constant(), Some("taffrail.logs"));
    }
}
