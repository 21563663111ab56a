//! What the process connector tells and what the audit tells of the same program, brought together.
//!
//! Guarantee: what the connector tells comes out in its order, each thing once and no later than [`PATIENCE`]; a program has the audit's
//! word only when that is of the same process and was said of no earlier program of it.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::Execve;

/// For how long the audit's word is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);
/// For how long it is kept when nobody asks for it.
const KEPT: Duration = Duration::from_secs(5);
/// How many things wait at most.
const MOST: usize = 1 << 16;
/// Milliseconds by which the audit's clock, which is as coarse as the kernel's tick, may differ.
const COARSE: u64 = 20;

/// Something that the connector told, with what was seen then, and with the audit's word if that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Paired<T> {
    pub(crate) what: T,
    pub(crate) execve: Option<Execve>,
}

#[derive(Debug)]
struct Waiting<T> {
    since: Instant,
    /// The process that began a program, and when, milliseconds since the Unix epoch.
    program: Option<(u32, u64)>,
    what: T,
}

/// What waits for each other.
#[derive(Debug)]
pub(crate) struct Pairs<T> {
    waiting: VecDeque<Waiting<T>>,
    told: HashMap<u32, VecDeque<(Instant, Execve)>>,
    /// Programs that did not wait any longer: whatever is told of them yet is told too late.
    given_up: HashMap<u32, (Instant, u64)>,
}

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Pairs { waiting: VecDeque::new(), told: HashMap::new(), given_up: HashMap::new() }
    }
}

impl<T> Pairs<T> {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The connector has told something; of a program, of which process and when.
    pub(crate) fn happened(&mut self, what: T, program: Option<(u32, u64)>, now: Instant) {
        self.waiting.push_back(Waiting { since: now, program, what });
    }

    /// The audit has told of a program.
    pub(crate) fn told(&mut self, execve: Execve, now: Instant) {
        if self.given_up.get(&execve.pid).is_some_and(|(_, time)| execve.time <= time.saturating_add(COARSE))
        {
            self.given_up.remove(&execve.pid);
            return;
        }
        self.told.entry(execve.pid).or_default().push_back((now, execve));
    }

    /// The next thing, when it waits for nothing any more.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Paired<T>> {
        let first = self.waiting.front()?;
        let (since, program) = (first.since, first.program);
        let Some((pid, time)) = program else { return self.pass(None) };
        if let Some(execve) = self.of(pid, time) {
            return self.pass(Some(execve));
        }
        if now.saturating_duration_since(since) < PATIENCE && self.waiting.len() <= MOST {
            return None;
        }
        self.given_up.insert(pid, (now, time));
        self.pass(None)
    }

    fn pass(&mut self, execve: Option<Execve>) -> Option<Paired<T>> {
        self.waiting.pop_front().map(|waiting| Paired { what: waiting.what, execve })
    }

    /// What was told of the program that this process began then: its call was made before.
    fn of(&mut self, pid: u32, time: u64) -> Option<Execve> {
        let told = self.told.get_mut(&pid)?;
        let is_it = told.front().is_some_and(|(_, execve)| execve.time <= time.saturating_add(COARSE));
        let execve = if is_it { told.pop_front().map(|(_, execve)| execve) } else { None };
        if told.is_empty() {
            self.told.remove(&pid);
        }
        execve
    }

    /// Forgets what nobody has asked for; how many programs the connector has not told of.
    pub(crate) fn forget(&mut self, now: Instant) -> u64 {
        let is_old = |since: &Instant| now.saturating_duration_since(*since) > KEPT;
        let mut forgotten = 0;
        self.told.retain(|_, told| {
            while told.front().is_some_and(|(since, _)| is_old(since)) {
                told.pop_front();
                forgotten += 1;
            }
            !told.is_empty()
        });
        self.given_up.retain(|_, (since, _)| !is_old(since));
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execve(pid: u32, time: u64, name: &str) -> Execve {
        Execve { pid, time, name: name.as_bytes().to_vec(), ..Execve::default() }
    }

    fn all(pairs: &mut Pairs<&'static str>, now: Instant) -> Vec<(&'static str, String)> {
        let paired = std::iter::from_fn(|| pairs.next(now));
        paired
            .map(|paired| {
                let name = paired.execve.map_or_else(Vec::new, |execve| execve.name);
                (paired.what, String::from_utf8_lossy(&name).into_owned())
            })
            .collect()
    }

    fn is(expected: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        expected.iter().map(|(what, name)| (*what, (*name).to_owned())).collect()
    }

    #[test]
    fn what_happens_keeps_its_order_and_programs_wait_for_what_is_told_of_them() {
        let mut pairs = Pairs::default();
        let now = Instant::now();
        pairs.happened("fork", None, now);
        pairs.happened("exec 5", Some((5, 1000)), now);
        pairs.happened("exec 6", Some((6, 1001)), now);
        pairs.happened("exit", None, now);
        assert_eq!(all(&mut pairs, now), is(&[("fork", "")]));
        pairs.told(execve(6, 1000, "six"), now);
        assert_eq!(all(&mut pairs, now), is(&[]));
        pairs.told(execve(5, 996, "five"), now);
        assert_eq!(all(&mut pairs, now), is(&[("exec 5", "five"), ("exec 6", "six"), ("exit", "")]));
    }

    #[test]
    fn a_chain_of_programs_in_one_process_is_told_in_its_order() {
        let mut pairs = Pairs::default();
        let now = Instant::now();
        for name in ["one", "two", "three"] {
            pairs.happened("exec", Some((5, 1000)), now);
            pairs.told(execve(5, 1000, name), now);
        }
        assert_eq!(all(&mut pairs, now), is(&[("exec", "one"), ("exec", "two"), ("exec", "three")]));
    }

    #[test]
    fn what_is_told_too_late_is_not_told_of_the_next_program() {
        let mut pairs = Pairs::default();
        let now = Instant::now();
        pairs.happened("exec", Some((5, 1000)), now);
        let later = now + PATIENCE;
        assert_eq!(all(&mut pairs, later), is(&[("exec", "")]));
        pairs.told(execve(5, 1000, "late"), later);
        pairs.happened("exec", Some((5, 2000)), later);
        assert_eq!(all(&mut pairs, later), is(&[]));
        pairs.told(execve(5, 2000, "next"), later);
        assert_eq!(all(&mut pairs, later), is(&[("exec", "next")]));
        // Nothing came late: what comes is of the next program.
        pairs.happened("exec", Some((5, 3000)), later);
        assert_eq!(all(&mut pairs, later + PATIENCE).len(), 1);
        pairs.told(execve(5, 4000, "after"), later);
        pairs.happened("exec", Some((5, 4001)), later);
        assert_eq!(all(&mut pairs, later), is(&[("exec", "after")]));
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten_and_counted() {
        let mut pairs = Pairs::<&'static str>::default();
        let now = Instant::now();
        pairs.told(execve(5, 1000, "lost"), now);
        assert_eq!(pairs.forget(now), 0);
        assert_eq!(pairs.forget(now + 2 * KEPT), 1);
        assert!(pairs.told.is_empty());
    }
}
