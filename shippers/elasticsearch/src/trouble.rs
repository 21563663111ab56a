//! What is wrong, told once and kept visible until it is over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use taffrail_record::ShipStatus;

/// Between two log lines about the same thing.
const QUIET: Duration = Duration::from_secs(30);

/// Subjects beyond these are counted and not named: a status is read by people.
const MOST: usize = 8;

/// The troubles of one shipper. Each replaces the earlier one of its subject.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    status: Arc<ShipStatus>,
    now: BTreeMap<String, String>,
    logged: HashMap<String, Instant>,
}

impl Troubles {
    pub(crate) fn new(status: Arc<ShipStatus>) -> Self {
        Troubles { status, ..Troubles::default() }
    }

    /// Something is wrong, with what to do about it.
    pub(crate) fn set(&mut self, subject: &str, text: &str) {
        self.mention(subject, text);
        let text = format!("elasticsearch: {text}");
        if self.now.get(subject) != Some(&text) && (self.now.len() < MOST || self.now.contains_key(subject)) {
            self.now.insert(subject.to_owned(), text);
            self.show();
        }
    }

    /// Says something that is no state, at most once in a while.
    pub(crate) fn mention(&mut self, subject: &str, text: &str) {
        let now = Instant::now();
        self.logged.retain(|_, at| now.duration_since(*at) < QUIET);
        if !self.logged.contains_key(subject) {
            self.logged.insert(subject.to_owned(), now);
            tracing::warn!("elasticsearch: {text}");
        }
    }

    /// It is over.
    pub(crate) fn clear(&mut self, subject: &str) {
        if self.now.remove(subject).is_some() {
            self.logged.remove(subject);
            tracing::info!("elasticsearch: {subject}: well again");
            self.show();
        }
    }

    fn show(&self) {
        let texts: Vec<&str> = self.now.values().map(String::as_str).collect();
        if texts.is_empty() {
            self.status.clear();
        } else {
            self.status.trouble(texts.join("; also "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_shown_together_and_cleared_apart() {
        let status = ShipStatus::well();
        let mut troubles = Troubles::new(Arc::clone(&status));
        troubles.set("a", "one; do this");
        troubles.set("b", "two; do that");
        assert_eq!(
            status.get().as_deref(),
            Some("elasticsearch: one; do this; also elasticsearch: two; do that")
        );
        troubles.clear("a");
        assert_eq!(status.get().as_deref(), Some("elasticsearch: two; do that"));
        troubles.clear("b");
        assert_eq!(status.get(), None);
    }
}
