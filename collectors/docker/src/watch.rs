//! Following the engine: connect, list, inspect, listen, and again from the start when it goes away.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bollard::models::ContainerSummary;
use futures_util::future::{Either, select};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep, timeout_at};

use crate::engine::{Engine, EngineError, Events, Inspected};
use crate::{ContainerInfo, DockerConfig, Enabled};

/// How often all containers are listed whatever was announced.
const RELIST: Duration = Duration::from_secs(60);
/// Pauses between two attempts to connect: from the first, doubling, to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// All containers of the engine at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// How things stand with the engine.
    pub connection: Connection,
    /// Its containers by id. While there is no connection those that were known last: their files are still there.
    pub containers: Vec<ContainerInfo>,
}

/// How things stand with the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// Connected.
    Connected {
        /// The engine's version.
        version: String,
    },
    /// No engine, or none that answers.
    Absent {
        /// Why, for people.
        reason: String,
    },
    /// The configuration says not to look.
    Off,
}

/// Follows the engine until `stop` is done, on a tokio runtime with I/O and time enabled. Calls `on_change` with the
/// first state and after every change, at once and from this task: it must not block.
pub async fn watch(
    config: DockerConfig,
    stop: impl Future<Output = ()> + Send,
    on_change: impl FnMut(Snapshot) + Send,
) {
    let watcher = Watcher { config, containers: BTreeMap::new(), last: None, warned: false, on_change };
    match select(pin!(watcher.run()), pin!(stop)).await {
        Either::Left((never, _)) => match never {},
        Either::Right(((), _)) => {}
    }
}

struct Watcher<F> {
    config: DockerConfig,
    containers: BTreeMap<String, ContainerInfo>,
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
            let began = Instant::now();
            let error = match Engine::connect(self.config.path()).await {
                Ok(engine) => self.follow(&engine).await,
                Err(error) => error,
            };
            self.lost(&error);
            pause = if began.elapsed() > BACKOFF.1 { BACKOFF.0 } else { (pause * 2).min(BACKOFF.1) };
            sleep(pause).await;
        }
    }

    /// Keeps up with an engine until it fails.
    async fn follow(&mut self, engine: &Engine) -> EngineError {
        match self.follow_until_error(engine).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn follow_until_error(&mut self, engine: &Engine) -> Result<Infallible, EngineError> {
        let mut events = engine.events();
        loop {
            // Asks for the events before the listing, so that nothing falls between the two.
            let mut ids = ready_ids(&mut events)?;
            self.relist(engine).await?;
            self.connected(engine);
            let until = Instant::now() + RELIST;
            while Instant::now() < until {
                self.look_at(engine, std::mem::take(&mut ids)).await?;
                self.connected(engine);
                ids = next_ids(&mut events, until).await?;
            }
        }
    }

    /// Lists everything, and inspects what is new or different.
    async fn relist(&mut self, engine: &Engine) -> Result<(), EngineError> {
        let listed: BTreeMap<String, ContainerSummary> = engine
            .list()
            .await?
            .into_iter()
            .filter_map(|answer| Some((answer.id.clone()?, answer)))
            .collect();
        self.containers.retain(|id, _| listed.contains_key(id));
        let same = |id: &str| self.containers.get(id).is_some_and(|known| known.matches(&listed[id]));
        let changed = listed.keys().filter(|id| !same(id)).cloned().collect();
        for (id, answer) in engine.inspect(changed).await {
            self.take(id, answer, &listed)?;
        }
        Ok(())
    }

    /// Inspects containers to which something happened.
    async fn look_at(&mut self, engine: &Engine, ids: BTreeSet<String>) -> Result<(), EngineError> {
        for (id, answer) in engine.inspect(ids).await {
            self.take(id, answer, &BTreeMap::new())?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        id: String,
        answer: Inspected,
        listed: &BTreeMap<String, ContainerSummary>,
    ) -> Result<(), EngineError> {
        match answer {
            Ok(Some(info)) => drop(self.containers.insert(id, info)),
            Ok(None) => drop(self.containers.remove(&id)),
            Err(error) if error.concerns_one_answer() => {
                tracing::warn!(container = id, %error, "cannot inspect a container; trying again within a minute");
                let listed = listed.get(&id);
                self.containers
                    .entry(id.clone())
                    .or_insert_with(|| ContainerInfo::unreadable(id, listed, &error.to_string()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn connected(&mut self, engine: &Engine) {
        if !self.is_connected() {
            let (path, containers) = (self.config.path().display(), self.containers.len());
            tracing::info!(%path, version = engine.version, containers, "connected to the Docker engine");
        }
        self.warned = false;
        self.publish(Connection::Connected { version: engine.version.clone() });
    }

    fn lost(&mut self, error: &EngineError) {
        let expected = self.config.enabled == Enabled::Always;
        if (self.is_connected() || expected) && !self.warned {
            tracing::warn!(%error, "no Docker engine; trying again");
            self.warned = true;
        } else {
            tracing::debug!(%error, "no Docker engine");
        }
        self.publish(Connection::Absent { reason: error.to_string() });
    }

    fn is_connected(&self) -> bool {
        self.last.as_ref().is_some_and(|last| matches!(last.connection, Connection::Connected { .. }))
    }

    fn publish(&mut self, connection: Connection) {
        let snapshot = Snapshot { connection, containers: self.containers.values().cloned().collect() };
        if self.last.as_ref() != Some(&snapshot) {
            self.last = Some(snapshot.clone());
            (self.on_change)(snapshot);
        }
    }
}

/// Containers whose events have arrived.
fn ready_ids(events: &mut Events) -> Result<BTreeSet<String>, EngineError> {
    std::iter::from_fn(|| events.next().now_or_never().flatten()).collect()
}

/// Waits for an event, or until it is time to list again. Takes all that have arrived by then, so that a burst
/// costs one inspection for each container and not for each event.
async fn next_ids(events: &mut Events, until: Instant) -> Result<BTreeSet<String>, EngineError> {
    let Ok(Some(first)) = timeout_at(until, events.next()).await else { return Ok(BTreeSet::new()) };
    let first = first?;
    let mut ids = ready_ids(events)?;
    ids.insert(first);
    Ok(ids)
}
