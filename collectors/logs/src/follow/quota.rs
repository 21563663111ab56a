//! Quotas: token buckets for bytes and lines, per container or shared by a namespace.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use globset::GlobMatcher;
use parking_lot::Mutex;

use crate::config::{OverQuota, Quota, QuotaScope, glob};

/// Which quota applies to whom.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    rules: Vec<Rule>,
    shared: HashMap<(usize, String), Arc<Bucket>>,
}

#[derive(Debug)]
struct Rule {
    quota: Quota,
    matchers: [Option<GlobMatcher>; 3],
}

impl Quotas {
    /// For valid quotas.
    pub(crate) fn new(quotas: &[Quota]) -> Quotas {
        let matcher = |pattern: &str| {
            (!pattern.is_empty()).then(|| glob(pattern).ok().map(|g| g.compile_matcher())).flatten()
        };
        let rules = quotas
            .iter()
            .map(|quota| Rule {
                matchers: [matcher(&quota.namespace), matcher(&quota.pod), matcher(&quota.container)],
                quota: quota.clone(),
            })
            .collect();
        Quotas { rules, shared: HashMap::new() }
    }

    /// The bucket of a container by its namespace, pod and name; `None` when no quota applies.
    pub(crate) fn bucket(&mut self, names: [&str; 3], now: Instant) -> Option<Arc<Bucket>> {
        let applies = |rule: &Rule| {
            rule.matchers.iter().zip(names).all(|(m, name)| m.as_ref().is_none_or(|m| m.is_match(name)))
        };
        let index = self.rules.iter().position(applies)?;
        let quota = &self.rules.get(index)?.quota;
        let fresh = || Arc::new(Bucket::new(quota, now));
        Some(match quota.per {
            QuotaScope::Container => fresh(),
            QuotaScope::Namespace => {
                Arc::clone(self.shared.entry((index, names[0].to_owned())).or_insert_with(fresh))
            }
        })
    }
}

/// Tokens for bytes and lines; holds at most one second's worth.
#[derive(Debug)]
pub(crate) struct Bucket {
    bytes_per_second: f64,
    lines_per_second: f64,
    pub(crate) over: OverQuota,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    bytes: f64,
    lines: f64,
    at: Instant,
}

impl Bucket {
    fn new(quota: &Quota, now: Instant) -> Bucket {
        let limit = |value: u64| if value == 0 { f64::INFINITY } else { value as f64 };
        let (bytes, lines) = (limit(quota.bytes_per_second), limit(quota.lines_per_second));
        Bucket {
            bytes_per_second: bytes,
            lines_per_second: lines,
            over: quota.over,
            level: Mutex::new(Level { bytes, lines, at: now }),
        }
    }

    /// Fills the bucket up to `now`.
    pub(crate) fn refill(&self, now: Instant) {
        let mut level = self.level.lock();
        let passed = now.saturating_duration_since(level.at).as_secs_f64();
        level.at = now;
        level.bytes = (level.bytes + passed * self.bytes_per_second).min(self.bytes_per_second);
        level.lines = (level.lines + passed * self.lines_per_second).min(self.lines_per_second);
    }

    /// Takes one line of `bytes` if there are tokens left for it. A line larger than a second's worth passes
    /// when the bucket is full, and leaves a debt.
    pub(crate) fn admit(&self, bytes: u64) -> bool {
        let mut level = self.level.lock();
        let fits = level.bytes >= (bytes as f64).min(self.bytes_per_second) && level.lines >= 1.0;
        if fits {
            level.bytes -= bytes as f64;
            level.lines -= 1.0;
        }
        fits
    }

    /// Takes what was read anyway, into debt if need be.
    pub(crate) fn take(&self, bytes: u64, lines: u64) {
        let mut level = self.level.lock();
        level.bytes -= bytes as f64;
        level.lines -= lines as f64;
    }

    /// How long until the debt is paid.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let level = self.level.lock();
        let pause = (-level.bytes / self.bytes_per_second).max(-level.lines / self.lines_per_second);
        (pause > 0.0).then(|| Duration::from_secs_f64(pause.min(5.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas() -> Quotas {
        Quotas::new(&[Quota {
            namespace: "shop-*".to_owned(),
            bytes_per_second: 1000,
            lines_per_second: 10,
            per: QuotaScope::Namespace,
            ..Quota::default()
        }])
    }

    #[test]
    fn a_namespace_shares_one_bucket_and_others_have_none() {
        let (mut quotas, now) = (quotas(), Instant::now());
        let first = quotas.bucket(["shop-a", "p", "c"], now).expect("applies");
        let second = quotas.bucket(["shop-a", "q", "d"], now).expect("applies");
        assert!(Arc::ptr_eq(&first, &second));
        assert!(quotas.bucket(["other", "p", "c"], now).is_none());
    }

    #[test]
    fn lines_beyond_the_limit_are_refused_until_time_passes() {
        let now = Instant::now();
        let bucket = quotas().bucket(["shop-a", "p", "c"], now).expect("applies");
        assert_eq!((0..20).filter(|_| bucket.admit(10)).count(), 10, "ten lines a second");
        bucket.refill(now + Duration::from_millis(500));
        assert_eq!((0..20).filter(|_| bucket.admit(10)).count(), 5);
    }

    #[test]
    fn a_debt_takes_time_to_pay() {
        let now = Instant::now();
        let bucket = quotas().bucket(["shop-a", "p", "c"], now).expect("applies");
        bucket.take(3000, 1);
        assert_eq!(bucket.wait(), Some(Duration::from_secs(2)));
        bucket.refill(now + Duration::from_secs(3));
        assert_eq!(bucket.wait(), None);
    }
}
