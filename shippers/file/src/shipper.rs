//! The shipper: batches in, receipts settled by fsync.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use taffrail_envelope::{Encoded, Encoder, Encoding, EnvelopeConfig};
use taffrail_record::{Ask, Batch, BufferPool, Payload, Receipt, Ship, ShipStatus};

use crate::metrics::Counters;
use crate::series::{Failed, Series};
use crate::{FileConfig, FileError};

/// Pauses between attempts after an error.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Between two log lines about errors.
const QUIET: Duration = Duration::from_secs(30);

/// Delivers into NDJSON files.
///
/// A record is confirmed when it has been synced to the disk. An error (a full disk) is shown, and retried with
/// growing pauses: what was not synced is taken back and written again, so that no file has half a line. In the
/// meantime [`Ship::ship`] keeps batches; their charges bound the memory.
#[derive(Debug)]
pub struct FileShipper {
    encoder: Encoder,
    pool: Arc<BufferPool>,
    logs: Series,
    ledger: Series,
    events: Series,
    audit: Series,
    /// Batches that are not written yet, in order.
    waiting: VecDeque<Piece>,
    /// Batches that are written and not synced.
    unsynced: VecDeque<Piece>,
    unsynced_bytes: u64,
    oldest_unsynced: Option<Instant>,
    sync_bytes: u64,
    sync_after: Duration,
    retry_at: Option<Instant>,
    pause: Duration,
    logged_at: Option<Instant>,
    spare: Vec<Encoded>,
    status: Arc<ShipStatus>,
    counters: Arc<Counters>,
    /// Released when the process ends, however it ends.
    _lock: Flock<fs::File>,
}

/// A batch, encoded.
#[derive(Debug)]
struct Piece {
    payload: Payload,
    encoded: Encoded,
    receipt: Receipt,
}

impl FileShipper {
    /// A shipper that encodes as `envelope` says and gives read buffers back to `pool`. Files that an earlier process
    /// left open are recovered first.
    ///
    /// # Errors
    /// [`FileError`] when the configuration cannot be right or the directory cannot be used.
    pub fn new(
        config: &FileConfig,
        envelope: EnvelopeConfig,
        pool: Arc<BufferPool>,
    ) -> Result<Self, FileError> {
        check(config, &envelope)?;
        let lock = lock(config)?;
        let counters = Arc::new(Counters::default());
        let mut logs = Series::open("logs", config, &counters)?;
        let mut ledger = Series::open("ledger", config, &counters)?;
        let mut events = Series::open("events", config, &counters)?;
        let mut audit = Series::open("audit", config, &counters)?;
        for series in [&mut logs, &mut ledger, &mut events, &mut audit] {
            if let Err(error) = series.delete_oldest() {
                tracing::warn!("{error}");
            }
        }
        Ok(FileShipper {
            encoder: Encoder::new(envelope).with_newlines(),
            pool,
            logs,
            ledger,
            events,
            audit,
            waiting: VecDeque::new(),
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            oldest_unsynced: None,
            sync_bytes: config.sync_bytes,
            sync_after: Duration::from_millis(config.sync_ms),
            retry_at: None,
            pause: Duration::ZERO,
            logged_at: None,
            spare: Vec::new(),
            status: ShipStatus::well(),
            counters,
            _lock: lock,
        })
    }

    /// Its counters, for scrapes.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn Ask> {
        Arc::clone(&self.counters) as Arc<dyn Ask>
    }

    fn load(&mut self, mut batch: Batch) -> Piece {
        let mut encoded = self.spare.pop().unwrap_or_default();
        let _ = self.encoder.encode(&batch, &mut encoded);
        batch.receipt.resize_charge(encoded.data.len() as u64);
        self.pool.give(batch.data, batch.records);
        self.counters.waiting_bytes.fetch_add(encoded.data.len() as u64, Relaxed);
        Piece { payload: batch.payload, encoded, receipt: batch.receipt }
    }

    /// Does what is due; errors set the time of the next attempt.
    fn work(&mut self, sync_now: bool) {
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        match self.try_work(sync_now) {
            Ok(()) => self.recovered(),
            Err(error) => self.failed(&error),
        }
    }

    fn try_work(&mut self, sync_now: bool) -> Result<(), Failed> {
        while let Some(piece) = self.waiting.front() {
            let (payload, bytes) = (piece.payload, piece.encoded.data.len() as u64);
            if self.series(payload).is_full(bytes) {
                self.sync()?;
                self.series(payload).close()?;
            }
            if let Err(error) = self.write_next() {
                // What did fit need not be written again.
                self.sync()?;
                return Err(error);
            }
            if self.unsynced_bytes >= self.sync_bytes {
                self.sync()?;
            }
        }
        let overdue = self.oldest_unsynced.is_some_and(|since| since.elapsed() >= self.sync_after);
        if overdue || sync_now {
            self.sync()?;
        }
        if self.unsynced.is_empty() && self.logs.is_full(0) {
            self.logs.close()?;
        }
        Ok(())
    }

    fn series(&mut self, payload: Payload) -> &mut Series {
        match payload {
            Payload::Line => &mut self.logs,
            Payload::Statement => &mut self.ledger,
            Payload::Event => &mut self.events,
            Payload::Audit => &mut self.audit,
        }
    }

    fn write_next(&mut self) -> Result<(), Failed> {
        let Some(piece) = self.waiting.pop_front() else { return Ok(()) };
        let written = self.series(piece.payload).write(&piece.encoded.data);
        if written.is_err() {
            self.waiting.push_front(piece);
            return written;
        }
        self.unsynced_bytes += piece.encoded.data.len() as u64;
        self.oldest_unsynced.get_or_insert_with(Instant::now);
        self.unsynced.push_back(piece);
        Ok(())
    }

    /// One sync for everything written, and then their receipts.
    fn sync(&mut self) -> Result<(), Failed> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        self.logs.sync()?;
        self.ledger.sync()?;
        self.events.sync()?;
        self.audit.sync()?;
        self.counters.syncs.fetch_add(1, Relaxed);
        self.unsynced_bytes = 0;
        self.oldest_unsynced = None;
        for piece in std::mem::take(&mut self.unsynced) {
            self.settle(piece);
        }
        Ok(())
    }

    fn settle(&mut self, piece: Piece) {
        const SPARE: usize = 4;
        const LARGEST: usize = 8 << 20;
        let bytes = piece.encoded.data.len() as u64;
        self.counters.records.fetch_add(piece.encoded.messages.len() as u64, Relaxed);
        self.counters.bytes.fetch_add(bytes, Relaxed);
        self.counters.waiting_bytes.fetch_sub(bytes, Relaxed);
        piece.receipt.confirm();
        let mut encoded = piece.encoded;
        if self.spare.len() < SPARE && encoded.data.capacity() <= LARGEST {
            encoded.clear();
            self.spare.push(encoded);
        }
    }

    /// Takes back what may not be on the disk, to be written again later into other files.
    fn failed(&mut self, error: &Failed) {
        self.counters.errors.fetch_add(1, Relaxed);
        self.logs.roll_back();
        self.ledger.roll_back();
        self.events.roll_back();
        self.audit.roll_back();
        self.unsynced.append(&mut self.waiting);
        std::mem::swap(&mut self.unsynced, &mut self.waiting);
        self.unsynced_bytes = 0;
        self.oldest_unsynced = None;
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.retry_at = Some(Instant::now() + self.pause);
        let text = format!("file: {error}; free space or repair the disk: records wait in their log files");
        if self.logged_at.is_none_or(|at| at.elapsed() >= QUIET) {
            self.logged_at = Some(Instant::now());
            tracing::warn!("{text}");
        }
        self.status.trouble(text);
    }

    fn recovered(&mut self) {
        self.retry_at = None;
        self.pause = Duration::ZERO;
        // Written is not yet synced: only then is the trouble over.
        if self.unsynced.is_empty() && self.status.clear() {
            self.logged_at = None;
            tracing::info!("file: writing again");
        }
    }
}

impl Ship for FileShipper {
    fn name(&self) -> &'static str {
        "file"
    }

    fn ship(&mut self, batch: Batch) {
        let piece = self.load(batch);
        self.waiting.push_back(piece);
        self.work(false);
    }

    fn idle(&mut self) {
        self.work(false);
    }

    fn drain(&mut self, deadline: Instant) {
        const STEP: Duration = Duration::from_millis(20);
        loop {
            self.work(true);
            if self.waiting.is_empty() && self.unsynced.is_empty() {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(STEP.min(left));
        }
        for series in [&mut self.logs, &mut self.ledger, &mut self.events, &mut self.audit] {
            if let Err(error) = series.close() {
                tracing::warn!("file: {error}; the next start repairs it");
            }
        }
    }

    fn status(&self) -> Arc<ShipStatus> {
        Arc::clone(&self.status)
    }
}

fn check(config: &FileConfig, envelope: &EnvelopeConfig) -> Result<(), FileError> {
    if config.directory.as_os_str().is_empty() {
        return Err(FileError::NoDirectory);
    }
    for (name, value) in
        [("max_file_bytes", config.max_file_bytes), ("max_file_age_seconds", config.max_file_age_seconds)]
    {
        if value == 0 {
            return Err(FileError::Zero(name));
        }
    }
    if envelope.encoding == Encoding::Raw { Err(FileError::RawEncoding) } else { Ok(()) }
}

/// Makes the directory (logs are sensitive: for its owner only) and keeps other processes out of it.
fn lock(config: &FileConfig) -> Result<Flock<fs::File>, FileError> {
    let directory = &config.directory;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(FileError::at(directory))?;
    let path = directory.join(".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(FileError::at(&path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => FileError::InUse(directory.clone()),
        other => FileError::at(&path)(io::Error::from(other)),
    })
}
