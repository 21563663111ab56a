//! What the store says about itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use taffrail_record::{Ask, AskError, Family, Kind, Samples};

macro_rules! families {
    ($($name:literal, $kind:ident, $help:literal;)*) => {
        static FAMILIES: &[Family] = &[$(Family {
            name: concat!("taffrail_checkpoint_", $name), kind: Kind::$kind, help: $help, labels: &[],
        }),*];
    };
}

families! {
    "commits_total", Counter, "Commits of confirmed positions that reached the disk.";
    "failures_total", Counter, "Writes of confirmed positions that failed; what they held is tried again.";
    "written_bytes_total", Counter, "Bytes written to checkpoint files.";
    "commit_seconds_total", Counter, "Time spent in commits, fsync included.";
    "compactions_total", Counter, "Times that the base was rewritten.";
    "damaged_files_total", Counter, "Checkpoint files that were refused and moved aside at start.";
    "entries", Gauge, "Entries held: files and containers whose position is remembered.";
    "staged_entries", Gauge, "Changed entries that are not on the disk yet.";
}

/// The counters, in the order of [`FAMILIES`].
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) commits: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) bytes: AtomicU64,
    nanoseconds: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) damaged: AtomicU64,
    entries: AtomicU64,
    staged: AtomicU64,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn spent_since(&self, start: Instant) {
        let spent = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        add(&self.nanoseconds, spent);
    }

    pub(crate) fn hold(&self, entries: usize, staged: usize) {
        self.entries.store(entries as u64, Ordering::Relaxed);
        self.staged.store(staged as u64, Ordering::Relaxed);
    }

    fn values(&self) -> [f64; 8] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        [
            get(&self.commits),
            get(&self.failures),
            get(&self.bytes),
            get(&self.nanoseconds) / 1e9,
            get(&self.compactions),
            get(&self.damaged),
            get(&self.entries),
            get(&self.staged),
        ]
    }
}

pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Ask for Metrics {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn families(&self) -> &'static [Family] {
        FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        for (family, value) in FAMILIES.iter().zip(self.values()) {
            samples.family(family);
            samples.sample(&[], value);
        }
        Ok(())
    }
}
