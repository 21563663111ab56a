//! Files that are done and still lie there: known again when they grow, are compressed or go away.

use std::path::PathBuf;
use std::sync::Arc;

use taffrail_record::FileId;

use super::counters::Counters;
use super::identity::{FileKey, Head};
use super::keeper::Keeper;
use super::lane::{Lane, Tools};
use super::reader::Reader;
use super::state::FileState;

/// A file that is done and still lies there: enough to know it again.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(super) key: FileKey,
    pub(super) generation: u32,
    pub(super) id: Option<FileId>,
    pub(super) head: Head,
    pub(super) from: u64,
    pub(super) size: u64,
    /// The compressed form of this file, which is followed under another name or was: only remembered, not stored
    /// before that file is let go.
    pub(super) form_of: Option<FileKey>,
    /// Where it lies, if it is such a form; otherwise that is only stored.
    pub(super) path: PathBuf,
    pub(super) listed: bool,
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

impl Finished {
    /// The compressed form of a file that is or was followed under another name.
    pub(super) fn form(of: FileKey, key: FileKey, head: Head, size: u64, path: PathBuf) -> Finished {
        Finished { key, generation: 0, id: None, head, from: 0, size, form_of: Some(of), path, listed: true }
    }

    /// Whether a compressed file unpacks to just as much.
    pub(super) fn is_whole_in(&self, reader: &Reader) -> bool {
        reader.unpacked_size() == Some(self.size as u32)
    }

    fn store_key(&self, lane: &Arc<str>) -> Vec<u8> {
        self.state(lane).store_key()
    }

    pub(super) fn state(&self, lane: &Arc<str>) -> FileState {
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

impl Lane {
    /// Forgets finished files that lie there no more.
    pub(super) fn drop_unlisted_finished(&mut self, tools: &mut Tools<'_>) {
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
