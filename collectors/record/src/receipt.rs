//! The receipt that travels with a batch and is settled once.

use std::sync::Arc;

use crate::{Account, Charge, FileId, Hold, LossReason, LostSpan, Record, Span};

/// Settling it is the acknowledgement. A receipt that is dropped unsettled is *abandoned*: nothing is confirmed,
/// and the collector reads the batch's bytes again.
#[derive(Debug)]
pub struct Receipt {
    holds: Vec<(FileId, Hold)>,
    account: Arc<Account>,
    bytes: u64,
    records: u64,
    /// Content bytes cut from records that are otherwise delivered.
    cut: u64,
    lost: Vec<(FileId, LostSpan)>,
    lost_records: u64,
    charge: Option<Charge>,
    settled: bool,
}

impl Receipt {
    /// A receipt for records of `bytes` bytes of files in all. Moves those bytes of `account` from carried to
    /// pending. `holds` keep the position of each file that a record touches.
    #[must_use]
    pub fn new(
        holds: Vec<(FileId, Hold)>,
        account: Arc<Account>,
        records: &[Record],
        charge: Option<Charge>,
    ) -> Self {
        let bytes = records.iter().map(Record::length).sum();
        let cut = records.iter().filter_map(|r| r.extra.as_ref()).map(|extra| extra.cut).sum();
        let records = records.len() as u64;
        account.send(bytes, records);
        Receipt {
            holds,
            account,
            bytes,
            records,
            cut,
            lost: Vec::new(),
            lost_records: 0,
            charge,
            settled: false,
        }
    }

    /// A receipt for statements: holds only, no bytes of any account.
    #[must_use]
    pub fn for_statements(holds: Vec<(FileId, Hold)>, account: Arc<Account>) -> Self {
        Receipt {
            holds,
            account,
            bytes: 0,
            records: 0,
            cut: 0,
            lost: Vec::new(),
            lost_records: 0,
            charge: None,
            settled: false,
        }
    }

    /// A receipt for a copy of `records`, which goes another way and counts in another account, whose carried bytes it
    /// makes pending. The positions pass the records when both receipts are settled; when one is abandoned, the records are
    /// read again for both.
    #[must_use]
    pub fn beside(&self, account: Arc<Account>, records: &[Record], charge: Option<Charge>) -> Receipt {
        let holds = self.holds.iter().map(|(file, hold)| (*file, hold.tracker().hold(hold.start())));
        Receipt::new(holds.collect(), account, records, charge)
    }

    /// Bytes of files that the batch stands for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Says what memory the batch really takes now (encoded form, queue overhead).
    pub fn resize_charge(&mut self, bytes: u64) {
        if let Some(charge) = &mut self.charge {
            charge.resize(bytes);
        }
    }

    /// Declares a record of this batch lost. Takes effect when the rest is confirmed.
    pub fn lose_record(&mut self, file: FileId, record: &Record, reason: LossReason) {
        self.lost_records += 1;
        match &record.extra {
            Some(extra) if !extra.fragments.is_empty() => {
                // The whole record counts under one reason: what was cut from it is no longer a loss of its own.
                self.cut -= extra.cut.min(self.cut);
                self.lost.extend(extra.fragments.iter().map(|f| (f.file, LostSpan { span: f.span, reason })));
            }
            extra => {
                self.cut -= extra.as_ref().map_or(0, |e| e.cut).min(self.cut);
                self.lost.push((file, LostSpan { span: record.span, reason }));
            }
        }
    }

    /// Content bytes of a record were cut off so that the far side takes the rest: counted as truncated when the batch
    /// is confirmed. Not for records that are declared lost.
    pub fn cut_off(&mut self, bytes: u64) {
        self.cut = (self.cut + bytes).min(self.bytes);
    }

    /// The far side has every record that was not declared lost.
    pub fn confirm(mut self) {
        self.settled = true;
        for (file, lost) in &self.lost {
            if let Some((_, hold)) = self.holds.iter().find(|(id, _)| id == file) {
                hold.tracker().lose(lost.span, lost.reason);
            }
            self.account.lose_sent(lost.span.len(), lost.reason);
        }
        let lost_bytes: u64 = self.lost.iter().map(|(_, lost)| Span::len(lost.span)).sum();
        self.account.count_lost_records(self.lost.first().map(|(_, l)| l.reason), self.lost_records);
        self.account.confirm(self.bytes - lost_bytes, self.records - self.lost_records, self.cut);
        for (_, hold) in self.holds.drain(..) {
            hold.release();
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.settled {
            self.account.abandon(self.bytes, self.records);
        }
    }
}
