//! Live records for whoever is looking, without ever delaying the pipeline.
//!
//! While nobody listens, [`TapHub::offer`] costs one atomic load. Otherwise the matching records are rendered
//! into a queue of bounded size per listener; a listener that is too slow misses records and is told how many, at
//! the place where they are missing.

mod filter;
mod render;
mod selector;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use taffrail_record::{Ask, AskError, Batch, Family, Kind, Payload, Samples};
use tokio::sync::Notify;

pub use filter::{Filter, FilterError, Name, Wanted};
pub use render::TapRecord;

/// How many may listen at once.
pub const MAX_LISTENERS: usize = 16;
/// Rendered bytes that wait for one listener before it misses records.
const QUEUE_BYTES: usize = 4 << 20;

/// Where batches are offered and listeners subscribe.
#[derive(Default)]
pub struct TapHub {
    count: AtomicUsize,
    listeners: RwLock<Vec<Arc<Shared>>>,
    missed: Mutex<u64>,
}

struct Shared {
    filter: Filter,
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Records missed since the last chunk.
    missed: u64,
}

/// Every place for a listener is taken.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_LISTENERS} are listening already; end one of the other taps")]
pub struct Crowded;

impl TapHub {
    /// Without listeners.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Shows a batch to the listeners. Never waits for one.
    pub fn offer(&self, batch: &Batch) {
        if self.count.load(Ordering::Relaxed) == 0 || batch.payload != Payload::Line {
            return;
        }
        for listener in self.listeners.read().iter() {
            *self.missed.lock() += listener.take(batch);
        }
    }

    /// A new listener to the records that match `filter`.
    ///
    /// # Errors
    /// [`Crowded`] when there are too many.
    pub fn listen(self: &Arc<Self>, filter: Filter) -> Result<Listener, Crowded> {
        let mut listeners = self.listeners.write();
        if listeners.len() >= MAX_LISTENERS {
            return Err(Crowded);
        }
        let shared = Arc::new(Shared { filter, queue: Mutex::default(), filled: Notify::new() });
        listeners.push(Arc::clone(&shared));
        self.count.store(listeners.len(), Ordering::Relaxed);
        Ok(Listener { hub: Arc::clone(self), shared })
    }
}

impl Shared {
    /// Queues the matching records of a batch; returns how many were missed.
    fn take(&self, batch: &Batch) -> u64 {
        if !self.filter.wants(&batch.origin, &batch.source) {
            return 0;
        }
        let matching = batch.records.iter().filter(|record| self.filter.matches(batch, record));
        if self.queue.lock().bytes >= QUEUE_BYTES {
            let missed = matching.count() as u64;
            self.queue.lock().missed += missed;
            return missed;
        }
        let mut chunk = Vec::new();
        for record in matching {
            render::record(&mut chunk, batch, record);
        }
        if !chunk.is_empty() {
            self.queue.lock().push(chunk);
            self.filled.notify_one();
        }
        0
    }
}

impl Queue {
    fn push(&mut self, chunk: Vec<u8>) {
        if let Some(gap) = self.gap() {
            self.chunks.push_back(gap);
        }
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let Some(chunk) = self.chunks.pop_front() else { return self.gap() };
        self.bytes = self.bytes.saturating_sub(chunk.len());
        Some(chunk)
    }

    /// A line that says how many records are missing here.
    fn gap(&mut self) -> Option<Vec<u8>> {
        let missed = std::mem::take(&mut self.missed);
        (missed > 0).then(|| format!("{{\"missed\":{missed}}}\n").into_bytes())
    }
}

/// One who listens; dropping it unsubscribes.
pub struct Listener {
    hub: Arc<TapHub>,
    shared: Arc<Shared>,
}

impl Listener {
    /// The next lines of NDJSON, each a record as [`TapRecord`] or `{"missed":n}`. Waits until there are some.
    pub async fn next(&mut self) -> Vec<u8> {
        loop {
            if let Some(chunk) = self.try_next() {
                return chunk;
            }
            self.shared.filled.notified().await;
        }
    }

    /// The next lines, when there are some.
    pub fn try_next(&mut self) -> Option<Vec<u8>> {
        self.shared.queue.lock().pop()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = self.hub.listeners.write();
        listeners.retain(|other| !Arc::ptr_eq(other, &self.shared));
        self.hub.count.store(listeners.len(), Ordering::Relaxed);
    }
}

static FAMILIES: [Family; 2] = [
    Family {
        name: "taffrail_tap_listeners",
        kind: Kind::Gauge,
        help: "Who is listening through `taffrail tap`.",
        labels: &[],
    },
    Family {
        name: "taffrail_tap_missed_records_total",
        kind: Kind::Counter,
        help: "Records that listeners were too slow for. They were delivered all the same.",
        labels: &[],
    },
];

impl Ask for TapHub {
    fn name(&self) -> &'static str {
        "tap"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        samples.family(&FAMILIES[0]);
        samples.sample(&[], self.count.load(Ordering::Relaxed) as f64);
        samples.family(&FAMILIES[1]);
        samples.sample(&[], *self.missed.lock() as f64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::render::tests::batch;
    use super::*;

    fn lines(listener: &mut Listener) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(chunk) = listener.try_next() {
            all.extend(String::from_utf8(chunk).expect("text").lines().map(str::to_owned));
        }
        all
    }

    #[test]
    fn only_those_who_listen_get_records_and_only_matching_ones() {
        let hub = TapHub::new();
        hub.offer(&batch(["a", "web-1", "app"], &["before"]));
        let filter = Filter { namespace: Some("a".into()), ..Filter::default() };
        let mut listener = hub.listen(filter).expect("a place");
        hub.offer(&batch(["a", "web-1", "app"], &["one", "two"]));
        hub.offer(&batch(["b", "web-1", "app"], &["three"]));
        let got = lines(&mut listener);
        assert_eq!(got.len(), 2, "{got:?}");
        assert!(got[1].contains("\"message\":\"two\""));
        drop(listener);
        assert_eq!(hub.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_slow_listener_is_told_at_the_place_how_many_it_missed() {
        let hub = TapHub::new();
        let mut slow = hub.listen(Filter::default()).expect("a place");
        let large = "x".repeat(1 << 20);
        for _ in 0..4 {
            hub.offer(&batch(["a", "p", "c"], &[&large]));
        }
        hub.offer(&batch(["a", "p", "c"], &["lost", "lost"]));
        slow.try_next().expect("the first");
        hub.offer(&batch(["a", "p", "c"], &["after the gap"]));
        let got = lines(&mut slow);
        assert_eq!(got.len(), 5);
        assert_eq!(got[3], "{\"missed\":2}");
        assert!(got[4].contains("after the gap"));
        assert_eq!(*hub.missed.lock(), 2);
    }

    #[test]
    fn the_number_of_listeners_is_bounded() {
        let hub = TapHub::new();
        let all: Vec<Listener> =
            (0..MAX_LISTENERS).map(|_| hub.listen(Filter::default()).expect("a place")).collect();
        assert!(hub.listen(Filter::default()).is_err());
        drop(all);
        assert!(hub.listen(Filter::default()).is_ok());
    }
}
