//! A producer and the thread that hears what became of its messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::bindings as rd;

use crate::KafkaError;
use crate::client::{self, Client, Event, Scratch, Side, Topics};
use crate::codes::{Code, Kind, OK};
use crate::flight::{Flight, Spare};
use crate::metrics::Counters;
use crate::trouble::Troubles;

const EVENTS: i32 = rd::RD_KAFKA_EVENT_DR | rd::RD_KAFKA_EVENT_ERROR | rd::RD_KAFKA_EVENT_LOG;

/// How long a producer that ends may take to hand back what it still has.
const FAREWELL: Duration = Duration::from_secs(10);

/// What the shipper and its delivery threads have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) counters: Arc<Counters>,
    pub(crate) troubles: Troubles,
    pub(crate) spares: Spares,
    /// Flights that came back with failures.
    pub(crate) returned: Sender<Box<Flight>>,
}

/// Memory of settled flights, for the next ones, so that full speed does not ask the system for pages all the time. It
/// was in the budget a moment ago, and goes back when all is quiet. A few long lines' memory is not kept.
#[derive(Debug, Default)]
pub(crate) struct Spares(Mutex<Free>);

#[derive(Debug, Default)]
struct Free {
    spares: VecDeque<Spare>,
    bytes: usize,
}

impl Spares {
    /// As much as comes back at once when a broker answers.
    const KEPT: usize = 8 << 20;
    const LARGEST: usize = 1 << 20;

    pub(crate) fn take(&self) -> Spare {
        let mut free = self.0.lock();
        let spare = free.spares.pop_back().unwrap_or_default();
        free.bytes -= spare.memory();
        spare
    }

    pub(crate) fn give(&self, mut spare: Spare) {
        spare.encoded.clear();
        spare.records.clear();
        if spare.memory() > Self::LARGEST {
            return;
        }
        let mut free = self.0.lock();
        if free.bytes + spare.memory() <= Self::KEPT {
            free.bytes += spare.memory();
            free.spares.push_back(spare);
        }
    }

    /// Frees what full speed alone needs; returns whether there was any.
    pub(crate) fn shrink(&self) -> bool {
        const QUIET: usize = 2;
        let mut free = self.0.lock();
        let any = free.spares.len() > QUIET;
        if any {
            free.spares.truncate(QUIET);
            free.spares.shrink_to_fit();
            free.bytes = free.spares.iter().map(Spare::memory).sum();
        }
        any
    }
}

impl Shared {
    /// All messages of a flight were reported.
    fn landed(&self, mut flight: Box<Flight>) {
        self.counters.queued_messages.fetch_sub(flight.pending() as u64, Ordering::Relaxed);
        self.counters.queued_bytes.fetch_sub(flight.memory() as u64, Ordering::Relaxed);
        if flight.succeeded() {
            self.settle(flight);
        } else {
            // The receiver ends with the shipper, and then an unsettled flight is as good as one that was never sent.
            let _ = self.returned.send(flight);
        }
    }

    /// Nothing of a flight is left to be delivered.
    pub(crate) fn settle(&self, flight: Box<Flight>) {
        self.spares.give(flight.settle());
    }
}

/// A producer. Dropping it makes everything undelivered come back as failed, then ends it.
#[derive(Debug)]
pub(crate) struct Producer {
    topics: Topics,
    client: Arc<Client>,
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    thread: Option<JoinHandle<()>>,
    scratch: Scratch,
}

/// What the delivery thread and the producer tell each other.
#[derive(Debug, Default)]
struct Watch {
    flying: AtomicUsize,
    ending: AtomicBool,
    fatal: AtomicBool,
}

impl Producer {
    /// `headers`: whether its flights' messages may have any.
    pub(crate) fn start(
        config: &ClientConfig,
        headers: bool,
        shared: &Arc<Shared>,
    ) -> Result<Self, KafkaError> {
        let client = Arc::new(Client::new(Side::Producer { headers }, config, EVENTS)?);
        let watch = Arc::new(Watch::default());
        let hearing = Hearing {
            client: Arc::clone(&client),
            headers,
            shared: Arc::clone(shared),
            watch: Arc::clone(&watch),
        };
        let thread = thread::Builder::new()
            .name("kafka-delivery".to_owned())
            .spawn(move || hearing.run())
            .map_err(|error| KafkaError::Client(format!("cannot start a thread: {error}")))?;
        Ok(Producer {
            topics: Topics::default(),
            client,
            shared: Arc::clone(shared),
            watch,
            thread: Some(thread),
            scratch: Scratch::default(),
        })
    }

    /// Sends a flight. It comes back through the shared channel when any of its messages fails.
    pub(crate) fn send(&mut self, topic: &str, flight: Box<Flight>) {
        self.shared.counters.queued_messages.fetch_add(flight.pending() as u64, Ordering::Relaxed);
        self.shared.counters.queued_bytes.fetch_add(flight.memory() as u64, Ordering::Relaxed);
        self.watch.flying.fetch_add(1, Ordering::AcqRel);
        let back = match self.topics.get(&self.client, topic) {
            Ok(handle) => client::launch(handle, flight, &mut self.scratch),
            Err(code) => {
                flight.messages().for_each(|(index, _)| flight.fail(index, code));
                Some(flight)
            }
        };
        if let Some(flight) = back {
            self.watch.flying.fetch_sub(1, Ordering::AcqRel);
            self.shared.landed(flight);
        }
    }

    /// Asks the brokers anew about a topic that they refused.
    pub(crate) fn refresh(&mut self, topic: &str, patience: Duration) {
        if let Ok(handle) = self.topics.get(&self.client, topic) {
            client::refresh(&self.client, handle, patience);
        }
    }

    /// Flights that are not back yet.
    pub(crate) fn flying(&self) -> usize {
        self.watch.flying.load(Ordering::Acquire)
    }

    /// Whether it will deliver nothing any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.watch.fatal.load(Ordering::Acquire)
    }

    /// Ends lingering and waits for deliveries, up to `patience`.
    pub(crate) fn flush(&self, patience: Duration) {
        self.client.flush(patience);
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let deadline = Instant::now() + FAREWELL;
        while self.flying() > 0 && Instant::now() < deadline {
            self.client.purge();
            thread::sleep(Duration::from_millis(5));
        }
        self.watch.ending.store(true, Ordering::Release);
        // The thread ends when the last flight is back. If one never comes, the thread keeps the client alive:
        // memory that librdkafka may still read is not freed.
        if self.flying() == 0
            && let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("kafka: the delivery thread panicked");
        }
    }
}

/// The delivery thread.
///
/// Lingering is librdkafka's own. Its known weakness: when a partition's request is under way and more messages have
/// waited for longer than the linger, librdkafka 2.12 polls without pause until the broker answers (the in-flight limit
/// of an idempotent partition counts messages, and the wake-up time is in the past). A frozen broker costs up to a core
/// until its connection ends, and a broker that takes longer than the linger costs part of one. So the linger is long
/// by default, and [`Ship::idle`] ends it where waiting is in vain.
///
/// Tried instead: lingering here, by a flush of a millisecond per linger. It cost 3% of a core while frozen, but let few
/// requests through each time: with full requests of 1 MB and a budget of 16 MiB, 4 MB/s of raw records against 23.
///
/// [`Ship::idle`]: taffrail_record::Ship::idle
struct Hearing {
    client: Arc<Client>,
    headers: bool,
    shared: Arc<Shared>,
    watch: Arc<Watch>,
}

impl Hearing {
    fn run(&self) {
        const PATIENCE: Duration = Duration::from_millis(100);
        while !(self.watch.ending.load(Ordering::Acquire) && self.watch.flying.load(Ordering::Acquire) == 0) {
            if let Some(event) = self.client.poll(PATIENCE) {
                self.hear(event);
            }
        }
    }

    fn hear(&self, mut event: Event) {
        match event.kind() {
            rd::RD_KAFKA_EVENT_DR => self.reports(&mut event),
            rd::RD_KAFKA_EVENT_ERROR => self.error(&event),
            rd::RD_KAFKA_EVENT_LOG => self.log(&event),
            _ => {}
        }
    }

    /// Neighbouring reports are mostly of one flight: they are counted together.
    fn reports(&self, event: &mut Event) {
        let mut run = Run { flight: std::ptr::null_mut(), reports: 0, delivered: 0, bytes: 0 };
        event.reports(self.headers, |flight, value, length, code| {
            if flight != run.flight {
                self.count(&run);
                run = Run { flight, reports: 0, delivered: 0, bytes: 0 };
            }
            run.reports += 1;
            if code == OK {
                run.delivered += 1;
                run.bytes += length;
            } else {
                self.failed(flight, value, code);
            }
        });
        self.count(&run);
    }

    fn failed(&self, flight: *mut Flight, value: usize, code: Code) {
        if code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__FATAL as Code {
            self.watch.fatal.store(true, Ordering::Release);
        }
        // SAFETY: the opaque of our messages is their flight, which lives until its last report is counted; this
        // one is not counted yet.
        unsafe { (*flight).fail_at(value, code) };
    }

    fn count(&self, run: &Run) {
        if run.reports == 0 {
            return;
        }
        if run.delivered > 0 {
            self.shared.counters.messages.fetch_add(run.delivered, Ordering::Relaxed);
            self.shared.counters.bytes.fetch_add(run.bytes as u64, Ordering::Relaxed);
            self.shared.troubles.delivered();
        }
        // SAFETY: as in `failed`; whoever counts the last report is the only one left with the pointer, which came
        // from Box::into_raw.
        let landed = unsafe { (*run.flight).reported(run.reports).then(|| Box::from_raw(run.flight)) };
        if let Some(flight) = landed {
            self.shared.landed(flight);
            self.watch.flying.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn error(&self, event: &Event) {
        let (code, text, fatal) = event.error();
        if fatal || self.client.fatal_error().is_some() {
            let text = self.client.fatal_error().unwrap_or(text);
            self.shared.counters.error(Kind::Producer, 1);
            self.shared
                .troubles
                .mention("fatal", &format!("kafka: producer gave up: {text}; a new one takes over"));
            self.watch.fatal.store(true, Ordering::Release);
            return;
        }
        match Kind::of(code) {
            kind @ (Kind::Connection | Kind::Authentication) => {
                let is_summary = code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN as Code;
                self.shared.troubles.connection(kind, &text, is_summary);
            }
            _ => self.shared.troubles.mention("error", &format!("kafka: {text}")),
        }
    }

    fn log(&self, event: &Event) {
        let Some((facility, text, level)) = event.log() else { return };
        tracing::debug!(facility, level, "librdkafka: {text}");
    }
}

/// Reports of one flight in a row.
struct Run {
    flight: *mut Flight,
    reports: usize,
    delivered: u64,
    bytes: usize,
}
