//! What can be told of it at any time: sessions, counters, and what is wrong.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use taffrail_record::{Ask, AskError, Family, Kind, Samples, family};
use taffrail_spool::{Observer, Troubles};

use crate::probe::{Counts, Run};
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
    /// The kernel's audit, with the process connector.
    Audit,
    /// The kernel's process connector, and `/proc`.
    Connector,
    /// What a container engine tells.
    Runtime,
}

impl Tier {
    const ALL: [Tier; 5] = [Tier::None, Tier::Probe, Tier::Audit, Tier::Connector, Tier::Runtime];

    /// The label of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::None => "none",
            Tier::Probe => "probe",
            Tier::Audit => "audit",
            Tier::Connector => "connector",
            Tier::Runtime => "runtime",
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
    /// What its hooks take.
    pub runs: Vec<Run>,
    /// Programs of which it is not known what they were: they had ended before anybody could look at them.
    pub unread: u64,
    /// Bytes of the kernel's ring, and of them what waited at most in the last second.
    pub ring: (u64, u64),
    /// Bytes of documents that wait on this node's disk.
    pub spool_bytes: u64,
    /// For how long the oldest of them waits to be stored, in seconds.
    pub lag: f64,
    /// What is recorded.
    pub recording: Recordings,
    /// What is wrong, and what to do about it.
    pub trouble: Option<String>,
}

/// What is recorded of what is typed and shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recordings {
    /// Whether the programs that record are attached now.
    pub attached: bool,
    /// How long it took last from somebody being about to come in until they were.
    pub took: Duration,
    /// Bytes that were put on the disk.
    pub bytes: u64,
    /// Bytes of sessions that have ended which are not told: over their bound, or not to be read.
    pub cut: u64,
    /// Bytes of these that were typed and not echoed.
    pub redacted: u64,
    /// Pieces of these that did not fit the ring.
    pub lost: u64,
    /// Pieces that were not put on the disk.
    pub refused: u64,
}

/// Shared between the parts.
#[derive(Debug, Default)]
pub(crate) struct Status {
    pub(crate) view: Mutex<View>,
    troubles: Troubles,
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
        View { trouble: self.troubles.all(), ..self.view.lock().clone() }
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
        self.troubles.set("audit", part, what);
    }
}

static FAMILIES: [Family; 30] = [
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
        "Programs that had ended before it could be seen what they were; by the process connector and the kernel's audit.",
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
    family(
        "taffrail_audit_recording",
        Kind::Gauge,
        "Whether the programs that record what is typed and shown are attached in the kernel now.",
        &[],
    ),
    family(
        "taffrail_audit_recording_attach_seconds",
        Kind::Gauge,
        "How long it took last from somebody being about to come into a container until these programs were attached.",
        &[],
    ),
    family(
        "taffrail_audit_recorded_bytes_total",
        Kind::Counter,
        "Bytes of what was typed and shown that were put on this node's disk.",
        &[],
    ),
    family(
        "taffrail_audit_recording_cut_bytes_total",
        Kind::Counter,
        "Bytes that recordings of sessions which have ended do not have: over their bound, or not to be read.",
        &[],
    ),
    family(
        "taffrail_audit_recording_redacted_bytes_total",
        Kind::Counter,
        "Bytes typed in sessions which have ended that the terminal did not echo: only their number is kept.",
        &[],
    ),
    family(
        "taffrail_audit_recording_lost_total",
        Kind::Counter,
        "Pieces that recordings do not have, by why: the kernel's ring was full, or there was no room on the disk.",
        &["reason"],
    ),
    family(
        "taffrail_audit_probe_runs_total",
        Kind::Counter,
        "How often the probe ran, by where in the kernel; `open` at the end of every system call.",
        &["hook"],
    ),
    family(
        "taffrail_audit_probe_seconds_total",
        Kind::Counter,
        "For how long the probe ran, by where in the kernel; estimated: one run of 64 on each processor is timed.",
        &["hook"],
    ),
    family(
        "taffrail_audit_probe_skipped_total",
        Kind::Counter,
        "How often the kernel did not run the probe, by where, because it ran on that processor already.",
        &["hook"],
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
        let recording = view.recording;
        next(&[(&[], flag(recording.attached))]);
        next(&[(&[], recording.took.as_secs_f64())]);
        next(&[(&[], recording.bytes as f64)]);
        next(&[(&[], recording.cut as f64)]);
        next(&[(&[], recording.redacted as f64)]);
        next(&[(&["ring_full"], recording.lost as f64), (&["no_room"], recording.refused as f64)]);
        let runs = |value: fn(&Run) -> f64| -> Vec<([&str; 1], f64)> {
            view.runs.iter().map(|run| ([run.hook], value(run))).collect()
        };
        for values in
            [runs(|run| run.runs as f64), runs(|run| run.time.as_secs_f64()), runs(|run| run.skipped as f64)]
        {
            next(&values.iter().map(|(labels, value)| (&labels[..], *value)).collect::<Vec<_>>());
        }
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
            let time = std::time::Duration::from_millis(1500);
            view.runs = vec![Run { hook: "open", runs: 15, time, skipped: 16 }];
            let took = Duration::from_millis(1500);
            view.recording =
                Recordings { attached: true, took, bytes: 10, cut: 11, redacted: 12, lost: 13, refused: 14 };
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
            ("recording", "", 1.0),
            ("recording_attach_seconds", "", 1.5),
            ("recorded_bytes_total", "", 10.0),
            ("recording_cut_bytes_total", "", 11.0),
            ("recording_redacted_bytes_total", "", 12.0),
            ("recording_lost_total", "reason=\"ring_full\"", 13.0),
            ("recording_lost_total", "reason=\"no_room\"", 14.0),
            ("probe_runs_total", "hook=\"open\"", 15.0),
            ("probe_seconds_total", "hook=\"open\"", 1.5),
            ("probe_skipped_total", "hook=\"open\"", 16.0),
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
