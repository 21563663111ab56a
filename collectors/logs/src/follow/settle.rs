//! What is confirmed, lost and stated: holds that keep a file's position, statements about it, and reading again what was
//! not delivered.

use std::sync::Arc;

use taffrail_record::{
    Account, FileId, Hold, LossReason, LostSpan, OutletClosed, Record, Source, Span, Statement,
    StatementKind, Stream,
};

use super::file::LogFile;
use super::keeper::{Keeper, Leg};
use super::lane::{Lane, Tools};
use super::statements;

impl Lane {
    /// One hold per file that the records touch, at the first byte they touch there.
    pub(super) fn holds(&self, index: usize, id: FileId, records: &[Record]) -> Vec<(FileId, Hold)> {
        let mut touched: Vec<(FileId, u64, u64)> = Vec::with_capacity(1);
        let mut note = |file: FileId, span: Span| match touched.iter_mut().find(|(f, _, _)| *f == file) {
            Some((_, start, bytes)) => (*start, *bytes) = ((*start).min(span.start), *bytes + span.len()),
            None => touched.push((file, span.start, span.len())),
        };
        for record in records {
            match &record.extra {
                Some(extra) if !extra.fragments.is_empty() => {
                    extra.fragments.iter().for_each(|f| note(f.file, f.span));
                }
                _ => note(id, record.span),
            }
        }
        let hold = |(file, start, bytes)| {
            Some((file, self.by_id(file, index)?.kept.tracker.hold_records(start, bytes)))
        };
        touched.into_iter().filter_map(hold).collect()
    }

    /// Sees to it that a record of several pieces is read again whole or not at all.
    pub(super) fn tie_pieces(&self, record: &Record, keeper: &Keeper) {
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
                Some(Leg { hold: file.kept.tracker.hold_for_writer(span.start), until: span.end })
            };
            keeper.bridge(spans.iter().filter_map(leg).collect());
        }
    }

    pub(super) fn by_id(&self, id: FileId, likely: usize) -> Option<&LogFile> {
        self.chain
            .get(likely)
            .filter(|f| f.id() == Some(id))
            .or_else(|| self.chain.iter().find(|f| f.id() == Some(id)))
    }

    /// Takes holds for the parts that now wait, and returns those that are no longer needed.
    pub(super) fn part_holds_now(&mut self) -> Vec<Hold> {
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
                    self.part_holds.push((stream, file, start, log.kept.tracker.hold_for_writer(start)));
                }
            }
        }
        old.into_iter().map(|(_, _, _, hold)| hold).collect()
    }

    /// The source of a file that is bound, once that is written down; sends the opened statement before its first
    /// record.
    pub(super) fn open_statement(
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

    pub(super) fn state(
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
            statements::batch(&statement, &self.target.origin, source, &self.account, holds, tools.now.unix);
        tools.context.outlet.send(batch, &tools.context.stop, &tools.context.beat)
    }

    /// Declares what losses keep positions back, of all files: the reader waits for those positions.
    pub(super) fn state_all_losses(&mut self, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
        (0..self.chain.len()).try_for_each(|index| self.state_losses(index, tools))
    }

    /// Sends what losses wait to be declared.
    pub(super) fn state_losses(&mut self, index: usize, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
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
            // Who is full must go on looking after files that are rotated and deleted; there is time for this later.
            let room = !tools.context.outlet.is_full();
            if room && file.opened && !file.stated && position > file.progress {
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
    pub(super) fn settle_front(&mut self, tools: &mut Tools<'_>) -> Result<(), OutletClosed> {
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
    pub(super) fn rewind_if_abandoned(&mut self, keeper: &Keeper) {
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
            tracing::trace!(file.key, end, position, "read again");
            lose_unreadable(file, end, &self.account);
        }
        self.account.unread(std::mem::take(&mut self.parts_bytes));
        self.decoder.reset();
        self.part_holds.drain(..).for_each(|(_, _, _, hold)| hold.release());
        keeper.burn_bridges(&keys);
    }

    /// The file ends here, with the `lost` bytes after what was read declared lost.
    pub(super) fn lose_tail(&mut self, index: usize, lost: u64, reason: LossReason) {
        let file = &mut self.chain[index];
        file.drained = true;
        if lost > 0 {
            file.bind_unread();
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
