//! A batch between its encoding and the last of its delivery reports.
//!
//! librdkafka is given pointers into a flight's arena and never a copy. So a flight, once launched, belongs to nobody
//! until each of its messages has been reported; whoever counts the last report takes it back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use taffrail_envelope::{Constants, Cut, Encoded, Message};
use taffrail_record::{FileId, LossReason, Receipt, Record};

use crate::codes::Code;
use crate::headers::{Headers, PER_LIST};

/// What librdkafka and malloc take for each message besides its bytes, about (the struct is 200 bytes), and what the
/// flight keeps for it.
const PER_MESSAGE: usize = 330;

/// Bytes of an ordinary head.
const TYPICAL_HEAD: usize = 100;

/// Partition of a message whose key decides (RD_KAFKA_PARTITION_UA).
pub(crate) const UNASSIGNED: i32 = -1;

/// A report of failure: which message, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) message: u32,
    pub(crate) error: Code,
}

/// How a topic's flights stand, as seen from both threads.
#[derive(Debug, Default)]
pub(crate) struct Tower {
    aloft: AtomicUsize,
    settled: AtomicU64,
}

impl Tower {
    /// Flights on their way.
    pub(crate) fn aloft(&self) -> usize {
        self.aloft.load(Ordering::Acquire)
    }

    /// Flights settled, ever.
    pub(crate) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }
}

/// One batch on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    /// Place in the order in which batches came.
    pub(crate) sequence: u64,
    /// Topic, by index into the shipper's list.
    pub(crate) topic: usize,
    /// Counts that topic's flights.
    pub(crate) tower: Arc<Tower>,
    /// The messages' bytes. Not touched while any message is with librdkafka.
    pub(crate) encoded: Encoded,
    /// Key of all messages.
    pub(crate) key: Box<[u8]>,
    /// What the messages have in common; its header goes with raw messages.
    pub(crate) constants: Arc<Constants>,
    /// The batch's records, for declaring losses.
    pub(crate) records: Vec<Record>,
    /// The batch's file.
    pub(crate) file: FileId,
    /// Messages still to be delivered; None for all of them.
    pub(crate) todo: Option<Vec<u32>>,
    /// To be sent one message at a time, because the broker found a request too large.
    pub(crate) single: bool,
    /// Content bytes cut off here, by message.
    pub(crate) cut: BTreeMap<u32, u64>,
    /// Headers of raw messages.
    pub(crate) headers: Headers,
    receipt: Option<Receipt>,
    reports: AtomicUsize,
    next: AtomicUsize,
    partition: AtomicI32,
    failures: Mutex<Vec<Failure>>,
}

/// The memory of a settled flight, for the next one.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    pub(crate) encoded: Encoded,
    pub(crate) records: Vec<Record>,
    pub(crate) headers: Headers,
}

impl Spare {
    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.encoded.data.capacity()
            + self.encoded.messages.capacity() * size_of::<Message>()
            + self.records.capacity() * size_of::<Record>()
            + self.headers.len() * (PER_LIST + TYPICAL_HEAD)
    }
}

/// What a batch is made of when it takes off.
pub(crate) struct Load {
    pub(crate) sequence: u64,
    pub(crate) topic: usize,
    pub(crate) tower: Arc<Tower>,
    pub(crate) encoded: Encoded,
    pub(crate) headers: Headers,
    pub(crate) key: Box<[u8]>,
    pub(crate) constants: Arc<Constants>,
    pub(crate) records: Vec<Record>,
    pub(crate) file: FileId,
    pub(crate) receipt: Receipt,
}

impl Flight {
    pub(crate) fn new(load: Load) -> Box<Self> {
        let mut flight = Flight {
            sequence: load.sequence,
            topic: load.topic,
            tower: load.tower,
            encoded: load.encoded,
            key: load.key,
            constants: load.constants,
            records: load.records,
            file: load.file,
            todo: None,
            single: false,
            cut: BTreeMap::new(),
            headers: load.headers,
            receipt: Some(load.receipt),
            reports: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            partition: AtomicI32::new(UNASSIGNED),
            failures: Mutex::default(),
        };
        let bytes = flight.memory() as u64;
        if let Some(receipt) = &mut flight.receipt {
            receipt.resize_charge(bytes);
        }
        Box::new(flight)
    }

    /// Bytes of memory that it takes until it is settled.
    pub(crate) fn memory(&self) -> usize {
        // The head is in the arena and in its header.
        let heads: usize = self.encoded.messages.iter().map(|message| message.head.len()).sum();
        let headers = if heads > 0 { self.constants.header.len() + PER_LIST } else { 0 };
        heads
            + self.encoded.data.capacity()
            + self.encoded.messages.len() * (PER_MESSAGE + self.key.len() + headers)
    }

    /// How many messages are still to be delivered.
    pub(crate) fn pending(&self) -> usize {
        self.todo.as_ref().map_or(self.encoded.messages.len(), Vec::len)
    }

    /// The messages still to be delivered, in order, with their indexes.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (u32, &Message)> {
        let all = self.encoded.messages.as_slice();
        let some = self.todo.as_deref();
        let count = some.map_or(all.len(), <[u32]>::len);
        (0..count).filter_map(move |place| {
            let index = some.map_or(place as u32, |indexes| indexes[place]);
            Some((index, all.get(index as usize)?))
        })
    }

    /// Expects `reports` reports, and one more that the launching thread owes itself.
    pub(crate) fn expect(&self, reports: usize) {
        self.tower.aloft.fetch_add(1, Ordering::Relaxed);
        self.next.store(0, Ordering::Relaxed);
        self.put_into(UNASSIGNED);
        self.reports.store(reports + 1, Ordering::Release);
    }

    /// Notes that the message whose value begins at `value` (an address inside the arena) was not delivered.
    pub(crate) fn fail_at(&self, value: usize, error: Code) {
        self.fail(self.index_at(value) as u32, error);
    }

    /// The message whose value begins at that address. Meant for messages in their order: the next is where the last
    /// one was found.
    pub(crate) fn message_at(&self, value: usize) -> usize {
        let expected = self.next.load(Ordering::Relaxed);
        let begins = |message: &&Message| self.encoded.data[message.value.start..].as_ptr().addr() == value;
        let found = self.encoded.messages.get(expected).filter(begins).map(|_| expected);
        let index = found.unwrap_or_else(|| self.index_at(value));
        self.next.store(index + 1, Ordering::Relaxed);
        index
    }

    /// Writes the headers of the messages still to be delivered.
    pub(crate) fn write_headers(&mut self) {
        if self.encoded.messages.iter().all(|message| message.head.is_empty()) {
            return;
        }
        let mut headers = std::mem::take(&mut self.headers);
        headers.begin(&self.constants);
        for (index, message) in self.messages() {
            headers.set(index as usize, &self.encoded.data[message.head.clone()]);
        }
        self.headers = headers;
    }

    /// Where the partitioner put the last message it was asked about; [`UNASSIGNED`] when it was not asked.
    pub(crate) fn partition(&self) -> i32 {
        self.partition.load(Ordering::Relaxed)
    }

    /// Notes the partitioner's answer.
    pub(crate) fn put_into(&self, partition: i32) {
        self.partition.store(partition, Ordering::Relaxed);
    }

    /// Messages lie in the arena in their order.
    fn index_at(&self, value: usize) -> usize {
        let offset = value.wrapping_sub(self.encoded.data.as_ptr().addr());
        self.encoded.messages.partition_point(|message| message.value.start < offset)
    }

    /// Notes that a message was not delivered.
    pub(crate) fn fail(&self, message: u32, error: Code) {
        self.failures.lock().push(Failure { message, error });
    }

    /// Counts reports; returns true to whoever counts the last, and only to that one.
    pub(crate) fn reported(&self, reports: usize) -> bool {
        let last = self.reports.fetch_sub(reports, Ordering::AcqRel) == reports;
        if last {
            self.tower.aloft.fetch_sub(1, Ordering::AcqRel);
        }
        last
    }

    /// The failures so far, which are then forgotten.
    pub(crate) fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(self.failures.get_mut())
    }

    /// Whether every report so far was a success.
    pub(crate) fn succeeded(&mut self) -> bool {
        self.failures.get_mut().is_empty()
    }

    /// Bytes of the header that each raw message carries; 0 for other encodings.
    pub(crate) fn header_size(&self) -> usize {
        let raw = self.encoded.messages.iter().any(|message| !message.head.is_empty());
        if raw { self.constants.header.len() } else { 0 }
    }

    /// A message's value and head.
    pub(crate) fn bytes_of(&self, message: u32) -> Option<(&[u8], &[u8])> {
        let message = self.encoded.messages.get(message as usize)?;
        Some((&self.encoded.data[message.value.clone()], &self.encoded.data[message.head.clone()]))
    }

    /// Bytes of a message's value and head.
    pub(crate) fn size_of(&self, message: u32) -> usize {
        self.encoded.messages.get(message as usize).map_or(0, |m| m.value.len() + m.head.len())
    }

    /// Puts a shorter form in a message's place.
    pub(crate) fn replace(&mut self, message: u32, cut: &Cut) {
        let Some(place) = self.encoded.messages.get_mut(message as usize) else { return };
        // Over the old bytes, since messages are found by their order in the arena: the new form is shorter.
        let begin = place.value.start.min(if place.head.is_empty() { usize::MAX } else { place.head.start });
        let middle = begin + cut.head.len();
        let end = middle + cut.value.len();
        self.encoded.data[begin..middle].copy_from_slice(&cut.head);
        self.encoded.data[middle..end].copy_from_slice(&cut.value);
        if !place.head.is_empty() {
            place.head = begin..middle;
        }
        place.value = middle..end;
        *self.cut.entry(message).or_default() += cut.bytes;
    }

    /// Gives up one message for good.
    pub(crate) fn lose(&mut self, message: u32, reason: LossReason) {
        self.cut.remove(&message);
        let record =
            self.encoded.messages.get(message as usize).and_then(|m| self.records.get(m.record as usize));
        if let (Some(receipt), Some(record)) = (&mut self.receipt, record) {
            receipt.lose_record(self.file, record, reason);
        }
        let rest: Vec<u32> =
            self.messages().map(|(index, _)| index).filter(|index| *index != message).collect();
        self.todo = Some(rest);
    }

    /// All messages are delivered or declared lost: settles the receipt and returns the memory for reuse.
    pub(crate) fn settle(mut self: Box<Self>) -> Spare {
        if let Some(mut receipt) = self.receipt.take() {
            for bytes in self.cut.values() {
                receipt.cut_off(*bytes);
            }
            receipt.confirm();
        }
        self.tower.settled.fetch_add(1, Ordering::AcqRel);
        Spare {
            encoded: std::mem::take(&mut self.encoded),
            records: std::mem::take(&mut self.records),
            headers: std::mem::take(&mut self.headers),
        }
    }
}
