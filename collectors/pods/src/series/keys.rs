//! Labels and annotations of objects as labels of series.

use std::collections::HashMap;

use crate::allow::AllowList;
use crate::text::TextMap;

/// Those that `allowed` has, as kube-state-metrics names them: `prefix`, then the key with what a label's name cannot have
/// replaced and in snake case. Names that would clash get `_conflict` and a number.
pub(crate) fn shown<'a>(prefix: &str, all: &'a TextMap, allowed: &AllowList) -> Vec<(String, &'a str)> {
    named(prefix, all.iter().filter(|(key, _)| allowed.allows(key)))
}

/// All of these, which are sorted by key.
pub(crate) fn named<'a>(
    prefix: &str,
    all: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<(String, &'a str)> {
    let mut labels: Vec<(String, &str)> = Vec::new();
    let mut used: HashMap<String, usize> = HashMap::new();
    let mut clashes: HashMap<String, u32> = HashMap::new();
    for (key, value) in all {
        let base = format!("{prefix}_{}", snake(key));
        let mut name = base.clone();
        if !clashes.contains_key(&base)
            && let Some(first) = used.remove(&base)
        {
            // The first of its name becomes one of several.
            let renamed = next_free(&base, &mut clashes, &used);
            labels[first].0.clone_from(&renamed);
            used.insert(renamed, first);
        }
        if clashes.contains_key(&base) {
            name = next_free(&base, &mut clashes, &used);
        }
        used.insert(name.clone(), labels.len());
        labels.push((name, value));
    }
    labels
}

/// A clash's own name may be that of yet another key.
fn next_free(base: &str, clashes: &mut HashMap<String, u32>, used: &HashMap<String, usize>) -> String {
    let count = clashes.entry(base.to_owned()).or_default();
    loop {
        *count += 1;
        let name = format!("{base}_conflict{count}");
        if !used.contains_key(&name) {
            return name;
        }
    }
}

/// What a label's name can have of `text`.
pub(crate) fn sanitised(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Before each capital that follows a small letter or a digit stands an underscore, and all letters are small.
fn snake(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 4);
    let mut after_small = false;
    for c in sanitised(key).chars() {
        if after_small && c.is_ascii_uppercase() {
            out.push('_');
        }
        after_small = c.is_ascii_lowercase() || c.is_ascii_digit();
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(keys: &[&str]) -> Vec<String> {
        let map: TextMap = keys.iter().map(|key| (*key, *key)).collect();
        named("label", map.iter()).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn a_key_becomes_a_name_in_snake_case() {
        let expected = [
            "label_app_kubernetes_io_name=app.kubernetes.io/name",
            "label_my_htmlpage2_go=myHTMLPage2Go",
            "label__=ß",
        ];
        assert_eq!(names(&["app.kubernetes.io/name", "myHTMLPage2Go", "ß"]), expected);
    }

    #[test]
    fn keys_that_clash_are_numbered_from_the_first() {
        assert_eq!(
            names(&["a-b", "a.b", "a_b"]),
            ["label_a_b_conflict1=a-b", "label_a_b_conflict2=a.b", "label_a_b_conflict3=a_b"]
        );
    }

    #[test]
    fn a_number_that_another_key_has_for_a_name_is_left_out() {
        assert_eq!(
            names(&["a-b", "a.b_conflict1", "a_b"]),
            ["label_a_b_conflict2=a-b", "label_a_b_conflict1=a.b_conflict1", "label_a_b_conflict3=a_b"]
        );
    }
}
