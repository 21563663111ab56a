//! Documents that are refused for good: kept as dead letters first, declared lost then.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use taffrail_record::LossReason;

use super::Worker;
use crate::dead::Letter;
use crate::store::Doc;

const DEAD_LETTERS: &str = "dead letters";

/// A document that is to be a dead letter.
pub(super) struct Dead {
    pub(super) doc: Doc,
    pub(super) status: u16,
    pub(super) kind: String,
    pub(super) reason: String,
}

impl Worker {
    /// Keeps documents as dead letters and declares them lost, in this order.
    pub(super) fn bury(&mut self, dead: Vec<Dead>) {
        if dead.is_empty() {
            return;
        }
        let time = jiff::Timestamp::now().to_string();
        let letters: Vec<Letter> = dead.iter().map(|dead| self.letter(dead, &time)).collect();
        match self.dead.write(&letters) {
            Ok(()) => {
                self.troubles.clear(DEAD_LETTERS);
                self.state.write_at = None;
                dead.into_iter().for_each(|dead| self.gone(&dead));
            }
            Err(error) => {
                let text = format!(
                    "cannot keep a dead letter: {error}; free space or repair the disk: documents wait"
                );
                self.troubles.set(DEAD_LETTERS, &text);
                self.state.unwritten.extend(dead);
                self.state.write_at = Some(Instant::now() + self.state.longest.min(Duration::from_secs(5)));
            }
        }
    }

    /// Tries again what the disk did not take.
    pub(super) fn write_again(&mut self) {
        if self.state.write_at.is_some_and(|at| at <= Instant::now()) {
            let dead = std::mem::take(&mut self.state.unwritten);
            self.bury(dead);
        }
    }

    fn letter(&self, dead: &Dead, time: &str) -> Letter {
        let (encoding, document) = Letter::enclose(self.store.document(&dead.doc));
        Letter {
            time: time.to_owned(),
            reason: dead.reason.clone(),
            kind: dead.kind.clone(),
            status: dead.status,
            index: dead.doc.index.to_string(),
            id: self.store.id(&dead.doc).to_owned(),
            encoding,
            document,
        }
    }

    fn gone(&mut self, dead: &Dead) {
        let reason = if dead.status == 413 { LossReason::TooLarge } else { LossReason::Refused };
        self.store.lost(&dead.doc, reason);
        self.counters.dead_letter.fetch_add(1, Relaxed);
        tracing::debug!(kind = dead.kind, reason = dead.reason, "elasticsearch: a dead letter");
    }
}
