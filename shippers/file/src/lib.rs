//! NDJSON files on this machine: the embedded default.
//!
//! Records go to `logs-*.ndjson`, ledger statements to `ledger-*.ndjson`, events of the cluster to `events-*.ndjson`, the audit of containers to `audit-*.ndjson`, one JSON
//! object a line. A file is written as
//! `*.ndjson.open` and renamed when it is full or old enough; what has its final name is whole and never changes.
//!
//! A record is confirmed only after an fsync that covers it; one fsync confirms many. After kill -9 or a power cut the
//! next start cuts an unfinished line off and closes the file. When the disk is full, writing is retried; nothing
//! is dropped, and nothing half-written stays.

mod config;
mod error;
mod metrics;
mod segment;
mod series;
mod shipper;

pub use config::FileConfig;
pub use error::FileError;
pub use shipper::FileShipper;
