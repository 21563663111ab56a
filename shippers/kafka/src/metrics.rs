//! The shipper's own counters.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use taffrail_record::{Ask, AskError, Family, Kind as FamilyKind, Samples};

use crate::codes::Kind;

/// Counted where it happens, read when somebody scrapes.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) messages: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) queued_messages: AtomicU64,
    pub(crate) queued_bytes: AtomicU64,
    pub(crate) parked_batches: AtomicU64,
    pub(crate) resent: AtomicU64,
    pub(crate) oversize: AtomicU64,
    pub(crate) oversize_bytes: AtomicU64,
    pub(crate) too_large: AtomicU64,
    pub(crate) producers: AtomicU64,
    errors: [AtomicU64; Kind::ALL.len()],
}

impl Counters {
    pub(crate) fn error(&self, kind: Kind, messages: u64) {
        self.errors[kind as usize].fetch_add(messages, Relaxed);
    }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: FamilyKind::Counter, help, labels: &[] }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: FamilyKind::Gauge, help, labels: &[] }
}

static FAMILIES: [Family; 11] = [
    counter("taffrail_kafka_messages_total", "Messages confirmed by the brokers."),
    counter("taffrail_kafka_bytes_total", "Bytes of values confirmed by the brokers, before compression."),
    gauge("taffrail_kafka_queue_messages", "Messages handed to the producer and not confirmed yet."),
    gauge("taffrail_kafka_queue_bytes", "Bytes of memory of what is handed over and not confirmed yet."),
    gauge("taffrail_kafka_parked_batches", "Batches that wait because their topic refused records."),
    counter(
        "taffrail_kafka_resent_messages_total",
        "Messages sent again after they had come back with an error.",
    ),
    counter(
        "taffrail_kafka_oversize_messages_total",
        "Messages cut because a broker or the producer refused their size.",
    ),
    counter("taffrail_kafka_oversize_bytes_total", "Bytes of log text cut from those."),
    counter("taffrail_kafka_too_large_messages_total", "Messages lost because even cut they were too large."),
    counter(
        "taffrail_kafka_producers_total",
        "Producers made after the first, because one had given up for good.",
    ),
    Family {
        name: "taffrail_kafka_errors_total",
        kind: FamilyKind::Counter,
        help: "Messages that came back with an error, and connection errors, by kind; all are retried.",
        labels: &["kind"],
    },
];

impl Ask for Counters {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let plain = [
            &self.messages,
            &self.bytes,
            &self.queued_messages,
            &self.queued_bytes,
            &self.parked_batches,
            &self.resent,
            &self.oversize,
            &self.oversize_bytes,
            &self.too_large,
            &self.producers,
        ];
        for (family, value) in FAMILIES.iter().zip(plain) {
            samples.family(family);
            samples.sample(&[], value.load(Relaxed) as f64);
        }
        samples.family(&FAMILIES[plain.len()]);
        for kind in Kind::ALL {
            samples.sample(&[kind.as_str()], self.errors[kind as usize].load(Relaxed) as f64);
        }
        Ok(())
    }
}
