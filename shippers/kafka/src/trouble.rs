//! What is wrong, told once and kept visible until it is over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use taffrail_record::ShipStatus;

use crate::codes::Kind;
use crate::metrics::Counters;

/// Between two log lines about the same thing.
const QUIET: Duration = Duration::from_secs(30);

/// The troubles of one shipper. Each replaces the earlier one of its subject.
#[derive(Debug)]
pub(crate) struct Troubles {
    status: Arc<ShipStatus>,
    counters: Arc<Counters>,
    /// Whether there is a connection trouble, to be looked at without a lock for every delivery report.
    disconnected: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<String>,
    topics: BTreeMap<String, String>,
    logged: HashMap<String, Instant>,
}

impl Troubles {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Troubles {
            status: ShipStatus::well(),
            counters,
            disconnected: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    pub(crate) fn status(&self) -> &Arc<ShipStatus> {
        &self.status
    }

    /// The brokers cannot be used. That all are down says less than why the last one is: then the known cause stays.
    pub(crate) fn connection(&self, kind: Kind, problem: &str, is_summary: bool) {
        self.counters.error(kind, 1);
        let text = format!("kafka: {problem}; {}", kind.remedy());
        let mut state = self.state.lock();
        if is_summary && state.connection.is_some() {
            return;
        }
        state.log("connection", &text);
        state.connection = Some(text);
        self.disconnected.store(true, Ordering::Release);
        self.show(&state);
    }

    /// Something was delivered, so the brokers can be used.
    pub(crate) fn delivered(&self) {
        if self.disconnected.load(Ordering::Relaxed) && self.disconnected.swap(false, Ordering::AcqRel) {
            let mut state = self.state.lock();
            state.connection = None;
            tracing::info!("kafka: delivering again");
            self.show(&state);
        }
    }

    /// `messages` messages for a topic came back.
    pub(crate) fn topic(&self, topic: &str, kind: Kind, problem: &str, messages: u64) {
        self.counters.error(kind, messages);
        let text = format!("kafka topic {topic}: {problem}; {}", kind.remedy());
        let mut state = self.state.lock();
        state.log(topic, &text);
        state.topics.insert(topic.to_owned(), text);
        self.show(&state);
    }

    /// The topic's records are on their way again.
    pub(crate) fn topic_is_well(&self, topic: &str) {
        let mut state = self.state.lock();
        if state.topics.remove(topic).is_some() {
            state.logged.remove(topic);
            tracing::info!(topic, "kafka: delivering to this topic again");
            self.show(&state);
        }
    }

    /// Says something that is not a state, at most once in a while.
    pub(crate) fn mention(&self, subject: &str, text: &str) {
        self.state.lock().log(subject, text);
    }

    fn show(&self, state: &State) {
        let texts: Vec<&str> =
            state.connection.iter().chain(state.topics.values()).map(String::as_str).collect();
        if texts.is_empty() {
            self.status.clear();
        } else {
            self.status.trouble(texts.join("; also "));
        }
    }
}

impl State {
    fn log(&mut self, subject: &str, text: &str) {
        let now = Instant::now();
        self.logged.retain(|_, at| now.duration_since(*at) < QUIET);
        if !self.logged.contains_key(subject) {
            self.logged.insert(subject.to_owned(), now);
            tracing::warn!("{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_of_different_subjects_are_shown_together_and_cleared_apart() {
        let troubles = Troubles::new(Arc::default());
        troubles.topic("a", Kind::UnknownTopic, "unknown topic", 3);
        troubles.connection(Kind::Connection, "all brokers down", true);
        let shown = troubles.status().get().expect("trouble");
        assert!(shown.contains("topic a: unknown topic; create it"), "{shown}");
        assert!(shown.contains("all brokers down; check kafka.brokers"), "{shown}");
        troubles.delivered();
        assert!(!troubles.status().get().expect("trouble").contains("brokers down"));
        troubles.topic_is_well("a");
        assert_eq!(troubles.status().get(), None);
    }

    #[test]
    fn the_cause_stays_when_all_brokers_are_said_to_be_down() {
        let troubles = Troubles::new(Arc::default());
        troubles.connection(Kind::Connection, "connection refused", false);
        troubles.connection(Kind::Authentication, "certificate verify failed", false);
        troubles.connection(Kind::Connection, "1/1 brokers are down", true);
        let shown = troubles.status().get().expect("trouble");
        assert!(shown.contains("certificate verify failed") && shown.contains("kafka.tls"), "{shown}");
        assert!(!shown.contains("refused") && !shown.contains("are down"), "{shown}");
    }
}
