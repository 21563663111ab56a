//! A batch: one origin's records over one buffer, decoded in place.

use std::ops::{BitOr, BitOrAssign, Range};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{FileId, LossReason, Origin, Receipt, Source, Span};

/// Which of a container's streams a line was printed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Stream {
    /// A file that has no streams.
    #[default]
    None,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The value of the `stream` field; empty for [`Stream::None`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::None => "",
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// What is special about a record; each set flag appears by name in `log.flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u16);

impl Flags {
    /// Nothing special.
    pub const NONE: Flags = Flags(0);
    /// The line was longer than the limit and was cut; `Extra::cut` says by how many bytes.
    pub const TRUNCATED: Flags = Flags(1);
    /// The line had not ended (no newline, or no final part) when it was delivered.
    pub const PARTIAL: Flags = Flags(1 << 1);
    /// The line did not have the expected format and is delivered as it stands.
    pub const CORRUPT: Flags = Flags(1 << 2);
    /// The line ended in CR LF; neither is part of the message.
    pub const CRLF: Flags = Flags(1 << 3);
    /// The message is not valid UTF-8. Set by the encoder.
    pub const INVALID_UTF8: Flags = Flags(1 << 4);
    /// The record was cut further because the far side refused its size.
    pub const OVERSIZE: Flags = Flags(1 << 5);
    /// The log gave no time that could be read; the time is when the line was read.
    pub const TIME_OF_READ: Flags = Flags(1 << 6);
    /// Several physical lines make up this record.
    pub const MULTILINE: Flags = Flags(1 << 7);

    const NAMES: [(Flags, &'static str); 8] = [
        (Flags::TRUNCATED, "truncated"),
        (Flags::PARTIAL, "partial"),
        (Flags::CORRUPT, "corrupt"),
        (Flags::CRLF, "crlf"),
        (Flags::INVALID_UTF8, "invalid_utf8"),
        (Flags::OVERSIZE, "oversize"),
        (Flags::TIME_OF_READ, "time_of_read"),
        (Flags::MULTILINE, "multiline"),
    ];

    /// Whether no flag is set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other`'s flags are set.
    #[must_use]
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Names of the set flags, in a fixed order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

/// A piece of a file that is part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// The file it lies in; not always the batch's, when a line was split over a rotation.
    pub file: FileId,
    /// Its bytes there.
    pub span: Span,
}

/// What few records have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extra {
    /// All pieces in order when there are several; empty when `Record::span` is the only one.
    pub fragments: Vec<Fragment>,
    /// Content bytes that were cut off because the line was too long.
    pub cut: u64,
    /// The id of a document ([`Payload::Event`], [`Payload::Audit`]): the same for the same observation whoever sends it and however often, so
    /// that a search engine keeps it once. Up to 512 bytes; none for lines and statements.
    pub id: Option<Box<str>>,
}

/// One record: where its body is in the batch's buffer, where its bytes are in the file, and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The body's bytes in [`Batch::data`].
    pub body: Range<u32>,
    /// The bytes of the batch's file that this record stands for, framing and newline included. When there are
    /// several fragments, the last of them.
    pub span: Span,
    /// Nanoseconds since the Unix epoch, from the log itself.
    pub time: i64,
    /// The stream.
    pub stream: Stream,
    /// What is special about it.
    pub flags: Flags,
    /// Fragments and cut, when there are any.
    pub extra: Option<Box<Extra>>,
}

impl Record {
    /// Bytes of all files that this record stands for.
    #[must_use]
    pub fn length(&self) -> u64 {
        match &self.extra {
            Some(extra) if !extra.fragments.is_empty() => extra.fragments.iter().map(|f| f.span.len()).sum(),
            _ => self.span.len(),
        }
    }
}

/// What the bodies of a batch are, and so how they are encoded and where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Payload {
    /// Lines of text; the encoder wraps each in an envelope.
    #[default]
    Line,
    /// Ledger statements: complete JSON objects for the ledger topic.
    Statement,
    /// Events of the cluster: complete JSON objects in ECS names, each with an id of its own ([`Extra::id`]).
    Event,
    /// What was done in containers: as events.
    Audit,
}

/// Records of one origin out of one source, with the receipt for them.
#[derive(Debug)]
pub struct Batch {
    /// What the bodies are.
    pub payload: Payload,
    /// Who they are about.
    pub origin: Arc<Origin>,
    /// The file they lie in.
    pub source: Arc<Source>,
    /// The buffer that the bodies are ranges of. Its other bytes (framing) are of no interest.
    pub data: Vec<u8>,
    /// The records, in the order of the file.
    pub records: Vec<Record>,
    /// To be settled by the shipper.
    pub receipt: Receipt,
}

impl Batch {
    /// The body of one of this batch's records.
    #[must_use]
    pub fn body(&self, record: &Record) -> &[u8] {
        self.data.get(record.body.start as usize..record.body.end as usize).unwrap_or_default()
    }

    /// Declares one record lost for good, for `reason`, with all its fragments.
    pub fn lose(&mut self, index: usize, reason: LossReason) {
        let Some(record) = self.records.get(index) else { return };
        self.receipt.lose_record(self.source.id, record, reason);
    }
}

/// Buffers that go round: the reader takes one, the shipper gives it back once it has encoded the batch.
#[derive(Debug)]
pub struct BufferPool {
    free: Mutex<Vec<(Vec<u8>, Vec<Record>)>>,
    keep: usize,
    largest: usize,
}

impl BufferPool {
    /// A pool that keeps up to `keep` buffers of up to `largest` bytes; others are freed when they come back.
    #[must_use]
    pub fn new(keep: usize, largest: usize) -> Arc<Self> {
        Arc::new(BufferPool { free: Mutex::new(Vec::new()), keep, largest })
    }

    /// An empty buffer and an empty list of records, with whatever capacity they had before.
    #[must_use]
    pub fn take(&self) -> (Vec<u8>, Vec<Record>) {
        self.free.lock().pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn give(&self, mut data: Vec<u8>, mut records: Vec<Record>) {
        if data.capacity() > self.largest {
            return;
        }
        data.clear();
        records.clear();
        let mut free = self.free.lock();
        if free.len() < self.keep {
            free.push((data, records));
        }
    }
}
