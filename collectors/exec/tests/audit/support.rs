//! A Docker engine with containers to go into, and an audit whose documents are caught.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use arc_swap::ArcSwap;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use parking_lot::Mutex;
use serde_json::{Value, json};
use taffrail_docker::DockerConfig;
use taffrail_exec::chain::{Link, hash};
use taffrail_exec::{AskedFor, Audit, AuditCollector, AuditConfig, Engines, Namer, Tier, Whose};
use taffrail_kernfs::Roots;
use taffrail_parts::docker::{Docker, IMAGE};
use taffrail_parts::terminal;
use taffrail_record::{
    Beat, Budget, BufferPool, Collector as _, Context, Ledger, Node, Outlet, Payload, Stop,
};

/// The cgroup of a pod.
pub(crate) const POD: &str = "/kubepods/besteffort/pod12345678-1234-1234-1234-123456789abc";
const PATIENCE: Duration = Duration::from_secs(120);

/// A Docker engine, and a folder of bpffs.
pub(crate) struct Shop {
    pub(crate) docker: Docker,
    folder: tempfile::TempDir,
    known: Arc<Known>,
    far: Arc<Far>,
}

/// Containers by id; whether those of pods were added to look into them, once that is known; and whether all containers are known
/// that are not others'.
#[derive(Default)]
struct Known(Mutex<Vec<(String, String)>>, Mutex<Option<bool>>, AtomicBool);

impl Namer for Known {
    fn whose(&self, container_id: &str, _pod_uid: &str) -> (Whose, bool) {
        let known = self.0.lock();
        let name = known.iter().find(|(id, _)| id == container_id).map(|(_, name)| name.clone());
        let is_whole = name.is_some() || self.2.load(Ordering::Relaxed);
        (
            Whose { id: container_id.to_owned(), container: name.unwrap_or_default(), ..Whose::default() },
            is_whole,
        )
    }

    fn asked_for(&self, _container_id: &str, _pod_uid: &str) -> AskedFor {
        AskedFor { is_ephemeral: *self.1.lock(), ..AskedFor::default() }
    }
}

impl Shop {
    pub(crate) fn open() -> Result<Self> {
        Self::open_with(tempfile::tempdir()?, &[])
    }

    /// One where `--privileged` means all that this machine grants: the engine asks for all that its kernel knows.
    pub(crate) fn open_where_machines_grant_less() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let runtime = folder.path().join("runtime");
        let status = std::fs::read_to_string("/proc/self/status")?;
        let granted = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).context("no CapBnd")?;
        let granted = u64::from_str_radix(granted.trim(), 16)?;
        let taken = match granted >> 24 & 1 {
            1 => "CAP_NONE",
            _ => "CAP_SYS_RESOURCE",
        };
        let others = (0..=40).filter(|bit| *bit != 24 && granted >> bit & 1 == 0).count();
        ensure!(others == 0, "this machine grants {granted:x}: name what else is missing here");
        let script = format!(
            "#!/bin/sh\nbefore=\nfor word; do\ncase $before in\n\
             --bundle) file=$word/config.json;;\n--process) file=$word;;\n*) file=;;\nesac\n\
             [ -z \"$file\" ] || sed -i 's/\"{taken}\",//g; s/,\"{taken}\"//g' \"$file\"\n\
             before=$word\ndone\nexec runc \"$@\"\n"
        );
        std::fs::File::create(&runtime)?.write_all(script.as_bytes())?;
        std::fs::set_permissions(&runtime, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let runtime = format!("--add-runtime=granted={}", runtime.display());
        Self::open_with(folder, &[&runtime, "--default-runtime=granted"])
    }

    fn open_with(folder: tempfile::TempDir, engine: &[&str]) -> Result<Self> {
        let bpffs = folder.path().join("bpf");
        std::fs::create_dir(&bpffs)?;
        mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), None::<&str>).context("mounting bpffs")?;
        Ok(Shop { docker: Docker::start_with(engine)?, folder, known: Arc::default(), far: Arc::default() })
    }

    /// Where an audit keeps its things.
    pub(crate) fn audit_folder(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    fn bpffs(&self) -> PathBuf {
        self.folder.path().join("bpf")
    }

    /// A container that sleeps; its id.
    pub(crate) fn container(&self, name: &str, options: &[&str]) -> Result<String> {
        let mut arguments = vec!["--name", name, "--init=false"];
        arguments.extend(options);
        arguments.extend([IMAGE, "sleep", "100000"]);
        let id = self.docker.run_detached(&arguments)?.trim().to_owned();
        self.known_as(&id, name);
        Ok(id)
    }

    /// From now on it is known what a container is called.
    pub(crate) fn known_as(&self, id: &str, name: &str) {
        self.known.0.lock().push((id.trim().to_owned(), name.to_owned()));
    }

    /// From now on no more names come: other containers are those of others on this machine.
    #[allow(dead_code, reason = "tests of recordings need it")]
    pub(crate) fn all_are_known(&self) {
        self.known.2.store(true, Ordering::Relaxed);
    }

    /// Runs a script as the first process of a container in a pod.
    pub(crate) fn in_pod(&self, name: &str, script: &str) -> Result<()> {
        let id =
            self.docker.run_detached(&["--name", name, "--cgroup-parent", POD, IMAGE, "sh", "-c", script])?;
        self.known_as(&id, name);
        Ok(())
    }

    /// From now on it is known what containers of pods are.
    pub(crate) fn they_are_ephemeral(&self, they_are: Option<bool>) {
        *self.known.1.lock() = they_are;
    }

    /// Runs the engine's client on a terminal of its own.
    pub(crate) fn with_terminal(&self, arguments: &[&str]) -> Result<()> {
        terminal::shown(&self.client(arguments), &[]).map(drop)
    }

    /// The engine's client, as a line for a shell.
    pub(crate) fn client(&self, arguments: &[&str]) -> String {
        let quoted = arguments.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''")));
        format!("docker -H {} {}", self.docker.host(), quoted.collect::<Vec<_>>().join(" "))
    }

    /// Makes `audit/doer.c` and puts it into a container.
    pub(crate) fn bring_doer(&self, container: &str) -> Result<()> {
        self.bring("tests/audit/doer.c", container, "/doer")
    }

    /// Makes a program and puts it into a container.
    pub(crate) fn bring(&self, source: &str, container: &str, to: &str) -> Result<()> {
        let program = self.make(source)?;
        let from = program.to_str().context("a path")?;
        self.docker.output(&["cp", from, &format!("{container}:{to}")])?;
        Ok(())
    }

    /// Makes a program.
    pub(crate) fn make(&self, source: &str) -> Result<PathBuf> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let program = self.folder.path().join("made");
        let made = Command::new("cc")
            .args(["-static", "-pthread", "-O1", "-Wall", "-o"])
            .arg(&program)
            .arg(source)
            .output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(program)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = umount2(&self.bpffs(), MntFlags::MNT_DETACH);
    }
}

/// Documents that were delivered, as they came, and whether nothing is taken.
#[derive(Default)]
struct Far {
    bodies: Mutex<Vec<Vec<u8>>>,
    away: AtomicBool,
}

fn context(outlet: Outlet, stop: &Stop, ledger: &Arc<Ledger>) -> Context {
    Context {
        outlet,
        stop: stop.clone(),
        beat: Beat::new(),
        budget: Budget::new(4 << 20),
        pool: BufferPool::new(4, 1 << 20),
        ledger: Arc::clone(ledger),
    }
}

/// Runs an audit that keeps its things in this folder until this process is killed.
pub(crate) fn run_in(folder: &Path, config: AuditConfig) -> Result<()> {
    let config = AuditConfig { enabled: true, pinned: false, ..config };
    let namer: Arc<dyn Namer> = Arc::<Known>::default();
    let node = Arc::new(ArcSwap::from_pointee(Node::default()));
    let mut collector = AuditCollector::new(config, node, Roots::default(), namer, folder);
    let (outlet, _batches) = Outlet::channel(4);
    let ran = collector.run(&context(outlet, &Stop::new(), &Ledger::new()));
    ran.map_err(|error| anyhow::anyhow!("{error}"))
}

/// An audit that runs.
pub(crate) struct Auditor {
    pub(crate) audit: Audit,
    known: Arc<Known>,
    engine: String,
    stop: Stop,
    far: Arc<Far>,
    ledger: Arc<Ledger>,
    collector: JoinHandle<()>,
    shipper: JoinHandle<()>,
}

impl Auditor {
    /// Starts one that keeps its things in the shop's folder, and so goes on where another one has stopped.
    pub(crate) fn start(shop: &Shop, config: AuditConfig) -> Result<Self> {
        let config = AuditConfig { bpffs: shop.bpffs(), enabled: true, ..config };
        let node = Node { name: "n1".to_owned(), ..Node::default() };
        let namer = Arc::clone(&shop.known) as Arc<dyn Namer>;
        let folder = shop.audit_folder();
        let node = Arc::new(ArcSwap::from_pointee(node));
        let docker = DockerConfig { socket: shop.docker.host().into(), ..DockerConfig::default() };
        let engines = Engines { docker, ..Engines::none() };
        let mut collector =
            AuditCollector::new(config, node, Roots::default(), namer, folder).with_engines(engines);
        let audit = collector.handle();
        let (outlet, batches) = Outlet::channel(4);
        let (stop, ledger) = (Stop::new(), Ledger::new());
        let context = context(outlet, &stop, &ledger);
        let collector =
            std::thread::spawn(move || collector.run(&context).expect("a collector that ends well"));
        let far = Arc::clone(&shop.far);
        let taker = Arc::clone(&far);
        let shipper = std::thread::spawn(move || {
            for batch in batches {
                while taker.away.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                assert_eq!(batch.payload, Payload::Audit);
                taker.bodies.lock().extend(batch.records.iter().map(|record| batch.body(record).to_vec()));
                batch.receipt.confirm();
            }
        });
        let (known, engine) = (Arc::clone(&shop.known), shop.docker.host());
        let auditor = Auditor { audit, known, engine, stop, far, ledger, collector, shipper };
        loop {
            let view = auditor.audit.view();
            if view.tier != Tier::None {
                return Ok(auditor);
            }
            if let Some(trouble) = view.trouble {
                auditor.abandon();
                anyhow::bail!(trouble);
            }
            ensure!(!auditor.collector.is_finished(), "the collector has ended");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// It goes by the probe, which stays.
    pub(crate) fn is_pinned(&self) -> Result<()> {
        let view = self.audit.view();
        ensure!(view.tier == Tier::Probe && view.pinned, "{view:?}");
        Ok(())
    }

    pub(crate) fn far_is_away(&self, away: bool) {
        self.far.away.store(away, Ordering::Relaxed);
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.audit.view().trouble
    }

    /// Of all containers on this machine.
    pub(crate) fn documents(&self) -> Vec<Value> {
        let bodies = self.far.bodies.lock();
        bodies.iter().map(|body| serde_json::from_slice(body).expect("JSON")).collect()
    }

    /// Of this engine's.
    #[allow(dead_code, reason = "not every test needs it")]
    pub(crate) fn own_documents(&self) -> Vec<Value> {
        self.documents().into_iter().filter(|document| self.is_own(document)).collect()
    }

    /// Waits for something in the documents.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&[Value]) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.documents()) {
            ensure!(
                Instant::now() < deadline,
                "{what} did not come; trouble: {:?}, {} documents, {:?}",
                self.trouble(),
                self.documents().len(),
                self.audit.view().counts
            );
            ensure!(!self.collector.is_finished(), "the collector has ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The session that began with these arguments, when it has ended.
    pub(crate) fn session(&self, arguments: &[&str]) -> Result<Told> {
        self.session_where(&format!("of {arguments:?}"), |end| end["process"]["args"] == json!(arguments))
    }

    /// Whether it is of a container of this engine, or of none: other tests have theirs on this machine.
    fn is_own(&self, document: &Value) -> bool {
        let Some(container) = document["container"]["id"].as_str() else { return true };
        let is_known = self.known.0.lock().iter().any(|(id, _)| id == container);
        let asked = || Command::new("docker").args(["-H", &self.engine, "inspect", container]).output();
        is_known || asked().is_ok_and(|output| output.status.success())
    }

    pub(crate) fn session_where(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Told> {
        let ends = |document: &&Value| {
            document["event"]["action"] == "session-ended" && is_it(document) && self.is_own(document)
        };
        self.until(&format!("the end of the session {what}"), |documents| {
            documents.iter().any(|document| ends(&document))
        })?;
        let all = self.documents();
        let end = all.iter().find(ends).cloned().context("gone")?;
        let id = &end["audit"]["session"]["id"];
        let of = all.iter().filter(|document| document["audit"]["session"]["id"] == *id).cloned().collect();
        Ok(Told { end: end.clone(), documents: of })
    }

    /// Each document names the one before it.
    pub(crate) fn is_chained(&self) -> Result<()> {
        let bodies = self.far.bodies.lock();
        for pair in bodies.windows(2) {
            let link =
                |body: &[u8]| Link::read(&serde_json::from_slice(body).expect("JSON")).expect("a link");
            let (one, other) = (link(&pair[0]), link(&pair[1]));
            ensure!(
                other.previous == hash(&pair[0]) && other.sequence == one.sequence + 1,
                "{one:?} {other:?}"
            );
        }
        Ok(())
    }

    /// Ends, whatever was delivered.
    pub(crate) fn abandon(self) {
        self.stop.raise();
        self.collector.join().expect("the collector ends");
        self.shipper.join().expect("the shipper ends");
    }

    /// Ends in order; what was read is accounted for.
    pub(crate) fn stop(self) -> Result<()> {
        let ledger = Arc::clone(&self.ledger);
        self.abandon();
        let balance = ledger.account(Ledger::AUDIT).balance();
        ensure!(
            balance.difference() == 0 && balance.lost_bytes() == 0 && balance.confirmed.records > 0,
            "{balance:?}"
        );
        Ok(())
    }
}

/// Everything that was told of a session.
pub(crate) struct Told {
    pub(crate) end: Value,
    documents: Vec<Value>,
}

impl Told {
    /// Of one action, in the order of their numbers, each once.
    pub(crate) fn of(&self, action: &str) -> Vec<&Value> {
        let mut of: Vec<&Value> =
            self.documents.iter().filter(|document| document["event"]["action"] == action).collect();
        of.sort_by_key(|document| document["event"]["sequence"].as_u64());
        of.dedup_by_key(|document| &document["event"]["id"]);
        of
    }

    pub(crate) fn execs(&self) -> Vec<&Value> {
        self.of("exec")
    }

    pub(crate) fn only(&self, action: &str) -> Result<&Value> {
        let of = self.of(action);
        ensure!(of.len() == 1, "{} of {action}: {:?}", of.len(), self.commands());
        Ok(of[0])
    }

    pub(crate) fn commands(&self) -> Vec<Vec<&str>> {
        self.execs()
            .into_iter()
            .map(|exec| {
                exec["process"]["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
            })
            .collect()
    }

    /// Numbers of the documents in the session.
    pub(crate) fn numbers(&self) -> BTreeSet<u64> {
        self.documents.iter().filter_map(|document| document["event"]["sequence"].as_u64()).collect()
    }

    /// It says that nothing is missing, and so it is.
    pub(crate) fn is_whole(&self) -> Result<()> {
        let session = &self.end["audit"]["session"];
        ensure!(session["complete"] == true && session["gaps"] == Value::Null, "{session}");
        ensure!(
            Some(self.numbers().len() as u64) == session["records"].as_u64(),
            "{:?} of {session}",
            self.numbers()
        );
        ensure!(Some(self.execs().len() as u64) == session["execs"].as_u64(), "{session}");
        ensure!(Some(self.of("fork").len() as u64) == session["forks"].as_u64(), "{session}");
        ensure!(Some(self.of("exit").len() as u64) == session["exits"].as_u64(), "{session}");
        Ok(())
    }
}

/// Of this thread, and of those that it makes.
#[allow(dead_code, reason = "not every test does")]
pub(crate) fn drop_capabilities(capabilities: &[u32]) -> Result<()> {
    let kept = capabilities.iter().fold(u64::MAX >> 23, |kept, number| kept & !(1 << number));
    // As linux/capability.h has it: version 3, this thread; then effective, permitted and inheritable, low halves first.
    let head: [u32; 2] = [0x2008_0522, 0];
    let mut data = [0_u32; 6];
    // SAFETY: both are there for as long as the calls, and as long as version 3 has them.
    let failed = unsafe {
        libc::syscall(libc::SYS_capget, head.as_ptr(), data.as_mut_ptr()) != 0 || {
            let halves = [kept as u32, (kept >> 32) as u32];
            for (index, word) in data.iter_mut().enumerate() {
                *word &= halves[index / 3];
            }
            libc::syscall(libc::SYS_capset, head.as_ptr(), data.as_ptr()) != 0
        }
    };
    ensure!(!failed, "capabilities cannot be dropped: {}", std::io::Error::last_os_error());
    Ok(())
}
