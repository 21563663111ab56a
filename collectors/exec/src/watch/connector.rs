//! By the process connector and `/proc`; and, where the kernel permits that, by what its audit tells of programs.

use std::time::{Duration, Instant};

use nix::time::ClockId;

use super::{PATIENCE, ROUND, Watch, clock, read, since_start};
use crate::connector::{Connector, Event};
use crate::execve::{Heard, Pairs};
use crate::follow::{Followed, Look};
use crate::netlink::wait;
use crate::scan::Entered;
use crate::wire::Record;

/// How often it is looked whether what waits for the audit's word waits still.
const OFTEN: Duration = Duration::from_millis(20);

/// An event of the connector, when it was, and what was seen then.
type Seen = (Event, u64, Option<Box<Look>>);

impl Watch {
    /// Until it is told to stop, or the audit is not to be heard any more: then why not.
    pub(super) fn listen(
        &mut self,
        mut connector: Connector,
        mut heard: Option<Heard>,
    ) -> Result<(), String> {
        self.end_earlier();
        let mut followed = Followed::default();
        let looked = followed.look_through(&self.roots);
        for entered in self.looked(looked).map(|scan| scan.entered).unwrap_or_default() {
            self.find(&mut followed, &entered);
        }
        let mut pairs = Pairs::<Seen>::default();
        let mut round = Instant::now();
        while !self.stop.is_raised() {
            self.attribute();
            let sockets = std::iter::once(connector.socket()).chain(heard.as_ref().map(Heard::socket));
            let patience = if pairs.is_empty() { PATIENCE } else { OFTEN };
            wait(&sockets.collect::<Vec<_>>(), patience);
            self.take_events(&mut connector, &mut followed, &mut pairs, heard.is_some());
            if let Some(heard) = &mut heard {
                heard.read(|execve| pairs.told(execve, Instant::now()));
            }
            while let Some(paired) = pairs.next(Instant::now()) {
                let (event, time, look) = paired.what;
                let records = followed.take(&self.roots, (event, time), look, paired.execve);
                self.hand_on(&followed, records);
            }
            if round.elapsed() >= ROUND {
                round = Instant::now();
                let unheard = heard.as_mut().map_or(Ok(0), Heard::round)?;
                followed.lose(connector.take_lost() + unheard + pairs.forget(Instant::now()));
                let records = followed.sweep(&self.roots, since_start());
                self.hand_on(&followed, records);
                self.status.counted(&followed.sessions());
                self.status.view.lock().unread = followed.unread;
            }
        }
        Ok(())
    }

    /// What the connector has told, with what is to be seen now; programs wait for the audit's word.
    fn take_events(
        &mut self,
        connector: &mut Connector,
        followed: &mut Followed,
        pairs: &mut Pairs<Seen>,
        is_heard: bool,
    ) {
        let offset = since_start() as i64 - read(ClockId::CLOCK_MONOTONIC) as i64;
        let clock = clock();
        connector.read(|told| {
            let time = told.time.saturating_add_signed(offset);
            let program = match told.event {
                Event::Exec { pid } if is_heard => Some((pid, (clock.time(time) / 1_000_000) as u64)),
                _ => None,
            };
            let look = followed.look_at(&self.roots, told.event);
            pairs.happened((told.event, time, look), program, Instant::now());
        });
    }

    /// A session that was there before.
    fn find(&mut self, followed: &mut Followed, entered: &Entered) {
        let first = entered.processes.first().map_or(0, |first| first.process.start);
        let number = followed.free_number(first);
        let texts: Vec<_> = entered.processes.iter().map(|seen| seen.texts(&self.roots)).collect();
        let containers = followed.containers.clone();
        containers.iter().for_each(|container| self.home(container));
        let (session, page) = self.desk.book.adopt(number, entered, &texts, clock());
        followed.adopt(number, session, entered);
        self.desk.page(page);
        self.wait_for_disk();
    }

    fn hand_on(&mut self, followed: &Followed, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        followed.containers.iter().for_each(|container| self.home(container));
        for record in records {
            let page = self.desk.book.take(&record, clock());
            self.desk.page(page);
            self.wait_for_disk();
        }
    }
}
