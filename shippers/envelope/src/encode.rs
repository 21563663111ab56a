//! One pass from a batch to encoded messages in one arena.

use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use taffrail_record::{Batch, Extra, Flags, Payload, Record, Stream};

use crate::constants::{Cache, Constants};
use crate::digits::{Clock, write_number};
use crate::escape::escape;
use crate::{Encoding, EnvelopeConfig, head};

/// One encoded record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The value's bytes in [`Encoded::data`].
    pub value: Range<usize>,
    /// Raw encoding: the bytes in [`Encoded::data`] of the header `taffrail.record`; empty otherwise.
    pub head: Range<usize>,
    /// Index into the batch's records.
    pub record: u32,
}

/// The messages of one batch. Reuse it: clearing keeps its memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// All bytes.
    pub data: Vec<u8>,
    /// One per record, in the batch's order.
    pub messages: Vec<Message>,
}

impl Encoded {
    /// Forgets the messages and keeps the memory.
    pub fn clear(&mut self) {
        self.data.clear();
        self.messages.clear();
    }
}

/// Encodes batches.
#[derive(Debug)]
pub struct Encoder {
    config: EnvelopeConfig,
    terminator: &'static [u8],
    cache: Cache,
    clock: Clock,
}

impl Encoder {
    /// An encoder that writes what `config` says.
    #[must_use]
    pub fn new(config: EnvelopeConfig) -> Self {
        Encoder { config, terminator: b"", cache: Cache::default(), clock: Clock::new() }
    }

    /// Puts a newline after each value (not part of its range), so that [`Encoded::data`] is NDJSON.
    #[must_use]
    pub fn with_newlines(mut self) -> Self {
        self.terminator = b"\n";
        self
    }

    /// The configuration it was made with.
    #[must_use]
    pub fn config(&self) -> &EnvelopeConfig {
        &self.config
    }

    /// Appends the messages of `batch` to `into` and returns what they have in common. What is a document already passes as it is.
    pub fn encode(&mut self, batch: &Batch, into: &mut Encoded) -> Arc<Constants> {
        let constants = self.cache.get(&self.config, &batch.origin, &batch.source);
        into.messages.reserve(batch.records.len());
        // A good guess spares the arena its doublings; long escapes only make it wrong, not unsafe.
        into.data.reserve(batch.data.len() + batch.records.len() * self.overhead(&constants));
        for (record, index) in batch.records.iter().zip(0..) {
            let body = batch.body(record);
            let begin = into.data.len();
            let mut head = begin..begin;
            match (batch.payload, self.config.encoding) {
                (Payload::Statement | Payload::Event | Payload::Audit, _) => {
                    into.data.extend_from_slice(body);
                }
                (Payload::Line, Encoding::Json) => self.json(&mut into.data, record, body, &constants.tail),
                (Payload::Line, Encoding::Raw) => {
                    head::write(&mut into.data, &mut self.clock, record, &constants.head_start);
                    head.end = into.data.len();
                    into.data.extend_from_slice(body);
                }
            }
            into.messages.push(Message { value: head.end..into.data.len(), head, record: index });
            into.data.extend_from_slice(self.terminator);
        }
        constants
    }

    fn overhead(&self, constants: &Constants) -> usize {
        const VARYING: usize = 128;
        match self.config.encoding {
            Encoding::Json => constants.tail.len() + VARYING,
            Encoding::Raw => VARYING,
        }
    }

    fn json(&mut self, out: &mut Vec<u8>, record: &Record, body: &[u8], tail: &[u8]) {
        out.extend_from_slice(b"{\"@timestamp\":\"");
        self.clock.write(out, record.time);
        out.extend_from_slice(b"\",\"message\":\"");
        let valid = escape(out, body);
        out.extend_from_slice(match record.stream {
            Stream::None => b"\",\"log\":{\"offset\":",
            Stream::Stdout => b"\",\"stream\":\"stdout\",\"log\":{\"offset\":",
            Stream::Stderr => b"\",\"stream\":\"stderr\",\"log\":{\"offset\":",
        });
        write_number(out, record.span.start);
        out.extend_from_slice(b",\"length\":");
        write_number(out, record.length());
        if !valid || !record.flags.is_empty() {
            let invalid = if valid { Flags::NONE } else { Flags::INVALID_UTF8 };
            write_flags(out, record.flags | invalid);
        }
        if !valid {
            out.extend_from_slice(b",\"original\":\"");
            out.extend_from_slice(STANDARD.encode(body).as_bytes());
            out.push(b'"');
        }
        if let Some(extra) = &record.extra {
            write_extra(out, extra);
        }
        out.extend_from_slice(tail);
    }
}

fn write_flags(out: &mut Vec<u8>, flags: Flags) {
    out.extend_from_slice(b",\"flags\":");
    for (index, name) in flags.names().enumerate() {
        out.extend_from_slice(if index == 0 { b"[\"" } else { b",\"" });
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
    }
    out.push(b']');
}

fn write_extra(out: &mut Vec<u8>, extra: &Extra) {
    for (index, fragment) in extra.fragments.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"fragments\":[" } else { b"," });
        out.extend_from_slice(format!("{{\"fingerprint\":\"{}\",\"offset\":", fragment.file).as_bytes());
        write_number(out, fragment.span.start);
        out.extend_from_slice(b",\"length\":");
        write_number(out, fragment.span.len());
        out.push(b'}');
    }
    if !extra.fragments.is_empty() {
        out.push(b']');
    }
    if extra.cut > 0 {
        out.extend_from_slice(b",\"truncated_bytes\":");
        write_number(out, extra.cut);
    }
}
