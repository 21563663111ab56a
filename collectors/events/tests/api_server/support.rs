//! A real control plane, agents that watch its events, and a far side that takes them or does not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use taffrail_api::{ApiConfig, Counters, Server};
use taffrail_events::{Events, EventsCollector, EventsConfig, Timing};
use taffrail_parts::node::ControlPlane;
use taffrail_record::{
    Beat, Budget, BufferPool, Collector as _, Context, Ledger, Node, Outlet, Payload, Stop,
};
use tokio::runtime::Runtime;

pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Everything happens several times as fast as usual.
pub(crate) fn fast() -> Timing {
    let millis = Duration::from_millis;
    Timing {
        lease: millis(3000),
        deadline: millis(2000),
        retry: millis(300),
        standby_lease: millis(9000),
        standby_renew: millis(3000),
        glance: millis(5000),
        position: millis(500),
    }
}

/// Who makes events.
pub(crate) struct Maker {
    runtime: Runtime,
    server: Server,
}

impl Maker {
    pub(crate) fn new(plane: &ControlPlane) -> Result<Maker> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let config = ApiConfig { kubeconfig: Some(plane.kubeconfig()), ..ApiConfig::default() };
        let server = runtime.block_on(Server::open(&config, Counters::new()))?;
        let maker = Maker { runtime, server };
        // The namespace comes a moment after the server is ready.
        wait_for("the namespaces", || {
            maker.get("/api/v1/namespaces/default").is_ok()
                && maker.get("/api/v1/namespaces/kube-system").is_ok()
        })?;
        Ok(maker)
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn wait<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        Ok(self.runtime.block_on(work)?)
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        let body = self.runtime.block_on(self.server.get("test", path))?;
        Ok(serde_json::from_slice(&body)?)
    }

    pub(crate) fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let body = self.runtime.block_on(self.server.request(method, "test", path, Some(body)))?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Makes an event; returns it as the server has it.
    pub(crate) fn event(&self, name: &str, object: &str, message: &str) -> Result<Value> {
        self.send(Method::POST, "/api/v1/namespaces/default/events", &event(name, object, message))
    }

    /// Makes events `prefix-0` to `prefix-<count - 1>`, several at once.
    pub(crate) fn events(&self, prefix: &str, count: usize, message: &str) -> Result<()> {
        let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (server, made) = (self.server.clone(), Arc::clone(&made));
                let (prefix, message) = (prefix.to_owned(), message.to_owned());
                self.runtime.spawn(async move {
                    loop {
                        let number = made.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return Ok(());
                        }
                        let event = event(&format!("{prefix}-{number}"), "web-0", &message);
                        let path = "/api/v1/namespaces/default/events";
                        server.request(Method::POST, "test", path, Some(&event)).await?;
                    }
                })
            })
            .collect();
        for task in tasks {
            let done: Result<(), taffrail_api::ApiError> = self.runtime.block_on(task)?;
            done?;
        }
        Ok(())
    }

    /// The Lease of who watches.
    pub(crate) fn lease(&self) -> Result<Value> {
        self.get("/apis/coordination.k8s.io/v1/namespaces/default/leases/taffrail-events")
    }

    /// Who watches, by the name of its node; empty for nobody.
    pub(crate) fn leader(&self) -> String {
        let lease = self.lease().unwrap_or_default();
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        holder.split('_').next().unwrap_or_default().to_owned()
    }

    pub(crate) fn position(&self) -> Option<u64> {
        self.lease().ok()?["metadata"]["annotations"]["taffrail.io/events-position"].as_str()?.parse().ok()
    }
}

pub(crate) fn event(name: &str, object: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": { "name": name, "namespace": "default" },
        "involvedObject": { "apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": object, "uid": "u-1" },
        "reason": "Tested", "message": message, "type": "Normal", "count": 1,
        "source": { "component": "tests", "host": "n1" },
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
    })
}

/// Where documents arrive: each once by its id, as in a search engine.
#[derive(Default)]
pub(crate) struct Far {
    stored: Mutex<BTreeMap<String, Value>>,
    /// Whether it takes nothing at the moment.
    away: AtomicBool,
    /// Where it says what arrived, for other processes.
    file: Option<PathBuf>,
}

impl Far {
    pub(crate) fn in_file(path: &Path) -> Far {
        Far { file: Some(path.to_owned()), ..Far::default() }
    }

    pub(crate) fn go_away(&self) {
        self.away.store(true, Ordering::SeqCst);
    }

    pub(crate) fn come_back(&self) {
        self.away.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::SeqCst)
    }

    /// Names of the events that arrived, with the versions of each.
    pub(crate) fn events(&self) -> BTreeMap<String, Vec<u64>> {
        let mut events: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for document in self.stored.lock().values() {
            let meta = &document["kubernetes"]["event"]["metadata"];
            let version = meta["resource_version"].as_str().and_then(|version| version.parse().ok());
            let name = meta["name"].as_str().unwrap_or_default().to_owned();
            events.entry(name).or_default().push(version.unwrap_or(0));
        }
        events.values_mut().for_each(|versions| versions.sort_unstable());
        events
    }

    pub(crate) fn count(&self, prefix: &str) -> usize {
        self.events().keys().filter(|name| name.starts_with(prefix)).count()
    }

    pub(crate) fn document(&self, name: &str) -> Option<Value> {
        let stored = self.stored.lock();
        stored.values().find(|document| document["kubernetes"]["event"]["metadata"]["name"] == name).cloned()
    }

    pub(crate) fn store(&self, id: &str, body: &[u8]) {
        let document: Value = serde_json::from_slice(body).expect("a document");
        assert_eq!(document["event"]["id"], id);
        if let Some(file) = &self.file {
            let name = document["kubernetes"]["event"]["metadata"]["name"].as_str().unwrap_or_default();
            return crate::process::append(file, id, name);
        }
        self.stored.lock().insert(id.to_owned(), document);
    }
}

/// One agent: a collector, and the pipeline behind it.
pub(crate) struct Agent {
    stop: Stop,
    pub(crate) events: Events,
    pub(crate) ledger: Arc<Ledger>,
    thread: Option<JoinHandle<()>>,
    shipper: Option<JoinHandle<()>>,
}

impl Agent {
    pub(crate) fn start(
        plane: &ControlPlane,
        node: &str,
        folder: &Path,
        config: EventsConfig,
        far: &Arc<Far>,
    ) -> Agent {
        Agent::at(&plane.kubeconfig(), node, folder, config, fast(), far)
    }

    pub(crate) fn at(
        kubeconfig: &Path,
        node: &str,
        folder: &Path,
        config: EventsConfig,
        timing: Timing,
        far: &Arc<Far>,
    ) -> Agent {
        let api = ApiConfig { kubeconfig: Some(kubeconfig.to_owned()), ..ApiConfig::default() };
        let named = Node { name: node.to_owned(), cluster: "test".to_owned(), ..Node::default() };
        let mut collector = EventsCollector::new(config, api, Counters::new(), Arc::new(named), folder)
            .with_timing(timing)
            .with_drain(Duration::from_secs(3));
        let events = collector.handle();
        let (outlet, batches) = Outlet::channel(4);
        let (stop, ledger) = (Stop::new(), Ledger::new());
        let context = Context {
            outlet,
            stop: stop.clone(),
            beat: Beat::new(),
            budget: Budget::new(8 << 20),
            pool: BufferPool::new(4, 1 << 20),
            ledger: Arc::clone(&ledger),
        };
        let thread = std::thread::spawn(move || collector.run(&context).expect("a collector that ends well"));
        let far = Arc::clone(far);
        let shipper = std::thread::spawn(move || {
            for batch in batches {
                // What has not arrived when it goes away is abandoned.
                if far.is_away() {
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
                if batch.payload == Payload::Event {
                    for record in &batch.records {
                        let id = record.extra.as_ref().and_then(|extra| extra.id.as_deref()).expect("an id");
                        far.store(id, batch.body(record));
                    }
                }
                batch.receipt.confirm();
            }
        });
        Agent { stop, events, ledger, thread: Some(thread), shipper: Some(shipper) }
    }

    /// Ends in order.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.raise();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the collector ends");
        }
        if let Some(shipper) = self.shipper.take() {
            shipper.join().expect("the shipper ends");
        }
    }

    /// Whether every byte that was read is accounted for, and nothing is under way.
    pub(crate) fn adds_up(&self) -> bool {
        let balance = self.ledger.account(Ledger::EVENTS).balance();
        balance.difference() == 0 && balance.pending.records == 0 && balance.lost_bytes() == 0
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

pub(crate) fn wait_for(what: &str, is_so: impl FnMut() -> bool) -> Result<()> {
    wait_long_for(what, PATIENCE, is_so)
}

pub(crate) fn wait_long_for(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !is_so() {
        ensure!(start.elapsed() < patience, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The resourceVersion of an object.
pub(crate) fn version(object: &Value) -> Result<u64> {
    let version = object["metadata"]["resourceVersion"].as_str().context("no version")?;
    Ok(version.parse()?)
}
