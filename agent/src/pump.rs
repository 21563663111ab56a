//! Between collectors and their shipper: every batch passes the tap here and is handed over in order.
//!
//! Guarantee: whatever happens to a shipper (it panics, its settings change), the batches it had not settled are
//! read again and none is skipped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use parking_lot::Mutex;
use taffrail_record::{
    Ask, AskError, Batch, Beat, BufferPool, Family, Outlet, Payload, Samples, Ship, ShipStatus,
};

use crate::components::{Cause, State};
use crate::config::Config;
use crate::output::{Made, OutputError, Way};
use crate::pipeline::Shared;
use crate::supervise::panic_message;

/// How long the pump waits for a batch before it lets the shipper look at the clock.
const PAUSE: Duration = Duration::from_millis(100);
/// So many pauses in a row make the next ones longer by one, up to so many times as long: waking for nothing is what an
/// idle agent costs. A batch ends any pause.
const LIVELY: u32 = 20;
const LAZIEST: u32 = 5;
/// The longest pause between two tries to make a shipper.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// What a shipper has at least to end in, however long the collectors have waited: their last statements are under way.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// A configuration that waits to be taken up.
#[derive(Clone, Default)]
pub struct Next(Arc<Mutex<Option<Config>>>);

impl Next {
    /// To be taken up before the next batch.
    pub fn set(&self, config: Config) {
        *self.0.lock() = Some(config);
    }
}

/// The shipper of the moment, for readiness and scrapes.
pub struct Current(ArcSwap<Seen>);

struct Seen {
    name: &'static str,
    status: Arc<ShipStatus>,
    metrics: Arc<dyn Ask>,
}

impl Current {
    fn of(made: &Made) -> Seen {
        Seen { name: made.ship.name(), status: made.ship.status(), metrics: Arc::clone(&made.metrics) }
    }

    /// Its name, and what is wrong with it, if anything.
    #[must_use]
    pub fn status(&self) -> (&'static str, Option<String>) {
        let seen = self.0.load();
        (seen.name, seen.status.get())
    }
}

impl Ask for Current {
    fn name(&self) -> &'static str {
        "output"
    }

    fn families(&self) -> &'static [Family] {
        self.0.load().metrics.families()
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        self.0.load().metrics.ask(samples)
    }
}

/// The thread that feeds the shipper.
pub struct Pump {
    way: &'static Way,
    batches: Receiver<Batch>,
    /// Where the ledger's statements go, when not to this shipper.
    statements: Option<Outlet>,
    config: Config,
    pool: Arc<BufferPool>,
    shared: Shared,
    current: Arc<Current>,
    next: Next,
    /// When the stop was first seen: collectors and shipper share one time to end in.
    told: Option<Instant>,
}

/// Why a shipper is done.
enum Done {
    /// Every collector has let go of its outlet.
    Ended,
    /// Its settings have changed.
    Changed,
}

impl Pump {
    /// Makes the shipper and starts feeding it.
    pub(crate) fn start(
        way: &'static Way,
        config: &Config,
        pool: Arc<BufferPool>,
        batches: Receiver<Batch>,
        statements: Option<Outlet>,
        shared: &Shared,
    ) -> Result<(JoinHandle<()>, Arc<Current>, Next), OutputError> {
        let made = (way.make)(config, &pool)?;
        let current = Arc::new(Current(ArcSwap::from_pointee(Current::of(&made))));
        let next = Next::default();
        let pump = Pump {
            way,
            batches,
            statements,
            config: config.clone(),
            pool,
            shared: shared.clone(),
            current: Arc::clone(&current),
            next: next.clone(),
            told: None,
        };
        let thread = thread::Builder::new().name(way.thread.to_owned()).spawn(move || pump.run(made))?;
        Ok((thread, current, next))
    }

    fn run(mut self, mut made: Made) {
        loop {
            let name = made.ship.name();
            self.shared.components.set(name, State::Running);
            let drain = self.config.pipeline.drain_timeout.0;
            match catch_unwind(AssertUnwindSafe(|| self.feed(made.ship.as_mut()))) {
                Ok(done) => {
                    made.ship.drain(deadline(self.told, Instant::now(), drain));
                    self.shared.components.set(name, State::Stopped);
                    if matches!(done, Done::Ended) {
                        return;
                    }
                }
                Err(panic) => {
                    let error = panic_message(panic.as_ref());
                    tracing::error!(
                        shipper = name,
                        error,
                        "the shipper panicked; a new one takes over and what it had is read again"
                    );
                    self.shared.components.fail(name, Cause::Panic, error);
                }
            }
            // Unsettled receipts go with it, so the collectors read those records again.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(made)));
            let Some(again) = self.make() else { return };
            self.current.0.store(Arc::new(Current::of(&again)));
            made = again;
        }
    }

    /// A shipper for the newest configuration; tried until it can be made or the agent ends.
    fn make(&mut self) -> Option<Made> {
        let mut backoff = Duration::from_secs(1);
        loop {
            if let Some(config) = self.next.0.lock().take() {
                self.config = config;
            }
            match (self.way.make)(&self.config, &self.pool) {
                Ok(made) => return Some(made),
                Err(error) => {
                    let name = (self.way.name)(&self.config);
                    tracing::error!(shipper = name, %error, "the output cannot be started; reading waits");
                    self.shared.components.fail(name, Cause::Error, error.to_string());
                }
            }
            if self.shared.stop.wait(backoff) {
                return None;
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    fn feed(&mut self, ship: &mut dyn Ship) -> Done {
        let mut quiet = 0;
        loop {
            if self.told.is_none() && self.shared.stop.is_raised() {
                self.told = Some(Instant::now());
            }
            if self.output_changed() {
                return Done::Changed;
            }
            match self.batches.recv_timeout(PAUSE * (1 + quiet / LIVELY).min(LAZIEST)) {
                Ok(batch) => {
                    quiet = 0;
                    self.shared.tap.offer(&batch);
                    match &self.statements {
                        // Who is told to stop meanwhile states it again in the next life.
                        Some(ledger) if batch.payload == Payload::Statement => {
                            let _ = ledger.send(batch, &self.shared.stop, &Beat::new());
                        }
                        _ => ship.ship(batch),
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    quiet += 1;
                    ship.idle();
                }
                Err(RecvTimeoutError::Disconnected) => return Done::Ended,
            }
        }
    }

    /// Whether the waiting configuration asks for another shipper.
    fn output_changed(&self) -> bool {
        let mut next = self.next.0.lock();
        let Some(config) = next.as_ref() else { return false };
        let changed = (self.way.differs)(config, &self.config);
        if !changed {
            *next = None;
        }
        changed
    }
}

/// Until when a shipper may wait for what is under way, when the stop was seen at `told`.
fn deadline(told: Option<Instant>, now: Instant, drain: Duration) -> Instant {
    (told.unwrap_or(now) + drain).max(now + LAST_MOMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_end_in_begins_with_the_stop_and_not_anew_for_the_shipper() {
        let told = Instant::now();
        let drain = Duration::from_secs(10);
        for (told, after, expected) in [
            (None, 0, drain),
            (Some(told), 0, drain),
            (Some(told), 4, Duration::from_secs(6)),
            (Some(told), 10, LAST_MOMENT),
            (Some(told), 11, LAST_MOMENT),
        ] {
            let now = told.unwrap_or_else(Instant::now) + Duration::from_secs(after);
            assert_eq!(deadline(told, now, drain) - now, expected, "{after}");
        }
    }
}
