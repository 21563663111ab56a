//! What the user may choose about recording what is typed and shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How sessions are recorded that a policy says `full` of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RecordingConfig {
    /// Whether what goes in is written down: what is typed, and what is piped in. If not, its lengths are. What a terminal echoes is
    /// shown, and so written down in any case.
    pub input: bool,
    /// Bytes of a session at most, of each piece of up to 4096 bytes 32 more. What is beyond is counted, and the recording says so.
    pub session_bytes: u64,
    /// Bytes of documents that may wait on this node's disk for recordings to be put there, too; at most half of
    /// `audit.spool_bytes` count. Where more wait, what would be recorded is counted and let go, so that what is done is written down
    /// for as long as possible.
    pub node_bytes: u64,
    /// Bytes of memory in the kernel for what was not read yet: a power of two, at least 64 KiB. What does not fit is lost, and counted.
    pub ring_bytes: u32,
}

impl Default for RecordingConfig {
    fn default() -> Self {
        RecordingConfig { input: true, session_bytes: 8 << 20, node_bytes: 64 << 20, ring_bytes: 4 << 20 }
    }
}
