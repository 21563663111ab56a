//! The few calls into librdkafka, each behind a safe function.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaRespErr;

use crate::KafkaError;
use crate::codes::{Code, OK};
use crate::flight::{Flight, UNASSIGNED};
use crate::properties::{self, PARTITIONER};

/// Name under which the headers' interceptor is registered.
const INTERCEPTOR: &CStr = c"taffrail";

/// Which side of Kafka a client is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Whether its messages have headers: looking for those costs time for each message.
    Producer {
        headers: bool,
    },
    Consumer,
}

/// A librdkafka instance, destroyed when dropped.
#[derive(Debug)]
pub(crate) struct Client {
    instance: NonNull<rd::rd_kafka_t>,
    /// Whether it is told where its messages go.
    observes: bool,
}

// SAFETY: librdkafka's instances may be used from any thread, several at a time.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// An instance whose events of the kinds `events` (RD_KAFKA_EVENT_*) come on its main queue.
    pub(crate) fn new(side: Side, config: &ClientConfig, events: i32) -> Result<Self, KafkaError> {
        let native = ManuallyDrop::new(properties::native(config)?);
        let mut error = [0 as c_char; 512];
        let kind = match side {
            Side::Producer { .. } => rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
            Side::Consumer => rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
        };
        // SAFETY: the configuration is valid, and on success belongs to the instance.
        let client = unsafe {
            rd::rd_kafka_conf_set_events(native.ptr(), events);
            if side == (Side::Producer { headers: true }) {
                let name = INTERCEPTOR.as_ptr();
                rd::rd_kafka_conf_interceptor_add_on_new(native.ptr(), name, Some(on_new), ptr::null_mut());
            }
            rd::rd_kafka_new(kind, native.ptr(), error.as_mut_ptr(), error.len())
        };
        let Some(client) = NonNull::new(client) else {
            drop(ManuallyDrop::into_inner(native));
            return Err(KafkaError::Client(text(error.as_ptr())));
        };
        let observes = side != Side::Consumer && config.get("partitioner") == Some(PARTITIONER);
        let client = Client { instance: client, observes };
        // SAFETY: the instance is valid; null means its main queue.
        unsafe { rd::rd_kafka_set_log_queue(client.ptr(), ptr::null_mut()) };
        Ok(client)
    }

    pub(crate) fn ptr(&self) -> *mut rd::rd_kafka_t {
        self.instance.as_ptr()
    }

    /// Waits until what was produced is on its way to be reported; lingering ends at once.
    pub(crate) fn flush(&self, patience: Duration) {
        let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the instance is valid.
        unsafe { rd::rd_kafka_flush(self.ptr(), millis) };
    }

    /// Makes every message that is not delivered yet come back with an error.
    pub(crate) fn purge(&self) {
        let all = rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_INFLIGHT;
        // SAFETY: the instance is valid.
        unsafe { rd::rd_kafka_purge(self.ptr(), all) };
    }

    /// The error after which this producer delivers nothing any more.
    pub(crate) fn fatal_error(&self) -> Option<String> {
        let mut reason = [0 as c_char; 512];
        // SAFETY: the instance is valid and the buffer has the length given.
        let error = unsafe { rd::rd_kafka_fatal_error(self.ptr(), reason.as_mut_ptr(), reason.len()) };
        (error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| text(reason.as_ptr()))
    }

    /// The next event, if one comes in time.
    pub(crate) fn poll(&self, patience: Duration) -> Option<Event> {
        let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is released after the poll; the event belongs to whoever receives it.
        let event = unsafe {
            let queue = rd::rd_kafka_queue_get_main(self.ptr());
            let event = rd::rd_kafka_queue_poll(queue, millis);
            rd::rd_kafka_queue_destroy(queue);
            event
        };
        NonNull::new(event).map(Event)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: created by rd_kafka_new and destroyed once.
        unsafe { rd::rd_kafka_destroy(self.ptr()) };
    }
}

/// What librdkafka has to say, destroyed when dropped.
pub(crate) struct Event(NonNull<rd::rd_kafka_event_t>);

impl Event {
    pub(crate) fn kind(&self) -> i32 {
        // SAFETY: the event is valid.
        unsafe { rd::rd_kafka_event_type(self.0.as_ptr()) }
    }

    /// Calls `report` with (opaque, address of the value, its length, error) of each message of a delivery report.
    /// Headers, which messages have where `headers` says so, stay their flight's.
    pub(crate) fn reports(&mut self, headers: bool, mut report: impl FnMut(*mut Flight, usize, usize, Code)) {
        const AT_ONCE: usize = 512;
        let mut messages = [ptr::null(); AT_ONCE];
        loop {
            // SAFETY: the array has the size given; the messages live as long as the event.
            let count =
                unsafe { rd::rd_kafka_event_message_array(self.0.as_ptr(), messages.as_mut_ptr(), AT_ONCE) };
            for &message in &messages[..count] {
                let message: *const rd::rd_kafka_message_t = message;
                // SAFETY: librdkafka filled the first `count` places with valid messages.
                unsafe {
                    if headers {
                        let mut list = ptr::null_mut();
                        rd::rd_kafka_message_detach_headers(message.cast_mut(), &raw mut list);
                    }
                    let (value, length) = ((*message).payload.addr(), (*message).len);
                    report((*message)._private.cast(), value, length, code_of(message));
                }
            }
            if count < AT_ONCE {
                return;
            }
        }
    }

    /// An error event's code and text, and whether it is fatal.
    pub(crate) fn error(&self) -> (Code, String, bool) {
        let event = self.0.as_ptr();
        // SAFETY: the event is valid; the text lives as long as it.
        unsafe {
            let fatal = rd::rd_kafka_event_error_is_fatal(event) != 0;
            (rd::rd_kafka_event_error(event) as Code, text(rd::rd_kafka_event_error_string(event)), fatal)
        }
    }

    /// A log event's facility, text and syslog level.
    pub(crate) fn log(&self) -> Option<(String, String, i32)> {
        let (mut facility, mut message, mut level) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the event is valid, and on success the texts live as long as it.
        unsafe {
            let failed =
                rd::rd_kafka_event_log(self.0.as_ptr(), &raw mut facility, &raw mut message, &raw mut level);
            (failed == 0).then(|| (text(facility), text(message), level))
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: given to us by rd_kafka_queue_poll, and destroyed once.
        unsafe { rd::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// The topics of one client by name; dropped before the client.
#[derive(Debug, Default)]
pub(crate) struct Topics(HashMap<String, NonNull<rd::rd_kafka_topic_t>>);

// SAFETY: topic handles may be used from any thread.
unsafe impl Send for Topics {}

impl Topics {
    pub(crate) fn get(&mut self, client: &Client, name: &str) -> Result<*mut rd::rd_kafka_topic_t, Code> {
        if let Some(topic) = self.0.get(name) {
            return Ok(topic.as_ptr());
        }
        let invalid = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION as Code;
        let c_name = CString::new(name).map_err(|_| invalid)?;
        // SAFETY: the client and the name are valid; the topic takes its configuration over.
        let topic = unsafe {
            let config = if client.observes { observed(client) } else { ptr::null_mut() };
            rd::rd_kafka_topic_new(client.ptr(), c_name.as_ptr(), config)
        };
        let topic = NonNull::new(topic).ok_or(invalid)?;
        self.0.insert(name.to_owned(), topic);
        Ok(topic.as_ptr())
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        for topic in self.0.values() {
            // SAFETY: created by rd_kafka_topic_new and released once.
            unsafe { rd::rd_kafka_topic_destroy(topic.as_ptr()) };
        }
    }
}

/// Asks the brokers about a topic, so that the client forgets that it did not exist or could not be used.
pub(crate) fn refresh(client: &Client, topic: *mut rd::rd_kafka_topic_t, patience: Duration) {
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let mut metadata = ptr::null();
    // SAFETY: both handles are valid; what was returned is released.
    unsafe {
        rd::rd_kafka_metadata(client.ptr(), 0, topic, &raw mut metadata, millis);
        if !metadata.is_null() {
            rd::rd_kafka_metadata_destroy(metadata);
        }
    }
}

/// Launches a flight's messages into `topic`. Returns it when all its reports came already (all failed at once, or
/// were delivered in the meantime); otherwise the delivery thread has it.
pub(crate) fn launch(
    topic: *mut rd::rd_kafka_topic_t,
    flight: Box<Flight>,
    scratch: &mut Scratch,
) -> Option<Box<Flight>> {
    let mut flight = flight;
    flight.write_headers();
    flight.expect(flight.pending());
    let flight = Box::into_raw(flight);
    // SAFETY: the flight stays alive at least until the last report, which includes the one owed below.
    let failed = unsafe { produce_batch(topic, flight, scratch) };
    // SAFETY: as above. When this was the last report, nobody else has the pointer any more.
    unsafe { (*flight).reported(failed + 1).then(|| Box::from_raw(flight)) }
}

/// Memory for calls that is kept between them.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Vec<rd::rd_kafka_message_t>);

// SAFETY: the pointers inside mean nothing between calls.
unsafe impl Send for Scratch {}

/// # Safety
/// `flight` is launched and its last report outstanding.
unsafe fn produce_batch(
    topic: *mut rd::rd_kafka_topic_t,
    flight: *mut Flight,
    scratch: &mut Scratch,
) -> usize {
    let messages = &mut scratch.0;
    messages.clear();
    // SAFETY: shared reads; the arena is only lent to librdkafka, which reads it.
    let this: &Flight = unsafe { &*flight };
    messages.extend(this.messages().map(|(_, message)| rd::rd_kafka_message_t {
        err: RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR,
        rkt: ptr::null_mut(),
        partition: UNASSIGNED,
        payload: this.encoded.data[message.value.start..].as_ptr().cast_mut().cast(),
        len: message.value.len(),
        key: this.key.as_ptr().cast_mut().cast(),
        key_len: this.key.len(),
        offset: 0,
        _private: flight.cast(),
    }));
    // All have one key, so where the first goes all go: asking about each takes a third of the call.
    let one = messages.len().min(1);
    let (first, rest) = messages.split_at_mut(one);
    // SAFETY: values outlive their reports, keys are copied by the call.
    let taken = unsafe { produce(topic, UNASSIGNED, first) + produce(topic, this.partition(), rest) };
    if taken == messages.len() {
        return 0;
    }
    // SAFETY: the elements are initialised.
    let code = |message| unsafe { code_of(message) };
    let mut refused = 0;
    for ((index, _), message) in this.messages().zip(messages.iter()) {
        if code(message) != OK {
            this.headers.refused(index as usize);
            this.fail(index, code(message));
            refused += 1;
        }
    }
    refused
}

/// How many messages were taken.
///
/// # Safety
/// The topic is valid, and the values of the messages stay until they are reported.
unsafe fn produce(
    topic: *mut rd::rd_kafka_topic_t,
    partition: i32,
    messages: &mut [rd::rd_kafka_message_t],
) -> usize {
    let count = i32::try_from(messages.len()).unwrap_or(i32::MAX);
    // SAFETY: the array has `count` elements; the rest by the caller.
    let taken = unsafe { rd::rd_kafka_produce_batch(topic, partition, 0, messages.as_mut_ptr(), count) };
    usize::try_from(taken).unwrap_or(0)
}

/// Called by librdkafka for each new message, while the launching call runs: the place for headers, which
/// `rd_kafka_produce_batch` has no argument for.
unsafe extern "C" fn on_send(
    _client: *mut rd::rd_kafka_t,
    message: *mut rd::rd_kafka_message_t,
    _opaque: *mut c_void,
) -> RDKafkaRespErr {
    // SAFETY: the opaque of our messages is their flight, which lives at least until its last report; the headers are
    // lent to the message until then.
    unsafe {
        let flight: &Flight = &*(*message)._private.cast();
        if let Some(headers) = flight.headers.lend(flight.message_at((*message).payload.addr())) {
            rd::rd_kafka_message_set_headers(message, headers.as_ptr());
        }
    }
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// The configuration of a topic whose partitioner tells flights what it decided.
///
/// # Safety
/// The client is valid.
unsafe fn observed(client: &Client) -> *mut rd::rd_kafka_topic_conf_t {
    // SAFETY: by the caller; the function is there as long as the program.
    unsafe {
        let config = rd::rd_kafka_default_topic_conf_dup(client.ptr());
        rd::rd_kafka_topic_conf_set_partitioner_cb(config, Some(partition));
        config
    }
}

/// The partitioner: that of Java clients, so that other producers with the same key meet ours.
unsafe extern "C" fn partition(
    topic: *const rd::rd_kafka_topic_t,
    key: *const c_void,
    key_length: usize,
    partitions: i32,
    topic_opaque: *mut c_void,
    flight: *mut c_void,
) -> i32 {
    // SAFETY: the arguments are passed on as they came; the opaque of our messages is their flight, which lives at
    // least until its last report, and a message without a partition has none yet.
    unsafe {
        let partition = rd::rd_kafka_msg_partitioner_murmur2_random(
            topic,
            key,
            key_length,
            partitions,
            topic_opaque,
            flight,
        );
        (*flight.cast::<Flight>()).put_into(partition);
        partition
    }
}

/// Called by librdkafka when an instance is made.
unsafe extern "C" fn on_new(
    client: *mut rd::rd_kafka_t,
    _config: *const rd::rd_kafka_conf_t,
    _opaque: *mut c_void,
    _error: *mut c_char,
    _size: usize,
) -> RDKafkaRespErr {
    // SAFETY: the instance is valid, and the function is there as long as the program.
    unsafe {
        rd::rd_kafka_interceptor_add_on_send(client, INTERCEPTOR.as_ptr(), Some(on_send), ptr::null_mut())
    }
}

/// A message's error. Read as the number it is: a broker may send codes that the bindings' enum does not have.
///
/// # Safety
/// `message` is valid.
pub(crate) unsafe fn code_of(message: *const rd::rd_kafka_message_t) -> Code {
    // SAFETY: the field is a C enum, which is an int.
    unsafe { (&raw const (*message).err).cast::<Code>().read() }
}

/// A text of librdkafka; empty for null.
pub(crate) fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka's texts end in NUL and live for the call.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
