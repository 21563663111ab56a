//! What happened to a pod, a workload or a node, in the order in which it happened: from what the agent that watches
//! remembers, or from the API server for any other.

mod render;
mod selector;
mod server;

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use taffrail_pods::Owner;

use crate::event::Event;

pub use render::render;
pub use selector::{Selector, SelectorError};
pub use server::{from_server, with_pods};

/// Bytes of a message, and of any other text, that are remembered: who makes an event may write what he likes.
const LONGEST_MESSAGE: usize = 1024;
const LONGEST_TEXT: usize = 256;

/// One event of a timeline, as of its last observation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The event's identity.
    pub uid: String,
    /// Of which version this is.
    pub version: u64,
    /// When it happened last, nanoseconds since the Unix epoch; as text with its date where it is written.
    #[serde(with = "written")]
    pub time: i64,
    /// When it happened first.
    #[serde(with = "written")]
    pub first: i64,
    /// How often.
    pub count: u64,
    /// `Normal`, `Warning`.
    pub kind: String,
    /// Why, in one word.
    pub reason: String,
    /// Kind of the object that it is about.
    pub object_kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The container, when it is about one.
    pub container: String,
    /// Who stands behind the object, nearest first, as `Deployment/web`.
    pub owners: Vec<String>,
    /// Who says so.
    pub component: String,
    /// On which node.
    pub node: String,
    /// What happened, cut when it is very long.
    pub message: String,
}

/// Times as people read them.
mod written {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &i64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&Timestamp::from_nanosecond(i128::from(*time)).unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
        let time = Timestamp::deserialize(from)?;
        i64::try_from(time.as_nanosecond()).map_err(serde::de::Error::custom)
    }
}

impl Entry {
    /// What a timeline needs of an event.
    #[must_use]
    pub fn new(event: &Event, owners: &[Owner]) -> Self {
        let text = |text: &str| beginning(text, LONGEST_TEXT);
        let owner = |owner: &Owner| text(&format!("{}/{}", owner.kind, owner.name));
        Entry {
            uid: text(&event.meta.uid),
            version: event.meta.version.parse().unwrap_or(0),
            time: event.last.unwrap_or(0),
            first: event.first.unwrap_or(0),
            count: event.count,
            kind: text(&event.kind),
            reason: text(&event.reason),
            object_kind: text(&event.object.kind),
            namespace: text(&event.object.namespace),
            name: text(&event.object.name),
            container: text(event.object.container().unwrap_or_default()),
            owners: owners.iter().map(owner).collect(),
            component: text(&event.component),
            node: text(event.node().unwrap_or_default()),
            message: beginning(&event.message, LONGEST_MESSAGE),
        }
    }
}

/// No more bytes of a text than so many.
fn beginning(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

/// The last observations.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    most: usize,
}

impl Ring {
    pub(crate) fn new(most: usize) -> Self {
        Ring { entries: VecDeque::new(), most }
    }

    pub(crate) fn push(&mut self, event: &Event, owners: &[Owner]) {
        if self.most == 0 {
            return;
        }
        while self.entries.len() >= self.most {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry::new(event, owners));
    }

    pub(crate) fn select(&self, selector: &Selector) -> Vec<Entry> {
        merged(self.entries.iter().filter(|entry| selector.takes(entry)).cloned())
    }
}

/// Each event once, in its last version, in the order in which they happened last.
#[must_use]
pub fn merged(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let mut newest: HashMap<String, Entry> = HashMap::new();
    for entry in entries {
        match newest.get_mut(&entry.uid) {
            Some(known) if known.version >= entry.version => {}
            _ => {
                newest.insert(entry.uid.clone(), entry);
            }
        }
    }
    let mut entries: Vec<Entry> = newest.into_values().collect();
    entries.sort_by(|a, b| (a.time, a.first, a.version, &a.uid).cmp(&(b.time, b.first, b.version, &b.uid)));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uid: &str, version: u64, time: i64) -> Entry {
        Entry { uid: uid.to_owned(), version, time, ..Entry::default() }
    }

    #[test]
    fn each_event_is_told_once_in_the_order_of_time() {
        let told = merged([
            entry("a", 1, 5),
            entry("b", 2, 3),
            entry("a", 4, 9),
            entry("c", 3, 7),
            entry("b", 1, 1),
        ]);
        let told: Vec<(&str, u64)> = told.iter().map(|entry| (entry.uid.as_str(), entry.version)).collect();
        assert_eq!(told, [("b", 2), ("c", 3), ("a", 4)]);
    }

    #[test]
    fn times_are_written_as_people_read_them() {
        let before = Entry { first: 0, ..entry("a", 1, 1_767_225_600_123_456_789) };
        let text = serde_json::to_string(&before).expect("json");
        assert!(
            text.contains(r#""time":"2026-01-01T00:00:00.123456789Z","first":"1970-01-01T00:00:00Z""#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Entry>(&text).expect("an entry"), before);
    }

    #[test]
    fn a_ring_forgets_the_oldest_and_keeps_the_beginning_of_a_long_message() {
        let mut ring = Ring::new(2);
        for uid in ["a", "b", "c"] {
            let text = serde_json::json!({ "metadata": { "uid": uid, "resourceVersion": "1" }, "message": "é".repeat(1 << 20),
                "reason": "r".repeat(1 << 20), "type": "t".repeat(1 << 20), "reportingComponent": "c".repeat(1 << 20),
                "involvedObject": { "kind": "Pod", "namespace": "n", "name": "p" } });
            ring.push(&Event::parse(&text.to_string()).expect("an event"), &[]);
        }
        let told = ring.select(&Selector::new("pod/p", "n").expect("a selector"));
        assert_eq!(told.iter().map(|entry| entry.uid.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(told[0].message.len(), 1024);
        let bytes = serde_json::to_string(&told[0]).expect("json").len();
        assert!(bytes < 4096, "{bytes}");
    }
}
