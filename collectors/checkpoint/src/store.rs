//! The store: staging, commits and compaction.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use taffrail_record::Ask;

use crate::disk::{Directory, Disk};
use crate::entries::Entries;
use crate::format::{self, Kind};
use crate::lock::Lock;
use crate::metrics::{Metrics, add};
use crate::recovery::{self, Loaded, TEMPORARY, file_name, parse_name};
use crate::{Recovery, StoreError};

/// What a small file really takes on the disk.
const BLOCK: u64 = 4096;

/// How a store is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The base is rewritten when the deltas since the last one take as much disk as it does, and at least this many
    /// bytes. Each delta counts with the blocks it occupies.
    pub compact_min_bytes: u64,
    /// How many damaged files are kept for inspection; the oldest go first.
    pub keep_damaged: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { compact_min_bytes: 1 << 20, keep_damaged: 8 }
    }
}

/// What a commit did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Committed {
    /// Bytes written, a rewritten base included.
    pub bytes: u64,
    /// Changed entries that are durable now.
    pub entries: usize,
    /// Whether the base was rewritten.
    pub compacted: bool,
}

/// A map of bytes to bytes, durable as of the last commit.
///
/// [`Store::get`], [`Store::iter`] and [`Store::len`] show what is staged as well. Dropping a store does not commit.
pub struct Store {
    entries: Entries,
    /// Keys whose entry, or absence, is not on the disk yet.
    staged: HashSet<Box<[u8]>>,
    /// The last commit that is durable.
    sequence: u64,
    /// Sequence and bytes of the base on the disk.
    base: (u64, u64),
    /// What the deltas since the base take on the disk.
    delta_bytes: u64,
    /// When `delta_bytes` gets here, the base is rewritten.
    compact_at: u64,
    options: Options,
    path: PathBuf,
    disk: Box<dyn Disk>,
    metrics: Arc<Metrics>,
    _lock: Option<Lock>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .field("sequence", &self.sequence)
            .field("entries", &self.entries.len())
            .field("staged", &self.staged.len())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in `dir`, made when it is missing, and reads its state back.
    ///
    /// Damage is no error: it is logged, reported in [`Recovery`], and what remains is written as a fresh base.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has it, [`StoreError::NewerVersion`] when a newer program wrote it,
    /// [`StoreError::Io`] when the file system refuses. Only the last is worth retrying.
    pub fn open(dir: &Path, options: Options) -> Result<(Store, Recovery), StoreError> {
        let directory = Directory::open(dir).map_err(StoreError::io("open the directory", dir))?;
        let lock = Lock::take(dir)?;
        let (mut store, recovery) = Store::open_on(Box::new(directory), dir, options)?;
        store._lock = Some(lock);
        Ok((store, recovery))
    }

    pub(crate) fn open_on(
        disk: Box<dyn Disk>,
        path: &Path,
        options: Options,
    ) -> Result<(Store, Recovery), StoreError> {
        let Loaded { entries, recovery, base, deltas } = recovery::load(&*disk, path, options.keep_damaged)?;
        let mut store = Store {
            entries,
            staged: HashSet::new(),
            sequence: recovery.sequence,
            base,
            delta_bytes: deltas.into_iter().map(on_disk).sum(),
            compact_at: base.1.max(options.compact_min_bytes),
            options,
            path: path.to_owned(),
            disk,
            metrics: Metrics::new(),
            _lock: None,
        };
        add(&store.metrics.damaged, recovery.damaged.len() as u64);
        if recovery.stale || recovery.from_previous {
            store.rebase();
        }
        store.metrics.hold(store.entries.len(), 0);
        Ok((store, recovery))
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key)
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter()
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stages a value. A value that is there already costs nothing.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        if self.entries.get(key) == Some(value) {
            return;
        }
        self.entries.put(key, value);
        self.stage(key);
    }

    /// Stages a removal.
    pub fn remove(&mut self, key: &[u8]) {
        if self.entries.remove(key) {
            self.stage(key);
        }
    }

    fn stage(&mut self, key: &[u8]) {
        if !self.staged.contains(key) {
            self.staged.insert(key.into());
        }
    }

    /// Makes everything staged durable. Does nothing when nothing is staged.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file system refuses: then everything stays staged, and the next commit holds it. The
    /// disk may have either state until that one succeeds.
    pub fn commit(&mut self) -> Result<Committed, StoreError> {
        if self.staged.is_empty() {
            return Ok(Committed::default());
        }
        let start = Instant::now();
        let committed = self.commit_staged();
        self.metrics.spent_since(start);
        self.metrics.hold(self.entries.len(), self.staged.len());
        committed
    }

    fn commit_staged(&mut self) -> Result<Committed, StoreError> {
        let sequence = self.sequence + 1;
        let mut bytes = self.write(Kind::Delta, sequence)?;
        // The same number is used again until the file is durable: a gap in the numbers means a lost commit.
        self.sequence = sequence;
        self.delta_bytes += on_disk(bytes);
        let entries = self.staged.len();
        self.staged.clear();
        self.staged.shrink_to(1024);
        add(&self.metrics.commits, 1);
        let rebased = if self.delta_bytes >= self.compact_at { self.rebase() } else { None };
        bytes += rebased.unwrap_or(0);
        Ok(Committed { bytes, entries, compacted: rebased.is_some() })
    }

    /// Writes a fresh base, then removes the files that neither it nor the base before it needs. A failure costs
    /// nothing but a later attempt, since the deltas hold everything.
    fn rebase(&mut self) -> Option<u64> {
        if self.sequence == self.base.0 {
            return None;
        }
        match self.write(Kind::Base, self.sequence) {
            Ok(bytes) => {
                add(&self.metrics.compactions, 1);
                self.remove_before(self.base.0);
                self.base = (self.sequence, bytes);
                self.delta_bytes = 0;
                self.compact_at = bytes.max(self.options.compact_min_bytes);
                Some(bytes)
            }
            Err(error) => {
                tracing::warn!(%error, "the checkpoint is intact but could not be compacted");
                self.compact_at = self.delta_bytes + self.compact_at / 8;
                None
            }
        }
    }

    /// Removes the bases before `previous` and the deltas that it contains.
    fn remove_before(&self, previous: u64) {
        let names = self.disk.list().unwrap_or_else(|error| {
            tracing::warn!(path = %self.path.display(), %error, "cannot list old checkpoint files");
            Vec::new()
        });
        for name in names {
            let obsolete = match parse_name(&name) {
                Some((Kind::Base, sequence)) => sequence < previous,
                Some((Kind::Delta, sequence)) => sequence <= previous,
                None => false,
            };
            if obsolete && let Err(error) = self.disk.remove(&name) {
                tracing::warn!(path = %self.path.join(&name).display(), %error, "cannot remove an old checkpoint file");
            }
        }
    }

    /// Writes one file aside, puts it in place, and returns its bytes once it is durable.
    fn write(&self, kind: Kind, sequence: u64) -> Result<u64, StoreError> {
        let written = self.try_write(kind, sequence);
        match &written {
            Ok(bytes) => add(&self.metrics.bytes, *bytes),
            Err(_) => add(&self.metrics.failures, 1),
        }
        written
    }

    fn try_write(&self, kind: Kind, sequence: u64) -> Result<u64, StoreError> {
        let name = file_name(kind, sequence);
        let aside = format!("{name}{TEMPORARY}");
        let mut bytes = 0;
        let written = self.disk.write(&aside, &mut |out| {
            bytes = match kind {
                Kind::Base => format::encode(out, kind, sequence, || self.everything())?,
                Kind::Delta => format::encode(out, kind, sequence, || self.changes())?,
            };
            Ok(())
        });
        written.map_err(StoreError::io("write", &self.path.join(&aside)))?;
        self.disk.rename(&aside, &name).map_err(StoreError::io("put in place", &self.path.join(&name)))?;
        self.disk.sync().map_err(StoreError::io("sync the directory", &self.path))?;
        Ok(bytes)
    }

    fn everything(&self) -> impl Iterator<Item = format::Change<'_>> {
        self.entries.iter().map(|(key, value)| (key, Some(value)))
    }

    fn changes(&self) -> impl Iterator<Item = format::Change<'_>> {
        self.staged.iter().map(|key| (&**key, self.entries.get(key)))
    }

    #[cfg(test)]
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The store's metrics, for the agent's own exposition.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn Ask> {
        Arc::clone(&self.metrics) as Arc<dyn Ask>
    }
}

fn on_disk(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK)
}
