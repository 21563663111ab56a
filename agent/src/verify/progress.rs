//! A line that moves, for a person who waits. Nothing when standard error is not a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::file::Tally;
use super::table::{bytes, grouped};

const INTERVAL: Duration = Duration::from_millis(200);
/// Looking at the clock for every record would cost more than the record.
const RECORDS: u64 = 4096;

/// Says on standard error how far it is.
pub(super) struct Progress {
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// Shows something only on a terminal.
    pub(super) fn new() -> Self {
        Progress { shown: None, terminal: std::io::stderr().is_terminal() }
    }

    /// Shows how much was seen, now and then.
    pub(super) fn show(&mut self, seen: Tally) {
        if !self.terminal || !seen.records.is_multiple_of(RECORDS) {
            return;
        }
        if self.shown.is_none_or(|shown| shown.elapsed() >= INTERVAL) {
            self.shown = Some(Instant::now());
            eprint!("\r\x1b[K{} records, {}", grouped(seen.records), bytes(seen.bytes));
            let _ = std::io::stderr().flush();
        }
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        if self.shown.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
