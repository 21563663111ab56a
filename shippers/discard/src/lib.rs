//! The null sink: encodes as a real shipper would, counts, and confirms at once. For benches, and for trying what a
//! configuration finds without sending anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use taffrail_envelope::{Encoded, Encoder, EnvelopeConfig};
use taffrail_record::{Ask, AskError, Batch, BufferPool, Family, Kind, Samples, Ship, ShipStatus};

static FAMILIES: [Family; 2] = [
    Family {
        name: "taffrail_discard_records_total",
        kind: Kind::Counter,
        help: "Records encoded and thrown away.",
        labels: &[],
    },
    Family {
        name: "taffrail_discard_bytes_total",
        kind: Kind::Counter,
        help: "Bytes of encoded records thrown away.",
        labels: &[],
    },
];

/// Delivers nowhere.
#[derive(Debug)]
pub struct DiscardShipper {
    encoder: Encoder,
    encoded: Encoded,
    pool: Arc<BufferPool>,
    status: Arc<ShipStatus>,
    counters: Arc<Counters>,
}

impl DiscardShipper {
    /// A null sink that encodes as `envelope` says and gives read buffers back to `pool`.
    #[must_use]
    pub fn new(envelope: EnvelopeConfig, pool: Arc<BufferPool>) -> Self {
        DiscardShipper {
            encoder: Encoder::new(envelope),
            encoded: Encoded::default(),
            pool,
            status: ShipStatus::well(),
            counters: Arc::default(),
        }
    }

    /// Its counters, for scrapes.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn Ask> {
        Arc::clone(&self.counters) as Arc<dyn Ask>
    }
}

impl Ship for DiscardShipper {
    fn name(&self) -> &'static str {
        "discard"
    }

    fn ship(&mut self, batch: Batch) {
        self.encoded.clear();
        let _ = self.encoder.encode(&batch, &mut self.encoded);
        self.counters.records.fetch_add(self.encoded.messages.len() as u64, Ordering::Relaxed);
        self.counters.bytes.fetch_add(self.encoded.data.len() as u64, Ordering::Relaxed);
        self.pool.give(batch.data, batch.records);
        batch.receipt.confirm();
    }

    fn drain(&mut self, _deadline: Instant) {}

    fn status(&self) -> Arc<ShipStatus> {
        Arc::clone(&self.status)
    }
}

#[derive(Debug, Default)]
struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Ask for Counters {
    fn name(&self) -> &'static str {
        "discard"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        for (family, value) in FAMILIES.iter().zip([&self.records, &self.bytes]) {
            samples.family(family);
            samples.sample(&[], value.load(Ordering::Relaxed) as f64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use taffrail_record::{FileId, Flags, Ledger, Origin, Payload, Receipt, Record, Source, Span, Stream};

    use super::*;

    #[test]
    fn a_batch_is_encoded_counted_and_confirmed() {
        let pool = BufferPool::new(1, 1 << 20);
        let mut shipper = DiscardShipper::new(EnvelopeConfig::default(), Arc::clone(&pool));
        let account = Ledger::new().account(["", "", "x"]);
        account.read(6);
        let records = vec![Record {
            body: 0..5,
            span: Span::at(0, 6),
            time: 0,
            stream: Stream::None,
            flags: Flags::NONE,
            extra: None,
        }];
        shipper.ship(Batch {
            payload: Payload::Line,
            origin: Arc::new(Origin::default()),
            source: Arc::new(Source { id: FileId(1), path: "/x".into(), device: 1, inode: 1 }),
            data: b"hello\n".to_vec(),
            receipt: Receipt::new(Vec::new(), Arc::clone(&account), &records, None),
            records,
        });
        assert_eq!((account.balance().confirmed.bytes, account.balance().pending.bytes), (6, 0));
        assert!(pool.take().0.capacity() >= 6, "the read buffer went back");
        assert_eq!(shipper.counters.records.load(Ordering::Relaxed), 1);
        assert!(shipper.counters.bytes.load(Ordering::Relaxed) > 100);
    }
}
