//! The collector: what it is made of, and one life of it on two threads. One sends what is in the spool; the other takes
//! part in the election and watches. The first goes on with what is in the spool, whatever the second does.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::Value;
use taffrail_api::{ApiConfig, ApiError, Counters, ErrorKind, Health, Pause, Server};
use taffrail_record::{Ask, Collector, Context, Input, Ledger, Node, Origin, Payload, Stop};
use taffrail_spool::{Contents, Sender, Spool};
use tokio::sync::watch::{Receiver, Sender as Flag, channel};
use tokio::time::sleep;

use crate::config::EventsConfig;
use crate::document::Writer;
use crate::election::{Candidate, Timing};
use crate::lease::Leases;
use crate::random;
use crate::room::Room;
use crate::status::{Metrics, Role, Status, View};
use crate::timeline::{Entry, Ring, Selector};
use crate::watch::Watch;

/// How long a request about a Lease may take.
const LEASE_ANSWER: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long what is under way has at the end.
const DRAIN: Duration = Duration::from_secs(5);

/// Takes part in the election of who watches the cluster's events, and sends those that it has watched.
#[derive(Clone)]
pub struct EventsCollector {
    config: Arc<EventsConfig>,
    api: ApiConfig,
    requests: Arc<Counters>,
    configured: Arc<Node>,
    node: Arc<ArcSwap<Node>>,
    cluster: Option<String>,
    folder: PathBuf,
    timing: Timing,
    drain: Duration,
    handle: Events,
}

/// What is known of a running collector. Clones are the same.
#[derive(Clone)]
pub struct Events {
    status: Arc<Status>,
    health: Health,
    ring: Arc<Mutex<Ring>>,
}

impl Events {
    /// How it stands.
    #[must_use]
    pub fn view(&self) -> View {
        let mut view = self.status.view();
        // Whoever does not watch any more knows nothing new of how that goes.
        let away = self.health.current_trouble().filter(|_| view.role == Role::Leader);
        view.trouble = match (view.trouble.take(), away) {
            (Some(one), Some(other)) => Some(format!("{one}; {other}")),
            (one, other) => one.or(other),
        };
        view
    }

    /// What is remembered of somebody's events, oldest first; of little use when another agent watches.
    #[must_use]
    pub fn timeline(&self, selector: &Selector) -> Vec<Entry> {
        self.ring.lock().select(selector)
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn Ask> {
        Arc::new(Metrics(Arc::clone(&self.status)))
    }
}

impl EventsCollector {
    /// A collector that keeps what is not stored yet in `folder`, which is its own. `requests` counts what is asked of the API
    /// server. `configured` is the node as the configuration has it, the same on every agent but for its name: what is found
    /// out, and comes and goes, must not decide in which index a document is.
    #[must_use]
    pub fn new(
        config: EventsConfig,
        api: ApiConfig,
        requests: Arc<Counters>,
        configured: Arc<Node>,
        folder: impl Into<PathBuf>,
    ) -> Self {
        let status = Arc::new(Status::default());
        status.spool_limit.store(config.spool_limit(), Ordering::Relaxed);
        let ring = Arc::new(Mutex::new(Ring::new(config.remembered)));
        EventsCollector {
            config: Arc::new(config),
            api,
            requests,
            node: Arc::new(ArcSwap::new(Arc::clone(&configured))),
            configured,
            cluster: None,
            folder: folder.into(),
            timing: Timing::default(),
            drain: DRAIN,
            handle: Events { status, health: Health::new(), ring },
        }
    }

    /// The id of the cluster, part of every document's id: the same on every agent. Default: the uid of its namespace
    /// `kube-system`.
    #[must_use]
    pub fn with_cluster(mut self, id: impl Into<String>) -> Self {
        self.cluster = Some(id.into()).filter(|id| !id.is_empty());
        self
    }

    /// The node with what is found out about it and its cluster, as it is at each time: what documents say of it.
    #[must_use]
    pub fn with_node(mut self, node: Arc<ArcSwap<Node>>) -> Self {
        self.node = node;
        self
    }

    /// With other waiting times: of all agents alike.
    #[must_use]
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// How long it waits at its end for what is under way to be settled. Default: five seconds.
    #[must_use]
    pub fn with_drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// What can be asked while it runs, in whatever life.
    #[must_use]
    pub fn handle(&self) -> Events {
        self.handle.clone()
    }

    /// One for another life, with the same counters.
    #[must_use]
    pub fn again(&self) -> Self {
        self.clone()
    }

    fn contents(&self) -> Contents {
        let node = Arc::clone(&self.configured);
        Contents {
            origin: Arc::new(Origin { node, input: Input::Events, pod: None, container: None }),
            payload: Payload::Event,
            account: Ledger::EVENTS,
            name: "events",
        }
    }
}

impl Collector for EventsCollector {
    fn name(&self) -> &'static str {
        "events"
    }

    fn run(&mut self, context: &Context) -> Result<(), Box<dyn Error + Send + Sync>> {
        let spool = Spool::open(&self.folder, self.config.spool_limit(), &|| context.beat.beat())?;
        let spool = Arc::new(spool);
        let ending = Stop::new();
        let told = ending.clone();
        context.stop.when_raised(move || told.raise());
        let life = Life::start(self.clone(), Arc::clone(&spool), &ending)?;
        let mut sender = Sender::new(&spool, context, self.contents(), &*self.handle.status);
        while !ending.is_raised() && !life.is_over() {
            if sender.step().is_err() {
                break;
            }
        }
        let was_told = ending.is_raised();
        ending.raise();
        if !life.is_over() {
            sender.drain(self.drain);
        }
        life.end(context)?;
        if was_told {
            Ok(())
        } else {
            Err("watching the cluster's events ended without being told to".into())
        }
    }
}

/// The thread that takes part and watches.
struct Life {
    drained: Flag<bool>,
    thread: JoinHandle<()>,
}

impl Life {
    fn start(collector: EventsCollector, spool: Arc<Spool>, ending: &Stop) -> std::io::Result<Life> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (raise, stop) = channel(false);
        let (drained, settled) = channel(false);
        ending.when_raised(move || {
            let _ = raise.send(true);
        });
        let life = async move { collector.take_part(spool, &mut Signal(stop), &mut Signal(settled)).await };
        let spawn = std::thread::Builder::new().name("events-watch".to_owned());
        let thread = spawn.spawn(move || runtime.block_on(life))?;
        Ok(Life { drained, thread })
    }

    fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Everything that can be settled is.
    fn end(self, context: &Context) -> Result<(), Box<dyn Error + Send + Sync>> {
        let _ = self.drained.send(true);
        while !self.thread.is_finished() {
            context.beat.beat();
            std::thread::sleep(Duration::from_millis(10));
        }
        self.thread.join().map_err(|_| "watching the cluster's events panicked; see the log".into())
    }
}

struct Signal(Receiver<bool>);

impl Signal {
    async fn raised(&mut self) {
        // Nobody left to raise it is as good.
        let _ = self.0.wait_for(|raised| *raised).await;
    }

    /// What comes of `work`, unless it is raised before.
    async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.raised() => None,
            done = work => Some(done),
        }
    }
}

impl EventsCollector {
    async fn take_part(&self, spool: Arc<Spool>, stop: &mut Signal, settled: &mut Signal) {
        let Some((server, cluster)) = stop.or(self.find_cluster()).await else { return };
        let namespace = self.config.namespace();
        let leases =
            Leases { server: server.clone(), namespace, patience: LEASE_ANSWER.min(self.timing.deadline) };
        let identity = format!("{}_{:016x}", self.configured.name, random::number());
        let status = Arc::clone(&self.handle.status);
        let mut candidate =
            Candidate::new(leases, &self.config.lease, identity, self.timing, Arc::clone(&status));
        let watch = Watch {
            server,
            spool: Arc::clone(&spool),
            status: Arc::clone(&status),
            health: self.handle.health.clone(),
            floor: Mutex::default(),
            room: Mutex::new(Room::new(
                Arc::clone(&self.config),
                spool,
                status,
                Writer::new(Arc::clone(&self.node), cluster.as_str()),
                Arc::clone(&self.handle.ring),
                candidate.authority.clone(),
            )),
        };
        while let Some(position) = stop.or(candidate.win()).await {
            *watch.floor.lock() = position;
            if let Some(why) = self.lead(&watch, &mut candidate, &cluster, stop).await {
                tracing::info!(why, "this agent does not watch the events of the cluster any more");
                continue;
            }
            watch.room.lock().hurry();
            let position = || watch.position();
            tokio::select! {
                _ = candidate.hold(&position) => {}
                () = settled.raised() => {}
            }
            candidate.release(watch.position()).await;
            return;
        }
        candidate.release(None).await;
    }

    /// Watches until it is told to stop, or for as long as it may: then it says why it may not.
    async fn lead(
        &self,
        watch: &Watch,
        candidate: &mut Candidate,
        cluster: &str,
        stop: &mut Signal,
    ) -> Option<String> {
        let position = || watch.position();
        let watching = async {
            while let Err(refusal) = watch.spool.belongs_to(cluster) {
                watch.status.set_trouble("spool", Some(format!("events cannot be put aside: {refusal:?}")));
                sleep(FIRST_PAUSE).await;
            }
            watch.run().await;
        };
        let ended = tokio::select! {
            biased;
            () = stop.raised() => None,
            why = candidate.hold(&position) => Some(why),
            () = watching => Some("watching ended".to_owned()),
        };
        ["watch", "spool"].into_iter().for_each(|part| watch.status.set_trouble(part, None));
        ended
    }

    /// The server, and the id of the cluster that it is of.
    async fn find_cluster(&self) -> (Server, String) {
        let mut pause = Pause::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let error = match self.ask_cluster().await {
                Ok(found) => {
                    self.handle.status.set_trouble("cluster", None);
                    return found;
                }
                Err(error) => error,
            };
            let trouble = format!(
                "the id of the cluster is not known, and no event is watched without it: {error}; {}",
                error.kind.remedy()
            );
            self.handle.status.set_trouble("cluster", Some(trouble));
            sleep(pause.next(error.retry_after)).await;
        }
    }

    async fn ask_cluster(&self) -> Result<(Server, String), ApiError> {
        const PATH: &str = "/api/v1/namespaces/kube-system";
        let server = Server::open(&self.api, Arc::clone(&self.requests)).await?;
        if let Some(id) = &self.cluster {
            return Ok((server, id.clone()));
        }
        let uid = uid(&server.get("namespaces", PATH).await?);
        let kind = || ErrorKind::Garbled("the namespace kube-system has no uid".to_owned());
        let uid =
            uid.ok_or_else(|| ApiError { what: format!("GET {PATH}"), kind: kind(), retry_after: None })?;
        Ok((server, uid))
    }
}

fn uid(namespace: &[u8]) -> Option<String> {
    let namespace: Value = serde_json::from_slice(namespace).ok()?;
    let uid = namespace.pointer("/metadata/uid")?.as_str()?;
    (!uid.is_empty()).then(|| uid.to_owned())
}
