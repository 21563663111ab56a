//! Documents that rest because their index does not take them now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Worker;
use crate::nodes::Backoff;
use crate::reason::Reason;
use crate::store::Doc;

impl Worker {
    /// Documents of an index that does not take them now wait by themselves, in no other's way.
    pub(super) fn rest(
        &mut self,
        index: &Arc<str>,
        docs: Vec<Doc>,
        reason: Reason,
        text: &str,
        asked: Option<Duration>,
    ) {
        let longest = self.state.longest;
        let backoff = self.state.rests.entry(Arc::clone(index)).or_insert_with(|| Backoff::new(longest));
        let until = Instant::now() + backoff.next(asked);
        if reason == Reason::Busy {
            self.size.busy();
            self.state.paused_until = Some(until);
        }
        self.state.resting.push((until, docs));
        self.troubles.set(&subject(index), &format!("index {index}: {text}; {}", reason.remedy()));
    }

    /// Puts those whose time has come behind the others.
    pub(super) fn wake_resting(&mut self) {
        let now = Instant::now();
        let (due, later) =
            std::mem::take(&mut self.state.resting).into_iter().partition(|(at, _)| *at <= now);
        self.state.resting = later;
        let due: Vec<(Instant, Vec<Doc>)> = due;
        for (_, docs) in due {
            self.store.behind(docs);
        }
    }
}

/// What the troubles of an index go by.
pub(super) fn subject(index: &str) -> String {
    format!("index {index}")
}
