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
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use taffrail_api::{ApiError, Counters, ErrorKind, Health, Pause, Resource, Server, follow, list};
use taffrail_pods::{AllowList, PodSeries, PodStore};
use taffrail_record::{Ask, AskError, Collector, Context, Family, Kind, Node, Samples};
use tokio::sync::mpsc;

use crate::config::{Config, KubernetesConfig};
use crate::http::Shipper;
use crate::pipeline::Shared;
use crate::supervise::{Make, Patience, supervise};
use crate::targets::until_raised;
use cluster::{Facts, Untold};
use feed::{Feed, NodeFeed};
pub use teller::Teller;

/// The file in the state directory that remembers what the cluster said of itself.
const KEPT: &str = "cluster.json";

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
    /// The node as it is configured.
    configured: Node,
    /// Where facts are remembered.
    kept: PathBuf,
    facts: ArcSwap<Facts>,
    /// The node with what was found out.
    node: Arc<ArcSwap<Node>>,
    /// Whether something of the facts was not told yet.
    asks_on: bool,
    store: Arc<PodStore>,
    teller: Arc<Teller>,
    /// What `/metrics/pods` says; none when nobody wants it.
    series: Option<Arc<PodSeries>>,
    health: Health,
    /// How it goes with the node's own object.
    node_health: Health,
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
        let (facts, why) = match kubernetes.api.is_wanted() {
            true => Self::facts(config, &counters),
            false => (Facts::default(), None),
        };
        if let Some(why) = &why {
            let known = !facts.cluster_id.is_empty();
            tracing::warn!(
                why = why.why,
                known,
                "the cluster does not say which it is; until it does, what it said to an earlier life of the agent is used"
            );
        }
        Some(Self::new(config, Some(&config.state_directory()), facts, why.is_some(), counters))
    }

    fn new(
        config: &Config,
        state: Option<&Path>,
        facts: Facts,
        asks_on: bool,
        counters: Arc<Counters>,
    ) -> Arc<Cluster> {
        let (kubernetes, pods) = (&config.kubernetes, &config.metrics.pods);
        let annotations = AllowList::new(&kubernetes.metadata.annotations);
        let annotations = annotations.or(&AllowList::new(&[teller::STATIC_UID]));
        let store = Arc::new(PodStore::new(pods.store_options(&annotations)));
        let series = || Arc::new(PodSeries::new(&store, pods, state));
        let configured = config.node();
        Arc::new(Cluster {
            node: Arc::new(ArcSwap::from_pointee(named(&facts, &configured, kubernetes))),
            config: kubernetes.clone(),
            configured,
            kept: config.state_directory().join(KEPT),
            asks_on,
            series: pods.enabled.then(series),
            teller: Teller::new(Arc::clone(&store), &kubernetes.metadata, facts.runtime.clone()),
            facts: ArcSwap::from_pointee(facts),
            health: Health::new(),
            node_health: Health::new(),
            counters,
            refused: Arc::default(),
            store,
        })
    }

    /// Of which nothing is known and nobody is asked; for the reference page.
    pub(crate) fn of_nothing() -> Arc<Cluster> {
        Self::new(&Config::default(), None, Facts::default(), false, Counters::new())
    }

    /// What the cluster says of itself and of this node, and why it did not say everything.
    fn facts(config: &Config, counters: &Arc<Counters>) -> (Facts, Option<Untold>) {
        let kept = config.state_directory().join(KEPT);
        let remembered = |why: Untold| (Facts::read(&kept).unwrap_or_default(), Some(why));
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return remembered(error.to_string().into()),
        };
        runtime.block_on(async {
            match Server::open(&config.kubernetes.api, Arc::clone(counters)).await {
                Ok(server) => Facts::find(&server, &config.node_name(), &kept).await,
                Err(error) => remembered(error.into()),
            }
        })
    }

    /// The node, with what was found out about it and its cluster unless the configuration says otherwise: for everything
    /// that is sent.
    #[must_use]
    pub fn node(&self) -> Arc<ArcSwap<Node>> {
        Arc::clone(&self.node)
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
        let trouble = self
            .health
            .current_trouble()
            .or_else(|| Some(format!("the node's own series: {}", self.node_health.current_trouble()?)));
        Shipper { name: "API server".to_owned(), trouble }
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

fn named(facts: &Facts, configured: &Node, kubernetes: &KubernetesConfig) -> Node {
    facts.name(configured, &AllowList::new(&kubernetes.metadata.node_labels))
}

/// What happened to a request to kubelet, in words for people.
pub(crate) fn of_kubelet(error: &ApiError) -> String {
    error.to_string().replace("the API server", "kubelet").replace("an API server", "kubelet")
}

/// What a person can do when kubelet does not tell of its pods.
pub(crate) fn kubelet_remedy(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Forbidden(_) => {
            "let the agent's service account get nodes/pods (nodes/proxy before Kubernetes 1.33): deploy/kubernetes/rbac.yaml"
        }
        ErrorKind::Unauthorized(_) => "see that kubelet takes tokens: --authentication-token-webhook",
        _ => kind.remedy(),
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
        let facts = self.facts.load();
        let Facts { cluster_id, cluster_name, region, zone, .. } = &**facts;
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
        let feed = || Feed {
            store: Arc::clone(&cluster.store),
            teller: Arc::clone(&cluster.teller),
            namespaces: namespaces.clone(),
            refused: Arc::clone(&cluster.refused),
            listed: Vec::new(),
        };
        let (api, kubelet) = (&cluster.config.api, &cluster.config.kubelet);
        let besides = async {
            if api.is_wanted() {
                let server = self.open(async || Server::open(api, self.counters()).await).await;
                tokio::join!(
                    self.look_at_namespaces(&server, wanted),
                    self.follow_node(&server),
                    self.ask_on(&server)
                );
            }
        };
        let ask_kubelet = async {
            if kubelet.enabled {
                let open = async || Server::open_kubelet(api, kubelet, self.counters()).await;
                let server = self.open(open).await;
                self.ask_kubelet(&server, &mut feed()).await;
            }
        };
        let ask_server = async {
            if !kubelet.is_instead(api) {
                let server = self.open(async || Server::open(api, self.counters()).await).await;
                let pods =
                    Resource::cached("pods", "/api/v1/pods").only(format!("spec.nodeName={}", self.node));
                follow(&server, &pods, None, &cluster.health, &mut feed()).await;
            }
        };
        tokio::join!(ask_server, ask_kubelet, besides);
    }

    /// The node itself, for its series.
    async fn follow_node(&self, server: &Server) {
        let (Some(series), true) = (&self.cluster.series, self.with_node) else { return };
        let node = Resource::cached("nodes", "/api/v1/nodes").only(format!("metadata.name={}", self.node));
        let feed = &mut NodeFeed(Arc::clone(series));
        follow(server, &node, None, &self.cluster.node_health, feed).await;
    }

    /// Asks for what the cluster did not say of itself at the start, more and more seldom, until it does: who may not ask is
    /// granted it some day, and a new node's kubelet makes its object after a while.
    async fn ask_on(&self, server: &Server) {
        let cluster = &self.cluster;
        let mut pause = Pause::new(Duration::from_secs(5), NAMESPACE_AGE);
        let mut is_missing = cluster.asks_on;
        let mut asked = None;
        while is_missing {
            tokio::time::sleep(pause.next(asked)).await;
            let (facts, why) = Facts::find(server, &self.node, &cluster.kept).await;
            is_missing = why.is_some();
            asked = why.and_then(|why| why.retry_after);
            if facts != **cluster.facts.load() {
                let node = Arc::new(named(&facts, &cluster.configured, &cluster.config));
                cluster.node.store(Arc::clone(&node));
                let Facts { cluster_name, cluster_id, region, zone, runtime, .. } = facts.clone();
                tracing::info!(cluster_name, cluster_id, region, zone, "the cluster has said which it is");
                cluster.facts.store(Arc::new(facts));
                cluster.teller.node_is(node, runtime);
            }
        }
    }

    fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.cluster.counters)
    }

    /// Again and again: kubelet has no watch. Where it stands in for the API server, while that is not heard.
    async fn ask_kubelet(&self, server: &Server, feed: &mut Feed) {
        let cluster = &self.cluster;
        let (kubelet, api) = (&cluster.config.kubelet, &cluster.config.api);
        let interval = Duration::from_secs(kubelet.interval_seconds.max(1));
        let stands_in = !kubelet.is_instead(api);
        let own = Health::new();
        let health = if stands_in { &own } else { &cluster.health };
        if stands_in {
            tokio::time::sleep(interval).await;
        }
        loop {
            if stands_in && cluster.health.is_listed() && cluster.health.current_trouble().is_none() {
                tokio::time::sleep(interval).await;
                continue;
            }
            match list(server, "kubelet_pods", "/pods", feed).await {
                Ok(()) => health.listed(),
                Err(error) => {
                    let remedy = kubelet_remedy(&error.kind);
                    let error = of_kubelet(&error);
                    cluster.store.mark_stale(&error);
                    if health.trouble(format!("kubelet: {error}; {remedy}")) {
                        tracing::warn!(
                            error,
                            remedy,
                            url = kubelet.url,
                            "kubelet does not tell of its pods; what is known stays as it is for now"
                        );
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
                    tokio::time::sleep(pause.next(error.retry_after)).await;
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
