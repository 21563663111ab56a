//! Which labels or annotations are kept or shown.

/// A list of keys, in kube-state-metrics' way: a key, a pattern with one `*` in it, or `*` in the first place for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    all: bool,
    keys: Vec<String>,
    /// What stands before and behind the star.
    patterns: Vec<(String, String)>,
}

/// A copy of the whole object as somebody once wrote it: kept only when it is named.
const WHOLE_OBJECT: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl AllowList {
    /// Out of its entries. One with more than one star allows nothing, nor does a `*` behind the first place.
    #[must_use]
    pub fn new<S: AsRef<str>>(entries: &[S]) -> Self {
        let mut list = AllowList::default();
        for (index, entry) in entries.iter().map(AsRef::as_ref).enumerate() {
            match entry.split_once('*') {
                None => list.keys.push(entry.to_owned()),
                Some(("", "")) => list.all |= index == 0,
                Some((_, end)) if end.contains('*') => {}
                Some((begin, end)) => list.patterns.push((begin.to_owned(), end.to_owned())),
            }
        }
        list
    }

    /// Whether it allows nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == AllowList::default()
    }

    /// Whether it has `key`.
    #[must_use]
    pub fn allows(&self, key: &str) -> bool {
        if self.keys.iter().any(|known| known == key) {
            return true;
        }
        let fits = |(begin, end): &(String, String)| {
            key.len() >= begin.len() + end.len() && key.starts_with(&**begin) && key.ends_with(&**end)
        };
        key != WHOLE_OBJECT && (self.all || self.patterns.iter().any(fits))
    }

    /// What either allows.
    #[must_use]
    pub fn or(&self, other: &AllowList) -> AllowList {
        AllowList {
            all: self.all || other.all,
            keys: [&self.keys[..], &other.keys].concat(),
            patterns: [&self.patterns[..], &other.patterns].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_patterns_and_the_star_allow_what_they_say() {
        let list = AllowList::new(&["app", "team.io/*", "*/version", "a*a", "*"]);
        for (key, allowed) in [
            ("app", true),
            ("apps", false),
            ("team.io/x", true),
            ("x/version", true),
            ("version", false),
            ("a", false),
            ("aa", true),
        ] {
            assert_eq!(list.allows(key), allowed, "{key}");
        }
        assert!(AllowList::new(&["*"]).allows("anything"));
        assert!(!AllowList::new(&["a*b*c"]).allows("abc"));
    }

    #[test]
    fn a_copy_of_the_object_is_kept_only_when_it_is_named() {
        assert!(!AllowList::new(&["*"]).allows(WHOLE_OBJECT));
        assert!(!AllowList::new(&["kubectl.kubernetes.io/*"]).allows(WHOLE_OBJECT));
        assert!(AllowList::new(&[WHOLE_OBJECT]).allows(WHOLE_OBJECT));
    }

    #[test]
    fn two_lists_allow_what_either_does() {
        let both = AllowList::new(&["a"]).or(&AllowList::new(&["b*"]));
        assert!(both.allows("a") && both.allows("bc") && !both.allows("c"));
        assert!(AllowList::default().or(&AllowList::default()).is_empty());
    }
}
