//! Which files make up a lane's chain: matching what a directory lists with what is open and what is remembered.
//!
//! A file is known again by device, inode and birth time, and when those are gone (compression, copies) by the hash
//! of its first bytes.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::file::LogFile;
use super::finished::Finished;
use super::forms::{is_copy_in_making, is_form_of};
use super::identity::{FileKey, Head};
use super::lane::{Lane, Tools};
use super::open::{OpenError, Pinned};
use super::reader::Reader;
use super::state::FileState;
use crate::config::Start;
use crate::find::Candidate;

/// How often a directory that keeps changing is looked through before what was known of its files is given up.
const LOOKS: usize = 8;

/// How long a directory may change faster than it can be listed before an uncertain listing is used: what is rotated
/// away meanwhile is not held.
const RESTLESS: Duration = Duration::from_millis(500);

/// What a directory lists.
pub(super) struct Snapshot {
    /// Oldest first.
    pub(super) files: Vec<(Candidate, Pinned)>,
    /// Whether that is all there is. Otherwise the directory changes faster than it can be listed, and what is not
    /// among them may still lie there.
    steady: bool,
}

/// A listed file that nothing is known of yet, and its place in the listing.
type Stranger = (usize, Candidate, Pinned);

/// What a listed name turned out to be.
pub(super) enum Placed {
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
        let mut all_found = false;
        for _ in 0..LOOKS {
            let Snapshot { files: pinned, steady } = match self.snapshot(tools) {
                Ok(snapshot) => snapshot,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    Snapshot { files: Vec::new(), steady: true }
                }
                Err(error) => {
                    let path = self.target.directory.to_path_buf();
                    self.refuse(&OpenError::Denied { path, cause: error }, tools);
                    return;
                }
            };
            if self.waits_for_rest(steady, tools.clock) {
                self.undecided = true;
                self.directory_changed = None;
                return;
            }
            let files = names_and_keys(&pinned);
            self.undecided = !steady;
            all_found = steady;
            self.arrange(pinned, steady, tools);
            // A file may have been copied and truncated, or compressed, since it was listed.
            let same = |again: Snapshot| names_and_keys(&again.files) == files;
            let settled = steady && self.snapshot(tools).map_or(files.is_empty(), same);
            if self.known.is_empty() || settled {
                break;
            }
        }
        if self.undecided {
            self.directory_changed = None;
        }
        if all_found {
            self.give_up_unfound(tools);
        }
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

    /// Whether a listing is better not used: what it lacks may belong before what it has. What is open is read on.
    fn waits_for_rest(&mut self, steady: bool, now: Instant) -> bool {
        if steady {
            self.restless_since = None;
            return false;
        }
        let since = *self.restless_since.get_or_insert(now);
        now.saturating_duration_since(since) < RESTLESS
    }

    /// The directory's files, oldest first. A file that is renamed during a listing may be missing from it, or the name
    /// may mean another one when it is pinned, and what follows it would be read too early: a directory that has just
    /// changed is listed until two listings agree, and if none do, the last says nothing of what it lacks.
    pub(super) fn snapshot(&mut self, tools: &Tools<'_>) -> std::io::Result<Snapshot> {
        const TRIES: usize = 8;
        let before = self.directory_change();
        let mut found = self.list(tools)?;
        let mut steady = before.is_some() && before == self.directory_change();
        for _ in 1..TRIES {
            if steady {
                break;
            }
            let again = self.list(tools)?;
            let lie = |(candidate, pin): &(Candidate, Option<Pinned>)| {
                (candidate.path.clone(), pin.as_ref().map(|pin| pin.key))
            };
            steady = again.iter().map(lie).eq(found.iter().map(lie));
            found = again;
        }
        let files = found.into_iter().filter_map(|(candidate, pin)| Some((candidate, pin?))).collect();
        Ok(Snapshot { files, steady })
    }

    /// What is listed, with `None` for what is gone already, or may not be read.
    fn list(&mut self, tools: &Tools<'_>) -> std::io::Result<Vec<(Candidate, Option<Pinned>)>> {
        let listed = tools.listings.list(&self.target.naming, &self.target.directory)?;
        (tools.pace.meanwhile)();
        Ok(listed.into_iter().map(|c| (self.pin(&c, tools), c)).map(|(p, c)| (c, p)).collect())
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
    /// the next file that is, and before every file that is newer than all open ones. When the listing is not `steady`,
    /// no file is taken for gone.
    fn arrange(&mut self, pinned: Vec<(Candidate, Pinned)>, steady: bool, tools: &mut Tools<'_>) {
        (tools.pace.meanwhile)();
        let lay: HashSet<u64> = self.chain.iter().filter(|f| f.listed).map(|f| f.key).collect();
        let mut old: Vec<Option<LogFile>> = std::mem::take(&mut self.chain).into_iter().map(Some).collect();
        for file in old.iter_mut().flatten() {
            file.listed = false;
            // What was opened empty and is not read yet must be known again, too, when it is compressed.
            if file.learn_head() {
                tools.keeper.touch(&file.kept);
            }
        }
        self.finished.iter_mut().for_each(|f| f.listed = false);
        let (by_key, mut rest) = self.match_keys(pinned, &mut old, tools);
        let mut placed: Vec<(usize, Placed)> = by_key;
        // Others may be copies of it.
        rest.sort_by_key(|(_, candidate, _)| !candidate.live);
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
        if steady {
            self.drop_unlisted_finished(tools);
        } else {
            self.chain.iter_mut().filter(|f| lay.contains(&f.key)).for_each(|f| f.listed = true);
            self.finished.iter_mut().for_each(|f| f.listed = true);
        }
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
        // What was empty when it was last looked at must be known again, too, when it is compressed.
        state.begins_with(&head);
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
        let path = candidate.path.clone();
        let state = FileState { size: pin.size, finished: false, path, ..done.state(&self.target.key) };
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
            if let Some(of) = form_of {
                let (head, path) = (Head::of(&head), candidate.path.clone());
                self.finished.push(Finished::form(of, pin.key, head, pin.size, path));
                return Placed::Nothing;
            }
        }
        (tools.pace.meanwhile)();
        if !candidate.live && !candidate.gzip && is_copy_in_making(open, &mut reader, tools.pace.truncation) {
            self.undecided = true;
            return Placed::Nothing;
        }
        let known = self.known.iter().map(|state| (state.key, state.generation));
        let open = open.iter().map(|file| {
            let state = file.kept.state.lock();
            (state.key, state.generation)
        });
        let earlier = known.chain(open).filter(|(key, _)| *key == pin.key);
        let generation = earlier.map(|(_, generation)| generation + 1).max().unwrap_or(0);
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

    pub(super) fn begin(
        &mut self,
        candidate: &Candidate,
        pin: &Pinned,
        mut reader: Reader,
        generation: u32,
        tools: &mut Tools<'_>,
    ) -> Placed {
        (tools.pace.meanwhile)();
        // Known from the first look on, so that the file is found again in whatever form, even if it is never read.
        let head = reader.head().unwrap_or_default();
        let from =
            if self.target.start == Start::End && !self.looked && !candidate.gzip { pin.size } else { 0 };
        let mut state = FileState {
            key: pin.key,
            generation,
            id: None,
            head: Head::default(),
            from,
            position: from,
            size: if candidate.gzip { 0 } else { pin.size },
            finished: false,
            lane: self.target.key.clone(),
            path: candidate.path.clone(),
        };
        state.begins_with(&head);
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

    pub(super) fn open(
        &mut self,
        candidate: &Candidate,
        pin: &Pinned,
        tools: &mut Tools<'_>,
    ) -> Option<Reader> {
        let denied = |cause| OpenError::Denied { path: candidate.path.clone(), cause };
        (tools.pace.meanwhile)();
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
