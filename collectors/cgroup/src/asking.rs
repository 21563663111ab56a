//! When a name is asked for that is lacking: at once, again soon, then ever more seldom.
//!
//! A sandbox has no link, other links come a moment after their container, and a runtime may be away. But what nobody can
//! answer is as good as never asked any more.

use std::time::{Duration, Instant};

/// The first answer is often too early. At the same time nobody is asked more often than so, whoever lacks a name.
pub(crate) const SOON: Duration = Duration::from_secs(1);
/// Each pause is twice as long as the one before, up to this.
const SELDOM: Duration = Duration::from_secs(1200);

/// When one of those without a name is asked for.
#[derive(Debug)]
pub(crate) struct Asking {
    next: Option<Instant>,
    pause: Duration,
}

impl Default for Asking {
    fn default() -> Asking {
        Asking { next: None, pause: SOON }
    }
}

impl Asking {
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    pub(crate) fn asked(&mut self, now: Instant) {
        self.next = Some(now + self.pause);
        self.pause = (self.pause * 2).min(SELDOM);
    }
}
