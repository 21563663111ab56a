//! The collector: what it is made of, and one life of it on two threads. One reads what the kernel tells and puts documents on the
//! disk; the other sends them. The first goes on, whatever the second does.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use taffrail_kernfs::{Page, Roots, read_text};
use taffrail_record::{Ask, Collector, Context, Input, Ledger, Node, Origin, Payload, Stop};
use taffrail_spool::{Contents, Sender, Spool, now};

use crate::asked::AskedFor;
use crate::book::Book;
use crate::chain::Chain;
use crate::config::{AuditConfig, Policies};
use crate::desk::Desk;
use crate::document::Writer;
use crate::engines::Engines;
use crate::execve::KernelAudit;
use crate::kept::Kept;
use crate::pins::Pins;
use crate::request::{Attributor, Requests};
use crate::session::{Namer, Summary, Whose};
use crate::status::{Metrics, Status, View};
use crate::undecided::Undecided;
use crate::watch::{Hands, Watch};

/// How long a session's beginning waits for its container's name, and how long nobody waits for that one again.
const NAME: Duration = Duration::from_secs(1);
const NAMELESS: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(5);

/// Audits sessions in this node's containers.
#[derive(Clone)]
pub struct AuditCollector {
    config: Arc<AuditConfig>,
    node: Arc<ArcSwap<Node>>,
    roots: Roots,
    namer: Arc<dyn Namer>,
    folder: PathBuf,
    drain: Duration,
    engines: Engines,
    handle: Audit,
}

/// The parts by which requests are heard of.
const PARTS: [&str; 2] = [Requests::DOOR, Requests::LOG];

/// What is known of a running collector. Clones are the same.
#[derive(Clone)]
pub struct Audit {
    status: Arc<Status>,
    requests: Requests,
}

impl Audit {
    /// How it stands.
    #[must_use]
    pub fn view(&self) -> View {
        self.status.view()
    }

    /// Sessions: those that ended last in the order of their ends, then those that live in the order of their beginnings.
    #[must_use]
    pub fn sessions(&self) -> Vec<Summary> {
        self.status.sessions()
    }

    /// Where it is told who asks for sessions.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn Ask> {
        Arc::new(Metrics(Arc::clone(&self.status)))
    }
}

impl AuditCollector {
    /// A collector that keeps what is not delivered yet in `folder`, which is its own. `roots` is where the machine's processes
    /// and cgroups are seen, `namer` knows whose containers are.
    #[must_use]
    pub fn new(
        config: AuditConfig,
        node: Arc<ArcSwap<Node>>,
        roots: Roots,
        namer: Arc<dyn Namer>,
        folder: impl Into<PathBuf>,
    ) -> Self {
        let status = Arc::new(Status::default());
        status.spool_limit.store(config.spool_limit(), Ordering::Relaxed);
        let heard = [config.requests.listen.is_some(), config.requests.log_file.is_some()];
        let parts: Vec<&str> =
            PARTS.into_iter().zip(heard).filter_map(|(part, is)| is.then_some(part)).collect();
        let requests = Requests::of(&parts);
        AuditCollector {
            config: Arc::new(config),
            node,
            roots,
            namer,
            folder: folder.into(),
            drain: DRAIN,
            engines: Engines::none(),
            handle: Audit { status, requests },
        }
    }

    /// How long it waits at its end for what is under way to be settled. Default: five seconds.
    #[must_use]
    pub fn with_drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// The engines whose word is taken where the kernel tells nothing. Default: none.
    #[must_use]
    pub fn with_engines(mut self, engines: Engines) -> Self {
        self.engines = engines;
        self
    }

    /// What can be asked while it runs, in whatever life.
    #[must_use]
    pub fn handle(&self) -> Audit {
        self.handle.clone()
    }

    /// One for another life, with the same counters.
    #[must_use]
    pub fn again(&self) -> Self {
        self.clone()
    }

    fn watch(&self, spool: &Arc<Spool>, stop: Stop) -> Result<Watch, Box<dyn Error + Send + Sync>> {
        let boot_id = read_text(&self.roots.proc("sys/kernel/random/boot_id"), &mut Page::default())?;
        let writer = Writer::new(Arc::clone(&self.node), &boot_id, &self.config.environment);
        let last = spool.last()?;
        let chain =
            Chain::resume(writer.boot(), now() as u64, last.as_ref().map(|last| last.body.as_slice()));
        let kept = Kept::open(&self.folder.join("open"), writer.boot())?;
        let undecided = Undecided::open(&self.folder.join("undecided"), writer.boot())?;
        let patient: Arc<dyn Namer> = Arc::new(Patient {
            namer: Arc::clone(&self.namer),
            stop: stop.clone(),
            nameless: Mutex::default(),
        });
        let policies = Policies::new(&self.config.policies);
        let book = Book::new(writer, policies, [Arc::clone(&self.namer), patient], self.config.whole_node)
            .expecting_requests(
                self.config.requests.are_expected(),
                self.config.requests.user_variable.as_deref(),
            );
        let status = Arc::clone(&self.handle.status);
        let attributor = Attributor::new(self.handle.requests.inbox(), self.config.requests.patience());
        let desk = Desk::new(
            book,
            Arc::clone(spool),
            chain,
            kept,
            undecided,
            Arc::clone(&status),
            self.config.remembered,
        );
        let pins = self.config.pinned.then(|| pins(&self.config.bpffs, &self.folder));
        let hands =
            Hands { pins, kernel_audit: KernelAudit::of(&self.folder), engines: self.engines.clone() };
        Ok(Watch::new(Arc::clone(&self.config), self.roots.clone(), hands, status, desk, attributor, stop))
    }
}

/// Takes out of the kernel what an earlier life of the agent with this folder has left there, if it did: probes, and rules of its audit.
///
/// # Errors
/// When the kernel does not let go of it.
pub fn take_away(config: &AuditConfig, folder: &Path) -> std::io::Result<()> {
    KernelAudit::of(folder).take_back().map_err(std::io::Error::other)?;
    match pins(&config.bpffs, folder).remove() {
        // Who may not look could not have left any.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        removed => removed,
    }
}

/// Where the probes are pinned of the agent whose folder this is.
fn pins(bpffs: &Path, folder: &Path) -> Pins {
    let of = crate::chain::hash(folder.as_os_str().as_encoded_bytes());
    Pins::new(bpffs.join(format!("taffrail-{}", of.get(..12).unwrap_or_default())))
}

impl Collector for AuditCollector {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn run(&mut self, context: &Context) -> Result<(), Box<dyn Error + Send + Sync>> {
        let folder = self.folder.join("spool");
        let spool = Arc::new(Spool::open(&folder, self.config.spool_limit(), &|| context.beat.beat())?);
        let ending = Stop::new();
        let told = ending.clone();
        context.stop.when_raised(move || told.raise());
        let watch = self.watch(&spool, ending.clone())?;
        let reader = std::thread::Builder::new().name("audit-read".to_owned()).spawn(move || watch.run())?;
        let contents = Contents {
            origin: Arc::new(Origin {
                node: self.node.load_full(),
                input: Input::Audit,
                pod: None,
                container: None,
            }),
            payload: Payload::Audit,
            account: Ledger::AUDIT,
            name: "documents of the audit",
        };
        let status = Arc::clone(&self.handle.status);
        let mut sender = Sender::new(&spool, context, contents, &*status);
        while !ending.is_raised() && !reader.is_finished() {
            if sender.step().is_err() {
                break;
            }
        }
        let was_told = ending.is_raised();
        ending.raise();
        let deadline = Instant::now() + self.drain;
        while !reader.is_finished() && Instant::now() < deadline {
            context.beat.beat();
            std::thread::sleep(Duration::from_millis(10));
        }
        sender.drain(self.drain);
        let reader = reader.join();
        match (was_told, reader) {
            (_, Err(_)) => Err("the reader of the probe panicked; see the log".into()),
            (true, _) => Ok(()),
            (false, _) => Err("the audit ended without being told to".into()),
        }
    }
}

/// Waits for names that are not known yet, for a while.
struct Patient {
    namer: Arc<dyn Namer>,
    stop: Stop,
    /// Whom it has waited for in vain, and when.
    nameless: Mutex<HashMap<String, Instant>>,
}

impl Namer for Patient {
    fn asked_for(&self, container_id: &str, pod_uid: &str) -> AskedFor {
        self.namer.asked_for(container_id, pod_uid)
    }

    fn whose(&self, container_id: &str, pod_uid: &str) -> (Whose, bool) {
        let deadline = Instant::now() + NAME;
        loop {
            let (whose, is_whole) = self.namer.whose(container_id, pod_uid);
            let mut nameless = self.nameless.lock();
            nameless.retain(|_, since| since.elapsed() < NAMELESS);
            if is_whole || nameless.contains_key(container_id) {
                return (whose, is_whole);
            }
            if Instant::now() >= deadline || self.stop.wait(Duration::from_millis(10)) {
                nameless.insert(container_id.to_owned(), Instant::now());
                return (whose, false);
            }
        }
    }
}
