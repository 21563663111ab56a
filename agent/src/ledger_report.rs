//! The ledger as one answer: every account, the sums, and whether it adds up.
//!
//! `/ledger` on the agent's socket gives it as JSON; `taffrail ledger` prints it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use taffrail_record::{Balance, Ledger, LossReason};

/// All accounts at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerReport {
    /// The node that answers.
    pub node: String,
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// Whether every account adds up.
    pub adds_up: bool,
    /// The sum of all accounts.
    pub total: AccountReport,
    /// Each account, by name.
    pub accounts: Vec<AccountReport>,
}

/// One account. All figures are since the agent started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AccountReport {
    /// Namespace, or empty.
    pub namespace: String,
    /// Pod, or empty.
    pub pod: String,
    /// Container, or empty.
    pub container: String,
    /// Bytes taken from log files.
    pub read_bytes: u64,
    /// Bytes confirmed by the far side.
    pub confirmed_bytes: u64,
    /// Records confirmed by the far side.
    pub confirmed_records: u64,
    /// Bytes under way.
    pub pending_bytes: u64,
    /// Records under way.
    pub pending_records: u64,
    /// Bytes read and not part of a batch yet.
    pub carried_bytes: u64,
    /// Bytes lost.
    pub lost_bytes: u64,
    /// Bytes lost by reason; only reasons that have occurred.
    pub lost: BTreeMap<String, u64>,
    /// Bytes read again after a batch was given up.
    pub repeated_bytes: u64,
    /// Bytes known to lie unread.
    pub lag_bytes: u64,
    /// Time of the newest record sent, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// `read - confirmed - pending - carried - lost`: 0 when the account adds up.
    pub difference_bytes: i64,
}

impl LedgerReport {
    /// The ledger now.
    #[must_use]
    pub fn new(node: String, ledger: &Ledger) -> Self {
        let accounts: Vec<AccountReport> = ledger
            .accounts()
            .iter()
            .map(|account| AccountReport::new(account.names(), &account.balance()))
            .collect();
        let mut total = AccountReport::default();
        accounts.iter().for_each(|account| total.add(account));
        LedgerReport {
            node,
            time: Timestamp::now().to_string(),
            adds_up: accounts.iter().all(|account| account.difference_bytes == 0),
            total,
            accounts,
        }
    }
}

impl AccountReport {
    fn new([namespace, pod, container]: [&str; 3], balance: &Balance) -> Self {
        let lost = LossReason::ALL.into_iter().zip(balance.lost).filter(|(_, count)| count.bytes > 0);
        let newest =
            Timestamp::from_nanosecond(i128::from(balance.newest)).ok().filter(|_| balance.newest != 0);
        AccountReport {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            container: container.to_owned(),
            read_bytes: balance.read,
            confirmed_bytes: balance.confirmed.bytes,
            confirmed_records: balance.confirmed.records,
            pending_bytes: balance.pending.bytes,
            pending_records: balance.pending.records,
            carried_bytes: balance.carried,
            lost_bytes: balance.lost_bytes(),
            lost: lost.map(|(reason, count)| (reason.as_str().to_owned(), count.bytes)).collect(),
            repeated_bytes: balance.repeated,
            lag_bytes: balance.lag,
            newest: newest.map(|newest| newest.to_string()),
            difference_bytes: i64::try_from(balance.difference()).unwrap_or(i64::MAX),
        }
    }

    fn add(&mut self, other: &AccountReport) {
        self.read_bytes += other.read_bytes;
        self.confirmed_bytes += other.confirmed_bytes;
        self.confirmed_records += other.confirmed_records;
        self.pending_bytes += other.pending_bytes;
        self.pending_records += other.pending_records;
        self.carried_bytes += other.carried_bytes;
        self.lost_bytes += other.lost_bytes;
        for (reason, bytes) in &other.lost {
            *self.lost.entry(reason.clone()).or_default() += bytes;
        }
        self.repeated_bytes += other.repeated_bytes;
        self.lag_bytes += other.lag_bytes;
        self.difference_bytes = self.difference_bytes.saturating_add(other.difference_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_account_that_does_not_add_up_makes_the_verdict() {
        let mut balance = Balance { read: 100, carried: 90, ..Balance::default() };
        balance.lost[LossReason::Quota as usize].bytes = 10;
        let good = AccountReport::new(["a", "b", "c"], &balance);
        assert_eq!((good.difference_bytes, good.lost["quota"], good.newest), (0, 10, None));
        balance.carried = 80;
        assert_eq!(AccountReport::new(["", "", ""], &balance).difference_bytes, 10);
    }

    #[test]
    fn the_report_sums_what_the_accounts_say() {
        let ledger = Ledger::new();
        ledger.account(["ns", "pod", "a"]).read(10);
        ledger.account(["ns", "pod", "b"]).lose_unread(5, LossReason::Deleted);
        let report = LedgerReport::new("n1".to_owned(), &ledger);
        assert!(report.adds_up);
        assert_eq!(
            (report.total.read_bytes, report.total.carried_bytes, report.total.lost_bytes),
            (15, 10, 5)
        );
        let json = serde_json::to_string(&report).expect("json");
        assert_eq!(serde_json::from_str::<LedgerReport>(&json).expect("read back"), report);
    }
}
