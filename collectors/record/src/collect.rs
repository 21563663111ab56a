//! What a pushed collector is given and how it is stopped.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender};
use parking_lot::{Condvar, Mutex};

use crate::{Batch, Budget, BufferPool, Ledger};

/// A collector that pushes: runs on a thread of its own until it is told to stop.
pub trait Collector: Send {
    /// Its name in metrics, logs and configuration.
    fn name(&self) -> &'static str;

    /// Collects until `context.stop` is raised, then returns.
    ///
    /// # Errors
    /// Whatever it cannot go on without. The supervisor logs it and starts a fresh collector after a pause;
    /// trouble with one source is not an error of the collector.
    fn run(&mut self, context: &Context) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// Everything a collector works with.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where batches go.
    pub outlet: Outlet,
    /// Raised when it is to end.
    pub stop: Stop,
    /// To be beaten every few seconds.
    pub beat: Beat,
    /// Memory for batches.
    pub budget: Arc<Budget>,
    /// Buffers for batches.
    pub pool: Arc<BufferPool>,
    /// Where it accounts for what it reads.
    pub ledger: Arc<Ledger>,
}

/// A collector's way into the pipeline.
#[derive(Debug, Clone)]
pub struct Outlet {
    sender: Sender<Batch>,
}

/// The pipeline takes no more batches from this collector: it is to end.
#[derive(Debug)]
pub struct OutletClosed;

impl fmt::Display for OutletClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pipeline takes no more batches from this collector")
    }
}

impl Error for OutletClosed {}

impl Outlet {
    /// An outlet and the end that the pipeline reads.
    #[must_use]
    pub fn channel(batches: usize) -> (Outlet, Receiver<Batch>) {
        let (sender, receiver) = crossbeam_channel::bounded(batches);
        (Outlet { sender }, receiver)
    }

    /// Whether a batch would have to wait now. A collector that has other things to do asks first.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.sender.is_full()
    }

    /// Hands over a batch, waiting while the pipeline is full and `context`'s stop is not raised.
    ///
    /// # Errors
    /// [`OutletClosed`] when the pipeline is gone or the collector was told to stop; the batch is abandoned.
    pub fn send(&self, mut batch: Batch, stop: &Stop, beat: &Beat) -> Result<(), OutletClosed> {
        loop {
            beat.beat();
            match self.sender.send_timeout(batch, Duration::from_millis(200)) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => return Err(OutletClosed),
                Err(SendTimeoutError::Timeout(_)) if stop.is_raised() => return Err(OutletClosed),
                Err(SendTimeoutError::Timeout(back)) => batch = back,
            }
        }
    }
}

/// A flag that is raised once and that sleepers hear at once.
#[derive(Clone, Default)]
pub struct Stop(Arc<(Mutex<Flag>, Condvar)>);

#[derive(Default)]
struct Flag {
    raised: bool,
    /// Whom to tell.
    then: Vec<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.is_raised()).finish()
    }
}

impl Stop {
    /// A flag that is down.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises it.
    pub fn raise(&self) {
        let then = {
            let mut flag = self.0.0.lock();
            flag.raised = true;
            std::mem::take(&mut flag.then)
        };
        self.0.1.notify_all();
        then.into_iter().for_each(|then| then());
    }

    /// Whether it is raised.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.0.lock().raised
    }

    /// Has `then` called once when it is raised, by who raises it; at once if it is. For those who cannot sleep in
    /// [`Stop::wait`].
    pub fn when_raised(&self, then: impl FnOnce() + Send + 'static) {
        let mut flag = self.0.0.lock();
        if !flag.raised {
            flag.then.push(Box::new(then));
            return;
        }
        drop(flag);
        then();
    }

    /// Sleeps for `pause` or until it is raised; returns whether it is.
    #[must_use]
    pub fn wait(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        let mut flag = self.0.0.lock();
        while !flag.raised {
            if self.0.1.wait_until(&mut flag, deadline).timed_out() {
                break;
            }
        }
        flag.raised
    }
}

/// A sign of life that the supervisor watches.
#[derive(Debug, Clone)]
pub struct Beat {
    since: Instant,
    last: Arc<AtomicU64>,
}

impl Default for Beat {
    fn default() -> Self {
        Beat { since: Instant::now(), last: Arc::default() }
    }
}

impl Beat {
    /// A beat that was beaten just now.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says: alive.
    pub fn beat(&self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// How long ago the last sign of life was.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_the_stop_is_told_once_and_who_comes_late_at_once() {
        let (stop, told) = (Stop::new(), Arc::new(AtomicU64::new(0)));
        let count = || {
            let told = Arc::clone(&told);
            move || {
                told.fetch_add(1, Ordering::SeqCst);
            }
        };
        stop.when_raised(count());
        assert_eq!(told.load(Ordering::SeqCst), 0);
        stop.raise();
        stop.raise();
        assert_eq!(told.load(Ordering::SeqCst), 1);
        stop.when_raised(count());
        assert_eq!(told.load(Ordering::SeqCst), 2);
        assert!(stop.wait(Duration::from_secs(600)));
    }
}
