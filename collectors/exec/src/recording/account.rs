//! What a session says at its end of its recording.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::piece::Counted;

/// Hooks that were attached so soon after a session began have missed nothing: its first program had not run yet.
const AT_ONCE: u64 = 1_000_000;

/// The sum of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Pieces that there were, and of them those that no document has: the ring was full, or the disk.
    pub pieces: u64,
    /// For the ring.
    pub lost: u64,
    /// For the disk.
    pub refused: u64,
    /// Bytes of both.
    pub lost_bytes: u64,
    /// Bytes that went in.
    pub input: u64,
    /// Bytes that came out.
    pub output: u64,
    /// Bytes that were not told: the session had its bytes, or they could not be read.
    pub cut: u64,
    /// Bytes that passed through no program's memory.
    pub unseen: u64,
    /// Bytes that were typed and not echoed.
    pub redacted: u64,
    /// For how long who came had been there, in nanoseconds, when recording began.
    pub late: u64,
}

impl Account {
    /// With hooks attached `since`, nanoseconds of `CLOCK_BOOTTIME`.
    pub(crate) fn new(counted: &Counted, refused: (u64, u64), since: u64) -> Account {
        let late = since.saturating_sub(counted.begun);
        Account {
            pieces: counted.pieces,
            lost: counted.lost,
            refused: refused.0,
            lost_bytes: counted.lost_bytes + refused.1,
            input: counted.input,
            output: counted.output,
            cut: counted.cut,
            unseen: counted.unseen,
            redacted: counted.redacted,
            late: if late > AT_ONCE { late } else { 0 },
        }
    }

    /// What is missing of it, and why.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = String> {
        let late = self.late / 1_000_000;
        let late = (late > 0).then(|| format!("recording: it began {late} ms after the session"));
        let counted = [
            (self.lost, "pieces did not fit the kernel's ring (audit.recording.ring_bytes)"),
            (self.refused, "pieces were not put on the disk (audit.recording.node_bytes)"),
            (self.cut, "bytes were over audit.recording.session_bytes, or could not be read"),
            (self.unseen, "bytes passed through no program's memory"),
        ];
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        late.into_iter().chain(counted.map(|(count, what)| format!("recording: {count} {what}")))
    }

    /// As the last document has it.
    pub(crate) fn value(&self) -> Value {
        let mut value = json!({
            "pieces": self.pieces, "lost": self.lost + self.refused, "lost_bytes": self.lost_bytes,
            "input_bytes": self.input, "output_bytes": self.output, "cut_bytes": self.cut, "unseen_bytes": self.unseen,
            "redacted_bytes": self.redacted,
        });
        if self.late > 0 {
            value["late_ns"] = self.late.into();
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_its_reason_and_what_was_not_echoed_is_no_gap() {
        let counted = Counted { pieces: 9, redacted: 7, begun: 100, ..Counted::default() };
        assert_eq!(Account::new(&counted, (0, 0), 90).gaps().count(), 0);
        let counted = Counted { lost: 1, cut: 5, unseen: 6, lost_bytes: 10, ..counted };
        let account = Account::new(&counted, (2, 20), 3_000_100);
        assert_eq!(
            account.gaps().collect::<Vec<_>>(),
            [
                "recording: it began 3 ms after the session",
                "recording: 1 pieces did not fit the kernel's ring (audit.recording.ring_bytes)",
                "recording: 2 pieces were not put on the disk (audit.recording.node_bytes)",
                "recording: 5 bytes were over audit.recording.session_bytes, or could not be read",
                "recording: 6 bytes passed through no program's memory",
            ]
        );
        assert_eq!(
            (account.value()["lost"].as_u64(), account.value()["lost_bytes"].as_u64()),
            (Some(3), Some(30))
        );
    }
}
