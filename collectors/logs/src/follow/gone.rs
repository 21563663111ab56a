//! What went away before it was read: declared lost with its size, or stated as not known.

use taffrail_record::LossReason;

use super::file::LogFile;
use super::lane::{Lane, Tools};
use super::state::FileState;

impl Lane {
    /// What the last life knew and this one cannot find is gone: its unread bytes are lost. What lies there and cannot
    /// be opened is not gone.
    pub(super) fn give_up_unfound(&mut self, tools: &mut Tools<'_>) {
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
    pub(super) fn note_gap(&mut self, newest: Option<u64>, tools: &mut Tools<'_>) {
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
    pub(super) fn bound_deleted(&mut self, tools: &mut Tools<'_>) {
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
}
