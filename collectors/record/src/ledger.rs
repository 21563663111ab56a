//! The ledger: for each container, where every byte is.
//!
//! At any moment, per account: `read = confirmed + pending + carried + lost`. The terms are counted where they
//! happen and independently of each other, so the equation is a check and not a definition.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Why bytes will never be delivered. The names are label values and appear in ledger statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossReason {
    /// The end of a line beyond `max_line_bytes`.
    Truncated,
    /// Over the container's or namespace's quota.
    Quota,
    /// The file was deleted, or rotated away, before it could be read.
    Deleted,
    /// The file was truncated or overwritten before it could be read.
    Overwritten,
    /// The file could not be read (I/O error, damaged compression).
    Unreadable,
    /// The far side refuses a record of this size.
    TooLarge,
    /// The far side refuses the record for another reason, for good.
    Refused,
}

impl LossReason {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [LossReason; 7] = [
        LossReason::Truncated,
        LossReason::Quota,
        LossReason::Deleted,
        LossReason::Overwritten,
        LossReason::Unreadable,
        LossReason::TooLarge,
        LossReason::Refused,
    ];

    /// The name, as in metrics and statements.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LossReason::Truncated => "truncated",
            LossReason::Quota => "quota",
            LossReason::Deleted => "deleted",
            LossReason::Overwritten => "overwritten",
            LossReason::Unreadable => "unreadable",
            LossReason::TooLarge => "too_large",
            LossReason::Refused => "refused",
        }
    }
}

/// Bytes of source and whole records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Bytes of the source files.
    pub bytes: u64,
    /// Records.
    pub records: u64,
}

impl Count {
    fn add(&mut self, bytes: u64, records: u64) {
        self.bytes += bytes;
        self.records += records;
    }
}

/// One account at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    /// Taken from the source, or known to have been there and gone.
    pub read: u64,
    /// Read, and not yet part of a batch: the unfinished line, the part that waits for its end.
    pub carried: u64,
    /// In batches that are not settled.
    pub pending: Count,
    /// Confirmed by the far side.
    pub confirmed: Count,
    /// Lost, by reason, in the order of [`LossReason::ALL`].
    pub lost: [Count; LossReason::ALL.len()],
    /// Read again after an abandoned receipt (no part of the equation).
    pub repeated: u64,
    /// Bytes known to lie unread in the source: the lag (no part of the equation).
    pub lag: u64,
    /// Time of the newest confirmed record, Unix nanoseconds; 0 when none.
    pub newest: i64,
}

impl Balance {
    /// Bytes lost for any reason.
    #[must_use]
    pub fn lost_bytes(&self) -> u64 {
        self.lost.iter().map(|c| c.bytes).sum()
    }

    /// What is missing (positive) or too much (negative) in the equation; 0 when the account adds up.
    #[must_use]
    pub fn difference(&self) -> i128 {
        i128::from(self.read)
            - i128::from(self.carried)
            - i128::from(self.pending.bytes)
            - i128::from(self.confirmed.bytes)
            - i128::from(self.lost_bytes())
    }
}

/// The account of one container (or of one plain file's pattern).
#[derive(Debug)]
pub struct Account {
    names: [String; 3],
    balance: Mutex<Balance>,
}

impl Account {
    fn new(names: [String; 3]) -> Arc<Self> {
        Arc::new(Account { names, balance: Mutex::default() })
    }

    /// Namespace, pod, container.
    #[must_use]
    pub fn names(&self) -> [&str; 3] {
        [&self.names[0], &self.names[1], &self.names[2]]
    }

    /// The account now.
    #[must_use]
    pub fn balance(&self) -> Balance {
        self.balance.lock().clone()
    }

    /// Bytes were taken from the source and are carried.
    pub fn read(&self, bytes: u64) {
        let mut balance = self.balance.lock();
        balance.read += bytes;
        balance.carried += bytes;
    }

    /// Carried bytes are given up unread again (the reader goes back to a position).
    pub fn unread(&self, bytes: u64) {
        let mut balance = self.balance.lock();
        balance.read -= bytes;
        balance.carried -= bytes;
    }

    /// Carried bytes are lost.
    pub fn lose(&self, bytes: u64, records: u64, reason: LossReason) {
        let mut balance = self.balance.lock();
        balance.carried -= bytes;
        balance.lost[reason as usize].add(bytes, records);
    }

    /// Bytes that were never read are known to be lost.
    pub fn lose_unread(&self, bytes: u64, reason: LossReason) {
        let mut balance = self.balance.lock();
        balance.read += bytes;
        balance.lost[reason as usize].add(bytes, 0);
    }

    /// Sets the bytes that lie unread in the source.
    pub fn set_lag(&self, bytes: u64) {
        self.balance.lock().lag = bytes;
    }

    /// Notes the time of a record that was sent, Unix nanoseconds.
    pub fn set_newest(&self, time: i64) {
        let mut balance = self.balance.lock();
        balance.newest = balance.newest.max(time);
    }

    pub(crate) fn send(&self, bytes: u64, records: u64) {
        let mut balance = self.balance.lock();
        balance.carried -= bytes;
        balance.pending.add(bytes, records);
    }

    pub(crate) fn lose_sent(&self, bytes: u64, reason: LossReason) {
        let mut balance = self.balance.lock();
        balance.pending.bytes -= bytes;
        balance.lost[reason as usize].bytes += bytes;
    }

    pub(crate) fn count_lost_records(&self, reason: Option<LossReason>, records: u64) {
        let Some(reason) = reason else { return };
        let mut balance = self.balance.lock();
        balance.pending.records -= records;
        balance.lost[reason as usize].records += records;
    }

    pub(crate) fn confirm(&self, bytes: u64, records: u64, cut: u64) {
        let mut balance = self.balance.lock();
        balance.pending.bytes -= bytes;
        balance.pending.records -= records;
        balance.confirmed.add(bytes - cut, records);
        balance.lost[LossReason::Truncated as usize].bytes += cut;
    }

    pub(crate) fn abandon(&self, bytes: u64, records: u64) {
        let mut balance = self.balance.lock();
        balance.read -= bytes;
        balance.pending.bytes -= bytes;
        balance.pending.records -= records;
        balance.repeated += bytes;
    }
}

/// All accounts of this agent since it started.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: Mutex<BTreeMap<[String; 3], Arc<Account>>>,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The account of a namespace, pod and container, opened when it is new.
    #[must_use]
    pub fn account(&self, names: [&str; 3]) -> Arc<Account> {
        let names = names.map(str::to_owned);
        Arc::clone(self.accounts.lock().entry(names.clone()).or_insert_with(|| Account::new(names)))
    }

    /// Every account, by name.
    #[must_use]
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        self.accounts.lock().values().cloned().collect()
    }

    /// The account into which [`Ledger::close`] folds those that are closed.
    pub const CLOSED: [&'static str; 3] = ["", "", "(closed)"];

    /// The account of the audit's documents: no container can be called so.
    pub const AUDIT: [&'static str; 3] = ["", "", "(audit)"];

    /// The account of events of the cluster.
    pub const EVENTS: [&'static str; 3] = ["", "", "(events)"];

    /// The account of their copies, where they go to `output` besides.
    pub const EVENTS_COPIED: [&'static str; 3] = ["", "", "(events copied)"];

    /// Folds the accounts of containers that are gone, drained and settled into one, so that the ledger stays as
    /// small as the node. Returns how many were closed. `gone` says whether nothing will be read for it again.
    pub fn close(&self, gone: impl Fn(&Account) -> bool) -> usize {
        let mut accounts = self.accounts.lock();
        let closed: Vec<[String; 3]> = accounts
            .iter()
            .filter(|(_, account)| {
                let balance = account.balance.lock();
                account.names() != Self::CLOSED
                    && Arc::strong_count(account) == 1
                    && balance.pending.records == 0
                    && balance.carried == 0
            })
            .filter(|(_, account)| gone(account))
            .map(|(names, _)| names.clone())
            .collect();
        for names in &closed {
            let Some(account) = accounts.remove(names) else { continue };
            let closed_names = Self::CLOSED.map(str::to_owned);
            let into = accounts.entry(closed_names.clone()).or_insert_with(|| Account::new(closed_names));
            let from = account.balance();
            let mut sum = into.balance.lock();
            sum.read += from.read;
            sum.confirmed.add(from.confirmed.bytes, from.confirmed.records);
            for (into, from) in sum.lost.iter_mut().zip(from.lost) {
                into.add(from.bytes, from.records);
            }
            sum.repeated += from.repeated;
        }
        closed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_move_between_the_terms_and_the_account_adds_up() {
        let ledger = Ledger::new();
        let account = ledger.account(["ns", "pod", "c"]);
        account.read(100);
        account.send(60, 3);
        account.lose(10, 1, LossReason::Quota);
        account.lose_sent(20, LossReason::TooLarge);
        account.count_lost_records(Some(LossReason::TooLarge), 1);
        account.confirm(40, 2, 5);
        let balance = account.balance();
        assert_eq!(balance.difference(), 0);
        assert_eq!((balance.carried, balance.pending, balance.confirmed.bytes), (30, Count::default(), 35));
        assert_eq!(balance.lost_bytes(), 35);
    }

    #[test]
    fn an_abandoned_batch_is_as_if_it_had_not_been_read() {
        let account = Ledger::new().account(["", "", "c"]);
        account.read(10);
        account.send(10, 1);
        account.abandon(10, 1);
        let balance = account.balance();
        assert_eq!((balance.read, balance.repeated, balance.difference()), (0, 10, 0));
    }

    #[test]
    fn closed_accounts_keep_their_sums() {
        let ledger = Ledger::new();
        let account = ledger.account(["ns", "pod", "c"]);
        account.read(10);
        account.send(10, 1);
        assert_eq!(ledger.close(|_| true), 0, "pending and in use");
        account.confirm(10, 1, 0);
        drop(account);
        assert_eq!(ledger.close(|_| true), 1);
        assert_eq!(ledger.account(Ledger::CLOSED).balance().confirmed.bytes, 10);
    }
}
