//! Statements for the ledger topic: what the agent claims about a file, for anyone to check against the records.
//!
//! The spans of a file's records, together with the losses declared in its statements, tile the file from
//! [`Statement::from`] to [`Statement::size`]. `taffrail verify` holds one against the other.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{FileId, LostSpan};

/// What happened to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatementKind {
    /// Reading begins. Confirmed before any position of the file is.
    Opened,
    /// Bytes were lost: `lost` lists them. The position does not pass a loss before this is confirmed.
    Damaged,
    /// Reading goes on. Everything before `confirmed` has been delivered; said from time to time of a file that moves, so
    /// that a file need not end for it to be proven.
    Progress,
    /// The agent stops; the file may grow. Everything before `confirmed` has been delivered.
    Paused,
    /// Nobody has seen how the file ended: it went away while no agent watched, it was truncated, or its name was given
    /// to another while it lay nowhere any more. Everything before `size` is delivered or declared lost; nobody knows
    /// whether there was more, in it or in files between it and the next.
    Vanished,
    /// The file has ended (rotated or deleted, and drained): `size` is final.
    Finished,
}

impl fmt::Display for StatementKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StatementKind::Opened => "opened",
            StatementKind::Damaged => "damaged",
            StatementKind::Progress => "progress",
            StatementKind::Paused => "paused",
            StatementKind::Vanished => "vanished",
            StatementKind::Finished => "finished",
        })
    }
}

/// One loss within a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredLoss {
    /// A [`crate::LossReason`] by name.
    pub reason: String,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

impl From<LostSpan> for DeclaredLoss {
    fn from(lost: LostSpan) -> Self {
        DeclaredLoss {
            reason: lost.reason.as_str().to_owned(),
            offset: lost.span.start,
            length: lost.span.len(),
        }
    }
}

/// A claim about one file. Its JSON is one object under the key `ledger`, beside the fields of its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// What happened.
    pub kind: StatementKind,
    /// The file: [`FileId`] as 32 hex digits.
    pub fingerprint: String,
    /// The path it was opened by.
    pub path: String,
    /// The first byte that this agent is answerable for: 0, unless configured to skip what was there before.
    pub from: u64,
    /// Size of the file as last seen, in bytes.
    pub size: u64,
    /// Bytes from `from` on that are confirmed without a gap, declared losses included.
    pub confirmed: u64,
    /// Losses declared by this statement; each loss is declared at least once, perhaps more often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<DeclaredLoss>,
}

impl Statement {
    /// The file's identity.
    #[must_use]
    pub fn file(&self) -> Option<FileId> {
        self.fingerprint.parse().ok()
    }
}
