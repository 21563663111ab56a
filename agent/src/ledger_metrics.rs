//! The ledger and the byte budget as metrics.
//!
//! `taffrail_ledger_*` are the exact sums of the node. `taffrail_container_*` are per container, with a bound on
//! the number of series: the containers with the most traffic have their own, the rest are summed as `other`.
//! A container keeps its series while it lives, and whatever moves between a series and `other` moves in a way
//! that no counter ever goes down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use taffrail_record::{Ask, AskError, Balance, Budget, Family, Kind, Ledger, LossReason, Samples};

const REASONS: usize = LossReason::ALL.len();
const CONTAINER: &[&str] = &["namespace", "pod", "container"];
const CONTAINER_REASON: &[&str] = &["namespace", "pod", "container", "reason"];

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help, labels }
}

macro_rules! families {
    ($($key:ident = $family:expr;)*) => {
        #[derive(Clone, Copy)]
        enum Key { $($key),* }
        static FAMILIES: &[Family] = &[$($family),*];
    };
}

families! {
    Read = gauge("taffrail_ledger_read_bytes", &[], "Bytes taken from log files, those that will be read again not counted: equals confirmed + pending + carried + lost.");
    Confirmed = counter("taffrail_ledger_confirmed_bytes_total", &[], "Bytes of log files whose records the far side has confirmed.");
    ConfirmedRecords = counter("taffrail_ledger_confirmed_records_total", &[], "Records that the far side has confirmed.");
    Pending = gauge("taffrail_ledger_pending_bytes", &[], "Bytes of log files in batches that are under way.");
    PendingRecords = gauge("taffrail_ledger_pending_records", &[], "Records that are under way.");
    Carried = gauge("taffrail_ledger_carried_bytes", &[], "Bytes read that are not part of a batch yet, such as unfinished lines.");
    Lost = counter("taffrail_ledger_lost_bytes_total", &["reason"], "Bytes of log files that will never be delivered, by reason.");
    LostRecords = counter("taffrail_ledger_lost_records_total", &["reason"], "Records that will never be delivered, by reason; bytes that were lost unread are in no record.");
    Repeated = counter("taffrail_ledger_repeated_bytes_total", &[], "Bytes that were read again because their batch was given up unconfirmed.");
    Lag = gauge("taffrail_ledger_lag_bytes", &[], "Bytes known to lie unread in log files.");
    Difference = gauge("taffrail_ledger_difference_bytes", &[], "By how much the accounts do not add up, summed without sign; anything but 0 is a defect.");
    Accounts = gauge("taffrail_ledger_accounts", &[], "Containers with an account.");
    ContainerRead = gauge("taffrail_container_read_bytes", CONTAINER, "As taffrail_ledger_read_bytes, per container; beyond http.container_series summed as other.");
    ContainerConfirmed = counter("taffrail_container_confirmed_bytes_total", CONTAINER, "Bytes of log files confirmed, per container.");
    ContainerConfirmedRecords = counter("taffrail_container_confirmed_records_total", CONTAINER, "Records confirmed, per container.");
    ContainerPending = gauge("taffrail_container_pending_bytes", CONTAINER, "Bytes under way, per container.");
    ContainerCarried = gauge("taffrail_container_carried_bytes", CONTAINER, "Bytes read and not part of a batch yet, per container.");
    ContainerLost = counter("taffrail_container_lost_bytes_total", CONTAINER_REASON, "Bytes lost, per container and reason; only reasons that have occurred.");
    ContainerLostRecords = counter("taffrail_container_lost_records_total", CONTAINER_REASON, "Records lost, per container and reason; only reasons that have occurred.");
    ContainerLag = gauge("taffrail_container_lag_bytes", CONTAINER, "Bytes known to lie unread in the container's log files.");
    ContainerLagSeconds = gauge("taffrail_container_lag_seconds", CONTAINER, "Age of the newest record sent while bytes wait to be read or confirmed, 0 when none wait; for other the largest.");
    Memory = gauge("taffrail_pipeline_memory_used_bytes", &[], "Memory charged for records that are read and not yet confirmed.");
    MemoryPeak = gauge("taffrail_pipeline_memory_peak_bytes", &[], "The most that was ever charged.");
    MemoryLimit = gauge("taffrail_pipeline_memory_limit_bytes", &[], "The budget: pipeline.memory.");
}

/// Answers from the ledger and the budget.
pub struct LedgerMetrics {
    ledger: Arc<Ledger>,
    budget: Arc<Budget>,
    limit: usize,
    shown: Mutex<Shown>,
}

/// The terms that only ever add up over time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sums {
    read: i128,
    confirmed: i128,
    confirmed_records: i128,
    repeated: i128,
    lost: [i128; REASONS],
    lost_records: [i128; REASONS],
}

/// What waits at the moment.
#[derive(Debug, Clone, Copy, Default)]
struct Levels {
    pending: u64,
    pending_records: u64,
    carried: u64,
    lag: u64,
    lag_seconds: Option<f64>,
}

/// Which containers have series of their own.
#[derive(Default)]
struct Shown {
    own: BTreeMap<[String; 3], Own>,
    /// Which were part of `other` in the last scrape.
    others: BTreeSet<[String; 3]>,
    /// What closed containers have shown in their own series, and so must not show again in `other`.
    closed: Sums,
    /// When each container was last seen with nothing waiting.
    idle: BTreeMap<[String; 3], Instant>,
}

struct Own {
    /// What was in `other` before the container got its own series; it stays there.
    base: Sums,
    /// What the series showed last.
    shown: Sums,
}

impl Sums {
    fn of(balance: &Balance) -> Sums {
        Sums {
            read: balance.read.into(),
            confirmed: balance.confirmed.bytes.into(),
            confirmed_records: balance.confirmed.records.into(),
            repeated: balance.repeated.into(),
            lost: balance.lost.map(|count| count.bytes.into()),
            lost_records: balance.lost.map(|count| count.records.into()),
        }
    }

    /// What is over and done with: the part that may stay behind in another series and still add up.
    fn settled(balance: &Balance) -> Sums {
        let sums = Sums::of(balance);
        Sums { read: sums.confirmed + sums.lost.iter().sum::<i128>(), ..sums }
    }

    fn plus(self, other: Sums, sign: i128) -> Sums {
        let each = |a: [i128; REASONS], b: [i128; REASONS]| std::array::from_fn(|i| a[i] + sign * b[i]);
        Sums {
            read: self.read + sign * other.read,
            confirmed: self.confirmed + sign * other.confirmed,
            confirmed_records: self.confirmed_records + sign * other.confirmed_records,
            repeated: self.repeated + sign * other.repeated,
            lost: each(self.lost, other.lost),
            lost_records: each(self.lost_records, other.lost_records),
        }
    }
}

impl Levels {
    fn add(&mut self, other: Levels) {
        self.pending += other.pending;
        self.pending_records += other.pending_records;
        self.carried += other.carried;
        self.lag += other.lag;
        self.lag_seconds = match (self.lag_seconds, other.lag_seconds) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }
}

type Line = ([String; 3], Sums, Levels);

impl LedgerMetrics {
    /// At most `limit` containers have series of their own.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, budget: Arc<Budget>, limit: usize) -> Self {
        LedgerMetrics { ledger, budget, limit, shown: Mutex::default() }
    }
}

impl Ask for LedgerMetrics {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn families(&self) -> &'static [Family] {
        FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let accounts = self.ledger.accounts();
        let balances: Vec<([String; 3], Balance)> =
            accounts.iter().map(|account| (account.names().map(str::to_owned), account.balance())).collect();
        // While these are held no account can be closed, so none is summed twice.
        drop(accounts);
        let mut shown = self.shown.lock();
        let levels: Vec<Levels> =
            balances.iter().map(|(names, balance)| shown.levels(names, balance)).collect();
        totals(samples, &balances, &levels);
        containers(samples, &shown.lines(&balances, &levels, self.limit));
        let (used, peak, limit) = self.budget.level();
        for (key, bytes) in [(Key::Memory, used), (Key::MemoryPeak, peak), (Key::MemoryLimit, limit)] {
            one(samples, key, bytes as f64);
        }
        Ok(())
    }
}

impl Shown {
    fn levels(&mut self, names: &[String; 3], balance: &Balance) -> Levels {
        Levels {
            pending: balance.pending.bytes,
            pending_records: balance.pending.records,
            carried: balance.carried,
            lag: balance.lag,
            lag_seconds: self.lag_seconds(names, balance),
        }
    }

    /// A quiet container's newest record may be hours old when it prints again; its lag is not. So the lag is at
    /// most the time since a scrape saw nothing waiting.
    fn lag_seconds(&mut self, names: &[String; 3], balance: &Balance) -> Option<f64> {
        if balance.lag == 0 && balance.pending.records == 0 {
            self.idle.insert(names.clone(), Instant::now());
            return Some(0.0);
        }
        let since_idle = self.idle.get(names).map(|idle| idle.elapsed().as_secs_f64());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
        let since_newest = (balance.newest > 0).then(|| (now - balance.newest as f64 / 1e9).max(0.0));
        match (since_idle, since_newest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// One line per series: who, sums, levels.
    fn lines(&mut self, balances: &[([String; 3], Balance)], levels: &[Levels], limit: usize) -> Vec<Line> {
        self.forget(balances);
        self.choose(balances, limit);
        let (mut lines, mut other, mut waiting) = (Vec::new(), Sums::default(), Levels::default());
        for ((names, balance), levels) in balances.iter().zip(levels) {
            match self.own.get_mut(names) {
                Some(own) => {
                    own.shown = Sums::of(balance).plus(own.base, -1);
                    other = other.plus(own.base, 1);
                    lines.push((names.clone(), own.shown, *levels));
                }
                None => {
                    other = other.plus(Sums::of(balance), 1);
                    waiting.add(*levels);
                }
            }
        }
        lines.push((["", "", "other"].map(str::to_owned), other.plus(self.closed, -1), waiting));
        lines
    }

    /// Drops the series of containers that are gone.
    fn forget(&mut self, balances: &[([String; 3], Balance)]) {
        let lives = |names: &[String; 3]| balances.binary_search_by(|(other, _)| other.cmp(names)).is_ok();
        let gone: Vec<[String; 3]> = self.own.keys().filter(|names| !lives(names)).cloned().collect();
        for own in gone.iter().filter_map(|names| self.own.remove(names)) {
            // Its whole account went into the closed one, base included; only what it showed must not come again.
            self.closed = self.closed.plus(own.shown, 1);
        }
        self.idle.retain(|names, _| lives(names));
    }

    /// Gives free series to the containers with the most traffic.
    fn choose(&mut self, balances: &[([String; 3], Balance)], limit: usize) {
        let free = limit.saturating_sub(self.own.len());
        let mut waiting: Vec<&([String; 3], Balance)> = balances
            .iter()
            .filter(|(names, _)| {
                !self.own.contains_key(names) && names.each_ref().map(String::as_str) != Ledger::CLOSED
            })
            .collect();
        waiting.sort_by_key(|(_, balance)| std::cmp::Reverse(balance.read));
        for (names, balance) in waiting.into_iter().take(free) {
            let base = if self.others.contains(names) { Sums::settled(balance) } else { Sums::default() };
            self.own.insert(names.clone(), Own { base, shown: Sums::default() });
        }
        let others = balances.iter().map(|(names, _)| names).filter(|names| !self.own.contains_key(*names));
        self.others = others.cloned().collect();
    }
}

fn one(samples: &mut dyn Samples, key: Key, value: f64) {
    samples.family(&FAMILIES[key as usize]);
    samples.sample(&[], value);
}

fn totals(samples: &mut dyn Samples, balances: &[([String; 3], Balance)], levels: &[Levels]) {
    let sums = balances.iter().fold(Sums::default(), |sums, (_, balance)| sums.plus(Sums::of(balance), 1));
    let mut waiting = Levels::default();
    levels.iter().for_each(|one| waiting.add(*one));
    let difference: u128 = balances.iter().map(|(_, balance)| balance.difference().unsigned_abs()).sum();
    let closed = balances.iter().filter(|(names, _)| names.each_ref().map(String::as_str) == Ledger::CLOSED);
    for (key, value) in [
        (Key::Read, sums.read as f64),
        (Key::Confirmed, sums.confirmed as f64),
        (Key::ConfirmedRecords, sums.confirmed_records as f64),
        (Key::Pending, waiting.pending as f64),
        (Key::PendingRecords, waiting.pending_records as f64),
        (Key::Carried, waiting.carried as f64),
        (Key::Repeated, sums.repeated as f64),
        (Key::Lag, waiting.lag as f64),
        (Key::Difference, difference as f64),
        (Key::Accounts, (balances.len() - closed.count()) as f64),
    ] {
        one(samples, key, value);
    }
    for (key, values) in [(Key::Lost, sums.lost), (Key::LostRecords, sums.lost_records)] {
        samples.family(&FAMILIES[key as usize]);
        for (reason, value) in LossReason::ALL.into_iter().zip(values) {
            samples.sample(&[reason.as_str()], value as f64);
        }
    }
}

fn containers(samples: &mut dyn Samples, lines: &[Line]) {
    type Value = fn(&Sums, &Levels) -> Option<f64>;
    let families: [(Key, Value); 7] = [
        (Key::ContainerRead, |sums, _| Some(sums.read as f64)),
        (Key::ContainerConfirmed, |sums, _| Some(sums.confirmed as f64)),
        (Key::ContainerConfirmedRecords, |sums, _| Some(sums.confirmed_records as f64)),
        (Key::ContainerPending, |_, levels| Some(levels.pending as f64)),
        (Key::ContainerCarried, |_, levels| Some(levels.carried as f64)),
        (Key::ContainerLag, |_, levels| Some(levels.lag as f64)),
        (Key::ContainerLagSeconds, |_, levels| levels.lag_seconds),
    ];
    for (key, value) in families {
        samples.family(&FAMILIES[key as usize]);
        for (names, sums, levels) in lines {
            if let Some(value) = value(sums, levels) {
                samples.sample(&names.each_ref().map(String::as_str), value);
            }
        }
    }
    for (key, values) in [
        (Key::ContainerLost, (|sums| sums.lost) as fn(&Sums) -> [i128; REASONS]),
        (Key::ContainerLostRecords, |sums| sums.lost_records),
    ] {
        samples.family(&FAMILIES[key as usize]);
        for ([namespace, pod, container], sums, _) in lines {
            let reasons = LossReason::ALL.into_iter().zip(values(sums));
            for (reason, value) in reasons.filter(|(_, value)| *value != 0) {
                samples.sample(&[namespace, pod, container, reason.as_str()], value as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use taffrail_prometheus::{Exposition, Format};
    use taffrail_record::{Account, Flags, Receipt, Record, Span, Stream};

    use super::*;

    fn record(bytes: u64) -> Record {
        Record {
            body: 0..0,
            span: Span::at(0, bytes),
            time: 0,
            stream: Stream::None,
            flags: Flags::NONE,
            extra: None,
        }
    }

    fn send(account: &Arc<Account>, bytes: u64) -> Receipt {
        account.read(bytes);
        Receipt::new(Vec::new(), Arc::clone(account), &[record(bytes)], None)
    }

    fn scrape(metrics: &LedgerMetrics) -> BTreeMap<String, f64> {
        let mut exposition = Exposition::new();
        metrics.ask(&mut exposition).expect("answers");
        let text = exposition.render(Format::Text);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(series, value)| (series.to_owned(), value.parse().expect("number")))
            .collect()
    }

    fn of(container: &str, family: &str) -> String {
        format!("taffrail_container_{family}{{namespace=\"\",pod=\"\",container=\"{container}\"}}")
    }

    #[test]
    fn the_node_is_summed_exactly_and_the_equation_holds() {
        let ledger = Ledger::new();
        let [a, b] = ["a", "b"].map(|name| ledger.account(["ns", "pod", name]));
        send(&a, 100).confirm();
        let pending = send(&b, 50);
        b.read(7);
        a.lose_unread(30, LossReason::Deleted);
        a.set_lag(5);
        let metrics = LedgerMetrics::new(Arc::clone(&ledger), Budget::new(1000), 10);
        let samples = scrape(&metrics);
        let total = |name: &str| samples[&format!("taffrail_ledger_{name}")];
        assert_eq!(total("read_bytes"), 187.0);
        assert_eq!(total("confirmed_bytes_total"), 100.0);
        assert_eq!((total("pending_bytes"), total("pending_records")), (50.0, 1.0));
        assert_eq!(total("carried_bytes"), 7.0);
        assert_eq!(total("lost_bytes_total{reason=\"deleted\"}"), 30.0);
        assert_eq!(total("lost_bytes_total{reason=\"quota\"}"), 0.0);
        assert_eq!((total("lag_bytes"), total("difference_bytes"), total("accounts")), (5.0, 0.0, 2.0));
        assert_eq!(samples["taffrail_pipeline_memory_limit_bytes"], 1000.0);
        drop(pending);
    }

    #[test]
    fn containers_beyond_the_limit_are_summed_as_other() {
        let ledger = Ledger::new();
        for (name, bytes) in [("small", 1), ("large", 100), ("middle", 10), ("tiny", 2)] {
            send(&ledger.account(["", "", name]), bytes).confirm();
        }
        let metrics = LedgerMetrics::new(ledger, Budget::new(1), 2);
        let samples = scrape(&metrics);
        assert_eq!(samples[&of("large", "confirmed_bytes_total")], 100.0);
        assert_eq!(samples[&of("middle", "confirmed_bytes_total")], 10.0);
        assert_eq!(samples[&of("other", "confirmed_bytes_total")], 3.0);
        assert!(!samples.contains_key(&of("small", "confirmed_bytes_total")));
    }

    #[test]
    fn no_counter_goes_down_and_nothing_is_shown_twice_while_containers_come_and_go() {
        let ledger = Ledger::new();
        let metrics = LedgerMetrics::new(Arc::clone(&ledger), Budget::new(1), 2);
        let mut before: BTreeMap<String, f64> = BTreeMap::new();
        for round in 0..20_u64 {
            for index in 0..4 {
                // Each container lives for four rounds.
                let name = format!("c{}", (round + 4 * index) / 4 * 10 + index);
                send(&ledger.account(["", "", &name]), 10 + index).confirm();
            }
            if round % 3 == 0 {
                let current: Vec<String> =
                    (0..4).map(|i| format!("c{}", (round + 4 * i) / 4 * 10 + i)).collect();
                ledger.close(|account| !current.iter().any(|name| name == account.names()[2]));
            }
            let samples = scrape(&metrics);
            let counters = |name: &&String| name.contains("container_confirmed_bytes_total");
            for (name, value) in samples.iter().filter(|(name, _)| counters(name)) {
                assert!(
                    before.get(name).is_none_or(|old| old <= value),
                    "round {round}: {name} fell to {value}"
                );
            }
            // All that was ever shown, in series that live and in those that are gone, is all there is.
            before.extend(samples.clone());
            let shown: f64 = before.iter().filter(|(name, _)| counters(name)).map(|(_, value)| value).sum();
            assert_eq!(shown, samples["taffrail_ledger_confirmed_bytes_total"], "round {round}");
        }
    }

    #[test]
    fn lag_is_no_older_than_the_last_time_nothing_waited() {
        let ledger = Ledger::new();
        let account = ledger.account(["", "", "c"]);
        account.set_newest(1_000_000_000);
        let metrics = LedgerMetrics::new(Arc::clone(&ledger), Budget::new(1), 2);
        account.set_lag(5);
        assert!(scrape(&metrics)[&of("c", "lag_seconds")] > 1e9, "nothing is known but the newest record");
        account.set_lag(0);
        assert_eq!(scrape(&metrics)[&of("c", "lag_seconds")], 0.0);
        account.set_lag(5);
        assert!(scrape(&metrics)[&of("c", "lag_seconds")] < 3600.0);
    }
}
