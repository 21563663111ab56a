//! The shipper's own counters.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use taffrail_record::{Ask, AskError, Family, Kind, Samples, family};

use crate::reason::Reason;

/// Counted where it happens, read when somebody scrapes.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) stored: AtomicU64,
    pub(crate) duplicate: AtomicU64,
    pub(crate) dead_letter: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) bulks: AtomicU64,
    pub(crate) bulk_micros: AtomicU64,
    pub(crate) batch_bytes: AtomicU64,
    pub(crate) batch_documents: AtomicU64,
    pub(crate) queue_documents: AtomicU64,
    pub(crate) queue_bytes: AtomicU64,
    pub(crate) dead_bytes: AtomicU64,
    pub(crate) dead_deleted: AtomicU64,
    pub(crate) template_ok: AtomicBool,
    requests: [AtomicU64; CLASSES.len()],
    retried: [AtomicU64; Reason::ALL.len()],
    /// Each node by its address, and whether its last answer was one.
    pub(crate) nodes: Vec<(String, AtomicBool)>,
}

const CLASSES: [&str; 6] = ["2xx", "3xx", "4xx", "429", "5xx", "none"];

impl Counters {
    pub(crate) fn new(nodes: impl Iterator<Item = String>) -> Self {
        let nodes = nodes.map(|node| (node, AtomicBool::new(false))).collect();
        Counters { nodes, ..Counters::default() }
    }

    /// A request was answered with this status; none when it was not answered.
    pub(crate) fn request(&self, status: Option<u16>) {
        let class = match status {
            None => 5,
            Some(429) => 3,
            Some(500..) => 4,
            Some(400..) => 2,
            Some(300..) => 1,
            Some(_) => 0,
        };
        self.requests[class].fetch_add(1, Relaxed);
    }

    pub(crate) fn retried(&self, reason: Reason, documents: u64) {
        self.retried[reason as usize].fetch_add(documents, Relaxed);
    }

    pub(crate) fn bulk(&self, took: Duration) {
        self.bulks.fetch_add(1, Relaxed);
        self.bulk_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn node(&self, at: usize, up: bool) {
        if let Some((_, state)) = self.nodes.get(at) {
            state.store(up, Relaxed);
        }
    }
}

static FAMILIES: [Family; 15] = [
    family(
        "taffrail_elasticsearch_documents_total",
        Kind::Counter,
        "Documents by what became of them: stored, duplicate (was there already), dead_letter (refused for good and kept).",
        &["outcome"],
    ),
    family(
        "taffrail_elasticsearch_requests_total",
        Kind::Counter,
        "Bulk requests by the class of their status; none when there was no answer.",
        &["status"],
    ),
    family(
        "taffrail_elasticsearch_retried_documents_total",
        Kind::Counter,
        "Documents that were sent and have to be sent again, by reason.",
        &["reason"],
    ),
    family(
        "taffrail_elasticsearch_up",
        Kind::Gauge,
        "Whether a node's last answer was one of an engine that works.",
        &["node"],
    ),
    family("taffrail_elasticsearch_bytes_total", Kind::Counter, "Bytes of documents that are stored.", &[]),
    family(
        "taffrail_elasticsearch_sent_bytes_total",
        Kind::Counter,
        "Bytes of bulk requests sent, as compressed.",
        &[],
    ),
    family("taffrail_elasticsearch_bulks_total", Kind::Counter, "Bulk requests that were answered.", &[]),
    family(
        "taffrail_elasticsearch_bulk_seconds_total",
        Kind::Counter,
        "Seconds that answers to bulk requests took, in all.",
        &[],
    ),
    family(
        "taffrail_elasticsearch_batch_bytes",
        Kind::Gauge,
        "Largest request at the moment, in bytes before compression.",
        &[],
    ),
    family(
        "taffrail_elasticsearch_batch_documents",
        Kind::Gauge,
        "Most documents in a request at the moment.",
        &[],
    ),
    family("taffrail_elasticsearch_queue_documents", Kind::Gauge, "Documents taken and not stored yet.", &[]),
    family("taffrail_elasticsearch_queue_bytes", Kind::Gauge, "Bytes of those documents.", &[]),
    family("taffrail_elasticsearch_dead_letter_bytes", Kind::Gauge, "Bytes of dead letters kept.", &[]),
    family(
        "taffrail_elasticsearch_dead_letter_files_deleted_total",
        Kind::Counter,
        "Oldest files of dead letters deleted to keep within dead_letter_bytes.",
        &[],
    ),
    family(
        "taffrail_elasticsearch_template_ok",
        Kind::Gauge,
        "Whether index template and lifecycle policy, as far as they are wanted, are there.",
        &[],
    ),
];

impl Ask for Counters {
    fn name(&self) -> &'static str {
        "elasticsearch"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let value = |counter: &AtomicU64| counter.load(Relaxed) as f64;
        samples.family(&FAMILIES[0]);
        samples.sample(&["stored"], value(&self.stored));
        samples.sample(&["duplicate"], value(&self.duplicate));
        samples.sample(&["dead_letter"], value(&self.dead_letter));
        samples.family(&FAMILIES[1]);
        for (class, counter) in CLASSES.iter().zip(&self.requests) {
            samples.sample(&[class], value(counter));
        }
        samples.family(&FAMILIES[2]);
        for reason in Reason::ALL {
            samples.sample(&[reason.as_str()], value(&self.retried[reason as usize]));
        }
        samples.family(&FAMILIES[3]);
        for (node, up) in &self.nodes {
            samples.sample(&[node], f64::from(u8::from(up.load(Relaxed))));
        }
        for (family, counter) in [
            (&FAMILIES[4], &self.bytes),
            (&FAMILIES[5], &self.sent_bytes),
            (&FAMILIES[6], &self.bulks),
            (&FAMILIES[8], &self.batch_bytes),
            (&FAMILIES[9], &self.batch_documents),
            (&FAMILIES[10], &self.queue_documents),
            (&FAMILIES[11], &self.queue_bytes),
            (&FAMILIES[12], &self.dead_bytes),
            (&FAMILIES[13], &self.dead_deleted),
        ] {
            samples.family(family);
            samples.sample(&[], value(counter));
        }
        samples.family(&FAMILIES[7]);
        samples.sample(&[], value(&self.bulk_micros) / 1e6);
        samples.family(&FAMILIES[14]);
        samples.sample(&[], f64::from(u8::from(self.template_ok.load(Relaxed))));
        Ok(())
    }
}
