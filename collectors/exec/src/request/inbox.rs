//! Between whoever hears of requests and the reader that has the sessions: a bounded queue, how it goes with each source, and
//! counters.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use taffrail_record::{Ask, AskError, Family, Kind, Samples, family};
use taffrail_spool::now;

use super::{Known, Request, Source};

/// Requests that wait for the reader at most. It takes them five times a second.
const MOST: usize = 1024;

/// Where requests are told. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<Inbox>);

/// What is shared.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queue: Mutex<VecDeque<Request>>,
    health: Mutex<Health>,
    heard: [AtomicU64; Source::ALL.len()],
    verdicts: [AtomicU64; VERDICTS.len()],
    lost: AtomicU64,
    pub(super) unused: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    forwarded: [AtomicU64; 2],
    /// When the certificate ends, seconds since the Unix epoch; 0 when there is none.
    certificate_ends: AtomicI64,
}

#[derive(Debug, Default)]
struct Health {
    troubles: BTreeMap<&'static str, String>,
    /// Since when there is none, nanoseconds since the Unix epoch.
    well_since: Option<i64>,
}

/// Why somebody who told something was not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It was not at the path that only the API servers know.
    Stranger,
    /// It could not be understood.
    Malformed,
    /// It was too large, or too much at once.
    TooMuch,
}

impl Refusal {
    const ALL: [Refusal; 3] = [Refusal::Stranger, Refusal::Malformed, Refusal::TooMuch];

    fn as_str(self) -> &'static str {
        match self {
            Refusal::Stranger => "stranger",
            Refusal::Malformed => "malformed",
            Refusal::TooMuch => "too_much",
        }
    }
}

const VERDICTS: [Known; 3] = [Known::Known, Known::OutOfBand, Known::Unknown];

fn add(counts: &[AtomicU64], index: Option<usize>) {
    if let Some(count) = index.and_then(|index| counts.get(index)) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Requests {
    /// The part that API servers and agents tell.
    pub const DOOR: &'static str = "webhook";
    /// The part that reads the API server's audit log.
    pub const LOG: &'static str = "audit log";

    /// Where these parts are to be heard, which are not yet.
    #[must_use]
    pub fn of(parts: &[&'static str]) -> Requests {
        let troubles = parts.iter().map(|part| (*part, "it has not begun yet".to_owned())).collect();
        let health = Mutex::new(Health { troubles, well_since: None });
        Requests(Arc::new(Inbox { health, ..Inbox::default() }))
    }

    pub(crate) fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.0)
    }

    /// Somebody has asked for something.
    pub fn tell(&self, request: Request) {
        let inbox = &self.0;
        let source = request.sources.first().copied();
        add(&inbox.heard, Source::ALL.iter().position(|known| Some(*known) == source));
        let mut queue = inbox.queue.lock();
        queue.push_back(request);
        if queue.len() > MOST {
            queue.pop_front();
            drop(queue);
            inbox.lose(1);
        }
    }

    /// How it goes with a part: what is wrong and what to do about it, or nothing.
    pub fn set_trouble(&self, part: &'static str, what: Option<String>) {
        let mut health = self.0.health.lock();
        let old = match &what {
            Some(what) => health.troubles.insert(part, what.clone()),
            None => health.troubles.remove(part),
        };
        if !health.troubles.is_empty() {
            health.well_since = None;
        } else if health.well_since.is_none() {
            health.well_since = Some(now());
        }
        match (old, what) {
            (old, Some(trouble)) if old.as_ref() != Some(&trouble) => {
                tracing::warn!(part, trouble, "who asks for sessions is not told");
            }
            (Some(was), None) => tracing::info!(part, was, "who asks for sessions is told"),
            _ => {}
        }
    }

    /// What is wrong, for readiness.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let health = self.0.health.lock();
        let each: Vec<String> =
            health.troubles.iter().map(|(part, what)| format!("{part}: {what}")).collect();
        (!each.is_empty()).then(|| each.join("; "))
    }

    /// Somebody who told something was not heard.
    pub fn refused(&self, why: Refusal) {
        add(&self.0.refused, Refusal::ALL.iter().position(|known| *known == why));
        if why != Refusal::Stranger {
            self.0.missed();
        }
    }

    /// A request was passed on to the agent of its pod's node, or could not be.
    pub fn forwarded(&self, has_arrived: bool) {
        add(&self.0.forwarded, Some(usize::from(!has_arrived)));
    }

    /// When the certificate that API servers see ends, in seconds since the Unix epoch.
    pub fn certificate_ends(&self, time: i64) {
        self.0.certificate_ends.store(time, Ordering::Relaxed);
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn Ask> {
        Arc::clone(&self.0) as Arc<dyn Ask>
    }
}

impl Inbox {
    pub(super) fn take(&self) -> VecDeque<Request> {
        std::mem::take(&mut *self.queue.lock())
    }

    /// So many were told, and are not held against sessions.
    pub(super) fn lose(&self, count: u64) {
        if count > 0 {
            self.lost.fetch_add(count, Ordering::Relaxed);
            self.missed();
        }
    }

    /// Something may have been told that was not heard: nobody is accused for want of that.
    fn missed(&self) {
        let since = &mut self.health.lock().well_since;
        *since = since.map(|_| now());
    }

    /// Since when everybody is heard; or who is not, and why.
    pub(super) fn well_since(&self) -> Result<i64, String> {
        let health = self.health.lock();
        let trouble = || health.troubles.iter().map(|(part, what)| format!("{part}: {what}")).next();
        health.well_since.ok_or_else(|| trouble().unwrap_or_else(|| "nobody tells it".to_owned()))
    }

    /// As if every part had begun at this time.
    #[cfg(test)]
    pub(super) fn heard_since(&self, time: i64) {
        *self.health.lock() = Health { well_since: Some(time), ..Health::default() };
    }

    /// Something was found out about a session.
    pub(super) fn decided(&self, known: Known) {
        add(&self.verdicts, VERDICTS.iter().position(|each| *each == known));
    }
}

static FAMILIES: [Family; 8] = [
    family(
        "taffrail_audit_requests_total",
        Kind::Counter,
        "Requests to begin something in a container that were told, by who told.",
        &["source"],
    ),
    family(
        "taffrail_audit_requests_lost_total",
        Kind::Counter,
        "Requests that came faster than they could be held against sessions.",
        &[],
    ),
    family(
        "taffrail_audit_requests_unused_total",
        Kind::Counter,
        "Requests that no session was seen to come of.",
        &[],
    ),
    family(
        "taffrail_audit_requests_refused_total",
        Kind::Counter,
        "What came to the address of the webhook and was not taken, by why: it was not at its secret path, could not be understood, \
         or was too much.",
        &["reason"],
    ),
    family(
        "taffrail_audit_requests_forwarded_total",
        Kind::Counter,
        "Requests of other nodes' pods that were passed on to the agent there, or could not be.",
        &["outcome"],
    ),
    family(
        "taffrail_audit_sessions_attributed_total",
        Kind::Counter,
        "Sessions of pods of which somebody asked who wanted them: the user is known, nobody asked the API server for it, or it cannot \
         be said.",
        &["known"],
    ),
    family(
        "taffrail_audit_requests_trouble",
        Kind::Gauge,
        "Whether anything keeps requests from being heard of; then no session is called out-of-band for want of one.",
        &[],
    ),
    family(
        "taffrail_audit_requests_certificate_end_timestamp_seconds",
        Kind::Gauge,
        "When the first certificate of the address at which API servers tell of requests ends, since the Unix epoch.",
        &[],
    ),
];

impl Ask for Inbox {
    fn name(&self) -> &'static str {
        "audit_requests"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let trouble = f64::from(u8::from(!self.health.lock().troubles.is_empty()));
        let by = |names: &[&'static str], counts: &[AtomicU64]| -> Vec<(Option<&'static str>, f64)> {
            names.iter().copied().map(Some).zip(counts.iter().map(load)).collect()
        };
        let ends = self.certificate_ends.load(Ordering::Relaxed);
        let all = [
            by(&Source::ALL.map(Source::as_str), &self.heard),
            vec![(None, load(&self.lost))],
            vec![(None, load(&self.unused))],
            by(&Refusal::ALL.map(Refusal::as_str), &self.refused),
            by(&["arrived", "failed"], &self.forwarded),
            by(&VERDICTS.map(Known::as_str), &self.verdicts),
            vec![(None, trouble)],
            (ends > 0).then_some((None, ends as f64)).into_iter().collect(),
        ];
        for (family, values) in FAMILIES.iter().zip(all) {
            samples.family(family);
            for (label, value) in values {
                samples.sample(label.as_slice(), value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use taffrail_record::Gathered;

    use super::*;

    #[test]
    fn nobody_is_heard_before_each_part_has_begun() {
        let requests = Requests::of(&["door", "log"]);
        requests.set_trouble("door", None);
        assert_eq!(requests.inbox().well_since(), Err("log: it has not begun yet".to_owned()));
        requests.set_trouble("log", None);
        let since = requests.inbox().well_since().expect("both are heard");
        requests.set_trouble("log", None);
        assert_eq!(requests.inbox().well_since(), Ok(since), "nothing has changed");
        requests.set_trouble("log", Some("gone".to_owned()));
        assert_eq!(requests.trouble().as_deref(), Some("log: gone"));
        requests.set_trouble("log", None);
        assert!(requests.inbox().well_since().expect("heard again") > since);
    }

    #[test]
    fn what_is_too_much_is_counted_and_the_newest_is_kept() {
        let requests = Requests::default();
        for number in 0..=MOST as i64 {
            requests.tell(Request { at: number, sources: vec![Source::Webhook], ..Request::default() });
        }
        requests.inbox().heard_since(7);
        requests.refused(Refusal::Stranger);
        requests.forwarded(false);
        assert_eq!(requests.inbox().well_since(), Ok(7), "that does not matter");
        requests.inbox().decided(Known::OutOfBand);
        let mut gathered = Gathered::default();
        requests.metrics().ask(&mut gathered).expect("figures");
        for (name, labels, value) in [
            ("requests_total", "source=\"webhook\"", MOST as f64 + 1.0),
            ("requests_lost_total", "", 1.0),
            ("requests_refused_total", "reason=\"stranger\"", 1.0),
            ("requests_forwarded_total", "outcome=\"failed\"", 1.0),
            ("requests_forwarded_total", "outcome=\"arrived\"", 0.0),
            ("sessions_attributed_total", "known=\"out-of-band\"", 1.0),
            ("requests_trouble", "", 0.0),
        ] {
            assert_eq!(gathered.value(&format!("taffrail_audit_{name}"), labels), Some(value), "{name}");
        }
        requests.refused(Refusal::TooMuch);
        assert!(
            requests.inbox().well_since().is_ok_and(|since| since > 7),
            "somebody may have asked for something"
        );
        assert_eq!(requests.inbox().take().front().map(|request| request.at), Some(1));
    }
}
