//! A Docker engine with containers to go into, and an audit whose documents are caught.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use arc_swap::ArcSwap;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use parking_lot::Mutex;
use serde_json::{Value, json};
use taffrail_exec::chain::{Link, hash};
use taffrail_exec::{Audit, AuditCollector, AuditConfig, Namer, Tier, Whose};
use taffrail_kernfs::Roots;
use taffrail_parts::docker::{Docker, IMAGE};
use taffrail_parts::packages;
use taffrail_record::{
    Beat, Budget, BufferPool, Collector as _, Context, Ledger, Node, Outlet, Payload, Stop,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// A Docker engine, and a folder of bpffs.
pub(crate) struct Shop {
    pub(crate) docker: Docker,
    folder: tempfile::TempDir,
    known: Arc<Known>,
    far: Arc<Far>,
}

/// Containers by id.
#[derive(Default)]
struct Known(Mutex<Vec<(String, String)>>);

impl Namer for Known {
    fn whose(&self, container_id: &str, _pod_uid: &str) -> (Whose, bool) {
        let known = self.0.lock();
        let name = known.iter().find(|(id, _)| id == container_id).map(|(_, name)| name.clone());
        let is_whole = name.is_some();
        (
            Whose { id: container_id.to_owned(), container: name.unwrap_or_default(), ..Whose::default() },
            is_whole,
        )
    }
}

impl Shop {
    pub(crate) fn open() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let bpffs = folder.path().join("bpf");
        std::fs::create_dir(&bpffs)?;
        mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), None::<&str>).context("mounting bpffs")?;
        Ok(Shop { docker: Docker::start()?, folder, known: Arc::default(), far: Arc::default() })
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
        self.known.0.lock().push((id.clone(), name.to_owned()));
        Ok(id)
    }

    /// Runs the engine's client on a terminal of its own.
    pub(crate) fn with_terminal(&self, arguments: &[&str]) -> Result<()> {
        packages::ensure(&[("script", "bsdutils")])?;
        let quoted = arguments.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''")));
        let line = format!("docker -H {} {}", self.docker.host(), quoted.collect::<Vec<_>>().join(" "));
        let output =
            Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stdout));
        Ok(())
    }

    /// Makes `audit/doer.c` and puts it into a container.
    pub(crate) fn bring_doer(&self, container: &str) -> Result<()> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit/doer.c");
        let program = self.folder.path().join("doer");
        let made = Command::new("cc")
            .args(["-static", "-pthread", "-O1", "-Wall", "-o"])
            .arg(&program)
            .arg(source)
            .output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let from = program.to_str().context("a path")?;
        self.docker.output(&["cp", from, &format!("{container}:/doer")])?;
        Ok(())
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

/// An audit that runs.
pub(crate) struct Auditor {
    pub(crate) audit: Audit,
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
        let folder = shop.folder.path().join("audit");
        let node = Arc::new(ArcSwap::from_pointee(node));
        let mut collector = AuditCollector::new(config, node, Roots::default(), namer, folder);
        let audit = collector.handle();
        let (outlet, batches) = Outlet::channel(4);
        let (stop, ledger) = (Stop::new(), Ledger::new());
        let context = Context {
            outlet,
            stop: stop.clone(),
            beat: Beat::new(),
            budget: Budget::new(4 << 20),
            pool: BufferPool::new(4, 1 << 20),
            ledger: Arc::clone(&ledger),
        };
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
        let auditor = Auditor { audit, stop, far, ledger, collector, shipper };
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

    pub(crate) fn documents(&self) -> Vec<Value> {
        let bodies = self.far.bodies.lock();
        bodies.iter().map(|body| serde_json::from_slice(body).expect("JSON")).collect()
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

    pub(crate) fn session_where(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Told> {
        let ends = |document: &&Value| document["event"]["action"] == "session-ended" && is_it(document);
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
        let balance = ledger.account(["", "", "audit"]).balance();
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
