//! Reading a directory back: which files count, what becomes of those that do not, and what was lost with them.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::StoreError;
use crate::disk::Disk;
use crate::entries::Entries;
use crate::format::{self, Document, Kind, Refusal};

const SUFFIX: &str = ".ckpt";
const DAMAGED: &str = ".damaged-";
/// What the name of a file under way ends in.
pub(crate) const TEMPORARY: &str = ".tmp";

/// A file that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Where it was.
    pub path: PathBuf,
    /// Where it was moved for inspection.
    pub moved_to: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What [`crate::Store::open`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Entries in the state.
    pub entries: usize,
    /// The sequence number of the last commit that is part of the state.
    pub sequence: u64,
    /// The directory held nothing of a store, intact or damaged.
    pub first_start: bool,
    /// There were files and not one of them was intact: the state is empty, although there was one. Said at every
    /// start until a commit succeeds.
    pub nothing_left: bool,
    /// The newest base was damaged and the one before it was used, or the deltas alone when there was none before.
    pub from_previous: bool,
    /// Something that was committed is not in the state. Then, and only then, positions may be older than the
    /// last commit and entries may be unknown or back from the dead: see the crate's page for what the owner
    /// of the entries has to heed. Damage that cost nothing does not set it.
    pub stale: bool,
    /// Files that were refused, in the order in which they were read.
    pub damaged: Vec<Damaged>,
    /// Sequence numbers of commits whose deltas are not there at all.
    pub missing: Vec<RangeInclusive<u64>>,
    /// Unfinished files of an interrupted commit that were removed: not damage, that commit never returned.
    pub unfinished: usize,
}

/// A directory read back.
#[derive(Default)]
pub(crate) struct Loaded {
    pub(crate) entries: Entries,
    pub(crate) recovery: Recovery,
    /// Sequence and size of the base in use; zero when there is none.
    pub(crate) base: (u64, u64),
    /// Sizes of the deltas after it.
    pub(crate) deltas: Vec<u64>,
}

/// The name of a file.
pub(crate) fn file_name(kind: Kind, sequence: u64) -> String {
    match kind {
        Kind::Base => format!("base-{sequence:016x}{SUFFIX}"),
        Kind::Delta => format!("delta-{sequence:016x}{SUFFIX}"),
    }
}

/// The meaning of a file's name; `None` for names that the store does not give.
pub(crate) fn parse_name(name: &str) -> Option<(Kind, u64)> {
    let (kind, digits) = match name.strip_prefix("base-") {
        Some(digits) => (Kind::Base, digits),
        None => (Kind::Delta, name.strip_prefix("delta-")?),
    };
    let sequence = u64::from_str_radix(digits.strip_suffix(SUFFIX)?, 16).ok()?;
    (file_name(kind, sequence) == name).then_some((kind, sequence))
}

/// Reads the state. Moves aside what is damaged, keeping `keep_damaged` of such files.
pub(crate) fn load(disk: &dyn Disk, path: &Path, keep_damaged: usize) -> Result<Loaded, StoreError> {
    let names = disk.list().map_err(StoreError::io("list", path))?;
    let mut loader = Loader::new(disk, path, keep_damaged, &names);
    loader.look(&names);
    loader.read_base(&names)?;
    loader.read_deltas(&names)?;
    // Only now: a newer program's directory is left before anything is removed.
    loader.remove_unfinished(&names)?;
    loader.remove_damaged()?;
    // What was read may have been renamed by a process that died before it could make that durable.
    disk.sync().map_err(StoreError::io("sync the directory", path))?;
    Ok(loader.finish())
}

struct Loader<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
    keep_damaged: usize,
    /// Names and numbers of damaged files, old and new.
    aside: Vec<(u64, String)>,
    loaded: Loaded,
    intact: bool,
}

impl<'a> Loader<'a> {
    fn new(disk: &'a dyn Disk, path: &'a Path, keep_damaged: usize, names: &[String]) -> Self {
        let aside = names.iter().filter_map(|name| {
            let (original, number) = name.rsplit_once(DAMAGED)?;
            parse_name(original)?;
            Some((number.parse().ok()?, name.clone()))
        });
        Loader { disk, path, keep_damaged, aside: aside.collect(), loaded: Loaded::default(), intact: false }
    }

    fn look(&mut self, names: &[String]) {
        let files = names.iter().filter(|name| parse_name(name).is_some()).count();
        self.loaded.recovery.first_start = files == 0 && self.aside.is_empty();
    }

    /// The newest base that is intact.
    fn read_base(&mut self, names: &[String]) -> Result<(), StoreError> {
        for (sequence, name) in sorted(names, Kind::Base).into_iter().rev() {
            if let Some(size) = self.read(name, Kind::Base, sequence)? {
                self.loaded.base = (sequence, size);
                self.loaded.recovery.sequence = sequence;
                break;
            }
            self.loaded.recovery.from_previous = true;
        }
        Ok(())
    }

    /// Every delta after the base that is intact, in order.
    fn read_deltas(&mut self, names: &[String]) -> Result<(), StoreError> {
        for (sequence, name) in sorted(names, Kind::Delta) {
            if sequence <= self.loaded.base.0 {
                continue;
            }
            let Some(size) = self.read(name, Kind::Delta, sequence)? else {
                self.loaded.recovery.stale = true;
                continue;
            };
            let next = self.loaded.recovery.sequence + 1;
            if sequence > next {
                self.loaded.recovery.missing.push(next..=sequence - 1);
                self.loaded.recovery.stale = true;
            }
            self.loaded.recovery.sequence = sequence;
            self.loaded.deltas.push(size);
        }
        Ok(())
    }

    /// Applies one file and returns its size; `None` when it was refused and moved aside.
    fn read(&mut self, name: &str, kind: Kind, sequence: u64) -> Result<Option<u64>, StoreError> {
        let path = self.path.join(name);
        let bytes = match self.disk.read(name) {
            Ok(bytes) => bytes,
            Err(error) if is_damage(&error) => {
                return self.refuse(name, kind, sequence, &error.to_string()).map(|()| None);
            }
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        match check(&bytes, kind, sequence) {
            Ok(document) => {
                self.apply(&document);
                Ok(Some(bytes.len() as u64))
            }
            Err(Refusal::Newer(found)) => {
                Err(StoreError::NewerVersion { path, found, known: format::VERSION })
            }
            Err(refusal) => self.refuse(name, kind, sequence, &refusal.to_string()).map(|()| None),
        }
    }

    fn apply(&mut self, document: &Document<'_>) {
        self.intact = true;
        let entries = &mut self.loaded.entries;
        if document.kind == Kind::Base {
            entries.reserve(usize::try_from(document.entries).unwrap_or(0));
        }
        for (key, value) in document.changes() {
            match value {
                Some(value) => entries.put(key, value),
                None => drop(entries.remove(key)),
            }
        }
    }

    fn refuse(&mut self, name: &str, kind: Kind, sequence: u64, reason: &str) -> Result<(), StoreError> {
        let number = self.aside.iter().map(|(number, _)| *number).max().unwrap_or(0).saturating_add(1);
        let aside = format!("{name}{DAMAGED}{number}");
        let path = self.path.join(name);
        let moved_to = self.path.join(&aside);
        self.disk.rename(name, &aside).map_err(StoreError::io("move aside", &path))?;
        tracing::error!(
            path = %path.display(), moved_to = %moved_to.display(), reason, ?kind, sequence,
            "a checkpoint file is damaged and is not used"
        );
        self.aside.push((number, aside));
        self.loaded.recovery.damaged.push(Damaged { path, moved_to, reason: reason.to_owned() });
        Ok(())
    }

    fn finish(mut self) -> Loaded {
        let recovery = &mut self.loaded.recovery;
        recovery.entries = self.loaded.entries.len();
        recovery.nothing_left = !recovery.first_start && !self.intact;
        let newest_base = recovery.damaged.iter().filter_map(|damaged| {
            match parse_name(damaged.path.file_name()?.to_str()?)? {
                (Kind::Base, sequence) => Some(sequence),
                (Kind::Delta, _) => None,
            }
        });
        // A base beyond the last delta held commits that nothing else here holds.
        recovery.stale |=
            recovery.nothing_left || newest_base.max().is_some_and(|base| base > recovery.sequence);
        self.loaded
    }

    fn remove_unfinished(&mut self, names: &[String]) -> Result<(), StoreError> {
        let ours = |name: &str| name.strip_suffix(TEMPORARY).is_some_and(|name| parse_name(name).is_some());
        for name in names.iter().filter(|name| ours(name)) {
            self.disk.remove(name).map_err(StoreError::io("remove", &self.path.join(name)))?;
            self.loaded.recovery.unfinished += 1;
        }
        Ok(())
    }

    fn remove_damaged(&mut self) -> Result<(), StoreError> {
        self.aside.sort_unstable();
        let excess = self.aside.len().saturating_sub(self.keep_damaged);
        for (_, name) in self.aside.drain(..excess) {
            self.disk.remove(&name).map_err(StoreError::io("remove", &self.path.join(&name)))?;
        }
        Ok(())
    }
}

fn check(bytes: &[u8], kind: Kind, sequence: u64) -> Result<Document<'_>, Refusal> {
    let document = format::decode(bytes)?;
    if (document.kind, document.sequence) != (kind, sequence) {
        return Err(Refusal::Misnamed { kind: document.kind, sequence: document.sequence });
    }
    Ok(document)
}

/// Whether the bytes are gone for good. Anything else (no memory, no descriptors, no permission) may pass, and must
/// not cost the state.
fn is_damage(error: &io::Error) -> bool {
    let gone = [libc::EIO, libc::EBADMSG, libc::EUCLEAN];
    error.kind() == io::ErrorKind::InvalidInput
        || error.raw_os_error().is_some_and(|code| gone.contains(&code))
}

fn sorted(names: &[String], wanted: Kind) -> Vec<(u64, &str)> {
    let mut found: Vec<(u64, &str)> = names
        .iter()
        .filter_map(|name| parse_name(name).map(|(kind, sequence)| (kind, sequence, name.as_str())))
        .filter(|(kind, _, _)| *kind == wanted)
        .map(|(_, sequence, name)| (sequence, name))
        .collect();
    found.sort_unstable();
    found
}
