//! What can be told of it at any time: sessions, counters, and what is wrong.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use taffrail_record::{Ask, AskError, Family, Kind, Samples};
use taffrail_spool::Observer;

use crate::probe::Counts;
use crate::session::{Open, Origin, Summary};
use crate::wire::Session;

/// By what it is known who comes into containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tier {
    /// Nothing.
    #[default]
    None,
    /// The probe in the kernel.
    Probe,
    /// The kernel's process connector, and `/proc`.
    Connector,
}

impl Tier {
    const ALL: [Tier; 3] = [Tier::None, Tier::Probe, Tier::Connector];

    /// The label of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::None => "none",
            Tier::Probe => "probe",
            Tier::Connector => "connector",
        }
    }
}

/// How it stands at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// By what it knows.
    pub tier: Tier,
    /// Why not by what would be better.
    pub refused: Option<String>,
    /// Whether that stays when the agent ends.
    pub pinned: bool,
    /// What the probe counts.
    pub counts: Counts,
    /// Programs that had ended before the connector's reader could look at them.
    pub unread: u64,
    /// Bytes of the kernel's ring, and of them what waited at most in the last second.
    pub ring: (u64, u64),
    /// Bytes of documents that wait on this node's disk.
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
    troubles: Mutex<BTreeMap<&'static str, String>>,
    pub(crate) spool_limit: AtomicU64,
    pub(crate) documents: AtomicU64,
    pub(crate) malformed: AtomicU64,
    sent: AtomicU64,
    sent_again: AtomicU64,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    live: BTreeMap<u64, (Open, Option<Session>)>,
    ended: VecDeque<Summary>,
    begun: BTreeMap<&'static str, u64>,
    finished: u64,
    with_gaps: u64,
}

impl Status {
    pub(crate) fn view(&self) -> View {
        View { trouble: self.trouble(), ..self.view.lock().clone() }
    }

    pub(crate) fn opened(&self, open: &Open, is_new: bool) {
        let mut sessions = self.sessions.lock();
        if is_new {
            *sessions.begun.entry(open.origin.as_str()).or_default() += 1;
        }
        sessions.live.insert(open.number, (open.clone(), None));
    }

    pub(crate) fn closed(&self, number: u64, summary: Summary, remembered: usize) {
        let mut sessions = self.sessions.lock();
        sessions.live.remove(&number);
        sessions.finished += 1;
        sessions.with_gaps += u64::from(!summary.gaps.is_empty());
        sessions.ended.push_back(summary);
        while sessions.ended.len() > remembered {
            sessions.ended.pop_front();
        }
    }

    /// What the probe counts of sessions that live.
    pub(crate) fn counted(&self, counted: &HashMap<u64, Session>) {
        for (number, (_, known)) in &mut self.sessions.lock().live {
            *known = counted.get(number).copied();
        }
    }

    /// Ended ones in the order of their ends, then those that live in the order of their beginnings.
    pub(crate) fn sessions(&self) -> Vec<Summary> {
        let sessions = self.sessions.lock();
        let live = sessions.live.values().map(|(open, counted)| open.summary(counted.as_ref(), None));
        sessions.ended.iter().cloned().chain(live).collect()
    }

    fn trouble(&self) -> Option<String> {
        let troubles = self.troubles.lock();
        let all: Vec<&str> = troubles.values().map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

impl Observer for Status {
    fn waiting(&self, bytes: u64, lag: f64) {
        let mut view = self.view.lock();
        (view.spool_bytes, view.lag) = (bytes, lag);
    }

    fn sent(&self, documents: u64, again: bool) {
        self.sent.fetch_add(documents, Ordering::Relaxed);
        if again {
            self.sent_again.fetch_add(documents, Ordering::Relaxed);
        }
    }

    fn set_trouble(&self, part: &'static str, what: Option<String>) {
        let mut troubles = self.troubles.lock();
        let old = match &what {
            Some(what) => troubles.insert(part, what.clone()),
            None => troubles.remove(part),
        };
        match (old, what) {
            (None, Some(trouble)) => tracing::warn!(part, trouble, "audit"),
            (Some(was), None) => tracing::info!(part, was, "audit: well again"),
            _ => {}
        }
    }
}

const fn family(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
) -> Family {
    Family { name, kind, help, labels }
}

static FAMILIES: [Family; 21] = [
    family(
        "taffrail_audit_tier",
        Kind::Gauge,
        "By what it is known who comes into containers: 1 for one of the tiers.",
        &["tier"],
    ),
    family(
        "taffrail_audit_pinned",
        Kind::Gauge,
        "Whether the probes stay in the kernel when the agent ends.",
        &[],
    ),
    family("taffrail_audit_sessions_open", Kind::Gauge, "Sessions in containers that have not ended.", &[]),
    family(
        "taffrail_audit_sessions_total",
        Kind::Counter,
        "Sessions that began, by how they came about.",
        &["origin"],
    ),
    family("taffrail_audit_sessions_ended_total", Kind::Counter, "Sessions that ended.", &[]),
    family(
        "taffrail_audit_sessions_with_gaps_total",
        Kind::Counter,
        "Sessions that ended of which something is missing; each says what.",
        &[],
    ),
    family("taffrail_audit_execs_total", Kind::Counter, "Programs that were begun on this machine.", &[]),
    family("taffrail_audit_forks_total", Kind::Counter, "Tasks that were made on this machine.", &[]),
    family("taffrail_audit_exits_total", Kind::Counter, "Processes that ended on this machine.", &[]),
    family("taffrail_audit_records_total", Kind::Counter, "Records that the kernel's ring took.", &[]),
    family(
        "taffrail_audit_records_lost_total",
        Kind::Counter,
        "Records that are missing, by why: the ring was full, or the container was over its rate.",
        &["reason"],
    ),
    family(
        "taffrail_audit_untracked_total",
        Kind::Counter,
        "Processes and sessions that the kernel had no memory for.",
        &[],
    ),
    family(
        "taffrail_audit_unread_total",
        Kind::Counter,
        "Programs that had ended before it could be seen whether they were in a container; by the process connector.",
        &[],
    ),
    family(
        "taffrail_audit_malformed_total",
        Kind::Counter,
        "Records that this program does not understand.",
        &[],
    ),
    family("taffrail_audit_ring_bytes", Kind::Gauge, "Bytes of the kernel's ring.", &[]),
    family(
        "taffrail_audit_ring_waiting_bytes",
        Kind::Gauge,
        "Bytes that waited in the kernel's ring, at most in the last second.",
        &[],
    ),
    family(
        "taffrail_audit_documents_total",
        Kind::Counter,
        "Documents that were put on this node's disk.",
        &[],
    ),
    family(
        "taffrail_audit_spool_bytes",
        Kind::Gauge,
        "Bytes of documents on this node's disk that wait to be delivered.",
        &[],
    ),
    family(
        "taffrail_audit_lag_seconds",
        Kind::Gauge,
        "For how long the oldest document that was sent waits to be confirmed.",
        &[],
    ),
    family(
        "taffrail_audit_sent_total",
        Kind::Counter,
        "Documents handed to the output; `again` those of them that it had before and has not confirmed.",
        &["times"],
    ),
    family(
        "taffrail_audit_trouble",
        Kind::Gauge,
        "Whether anything keeps sessions from being audited or documents from being delivered.",
        &[],
    ),
];

/// The metrics of it all.
pub(crate) struct Metrics(pub(crate) Arc<Status>);

impl Ask for Metrics {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let status = &*self.0;
        let view = status.view();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let flag = |is: bool| f64::from(u8::from(is));
        let counts = view.counts;
        let mut families = FAMILIES.iter();
        let mut next = |values: &[(&[&str], f64)]| {
            let Some(family) = families.next() else { return };
            samples.family(family);
            values.iter().for_each(|(labels, value)| samples.sample(labels, *value));
        };
        let tiers = Tier::ALL.map(|tier| ([tier.as_str()], flag(tier == view.tier)));
        next(&tiers.each_ref().map(|(name, value)| (&name[..], *value)));
        next(&[(&[], flag(view.pinned))]);
        let sessions = status.sessions.lock();
        next(&[(&[], sessions.live.len() as f64)]);
        let origins = Origin::ALL.map(Origin::as_str);
        let begun = origins.map(|name| ([name], sessions.begun.get(name).copied().unwrap_or(0) as f64));
        next(&begun.each_ref().map(|(name, value)| (&name[..], *value)));
        next(&[(&[], sessions.finished as f64)]);
        next(&[(&[], sessions.with_gaps as f64)]);
        drop(sessions);
        next(&[(&[], counts.execs as f64)]);
        next(&[(&[], counts.forks as f64)]);
        next(&[(&[], counts.exits as f64)]);
        next(&[(&[], counts.told as f64)]);
        next(&[(&["ring_full"], counts.lost as f64), (&["over_rate"], counts.limited as f64)]);
        next(&[(&[], counts.untracked as f64)]);
        next(&[(&[], view.unread as f64)]);
        next(&[(&[], load(&status.malformed))]);
        next(&[(&[], view.ring.0 as f64)]);
        next(&[(&[], view.ring.1 as f64)]);
        next(&[(&[], load(&status.documents))]);
        next(&[(&[], view.spool_bytes as f64)]);
        next(&[(&[], view.lag)]);
        next(&[
            (&["first"], load(&status.sent) - load(&status.sent_again)),
            (&["again"], load(&status.sent_again)),
        ]);
        next(&[(&[], flag(view.trouble.is_some()))]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use taffrail_record::Gathered;

    use super::*;

    #[test]
    fn every_family_has_its_own_figure() {
        let status = Arc::new(Status::default());
        {
            let mut view = status.view.lock();
            view.tier = Tier::Probe;
            view.counts = Counts {
                execs: 1,
                forks: 2,
                exits: 3,
                told: 4,
                lost: 5,
                limited: 6,
                untracked: 7,
                ..Counts::default()
            };
            view.ring = (8, 9);
            view.lag = 2.5;
        }
        let open = |number| Open { number, origin: Origin::OutOfBand, ..Open::default() };
        status.opened(&open(1), true);
        status.opened(&open(2), true);
        let gaps = vec!["some".to_owned()];
        status.closed(1, Summary { gaps, ..Summary::default() }, 10);
        status.sent(5, false);
        status.sent(2, true);
        status.set_trouble("probe", Some("none".to_owned()));
        let mut gathered = Gathered::default();
        Metrics(status).ask(&mut gathered).expect("figures");
        for (name, labels, value) in [
            ("tier", "tier=\"probe\"", 1.0),
            ("tier", "tier=\"none\"", 0.0),
            ("pinned", "", 0.0),
            ("sessions_open", "", 1.0),
            ("sessions_total", "origin=\"out-of-band\"", 2.0),
            ("sessions_total", "origin=\"exec\"", 0.0),
            ("sessions_ended_total", "", 1.0),
            ("sessions_with_gaps_total", "", 1.0),
            ("execs_total", "", 1.0),
            ("forks_total", "", 2.0),
            ("exits_total", "", 3.0),
            ("records_total", "", 4.0),
            ("records_lost_total", "reason=\"ring_full\"", 5.0),
            ("records_lost_total", "reason=\"over_rate\"", 6.0),
            ("untracked_total", "", 7.0),
            ("ring_bytes", "", 8.0),
            ("ring_waiting_bytes", "", 9.0),
            ("lag_seconds", "", 2.5),
            ("sent_total", "times=\"first\"", 5.0),
            ("sent_total", "times=\"again\"", 2.0),
            ("trouble", "", 1.0),
        ] {
            assert_eq!(gathered.value(&format!("taffrail_audit_{name}"), labels), Some(value), "{name}");
        }
    }

    #[test]
    fn sessions_that_ended_are_remembered_up_to_a_bound() {
        let status = Status::default();
        for number in 0..5 {
            status.opened(&Open { number, ..Open::default() }, true);
            status.closed(number, Summary { id: number.to_string(), ..Summary::default() }, 3);
        }
        status.opened(&Open { id: "live".to_owned(), ..Open::default() }, true);
        let ids: Vec<String> = status.sessions().into_iter().map(|summary| summary.id).collect();
        assert_eq!(ids, ["2", "3", "4", "live"]);
    }
}
