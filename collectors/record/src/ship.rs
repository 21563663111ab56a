//! What a shipper is.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::Batch;

/// Delivers batches. The module page of this crate says what it owes.
pub trait Ship: Send {
    /// Its name in metrics, logs and configuration.
    fn name(&self) -> &'static str;

    /// Takes a batch and sees to it that its receipt is settled, now or later. May block while the far side is
    /// slow; must not lose the batch for any reason but a declared one.
    fn ship(&mut self, batch: Batch);

    /// Called when no batch has come for a moment: send what waits, look at the clock.
    fn idle(&mut self) {}

    /// Settles what it can before `deadline`; the rest stays unsettled and is repeated after the next start.
    fn drain(&mut self, deadline: Instant);

    /// What is wrong at the moment, for readiness and for people; shared with the shipper.
    fn status(&self) -> Arc<ShipStatus>;
}

/// What troubles a shipper at the moment.
#[derive(Debug, Default)]
pub struct ShipStatus(Mutex<Option<String>>);

impl ShipStatus {
    /// Delivering, or nothing to deliver.
    #[must_use]
    pub fn well() -> Arc<Self> {
        Arc::default()
    }

    /// Notes what is wrong and what to do about it.
    pub fn trouble(&self, what: impl Into<String>) {
        *self.0.lock() = Some(what.into());
    }

    /// Notes that it is over; returns whether there was any.
    pub fn clear(&self) -> bool {
        self.0.lock().take().is_some()
    }

    /// What is wrong, if anything.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        self.0.lock().clone()
    }
}
