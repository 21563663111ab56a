//! The shipper's own counters.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use taffrail_record::{Ask, AskError, Family, Kind, Samples};

/// Counted where it happens, read when somebody scrapes.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) waiting_bytes: AtomicU64,
    pub(crate) closed: AtomicU64,
    pub(crate) deleted: AtomicU64,
    pub(crate) deleted_bytes: AtomicU64,
}

const fn family(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family { name, kind, help, labels: &[] }
}

static FAMILIES: [Family; 8] = [
    family("taffrail_file_records_total", Kind::Counter, "Records written, synced and confirmed."),
    family("taffrail_file_bytes_total", Kind::Counter, "Bytes of records written, synced and confirmed."),
    family("taffrail_file_syncs_total", Kind::Counter, "Times that files were synced to the disk."),
    family(
        "taffrail_file_errors_total",
        Kind::Counter,
        "Failed writes, syncs and renames; what they were for is retried.",
    ),
    family("taffrail_file_waiting_bytes", Kind::Gauge, "Bytes encoded and not synced yet."),
    family(
        "taffrail_file_closed_files_total",
        Kind::Counter,
        "Files that were closed and got their final name.",
    ),
    family(
        "taffrail_file_deleted_files_total",
        Kind::Counter,
        "Oldest closed files deleted to keep within keep_files and keep_bytes.",
    ),
    family("taffrail_file_deleted_bytes_total", Kind::Counter, "Bytes of those files."),
];

impl Ask for Counters {
    fn name(&self) -> &'static str {
        "file"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let values = [
            &self.records,
            &self.bytes,
            &self.syncs,
            &self.errors,
            &self.waiting_bytes,
            &self.closed,
            &self.deleted,
            &self.deleted_bytes,
        ];
        for (family, value) in FAMILIES.iter().zip(values) {
            samples.family(family);
            samples.sample(&[], value.load(Relaxed) as f64);
        }
        Ok(())
    }
}
