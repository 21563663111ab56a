//! What can be told of it at any time: who watches, how far all is stored, and counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use taffrail_record::{Ask, AskError, Family, Kind, Samples, family};
use taffrail_spool::{Observer, Troubles};

/// What an agent is to the events of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// It has not found out yet: the API server does not answer.
    #[default]
    Starting,
    /// It watches.
    Leader,
    /// It looks every few seconds whether the leader is still there.
    Standby,
    /// It looks every few minutes.
    Bystander,
}

impl Role {
    const ALL: [Role; 4] = [Role::Starting, Role::Leader, Role::Standby, Role::Bystander];

    /// The label of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Starting => "starting",
            Role::Leader => "leader",
            Role::Standby => "standby",
            Role::Bystander => "bystander",
        }
    }
}

/// How it stands with events at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// What this agent is.
    pub role: Role,
    /// By what name it takes part; another one for each life.
    pub identity: String,
    /// Who watches, as far as this agent has seen; empty when nobody does.
    pub leader: String,
    /// Since when, as that one's clock has it.
    pub since: String,
    /// How often that changed.
    pub transitions: u64,
    /// The version up to which everything is stored, as the leader knows it or the Lease had it when it was last looked at.
    pub position: Option<u64>,
    /// Bytes of events on this node's disk.
    pub spool_bytes: u64,
    /// For how long the oldest of them waits to be stored, in seconds.
    pub lag: f64,
    /// What is wrong, and what to do about it.
    pub trouble: Option<String>,
}

/// Shared between the parts.
#[derive(Debug, Default)]
pub(crate) struct Status {
    pub(crate) view: Mutex<View>,
    /// What is wrong, by who found it wrong.
    troubles: Troubles,
    pub(crate) spool_limit: AtomicU64,
    pub(crate) observed: Count,
    pub(crate) repeated: Count,
    pub(crate) unreadable: Count,
    pub(crate) sent: Count,
    pub(crate) sent_again: Count,
    pub(crate) lists: Count,
    pub(crate) resets: Count,
    pub(crate) full: Count,
    pub(crate) terms: Count,
    pub(crate) filtered: Named,
    pub(crate) lookups: Named,
}

/// One number.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Numbers by a label.
#[derive(Debug, Default)]
pub(crate) struct Named(Mutex<BTreeMap<&'static str, u64>>);

impl Named {
    pub(crate) fn add(&self, name: &'static str) {
        *self.0.lock().entry(name).or_default() += 1;
    }

    #[cfg(test)]
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.lock().get(name).copied().unwrap_or(0)
    }
}

impl Status {
    pub(crate) fn view(&self) -> View {
        View { trouble: self.troubles.all(), ..self.view.lock().clone() }
    }

    /// Notes what is wrong with one part, or that nothing is.
    pub(crate) fn set_trouble(&self, part: &'static str, what: Option<String>) {
        self.troubles.set("events", part, what);
    }
}

impl Observer for Status {
    fn waiting(&self, bytes: u64, lag: f64) {
        let mut view = self.view.lock();
        (view.spool_bytes, view.lag) = (bytes, lag);
    }

    fn sent(&self, documents: u64, again: bool) {
        self.sent.add(documents);
        if again {
            self.sent_again.add(documents);
        }
    }

    fn set_trouble(&self, part: &'static str, what: Option<String>) {
        Status::set_trouble(self, part, what);
    }
}

static FAMILIES: [Family; 18] = [
    family(
        "taffrail_events_role",
        Kind::Gauge,
        "What this agent is to the events of its cluster: 1 for one of the roles.",
        &["role"],
    ),
    family(
        "taffrail_events_transitions",
        Kind::Gauge,
        "How often another agent began to watch events, as the Lease has it.",
        &[],
    ),
    family(
        "taffrail_events_position",
        Kind::Gauge,
        "The resourceVersion up to which every event is stored; absent until it is known.",
        &[],
    ),
    family(
        "taffrail_events_spool_bytes",
        Kind::Gauge,
        "Bytes of events on this node's disk that wait to be stored.",
        &[],
    ),
    family(
        "taffrail_events_spool_limit_bytes",
        Kind::Gauge,
        "How many bytes of events may wait on this node's disk.",
        &[],
    ),
    family(
        "taffrail_events_lag_seconds",
        Kind::Gauge,
        "For how long the oldest event on this node's disk waits to be stored.",
        &[],
    ),
    family(
        "taffrail_events_trouble",
        Kind::Gauge,
        "Whether anything keeps events from being watched or stored here.",
        &[],
    ),
    family("taffrail_events_terms_total", Kind::Counter, "How often this agent began to watch events.", &[]),
    family(
        "taffrail_events_observed_total",
        Kind::Counter,
        "Versions of events that the API server has told this agent.",
        &[],
    ),
    family(
        "taffrail_events_filtered_total",
        Kind::Counter,
        "Versions of events left out as configured, by the rule.",
        &["rule"],
    ),
    family(
        "taffrail_events_repeated_total",
        Kind::Counter,
        "Versions of events that were told again, and are not sent again.",
        &[],
    ),
    family(
        "taffrail_events_unreadable_total",
        Kind::Counter,
        "Events that cannot be read; they are sent as they are, with the reason.",
        &[],
    ),
    family("taffrail_events_sent_total", Kind::Counter, "Documents handed to the output.", &[]),
    family(
        "taffrail_events_sent_again_total",
        Kind::Counter,
        "Documents handed to the output again, because it had not said that it has them.",
        &[],
    ),
    family(
        "taffrail_events_lists_total",
        Kind::Counter,
        "Lists of all events: at first, and when the API server has forgotten the version to go on from.",
        &[],
    ),
    family(
        "taffrail_events_resets_total",
        Kind::Counter,
        "How often the API server was found to be older than what was stored: restored from a backup.",
        &[],
    ),
    family(
        "taffrail_events_spool_full_total",
        Kind::Counter,
        "How often watching paused because the spool took no more.",
        &[],
    ),
    family(
        "taffrail_events_owner_lookups_total",
        Kind::Counter,
        "Pods asked for to learn who made them, by outcome.",
        &["outcome"],
    ),
];

/// The metrics of it all.
pub(crate) struct Metrics(pub(crate) Arc<Status>);

impl Ask for Metrics {
    fn name(&self) -> &'static str {
        "events"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let status = &*self.0;
        let view = status.view();
        samples.family(&FAMILIES[0]);
        for role in Role::ALL {
            samples.sample(&[role.as_str()], f64::from(u8::from(role == view.role)));
        }
        let gauges = [
            Some(view.transitions as f64),
            view.position.map(|position| position as f64),
            Some(view.spool_bytes as f64),
            Some(status.spool_limit.load(Ordering::Relaxed) as f64),
            Some(view.lag),
            Some(f64::from(u8::from(view.trouble.is_some()))),
            Some(status.terms.get() as f64),
            Some(status.observed.get() as f64),
        ];
        write(samples, &FAMILIES[1..9], gauges);
        named(samples, &FAMILIES[9], &status.filtered);
        let counters = [
            &status.repeated,
            &status.unreadable,
            &status.sent,
            &status.sent_again,
            &status.lists,
            &status.resets,
            &status.full,
        ];
        write(samples, &FAMILIES[10..17], counters.map(|count| Some(count.get() as f64)));
        named(samples, &FAMILIES[17], &status.lookups);
        Ok(())
    }
}

fn write<const N: usize>(samples: &mut dyn Samples, families: &'static [Family], values: [Option<f64>; N]) {
    for (family, value) in families.iter().zip(values) {
        samples.family(family);
        if let Some(value) = value {
            samples.sample(&[], value);
        }
    }
}

fn named(samples: &mut dyn Samples, family: &'static Family, counts: &Named) {
    samples.family(family);
    for (name, count) in counts.0.lock().iter() {
        samples.sample(&[name], *count as f64);
    }
}

#[cfg(test)]
mod tests {
    use taffrail_record::Gathered;

    use super::*;

    #[test]
    fn every_family_has_its_own_figure() {
        let status = Arc::new(Status::default());
        status.view.lock().position = Some(7);
        status.terms.add(2);
        status.full.add(3);
        status.filtered.add("kind");
        status.set_trouble("watch", Some("away".to_owned()));
        status.waiting(11, 0.5);
        Observer::sent(&*status, 5, false);
        Observer::sent(&*status, 2, true);
        let mut gathered = Gathered::default();
        Metrics(status).ask(&mut gathered).expect("figures");
        for (name, labels, value) in [
            ("taffrail_events_role", "role=\"starting\"", 1.0),
            ("taffrail_events_role", "role=\"leader\"", 0.0),
            ("taffrail_events_position", "", 7.0),
            ("taffrail_events_spool_bytes", "", 11.0),
            ("taffrail_events_lag_seconds", "", 0.5),
            ("taffrail_events_trouble", "", 1.0),
            ("taffrail_events_sent_total", "", 7.0),
            ("taffrail_events_sent_again_total", "", 2.0),
            ("taffrail_events_terms_total", "", 2.0),
            ("taffrail_events_spool_full_total", "", 3.0),
            ("taffrail_events_filtered_total", "rule=\"kind\"", 1.0),
        ] {
            assert_eq!(gathered.value(name, labels), Some(value), "{name}");
        }
    }
}
