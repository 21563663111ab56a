//! The shipper: batches in, receipts settled by the brokers' acknowledgements.
//!
//! The thread that calls it encodes, launches, and decides what to do about what came back; a delivery thread per
//! producer only counts reports. So every decision about order is made in one place, without locks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use rdkafka::ClientConfig;
use taffrail_envelope::{Encoder, Encoding, EnvelopeConfig, cut};
use taffrail_record::{Ask, Batch, BufferPool, LossReason, Origin, Payload, Ship, ShipStatus};

use crate::codes::{Code, Kind, describe};
use crate::flight::{Failure, Flight, Load, Spare};
use crate::lane::Lane;
use crate::metrics::Counters;
use crate::producer::{Producer, Shared, Spares};
use crate::properties::{native, producer_properties};
use crate::renewal::Renewal;
use crate::trouble::Troubles;
use crate::{KafkaConfig, KafkaError, TopicTemplate, heap};

/// What a message takes in a request besides its key, value and headers, at most.
const FRAMING: usize = 1024;

/// `batch.size` is not made smaller than this when brokers find requests too large.
const SMALLEST_REQUEST: usize = 16 << 10;

/// How many origins' topics are kept.
const KEPT_ORIGINS: usize = 4096;

/// How long asking about a troubled topic may hold up the others.
const ASK_PATIENCE: Duration = Duration::from_millis(500);

/// Delivers to Kafka.
///
/// Every record is retried until the brokers have it, in the order of its topic and key. A topic that refuses holds
/// up only itself. A record that is too large is cut, flagged `oversize` and counted; if nothing is left to cut it is
/// declared lost. Memory is bounded by the batches' charges alone.
#[derive(Debug)]
pub struct KafkaShipper {
    // Producers are dropped first: what they still have comes back and is abandoned with `returned` and the lanes, so
    // its bytes are read again some day.
    main: Producer,
    single: Option<Producer>,
    encoder: Encoder,
    pool: Arc<BufferPool>,
    topic: TopicTemplate,
    ledger: Option<usize>,
    /// Topic of events.
    events: String,
    /// Topic of the audit.
    audit: String,
    properties: ClientConfig,
    largest_message: usize,
    largest_pause: Duration,
    lanes: Vec<Lane>,
    by_topic: HashMap<String, usize>,
    by_origin: HashMap<usize, (Arc<Origin>, usize)>,
    /// Lanes with flights that wait or with trouble not yet over.
    troubled: BTreeSet<usize>,
    sequence: u64,
    renewal: Renewal,
    /// A new `batch.size`, for when nothing is on its way.
    shrink: bool,
    returned: Receiver<Box<Flight>>,
    shared: Arc<Shared>,
}

impl KafkaShipper {
    /// A shipper that encodes as `envelope` says and gives read buffers back to `pool`. It does not wait for the
    /// brokers: an unreachable one is trouble to be seen in [`Ship::status`], not an error.
    ///
    /// # Errors
    /// [`KafkaError`] when the configuration cannot be right.
    pub fn new(
        config: &KafkaConfig,
        envelope: EnvelopeConfig,
        pool: Arc<BufferPool>,
    ) -> Result<Self, KafkaError> {
        heap::keep();
        let properties = producer_properties(config)?;
        let (sender, returned) = crossbeam_channel::unbounded();
        let counters = Arc::new(Counters::default());
        let shared = Arc::new(Shared {
            troubles: Troubles::new(Arc::clone(&counters)),
            counters,
            spares: Spares::default(),
            returned: sender,
        });
        let largest = native(&properties)?.get("message.max.bytes").ok().and_then(|text| text.parse().ok());
        let mut shipper = KafkaShipper {
            main: Producer::start(&properties, envelope.encoding == Encoding::Raw, &shared)?,
            single: None,
            encoder: Encoder::new(envelope),
            pool,
            topic: config.topic.clone(),
            ledger: None,
            events: config.events_topic.clone(),
            audit: config.audit_topic.clone(),
            properties,
            largest_message: largest.unwrap_or(1_000_000),
            largest_pause: Duration::from_millis(config.retry_max_ms.into()),
            lanes: Vec::new(),
            by_topic: HashMap::new(),
            by_origin: HashMap::new(),
            troubled: BTreeSet::new(),
            sequence: 0,
            renewal: Renewal::new(Duration::from_millis(config.retry_max_ms.into())),
            shrink: false,
            returned,
            shared,
        };
        if let Some(ledger) = &config.ledger_topic {
            let fixed = TopicTemplate::fixed(ledger).map_err(KafkaError::LedgerTopic)?;
            shipper.ledger = Some(shipper.lane(fixed.render(&Origin::default())));
        }
        Ok(shipper)
    }

    /// Its counters, for scrapes.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn Ask> {
        Arc::clone(&self.shared.counters) as Arc<dyn Ask>
    }

    fn lane(&mut self, topic: String) -> usize {
        if let Some(index) = self.by_topic.get(&topic) {
            return *index;
        }
        self.lanes.push(Lane::new(topic.clone()));
        self.by_topic.insert(topic, self.lanes.len() - 1);
        self.lanes.len() - 1
    }

    fn lane_of(&mut self, origin: &Arc<Origin>) -> usize {
        let address = Arc::as_ptr(origin).addr();
        if let Some((_, lane)) = self.by_origin.get(&address) {
            return *lane;
        }
        if self.by_origin.len() >= KEPT_ORIGINS {
            self.by_origin.clear();
        }
        let lane = self.lane(self.topic.render(origin));
        self.by_origin.insert(address, (Arc::clone(origin), lane));
        lane
    }

    /// Encodes a batch and gives its read buffer back.
    fn load(&mut self, batch: Batch, lane: usize) -> Box<Flight> {
        let Spare { mut encoded, records: spare_records, headers } = self.shared.spares.take();
        let constants = self.encoder.encode(&batch, &mut encoded);
        let key = match batch.payload {
            Payload::Line => constants.key.clone(),
            Payload::Statement | Payload::Event | Payload::Audit => {
                batch.source.id.to_string().into_bytes().into()
            }
        };
        let file = batch.source.id;
        self.pool.give(batch.data, spare_records);
        self.sequence += 1;
        let mut flight = Flight::new(Load {
            sequence: self.sequence,
            topic: lane,
            tower: Arc::clone(&self.lanes[lane].tower),
            encoded,
            headers,
            key,
            constants,
            records: batch.records,
            file,
            receipt: batch.receipt,
        });
        self.fit(&mut flight);
        flight
    }

    /// Cuts what the producer itself would refuse.
    fn fit(&mut self, flight: &mut Flight) {
        let overhead = flight.key.len() + FRAMING + flight.header_size();
        let limit = self.largest_message.saturating_sub(overhead);
        let large: Vec<u32> = flight
            .messages()
            .filter(|(_, message)| message.value.len() + message.head.len() > limit)
            .map(|(index, _)| index)
            .collect();
        for index in large {
            self.shorten(flight, index, limit);
        }
    }

    /// Cuts a message whose size a broker refused, without saying what it would take: to half, and again when that
    /// comes back. Metadata may be more than half of a short message; then less is cut.
    fn halve(&mut self, flight: &mut Flight, index: u32) {
        let size = flight.size_of(index);
        let limit = [2, 4, 8, 16].map(|part| size - size / part).into_iter().find(|limit| {
            flight.bytes_of(index).is_some_and(|(value, head)| cut(value, head, *limit).is_some())
        });
        self.shorten(flight, index, limit.unwrap_or(0));
    }

    /// Cuts a message to `limit` bytes, or declares it lost.
    fn shorten(&mut self, flight: &mut Flight, index: u32, limit: usize) {
        let counters = &self.shared.counters;
        let shorter = flight.bytes_of(index).and_then(|(value, head)| cut(value, head, limit));
        if let Some(cut) = shorter {
            counters.oversize.fetch_add(1, Relaxed);
            counters.oversize_bytes.fetch_add(cut.bytes, Relaxed);
            flight.replace(index, &cut);
        } else {
            counters.too_large.fetch_add(1, Relaxed);
            let text =
                format!("kafka: a record of {} cannot be cut to {limit} bytes and is lost", flight.file);
            self.shared.troubles.mention("too large", &text);
            flight.lose(index, LossReason::TooLarge);
        }
    }

    fn dispatch(&mut self, flight: Box<Flight>) {
        let lane = flight.topic;
        if flight.pending() == 0 {
            self.shared.settle(flight);
        } else if self.lanes[lane].is_clear() && !self.shrink && !self.main.is_dead() {
            self.main.send(&self.lanes[lane].topic, flight);
        } else {
            self.park(lane, flight);
        }
    }

    fn park(&mut self, lane: usize, flight: Box<Flight>) {
        self.lanes[lane].park(flight);
        self.troubled.insert(lane);
    }

    /// Looks at everything that is not as it should be; costs next to nothing when all is well.
    fn tend(&mut self) {
        while let Ok(flight) = self.returned.try_recv() {
            self.take_back(flight);
        }
        let delivered = self.shared.counters.messages.load(Relaxed);
        if (self.main.is_dead() && self.renewal.is_due(Instant::now(), delivered))
            || (self.shrink && self.main.flying() == 0)
        {
            self.renew();
            self.renewal.made(Instant::now(), delivered);
        }
        if self.troubled.is_empty() {
            return;
        }
        for lane in self.troubled.clone() {
            self.resume(lane);
        }
        let waiting = self.troubled.iter().map(|lane| self.lanes[*lane].waiting() as u64).sum();
        self.shared.counters.parked_batches.store(waiting, Relaxed);
    }

    /// Parks a flight that came back, with what it still has to deliver.
    fn take_back(&mut self, mut flight: Box<Flight>) {
        let mut failures = flight.take_failures();
        failures.sort_by_key(|failure| failure.message);
        flight.todo = Some(failures.iter().map(|failure| failure.message).collect());
        self.complain(flight.topic, &failures);
        let too_large = |failure: &&Failure| Kind::of(failure.error) == Kind::TooLarge;
        let large: Vec<u32> = failures.iter().filter(too_large).map(|failure| failure.message).collect();
        if flight.single {
            self.lanes[flight.topic].culprit |= !large.is_empty();
            for message in large {
                self.halve(&mut flight, message);
            }
        } else {
            flight.single = !large.is_empty();
        }
        if flight.pending() == 0 {
            self.shared.settle(flight);
        } else {
            self.shared.counters.resent.fetch_add(flight.pending() as u64, Relaxed);
            self.park(flight.topic, flight);
        }
    }

    /// Says what happened to a topic's records. The first error that is not merely the end of a producer names it.
    fn complain(&mut self, lane: usize, failures: &[Failure]) {
        let own = |code: Code| Kind::of(code) != Kind::Producer;
        let code =
            failures.iter().map(|f| f.error).find(|code| own(*code)).or(failures.first().map(|f| f.error));
        let Some(code) = code else { return };
        let kind = Kind::of(code);
        let lane = &mut self.lanes[lane];
        lane.note(kind, self.largest_pause);
        if kind == Kind::Producer {
            self.shared.counters.error(kind, failures.len() as u64);
        } else {
            self.shared.troubles.topic(&lane.topic, kind, &describe(code), failures.len() as u64);
        }
    }

    /// Sends a lane's waiting flights when it is time.
    fn resume(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        if lane.singled() && lane.has_recovered() {
            self.recovered(index);
            return;
        }
        if !lane.is_due() || self.shrink || self.main.is_dead() {
            return;
        }
        if matches!(lane.trouble, Some(Kind::UnknownTopic | Kind::TopicAuthorization)) {
            self.main.refresh(&lane.topic, ASK_PATIENCE);
        }
        while let Some(flight) = self.lanes[index].next() {
            if !self.send_again(index, flight) {
                return;
            }
            // What failed at once is back already: the rest has to wait behind it.
            if !self.returned.is_empty() {
                return;
            }
        }
    }

    /// Returns whether the next flight may follow.
    fn send_again(&mut self, index: usize, flight: Box<Flight>) -> bool {
        if !flight.single {
            self.main.send(&self.lanes[index].topic, flight);
            return true;
        }
        match self.single_producer() {
            Ok(producer) => {
                self.single = Some(producer);
                if let Some(single) = &mut self.single {
                    single.send(&self.lanes[index].topic, flight);
                }
            }
            Err(error) => {
                self.shared.troubles.mention("single", &error.to_string());
                self.lanes[index].park(flight);
            }
        }
        false
    }

    /// The producer whose requests have one message each: it finds the one that is too large.
    fn single_producer(&mut self) -> Result<Producer, KafkaError> {
        if let Some(producer) = self.single.take().filter(|producer| !producer.is_dead()) {
            return Ok(producer);
        }
        let mut properties = self.properties.clone();
        properties.set("batch.num.messages", "1").set("linger.ms", "0");
        self.producer(&properties)
    }

    fn producer(&self, properties: &ClientConfig) -> Result<Producer, KafkaError> {
        Producer::start(properties, self.encoder.config().encoding == Encoding::Raw, &self.shared)
    }

    /// A lane has delivered all that came back.
    fn recovered(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        if lane.trouble == Some(Kind::TooLarge) && !lane.culprit {
            self.shrink_requests(index);
        }
        let lane = &mut self.lanes[index];
        lane.recover();
        self.shared.troubles.topic_is_well(&lane.topic);
        self.troubled.remove(&index);
    }

    /// Every message of a request that was too large is small enough by itself, so the requests are to be smaller.
    fn shrink_requests(&mut self, index: usize) {
        let now: usize = self.request_size();
        if now <= SMALLEST_REQUEST {
            return;
        }
        let smaller = (now / 2).max(SMALLEST_REQUEST);
        self.properties.set("batch.size", smaller.to_string());
        self.shrink = true;
        let topic = &self.lanes[index].topic;
        let text = format!(
            "kafka topic {topic}: requests of {now} bytes are too large for it, trying {smaller}; set \
             kafka.properties batch.size below the topic's max.message.bytes"
        );
        self.shared.troubles.mention("shrink", &text);
    }

    fn request_size(&self) -> usize {
        native(&self.properties)
            .ok()
            .and_then(|native| native.get("batch.size").ok())
            .and_then(|text| text.parse().ok())
            .unwrap_or(1_000_000)
    }

    /// Replaces the main producer. What the old one had comes back and is sent again in order.
    fn renew(&mut self) {
        match self.producer(&self.properties) {
            Ok(producer) => {
                drop(std::mem::replace(&mut self.main, producer));
                self.shrink = false;
                self.shared.counters.producers.fetch_add(1, Relaxed);
                while let Ok(flight) = self.returned.try_recv() {
                    self.take_back(flight);
                }
            }
            Err(error) => self.shared.troubles.mention("renew", &error.to_string()),
        }
    }

    fn is_done(&self) -> bool {
        // Flights are counted down after they were put into `returned`, so that is looked at last.
        self.main.flying() == 0
            && self.single.as_ref().is_none_or(|single| single.flying() == 0)
            && self.returned.is_empty()
            && self.troubled.is_empty()
    }
}

impl Ship for KafkaShipper {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn ship(&mut self, batch: Batch) {
        self.tend();
        let lane = match (batch.payload, self.ledger) {
            (Payload::Line, _) => self.lane_of(&batch.origin),
            (Payload::Event, _) => self.lane(self.events.clone()),
            (Payload::Audit, _) => self.lane(self.audit.clone()),
            (Payload::Statement, Some(ledger)) => ledger,
            (Payload::Statement, None) => {
                self.pool.give(batch.data, batch.records);
                batch.receipt.confirm();
                return;
            }
        };
        let flight = self.load(batch, lane);
        self.dispatch(flight);
    }

    /// Nothing more comes for the moment, because all is quiet or because the budget is spent: then waiting for more
    /// messages to share a request with is in vain.
    fn idle(&mut self) {
        const NUDGE: Duration = Duration::from_millis(1);
        self.tend();
        if self.main.flying() > 0 {
            self.main.flush(NUDGE);
        } else if self.shared.spares.shrink() {
            heap::release();
        }
    }

    fn drain(&mut self, deadline: Instant) {
        const STEP: Duration = Duration::from_millis(50);
        loop {
            self.tend();
            let left = deadline.saturating_duration_since(Instant::now());
            if self.is_done() || left.is_zero() {
                return;
            }
            let step = STEP.min(left);
            if self.main.flying() > 0 {
                self.main.flush(step);
            } else {
                std::thread::sleep(step);
            }
        }
    }

    fn status(&self) -> Arc<ShipStatus> {
        Arc::clone(self.shared.troubles.status())
    }
}
