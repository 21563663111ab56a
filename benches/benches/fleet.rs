//! What a fleet costs the API server: as many agents as are asked for ask a real one which cluster it is and for a namespace,
//! and follow their pods and their node, as the agent does and by the same code, each with connections of its own. They start
//! at once; nothing happens for a while; the server is killed and comes back; every node gets one more pod. Only the looks at
//! the events' Lease, one in five minutes of each agent, are not among it.
//!
//! Server and agents share this machine, so times are of both; the server's processor time is its own.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use taffrail_api::{ApiConfig, Change, Counters, Health, Listener, Resource, Server, follow};
use taffrail_benches::ended;
use taffrail_benches::process::usage_of;
use taffrail_parts::node::ControlPlane;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Measures what agents cost the API server.
#[derive(Debug, Parser)]
#[command(name = "fleet")]
struct Arguments {
    /// Agents, a node each
    #[arg(long, default_value_t = 1000)]
    agents: usize,
    /// Pods of a node
    #[arg(long, default_value_t = 5)]
    pods: usize,
    /// Seconds of nothing
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the name of the pod that comes last has, and no other.
const LATE: &str = "latecomer";

/// Seconds of nothing after which the number of requests says something.
const LOOK: u64 = 900;

/// Requests that prepare the cluster at a time.
const AT_ONCE: usize = 16;

const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    ended("fleet", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut cluster = ControlPlane::start(None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let config = ApiConfig { kubeconfig: Some(cluster.kubeconfig()), ..ApiConfig::default() };
    runtime.block_on(populate(&config, arguments))?;
    println!(
        "{} agents, {} pods, one API server on the same {} cores",
        arguments.agents,
        arguments.agents * arguments.pods,
        std::thread::available_parallelism()?
    );
    println!("{:<34} {:>9} {:>11} {:>9} {:>10}", "", "seconds", "server CPU s", "requests", "server MB");
    let fleet = Arc::new(Fleet::default());
    let mut phase = Phase::begin(&cluster, &fleet)?;
    let _agents = start(&runtime, &config, arguments, &fleet);
    until(|| fleet.listed.load(Ordering::Relaxed) >= 2 * arguments.agents as u64)?;
    phase.end("all start at once, until all know all", &cluster, &fleet)?;

    // What the server does by itself after a list is over.
    std::thread::sleep(Duration::from_secs(5));
    phase = Phase::begin(&cluster, &fleet)?;
    std::thread::sleep(Duration::from_secs(arguments.idle));
    let idle = phase.end("nothing happens", &cluster, &fleet)?;

    cluster.kill_api_server();
    std::thread::sleep(Duration::from_secs(3));
    cluster.start_api_server()?;
    phase = Phase::begin(&cluster, &fleet)?;
    until(|| fleet.is_well(2 * arguments.agents))?;
    phase.end("the server is back, until all hear it", &cluster, &fleet)?;

    phase = Phase::begin(&cluster, &fleet)?;
    runtime.block_on(add_pods(&config, arguments.agents))?;
    until(|| fleet.late.load(Ordering::Relaxed) >= arguments.agents as u64)?;
    phase.end("each node gets a pod, until known", &cluster, &fleet)?;
    // A watch lasts for minutes: a shorter look sees none end.
    if arguments.idle >= LOOK {
        println!(
            "\nidle, an agent makes {:.1} requests an hour for its pods and its node",
            idle as f64 / arguments.agents as f64 * 3600.0 / arguments.idle as f64
        );
    }
    Ok(())
}

/// All agents together.
#[derive(Debug, Default)]
struct Fleet {
    counters: Arc<Counters>,
    listed: AtomicU64,
    /// Agents that know of the pod that came last.
    late: AtomicU64,
    health: Mutex<Vec<Health>>,
}

impl Fleet {
    fn is_well(&self, all: usize) -> bool {
        let health = self.health.lock();
        health.len() == all && health.iter().all(|one| one.current_trouble().is_none())
    }
}

/// What one agent hears.
struct Ear {
    fleet: Arc<Fleet>,
    knows_late: bool,
}

impl Ear {
    fn of(fleet: &Arc<Fleet>) -> Ear {
        Ear { fleet: Arc::clone(fleet), knows_late: false }
    }
}

impl Listener for Ear {
    // By a list, too: a server that has just come back may let watches begin anew.
    fn object(&mut self, _change: Change, object: &str, _version: &str) {
        if !self.knows_late && object.contains(LATE) {
            self.knows_late = true;
            self.fleet.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn listed(&mut self, _version: &str) {
        self.fleet.listed.fetch_add(1, Ordering::Relaxed);
    }
}

fn start(
    runtime: &tokio::runtime::Runtime,
    config: &ApiConfig,
    arguments: &Arguments,
    fleet: &Arc<Fleet>,
) -> JoinSet<Result<()>> {
    let mut agents = JoinSet::new();
    for number in 0..arguments.agents {
        let (config, fleet) = (config.clone(), Arc::clone(fleet));
        let agent = async move {
            let server = Server::open(&config, Arc::clone(&fleet.counters)).await?;
            for (resource, path) in [
                ("namespaces", "/api/v1/namespaces/kube-system?resourceVersion=0".to_owned()),
                ("nodes", format!("/api/v1/nodes/node-{number}?resourceVersion=0")),
                ("namespaces", "/api/v1/namespaces/default?resourceVersion=0".to_owned()),
            ] {
                server.get(resource, &path).await?;
            }
            let pods = Resource::cached("pods", "/api/v1/pods").only(format!("spec.nodeName=node-{number}"));
            let node =
                Resource::cached("nodes", "/api/v1/nodes").only(format!("metadata.name=node-{number}"));
            let (of_pods, of_node) = (Health::new(), Health::new());
            fleet.health.lock().extend([of_pods.clone(), of_node.clone()]);
            let (mut ear, mut other) = (Ear::of(&fleet), Ear::of(&fleet));
            tokio::join!(
                follow(&server, &pods, None, &of_pods, &mut ear),
                follow(&server, &node, None, &of_node, &mut other)
            );
            Ok(())
        };
        agents.spawn_on(agent, runtime.handle());
    }
    agents
}

/// Makes nodes and pods.
async fn populate(config: &ApiConfig, arguments: &Arguments) -> Result<()> {
    let server = Server::open(config, Counters::new()).await?;
    let account = json!({"metadata": {"name": "default", "namespace": "default"}});
    let path = "/api/v1/namespaces/default/serviceaccounts";
    server.request(Method::POST, "serviceaccounts", path, Some(&account)).await?;
    let pods = arguments.pods;
    all(&server, arguments.agents, move |server, number| async move {
        let node = json!({"metadata": {"name": format!("node-{number}")}});
        server.request(Method::POST, "nodes", "/api/v1/nodes", Some(&node)).await?;
        for index in 0..pods {
            let pod = pod(number, &index.to_string());
            server.request(Method::POST, "pods", "/api/v1/namespaces/default/pods", Some(&pod)).await?;
        }
        Ok(())
    })
    .await
}

/// Gives each node one more pod.
async fn add_pods(config: &ApiConfig, agents: usize) -> Result<()> {
    let server = Server::open(config, Counters::new()).await?;
    all(&server, agents, |server, number| async move {
        let path = "/api/v1/namespaces/default/pods";
        server.request(Method::POST, "pods", path, Some(&pod(number, LATE))).await?;
        Ok(())
    })
    .await
}

fn pod(node: usize, name: &str) -> Value {
    json!({
        "metadata": {"name": format!("web-{node}-{name}"), "labels": {"app": "web", "tier": "front"}},
        "spec": {
            "nodeName": format!("node-{node}"), "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": "web:1", "env": [{"name": "TEXT", "value": "x".repeat(3000)}]}],
        },
    })
}

/// Does something for each node, for a few at a time.
async fn all<F, R>(server: &Server, count: usize, each: F) -> Result<()>
where
    F: Fn(Server, usize) -> R + Copy + Send + 'static,
    R: Future<Output = Result<()>> + Send,
{
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let (server, gate) = (server.clone(), Arc::clone(&gate));
        tasks.spawn(async move {
            let _ticket = gate.acquire().await?;
            each(server, number).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

fn until(done: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !done() {
        ensure!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What happens between two moments.
struct Phase {
    start: Instant,
    cpu: f64,
    requests: u64,
}

impl Phase {
    fn begin(cluster: &ControlPlane, fleet: &Fleet) -> Result<Phase> {
        let usage = usage_of(cluster.api_server().context("no API server")?)?;
        Ok(Phase { start: Instant::now(), cpu: usage.cpu, requests: fleet.counters.total() })
    }

    /// Prints it; how many requests there were.
    fn end(&self, name: &str, cluster: &ControlPlane, fleet: &Fleet) -> Result<u64> {
        let seconds = self.start.elapsed().as_secs_f64();
        let usage = usage_of(cluster.api_server().context("no API server")?)?;
        let requests = fleet.counters.total() - self.requests;
        println!(
            "{name:<34} {seconds:>9.1} {:>11.2} {requests:>9} {:>10}",
            usage.cpu - self.cpu,
            usage.peak / 1_000_000
        );
        Ok(requests)
    }
}
