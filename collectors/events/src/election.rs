//! Who watches: one agent of all, by a Lease; a few that look after it often, by Leases of their own; everybody else
//! seldom.
//!
//! - A Lease is taken only as it was read, by its resourceVersion: of two who take it at once one fails.
//! - It is over when nobody has written it for its whole time while this agent looked, by this agent's own clock. Clocks of
//!   different machines are never compared.
//! - Who holds it and could not write it for two thirds of that time does nothing in its name any more ([`Authority`]).
//! - With thousands of agents only the one that watches and those in the standby places cost the API server more than a
//!   look every few minutes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use taffrail_api::{ApiError, ErrorKind, Pause};
use tokio::time::sleep;

use crate::config::{STANDBY_PLACES, standby_place};
use crate::lease::{Lease, Leases, Sight};
use crate::random::fraction;
use crate::status::{Role, Status};

/// Waiting times of an election.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// For how long a Lease must not have been written for somebody else to take it.
    pub lease: Duration,
    /// How long who watches goes on without having written it.
    pub deadline: Duration,
    /// How often who watches writes it, and those who stand by read it.
    pub retry: Duration,
    /// The same for standby places: how long ...
    pub standby_lease: Duration,
    /// ... and how often.
    pub standby_renew: Duration,
    /// How often everybody else reads it. Over a tenth of it the first looks for a standby place are spread.
    pub glance: Duration,
    /// How often the position is written at most.
    pub position: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Timing {
            lease: seconds(15),
            deadline: seconds(10),
            retry: seconds(2),
            standby_lease: seconds(180),
            standby_renew: seconds(60),
            glance: seconds(300),
            position: seconds(10),
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Whether this agent may act as the one that watches, at this moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Authority(Arc<Mutex<Option<Instant>>>);

impl Authority {
    pub(crate) fn holds(&self) -> bool {
        self.0.lock().is_some_and(|until| Instant::now() < until)
    }

    pub(crate) fn until(&self, end: Option<Instant>) {
        *self.0.lock() = end;
    }
}

/// An agent that takes part.
pub(crate) struct Candidate {
    leases: Leases,
    name: String,
    identity: String,
    timing: Timing,
    status: Arc<Status>,
    pub(crate) authority: Authority,
    sights: HashMap<String, Sight>,
    /// The standby place, and when it was last written.
    place: Option<(Lease, Instant)>,
    looked_for_place: bool,
    /// Whether the Lease itself was looked at.
    has_looked: bool,
    /// While it is held.
    held: Option<Lease>,
    /// When it was last written: the request was sent then.
    renewed: Instant,
    /// What position was written last, and when.
    wrote: (Option<u64>, Instant),
}

impl Candidate {
    pub(crate) fn new(
        leases: Leases,
        name: &str,
        identity: String,
        timing: Timing,
        status: Arc<Status>,
    ) -> Self {
        identity.clone_into(&mut status.view.lock().identity);
        let now = Instant::now();
        Candidate {
            leases,
            name: name.to_owned(),
            identity,
            timing,
            status,
            authority: Authority::default(),
            sights: HashMap::new(),
            place: None,
            looked_for_place: false,
            has_looked: false,
            held: None,
            renewed: now,
            wrote: (None, now),
        }
    }

    /// Waits until this agent is the one that watches; the position that it begins with.
    pub(crate) async fn win(&mut self) -> Option<u64> {
        let mut failures = Pause::new(FIRST_PAUSE, Duration::from_secs(30).min(self.timing.glance));
        // All agents of a cluster may have been started at once.
        sleep(self.timing.retry.mul_f64(fraction())).await;
        loop {
            let pause = match self.attempt().await {
                Ok(Some(position)) => return position,
                Ok(None) => {
                    failures.reset();
                    self.status.set_trouble("election", None);
                    self.pause()
                }
                Err(error) if matches!(error.kind, ErrorKind::Conflict(_)) => {
                    self.timing.retry.mul_f64(fraction())
                }
                Err(error) => {
                    let remedy = match &error.kind {
                        // To look for a Lease that is not there is no error: the namespace is not.
                        ErrorKind::NotFound(_) => {
                            "make that namespace, or name another: events.lease_namespace"
                        }
                        kind => kind.remedy(),
                    };
                    self.status.set_trouble(
                        "election",
                        Some(format!("who watches events is not known: {error}; {remedy}")),
                    );
                    failures.next(error.retry_after)
                }
            };
            sleep(pause).await;
        }
    }

    fn pause(&self) -> Duration {
        if !self.looked_for_place {
            return (self.timing.glance / 10).mul_f64(fraction());
        }
        let usual = if self.place.is_some() { self.timing.retry } else { self.timing.glance };
        usual.mul_f64(0.75 + fraction() / 2.0)
    }

    /// Takes the Lease if it can be taken, and a standby place otherwise.
    async fn attempt(&mut self) -> Result<Option<Option<u64>>, ApiError> {
        let found = self.leases.look(&self.name).await?;
        let sight = self.sights.entry(self.name.clone()).or_default();
        let is_free = found.as_ref().is_none_or(|lease| {
            let idle = sight.see(lease, Instant::now());
            lease.holder().is_empty() || idle >= self.timing.lease
        });
        if is_free {
            let lease = found.unwrap_or_else(|| Lease::new(&self.leases.namespace, &self.name));
            let position = self.take(lease).await?;
            self.leave_place().await;
            return Ok(Some(position));
        }
        self.show(found.as_ref(), false);
        // Looking through the standby places is put off by everybody's own time: see [`Candidate::pause`].
        if std::mem::replace(&mut self.has_looked, true) {
            self.stand_by().await?;
        }
        Ok(None)
    }

    async fn take(&mut self, lease: Lease) -> Result<Option<u64>, ApiError> {
        let (sent, before) = (Instant::now(), lease.holder().to_owned());
        let lease = lease.held(&self.identity, self.timing.lease, jiff::Timestamp::now());
        let lease = self.leases.put(&lease).await?;
        let position = lease.position();
        self.wrote = (position, sent.checked_sub(self.timing.position).unwrap_or(sent));
        self.renewed(lease, sent);
        self.status.terms.add(1);
        tracing::info!(
            identity = self.identity,
            before,
            position,
            "this agent watches the events of the cluster"
        );
        Ok(position)
    }

    fn renewed(&mut self, lease: Lease, sent: Instant) {
        self.renewed = sent;
        self.authority.until(Some(sent + self.timing.deadline));
        self.show(Some(&lease), true);
        self.held = Some(lease);
    }

    fn show(&self, lease: Option<&Lease>, leads: bool) {
        let mut view = self.status.view.lock();
        view.role = match (leads, &self.place) {
            (true, _) => Role::Leader,
            (false, Some(_)) => Role::Standby,
            (false, None) => Role::Bystander,
        };
        if let Some(lease) = lease {
            lease.holder().clone_into(&mut view.leader);
            lease.acquired().clone_into(&mut view.since);
            view.transitions = lease.transitions();
            if !leads {
                view.position = lease.position();
            }
        }
    }

    /// Writes the Lease now and then, with the position. Ends when it is no longer held, and says why.
    pub(crate) async fn hold(&mut self, position: &(dyn Fn() -> Option<u64> + Sync)) -> String {
        loop {
            sleep(self.timing.retry).await;
            if let Err(why) = self.renew(position()).await {
                self.authority.until(None);
                self.held = None;
                self.show(None, false);
                return why;
            }
        }
    }

    async fn renew(&mut self, position: Option<u64>) -> Result<(), String> {
        let Some(lease) = self.held.clone() else { return Err("it is not held".to_owned()) };
        let sent = Instant::now();
        if sent.duration_since(self.renewed) >= self.timing.deadline {
            return Err("it could not be written in time".to_owned());
        }
        let moved = position != self.wrote.0;
        let write =
            moved && (sent.duration_since(self.wrote.1) >= self.timing.position || position.is_none());
        let position = if write { position } else { self.wrote.0 };
        let lease = lease.held(&self.identity, self.timing.lease, jiff::Timestamp::now()).at(position);
        let patience = self.timing.deadline.saturating_sub(sent.duration_since(self.renewed));
        match tokio::time::timeout(patience, self.leases.put(&lease)).await {
            Ok(Ok(lease)) => {
                if write {
                    self.wrote = (position, sent);
                }
                self.renewed(lease, sent);
                Ok(())
            }
            Ok(Err(error)) => self.not_renewed(&error).await,
            Err(_) => Err("the API server did not answer in time".to_owned()),
        }
    }

    /// What was not answered may have been written all the same: then the next is a conflict with oneself.
    async fn not_renewed(&mut self, error: &ApiError) -> Result<(), String> {
        if !matches!(error.kind, ErrorKind::Conflict(_) | ErrorKind::NotFound(_)) {
            tracing::warn!(%error, "the Lease of who watches events was not written; tried again");
            return Ok(());
        }
        match self.leases.get(&self.name).await {
            Ok(Some(lease)) if lease.holder() == self.identity => {
                self.held = Some(lease);
                Ok(())
            }
            Ok(Some(lease)) => Err(format!("{:?} has taken it", lease.holder())),
            Ok(None) => Err("it was deleted".to_owned()),
            Err(_) => Ok(()),
        }
    }

    /// Gives up what is held, with a last position: at the orderly end.
    pub(crate) async fn release(&mut self, position: Option<u64>) {
        let stands = self.authority.holds();
        self.authority.until(None);
        if let Some(lease) = self.held.take().filter(|_| stands) {
            let lease = lease.at(position).released(jiff::Timestamp::now());
            if let Err(error) = self.leases.put(&lease).await {
                tracing::warn!(%error, "the Lease of who watches events is left to end by itself");
            }
        }
        self.leave_place().await;
    }

    async fn leave_place(&mut self) {
        if let Some((lease, _)) = self.place.take() {
            let _ = self.leases.put(&lease.released(jiff::Timestamp::now())).await;
        }
    }

    /// Keeps the standby place, or looks for one.
    async fn stand_by(&mut self) -> Result<(), ApiError> {
        match self.place.take() {
            Some((lease, written)) if written.elapsed() < self.timing.standby_renew => {
                self.place = Some((lease, written));
                Ok(())
            }
            Some((lease, _)) => {
                let kept = self.take_place(lease.clone()).await;
                match kept {
                    Err(error) if !matches!(error.kind, ErrorKind::Conflict(_) | ErrorKind::NotFound(_)) => {
                        self.place = Some((lease, Instant::now()));
                        Err(error)
                    }
                    // Somebody has it now: this agent was away for too long.
                    _ => Ok(()),
                }
            }
            None => self.look_for_place().await,
        }
    }

    /// At first in all places, later in one each time: they are seldom free.
    async fn look_for_place(&mut self) -> Result<(), ApiError> {
        let first = (fraction() * f64::from(STANDBY_PLACES)) as u32;
        let looks = if self.looked_for_place { 1 } else { STANDBY_PLACES };
        for number in (0..looks).map(|look| (first + look) % STANDBY_PLACES + 1) {
            let name = standby_place(&self.name, number);
            let found = self.leases.look(&name).await?;
            let sight = self.sights.entry(name.clone()).or_default();
            let is_free = found.as_ref().is_none_or(|lease| {
                let idle = sight.see(lease, Instant::now());
                lease.holder().is_empty() || idle >= self.timing.standby_lease
            });
            if is_free {
                let lease = found.unwrap_or_else(|| Lease::new(&self.leases.namespace, &name));
                match self.take_place(lease).await {
                    Ok(()) => break,
                    Err(error) if matches!(error.kind, ErrorKind::Conflict(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.looked_for_place = true;
        self.show(None, false);
        Ok(())
    }

    async fn take_place(&mut self, lease: Lease) -> Result<(), ApiError> {
        let now = Instant::now();
        let lease = lease.held(&self.identity, self.timing.standby_lease, jiff::Timestamp::now());
        self.place = Some((self.leases.put(&lease).await?, now));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
