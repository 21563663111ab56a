//! Which files make up a lane's chain: matching what a directory lists with what is open and what is remembered.
//!
//! A file is known again by device, inode and birth time, and when those are gone (compression, copies) by the hash
//! of its first bytes. What is remembered and cannot be found any more is declared lost, with the number of
//! bytes that were known to be there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use taffrail_record::{FileId, LossReason, OutletClosed};

use super::counters::Counters;
use super::file::LogFile;
use super::identity::{FileKey, Head};
use super::keeper::Keeper;
use super::lane::{Lane, Tools};
use super::open::{OpenError, Pinned};
use super::reader::Reader;
use super::state::FileState;
use crate::config::Start;
use crate::find::Candidate;

/// A file that is done and still lies there: enough to know it again.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    key: FileKey,
    generation: u32,
    id: Option<FileId>,
    head: Head,
    from: u64,
    size: u64,
    /// The compressed form of this file, which is followed under another name or was: only remembered, not stored
    /// before that file is let go.
    form_of: Option<FileKey>,
    /// Where it lies, if it is such a form; otherwise that is only stored.
    path: PathBuf,
    listed: bool,
}

impl From<FileState> for Finished {
    fn from(state: FileState) -> Self {
        Finished {
            key: state.key,
            generation: state.generation,
            id: state.id,
            head: state.head,
            from: state.from,
            size: state.position,
            form_of: None,
            path: PathBuf::new(),
            listed: true,
        }
    }
}

/// How often a directory that keeps changing is looked through before what was known of its files is given up.
const LOOKS: usize = 8;

/// A listed file that nothing is known of yet, and its place in the listing.
type Stranger = (usize, Candidate, Pinned);

/// What a listed name turned out to be.
enum Placed {
    /// The file at this index of the old chain.
    Open(usize),
    /// A file that was not followed before.
    New(Box<LogFile>),
    /// Nothing to follow.
    Nothing,
}

impl Lane {
    /// Lists the directory and brings the chain up to date.
    pub(crate) fn look(&mut self, tools: &mut Tools<'_>) {
        tools.counters.looks.add(1);
        self.checked_at = tools.clock;
        self.directory_changed = self.directory_change();
        let newest = self.chain.back().filter(|f| f.live && f.listed).map(|f| f.key);
        for _ in 0..LOOKS {
            let pinned = match self.snapshot(tools) {
                Ok(pinned) => pinned,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                Err(error) => {
                    let path = self.target.directory.to_path_buf();
                    self.refuse(&OpenError::Denied { path, cause: error }, tools);
                    return;
                }
            };
            let files = names_and_keys(&pinned);
            self.undecided = false;
            self.arrange(pinned, tools);
            // A file may have been copied and truncated, or compressed, since it was listed.
            let same = |again: Vec<_>| names_and_keys(&again) == files;
            if self.known.is_empty() || self.snapshot(tools).map_or(files.is_empty(), same) {
                break;
            }
        }
        if self.undecided {
            self.directory_changed = None;
        }
        self.give_up_unfound(tools);
        self.note_gap(newest, tools);
        self.bound_deleted(tools);
        for file in &self.chain {
            let state = file.kept.state.lock();
            tracing::trace!(
                path = %state.path.display(), inode = state.key.inode, generation = state.generation, read = file.read,
                position = file.kept.tracker.position(), size = state.size, drained = file.drained, live = file.live,
                listed = file.listed, carry = file.carry.len(), "in the chain"
            );
        }
        self.looked = true;
    }

    /// The directory's files, oldest first. A file that is renamed during a listing may be missing from it, or the name
    /// may mean another one when it is pinned, and what follows it would be read too early: a directory that has just
    /// changed is listed until two listings agree.
    fn snapshot(&mut self, tools: &Tools<'_>) -> std::io::Result<Vec<(Candidate, Pinned)>> {
        const TRIES: usize = 8;
        let before = self.directory_change();
        let mut found = self.list(tools)?;
        if before.is_some() && before == self.directory_change() {
            return Ok(found);
        }
        for _ in 1..TRIES {
            let again = self.list(tools)?;
            let agree = names_and_keys(&again) == names_and_keys(&found);
            found = again;
            if agree {
                break;
            }
        }
        Ok(found)
    }

    fn list(&mut self, tools: &Tools<'_>) -> std::io::Result<Vec<(Candidate, Pinned)>> {
        let listed = tools.listings.list(&self.target.naming, &self.target.directory)?;
        Ok(listed.into_iter().filter_map(|c| Some((self.pin(&c, tools)?, c))).map(|(p, c)| (c, p)).collect())
    }

    fn pin(&mut self, candidate: &Candidate, tools: &Tools<'_>) -> Option<Pinned> {
        match Pinned::new(&candidate.path, self.target.within.as_deref()) {
            Ok(pinned) => {
                // That it may be read is known once it was opened.
                self.refused.retain(|(path, why)| *path != candidate.path || *why == OpenError::DENIED);
                Some(pinned)
            }
            Err(error) => {
                self.refuse(&error, tools);
                None
            }
        }
    }

    /// Reports and counts a file that is not read, once until its state changes.
    fn refuse(&mut self, error: &OpenError, tools: &Tools<'_>) {
        let (path, reason) = match error {
            OpenError::Gone(_) => return,
            OpenError::NotAFile { path, .. }
            | OpenError::LeadsOut { path, .. }
            | OpenError::Untrusted { path, .. }
            | OpenError::Denied { path, .. } => (path.clone(), error.reason()),
        };
        if !self.refused.contains(&(path.clone(), reason)) {
            tools.counters.refused(reason);
            tracing::warn!(container = %self.target.origin.display(), "{error}");
            self.refused.retain(|(p, _)| *p != path);
            self.refused.push((path, reason));
        }
    }

    /// Builds the new chain in the listing's order. Open files that are no longer listed keep their place before
    /// the next file that is, and before every file that is newer than all open ones.
    fn arrange(&mut self, pinned: Vec<(Candidate, Pinned)>, tools: &mut Tools<'_>) {
        let mut old: Vec<Option<LogFile>> = std::mem::take(&mut self.chain).into_iter().map(Some).collect();
        for file in old.iter_mut().flatten() {
            file.listed = false;
            // What was opened empty and is not read yet must be known again, too, when it is compressed.
            if file.learn_head() {
                tools.keeper.touch(&file.kept);
            }
        }
        self.finished.iter_mut().for_each(|f| f.listed = false);
        let (by_key, rest) = self.match_keys(pinned, &mut old, tools);
        let mut placed: Vec<(usize, Placed)> = by_key;
        for (order, candidate, pin) in rest {
            let fresh = placed.iter_mut().filter_map(|(_, place)| match place {
                Placed::New(file) => Some(&mut **file),
                _ => None,
            });
            let mut open: Vec<&mut LogFile> = old.iter_mut().flatten().chain(fresh).collect();
            let place = self.place_stranger(&candidate, &pin, &mut open, tools);
            placed.push((order, place));
        }
        placed.sort_by_key(|(order, _)| *order);
        let newer = placed.iter().rposition(|(_, p)| matches!(p, Placed::Open(_))).map_or(0, |last| last + 1);
        for (at, (_, place)) in placed.into_iter().enumerate() {
            if at == newer {
                self.chain.extend(old.iter_mut().filter_map(|f| f.take_if(|f| !f.listed)));
            }
            match place {
                Placed::Open(index) => {
                    let before = old.iter_mut().take(index).filter(|f| f.as_ref().is_some_and(|f| !f.listed));
                    self.chain.extend(before.filter_map(Option::take));
                    self.chain.extend(old[index].take());
                }
                Placed::New(file) => self.chain.push_back(*file),
                Placed::Nothing => {}
            }
        }
        self.chain.extend(old.into_iter().flatten());
        self.drop_unlisted_finished(tools);
    }

    /// Matches by what the file system says a file is; returns the rest.
    fn match_keys(
        &mut self,
        pinned: Vec<(Candidate, Pinned)>,
        old: &mut [Option<LogFile>],
        tools: &mut Tools<'_>,
    ) -> (Vec<(usize, Placed)>, Vec<Stranger>) {
        let (mut placed, mut rest) = (Vec::new(), Vec::new());
        for (order, (candidate, pin)) in pinned.into_iter().enumerate() {
            let same = |f: &Option<LogFile>| {
                f.as_ref().is_some_and(|f| f.reader.is_some() && f.file_key() == pin.key)
            };
            if let Some(index) = old.iter().rposition(same) {
                if let Some(file) = &mut old[index] {
                    note_listing(file, &candidate, pin.size, tools.clock);
                }
                placed.push((order, Placed::Open(index)));
            } else if let Some(place) = self.place_remembered(&candidate, &pin, tools) {
                placed.push((order, place));
            } else {
                rest.push((order, candidate, pin));
            }
        }
        (placed, rest)
    }

    /// A file that the last life knew by the same key, if its content still begins as it did.
    fn place_remembered(
        &mut self,
        candidate: &Candidate,
        pin: &Pinned,
        tools: &mut Tools<'_>,
    ) -> Option<Placed> {
        if let Some(done) = self.finished.iter_mut().find(|f| f.key == pin.key) {
            done.listed = true;
            let grown = !candidate.gzip && pin.size != done.size;
            if !grown {
                return Some(Placed::Nothing);
            }
            let done = done.clone();
            return self.reopen_grown(candidate, pin, &done, tools);
        }
        if !self.known.iter().any(|state| state.key == pin.key) {
            return None;
        }
        let mut reader = self.open(candidate, pin, tools)?;
        let head = reader.head().ok()?;
        let intact = |state: &FileState| {
            state.key == pin.key
                && state.head.matches(&head)
                && (candidate.gzip || pin.size >= state.position)
        };
        // A file that was truncated and not settled is known once for each content it had.
        let (at, _) =
            self.known.iter().enumerate().filter(|(_, s)| intact(s)).max_by_key(|(_, s)| s.generation)?;
        let mut state = self.known.swap_remove(at);
        state.size = state.size.max(if candidate.gzip { 0 } else { pin.size });
        Some(self.follow(state, candidate, reader, tools))
    }

    /// A finished file has other content or more than it had.
    fn reopen_grown(
        &mut self,
        candidate: &Candidate,
        pin: &Pinned,
        done: &Finished,
        tools: &mut Tools<'_>,
    ) -> Option<Placed> {
        let mut reader = self.open(candidate, pin, tools)?;
        let head = reader.head().ok()?;
        self.finished.retain(|f| f.key != pin.key);
        if pin.size < done.size || !done.head.matches(&head) {
            return Some(self.begin(candidate, pin, reader, done.generation + 1, tools));
        }
        let state = FileState {
            key: pin.key,
            generation: done.generation,
            id: done.id,
            head: done.head,
            from: done.from,
            position: done.size,
            size: pin.size,
            finished: false,
            lane: self.target.key.clone(),
            path: candidate.path.clone(),
        };
        Some(self.follow(state, candidate, reader, tools))
    }

    /// A file whose key is new: a compressed or copied form of one that is known, or really new.
    fn place_stranger(
        &mut self,
        candidate: &Candidate,
        pin: &Pinned,
        open: &mut [&mut LogFile],
        tools: &mut Tools<'_>,
    ) -> Placed {
        if tools.claims.files.get(&pin.key).is_some_and(|lane| *lane != self.id) {
            return Placed::Nothing;
        }
        let Some(mut reader) = self.open(candidate, pin, tools) else { return Placed::Nothing };
        let Ok(head) = reader.head() else { return Placed::Nothing };
        if !candidate.live {
            if let Some(at) = self.known.iter().position(|s| is_form_of(s.head, &head, s.position, &reader)) {
                return self.take_over(at, candidate, pin, reader, tools);
            }
            let is_open_form = |f: &LogFile| {
                let (form, read) = (f.kept.state.lock().head, f.read);
                is_form_of(form, &head, read, &reader)
            };
            let of_open = open.iter().find(|f| candidate.gzip && !f.listed && is_open_form(f));
            let of_finished = || {
                self.finished.iter().find(|f| {
                    candidate.gzip
                        && !f.listed
                        && is_form_of(f.head, &head, 0, &reader)
                        && f.is_whole_in(&reader)
                })
            };
            let form_of = of_open.map(|f| f.file_key()).or_else(|| of_finished().map(|f| f.key));
            if form_of.is_some() {
                self.finished.push(Finished {
                    key: pin.key,
                    generation: 0,
                    id: None,
                    head: Head::of(&head),
                    from: 0,
                    size: pin.size,
                    form_of,
                    path: candidate.path.clone(),
                    listed: true,
                });
                return Placed::Nothing;
            }
        }
        if !candidate.live && !candidate.gzip && is_copy_in_making(open, &mut reader) {
            self.undecided = true;
            return Placed::Nothing;
        }
        let generation =
            self.known.iter().filter(|s| s.key == pin.key).map(|s| s.generation + 1).max().unwrap_or(0);
        self.begin(candidate, pin, reader, generation, tools)
    }

    /// Goes on where the last life stopped, in another form of the same content.
    fn take_over(
        &mut self,
        at: usize,
        candidate: &Candidate,
        pin: &Pinned,
        reader: Reader,
        tools: &mut Tools<'_>,
    ) -> Placed {
        let mut state = self.known.swap_remove(at);
        tools.keeper.forget(&state.store_key());
        state.key = pin.key;
        self.follow(state, candidate, reader, tools)
    }

    fn begin(
        &mut self,
        candidate: &Candidate,
        pin: &Pinned,
        mut reader: Reader,
        generation: u32,
        tools: &mut Tools<'_>,
    ) -> Placed {
        // Known from the first look on, so that the file is found again in whatever form, even if it is never read.
        let head = reader.head().map(|bytes| Head::of(&bytes)).unwrap_or_default();
        let from =
            if self.target.start == Start::End && !self.looked && !candidate.gzip { pin.size } else { 0 };
        let state = FileState {
            key: pin.key,
            generation,
            id: None,
            head,
            from,
            position: from,
            size: if candidate.gzip { 0 } else { pin.size },
            finished: false,
            lane: self.target.key.clone(),
            path: candidate.path.clone(),
        };
        self.follow(state, candidate, reader, tools)
    }

    fn follow(
        &mut self,
        mut state: FileState,
        candidate: &Candidate,
        reader: Reader,
        tools: &mut Tools<'_>,
    ) -> Placed {
        state.path.clone_from(&candidate.path);
        tools.claims.files.insert(state.key, self.id);
        tools.counters.open_files.add(1);
        Placed::New(Box::new(LogFile::new(
            tools.claims.key(),
            state,
            Some(reader),
            candidate.live,
            tools.keeper,
        )))
    }

    fn open(&mut self, candidate: &Candidate, pin: &Pinned, tools: &mut Tools<'_>) -> Option<Reader> {
        let denied = |cause| OpenError::Denied { path: candidate.path.clone(), cause };
        match pin.open().and_then(|file| Reader::new(file, candidate.gzip).map_err(denied)) {
            Ok(reader) => {
                self.refused.retain(|(path, _)| *path != candidate.path);
                Some(reader)
            }
            Err(error) => {
                self.refuse(&error, tools);
                None
            }
        }
    }

    /// Forgets finished files that lie there no more.
    fn drop_unlisted_finished(&mut self, tools: &mut Tools<'_>) {
        let (listed, gone) = std::mem::take(&mut self.finished).into_iter().partition(|done| done.listed);
        self.finished = listed;
        for done in gone {
            tools.claims.files.remove(&done.key);
            if done.form_of.is_none() {
                self.hand_on(&done, tools.keeper);
                tools.keeper.forget(&done.store_key(&self.target.key));
            }
        }
    }

    /// A finished file is gone: if its compressed form is there, that is what is remembered as finished from now on.
    fn hand_on(&mut self, done: &Finished, keeper: &Keeper) {
        let form = self.finished.iter_mut().find(|f| f.form_of == Some(done.key));
        if let Some(form) = form {
            let path = std::mem::take(&mut form.path);
            *form = Finished { key: form.key, form_of: None, path, listed: true, ..done.clone() };
            keeper.note(&form.state(&self.target.key));
        }
    }

    /// What the last life knew and this one cannot find is gone: its unread bytes are lost. What lies there and cannot
    /// be opened is not gone.
    fn give_up_unfound(&mut self, tools: &mut Tools<'_>) {
        let refused = |state: &FileState| self.refused.iter().any(|(path, _)| *path == state.path);
        let (kept, gone) = std::mem::take(&mut self.known).into_iter().partition(refused);
        self.known = kept;
        for state in gone {
            let lost = state.size.saturating_sub(state.position);
            tools.counters.vanished.add(1);
            let (path, offset) = (state.path.display(), state.position);
            if lost > 0 {
                tracing::error!(%path, offset, lost, "a log file went away unread while no agent watched; nobody knows whether it had more");
            } else {
                tracing::warn!(%path, offset, "a log file went away while no agent watched; nobody knows whether it, or another after it, had more");
            }
            let position = state.position;
            let mut file = LogFile::new(tools.claims.key(), state, None, false, tools.keeper);
            file.listed = false;
            file.vanished = true;
            file.read = position;
            self.chain.push_front(file);
            // Only sending can fail, and nothing is carried that would be sent.
            let _ = self.end_with_loss(0, lost, LossReason::Deleted, tools);
        }
    }

    /// The file that was written to until the last look lies nowhere any more, and others do: between them there may have
    /// been some that came and went unseen. It is held and read to its end, but nobody knows what came after it.
    fn note_gap(&mut self, newest: Option<u64>, tools: &mut Tools<'_>) {
        let Some(index) = self.chain.iter().position(|file| Some(file.key) == newest) else { return };
        let file = &self.chain[index];
        let compressed = self.finished.iter().any(|done| done.form_of == Some(file.file_key()));
        if file.listed || compressed || index + 1 == self.chain.len() {
            return;
        }
        tools.counters.vanished.add(1);
        let path = file.kept.state.lock().path.display().to_string();
        tracing::warn!(path, container = %self.target.origin.display(), "a log file was rotated away before the next was seen; whether there were others between them nobody knows (let the runtime keep more or larger files)");
        self.chain[index].vanished = true;
    }

    /// Lets go of deleted files, oldest first, until those that are left keep no more on the disk than they may.
    fn bound_deleted(&mut self, tools: &mut Tools<'_>) {
        let most = tools.config.max_deleted_bytes;
        let mut deleted: Vec<(usize, u64)> = Vec::new();
        for (index, file) in
            self.chain.iter_mut().enumerate().filter(|(_, f)| !f.listed && f.reader.is_some())
        {
            if file.look().1 {
                deleted.push((index, file.lag()));
            }
        }
        let mut unread: u64 = deleted.iter().map(|(_, lag)| lag).sum();
        for (index, lag) in deleted {
            if most == 0 || unread <= most {
                return;
            }
            unread -= lag;
            let file = &self.chain[index];
            tracing::error!(
                path = %file.kept.state.lock().path.display(), offset = file.read, lost = lag,
                "a deleted log file keeps too much of the disk; let go unread (logs.max_deleted_bytes)"
            );
            self.give_up_rest(index);
            self.chain[index].close(tools.counters);
        }
    }

    /// Declares lost what of a deleted file is not decoded.
    fn give_up_rest(&mut self, index: usize) {
        let file = &mut self.chain[index];
        let carried = std::mem::take(&mut file.carry).len() as u64;
        self.account.unread(carried);
        file.read -= carried;
        let lost = file.lag();
        self.lose_tail(index, lost, LossReason::Deleted);
    }

    /// The file at `index` was truncated or written anew. Its unread rest may be in a copy beside it.
    pub(crate) fn rewritten(&mut self, index: usize, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
        tools.counters.rewritten.add(1);
        let (generation, path) = {
            let state = self.chain[index].kept.state.lock();
            (state.generation, state.path.clone())
        };
        let Some((candidate, pin)) = self.current_form(index, &path, tools) else {
            return Ok(());
        };
        if let Some((copy, key, reader)) = self.find_copy(index, tools) {
            let file = &mut self.chain[index];
            tools.keeper.rekey(&file.kept, |state| {
                state.key = key;
                state.path.clone_from(&copy.path);
            });
            tools.claims.files.insert(key, self.id);
            file.reader = Some(reader);
            file.live = false;
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
        if let Some(reader) = self.open(&candidate, &pin, tools)
            && let Placed::New(file) = self.begin(&candidate, &pin, reader, generation + 1, tools)
        {
            self.chain.insert(index + 1, *file);
        }
        // Between the two there may be copies that were never seen under their live name.
        self.look(tools);
        Ok(())
    }

    /// The rewritten file under the name it has now.
    fn current_form(&mut self, index: usize, path: &Path, tools: &Tools<'_>) -> Option<(Candidate, Pinned)> {
        let key = self.chain[index].file_key();
        let found = self.snapshot(tools).ok()?.into_iter().find(|(_, pin)| pin.key == key);
        if found.is_none() {
            tracing::warn!(path = %path.display(), "a log file was truncated and its name is gone");
            self.chain[index].drained = true;
        }
        found
    }

    /// A sibling that has the old content, up to the last bytes that were read of it.
    fn find_copy(&mut self, index: usize, tools: &mut Tools<'_>) -> Option<(Candidate, FileKey, Reader)> {
        for (candidate, pin) in self.snapshot(tools).ok()?.into_iter().filter(|(c, _)| !c.live) {
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

    /// Lets every file go as it stands; returns what the next lane of this name should know.
    pub(crate) fn leave(&mut self, keeper: &Keeper, counters: &Counters) -> Vec<FileState> {
        let mut states = Vec::new();
        let keys: Vec<u64> = self.chain.iter().map(|file| file.key).collect();
        for mut file in self.chain.drain(..) {
            file.close(counters);
            self.account.unread(file.carry.len() as u64);
            keeper.release(file.key, &file.kept, true);
            states.push(file.kept.current());
        }
        keeper.burn_bridges(&keys);
        let lane = &self.target.key;
        states.extend(self.finished.drain(..).filter(|f| f.form_of.is_none()).map(|f| f.state(lane)));
        states
    }

    /// Lets the first file of the chain go: settled and stated.
    pub(crate) fn let_go(&mut self, tools: &mut Tools<'_>) {
        let Some(mut file) = self.chain.pop_front() else { return };
        let keep = file.listed && file.reader.is_some();
        file.close(tools.counters);
        let state = {
            let mut state = file.kept.state.lock();
            state.finished = true;
            state.clone()
        };
        let mut done = Finished::from(state.clone());
        done.size = file.read;
        if !keep {
            self.hand_on(&done, tools.keeper);
        }
        tools.keeper.release(file.key, &file.kept, keep);
        if keep {
            self.finished.push(done);
        } else if !self.chain.iter().any(|f| f.file_key() == state.key) {
            tools.claims.files.remove(&state.key);
        }
    }
}

impl Finished {
    /// Whether a compressed file unpacks to just as much.
    fn is_whole_in(&self, reader: &Reader) -> bool {
        reader.unpacked_size() == Some(self.size as u32)
    }

    fn store_key(&self, lane: &Arc<str>) -> Vec<u8> {
        self.state(lane).store_key()
    }

    fn state(&self, lane: &Arc<str>) -> FileState {
        FileState {
            key: self.key,
            generation: self.generation,
            id: self.id,
            head: self.head,
            from: self.from,
            position: self.size,
            size: self.size,
            finished: true,
            lane: Arc::clone(lane),
            path: self.path.clone(),
        }
    }
}

impl super::lane::Claims {
    /// A new tracker key.
    pub(crate) fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }
}

fn note_listing(file: &mut LogFile, candidate: &Candidate, size: u64, now: Instant) {
    file.listed = true;
    if file.live && !candidate.live {
        file.rotated_at = Some(now);
    }
    file.live = candidate.live;
    let mut state = file.kept.state.lock();
    if state.path != candidate.path {
        state.path.clone_from(&candidate.path);
    }
    if !candidate.gzip {
        state.size = state.size.max(size);
    }
}

/// What two looks at a directory have in common when nothing has changed between them.
fn names_and_keys(pinned: &[(Candidate, Pinned)]) -> Vec<(PathBuf, FileKey)> {
    pinned.iter().map(|(candidate, pin)| (candidate.path.clone(), pin.key)).collect()
}

/// Whether a file that begins with `bytes` can hold the content that `head` was taken of, up to `read` at least.
fn is_form_of(head: Head, bytes: &[u8], read: u64, reader: &Reader) -> bool {
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
/// decided when the original is truncated.
fn is_copy_in_making(open: &mut [&mut LogFile], copy: &mut Reader) -> bool {
    let mut is_copy_of = |file: &mut LogFile| {
        let bytes = copy.head()?;
        let known = file.kept.state.lock().head;
        if is_form_of(known, &bytes, file.read, copy) && same_tail(file, copy) {
            return Ok(true);
        }
        let partial = size_of_form(copy, file.read) < file.read;
        let begins = file.reader.as_mut().map(Reader::head).transpose()?;
        Ok::<_, std::io::Error>(partial && begins.is_some_and(|begins| begins.starts_with(&bytes)))
    };
    // Asked twice: an original is truncated as soon as its copy is whole, perhaps in the midst of the first time.
    open.iter_mut().filter(|f| f.live).any(|file| (0..2).any(|_| is_copy_of(file).unwrap_or(false)))
}

/// Whether the bytes before the read position are the same in `other` (compressed files: taken on trust of the head).
fn same_tail(file: &LogFile, other: &mut Reader) -> bool {
    if other.is_gzip() {
        return true;
    }
    let before = file.before();
    let mut found = Vec::new();
    let at = file.read.saturating_sub(before.len() as u64);
    other.read(&mut found, at, before.len()).is_ok() && found == before
}
