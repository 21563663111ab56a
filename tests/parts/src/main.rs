//! `parts`: the real parts of the tests, for a person at the shell.
//!
//! `parts up kafka` keeps a broker until Ctrl-C and prints its address as an assignment that a shell
//! or a test can read; `parts fetch all` fills the cache; `parts list` tells what there is.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use taffrail_parts::{
    Cadvisor, CadvisorOptions, Docker, Kafka, KafkaOptions, Kernel, KubeStateMetrics, Listener, Node,
    NodeExporter, NodeOptions, Product, Prometheus, SearchEngine, SearchOptions, Target, Vm, cache, docker,
    node, search,
};

/// Gets, starts and stops the real parts that taffrail is tested against.
#[derive(Debug, Parser)]
#[command(name = "parts")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts parts, prints their addresses, and keeps them until Ctrl-C
    Up {
        /// The parts to start
        #[arg(required = true)]
        parts: Vec<Name>,
        /// Kafka: also listen with TLS and SASL; OpenSearch: only with TLS and a login
        #[arg(long)]
        secure: bool,
        /// Kafka: users may do only what they are allowed to (implies --secure)
        #[arg(long)]
        authorize: bool,
        /// Prometheus: also scrape this page, such as 127.0.0.1:9090/metrics/node (may be repeated)
        #[arg(long, value_name = "ADDRESS/PATH", value_parser = target)]
        scrape: Vec<Target>,
    },
    /// Downloads and builds what parts need, and starts nothing
    Fetch {
        /// The parts to prepare
        #[arg(required = true)]
        parts: Vec<Name>,
    },
    /// Boots a virtual machine with a kernel of its own, runs a script in it as root, and prints its console
    Boot {
        /// The series of the kernel
        kernel: Series,
        /// The script, for busybox's shell
        script: PathBuf,
        /// A program of this machine to have in /bin there (may be repeated)
        #[arg(long, value_name = "PATH")]
        program: Vec<PathBuf>,
    },
    /// Lists the parts, their versions, and whether the cache has them
    List,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Name {
    Kafka,
    #[value(name = "opensearch")]
    OpenSearch,
    Elasticsearch,
    Docker,
    Node,
    NodeExporter,
    Cadvisor,
    KubeStateMetrics,
    Prometheus,
    Vm,
    All,
}

impl Name {
    // An engine before what reads its containers, exporters before the server that scrapes them.
    const EACH: [Self; 10] = [
        Self::NodeExporter,
        Self::Docker,
        Self::Cadvisor,
        Self::KubeStateMetrics,
        Self::Prometheus,
        Self::Kafka,
        Self::OpenSearch,
        Self::Elasticsearch,
        Self::Node,
        Self::Vm,
    ];

    /// The parts meant by these names, each once, in the order of starting.
    fn chosen(names: &[Self]) -> Vec<Self> {
        let all = names.contains(&Self::All);
        Self::EACH.into_iter().filter(|name| all || names.contains(name)).collect()
    }

    /// Of these, what can be kept running: `all` leaves out what needs a script or objects.
    fn kept(names: &[Self]) -> Vec<Self> {
        let goes_on = |name: &Self| !matches!(name, Self::Vm | Self::KubeStateMetrics);
        Self::chosen(names).into_iter().filter(|name| goes_on(name) || names.contains(name)).collect()
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Series {
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "6.12")]
    V6_12,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Up { parts, secure, authorize, scrape } => {
            let kafka = KafkaOptions { secure: secure || authorize, authorize, ..KafkaOptions::default() };
            up(&Name::kept(&parts), &kafka, scrape)
        }
        Command::Fetch { parts } => Name::chosen(&parts).into_iter().try_for_each(fetch),
        Command::Boot { kernel, script, program } => boot(kernel, &script, &program),
        Command::List => list(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("parts: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A running part; dropping it ends it.
enum Running {
    Kafka(Kafka),
    Search(SearchEngine),
    Docker(Docker),
    Node(Box<Node>),
    NodeExporter(NodeExporter),
    Cadvisor(Cadvisor),
    Prometheus(Prometheus),
}

impl Running {
    /// Lines for another shell that work as they are.
    fn how_to_use(&self) -> String {
        match self {
            Running::Kafka(kafka) => format!(
                "parts: kafka, in another shell:\n  kcat -b {0} -L\n  kcat -b {0} -C -u -t taffrail.logs\n",
                kafka.bootstrap()
            ),
            Running::Search(engine) => search_line(engine),
            Running::Docker(docker) => format!(
                "parts: docker, in another shell ({image} is the image that it has):\n  \
                 docker -H {host} run --rm --name talker {image} sh -c 'while :; do echo ahoy; sleep 1; done'\n",
                image = docker::IMAGE,
                host = docker.host(),
            ),
            Running::Node(node) => format!(
                "parts: node, in another shell (a pod needs hostNetwork, nodeName {name}, and {image}, the image that it has):\n  \
                 {kubectl} --kubeconfig {kubeconfig} run talker --image={image} --restart=Never \
                 --overrides='{overrides}' -- sh -c 'while :; do echo ahoy; sleep 1; done'\n",
                name = node::NAME,
                image = node::IMAGE,
                kubectl = node.kubectl_line(),
                kubeconfig = node.kubeconfig().display(),
                overrides = node::overrides(),
            ),
            Running::NodeExporter(exporter) => format!(
                "parts: node-exporter, in another shell:\n  curl http://{}/metrics\n",
                exporter.address()
            ),
            Running::Cadvisor(cadvisor) => {
                format!("parts: cadvisor, in another shell:\n  curl http://{}/metrics\n", cadvisor.address())
            }
            Running::Prometheus(prometheus) => format!(
                "parts: prometheus, in another shell:\n  promtool query instant http://{} up\n",
                prometheus.address()
            ),
        }
    }
}

/// A line for another shell that asks the engine who it is.
fn search_line(engine: &SearchEngine) -> String {
    let name = search_name(engine.product());
    let login = engine.tls().map_or_else(String::new, |tls| {
        format!(" --cacert {} --user {}:{}", tls.authority.display(), search::LOGIN.0, search::LOGIN.1)
    });
    format!("parts: {name}, in another shell:\n  curl{login} {}\n", engine.url())
}

fn search_name(product: Product) -> &'static str {
    match product {
        Product::OpenSearch => "opensearch",
        Product::Elasticsearch => "elasticsearch",
    }
}

fn up(parts: &[Name], kafka: &KafkaOptions, mut targets: Vec<Target>) -> Result<()> {
    let mut running = Vec::new();
    let mut engine = None;
    for part in parts {
        let (started, addresses) = start(*part, kafka, &targets, engine.clone())?;
        if let Running::NodeExporter(exporter) = &started {
            targets.push(Target::new("node-exporter", exporter.address(), "/metrics"));
        }
        if let Running::Cadvisor(cadvisor) = &started {
            targets.push(Target::new("cadvisor", cadvisor.address(), "/metrics"));
        }
        if let Running::Docker(docker) = &started {
            engine = Some(docker.host());
        }
        running.push(started);
        for (name, value) in addresses {
            println!("{name}={value}");
        }
        std::io::stdout().flush().context("cannot print")?;
    }
    for part in &running {
        eprint!("{}", part.how_to_use());
    }
    eprintln!("parts: up; Ctrl-C stops them");
    wait_for_interrupt()?;
    eprintln!("parts: stopping");
    Ok(())
}

type Addresses = Vec<(&'static str, String)>;

/// `ADDRESS/PATH` as a target whose job is called after both.
fn target(text: &str) -> Result<Target> {
    let (address, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    let address = address.parse().with_context(|| format!("{address} is no address and port"))?;
    Ok(Target::new(text, address, if path.is_empty() { "/metrics" } else { path }))
}

fn start(
    part: Name,
    kafka: &KafkaOptions,
    targets: &[Target],
    engine: Option<String>,
) -> Result<(Running, Addresses)> {
    match part {
        Name::NodeExporter => {
            let exporter = NodeExporter::start(&[])?;
            let addresses = vec![
                ("NODE_EXPORTER", exporter.address().to_string()),
                ("NODE_EXPORTER_LOG", exporter.log().display().to_string()),
            ];
            Ok((Running::NodeExporter(exporter), addresses))
        }
        Name::Cadvisor => {
            let cadvisor =
                Cadvisor::start(&CadvisorOptions { docker: engine, ..CadvisorOptions::default() })?;
            let addresses = vec![
                ("CADVISOR", cadvisor.address().to_string()),
                ("CADVISOR_LOG", cadvisor.log().display().to_string()),
            ];
            Ok((Running::Cadvisor(cadvisor), addresses))
        }
        Name::Prometheus => {
            let prometheus = Prometheus::start(targets, &[])?;
            let addresses = vec![
                ("PROMETHEUS", format!("http://{}", prometheus.address())),
                ("PROMETHEUS_LOG", prometheus.log().display().to_string()),
            ];
            Ok((Running::Prometheus(prometheus), addresses))
        }
        Name::Docker => {
            let docker = Docker::start()?;
            let addresses = docker_addresses(&docker);
            Ok((Running::Docker(docker), addresses))
        }
        Name::Node => {
            let node = Node::start(NodeOptions::default())?;
            let addresses = node_addresses(&node);
            Ok((Running::Node(Box::new(node)), addresses))
        }
        Name::KubeStateMetrics => bail!("kube-state-metrics is no part that goes on: tests hand it objects"),
        Name::OpenSearch => start_search(Product::OpenSearch, kafka.secure),
        Name::Elasticsearch => start_search(Product::Elasticsearch, false),
        Name::Vm => bail!("vm is no part that goes on: parts boot runs a script in one"),
        Name::Kafka | Name::All => {
            let kafka = Kafka::start(kafka.clone())?;
            let addresses = kafka_addresses(&kafka);
            Ok((Running::Kafka(kafka), addresses))
        }
    }
}

fn start_search(product: Product, secure: bool) -> Result<(Running, Addresses)> {
    let engine = SearchEngine::start(product, SearchOptions { secure, ..SearchOptions::default() })?;
    let (url, log) = match product {
        Product::OpenSearch => ("OPENSEARCH", "OPENSEARCH_LOG"),
        Product::Elasticsearch => ("ELASTICSEARCH", "ELASTICSEARCH_LOG"),
    };
    let mut addresses = vec![(url, engine.url()), (log, engine.log().display().to_string())];
    addresses.extend(engine.tls().map(|tls| ("OPENSEARCH_CA", tls.authority.display().to_string())));
    Ok((Running::Search(engine), addresses))
}

fn kafka_addresses(kafka: &Kafka) -> Addresses {
    let mut addresses = vec![("KAFKA", kafka.bootstrap()), ("KAFKA_LOG", kafka.log().display().to_string())];
    let more =
        [("KAFKA_SASL", Listener::Sasl), ("KAFKA_TLS", Listener::Tls), ("KAFKA_SASL_TLS", Listener::SaslTls)];
    for (name, listener) in more {
        addresses.extend(kafka.bootstrap_of(listener).map(|address| (name, address)));
    }
    if let Some(files) = kafka.tls() {
        addresses.push(("KAFKA_CA", files.authority.display().to_string()));
    }
    addresses
}

fn docker_addresses(docker: &Docker) -> Addresses {
    vec![
        ("DOCKER_HOST", docker.host()),
        ("DOCKER_CONTAINERS", docker.containers().display().to_string()),
        ("DOCKER_LOG", docker.log().display().to_string()),
    ]
}

fn node_addresses(node: &Node) -> Addresses {
    let path = |path: PathBuf| path.display().to_string();
    vec![
        ("KUBECONFIG", path(node.kubeconfig())),
        ("POD_LOGS", path(node.pod_logs())),
        ("NODE_LOG", path(node.log())),
    ]
}

fn fetch(part: Name) -> Result<()> {
    match part {
        Name::Kafka | Name::All => Kafka::fetch(),
        Name::OpenSearch => SearchEngine::fetch(Product::OpenSearch),
        Name::Elasticsearch => SearchEngine::fetch(Product::Elasticsearch),
        Name::Docker => Docker::fetch(),
        Name::Node => Node::fetch(),
        Name::NodeExporter => NodeExporter::fetch(),
        Name::Cadvisor => Cadvisor::fetch(),
        Name::KubeStateMetrics => KubeStateMetrics::fetch(),
        Name::Prometheus => Prometheus::fetch(),
        Name::Vm => Vm::fetch(),
    }
}

fn boot(kernel: Series, script: &Path, programs: &[PathBuf]) -> Result<()> {
    let kernel = match kernel {
        Series::V6_1 => Kernel::V6_1,
        Series::V6_12 => Kernel::V6_12,
    };
    let text =
        std::fs::read_to_string(script).with_context(|| format!("cannot read {}", script.display()))?;
    let vm = programs.iter().fold(Vm::new(kernel, &text), |vm, program| vm.program(program));
    print!("{}", vm.run()?.console);
    Ok(())
}

fn list() -> Result<()> {
    println!("cache: {}", cache::root()?.display());
    for part in taffrail_parts::catalogue() {
        println!("{:<20}{:<34}{}", part.name, part.version, part.state);
    }
    // What the benches and CI keep beside the parts, and parts of other pins, which nothing needs any more.
    for folder in taffrail_parts::kept_by_others()? {
        let part = folder.rsplit_once('-').map_or(folder.as_str(), |(part, _)| part);
        println!("{part:<20}{folder:<34}cached");
    }
    Ok(())
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupted(_: i32) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Waits for SIGINT or SIGTERM.
///
/// Until here they end this process at once, which ends the parts as well: a long build can be interrupted.
fn wait_for_interrupt() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(interrupted), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which is allowed in a signal handler.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("cannot wait for {signal}"))?;
    }
    while !INTERRUPTED.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
