//! The floor that speed is measured against: messages that exist already, through a bare `rd_kafka_produce_batch` loop
//! with the shipper's own settings, counting deliveries and nothing else.
//!
//! `floor BROKERS FROM TO COUNT`: reads messages of topic FROM into memory (64 MiB at most, headers left out), then
//! sends COUNT messages into topic TO, over and over the same. Prints one JSON object with the resources that the
//! sending took. `cargo bench -p taffrail-benches --bench shootout` runs it.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::process::ExitCode;
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use taffrail_kafka::{KafkaConfig, producer_properties, read_topic};

/// Bytes of a batch: what the agent reads from one file at a time.
const BATCH: usize = 128 << 10;
/// Bytes that are kept of the source topic.
const KEPT: usize = 64 << 20;
/// Messages on their way: more would only cost memory.
const WINDOW: usize = 60_000;

type Failure = Box<dyn std::error::Error>;

/// Messages of one key.
#[derive(Default)]
struct Batch {
    key: Vec<u8>,
    data: Vec<u8>,
    values: Vec<Range<usize>>,
}

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let [brokers, from, to, count] = arguments else {
        return Err("usage: floor BROKERS FROM TO COUNT".into());
    };
    let config = KafkaConfig { brokers: vec![brokers.clone()], ..KafkaConfig::default() };
    let batches = load(&config, from)?;
    if batches.is_empty() {
        return Err(format!("topic {from} is empty").into());
    }
    let mut floor = Floor::new(&config, to)?;
    let (start, before) = (Instant::now(), processor_seconds());
    let mut left: usize = count.parse()?;
    for batch in batches.iter().cycle() {
        let some = left.min(batch.values.len());
        floor.send(batch, some)?;
        left -= some;
        if left == 0 {
            break;
        }
    }
    floor.wait(0)?;
    let (cpu, seconds) = (processor_seconds() - before, start.elapsed().as_secs_f64());
    println!("{{\"cpu_seconds\":{cpu:.3},\"seconds\":{seconds:.3}}}");
    Ok(())
}

fn load(config: &KafkaConfig, topic: &str) -> Result<Vec<Batch>, Failure> {
    let mut open: BTreeMap<Vec<u8>, Batch> = BTreeMap::new();
    let mut full = Vec::new();
    let mut kept = 0;
    read_topic(config, topic, |message| {
        let (key, value) = (message.key.unwrap_or_default(), message.payload.unwrap_or_default());
        if kept >= KEPT {
            return;
        }
        kept += value.len();
        let batch =
            open.entry(key.to_vec()).or_insert_with(|| Batch { key: key.to_vec(), ..Batch::default() });
        let begin = batch.data.len();
        batch.data.extend_from_slice(value);
        batch.values.push(begin..batch.data.len());
        if batch.data.len() >= BATCH {
            full.push(std::mem::take(batch));
            batch_key(&mut open, key);
        }
    })?;
    full.extend(open.into_values().filter(|batch| !batch.values.is_empty()));
    Ok(full)
}

fn batch_key(open: &mut BTreeMap<Vec<u8>, Batch>, key: &[u8]) {
    open.insert(key.to_vec(), Batch { key: key.to_vec(), ..Batch::default() });
}

struct Floor {
    client: *mut rd::rd_kafka_t,
    queue: *mut rd::rd_kafka_queue_t,
    topic: *mut rd::rd_kafka_topic_t,
    messages: Vec<rd::rd_kafka_message_t>,
    flying: usize,
}

impl Floor {
    fn new(config: &KafkaConfig, topic: &str) -> Result<Self, Failure> {
        let native = ManuallyDrop::new(producer_properties(config)?.create_native_config()?);
        let name = CString::new(topic)?;
        let mut error = [0 as c_char; 512];
        // SAFETY: the configuration is valid and belongs to the instance from then on; the process ends with it.
        unsafe {
            rd::rd_kafka_conf_set_events(native.ptr(), rd::RD_KAFKA_EVENT_DR);
            let kind = rd::rd_kafka_type_t::RD_KAFKA_PRODUCER;
            let client = rd::rd_kafka_new(kind, native.ptr(), error.as_mut_ptr(), error.len());
            if client.is_null() {
                return Err("librdkafka makes no producer".into());
            }
            let queue = rd::rd_kafka_queue_get_main(client);
            let topic = rd::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut());
            Ok(Floor { client, queue, topic, messages: Vec::new(), flying: 0 })
        }
    }

    fn send(&mut self, batch: &Batch, count: usize) -> Result<(), Failure> {
        self.messages.clear();
        self.messages.extend(batch.values[..count].iter().map(|value| rd::rd_kafka_message_t {
            err: rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: ptr::null_mut(),
            partition: -1,
            payload: batch.data[value.start..].as_ptr().cast_mut().cast(),
            len: value.len(),
            key: batch.key.as_ptr().cast_mut().cast(),
            key_len: batch.key.len(),
            offset: 0,
            _private: ptr::null_mut(),
        }));
        let count = i32::try_from(self.messages.len())?;
        // SAFETY: the batches outlive the client; keys are copied.
        let taken =
            unsafe { rd::rd_kafka_produce_batch(self.topic, -1, 0, self.messages.as_mut_ptr(), count) };
        if taken != count {
            return Err("the producer refused a message".into());
        }
        self.flying += self.messages.len();
        self.wait(WINDOW)
    }

    /// Takes reports until no more than `most` messages are on their way.
    fn wait(&mut self, most: usize) -> Result<(), Failure> {
        const STALLED: Duration = Duration::from_secs(60);
        let start = Instant::now();
        let mut patience = 0;
        loop {
            // SAFETY: the queue is valid; the event is destroyed once.
            unsafe {
                let event = rd::rd_kafka_queue_poll(self.queue, patience);
                if rd::rd_kafka_event_type(event) == rd::RD_KAFKA_EVENT_DR {
                    self.flying -= rd::rd_kafka_event_message_count(event);
                    for message in messages(event) {
                        if (*message).err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                            return Err("a message was not delivered".into());
                        }
                    }
                }
                if !event.is_null() {
                    rd::rd_kafka_event_destroy(event);
                }
            }
            if self.flying <= most {
                return Ok(());
            }
            if start.elapsed() > STALLED {
                return Err(format!("{} messages are not delivered", self.flying).into());
            }
            patience = 100;
        }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // SAFETY: each was made once and is released once, the client last.
        unsafe {
            rd::rd_kafka_topic_destroy(self.topic);
            rd::rd_kafka_queue_destroy(self.queue);
            rd::rd_kafka_destroy(self.client);
        }
    }
}

/// # Safety
/// The event is valid as long as the messages are used.
unsafe fn messages(event: *mut rd::rd_kafka_event_t) -> impl Iterator<Item = *const rd::rd_kafka_message_t> {
    std::iter::from_fn(move || {
        // SAFETY: by the caller.
        let message = unsafe { rd::rd_kafka_event_message_next(event) };
        (!message.is_null()).then_some(message)
    })
}

fn processor_seconds() -> f64 {
    // SAFETY: all zero is a valid value, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
