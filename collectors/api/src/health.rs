//! Whether what is known is still true: shared between who follows and who uses it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How well something is followed. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    listed: bool,
    /// When the server last said anything; what is known is true as of then.
    heard: Option<Instant>,
    trouble: Option<String>,
}

impl Health {
    /// Of something that was never heard of.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that the server says what it should.
    pub fn heard(&self) {
        let mut state = self.0.lock();
        state.heard = Some(Instant::now());
        state.trouble = None;
    }

    /// Notes that everything was told.
    pub fn listed(&self) {
        self.0.lock().listed = true;
        self.heard();
    }

    /// Notes what is wrong, and what to do about it. Returns whether all was well before.
    pub fn trouble(&self, what: impl Into<String>) -> bool {
        self.0.lock().trouble.replace(what.into()).is_none()
    }

    /// Whether everything was listed at least once.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.0.lock().listed
    }

    /// What is wrong now, with the remedy.
    #[must_use]
    pub fn current_trouble(&self) -> Option<String> {
        self.0.lock().trouble.clone()
    }

    /// For how long what is known may be out of date: zero while the server is heard.
    #[must_use]
    pub fn stale_for(&self) -> Option<Duration> {
        let state = self.0.lock();
        if state.trouble.is_none() && state.listed {
            return Some(Duration::ZERO);
        }
        state.heard.map(|heard| heard.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_stale_from_the_moment_that_the_server_was_last_heard() {
        let health = Health::new();
        assert_eq!(health.stale_for(), None, "nothing is known");
        health.listed();
        assert_eq!(health.stale_for(), Some(Duration::ZERO));
        assert!(health.trouble("away"));
        assert!(!health.trouble("still away"));
        assert!(health.stale_for() > Some(Duration::ZERO));
        health.heard();
        assert_eq!((health.stale_for(), health.current_trouble()), (Some(Duration::ZERO), None));
    }
}
