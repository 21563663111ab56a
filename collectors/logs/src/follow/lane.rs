//! One lane: the chain of files that one container wrote, read strictly in the order in which it wrote them.
//!
//! A step reads one block from the oldest file that is not drained, decodes it and sends a batch. The files before
//! it stay open until everything in them is settled, so that an abandoned receipt can be read again even when
//! the names are long gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use taffrail_record::{
    Account, Batch, Charge, Context, FileId, Hold, LossReason, LostSpan, OutletClosed, Payload, Receipt,
    Record, Source, Span, Statement, StatementKind, Stream,
};

use super::chain::Finished;
use super::counters::Counters;
use super::file::LogFile;
use super::identity::FileKey;
use super::keeper::{Keeper, Leg};
use super::quota::Bucket;
use super::reader::{Got, Reader};
use super::state::FileState;
use super::statements;
use crate::config::{LogsConfig, OverQuota};
use crate::decode::{Decoder, Format, Limits, Pending};
use crate::find::{Listings, Naming, Target, settled};

/// How many losses may wait for their statement before it is sent at once.
const LOSSES_PER_STATEMENT: usize = 256;

/// How soon a new file's identity may be written down.
const IDENTITY_WAIT: Duration = Duration::from_millis(2);

/// How long the follower waits for what others do. The defaults suit real writers; tests hurry.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// An ended plain file is given this long for a late writer once its successor has data.
    pub plain_grace: Duration,
    /// The same for files that kubelet has rotated: the runtime moves its two streams one after the other.
    pub kubelet_grace: Duration,
    /// A file without a name is given this long for a late writer.
    pub unlinked_grace: Duration,
    /// How often the live name is checked while there is always more to read.
    pub name_check: Duration,
    /// A lane that is silent for this long is left to the kernel's notice.
    pub park_after: Duration,
    /// How often is stated how far a file is confirmed that moves.
    pub progress: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            plain_grace: Duration::from_secs(1),
            kubelet_grace: Duration::from_millis(50),
            unlinked_grace: Duration::from_secs(2),
            name_check: Duration::from_millis(20),
            park_after: Duration::from_secs(5),
            progress: Duration::from_secs(60),
        }
    }
}

/// What a lane works with during a step.
pub(crate) struct Tools<'a> {
    pub(crate) context: &'a Context,
    pub(crate) config: &'a LogsConfig,
    pub(crate) pace: Pace,
    pub(crate) keeper: &'a Keeper,
    pub(crate) counters: &'a Counters,
    pub(crate) claims: &'a mut Claims,
    pub(crate) listings: &'a Listings,
    pub(crate) clock: Instant,
    /// Unix nanoseconds.
    pub(crate) now: i64,
}

/// Which files are followed, so that a file with several names is read once.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    pub(crate) files: std::collections::HashMap<FileKey, usize>,
    pub(crate) next_key: u64,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something was read; there may be more.
    Progress,
    /// Nothing to read now, but something is unfinished: look again soon.
    Waiting,
    /// Nothing to read and nothing unfinished.
    Idle,
    /// Not before this moment (quota).
    Until(Instant),
    /// The pipeline is full, the memory budget is used up, or too much is not written down.
    Blocked,
    /// Nothing left to follow.
    Empty,
}

/// The chain of one container or plain file.
pub(crate) struct Lane {
    pub(crate) id: usize,
    pub(crate) target: Target,
    pub(crate) account: Arc<Account>,
    pub(crate) chain: VecDeque<LogFile>,
    /// From the last life, not yet matched with a file.
    pub(crate) known: Vec<FileState>,
    pub(crate) finished: Vec<Finished>,
    /// Reported once, until the next success.
    pub(crate) refused: Vec<(std::path::PathBuf, &'static str)>,
    pub(crate) looked: bool,
    pub(crate) checked_at: Instant,
    /// When the directory last changed, as of the last look; `None` when it may have changed since unnoticed.
    pub(crate) directory_changed: Option<SystemTime>,
    /// The last look met a file that may be a copy of one that is open, or a file of its own.
    pub(crate) undecided: bool,
    decoder: Decoder,
    pub(crate) bucket: Option<Arc<Bucket>>,
    part_holds: Vec<(Stream, FileId, u64, Hold)>,
    parts_bytes: u64,
}

impl Lane {
    pub(crate) fn new(
        id: usize,
        target: Target,
        known: Vec<FileState>,
        account: Arc<Account>,
        bucket: Option<Arc<Bucket>>,
        config: &LogsConfig,
        now: Instant,
    ) -> Lane {
        let limits = Limits { max_line_bytes: config.max_line_bytes as usize };
        let (finished, known) = known.into_iter().partition::<Vec<_>, _>(|state| state.finished);
        Lane {
            id,
            decoder: Decoder::new(target.format, limits),
            target,
            account,
            chain: VecDeque::new(),
            known,
            finished: finished.into_iter().map(Finished::from).collect(),
            refused: Vec::new(),
            looked: false,
            checked_at: now,
            directory_changed: None,
            undecided: false,
            bucket,
            part_holds: Vec::new(),
            parts_bytes: 0,
        }
    }

    /// Reads one block, or does what else is due.
    pub(crate) fn step(&mut self, tools: &mut Tools<'_>) -> Result<Step, OutletClosed> {
        self.rewind_if_abandoned(tools.keeper);
        self.settle_front(tools)?;
        let Some(index) = self.current() else {
            // All is read; parts may wait for an end that no file is left to bring.
            self.flush_parts(tools)?;
            return Ok(if self.chain.is_empty() { Step::Empty } else { Step::Waiting });
        };
        if let Some(pause) = self.quota_pause(tools.clock) {
            return Ok(Step::Until(tools.clock + pause));
        }
        if self.chain[index].retry.is_some_and(|(at, _)| tools.clock < at) {
            return Ok(Step::Waiting);
        }
        let unwritten = |ticket: Option<u64>| !ticket.is_some_and(|t| tools.keeper.is_written(t));
        if self.chain[index].undecoded && unwritten(self.chain[index].ticket) {
            return Ok(Step::Until(tools.clock + IDENTITY_WAIT));
        }
        if tools.context.outlet.is_full() || tools.keeper.is_behind() {
            return Ok(Step::Blocked);
        }
        let Some(charge) = tools.context.budget.try_take(u64::from(tools.config.read_block_bytes)) else {
            return Ok(Step::Blocked);
        };
        let (mut data, records) = tools.context.pool.take();
        match self.chain[index].read_block(&mut data, tools.config.read_block_bytes as usize) {
            Ok(Got::Bytes(0)) if self.chain[index].undecoded => {
                self.decode(index, data, records, charge, tools)?;
                Ok(Step::Progress)
            }
            Ok(Got::Bytes(0)) => {
                tools.context.pool.give(data, records);
                drop(charge);
                self.at_end(index, tools)
            }
            Ok(Got::Bytes(count)) => {
                self.chain[index].retry = None;
                self.account.read(count as u64);
                tools.counters.read_bytes.add(count as u64);
                self.decode(index, data, records, charge, tools)?;
                self.check_name(tools);
                Ok(Step::Progress)
            }
            Ok(Got::Changed) => {
                self.rewritten(index, tools)?;
                Ok(Step::Progress)
            }
            Err(error) => self.read_failed(index, &error, tools),
        }
    }

    /// How many newer files stand behind the one that is being read: the more, the sooner it will be deleted.
    pub(crate) fn successors(&self) -> usize {
        self.current().map_or(0, |index| self.chain.len() - 1 - index)
    }

    /// The oldest file that is not drained.
    pub(crate) fn current(&self) -> Option<usize> {
        self.chain.iter().position(|file| !file.drained)
    }

    /// Whether nothing is under way; parts that wait for their end are not.
    pub(crate) fn is_settled(&self) -> bool {
        let own =
            |id: Option<FileId>| self.part_holds.iter().filter(|(_, file, _, _)| Some(*file) == id).count();
        self.chain.iter().all(|file| file.kept.tracker.holds() == own(file.id()))
    }

    /// Updates the lag, and what is remembered of the sizes of files that are behind: should they go away while
    /// the agent is down, that is what is declared lost.
    pub(crate) fn measure(&mut self, keeper: &Keeper) {
        let mut lag = 0;
        for file in &mut self.chain {
            let behind = file.lag();
            if behind > 0 && file.grown_since_written() {
                keeper.touch(&file.kept);
            }
            lag += behind;
        }
        self.account.set_lag(lag);
    }

    /// While nothing can be read: what has been rotated is opened before its last name is gone.
    pub(crate) fn keep_up(&mut self, tools: &mut Tools<'_>) {
        if !self.looked {
            self.look(tools);
        } else if !self.chain.is_empty() {
            self.check_name(tools);
        }
    }

    fn quota_pause(&self, now: Instant) -> Option<Duration> {
        let bucket = self.bucket.as_ref()?;
        bucket.refill(now);
        (bucket.over == OverQuota::Wait).then(|| bucket.wait()).flatten()
    }

    fn decode(
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
            file.carry_at = tools.now;
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
        file.carry_at = tools.now;
        if file.carry.is_empty() && file.carry.capacity() > 4096 {
            file.carry = Vec::new();
        }
        self.emit(index, &source, data, records, Some(charge), base + consumed as u64, tools)
    }

    /// Delivers the unfinished line of a file as it is.
    fn decode_unfinished(&mut self, index: usize, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
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
    fn end_line(&mut self, index: usize, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
        let id = self.chain[index].id();
        let overlong =
            |p: Pending<'_>| p.stream == Stream::None && p.fragments.last().map(|last| last.file) == id;
        if self.chain[index].carry.is_empty() && !self.decoder.pending().any(overlong) {
            return Ok(());
        }
        self.decode_unfinished(index, tools)
    }

    /// Delivers parts that have waited too long for their final part.
    fn flush_parts(&mut self, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
        let limit =
            i64::try_from(tools.config.partial_timeout_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let before = tools.now.saturating_sub(limit);
        let Some(file) =
            self.decoder.pending().find(|p| p.seen < before).and_then(|p| p.fragments.last().map(|f| f.file))
        else {
            return Ok(());
        };
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
    fn emit(
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

    fn count(&self, records: &[Record], counters: &Counters) {
        counters.records.add(records.len() as u64);
        for record in records.iter().filter(|r| !r.flags.is_empty()) {
            record.flags.names().for_each(|name| counters.flagged(name));
        }
    }

    /// One hold per file that the records touch, at the first byte they touch there.
    fn holds(&self, index: usize, id: FileId, records: &[Record]) -> Vec<(FileId, Hold)> {
        let mut starts: Vec<(FileId, u64)> = Vec::with_capacity(1);
        let mut note = |file: FileId, start: u64| match starts.iter_mut().find(|(f, _)| *f == file) {
            Some((_, first)) => *first = (*first).min(start),
            None => starts.push((file, start)),
        };
        for record in records {
            match &record.extra {
                Some(extra) if !extra.fragments.is_empty() => {
                    extra.fragments.iter().for_each(|f| note(f.file, f.span.start));
                }
                _ => note(id, record.span.start),
            }
        }
        starts
            .into_iter()
            .filter_map(|(file, start)| Some((file, self.by_id(file, index)?.kept.tracker.hold(start))))
            .collect()
    }

    /// Sees to it that a record of several pieces is read again whole or not at all.
    fn tie_pieces(&self, record: &Record, keeper: &Keeper) {
        let fragments = record.extra.as_ref().map(|e| e.fragments.as_slice()).unwrap_or_default();
        let mut spans: Vec<(FileId, Span)> = Vec::new();
        for piece in fragments {
            match spans.iter_mut().find(|(file, _)| *file == piece.file) {
                Some((_, span)) => span.end = piece.span.end,
                None => spans.push((piece.file, piece.span)),
            }
        }
        if let [(id, span)] = spans.as_slice() {
            if let Some(file) = self.by_id(*id, self.chain.len() - 1) {
                file.kept.tracker.keep_whole(*span);
            }
        } else if !spans.is_empty() {
            let leg = |(id, span): &(FileId, Span)| {
                let file = self.by_id(*id, 0)?;
                Some(Leg { hold: file.kept.tracker.hold(span.start), until: span.end })
            };
            keeper.bridge(spans.iter().filter_map(leg).collect());
        }
    }

    fn by_id(&self, id: FileId, likely: usize) -> Option<&LogFile> {
        self.chain
            .get(likely)
            .filter(|f| f.id() == Some(id))
            .or_else(|| self.chain.iter().find(|f| f.id() == Some(id)))
    }

    /// Takes holds for the parts that now wait, and returns those that are no longer needed.
    fn part_holds_now(&mut self) -> Vec<Hold> {
        let mut old = std::mem::take(&mut self.part_holds);
        self.parts_bytes = 0;
        for pending in self.decoder.pending() {
            self.parts_bytes += pending.bytes;
            let mut before = None;
            for piece in pending.fragments {
                // One hold in each file, at the first piece there.
                if before.replace(piece.file) == Some(piece.file) {
                    continue;
                }
                let (stream, file, start) = (pending.stream, piece.file, piece.span.start);
                let same =
                    |(s, f, at, _): &(Stream, FileId, u64, Hold)| (*s, *f, *at) == (stream, file, start);
                if let Some(at) = old.iter().position(same) {
                    self.part_holds.push(old.swap_remove(at));
                } else if let Some(log) = self.chain.iter().find(|f| f.id() == Some(file)) {
                    self.part_holds.push((stream, file, start, log.kept.tracker.hold(start)));
                }
            }
        }
        old.into_iter().map(|(_, _, _, hold)| hold).collect()
    }

    fn apply_quota(&mut self, index: usize, records: &mut Vec<Record>) {
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

    fn at_end(&mut self, index: usize, tools: &mut Tools<'_>) -> Result<Step, OutletClosed> {
        let timeout =
            i64::try_from(tools.config.partial_timeout_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let file = &self.chain[index];
        if !file.carry.is_empty() && tools.now.saturating_sub(file.carry_at) > timeout {
            self.decode_unfinished(index, tools)?;
        }
        self.flush_parts(tools)?;
        self.state_losses(index, tools)?;
        if self.is_final(index, tools) {
            self.end_line(index, tools)?;
            self.chain[index].drained = true;
            return Ok(Step::Progress);
        }
        if self.chain[index].successor_seen {
            return Ok(Step::Progress);
        }
        if index + 1 < self.chain.len()
            && let Some(due) = self.chain[index]
                .rotated_at
                .map(|at| at + self.grace(tools.pace))
                .filter(|due| *due > tools.clock)
        {
            return Ok(Step::Until(due));
        }
        let unfinished = !self.chain[index].carry.is_empty()
            || !self.part_holds.is_empty()
            || self.undecided
            || index > 0
            || self.chain.len() > 1
            || !self.chain[index].live
            || !self.chain[index].listed;
        Ok(if unfinished { Step::Waiting } else { Step::Idle })
    }

    /// How long a late writer is waited for once the next file has data. Docker's one writer is never late.
    fn grace(&self, pace: Pace) -> Duration {
        match (self.target.format, &self.target.naming) {
            (Format::Plain, _) => pace.plain_grace,
            (Format::Container, Naming::Kubernetes) => pace.kubelet_grace,
            (Format::Container, Naming::Base(_)) => Duration::ZERO,
        }
    }

    /// Whether the end that was just met is the last one. A successor with data makes the *next* end final, so that
    /// what was written between the two looks is read.
    fn is_final(&mut self, index: usize, tools: &mut Tools<'_>) -> bool {
        let last = self.chain.len() - 1;
        let file = &mut self.chain[index];
        if file.is_gzip() || file.successor_seen {
            return true;
        }
        if file.rotated_at.is_none() && last > index {
            file.rotated_at = Some(tools.clock);
        }
        let rotated_for =
            file.rotated_at.map_or(Duration::ZERO, |at| tools.clock.saturating_duration_since(at));
        if index + 1 < self.chain.len() {
            let grace = self.grace(tools.pace);
            let mut later = self.chain.iter_mut().skip(index + 1);
            let has_data = later.any(LogFile::has_had_data);
            if has_data && rotated_for >= grace {
                self.chain[index].successor_seen = true;
            } else {
                self.check_name(tools);
            }
            return false;
        }
        let file = &mut self.chain[index];
        let (_, unlinked) = file.look();
        if unlinked && file.rotated_at.is_none() {
            file.rotated_at = Some(tools.clock);
        }
        if unlinked || !file.listed || !file.live {
            let waited = rotated_for >= tools.pace.unlinked_grace;
            if !waited || !unlinked {
                self.look(tools);
            }
            return unlinked && waited && index + 1 >= self.chain.len();
        }
        self.check_name(tools);
        false
    }

    /// Lists the directory again when the live name no longer means the file that is open.
    fn check_name(&mut self, tools: &mut Tools<'_>) {
        if tools.clock.saturating_duration_since(self.checked_at) < tools.pace.name_check {
            return;
        }
        self.checked_at = tools.clock;
        let last = self.chain.len() - 1;
        let same = {
            let state = self.chain[last].kept.state.lock();
            let meta = std::fs::metadata(&state.path);
            meta.is_ok_and(|m| {
                use std::os::unix::fs::MetadataExt;
                m.ino() == state.key.inode && m.dev() == state.key.device
            })
        };
        let change = self.directory_change();
        // Where many lanes are, others cause most of the changes: that has time until the listing serves all of them.
        let later = change.is_none() && tools.listings.is_shared(&self.target.directory);
        if !same || !self.chain[last].live || (self.directory_changed != change && !later) {
            self.look(tools);
        }
    }

    /// When the directory last changed; `None` when that is so recent that another change may hide behind it.
    pub(crate) fn directory_change(&self) -> Option<SystemTime> {
        settled(&self.target.directory)
    }

    /// The source of a file that is bound, once that is written down; sends the opened statement before its first
    /// record.
    fn open_statement(
        &mut self,
        index: usize,
        tools: &mut Tools<'_>,
    ) -> Result<Option<Arc<Source>>, OutletClosed> {
        let file = &mut self.chain[index];
        let Some(source) = file.source.clone() else { return Ok(None) };
        let ticket = *file.ticket.get_or_insert_with(|| tools.keeper.hurry(&file.kept));
        if !tools.keeper.is_written(ticket) {
            return Ok(None);
        }
        if !std::mem::replace(&mut file.opened, true) {
            let hold = file.kept.tracker.hold(file.kept.tracker.position());
            self.state(index, StatementKind::Opened, Vec::new(), vec![(source.id, hold)], tools)?;
        }
        Ok(Some(source))
    }

    fn state(
        &self,
        index: usize,
        kind: StatementKind,
        lost: Vec<LostSpan>,
        holds: Vec<(FileId, Hold)>,
        tools: &Tools<'_>,
    ) -> Result<(), OutletClosed> {
        let file = &self.chain[index];
        let Some(source) = &file.source else { return Ok(()) };
        let (from, size) = {
            let state = file.kept.state.lock();
            (state.from, if file.drained || file.is_gzip() { file.read } else { state.size.max(file.read) })
        };
        let statement = Statement {
            kind,
            fingerprint: source.id.to_string(),
            path: source.path.display().to_string(),
            from,
            size,
            confirmed: file.kept.tracker.position().saturating_sub(from),
            lost: lost.into_iter().map(Into::into).collect(),
        };
        let batch =
            statements::batch(&statement, &self.target.origin, source, &self.account, holds, tools.now);
        tools.context.outlet.send(batch, &tools.context.stop, &tools.context.beat)
    }

    /// Sends what losses wait to be declared.
    pub(crate) fn state_losses(&mut self, index: usize, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
        let file = &self.chain[index];
        if file.kept.tracker.undeclared() == 0 {
            return Ok(());
        }
        let Some(id) = file.id() else { return Ok(()) };
        let (lost, holds) = file.kept.tracker.take_lost();
        self.state(
            index,
            StatementKind::Damaged,
            lost,
            holds.into_iter().map(|hold| (id, hold)).collect(),
            tools,
        )
    }

    /// States of each file that has moved since this was last said how far it is confirmed: a file need not end, nor the
    /// agent end in order, for what was delivered of it to be proven.
    pub(crate) fn state_progress(&mut self, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
        for index in 0..self.chain.len() {
            let file = &mut self.chain[index];
            let position = file.kept.tracker.position();
            if file.opened && !file.stated && position > file.progress {
                file.progress = position;
                self.state(index, StatementKind::Progress, Vec::new(), Vec::new(), tools)?;
            }
        }
        Ok(())
    }

    /// Says where reading stops, when the agent does.
    pub(crate) fn pause(&mut self, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
        for index in 0..self.chain.len() {
            self.state_losses(index, tools)?;
            let file = &self.chain[index];
            let moved = file.kept.tracker.position() > file.kept.state.lock().from;
            if moved && !file.stated {
                self.state(index, StatementKind::Paused, Vec::new(), Vec::new(), tools)?;
            }
        }
        Ok(())
    }

    /// Drained files whose every record is settled: state that they are finished, then let them go.
    fn settle_front(&mut self, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
        for index in 0..self.chain.len() {
            if self.chain[index].drained {
                self.state_losses(index, tools)?;
            }
        }
        while let Some(front) = self.chain.front_mut().filter(|f| f.drained) {
            let tracker = &front.kept.tracker;
            if !tracker.is_settled() {
                return Ok(());
            }
            if !front.stated {
                front.stated = true;
                let holds = front.id().map(|id| (id, tracker.hold(tracker.position())));
                let kind = if front.vanished { StatementKind::Vanished } else { StatementKind::Finished };
                self.state(0, kind, Vec::new(), holds.into_iter().collect(), tools)?;
                return Ok(());
            }
            self.let_go(tools);
        }
        Ok(())
    }

    /// When a receipt was abandoned: back to the position, with everything after it, and with the parts that wait:
    /// the first of them may lie in an earlier file.
    fn rewind_if_abandoned(&mut self, keeper: &Keeper) {
        if !self.chain.iter().any(|file| file.kept.tracker.is_abandoned()) {
            return;
        }
        let keys: Vec<u64> = self.chain.iter().map(|file| file.key).collect();
        let bridged = keeper.bridged(&keys);
        let waiting = |f: &LogFile| {
            bridged.contains(&f.key) || self.part_holds.iter().any(|(_, file, _, _)| Some(*file) == f.id())
        };
        let first = self.chain.iter().position(|f| f.kept.tracker.is_abandoned() || waiting(f)).unwrap_or(0);
        for file in self.chain.iter_mut().skip(first) {
            self.account.unread(file.carry.len() as u64);
            let end = file.read;
            let position = file.kept.tracker.rewind();
            file.rewind(position);
            lose_unreadable(file, end, &self.account);
        }
        self.account.unread(std::mem::take(&mut self.parts_bytes));
        self.decoder.reset();
        self.part_holds.drain(..).for_each(|(_, _, _, hold)| hold.release());
        keeper.burn_bridges(&keys);
    }

    fn read_failed(
        &mut self,
        index: usize,
        error: &std::io::Error,
        tools: &mut Tools<'_>,
    ) -> Result<Step, OutletClosed> {
        use std::io::ErrorKind;
        tools.counters.read_errors.add(1);
        let file = &mut self.chain[index];
        let path = file.kept.state.lock().path.clone();
        let tries = file.failed(tools.clock);
        let damaged = file.is_gzip()
            && matches!(
                error.kind(),
                ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof
            );
        if !damaged {
            if tries == 1 {
                tracing::warn!(path = %path.display(), offset = file.read, %error, "cannot read a log file; will try again");
            }
            return Ok(Step::Waiting);
        }
        tracing::error!(path = %path.display(), offset = file.read, %error, "a compressed log file is damaged; what follows is lost");
        let size = file.reader.as_ref().and_then(Reader::unpacked_size).unwrap_or(0);
        let lost = u64::from(size).saturating_sub(file.read);
        self.end_with_loss(index, lost, LossReason::Unreadable, tools)?;
        Ok(Step::Progress)
    }

    /// The file ends here: delivers what was carried and declares the `lost` bytes after it lost.
    pub(crate) fn end_with_loss(
        &mut self,
        index: usize,
        lost: u64,
        reason: LossReason,
        tools: &mut Tools<'_>,
    ) -> Result<(), OutletClosed> {
        self.end_line(index, tools)?;
        self.lose_tail(index, lost, reason);
        Ok(())
    }

    /// The file ends here, with the `lost` bytes after what was read declared lost.
    pub(crate) fn lose_tail(&mut self, index: usize, lost: u64, reason: LossReason) {
        let file = &mut self.chain[index];
        file.drained = true;
        if lost > 0 {
            let span = Span::at(file.read, lost);
            file.read = span.end;
            file.lost_tail = Some(LostSpan { span, reason });
            self.account.lose_unread(lost, reason);
            file.kept.tracker.lose(span, reason);
            file.kept.tracker.attribute(span.end);
        }
    }
}

/// What is to be read again of a file whose content is gone is lost.
fn lose_unreadable(file: &mut LogFile, end: u64, account: &Account) {
    if file.reader.is_some() {
        return;
    }
    let span = Span { start: file.read, end };
    if span.is_empty() {
        file.drained = true;
        return;
    }
    let (counted, reason) = file.lost_tail.map_or((0, LossReason::Overwritten), |l| (l.span.len(), l.reason));
    account.lose_unread(span.len().saturating_sub(counted), reason);
    file.kept.tracker.lose(span, reason);
    file.kept.tracker.attribute(end);
    file.lost_tail = Some(LostSpan { span, reason });
    file.read = end;
    file.drained = true;
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
