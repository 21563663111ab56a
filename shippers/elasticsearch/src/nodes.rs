//! The nodes, one after the other; one that fails rests.

use std::hash::{BuildHasher as _, Hasher as _};
use std::time::{Duration, Instant};

use reqwest::Url;

const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Growing pauses with chance in them, so that many agents do not come back at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    failures: u32,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new(longest: Duration) -> Self {
        Backoff { failures: 0, longest }
    }

    /// The next pause, at least as long as somebody asked for.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let full = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let chance = (std::hash::RandomState::new().build_hasher().finish() % 1024) as u32;
        let pause = full / 2 + full / 2 * chance / 1024;
        asked.map_or(pause, |asked| asked + pause.min(Duration::from_secs(1)))
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A node and how it does.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) url: Url,
    backoff: Backoff,
    rests_until: Option<Instant>,
}

/// All nodes of the configuration.
#[derive(Debug)]
pub(crate) struct Nodes {
    list: Vec<Node>,
    next: usize,
}

impl Nodes {
    pub(crate) fn new(urls: Vec<Url>, longest: Duration) -> Self {
        let node = |url| Node { url, backoff: Backoff::new(longest), rests_until: None };
        Nodes { list: urls.into_iter().map(node).collect(), next: 0 }
    }

    /// The next node that does not rest, or the time when one will.
    pub(crate) fn pick(&mut self, now: Instant) -> Result<usize, Instant> {
        let count = self.list.len();
        let awake = |node: &Node| node.rests_until.is_none_or(|until| until <= now);
        match (0..count).map(|step| (self.next + step) % count).find(|at| awake(&self.list[*at])) {
            Some(at) => {
                self.next = (at + 1) % count;
                Ok(at)
            }
            None => Err(self.list.iter().filter_map(|node| node.rests_until).min().unwrap_or(now)),
        }
    }

    pub(crate) fn url(&self, at: usize) -> &Url {
        &self.list[at].url
    }

    pub(crate) fn failed(&mut self, at: usize, now: Instant, asked: Option<Duration>) {
        let node = &mut self.list[at];
        node.rests_until = Some(now + node.backoff.next(asked));
    }

    pub(crate) fn well(&mut self, at: usize) {
        let node = &mut self.list[at];
        node.backoff.reset();
        node.rests_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_keep_what_was_asked_for() {
        let longest = Duration::from_secs(8);
        let mut backoff = Backoff::new(longest);
        let pauses: Vec<Duration> = (0..30).map(|_| backoff.next(None)).collect();
        assert!(pauses[0] <= FIRST_PAUSE && pauses.iter().all(|pause| *pause <= longest));
        assert!(pauses[29] >= longest / 2);
        assert!(backoff.next(Some(longest * 2)) >= longest * 2);
        backoff.reset();
        assert!(backoff.next(None) <= FIRST_PAUSE);
    }

    #[test]
    fn a_failed_node_rests_while_the_others_are_asked() {
        let urls = ["http://a", "http://b"].map(|url| Url::parse(url).expect("url"));
        let mut nodes = Nodes::new(urls.to_vec(), Duration::from_secs(8));
        let now = Instant::now();
        assert_eq!([nodes.pick(now), nodes.pick(now), nodes.pick(now)], [Ok(0), Ok(1), Ok(0)]);
        nodes.failed(1, now, None);
        assert_eq!([nodes.pick(now), nodes.pick(now)], [Ok(0), Ok(0)]);
        nodes.failed(0, now, Some(Duration::from_secs(60)));
        let until = nodes.pick(now).expect_err("both rest");
        assert!(until > now && until < now + Duration::from_secs(1));
        assert_eq!(nodes.pick(until), Ok(1));
        nodes.well(0);
        assert_eq!(nodes.pick(now), Ok(0));
    }
}
