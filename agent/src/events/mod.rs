//! The cluster's events: who takes part in watching them, and which way they go.
//!
//! With a search engine configured they have a pipeline of their own, so that an engine that is away holds up nothing but
//! them; a copy goes where everything goes, if that is wanted. Without one they go there alone.

mod copy;
pub mod kept;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use taffrail_api::{ApiConfig, ApiError, Counters, Server};
use taffrail_events::{Enabled, Entry, Events, EventsCollector, Selector, from_server, merged, with_pods};
use taffrail_record::{Ask, Beat, Budget, BufferPool, Context, Ledger, Node, Outlet};

use self::copy::Copier;
use crate::config::Config;
use crate::http::Shipper;
use crate::output::{EVENTS, OutputError};
use crate::pipeline::Shared;
use crate::pump::{Current, Next, Pump};
use crate::supervise::{Make, Patience, supervise};

/// Memory for events that are sent and not yet confirmed: what waits longer waits on the disk.
const BUDGET: u64 = 4 << 20;
const BUFFERS: usize = 4;
const LARGEST: usize = 2 << 20;
const QUEUE: usize = 4;

/// The part of a running pipeline that has to do with events.
pub struct Running {
    /// How the collector stands.
    pub events: Events,
    /// Their own shipper.
    pub shipper: Option<Arc<Current>>,
    pub(crate) next: Option<Next>,
    /// In the order in which they end.
    pub(crate) threads: Vec<JoinHandle<()>>,
}

/// Whether this agent takes part.
#[must_use]
pub fn are_wanted(config: &Config) -> bool {
    match config.events.enabled {
        Enabled::Never => false,
        Enabled::Always => true,
        Enabled::Auto => config.elasticsearch.is_some() && config.kubernetes.api.is_wanted(),
    }
}

/// Whether events go to `output`: beside the search engine, or because there is none.
#[must_use]
pub fn go_to_output(config: &Config) -> bool {
    are_wanted(config) && (config.elasticsearch.is_none() || config.events.copy_to_output)
}

/// Whether the configuration asks for events and nothing says of whom.
#[must_use]
pub fn are_wanted_without_a_server(config: &Config) -> bool {
    let asked = match config.events.enabled {
        Enabled::Never => false,
        Enabled::Always => true,
        Enabled::Auto => config.elasticsearch.is_some(),
    };
    asked && !config.kubernetes.api.is_wanted()
}

/// Starts taking part, where that is wanted. `context` leads to the shipper of everything.
///
/// # Errors
/// When the shipper cannot be made, or the system grants no thread.
pub(crate) fn start(
    config: &Config,
    node: &Arc<ArcSwap<Node>>,
    context: &Context,
    requests: &Arc<Counters>,
    shared: &Shared,
) -> Result<Option<Running>, OutputError> {
    if !are_wanted(config) {
        return Ok(None);
    }
    let collector = collector(config, node, requests);
    let events = collector.handle();
    let own =
        config.elasticsearch.as_ref().map(|_| OwnPipeline::start(config, context, shared)).transpose()?;
    let context = own.as_ref().map_or(context, |own| &own.context).clone();
    let make: Make = Box::new(move || Box::new(collector.again()));
    // It drains, and then hands the Lease over.
    let end = config.pipeline.drain_timeout.0 + Duration::from_secs(10);
    let patience = Patience { end, ..Patience::default() };
    let thread = supervise("events", make, context, Arc::clone(&shared.components), patience)?;
    let mut running = Running { events, shipper: None, next: None, threads: vec![thread] };
    if let Some(own) = own {
        running.threads.extend(own.threads);
        (running.shipper, running.next) = (Some(own.shipper), Some(own.next));
    }
    Ok(Some(running))
}

fn collector(config: &Config, node: &Arc<ArcSwap<Node>>, requests: &Arc<Counters>) -> EventsCollector {
    let (events, api) = (config.events.clone(), config.kubernetes.api.clone());
    let folder = config.state_directory().join("events");
    EventsCollector::new(events, api, Arc::clone(requests), Arc::new(config.node()), folder)
        .with_node(Arc::clone(node))
        .with_cluster(node.load().cluster_id.clone())
        .with_drain(config.pipeline.drain_timeout.0)
}

/// From the collector to the search engine.
struct OwnPipeline {
    context: Context,
    shipper: Arc<Current>,
    next: Next,
    /// In the order in which they end.
    threads: Vec<JoinHandle<()>>,
}

impl OwnPipeline {
    fn start(config: &Config, context: &Context, shared: &Shared) -> Result<Self, OutputError> {
        let (on, batches) = Outlet::channel(QUEUE);
        let pool = BufferPool::new(BUFFERS, LARGEST);
        // A search engine has no ledger: what is declared lost is stated where everything is stated.
        let ledger = Some(context.outlet.clone());
        let (pump, shipper, next) = Pump::start(&EVENTS, config, Arc::clone(&pool), batches, ledger, shared)?;
        let mut threads = Vec::new();
        let outlet = if config.events.copy_to_output {
            let (outlet, from) = Outlet::channel(QUEUE);
            let copier = Copier {
                from,
                on,
                aside: context.outlet.clone(),
                budget: Arc::clone(&context.budget),
                account: context.ledger.account(Ledger::EVENTS_COPIED),
                stop: context.stop.clone(),
            };
            threads.push(copier.start()?);
            outlet
        } else {
            on
        };
        threads.push(pump);
        let context =
            Context { outlet, pool, budget: Budget::new(BUDGET), beat: Beat::new(), ..context.clone() };
        Ok(OwnPipeline { context, shipper, next, threads })
    }
}

impl Running {
    /// Its counters.
    #[must_use]
    pub fn asks(&self) -> Vec<Arc<dyn Ask>> {
        let shipper = self.shipper.iter().map(|shipper| Arc::clone(shipper) as Arc<dyn Ask>);
        [self.events.metrics()].into_iter().chain(shipper).collect()
    }
}

/// What troubles the events, for readiness.
pub(crate) fn standing(events: &Events, shipper: Option<&Arc<Current>>) -> Vec<Shipper> {
    let watching = Shipper { name: "events".to_owned(), trouble: events.view().trouble };
    let shipper = shipper.map(|shipper| {
        let (name, trouble) = shipper.status();
        Shipper { name: name.to_owned(), trouble }
    });
    [watching].into_iter().chain(shipper).collect()
}

/// Who can tell what happened to somebody; by default nobody.
#[derive(Clone, Default)]
pub struct Timelines {
    api: Option<ApiConfig>,
    requests: Arc<Counters>,
    events: Option<Events>,
}

/// What happened to somebody, oldest first.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Timeline {
    /// The events.
    pub entries: Vec<Entry>,
    /// Why some may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

impl Timelines {
    /// From what this agent remembers, if it watches, and from the API server.
    #[must_use]
    pub fn new(config: &Config, requests: Arc<Counters>, events: Option<Events>) -> Self {
        let api = Some(config.kubernetes.api.clone()).filter(ApiConfig::is_wanted);
        Timelines { api, requests, events }
    }

    /// What is remembered here and what the API server still has, each event once.
    ///
    /// # Errors
    /// When there is nobody to ask, in words for people.
    pub async fn of(&self, selector: &Selector) -> Result<Timeline, String> {
        let Some(api) = &self.api else {
            return Err("this agent asks no API server; set kubernetes.api.kubeconfig".to_owned());
        };
        let remembered = |selector: &Selector| {
            self.events.as_ref().map(|events| events.timeline(selector)).unwrap_or_default()
        };
        let asked = async {
            let server = Server::open(api, Arc::clone(&self.requests)).await?;
            let selector = with_pods(&server, selector.clone()).await?;
            let there = from_server(&server, &selector).await?;
            Ok(merged(remembered(&selector).into_iter().chain(there)))
        };
        let error: ApiError = match asked.await {
            Ok(entries) => return Ok(Timeline { entries, missing: None }),
            Err(error) => error,
        };
        let entries = remembered(selector);
        if entries.is_empty() {
            return Err(format!("{error}; {}", error.kind.remedy()));
        }
        Ok(Timeline { entries, missing: Some(error.to_string()) })
    }
}
