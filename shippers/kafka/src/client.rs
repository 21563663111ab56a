//! The few calls into librdkafka, each behind a safe function.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaRespErr;
use taffrail_envelope::{ORIGIN_HEADER, RECORD_HEADER};

use crate::codes::{Code, OK};
use crate::flight::Flight;
use crate::{KafkaError, properties};

/// Partition of a message whose key decides (RD_KAFKA_PARTITION_UA).
const UNASSIGNED: i32 = -1;

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
pub(crate) struct Client(NonNull<rd::rd_kafka_t>);

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
        let client = Client(client);
        // SAFETY: the instance is valid; null means its main queue.
        unsafe { rd::rd_kafka_set_log_queue(client.ptr(), ptr::null_mut()) };
        Ok(client)
    }

    pub(crate) fn ptr(&self) -> *mut rd::rd_kafka_t {
        self.0.as_ptr()
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
    pub(crate) fn reports(&mut self, mut report: impl FnMut(*mut Flight, usize, usize, Code)) {
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
        // SAFETY: the client and the name are valid; no topic configuration means the client's.
        let topic = unsafe { rd::rd_kafka_topic_new(client.ptr(), c_name.as_ptr(), ptr::null_mut()) };
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
    let count = flight.pending();
    flight.expect(count);
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
    let count = i32::try_from(messages.len()).unwrap_or(i32::MAX);
    // SAFETY: the array has `count` elements; values outlive their reports, keys are copied by the call.
    let taken = unsafe { rd::rd_kafka_produce_batch(topic, UNASSIGNED, 0, messages.as_mut_ptr(), count) };
    if taken == count {
        return 0;
    }
    let mut failed = 0;
    for ((index, _), message) in this.messages().zip(messages.iter()) {
        // SAFETY: the element is initialised.
        let code = unsafe { code_of(message) };
        if code != OK {
            this.fail(index, code);
            failed += 1;
        }
    }
    failed
}

/// Called by librdkafka for each new message, while the launching call runs: the place for headers, which
/// `rd_kafka_produce_batch` has no argument for.
unsafe extern "C" fn on_send(
    _client: *mut rd::rd_kafka_t,
    message: *mut rd::rd_kafka_message_t,
    _opaque: *mut c_void,
) -> RDKafkaRespErr {
    // SAFETY: the opaque of our messages is their flight, which lives at least until its last report; names and values
    // are copied up to the length given; the headers belong to the message from then on.
    unsafe {
        let flight: &Flight = &*(*message)._private.cast();
        if let Some(head) = flight.head_at((*message).payload.addr()) {
            let origin = &flight.constants.header;
            let headers = rd::rd_kafka_headers_new(1 + usize::from(!origin.is_empty()));
            if !origin.is_empty() {
                add_header(headers, ORIGIN_HEADER, origin);
            }
            add_header(headers, RECORD_HEADER, head);
            rd::rd_kafka_message_set_headers(message, headers);
        }
    }
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
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

/// # Safety
/// `headers` is valid.
unsafe fn add_header(headers: *mut rd::rd_kafka_headers_t, name: &str, value: &[u8]) {
    // SAFETY: lengths are given, so nothing needs to end in NUL; both are copied.
    unsafe {
        rd::rd_kafka_header_add(
            headers,
            name.as_ptr().cast(),
            name.len().cast_signed(),
            value.as_ptr().cast(),
            value.len().cast_signed(),
        );
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
