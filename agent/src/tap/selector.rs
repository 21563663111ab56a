//! Label selectors, as `kubectl -l` takes them.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Requirements that labels must all meet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// A requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    wants: Wants,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wants {
    Present,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

/// A selector that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is no label selector: {why}; write it like app=web,tier in (front, back),!canary")]
pub struct SelectorError {
    text: String,
    why: String,
}

impl Selector {
    /// Whether these labels meet every requirement.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.wants {
                Wants::Present => value.is_some(),
                Wants::Absent => value.is_none(),
                Wants::In(values) => value.is_some_and(|value| values.contains(value)),
                // As in Kubernetes: who does not have the label is not among them.
                Wants::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let requirements: Result<Vec<Requirement>, String> =
            split(text).into_iter().map(requirement).collect();
        requirements.map(Selector).map_err(|why| SelectorError { text: text.to_owned(), why })
    }
}

/// At the commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth <= 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let text = text.trim();
    if let Some(key) = text.strip_prefix('!') {
        return made(key, Wants::Absent);
    }
    for (operator, wants) in
        [("!=", Wants::NotIn as fn(Vec<String>) -> Wants), ("==", Wants::In), ("=", Wants::In)]
    {
        if let Some((key, value)) = text.split_once(operator) {
            return made(key, wants(vec![word(value, true)?.to_owned()]));
        }
    }
    let mut words = text.splitn(2, char::is_whitespace);
    let key = words.next().unwrap_or_default();
    let Some(rest) = words.next() else { return made(key, Wants::Present) };
    let set = |rest: &str| -> Result<Vec<String>, String> {
        let inner = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let inner = inner.ok_or_else(|| format!("after `{key}` comes a set in parentheses"))?;
        if inner.trim().is_empty() {
            return Err(format!("the set after `{key}` is empty"));
        }
        inner.split(',').map(|value| word(value, true).map(str::to_owned)).collect()
    };
    let rest = rest.trim_start();
    match (rest.strip_prefix("notin"), rest.strip_prefix("in")) {
        (Some(values), _) => made(key, Wants::NotIn(set(values)?)),
        (_, Some(values)) => made(key, Wants::In(set(values)?)),
        _ => Err(format!("`{text}` is no requirement")),
    }
}

fn made(key: &str, wants: Wants) -> Result<Requirement, String> {
    Ok(Requirement { key: word(key, false)?.to_owned(), wants })
}

/// A key or a value; values may be empty.
fn word(text: &str, may_be_empty: bool) -> Result<&str, String> {
    let text = text.trim();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    if text.bytes().all(fits) && (may_be_empty || !text.is_empty()) {
        Ok(text)
    } else {
        Err(format!("`{text}` can be no label"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_meet_every_requirement_or_do_not_match() {
        let labels: BTreeMap<String, String> =
            [("app", "web"), ("tier", "front"), ("app.kubernetes.io/name", "shop"), ("empty", "")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        for (selector, matches) in [
            ("app=web", true),
            ("app==web", true),
            ("app = web , tier=front", true),
            ("app=web,tier=back", false),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (web, api)", true),
            ("app in (api)", false),
            ("app notin (api,db),tier", true),
            ("other notin (a)", true),
            ("!other", true),
            ("!app", false),
            ("other", false),
            ("app.kubernetes.io/name=shop", true),
            ("empty=", true),
        ] {
            assert_eq!(selector.parse::<Selector>().expect(selector).matches(&labels), matches, "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_the_reason() {
        for bad in [
            "",
            "app=web,",
            "app in web",
            "app near (web)",
            "a b",
            "=x",
            "!",
            "app=we b",
            "app in (web",
            "app in ()",
            "app notin ( )",
        ] {
            let error = bad.parse::<Selector>().expect_err(bad).to_string();
            assert!(error.contains("is no label selector"), "{error}");
        }
    }
}
