//! What the user may choose about files, with the defaults beside the fields.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where and how NDJSON files are written.
///
/// The oldest closed files are deleted once there are more than `keep_files` or `keep_bytes` of them: records that were
/// delivered into them are then gone from here. Whoever collects the files has to be faster, or raise the limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FileConfig {
    /// Directory of the files; made when it is not there. Not set: `records` in the state directory.
    pub directory: PathBuf,
    /// A file is closed and the next begun when it would grow beyond this. Default 67108864 (64 MiB).
    pub max_file_bytes: u64,
    /// A file with records in it is closed at this age, in seconds. Default 86400 (a day).
    pub max_file_age_seconds: u64,
    /// Closed files of records that are kept, and as many of statements. Default 1000.
    pub keep_files: u32,
    /// Bytes of closed files of records that are kept, and as many of statements. Default 2147483648 (2 GiB).
    pub keep_bytes: u64,
    /// Records are confirmed together, after one fsync for at most this many bytes. Default 4194304 (4 MiB).
    pub sync_bytes: u64,
    /// No record waits longer for its fsync than this, in milliseconds. Default 50.
    pub sync_ms: u64,
}

impl Default for FileConfig {
    fn default() -> Self {
        FileConfig {
            directory: PathBuf::new(),
            max_file_bytes: 64 << 20,
            max_file_age_seconds: 86_400,
            keep_files: 1000,
            keep_bytes: 2 << 30,
            sync_bytes: 4 << 20,
            sync_ms: 50,
        }
    }
}
