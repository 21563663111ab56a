//! A whole topic, from its beginning to where it ended when the reading began.

use std::ffi::{CString, c_char};
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaRespErr as E;

use crate::client::{Client, Side, Topics, code_of, text};
use crate::codes::{Code, Kind, OK, describe};
use crate::{KafkaConfig, KafkaError, consumer_properties};

/// How long brokers may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long no message may come before the reading is given up.
const STALLED: Duration = Duration::from_secs(60);

const EVENTS: i32 = rd::RD_KAFKA_EVENT_ERROR | rd::RD_KAFKA_EVENT_LOG;

/// One message, borrowed from librdkafka for the time of the call.
#[derive(Debug)]
pub struct TopicMessage<'a> {
    /// Partition.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Value; None for a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// Milliseconds since the Unix epoch, if it has a time.
    pub timestamp: Option<i64>,
}

/// What was read of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRead {
    /// Partition.
    pub partition: i32,
    /// First offset there was.
    pub from: i64,
    /// One past the last offset there was when the reading began.
    pub to: i64,
    /// Messages read; fewer than `to - from` when the topic is compacted or transactional.
    pub messages: u64,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSummary {
    /// Messages.
    pub messages: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// By partition.
    pub partitions: Vec<PartitionRead>,
}

/// Reads `topic` from its beginning to its end as of now, uncommitted transactions included, and calls `on_message` for
/// each message; within a partition in order, partitions interleaved.
///
/// # Errors
/// [`KafkaError`] when the brokers or the topic cannot be used, or when no message comes for a minute.
pub fn read_topic(
    config: &KafkaConfig,
    topic: &str,
    mut on_message: impl FnMut(&TopicMessage<'_>),
) -> Result<ReadSummary, KafkaError> {
    let client = Client::new(Side::Consumer, &consumer_properties(config)?, EVENTS)?;
    let mut topics = Topics::default();
    let handle = topics.get(&client, topic).map_err(|code| read_error(topic, code))?;
    let mut reading = Reading::start(&client, handle, topic)?;
    let result = reading.run(&client, topic, &mut on_message);
    reading.stop();
    result.map(|()| reading.summary())
}

/// The names of all topics that this client may see.
pub(crate) fn topic_names(config: &KafkaConfig) -> Result<Vec<String>, KafkaError> {
    let client = Client::new(Side::Consumer, &consumer_properties(config)?, EVENTS)?;
    Ok(Metadata::of_all(&client, PATIENCE)?.topics())
}

pub(crate) fn topic_error(topic: &str, code: Code) -> KafkaError {
    KafkaError::Topic { topic: topic.to_owned(), problem: describe(code), remedy: Kind::of(code).remedy() }
}

/// As [`topic_error`], for who reads.
fn read_error(topic: &str, code: Code) -> KafkaError {
    let remedy = match Kind::of(code) {
        Kind::UnknownTopic => return KafkaError::NoTopic(topic.to_owned()),
        Kind::TopicAuthorization => "grant Read and Describe on it to this user",
        Kind::Connection => "check kafka.brokers, name resolution and the network",
        Kind::Other => "see the brokers' logs",
        kind => kind.remedy(),
    };
    KafkaError::Topic { topic: topic.to_owned(), problem: describe(code), remedy }
}

struct Reading {
    handle: *mut rd::rd_kafka_topic_t,
    queue: NonNull<rd::rd_kafka_queue_t>,
    partitions: Vec<PartitionRead>,
    /// Partitions not yet at their end.
    open: Vec<i32>,
    bytes: u64,
}

impl Reading {
    fn start(client: &Client, handle: *mut rd::rd_kafka_topic_t, topic: &str) -> Result<Self, KafkaError> {
        let mut partitions = Vec::new();
        for partition in partition_ids(client, handle, topic)? {
            let (from, to) = watermarks(client, topic, partition)?;
            partitions.push(PartitionRead { partition, from, to, messages: 0 });
        }
        // SAFETY: the client is valid; the queue is released in Drop.
        let queue = unsafe { rd::rd_kafka_queue_new(client.ptr()) };
        let queue = NonNull::new(queue).ok_or_else(|| KafkaError::Client("no queue".to_owned()))?;
        let mut reading = Reading { handle, queue, partitions, open: Vec::new(), bytes: 0 };
        for read in reading.partitions.iter().filter(|read| read.to > read.from) {
            // SAFETY: handle and queue are valid.
            let failed = unsafe {
                rd::rd_kafka_consume_start_queue(handle, read.partition, read.from, reading.queue.as_ptr())
            };
            if failed != 0 {
                // SAFETY: no precondition.
                let code = unsafe { rd::rd_kafka_last_error() } as Code;
                reading.stop();
                return Err(read_error(topic, code));
            }
            reading.open.push(read.partition);
        }
        Ok(reading)
    }

    fn run(
        &mut self,
        client: &Client,
        topic: &str,
        on_message: &mut dyn FnMut(&TopicMessage<'_>),
    ) -> Result<(), KafkaError> {
        const AT_ONCE: usize = 1024;
        let mut messages = [ptr::null_mut(); AT_ONCE];
        let mut last = Instant::now();
        let mut problem = String::from("no message came for a minute");
        while !self.open.is_empty() {
            // SAFETY: the queue is valid and the array has the size given.
            let count = unsafe {
                rd::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 200, messages.as_mut_ptr(), AT_ONCE)
            };
            let mut outcome = Ok(());
            for &message in &messages[..usize::try_from(count).unwrap_or(0)] {
                if outcome.is_ok() {
                    outcome = self.take(message, topic, on_message);
                }
                // SAFETY: given to us by the call above, and released once.
                unsafe { rd::rd_kafka_message_destroy(message) };
            }
            outcome?;
            while let Some(event) = client.poll(Duration::ZERO) {
                if event.kind() == rd::RD_KAFKA_EVENT_ERROR {
                    problem = event.error().1;
                }
            }
            if count > 0 {
                last = Instant::now();
            } else if last.elapsed() > STALLED {
                return Err(KafkaError::Topic {
                    topic: topic.to_owned(),
                    problem,
                    remedy: "check that all its partitions have a leader, then read again",
                });
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        message: *const rd::rd_kafka_message_t,
        topic: &str,
        on_message: &mut dyn FnMut(&TopicMessage<'_>),
    ) -> Result<(), KafkaError> {
        // SAFETY: the caller's message is valid until it releases it.
        let (code, partition, offset) =
            unsafe { (code_of(message), (*message).partition, (*message).offset) };
        let Some(read) = self.partitions.iter_mut().find(|read| read.partition == partition) else {
            return Ok(());
        };
        let next = match code {
            OK => {
                if offset < read.to {
                    // SAFETY: as above.
                    let message = unsafe { borrow(message) };
                    let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len) as u64;
                    self.bytes += length(message.key) + length(message.payload);
                    read.messages += 1;
                    on_message(&message);
                }
                offset + 1
            }
            // The offset is where the next message will be: all before it was seen or does not exist any more.
            code if code == E::RD_KAFKA_RESP_ERR__PARTITION_EOF as Code => offset,
            code => return Err(read_error(topic, code)),
        };
        if next >= read.to {
            self.close(partition);
        }
        Ok(())
    }

    fn close(&mut self, partition: i32) {
        if let Some(index) = self.open.iter().position(|open| *open == partition) {
            self.open.swap_remove(index);
            // SAFETY: the handle is valid and the partition was started.
            unsafe { rd::rd_kafka_consume_stop(self.handle, partition) };
        }
    }

    fn stop(&mut self) {
        for partition in self.open.clone() {
            self.close(partition);
        }
    }

    fn summary(self) -> ReadSummary {
        let mut this = self;
        let partitions = std::mem::take(&mut this.partitions);
        ReadSummary {
            messages: partitions.iter().map(|read| read.messages).sum(),
            bytes: this.bytes,
            partitions,
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_queue_new and released once.
        unsafe { rd::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// # Safety
/// `message` is valid for `'a`.
unsafe fn borrow<'a>(message: *const rd::rd_kafka_message_t) -> TopicMessage<'a> {
    let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: lengths belong to their pointers, as librdkafka documents.
    unsafe {
        let timestamp = rd::rd_kafka_message_timestamp(message, &raw mut kind);
        TopicMessage {
            partition: (*message).partition,
            offset: (*message).offset,
            key: slice((*message).key.cast(), (*message).key_len),
            payload: slice((*message).payload.cast(), (*message).len),
            headers: headers(message),
            timestamp: (timestamp >= 0).then_some(timestamp),
        }
    }
}

/// # Safety
/// `pointer` is null or has `length` bytes that live for `'a`.
unsafe fn slice<'a>(pointer: *const u8, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!pointer.is_null()).then(|| unsafe { std::slice::from_raw_parts(pointer, length) })
}

/// # Safety
/// `message` is valid for `'a`.
unsafe fn headers<'a>(message: *const rd::rd_kafka_message_t) -> Vec<(&'a str, &'a [u8])> {
    let mut list = ptr::null_mut();
    let mut found = Vec::new();
    // SAFETY: the list and what it points to live as long as the message.
    unsafe {
        if rd::rd_kafka_message_headers(message, &raw mut list) != E::RD_KAFKA_RESP_ERR_NO_ERROR {
            return found;
        }
        loop {
            let (mut name, mut value, mut size) = (ptr::null::<c_char>(), ptr::null(), 0);
            let code =
                rd::rd_kafka_header_get_all(list, found.len(), &raw mut name, &raw mut value, &raw mut size);
            if code != E::RD_KAFKA_RESP_ERR_NO_ERROR {
                return found;
            }
            let name = std::ffi::CStr::from_ptr(name).to_str().unwrap_or_default();
            found.push((name, slice(value.cast(), size).unwrap_or_default()));
        }
    }
}

/// A topic's partitions, in order.
fn partition_ids(
    client: &Client,
    handle: *mut rd::rd_kafka_topic_t,
    topic: &str,
) -> Result<Vec<i32>, KafkaError> {
    let metadata = Metadata::of(client, Some(handle), PATIENCE)?;
    let partitions = metadata.partitions().map_err(|code| read_error(topic, code))?;
    let mut ids: Vec<i32> = partitions.iter().map(|partition| partition.id).collect();
    ids.sort_unstable();
    Ok(ids)
}

fn watermarks(client: &Client, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
    let name =
        CString::new(topic).map_err(|_| topic_error(topic, E::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION as Code))?;
    let (mut low, mut high) = (0, 0);
    let millis = i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: all pointers are valid for the call.
    let code = unsafe {
        rd::rd_kafka_query_watermark_offsets(
            client.ptr(),
            name.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
            millis,
        )
    } as Code;
    if code == OK { Ok((low, high)) } else { Err(read_error(topic, code)) }
}

/// A partition as the brokers describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) id: i32,
    /// Broker that leads it; negative for none.
    pub(crate) leader: i32,
    pub(crate) replicas: i32,
    pub(crate) in_sync: i32,
}

/// The brokers' answer about one topic, or about themselves; released when dropped.
pub(crate) struct Metadata(NonNull<rd::rd_kafka_metadata>);

impl Metadata {
    pub(crate) fn of(
        client: &Client,
        topic: Option<*mut rd::rd_kafka_topic_t>,
        patience: Duration,
    ) -> Result<Self, KafkaError> {
        Self::ask(client, false, topic, patience)
    }

    /// Of all topics.
    pub(crate) fn of_all(client: &Client, patience: Duration) -> Result<Self, KafkaError> {
        Self::ask(client, true, None, patience)
    }

    fn ask(
        client: &Client,
        all: bool,
        topic: Option<*mut rd::rd_kafka_topic_t>,
        patience: Duration,
    ) -> Result<Self, KafkaError> {
        let mut metadata = ptr::null();
        let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the handles are valid.
        let code = unsafe {
            rd::rd_kafka_metadata(
                client.ptr(),
                all.into(),
                topic.unwrap_or(ptr::null_mut()),
                &raw mut metadata,
                millis,
            )
        } as Code;
        NonNull::new(metadata.cast_mut())
            .filter(|_| code == OK)
            .map(Metadata)
            .ok_or_else(|| unreachable(client, code))
    }

    /// How many brokers there are.
    pub(crate) fn brokers(&self) -> i32 {
        // SAFETY: valid until dropped.
        unsafe { self.0.as_ref() }.broker_cnt
    }

    /// The topics that were asked about, by name.
    pub(crate) fn topics(&self) -> Vec<String> {
        // SAFETY: valid until dropped; the count belongs to its pointer.
        unsafe {
            let metadata = self.0.as_ref();
            let count = usize::try_from(metadata.topic_cnt).unwrap_or(0);
            (0..count).map(|index| text((*metadata.topics.add(index)).topic)).collect()
        }
    }

    /// The partitions of the topic that was asked about, or why there are none.
    pub(crate) fn partitions(&self) -> Result<Vec<Partition>, Code> {
        let unknown = E::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC as Code;
        // SAFETY: counts belong to their pointers; errors are read as the numbers they are.
        unsafe {
            let metadata = self.0.as_ref();
            if metadata.topic_cnt < 1 {
                return Err(unknown);
            }
            let topic = metadata.topics;
            let code = (&raw const (*topic).err).cast::<Code>().read();
            if code != OK {
                return Err(code);
            }
            let count = usize::try_from((*topic).partition_cnt).unwrap_or(0);
            let partition = |index: usize| {
                let partition = (*topic).partitions.add(index);
                Partition {
                    id: (*partition).id,
                    leader: (*partition).leader,
                    replicas: (*partition).replica_cnt,
                    in_sync: (*partition).isr_cnt,
                }
            };
            if count == 0 { Err(unknown) } else { Ok((0..count).map(partition).collect()) }
        }
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        // SAFETY: given to us by rd_kafka_metadata and released once.
        unsafe { rd::rd_kafka_metadata_destroy(self.0.as_ptr()) };
    }
}

/// The brokers did not answer: with what librdkafka said in the meantime, which is more than the code.
fn unreachable(client: &Client, code: Code) -> KafkaError {
    let mut kind = Kind::of(code);
    let mut problem = describe(code);
    while let Some(event) = client.poll(Duration::ZERO) {
        if event.kind() == rd::RD_KAFKA_EVENT_ERROR {
            let (code, text, _) = event.error();
            // That all are down is the least of what there is to say.
            if code != E::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN as Code {
                (kind, problem) = (Kind::of(code), text);
            }
        }
    }
    // SAFETY: the client is valid; the name lives as long as it.
    let client = text(unsafe { rd::rd_kafka_name(client.ptr()) });
    KafkaError::Unreachable { client, problem, remedy: kind.remedy() }
}
