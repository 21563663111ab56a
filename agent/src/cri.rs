//! Names of containers and pods from a CRI runtime, for metrics.
//!
//! Guarantee: what the runtime lists is told to [`Names`] while it answers, and what it told last stays told when it
//! does not. No runtime is normal, and leaves the names that kubelet's links give. It finds no logs: kubelet's
//! directories do.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use taffrail_cgroup::{AskLayers, ContainerName, Layer, Names};
use taffrail_cri::{Connection, CriConfig, Enabled, Errors, Name, Snapshot, names, watch};
use taffrail_record::{Ask, AskError, Collector, Context, Family, Kind, Samples};
use tokio::sync::Notify;

use crate::pipeline::Shared;
use crate::supervise::{Make, Patience, supervise};
use crate::targets::until_raised;

/// Under what names are told. A Docker engine knows more than the adapter in front of it, and `docker` wins over what
/// comes later in the alphabet.
const SOURCES: [&str; 2] = ["cri", "docker.cri"];

static FAMILIES: [Family; 3] = [
    Family {
        name: "taffrail_cri_connected",
        kind: Kind::Gauge,
        help: "Whether the CRI runtime answers; missing where none was ever found and none is required.",
        labels: &[],
    },
    Family {
        name: "taffrail_cri_containers",
        kind: Kind::Gauge,
        help: "Containers that the CRI runtime listed last, by kind: container or sandbox.",
        labels: &["kind"],
    },
    Family {
        name: "taffrail_cri_errors_total",
        kind: Kind::Counter,
        help: "Failures of the CRI runtime, by kind: absent, broken, denied, refused, slow or too_large.",
        labels: &["kind"],
    },
];

#[derive(Debug, Default)]
struct Standing {
    connected: bool,
    ever_connected: bool,
    containers: usize,
    sandboxes: usize,
    errors: Errors,
}

/// What is known of the runtime, for scrapes.
#[derive(Debug)]
pub struct Runtime {
    required: bool,
    standing: Mutex<Standing>,
}

impl Runtime {
    /// Nothing known yet.
    #[must_use]
    pub fn new(config: &CriConfig) -> Arc<Self> {
        Arc::new(Runtime { required: config.enabled == Enabled::Always, standing: Mutex::default() })
    }

    fn note(&self, snapshot: &Snapshot) {
        let mut standing = self.standing.lock();
        standing.connected = matches!(snapshot.connection, Connection::Connected { .. });
        standing.ever_connected |= standing.connected;
        standing.sandboxes = snapshot.containers.iter().filter(|info| info.sandbox).count();
        standing.containers = snapshot.containers.len() - standing.sandboxes;
        standing.errors.clone_from(&snapshot.errors);
    }
}

impl Ask for Runtime {
    fn name(&self) -> &'static str {
        "cri"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let standing = self.standing.lock();
        let has_failed = standing.errors.values().any(|count| *count > 0);
        if !standing.ever_connected && !self.required && !has_failed {
            return Ok(());
        }
        samples.family(&FAMILIES[0]);
        samples.sample(&[], f64::from(u8::from(standing.connected)));
        samples.family(&FAMILIES[1]);
        for (kind, count) in [("container", standing.containers), ("sandbox", standing.sandboxes)] {
            samples.sample(&[kind], count as f64);
        }
        samples.family(&FAMILIES[2]);
        for (kind, count) in &standing.errors {
            samples.sample(&[kind], *count as f64);
        }
        Ok(())
    }
}

/// Asks the runtime what containers have written; each time over a connection of its own, for it is asked seldom.
#[must_use]
pub fn layers(config: CriConfig) -> Box<AskLayers> {
    let told = |layer: taffrail_cri::Layer| {
        let taffrail_cri::Layer { bytes, inodes, folder } = layer;
        Layer { bytes, inodes, folder }
    };
    Box::new(move |ids| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return BTreeMap::new();
        };
        let found = runtime.block_on(taffrail_cri::layers(&config, ids));
        found.into_iter().map(|(id, layer)| (id, told(layer))).collect()
    })
}

/// Starts telling `shared.names` what the runtime calls its containers, until `shared.stop` is raised. Nothing is
/// started when the configuration says not to look.
///
/// # Errors
/// When the system grants no thread.
pub fn start(config: CriConfig, shared: &Shared) -> io::Result<(Arc<Runtime>, Option<JoinHandle<()>>)> {
    let runtime = Runtime::new(&config);
    if config.enabled == Enabled::Never {
        return Ok((runtime, None));
    }
    let nudge = Arc::new(Notify::new());
    let raise = Arc::clone(&nudge);
    shared.names.when_lacking(move || raise.notify_one());
    let finder = Finder { config, runtime: Arc::clone(&runtime), names: Arc::clone(&shared.names), nudge };
    let make: Make = Box::new(move || Box::new(finder.clone()));
    let context = shared.context_without_records();
    let thread = supervise("cri", make, context, Arc::clone(&shared.components), Patience::default())?;
    Ok((runtime, Some(thread)))
}

/// Follows the runtime. A collector only in how it is kept running: what it finds are names, not records.
#[derive(Clone)]
struct Finder {
    config: CriConfig,
    runtime: Arc<Runtime>,
    names: Arc<Names>,
    nudge: Arc<Notify>,
}

impl Finder {
    fn take(&self, snapshot: &Snapshot) {
        self.runtime.note(snapshot);
        tell(&self.names, snapshot);
    }
}

impl Collector for Finder {
    fn name(&self) -> &'static str {
        "cri"
    }

    fn run(&mut self, context: &Context) -> Result<(), Box<dyn Error + Send + Sync>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let told = until_raised(context.stop.clone(), context.beat.clone());
        let nudge = Arc::clone(&self.nudge);
        runtime.block_on(watch(self.config.clone(), told, nudge, |snapshot| self.take(&snapshot)));
        Ok(())
    }
}

/// Tells `names` once what the runtime calls its containers; nothing when none answers within `patience`.
pub(crate) async fn tell_once(config: &CriConfig, known: &Names, patience: Duration) {
    let heard = Notify::new();
    let enough = async {
        // Who is not there has told all that it will.
        let _ = tokio::time::timeout(patience, heard.notified()).await;
    };
    watch(config.clone(), enough, Arc::default(), |snapshot| {
        tell(known, &snapshot);
        heard.notify_one();
    })
    .await;
}

fn tell(known: &Names, snapshot: &Snapshot) {
    // Without a connection nothing is known that was not known before.
    let Connection::Connected { runtime, .. } = &snapshot.connection else { return };
    let told: HashMap<_, _> = names(runtime, &snapshot.containers).into_iter().map(told).collect();
    let [first, behind_docker] = SOURCES;
    let (source, other) = if runtime == "docker" { (behind_docker, first) } else { (first, behind_docker) };
    known.set_containers(source, told);
    known.set_containers(other, HashMap::new());
}

fn told(name: Name) -> (String, Arc<ContainerName>) {
    let Name { id, container, pod, namespace, pod_uid, image, name, labels, sandbox } = name;
    let logs = None;
    (id, Arc::new(ContainerName { container, pod, namespace, pod_uid, image, name, labels, sandbox, logs }))
}

#[cfg(test)]
mod tests {
    use taffrail_cri::ContainerInfo;
    use taffrail_prometheus::{Exposition, Format};

    use super::*;

    fn shown(runtime: &Runtime) -> String {
        let mut exposition = Exposition::new();
        runtime.ask(&mut exposition).expect("answered");
        exposition.render(Format::Text)
    }

    fn finder(enabled: Enabled) -> Finder {
        let config = CriConfig { enabled, ..CriConfig::default() };
        let runtime = Runtime::new(&config);
        Finder { config, runtime, names: Names::new(), nudge: Arc::default() }
    }

    fn snapshot(connection: Connection, errors: &[(&'static str, u64)]) -> Snapshot {
        let container =
            ContainerInfo { id: "c1".to_owned(), pod: "cart".to_owned(), ..ContainerInfo::default() };
        let sandbox = ContainerInfo { id: "s1".to_owned(), sandbox: true, ..container.clone() };
        Snapshot {
            connection,
            containers: vec![container, sandbox],
            errors: errors.iter().copied().collect(),
        }
    }

    fn connected(runtime: &str) -> Connection {
        Connection::Connected { runtime: runtime.to_owned(), version: "1".to_owned() }
    }

    #[test]
    fn a_runtime_that_was_never_there_is_no_number_and_one_that_was_is() {
        let nowhere = || Connection::Absent { reason: "none".to_owned() };
        let finder = finder(Enabled::Auto);
        finder.take(&snapshot(nowhere(), &[("absent", 0)]));
        assert_eq!(shown(&finder.runtime), "");
        finder.take(&snapshot(connected("containerd"), &[("absent", 0)]));
        finder.take(&snapshot(nowhere(), &[("absent", 3)]));
        let text = shown(&finder.runtime);
        for line in [
            "taffrail_cri_connected 0",
            "taffrail_cri_containers{kind=\"container\"} 1",
            "taffrail_cri_containers{kind=\"sandbox\"} 1",
            "taffrail_cri_errors_total{kind=\"absent\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn one_that_must_be_there_or_fails_is_a_number_from_the_start() {
        assert!(shown(&finder(Enabled::Always).runtime).contains("taffrail_cri_connected 0"));
        let locked = finder(Enabled::Auto);
        locked.take(&snapshot(Connection::Failed { reason: "locked".to_owned() }, &[("denied", 1)]));
        assert!(shown(&locked.runtime).contains("taffrail_cri_errors_total{kind=\"denied\"} 1"));
    }

    #[test]
    fn names_are_told_behind_those_of_docker_where_docker_runs_the_containers() {
        let [first, behind_docker] = SOURCES;
        assert!(first < "docker" && "docker" < behind_docker && behind_docker < "links");
        let finder = finder(Enabled::Auto);
        let known = |finder: &Finder| format!("{:?}", finder.names);
        finder.take(&snapshot(Connection::Absent { reason: "none".to_owned() }, &[]));
        assert!(!known(&finder).contains("cart"), "nothing is told without a connection");
        finder.take(&snapshot(connected("containerd"), &[]));
        assert!(known(&finder).contains("cart"));
        finder.take(&snapshot(connected("docker"), &[]));
        assert!(
            known(&finder).contains("\"cri\": Told { containers: {}, ")
                && known(&finder).contains("k8s_POD_cart")
        );
    }
}
