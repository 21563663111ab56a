//! One content in several forms: files that are truncated with a copy beside them, and whether a file is another one's
//! copy or compressed form.

use std::time::Duration;

use taffrail_record::{LossReason, OutletClosed};

use super::chain::Placed;
use super::file::LogFile;
use super::identity::{FileKey, Head};
use super::lane::{Lane, Tools};
use super::open::Pinned;
use super::reader::{OVERLAP, Reader};
use crate::find::Candidate;

impl Lane {
    /// The file at `index` was truncated or written anew. Its unread rest may be in a copy beside it.
    pub(crate) fn rewritten(&mut self, index: usize, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
        tools.counters.rewritten.add(1);
        let (generation, path) = {
            let state = self.chain[index].kept.state.lock();
            (state.generation, state.path.clone())
        };
        let current = self.current_form(index, tools);
        if let Some((copy, key, reader)) = self.find_copy(index, tools) {
            let file = &mut self.chain[index];
            tools.keeper.rekey(&file.kept, |state| {
                state.key = key;
                state.path.clone_from(&copy.path);
            });
            tools.claims.files.insert(key, self.id);
            file.continue_in(reader);
            file.rotated_at = Some(tools.clock);
        } else {
            let file = &self.chain[index];
            let lost = file.kept.state.lock().size.saturating_sub(file.read);
            tracing::warn!(path = %path.display(), offset = file.read, lost, "a log file was truncated and no copy of it is there; whether it had more nobody knows");
            tools.counters.vanished.add(1);
            self.chain[index].vanished = true;
            self.end_with_loss(index, lost, LossReason::Overwritten, tools)?;
            self.chain[index].close(tools.counters);
            self.chain[index].live = false;
        }
        if let Some((candidate, pin)) = current
            && let Some(reader) = self.open(&candidate, &pin, tools)
            && let Placed::New(file) = self.begin(&candidate, &pin, reader, generation + 1, tools)
        {
            self.chain.insert(index + 1, *file);
        }
        // Between the two there may be copies that were never seen under their live name.
        self.look(tools);
        Ok(())
    }

    /// The rewritten file under the name it has now, if it has one.
    fn current_form(&mut self, index: usize, tools: &Tools<'_>) -> Option<(Candidate, Pinned)> {
        let key = self.chain[index].file_key();
        self.snapshot(tools).ok()?.files.into_iter().find(|(_, pin)| pin.key == key)
    }

    /// A sibling that has the old content, up to the last bytes that were read of it.
    fn find_copy(&mut self, index: usize, tools: &mut Tools<'_>) -> Option<(Candidate, FileKey, Reader)> {
        for (candidate, pin) in self.snapshot(tools).ok()?.files.into_iter().filter(|(c, _)| !c.live) {
            let known = self.chain.iter().any(|f| f.file_key() == pin.key)
                || self.finished.iter().any(|f| f.key == pin.key);
            if known {
                continue;
            }
            let Some(mut reader) = self.open(&candidate, &pin, tools) else { continue };
            let file = &self.chain[index];
            let head = file.kept.state.lock().head;
            let Ok(bytes) = reader.head() else { continue };
            if is_form_of(head, &bytes, file.read, &reader) && same_tail(file, &mut reader) {
                return Some((candidate, pin.key, reader));
            }
        }
        None
    }
}

/// Whether a file that begins with `bytes` can hold the content that `head` was taken of, up to `read` at least.
pub(super) fn is_form_of(head: Head, bytes: &[u8], read: u64, reader: &Reader) -> bool {
    head.length > 0 && head.matches(bytes) && size_of_form(reader, read) >= read
}

/// How much a file holds, as of now. A compressed one beyond 4 GiB does not say: it is taken to be long enough.
fn size_of_form(reader: &Reader, read: u64) -> u64 {
    match reader.unpacked_size() {
        Some(size) if read <= u64::from(u32::MAX) => u64::from(size),
        Some(_) => u64::MAX,
        None => reader.size_and_unlinked().map_or(0, |(size, _)| size),
    }
}

/// Whether a file is being copied from one that is open, whole or in part: which of the two holds the old content is
/// decided when the original is read and found to be truncated. If it is not after a while, this is a file of its own.
pub(super) fn is_copy_in_making(open: &mut [&mut LogFile], copy: &mut Reader, patience: Duration) -> bool {
    let mut is_copy_of = |file: &mut LogFile| {
        let (bytes, known) = (copy.head()?, file.kept.state.lock().head);
        let (tail, at) = (file.before().to_vec(), file.read.saturating_sub(file.before().len() as u64));
        let read = file.read;
        let Some(original) = &mut file.reader else { return Ok(false) };
        let begins = original.head()?;
        if !known.matches(&begins) || !holds(original, at, &tail) {
            // However long that is ago: while the far side is down, nobody reads.
            return Ok::<_, std::io::Error>(is_form_of(known, &bytes, read, copy) && holds(copy, at, &tail));
        }
        if !copy.changed_within(patience) {
            return Ok(false);
        }
        let (size, _) = copy.size_and_unlinked()?;
        // A part of it, or all: no copy is longer than its original.
        let mut end = Vec::new();
        let from = size.saturating_sub(OVERLAP as u64);
        copy.read(&mut end, from, OVERLAP)?;
        let fits = from + end.len() as u64 <= original.size_and_unlinked()?.0;
        Ok(fits && begins.starts_with(&bytes) && holds(original, from, &end))
    };
    // Asked twice: an original is truncated as soon as its copy is whole, perhaps in the midst of the first time.
    open.iter_mut().filter(|f| f.live).any(|file| (0..2).any(|_| is_copy_of(file).unwrap_or(false)))
}

/// Whether the bytes before the read position are the same in `other` (compressed files: taken on trust of the head).
fn same_tail(file: &LogFile, other: &mut Reader) -> bool {
    let before = file.before();
    other.is_gzip() || holds(other, file.read.saturating_sub(before.len() as u64), before)
}

/// Whether these bytes stand there.
fn holds(reader: &mut Reader, at: u64, bytes: &[u8]) -> bool {
    let mut found = Vec::new();
    reader.read(&mut found, at, bytes.len()).is_ok() && found == bytes
}
