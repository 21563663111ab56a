//! Records as shippers send them.
//!
//! A [`Batch`](taffrail_record::Batch) becomes messages in one arena, in one pass: the constant part of a container's
//! records is rendered once and copied, times share their text up to the second, and the message is escaped
//! 32 bytes at a look. JSON has the field names that Filebeat's Kubernetes and Docker inputs write (ECS), so that its
//! consumers work unchanged:
//!
//! ```json
//! {"@timestamp":"2026-11-21T10:11:12.000000001Z","message":"hello","stream":"stdout",
//!  "log":{"offset":0,"length":51,"file":{"path":"/var/log/pods/.../0.log","fingerprint":"00..07"}},
//!  "kubernetes":{"namespace":"shop","pod":{"name":"web-0"},"container":{"name":"web"}}}
//! ```
//!
//! `log.file.fingerprint` and `log.offset` together are the record's id: a consumer that has seen the pair may drop
//! the repeat. `log.length` is how many bytes of the file the record stands for, framing included, so the ranges of a
//! file's records tile the file; a record of several pieces lists them in `log.fragments`.
//!
//! Raw records are the message's bytes alone. Their header [`RECORD_HEADER`] has the same facts as words, those that
//! differ least first and numbers padded with zeros, because that compresses best and headers cost more than bytes:
//!
//! ```text
//! 00000000000000000000000000000007 stdout 2026-11-21T10:11:12.000000001Z 0000000000000 0000051
//! (fingerprint)                   (stream) (time)                       (offset)      (length)
//! ```
//!
//! The stream is `-` when there is none. Few records have more words: `flags=truncated,oversize`,
//! `truncated_bytes=17`, `fragments=<fingerprint>:<offset>:<length>,...`.
//!
//! Nothing is lost in encoding. What is not valid UTF-8 shows as U+FFFD in `message`, is flagged `invalid_utf8`, and
//! stands whole in `log.original` as base64.

mod config;
mod constants;
mod digits;
mod encode;
mod escape;
mod head;
mod locate;
mod oversize;

pub use config::{Encoding, EnvelopeConfig, Fields};
pub use constants::{Constants, FieldError, check_field};
pub use digits::utc;
pub use encode::{Encoded, Encoder, Message};
pub use locate::{LocateError, Located, locate_json, locate_raw};
pub use oversize::{Cut, cut};

/// Kafka header of a raw record: what its container's records have in common, as JSON. Only with full fields.
pub const ORIGIN_HEADER: &str = "taffrail.origin";
/// Kafka header of a raw record: its file, stream, time and place, as this page says.
pub const RECORD_HEADER: &str = "taffrail.record";
