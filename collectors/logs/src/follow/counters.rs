//! The collector's own counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use taffrail_record::{Ask, AskError, Family, Kind, Samples, family};

static FAMILIES: [Family; 14] = [
    family("taffrail_logs_lanes", Kind::Gauge, "Containers and plain files being followed.", &[]),
    family("taffrail_logs_open_files", Kind::Gauge, "Log files held open.", &[]),
    family("taffrail_logs_parked", Kind::Gauge, "Lanes that are idle and wait for the kernel's notice.", &[]),
    family(
        "taffrail_logs_read_bytes_total",
        Kind::Counter,
        "Bytes read from log files, after unpacking.",
        &[],
    ),
    family("taffrail_logs_records_total", Kind::Counter, "Records made.", &[]),
    family("taffrail_logs_flagged_records_total", Kind::Counter, "Records with a flag, by flag.", &["flag"]),
    family("taffrail_logs_looks_total", Kind::Counter, "Directory listings made to find rotated files.", &[]),
    family("taffrail_logs_scans_total", Kind::Counter, "Searches for new containers and files.", &[]),
    family(
        "taffrail_logs_rewritten_total",
        Kind::Counter,
        "Files found truncated or rewritten in place.",
        &[],
    ),
    family("taffrail_logs_refused_files_total", Kind::Counter, "Files not read, by reason.", &["reason"]),
    family("taffrail_logs_read_errors_total", Kind::Counter, "Reads that failed, retried with backoff.", &[]),
    family(
        "taffrail_logs_watch_failures_total",
        Kind::Counter,
        "Directories the kernel would not watch, or notices it dropped.",
        &[],
    ),
    family(
        "taffrail_logs_unseen_total",
        Kind::Counter,
        "Containers that were removed before a log file of theirs was seen; most never started, but what they may have printed is unknown.",
        &[],
    ),
    family(
        "taffrail_logs_vanished_total",
        Kind::Counter,
        "Log files whose end nobody has seen (gone while no agent watched, truncated, rotated away too fast): what was in or after them is unknown.",
        &[],
    ),
];

/// Counts what the collector does.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) lanes: Count,
    pub(crate) open_files: Count,
    pub(crate) parked: Count,
    pub(crate) read_bytes: Count,
    pub(crate) records: Count,
    pub(crate) looks: Count,
    pub(crate) scans: Count,
    pub(crate) rewritten: Count,
    pub(crate) read_errors: Count,
    pub(crate) watch_failures: Count,
    pub(crate) unseen: Count,
    pub(crate) vanished: Count,
    flagged: Mutex<BTreeMap<&'static str, u64>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

/// One number.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn get(&self) -> f64 {
        self.value() as f64
    }
}

impl Counters {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn flagged(&self, flag: &'static str) {
        *self.flagged.lock().entry(flag).or_default() += 1;
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        *self.refused.lock().entry(reason).or_default() += 1;
    }
}

impl Ask for Counters {
    fn name(&self) -> &'static str {
        "logs"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut one = |index: usize, count: &Count| {
            samples.family(&FAMILIES[index]);
            samples.sample(&[], count.get());
        };
        one(0, &self.lanes);
        one(1, &self.open_files);
        one(2, &self.parked);
        one(3, &self.read_bytes);
        one(4, &self.records);
        one(6, &self.looks);
        one(7, &self.scans);
        one(8, &self.rewritten);
        one(10, &self.read_errors);
        one(11, &self.watch_failures);
        one(12, &self.unseen);
        one(13, &self.vanished);
        for (index, counts) in [(5, &self.flagged), (9, &self.refused)] {
            samples.family(&FAMILIES[index]);
            for (label, value) in counts.lock().iter() {
                samples.sample(&[label], *value as f64);
            }
        }
        Ok(())
    }
}
