//! From bytes to batches: decodes what was read of a file and sends the records.

use std::collections::VecDeque;
use std::sync::Arc;

use taffrail_record::{
    Batch, Charge, Hold, LossReason, OutletClosed, Payload, Receipt, Record, Source, Stream,
};

use super::counters::Counters;
use super::file::LogFile;
use super::lane::{Lane, Tools};
use crate::config::OverQuota;
use crate::decode::Pending;

/// How many losses may wait for their statement before it is sent at once.
const LOSSES_PER_STATEMENT: usize = 256;

impl Lane {
    pub(super) fn decode(
        &mut self,
        index: usize,
        mut data: Vec<u8>,
        mut records: Vec<Record>,
        charge: Charge,
        tools: &mut Tools<'_>,
    ) -> Result<(), OutletClosed> {
        let file = &mut self.chain[index];
        let base = file.read - data.len() as u64;
        if let Err(error) = file.identify(&data, base == 0, false) {
            tracing::warn!(path = %file.kept.state.lock().path.display(), %error, "cannot read the head of a log file");
        }
        // Whoever finds the file in another form after a crash knows it by its head.
        if file.identified_anew() {
            tools.keeper.touch(&file.kept);
        }
        let Some(source) = self.open_statement(index, tools)? else {
            // Not even one line yet, and too short to tell from another file; or not written down what it is.
            let file = &mut self.chain[index];
            file.undecoded = file.source.is_some();
            file.carry_at = tools.now.steady;
            file.carry = data.as_slice().to_vec();
            tools.context.pool.give(data, records);
            return Ok(());
        };
        let file = &mut self.chain[index];
        file.undecoded = false;
        if std::mem::take(&mut file.mid_line) {
            self.decoder.resume_mid_line();
        }
        let raw = data.len();
        let consumed = self.decoder.decode(&mut data, source.id, base, tools.now, &mut records);
        file.carry.clear();
        file.carry.extend_from_slice(&data[consumed..raw]);
        file.carry_at = tools.now.steady;
        if file.carry.is_empty() && file.carry.capacity() > 4096 {
            file.carry = Vec::new();
        }
        self.emit(index, &source, data, records, Some(charge), base + consumed as u64, tools)
    }

    /// Delivers the unfinished line of a file as it is.
    pub(super) fn decode_unfinished(
        &mut self,
        index: usize,
        tools: &mut Tools<'_>,
    ) -> Result<(), OutletClosed> {
        let file = &mut self.chain[index];
        let data = file.carry.clone();
        let base = file.read - data.len() as u64;
        let _ = file.identify(&data, base == 0, true);
        file.undecoded = false;
        if file.source.is_some() && !file.ticket.is_some_and(|t| tools.keeper.is_written(t)) {
            tools.keeper.touch(&file.kept);
            file.ticket = Some(0);
            if let Err(error) = tools.keeper.flush() {
                tracing::debug!(%error, "delivery goes on");
            }
        }
        let Some(source) = self.open_statement(index, tools)? else { return Ok(()) };
        let file = &mut self.chain[index];
        if std::mem::take(&mut file.mid_line) {
            self.decoder.resume_mid_line();
        }
        let mut data = std::mem::take(&mut file.carry);
        let mut records = Vec::new();
        self.decoder.decode_unfinished(&mut data, source.id, base, tools.now, &mut records);
        let end = file.read;
        self.emit(index, &source, data, records, None, end, tools)
    }

    /// Nothing more comes in this file: delivers its last line as it is, if that has not ended.
    pub(super) fn end_line(&mut self, index: usize, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
        let id = self.chain[index].id();
        let overlong =
            |p: Pending<'_>| p.stream == Stream::None && p.fragments.last().map(|last| last.file) == id;
        if self.chain[index].carry.is_empty() && !self.decoder.pending().any(overlong) {
            return Ok(());
        }
        self.decode_unfinished(index, tools)
    }

    /// Called when everything in the chain is read: delivers parts that have waited too long for their final part.
    pub(super) fn flush_parts(&mut self, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
        let limit =
            i64::try_from(tools.config.partial_timeout_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let before = tools.now.steady.saturating_sub(limit);
        let due = self.decoder.pending().find(|p| p.seen < before);
        let Some(file) = due.and_then(|p| p.fragments.last().map(|f| f.file)) else { return Ok(()) };
        // If reading had to wait for the far side, the end may long lie in a file that was not looked for.
        let newest = |lane: &Lane| lane.chain.back().map(|file| file.key);
        let known = newest(self);
        self.look(tools);
        if newest(self) != known {
            return Ok(());
        }
        let (mut data, mut records) = (Vec::new(), Vec::new());
        self.decoder.flush_parts(&mut data, before, &mut records);
        let index = self.chain.iter().position(|f| f.id() == Some(file)).unwrap_or(0);
        let Some((source, end)) =
            self.chain.get(index).and_then(|f| Some((f.source.clone()?, f.read - f.carry.len() as u64)))
        else {
            return Ok(());
        };
        self.emit(index, &source, data, records, None, end, tools)
    }

    /// Sends records of one file and moves the holds: the batch's first, then the attribution, then the parts'.
    #[expect(clippy::too_many_arguments, reason = "the parts of one batch; a struct would name them twice")]
    pub(super) fn emit(
        &mut self,
        index: usize,
        source: &Arc<Source>,
        data: Vec<u8>,
        mut records: Vec<Record>,
        mut charge: Option<Charge>,
        end: u64,
        tools: &mut Tools<'_>,
    ) -> Result<(), OutletClosed> {
        self.apply_quota(index, &mut records);
        self.count(&records, tools.counters);
        let mut batch = None;
        if records.is_empty() {
            tools.context.pool.give(data, records);
        } else {
            let holds = self.holds(index, source.id, &records);
            records.iter().for_each(|record| self.tie_pieces(record, tools.keeper));
            if let Some(charge) = &mut charge {
                charge.resize(data.len() as u64 + (records.len() * size_of::<Record>()) as u64);
            }
            self.account.set_newest(records.last().map_or(0, |r| r.time));
            let receipt = Receipt::new(holds, Arc::clone(&self.account), &records, charge);
            let (origin, source) = (Arc::clone(&self.target.origin), Arc::clone(source));
            batch = Some(Batch { payload: Payload::Line, origin, source, data, records, receipt });
        }
        let released = self.part_holds_now();
        self.chain[index].kept.tracker.attribute(end);
        released.into_iter().for_each(Hold::release);
        if let Some(batch) = batch {
            tools.context.outlet.send(batch, &tools.context.stop, &tools.context.beat)?;
        }
        if self.chain[index].kept.tracker.undeclared() >= LOSSES_PER_STATEMENT {
            self.state_losses(index, tools)?;
        }
        Ok(())
    }

    pub(super) fn count(&self, records: &[Record], counters: &Counters) {
        counters.records.add(records.len() as u64);
        for record in records.iter().filter(|r| !r.flags.is_empty()) {
            record.flags.names().for_each(|name| counters.flagged(name));
        }
    }

    pub(super) fn apply_quota(&mut self, index: usize, records: &mut Vec<Record>) {
        let Some(bucket) = &self.bucket else { return };
        if bucket.over == OverQuota::Wait {
            bucket.take(records.iter().map(Record::length).sum(), records.len() as u64);
            return;
        }
        let chain = &self.chain;
        let account = &self.account;
        records.retain(|record| {
            let admitted = bucket.admit(record.length());
            if !admitted {
                account.lose(record.length(), 1, LossReason::Quota);
                lose(chain, index, record, LossReason::Quota);
            }
            admitted
        });
    }
}

fn lose(chain: &VecDeque<LogFile>, index: usize, record: &Record, reason: LossReason) {
    let Some(extra) = record.extra.as_ref().filter(|e| !e.fragments.is_empty()) else {
        chain[index].kept.tracker.lose(record.span, reason);
        return;
    };
    for fragment in &extra.fragments {
        if let Some(file) = chain.iter().find(|f| f.id() == Some(fragment.file)) {
            file.kept.tracker.lose(fragment.span, reason);
        }
    }
}
