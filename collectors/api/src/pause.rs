//! Pauses between attempts: longer each time, with a random part, so that thousands do not come at once.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

/// The next pause.
#[derive(Debug, Clone)]
pub struct Pause {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Pause {
    /// Pauses that begin around `first` and grow to `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Pause { first, longest, failures: 0 }
    }

    /// After success the next failure is the first.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait now: between nothing and twice as long as the time before at most; at least what the server asked
    /// for.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let random = doubled.mul_f64(fraction());
        match asked {
            Some(asked) => asked + random.min(asked),
            None => random.max(self.first / 8),
        }
    }
}

/// Between 0 and 1. The standard library's hasher is keyed at random, which is enough to spread.
pub(crate) fn fraction() -> f64 {
    let number = RandomState::new().build_hasher().finish() >> 11;
    number as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_no_two_are_the_same() {
        let mut pause = Pause::new(Duration::from_secs(1), Duration::from_secs(30));
        let pauses: Vec<Duration> = (0..200).map(|_| pause.next(None)).collect();
        assert!(pauses[0] <= Duration::from_secs(1));
        assert!(pauses.iter().all(|p| *p <= Duration::from_secs(30) && *p >= Duration::from_millis(125)));
        assert!(pauses.iter().any(|p| *p > Duration::from_secs(20)));
        pause.reset();
        assert!(pause.next(None) <= Duration::from_secs(1));
    }

    #[test]
    fn what_the_server_asks_for_is_the_least() {
        let mut pause = Pause::new(Duration::from_millis(100), Duration::from_secs(1));
        for _ in 0..100 {
            let waited = pause.next(Some(Duration::from_secs(5)));
            assert!((Duration::from_secs(5)..=Duration::from_secs(6)).contains(&waited), "{waited:?}");
        }
    }
}
