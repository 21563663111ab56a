//! One lane: the chain of files that one container wrote, read strictly in the order in which it wrote them.
//!
//! A step reads one block from the oldest file that is not drained, decodes it and sends a batch. The files before
//! it stay open until everything in them is settled, so that an abandoned receipt can be read again even when
//! the names are long gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use taffrail_record::{Account, Context, FileId, Hold, LossReason, OutletClosed, Stream};

use super::counters::Counters;
use super::file::LogFile;
use super::finished::Finished;
use super::identity::{FileKey, HEAD_BYTES};
use super::keeper::Keeper;
use super::quota::Bucket;
use super::reader::{Got, Reader};
use super::state::FileState;
use crate::config::{LogsConfig, OverQuota};
use crate::decode::{Decoder, Format, Limits, Now};
use crate::find::{Listings, Naming, Target, settled};

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
    /// So long after its last change a file that is like the beginning of a live one may be its copy, before that is
    /// truncated; then it is a file of its own. Whole seconds.
    pub truncation: Duration,
    /// How often is stated how far a file is confirmed that moves.
    pub progress: Duration,
    /// Called between two system calls where it matters what writers do meanwhile; tests give them time there.
    pub meanwhile: fn(),
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            plain_grace: Duration::from_secs(1),
            kubelet_grace: Duration::from_millis(50),
            unlinked_grace: Duration::from_secs(2),
            name_check: Duration::from_millis(20),
            park_after: Duration::from_secs(5),
            truncation: Duration::from_secs(60),
            progress: Duration::from_secs(60),
            meanwhile: || {},
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
    pub(crate) now: Now,
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
    /// The last look met a file that may be a copy of one that is open, or a file of its own; or no two listings agreed.
    pub(crate) undecided: bool,
    /// Since when no two listings agree.
    pub(super) restless_since: Option<Instant>,
    pub(super) decoder: Decoder,
    pub(crate) bucket: Option<Arc<Bucket>>,
    pub(super) part_holds: Vec<(Stream, FileId, u64, Hold)>,
    pub(super) parts_bytes: u64,
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
            restless_since: None,
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
        if tools.context.outlet.is_full() {
            return Ok(Step::Blocked);
        }
        if tools.keeper.is_behind() {
            self.state_all_losses(tools)?;
            return Ok(Step::Blocked);
        }
        let Some(charge) = tools.context.budget.try_take(u64::from(tools.config.read_block_bytes)) else {
            return Ok(Step::Blocked);
        };
        let (mut data, records) = tools.context.pool.take();
        // Until a file's identity is written down it waits with what was read: with little, as there may be many.
        let most = if unwritten(self.chain[index].ticket) {
            HEAD_BYTES
        } else {
            tools.config.read_block_bytes as usize
        };
        match self.chain[index].read_block(&mut data, most) {
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

    /// Whether the file that is written to is reached through a link.
    pub(crate) fn is_linked(&self) -> bool {
        let newest = self.chain.back().map(|file| file.kept.state.lock().path.clone());
        newest.is_some_and(|path| path.is_symlink())
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

    fn at_end(&mut self, index: usize, tools: &mut Tools<'_>) -> Result<Step, OutletClosed> {
        let timeout =
            i64::try_from(tools.config.partial_timeout_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let file = &self.chain[index];
        if !file.carry.is_empty() && tools.now.steady.saturating_sub(file.carry_at) > timeout {
            self.decode_unfinished(index, tools)?;
        }
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
        if index + 1 == self.chain.len() {
            self.flush_parts(tools)?;
        }
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
}
