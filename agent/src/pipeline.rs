//! The whole path of a record, on one page.
//!
//! ```text
//! discovery -> collector -> batch -> shipper -> acknowledgement -> checkpoint
//!  targets      logs        outlet    ship()     receipt            tracker -> keeper -> store
//! ```
//!
//! - **Discovery** names lanes: directories and globs inside the collector, the Docker engine through [`Handed`].
//! - A **collector** reads a lane's files in order, under the [`Budget`], and sends batches through its outlet. Each
//!   runs under a supervisor ([`crate::supervise`]).
//! - The **pump** ([`crate::pump`]) takes each batch past the tap and hands it to the one shipper. A shipper that
//!   panics, or whose settings change, is made anew; the receipts it dropped make the collectors read again.
//! - The **acknowledgement** is the receipt, settled by the shipper when the far side has the records. It moves
//!   the file's tracker; the collector's keeper writes moved positions to the **checkpoint** store.
//!
//! Ending goes the same way: collectors stop reading and wait for what is under way, the pump runs dry, the shipper
//! drains, the positions are written a last time.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use taffrail_cgroup::Names;
use taffrail_checkpoint::Store;
use taffrail_events::Events;
use taffrail_exec::Audit;
use taffrail_logs::find::{Handed, PodTeller};
use taffrail_logs::{LogsCollector, Rhythm, Settings};
use taffrail_record::{Ask, Beat, Budget, BufferPool, Context, Ledger, Node, Outlet, Stop};

use crate::audit;
use crate::components::Components;
use crate::config::{Config, Output};
use crate::events;
use crate::kubernetes::Cluster;
use crate::output::{OUTPUT, OutputError};
use crate::pump::{self, Current, Pump};
use crate::supervise::{Make, Patience, supervise};
use crate::tap::TapHub;

/// Batches that may wait between collectors and the shipper. Few: a batch is charged for what it takes as the far side
/// wants it only when the shipper has it, and what waits here is then more than the budget has room for.
const QUEUE: usize = 8;
/// Read buffers kept for reuse.
const BUFFERS: usize = 16;

/// What the pipeline shares with the rest of the agent.
#[derive(Clone)]
pub struct Shared {
    /// Every account.
    pub ledger: Arc<Ledger>,
    /// Memory under way.
    pub budget: Arc<Budget>,
    /// How each part is doing.
    pub components: Arc<Components>,
    /// Who watches records pass.
    pub tap: Arc<TapHub>,
    /// Lanes found by others.
    pub handed: Arc<Handed>,
    /// What containers are called.
    pub names: Arc<Names>,
    /// Raised to end it all.
    pub stop: Stop,
}

impl Shared {
    /// For what runs under supervision and sends no batches: its outlet leads nowhere.
    pub(crate) fn context_without_records(&self) -> Context {
        Context {
            outlet: Outlet::channel(1).0,
            stop: self.stop.clone(),
            beat: Beat::new(),
            budget: Arc::clone(&self.budget),
            pool: BufferPool::new(0, 0),
            ledger: Arc::clone(&self.ledger),
        }
    }
}

/// A running pipeline.
pub struct Pipeline {
    /// The shipper of the moment: what troubles it, and its counters.
    pub shipper: Arc<Current>,
    /// The counters of its other parts.
    pub asks: Vec<Arc<dyn Ask>>,
    /// The cluster's events and their shipper, where this agent takes part.
    pub events: Option<(Events, Option<Arc<Current>>)>,
    /// The audit of this node's containers, where it is wanted.
    pub audit: Option<Audit>,
    stop: Stop,
    logs: Settings,
    next: Vec<pump::Next>,
    /// In the order in which they end: collectors, then the pump.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pipeline {
    /// Starts every part.
    ///
    /// # Errors
    /// When the shipper cannot be made, or the system grants no thread.
    pub fn start(
        config: &Config,
        node: &Arc<ArcSwap<Node>>,
        store: Store,
        cluster: Option<&Cluster>,
        shared: &Shared,
    ) -> Result<Pipeline, OutputError> {
        let (outlet, batches) = Outlet::channel(QUEUE);
        let largest = config.logs.read_block_bytes as usize * 2;
        let pool = BufferPool::new(BUFFERS, largest);
        let context = Context {
            outlet,
            stop: shared.stop.clone(),
            beat: Beat::new(),
            budget: Arc::clone(&shared.budget),
            pool: Arc::clone(&pool),
            ledger: Arc::clone(&shared.ledger),
        };

        let stored = store.metrics();
        let teller = cluster.map(|cluster| cluster.teller() as Arc<dyn PodTeller>);
        let collector = logs(config, &node.load_full(), store, shared).with_teller(teller);
        let (settings, counted) = (collector.settings(), collector.metrics());
        let make: Make = Box::new(move || Box::new(collector.again()));
        let (pump, shipper, next) = Pump::start(&OUTPUT, config, pool, batches, None, shared)?;
        let patience =
            Patience { end: config.pipeline.drain_timeout.0 + Duration::from_secs(5), ..Patience::default() };
        let requests = cluster.map(Cluster::requests).unwrap_or_default();
        let events = events::start(config, node, &context, &requests, shared)?;
        let audit = audit::start(config, node, cluster, &context, patience, shared)?;
        let logs = supervise("logs", make, context, Arc::clone(&shared.components), patience)?;

        let mut asks = vec![Arc::clone(&shipper) as Arc<dyn Ask>, stored, counted];
        let (mut threads, mut nexts) = (vec![logs], vec![next]);
        let mut seen = None;
        if let Some(events) = events {
            asks.extend(events.asks());
            threads.extend(events.threads);
            nexts.extend(events.next);
            seen = Some((events.events, events.shipper));
        }
        let audit = audit.map(|(audit, own)| {
            asks.extend([audit.metrics(), audit.requests().metrics()]);
            threads.extend(own);
            audit
        });
        threads.push(pump);
        Ok(Pipeline {
            shipper,
            asks,
            events: seen,
            audit,
            stop: shared.stop.clone(),
            logs: settings,
            next: nexts,
            threads: Mutex::new(threads),
        })
    }

    /// Takes up a valid new configuration while records flow: files stay open, positions stay, and a changed output
    /// is drained before the new one takes over.
    pub fn reload(&self, config: &Config) {
        self.logs.set(config.logs.clone());
        self.next.iter().for_each(|next| next.set(config.clone()));
    }

    /// Ends in order, as the module page says; takes no longer than the configured drain and a little.
    pub fn stop(&self) {
        self.stop.raise();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            let _ = thread.join();
        }
    }
}

fn logs(config: &Config, node: &Arc<Node>, store: Store, shared: &Shared) -> LogsCollector {
    let rhythm =
        Rhythm { interval: config.state.checkpoint_interval.0, bytes: config.state.checkpoint_bytes.0 };
    let (node, handed) = (Arc::clone(node), Arc::clone(&shared.handed));
    let drain = config.pipeline.drain_timeout.0;
    let output = match &config.output {
        Output::File(file) => Some(file.directory.clone()),
        Output::Kafka(_) | Output::Discard(_) => None,
    };
    LogsCollector::new(config.logs.clone(), node, handed, Arc::new(Mutex::new(store)), rhythm, drain)
        .with_own(output.into_iter().chain([config.state_directory()]))
}
