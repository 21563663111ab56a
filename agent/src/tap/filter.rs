//! Which records somebody wants to see.

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use taffrail_record::{Batch, Origin, Record, Source};

use super::selector::{Selector, SelectorError};

/// A filter; what is not set matches everything.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The namespace.
    pub namespace: Option<Name>,
    /// The pod; for a container without one the container, for a plain file its path.
    pub pod: Option<Name>,
    /// The container.
    pub container: Option<Name>,
    /// What the labels of the pod are, or those of a container without one.
    pub selector: Option<Selector>,
    /// What the message contains.
    pub grep: Option<Regex>,
}

/// A filter as it is asked for: the query of `/tap`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// Name or pattern of the namespace.
    pub namespace: Option<String>,
    /// Name, beginning or pattern of the pod.
    pub pod: Option<String>,
    /// Name or pattern of the container.
    pub container: Option<String>,
    /// Selector of labels, as `kubectl -l` takes it.
    pub selector: Option<String>,
    /// Regular expression on the message.
    pub grep: Option<String>,
}

/// A filter that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// What the message shall match.
    #[error("`{pattern}` is not a regular expression: {cause}")]
    Expression {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        cause: regex::Error,
    },
    /// What the labels shall be.
    #[error(transparent)]
    Selector(#[from] SelectorError),
}

/// A name: as it stands, with `*` for anything, or the beginning of the name up to a `-`, since that is how
/// Kubernetes names what a Deployment or a DaemonSet makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl From<&str> for Name {
    fn from(pattern: &str) -> Self {
        Name(pattern.to_owned())
    }
}

impl Name {
    /// Whether `name` is meant.
    pub(crate) fn matches(&self, name: &str) -> bool {
        if self.0.contains('*') {
            return wildcard(self.0.as_bytes(), name.as_bytes());
        }
        name.strip_prefix(self.0.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

fn labels_match(selector: &Selector, origin: &Origin) -> bool {
    match (&origin.pod, &origin.container) {
        (Some(pod), _) => selector.matches(&pod.labels),
        (None, Some(container)) => selector.matches(&container.labels),
        (None, None) => false,
    }
}

/// `*` stands for any bytes. In time proportional to the product of both lengths, since the pipeline waits.
fn wildcard(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last `*` was, and how much of the name it stands for so far ends where.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match (pattern.get(p), star) {
            (Some(b'*'), _) => {
                star = Some((p, n));
                p += 1;
            }
            (Some(byte), _) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            (_, Some((at, end))) => {
                star = Some((at, end + 1));
                (p, n) = (at + 1, end + 1);
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

impl Filter {
    /// The filter that is asked for.
    ///
    /// # Errors
    /// [`FilterError`] when `grep` is not a regular expression, or `selector` is none.
    pub fn new(wanted: &Wanted) -> Result<Self, FilterError> {
        let name = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(Name::from);
        // A megabyte is plenty for a person's expression and keeps a hostile one from taking the node's memory.
        let regex = |text: &String| RegexBuilder::new(text).size_limit(1 << 20).build();
        let grep = wanted.grep.as_ref().map(|text| {
            regex(text).map_err(|cause| FilterError::Expression { pattern: text.clone(), cause })
        });
        let selector = wanted.selector.as_ref().filter(|text| !text.is_empty()).map(|text| text.parse());
        Ok(Filter {
            namespace: name(&wanted.namespace),
            pod: name(&wanted.pod),
            container: name(&wanted.container),
            selector: selector.transpose()?,
            grep: grep.transpose()?,
        })
    }

    /// Whether any record of this origin and source may match.
    pub(super) fn wants(&self, origin: &Origin, source: &Source) -> bool {
        self.means(origin.names(), &source.path.to_string_lossy())
            && self.selector.as_ref().is_none_or(|selector| labels_match(selector, origin))
    }

    /// Whether it asks for somebody by name.
    #[must_use]
    pub fn names_somebody(&self) -> bool {
        self.namespace.is_some() || self.pod.is_some() || self.container.is_some()
    }

    /// Whether any record of this account (its namespace, pod and container, or a plain file's path) may match.
    #[must_use]
    pub fn concerns(&self, account: [&str; 3]) -> bool {
        match account {
            ["", "", path] if path.starts_with('/') => self.means([""; 3], path),
            names => self.means(names, ""),
        }
    }

    fn means(&self, [namespace, pod, container]: [&str; 3], path: &str) -> bool {
        let is = |name: &Option<Name>, value: &str| name.as_ref().is_none_or(|name| name.matches(value));
        let who = match (pod, container) {
            ("", "") => path,
            ("", container) => container,
            (pod, _) => pod,
        };
        is(&self.namespace, namespace) && is(&self.pod, who) && is(&self.container, container)
    }

    /// Whether this record's message matches.
    pub(super) fn matches(&self, batch: &Batch, record: &Record) -> bool {
        self.grep.as_ref().is_none_or(|grep| grep.is_match(batch.body(record)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::render::tests::batch;
    use super::*;

    #[test]
    fn names_match_whole_by_beginning_or_by_pattern() {
        for (pattern, name, matches) in [
            ("web", "web", true),
            ("web", "web-7d9f-x2", true),
            ("web", "website", false),
            ("web-7d9f-x2", "web-7d9f-x2", true),
            ("*site", "website", true),
            ("w*b*", "web-1", true),
            ("w*z", "web", false),
            ("*", "", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxx", false),
            ("a*", "a", true),
            ("web", "", false),
        ] {
            assert_eq!(Name::from(pattern).matches(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn a_container_without_a_pod_is_found_by_its_name_and_a_plain_file_by_its_path() {
        let wants = |pod: &str, names| {
            let batch = batch(names, &[]);
            Filter { pod: Some(pod.into()), ..Filter::default() }.wants(&batch.origin, &batch.source)
        };
        assert!(wants("db", ["", "", "db"]));
        assert!(!wants("db", ["ns", "web", "db"]));
        assert!(wants("/log/*", ["", "", ""]));
        assert!(!wants("/var/*", ["", "", ""]));
    }

    #[test]
    fn labels_are_those_of_the_pod_or_of_a_container_without_one() {
        let wanted = Wanted { selector: Some("app=web".to_owned()), ..Wanted::default() };
        let filter = Filter::new(&wanted).expect("valid");
        let labels = |value: &str| [("app".to_owned(), value.to_owned())].into();
        for (names, value, wants) in
            [(["ns", "p", "c"], "web", true), (["ns", "p", "c"], "db", false), (["", "", "c"], "web", true)]
        {
            let batch = batch(names, &[]);
            let mut origin = Origin::clone(&batch.origin);
            match (&mut origin.pod, &mut origin.container) {
                (Some(pod), _) => pod.labels = labels(value),
                (None, Some(container)) => container.labels = labels(value),
                _ => {}
            }
            assert_eq!(filter.wants(&origin, &batch.source), wants, "{names:?} {value}");
        }
        let bad = Wanted { selector: Some("a b".to_owned()), ..Wanted::default() };
        assert!(Filter::new(&bad).expect_err("none").to_string().contains("is no label selector"));
    }

    #[test]
    fn grep_is_a_regular_expression_on_bytes() {
        let wanted = Wanted { grep: Some("a.c$".to_owned()), ..Wanted::default() };
        let filter = Filter::new(&wanted).expect("valid");
        let batch = batch(["", "", "c"], &["abc", "abcd"]);
        let matches: Vec<bool> = batch.records.iter().map(|record| filter.matches(&batch, record)).collect();
        assert_eq!(matches, [true, false]);
        let wanted = Wanted { grep: Some("(".to_owned()), ..Wanted::default() };
        assert!(Filter::new(&wanted).expect_err("no expression").to_string().starts_with("`(` is not"));
    }
}
