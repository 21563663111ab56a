//! What the probe's hooks take: how often each ran, for how long, and how often the kernel skipped it.
//!
//! Of so many runs on a processor the probe times one (`SAMPLED` in `probe/audit.bpf.c`): the time of all is estimated by that.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

use aya::programs::BtfTracePoint;

use crate::probe::chain;

/// Hooks of which the probe counts the runs: places in its counts of these, and of the runs that were timed, behind which stands for
/// how many nanoseconds.
const COUNTED: [(&str, usize, usize); 5] =
    [("exec", 0, 11), ("fork", 1, 13), ("exit", 8, 15), ("open", 9, 17), ("connect", 10, 19)];

/// What one hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What it is called: `exec`, `fork`, `exit`, `open`, `connect`.
    pub hook: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// For how long: estimated by the runs that were timed.
    pub time: Duration,
    /// How often the kernel did not run it, because it ran on that processor already.
    pub skipped: u64,
}

/// Programs that are attached.
#[derive(Debug, Default)]
pub(crate) struct Runs(Vec<(&'static str, OwnedFd)>);

impl Runs {
    /// Tells of this program, too.
    pub(crate) fn watch(&mut self, name: &'static str, program: &BtfTracePoint) -> Result<(), String> {
        let descriptor = program.fd().map_err(|error| chain(&error))?.as_fd();
        let descriptor = descriptor.try_clone_to_owned().map_err(|error| error.to_string())?;
        self.watch_pinned(name, descriptor);
        Ok(())
    }

    /// Tells of a program that is pinned, too.
    pub(crate) fn watch_pinned(&mut self, name: &'static str, program: OwnedFd) {
        self.0.push((name, program));
    }

    /// Each of those that count, by all that the probe counts.
    pub(crate) fn all(&self, counted: &[u64]) -> Vec<Run> {
        let at = |index: usize| counted.get(index).copied().unwrap_or_default();
        let attached = |(name, _, _): &&(&str, usize, usize)| self.0.iter().any(|(of, _)| of == name);
        let run = |(hook, runs, sampled): &(&'static str, usize, usize)| Run {
            hook,
            runs: at(*runs),
            time: estimated(at(*runs), at(*sampled), at(*sampled + 1)),
            skipped: self.skipped(hook),
        };
        COUNTED.iter().filter(attached).map(run).collect()
    }

    fn skipped(&self, hook: &str) -> u64 {
        let program = self.0.iter().find(|(name, _)| *name == hook);
        let told = program.and_then(|(_, program)| {
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()
        });
        told.as_deref().and_then(misses).unwrap_or(0)
    }
}

/// As the kernel has it since 5.12.
fn misses(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
}

/// The time of all runs, by the time of some.
fn estimated(runs: u64, sampled: u64, nanoseconds: u64) -> Duration {
    if sampled == 0 {
        return Duration::ZERO;
    }
    let all = u128::from(nanoseconds) * u128::from(runs) / u128::from(sampled);
    Duration::from_nanos(u64::try_from(all).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_all_is_that_of_some_times_how_many_more_there_are() {
        assert_eq!(estimated(6400, 100, 20_000), Duration::from_nanos(1_280_000));
        assert_eq!(estimated(63, 0, 0), Duration::ZERO);
        assert_eq!(estimated(u64::MAX, 1, u64::MAX), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn skipped_runs_are_what_the_kernel_says() {
        assert_eq!(misses("pos:\t0\nrun_cnt:\t7\nrecursion_misses:\t3\n"), Some(3));
        assert_eq!(misses("pos:\t0\n"), None);
    }
}
