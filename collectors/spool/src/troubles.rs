//! What is wrong at the moment, part by part.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// What is wrong with the parts of something that is kept running; each change of it is in the log once.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<BTreeMap<&'static str, String>>);

impl Troubles {
    /// What is wrong with a part of `whose` and what to do about it, or that nothing is. To be said again and again.
    pub fn set(&self, whose: &str, part: &'static str, what: Option<String>) {
        let mut troubles = self.0.lock();
        let old = match &what {
            Some(what) => troubles.insert(part, what.clone()),
            None => troubles.remove(part),
        };
        match (old, what) {
            (None, Some(trouble)) => tracing::warn!(part, trouble, "{whose}"),
            (Some(was), None) => tracing::info!(part, was, "{whose}: well again"),
            _ => {}
        }
    }

    /// All that is wrong, in a line.
    #[must_use]
    pub fn all(&self) -> Option<String> {
        let troubles = self.0.lock();
        let all: Vec<&str> = troubles.values().map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_one_part_stays_when_another_is_well_again() {
        let troubles = Troubles::default();
        assert_eq!(troubles.all(), None);
        troubles.set("events", "read", Some("a".to_owned()));
        troubles.set("events", "kept", Some("b".to_owned()));
        troubles.set("events", "read", Some("c".to_owned()));
        assert_eq!(troubles.all().as_deref(), Some("b; c"));
        troubles.set("events", "kept", None);
        assert_eq!(troubles.all().as_deref(), Some("c"));
    }
}
