//! Following the runtime: find, list, wait, list again, and from the start when it goes away.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::listing::Listing;
use crate::messages::VersionResponse;
use crate::runtime::{Runtime, RuntimeError};
use crate::{ContainerInfo, CriConfig, Enabled};

/// How often everything is listed.
const RELIST: Duration = Duration::from_secs(10);
/// The shortest time between two listings, however often the watch is nudged.
const REST: Duration = Duration::from_secs(1);
/// Pauses between two attempts to connect: from the first, doubling, to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// How often each kind of failure was met; every kind is there. What is not there in `auto` and never was, is no
/// failure.
pub type Errors = BTreeMap<&'static str, u64>;

/// What the runtime knows at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// How things stand with the runtime.
    pub connection: Connection,
    /// Its containers and sandboxes by id. While there is no connection those that were known last.
    pub containers: Vec<ContainerInfo>,
    /// Failures so far.
    pub errors: Errors,
}

/// How things stand with the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// Connected.
    Connected {
        /// `containerd`, `cri-o`, `docker`.
        runtime: String,
        /// Its version.
        version: String,
    },
    /// Nothing there serves the CRI.
    Absent {
        /// Why, for people.
        reason: String,
    },
    /// There is something that may not be used, or does not answer as it should.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// The configuration says not to look.
    Off,
}

/// Follows the runtime until `stop` is done, on a tokio runtime with I/O and time enabled. Lists at once when `nudge` is
/// raised. Calls `on_change` with the first state and after every change, from this task: it must not block.
pub async fn watch(
    config: CriConfig,
    stop: impl Future<Output = ()> + Send,
    nudge: Arc<Notify>,
    on_change: impl FnMut(Snapshot) + Send,
) {
    let errors = RuntimeError::KINDS.map(|kind| (kind, 0)).into();
    let watcher =
        Watcher { config, nudge, containers: BTreeMap::new(), errors, last: None, warned: false, on_change };
    match select(pin!(watcher.run()), pin!(stop)).await {
        Either::Left((never, _)) => match never {},
        Either::Right(((), _)) => {}
    }
}

struct Watcher<F> {
    config: CriConfig,
    nudge: Arc<Notify>,
    containers: BTreeMap<String, ContainerInfo>,
    errors: Errors,
    last: Option<Snapshot>,
    warned: bool,
    on_change: F,
}

impl<F: FnMut(Snapshot) + Send> Watcher<F> {
    async fn run(mut self) -> Infallible {
        if self.config.enabled == Enabled::Never {
            self.publish(Connection::Off);
            return std::future::pending().await;
        }
        let mut pause = BACKOFF.0;
        loop {
            let error = match Runtime::find(&self.config).await {
                Ok(runtime) => self.follow(&runtime).await,
                Err(error) => error,
            };
            let was_connected = self.lost(&error);
            pause = if was_connected { BACKOFF.0 } else { (pause * 2).min(BACKOFF.1) };
            sleep(pause).await;
        }
    }

    /// Keeps up with a runtime until it fails.
    async fn follow(&mut self, runtime: &Runtime) -> RuntimeError {
        let mut listing = Listing::default();
        loop {
            match listing.take(runtime).await {
                Ok((version, containers)) => {
                    self.containers = containers;
                    self.connected(runtime, version);
                }
                Err(error) => return error,
            }
            sleep(REST).await;
            // Nudged or not, it is time to list again.
            let _ = timeout(RELIST.saturating_sub(REST), self.nudge.notified()).await;
        }
    }

    fn connected(&mut self, runtime: &Runtime, version: VersionResponse) {
        let VersionResponse { runtime_name: name, runtime_version: version } = version;
        if !self.is_connected() {
            let (path, containers) = (runtime.path().display(), self.containers.len());
            tracing::info!(%path, runtime = name, version, containers, "connected to the CRI runtime");
        }
        self.warned = false;
        self.publish(Connection::Connected { runtime: name, version });
    }

    /// Returns whether there was a connection.
    fn lost(&mut self, error: &RuntimeError) -> bool {
        let was_connected = self.is_connected();
        let expected = was_connected || self.config.enabled == Enabled::Always;
        if expected || !error.is_absence() {
            *self.errors.entry(error.kind()).or_default() += 1;
        }
        if expected && !self.warned {
            tracing::warn!(%error, "no CRI runtime; trying again");
            self.warned = true;
        } else {
            tracing::debug!(%error, "no CRI runtime");
        }
        let reason = error.to_string();
        self.publish(match error.is_absence() {
            true => Connection::Absent { reason },
            false => Connection::Failed { reason },
        });
        was_connected
    }

    fn is_connected(&self) -> bool {
        self.last.as_ref().is_some_and(|last| matches!(last.connection, Connection::Connected { .. }))
    }

    fn publish(&mut self, connection: Connection) {
        let containers = self.containers.values().cloned().collect();
        let snapshot = Snapshot { connection, containers, errors: self.errors.clone() };
        if self.last.as_ref() != Some(&snapshot) {
            self.last = Some(snapshot.clone());
            (self.on_change)(snapshot);
        }
    }
}
