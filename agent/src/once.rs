//! `taffrail run --once`: when has everything that is there been shipped?
//!
//! When every file that was found has been looked into, and nothing of what it had then is unread, unfinished or under
//! way, and that has been so for a while: copies and rotations that are just happening show themselves within it. What is
//! written meanwhile is not waited for, so that a writer that never pauses cannot keep it from ending.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use taffrail_record::{Account, Ask, Balance, Gathered, Ledger};

/// How often it is asked.
pub(crate) const TICK: Duration = Duration::from_millis(500);
/// So many answers in a row must say that all is done.
const QUIET: u32 = 4;

/// Watches the ledger and the counters of the log collector.
pub(crate) struct Once {
    ledger: Arc<Ledger>,
    asks: Vec<Arc<dyn Ask>>,
    /// By account: how many bytes it knew of when it was first asked.
    goals: BTreeMap<[String; 3], u64>,
    quiet: u32,
}

impl Once {
    pub(crate) fn new(ledger: Arc<Ledger>, asks: Vec<Arc<dyn Ask>>) -> Self {
        Once { ledger, asks, goals: BTreeMap::new(), quiet: 0 }
    }

    /// To be called once a [`TICK`]; true when it is time to end.
    pub(crate) fn is_done(&mut self) -> bool {
        let rests = has_looked(&self.progress()) && self.is_through();
        self.quiet = if rests { self.quiet + 1 } else { 0 };
        self.quiet >= QUIET
    }

    /// Whether each account is settled up to its goal. All are asked, so that each has its goal from the first time on.
    fn is_through(&mut self) -> bool {
        let open = self.ledger.accounts().into_iter().filter(|account| !self.is_reached(account)).count();
        open == 0
    }

    fn is_reached(&mut self, account: &Account) -> bool {
        let balance = account.balance();
        let names = account.names().map(str::to_owned);
        // A chain of files is read from its oldest byte on: what has this many settled has settled those.
        let goal = *self.goals.entry(names).or_insert(balance.read + balance.lag);
        is_settled(&balance) || balance.confirmed.bytes + balance.lost_bytes() >= goal
    }

    fn progress(&self) -> Gathered {
        let mut progress = Gathered::default();
        for ask in &self.asks {
            // What cannot be read counts as not done yet.
            let _ = ask.ask(&mut progress);
        }
        progress
    }
}

/// Nothing unread, and nothing read that is neither confirmed nor lost. A line that has no end yet is waited for: it is
/// sent when its time is up (`logs.partial_timeout_ms`).
fn is_settled(balance: &Balance) -> bool {
    balance.lag == 0 && balance.carried == 0 && balance.pending.records == 0
}

/// Whether the log collector has searched for files, and has looked into every lane that was found.
fn has_looked(so_far: &Gathered) -> bool {
    so_far.sum("taffrail_logs_scans_total") >= 1.0
        && so_far.sum("taffrail_logs_looks_total") >= so_far.sum("taffrail_logs_lanes")
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use taffrail_record::{AskError, Family, Kind, Samples};

    use super::*;

    static FAMILIES: [Family; 3] = [
        Family { name: "taffrail_logs_scans_total", kind: Kind::Counter, help: "", labels: &[] },
        Family { name: "taffrail_logs_lanes", kind: Kind::Gauge, help: "", labels: &[] },
        Family { name: "taffrail_logs_looks_total", kind: Kind::Counter, help: "", labels: &[] },
    ];

    struct Collector(Mutex<[f64; 3]>);

    impl Ask for Collector {
        fn name(&self) -> &'static str {
            "logs"
        }

        fn families(&self) -> &'static [Family] {
            &FAMILIES
        }

        fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
            for (family, value) in FAMILIES.iter().zip(*self.0.lock()) {
                samples.family(family);
                samples.sample(&[], value);
            }
            Ok(())
        }
    }

    fn ends(once: &mut Once) -> bool {
        (0..QUIET).map(|_| once.is_done()).last().unwrap_or(false)
    }

    #[test]
    fn it_does_not_end_before_everything_that_was_found_was_looked_into() {
        let collector = Arc::new(Collector(Mutex::new([0.0; 3])));
        let mut once = Once::new(Ledger::new(), vec![Arc::clone(&collector) as Arc<dyn Ask>]);
        for (scans, lanes, looks, done) in
            [(0.0, 0.0, 0.0, false), (1.0, 3.0, 2.0, false), (1.0, 3.0, 3.0, true), (1.0, 0.0, 0.0, true)]
        {
            *collector.0.lock() = [scans, lanes, looks];
            assert_eq!(ends(&mut once), done, "{scans} {lanes} {looks}");
        }
    }

    #[test]
    fn it_waits_for_what_is_unread_or_has_no_end_yet() {
        let ledger = Ledger::new();
        let collector = Arc::new(Collector(Mutex::new([1.0, 1.0, 1.0])));
        let mut once = Once::new(Arc::clone(&ledger), vec![collector]);
        let account = ledger.account(["", "", "a"]);
        account.read(5);
        assert!(!ends(&mut once), "five bytes are carried");
    }

    #[test]
    fn it_does_not_wait_for_what_is_written_after_it_began() {
        let ledger = Ledger::new();
        let collector = Arc::new(Collector(Mutex::new([1.0, 1.0, 1.0])));
        let mut once = Once::new(Arc::clone(&ledger), vec![collector]);
        let account = ledger.account(["", "", "a"]);
        account.read(5);
        account.set_lag(7);
        assert!(!ends(&mut once), "twelve bytes are there");
        for lost in [5, 6] {
            account.lose(lost, 1, taffrail_record::LossReason::Quota);
            account.read(100);
            account.set_lag(1000);
            assert!(!ends(&mut once), "the twelfth is not settled");
        }
        account.lose(1, 1, taffrail_record::LossReason::Quota);
        assert!(ends(&mut once), "more is carried and unread, and came later");
    }

    #[test]
    fn the_counters_it_asks_for_are_those_of_the_log_collector() {
        let [_, (_, metrics), _] = crate::reference::pages().expect("the pages");
        for family in &FAMILIES {
            assert!(metrics.contains(family.name), "{}", family.name);
        }
    }
}
