//! The node's pods, as the API server tells of them: followed, kept, and told to who writes records and metrics.
//!
//! One thread, one watch. While the server is away the last that is known stays in use, and it is said for how long
//! it has been so. Nothing here holds up the reading of logs, but for the bounded wait of a pod's first records.

mod cluster;
mod feed;
pub mod permissions;
mod teller;

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use taffrail_api::{ApiError, Counters, ErrorKind, Health, Pause, Resource, Server, follow, list};
use taffrail_pods::{AllowList, PodSeries, PodStore, PodsConfig};
use taffrail_record::{Ask, AskError, Collector, Context, Family, Kind, Node, Samples};
use tokio::sync::mpsc;

use crate::config::{Config, KubernetesConfig};
use crate::http::Shipper;
use crate::pipeline::Shared;
use crate::supervise::{Make, Patience, supervise};
use crate::targets::until_raised;
use cluster::Facts;
use feed::{Feed, NodeFeed};
pub use teller::Teller;

/// How often the labels of a namespace are looked at again; each time with a random part, so that nodes spread.
const NAMESPACE_AGE: Duration = Duration::from_secs(600);

static FAMILIES: [Family; 4] = [
    Family {
        name: "taffrail_pods_known",
        kind: Kind::Gauge,
        help: "Pods of this node that are known from the API server.",
        labels: &[],
    },
    Family {
        name: "taffrail_pods_stale_seconds",
        kind: Kind::Gauge,
        help: "For how long nothing was heard of the API server, so that what is known of pods may be out of date; 0 while \
               it is heard, missing until it was heard once.",
        labels: &[],
    },
    Family {
        name: "taffrail_pods_refused_total",
        kind: Kind::Counter,
        help: "Pods that the API server told of and that could not be understood.",
        labels: &[],
    },
    Family {
        name: "taffrail_cluster_info",
        kind: Kind::Gauge,
        help: "Which cluster this is, and where this node stands, as far as it was found out; always 1.",
        labels: &["cluster", "cluster_id", "region", "zone"],
    },
];

/// What is known of the cluster, shared with the rest of the agent.
pub struct Cluster {
    config: KubernetesConfig,
    facts: Facts,
    store: Arc<PodStore>,
    teller: Arc<Teller>,
    /// What `/metrics/pods` says; none when nobody wants it.
    series: Option<Arc<PodSeries>>,
    health: Health,
    counters: Arc<Counters>,
    refused: Arc<AtomicU64>,
}

impl Cluster {
    /// Asks the cluster which it is, where one is configured. Takes no longer than a few seconds.
    #[must_use]
    pub fn find(config: &Config) -> Option<Arc<Cluster>> {
        let kubernetes = &config.kubernetes;
        if !kubernetes.api.is_wanted() && !kubernetes.kubelet.enabled {
            return None;
        }
        let counters = Counters::new();
        let facts = Self::facts(config, &counters);
        Some(Self::new(kubernetes, &config.metrics.pods, Some(&config.state_directory()), facts, counters))
    }

    fn new(
        config: &KubernetesConfig,
        pods: &PodsConfig,
        state: Option<&Path>,
        facts: Facts,
        counters: Arc<Counters>,
    ) -> Arc<Cluster> {
        let annotations = AllowList::new(&config.metadata.annotations);
        let annotations = annotations.or(&AllowList::new(&[teller::STATIC_UID]));
        let store = Arc::new(PodStore::new(pods.store_options(&annotations)));
        let series = pods.enabled.then(|| Arc::new(PodSeries::new(&store, pods, state)));
        let teller = Teller::new(Arc::clone(&store), &config.metadata, facts.runtime.clone());
        let (config, health, refused) = (config.clone(), Health::new(), Arc::default());
        Arc::new(Cluster { config, facts, store, teller, series, health, counters, refused })
    }

    /// Of which nothing is known and nobody is asked; for the reference page.
    pub(crate) fn of_nothing() -> Arc<Cluster> {
        Self::new(
            &KubernetesConfig::default(),
            &PodsConfig::default(),
            None,
            Facts::default(),
            Counters::new(),
        )
    }

    fn facts(config: &Config, counters: &Arc<Counters>) -> Facts {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return Facts::default();
        };
        let kept = config.state_directory().join("cluster.json");
        if !config.kubernetes.api.is_wanted() {
            return Facts::default();
        }
        runtime.block_on(async {
            match Server::open(&config.kubernetes.api, Arc::clone(counters)).await {
                Ok(server) => Facts::find(&server, &config.node_name(), &kept).await,
                Err(error) => {
                    tracing::warn!(%error, remedy = error.kind.remedy(), "the cluster cannot be asked");
                    Facts::read(&kept).unwrap_or_default()
                }
            }
        })
    }

    /// Puts what was found out about the cluster on everything that is sent, unless the configuration says otherwise.
    pub fn name(&self, node: &mut Node) {
        let facts = &self.facts;
        if node.cluster.is_empty() {
            node.cluster.clone_from(&facts.cluster_name);
        }
        node.cluster_id.clone_from(&facts.cluster_id);
        for (field, value) in [("cloud.region", &facts.region), ("cloud.availability_zone", &facts.zone)] {
            if !value.is_empty() && !node.fields.iter().any(|(name, _)| name == field) {
                node.fields.push((field.to_owned(), value.clone()));
            }
        }
    }

    /// Who completes the pods of records.
    #[must_use]
    pub fn teller(&self) -> Arc<Teller> {
        Arc::clone(&self.teller)
    }

    /// Who answers on `/metrics/pods`.
    #[must_use]
    pub fn series(&self) -> Option<Arc<PodSeries>> {
        self.series.clone()
    }

    /// Its counters.
    #[must_use]
    pub fn asks(self: &Arc<Self>) -> [Arc<dyn Ask>; 2] {
        [Arc::clone(self) as Arc<dyn Ask>, Arc::clone(&self.counters) as Arc<dyn Ask>]
    }

    /// What counts requests to the API server.
    #[must_use]
    pub fn requests(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// How it goes with the API server, for readiness.
    #[must_use]
    pub fn standing(&self) -> Shipper {
        Shipper { name: "API server".to_owned(), trouble: self.health.current_trouble() }
    }

    /// Starts following the node's pods until `shared.stop` is raised.
    ///
    /// # Errors
    /// When the system grants no thread.
    pub fn start(self: &Arc<Self>, config: &Config, shared: &Shared) -> io::Result<JoinHandle<()>> {
        let with_node = config.metrics.pods.node;
        let follower = Follower { cluster: Arc::clone(self), node: config.node_name(), with_node };
        let make: Make = Box::new(move || Box::new(follower.clone()));
        let context = shared.context_without_records();
        supervise("pods", make, context, Arc::clone(&shared.components), Patience::default())
    }
}

impl Ask for Cluster {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        samples.family(&FAMILIES[0]);
        samples.sample(&[], self.store.snapshot().len() as f64);
        if let Some(stale) = self.health.stale_for() {
            samples.family(&FAMILIES[1]);
            samples.sample(&[], stale.as_secs_f64());
        }
        samples.family(&FAMILIES[2]);
        samples.sample(&[], self.refused.load(Ordering::Relaxed) as f64);
        samples.family(&FAMILIES[3]);
        let Facts { cluster_id, cluster_name, region, zone, .. } = &self.facts;
        samples.sample(&[cluster_name, cluster_id, region, zone], 1.0);
        Ok(())
    }
}

/// Follows the pods. A collector only in how it is kept running: it sends no records.
#[derive(Clone)]
struct Follower {
    cluster: Arc<Cluster>,
    node: String,
    with_node: bool,
}

impl Collector for Follower {
    fn name(&self) -> &'static str {
        "pods"
    }

    fn run(&mut self, context: &Context) -> Result<(), Box<dyn Error + Send + Sync>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let told = until_raised(context.stop.clone(), context.beat.clone());
        runtime.block_on(async {
            tokio::select! {
                () = told => {}
                () = self.follow() => {}
            }
        });
        Ok(self.cluster.series.as_ref().map_or(Ok(()), |series| series.flush())?)
    }
}

impl Follower {
    async fn follow(&self) {
        let cluster = &self.cluster;
        let (namespaces, wanted) = mpsc::unbounded_channel();
        let mut feed = Feed {
            store: Arc::clone(&cluster.store),
            teller: Arc::clone(&cluster.teller),
            namespaces,
            refused: Arc::clone(&cluster.refused),
            listed: Vec::new(),
        };
        let (api, kubelet) = (&cluster.config.api, &cluster.config.kubelet);
        let besides = async {
            if api.is_wanted() {
                let server = self.open(async || Server::open(api, self.counters()).await).await;
                tokio::join!(self.look_at_namespaces(&server, wanted), self.follow_node(&server));
            }
        };
        if kubelet.enabled {
            let server = self.open(async || Server::open_kubelet(api, kubelet, self.counters()).await).await;
            tokio::join!(self.ask_kubelet(&server, &mut feed), besides);
        } else {
            let server = self.open(async || Server::open(api, self.counters()).await).await;
            let pods = Resource::cached("pods", "/api/v1/pods").only(format!("spec.nodeName={}", self.node));
            tokio::join!(follow(&server, &pods, None, &cluster.health, &mut feed), besides);
        }
    }

    /// The node itself, for its series.
    async fn follow_node(&self, server: &Server) {
        let (Some(series), true) = (&self.cluster.series, self.with_node) else { return };
        let node = Resource::cached("nodes", "/api/v1/nodes").only(format!("metadata.name={}", self.node));
        follow(server, &node, None, &Health::new(), &mut NodeFeed(Arc::clone(series))).await;
    }

    fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.cluster.counters)
    }

    /// Again and again: kubelet has no watch.
    async fn ask_kubelet(&self, server: &Server, feed: &mut Feed) {
        let kubelet = &self.cluster.config.kubelet;
        let interval = Duration::from_secs(kubelet.interval_seconds.max(1));
        let cluster = &self.cluster;
        let health = &cluster.health;
        loop {
            match list(server, "kubelet_pods", "/pods", feed).await {
                Ok(()) => health.listed(),
                Err(error) => {
                    let remedy = match error.kind {
                        ErrorKind::Forbidden(_) => {
                            "let the agent's service account get nodes/pods, or nodes/proxy"
                        }
                        _ => error.kind.remedy(),
                    };
                    cluster.store.mark_stale(&error.to_string());
                    if health.trouble(format!("kubelet: {error}; {remedy}")) {
                        tracing::warn!(%error, remedy, url = kubelet.url, "kubelet does not tell of its pods; what is known stays as it is for now");
                    }
                }
            }
            tokio::time::sleep(interval).await;
        }
    }

    /// Credentials may appear after the agent did.
    async fn open(&self, open: impl AsyncFn() -> Result<Server, ApiError>) -> Server {
        let mut pause = Pause::new(Duration::from_secs(1), Duration::from_secs(60));
        loop {
            match open().await {
                Ok(server) => return server,
                Err(error) => {
                    let remedy = error.kind.remedy();
                    if self.cluster.health.trouble(format!("{error}; {remedy}")) {
                        tracing::warn!(%error, remedy, "nobody can be asked for the node's pods");
                    }
                    tokio::time::sleep(pause.next(None)).await;
                }
            }
        }
    }

    /// Looks up the namespaces of the node's pods, and again from time to time: a watch of them all would cost the server
    /// more, times the number of nodes.
    async fn look_at_namespaces(&self, server: &Server, mut wanted: mpsc::UnboundedReceiver<String>) {
        let mut due: HashMap<String, (Instant, Pause)> = HashMap::new();
        loop {
            let next = due.values().map(|(at, _)| *at).min();
            let wait = next.map_or(NAMESPACE_AGE, |at| at.saturating_duration_since(Instant::now()));
            tokio::select! {
                name = wanted.recv() => {
                    let Some(name) = name else { return };
                    let pause = Pause::new(Duration::from_secs(5), NAMESPACE_AGE);
                    due.entry(name).or_insert_with(|| (Instant::now(), pause));
                }
                () = tokio::time::sleep(wait) => {
                    let now = Instant::now();
                    let name = due.iter().find(|(_, (at, _))| *at <= now).map(|(name, _)| name.clone());
                    if let Some(name) = name {
                        self.look_at_namespace(server, name, &mut due).await;
                    }
                }
            }
        }
    }

    async fn look_at_namespace(
        &self,
        server: &Server,
        name: String,
        due: &mut HashMap<String, (Instant, Pause)>,
    ) {
        let store = &self.cluster.store;
        if !store.snapshot().iter().any(|pod| *pod.meta.namespace == *name) {
            due.remove(&name);
            return;
        }
        let generation = store.generation();
        let path = format!("/api/v1/namespaces/{name}");
        // From the server's cache, which may not have it yet.
        let answer = match server.get("namespaces", &format!("{path}?resourceVersion=0")).await {
            Err(error) if matches!(error.kind, ErrorKind::NotFound(_)) => {
                server.get("namespaces", &path).await
            }
            answer => answer,
        };
        let Some((at, pause)) = due.get_mut(&name) else { return };
        match answer {
            Ok(json) => {
                if let Err(error) = store.apply_namespace_json(&json) {
                    tracing::warn!(namespace = name, %error, "a namespace cannot be understood");
                }
                pause.reset();
                let spread = Pause::new(NAMESPACE_AGE, NAMESPACE_AGE).next(None) / 2;
                *at = Instant::now() + NAMESPACE_AGE / 2 + spread;
            }
            Err(error) if matches!(error.kind, ErrorKind::NotFound(_)) => {
                store.remove_namespace(&name);
                due.remove(&name);
            }
            Err(error) => {
                tracing::debug!(namespace = name, %error, "a namespace was not told");
                *at = Instant::now() + pause.next(error.retry_after);
            }
        }
        if store.generation() != generation {
            self.cluster.teller.all_changed();
        }
    }
}
