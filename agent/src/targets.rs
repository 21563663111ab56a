//! The containers of the Docker engine, as lanes of the log collector.
//!
//! Guarantee: every container that the engine lists is followed, or read through kubelet's own directory, or reported
//! with the reason why there is nothing to read: once in the log, always in the metrics. An engine that goes away takes
//! no lane with it, and a container that is removed is read to its end through the descriptor that is held on its file.

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::fs::DirEntry;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use taffrail_cgroup::{ContainerName, Names};
use taffrail_docker::{
    Connection, ContainerInfo, DockerConfig, Enabled, Snapshot, is_sandbox, origin, watch,
};
use taffrail_logs::config::{KubernetesLogs, Start};
use taffrail_logs::decode::Format;
use taffrail_logs::find::{Handed, Naming, Target};
use taffrail_record::{Ask, AskError, Beat, Collector, Context, Family, Kind, Node, Samples, Stop};
use tokio::sync::Notify;

use crate::config::Config;
use crate::pipeline::Shared;
use crate::supervise::{Make, Patience, supervise};

/// How often a watch that waits for a runtime says that it is alive.
const BEAT: Duration = Duration::from_secs(5);
/// More containers than this that become unreadable at once are counted and not named.
const NAMED: usize = 10;

static FAMILIES: [Family; 4] = [
    Family {
        name: "taffrail_docker_connected",
        kind: Kind::Gauge,
        help: "Whether the Docker engine answers; missing where none was ever found and none is required.",
        labels: &[],
    },
    Family {
        name: "taffrail_docker_disconnections_total",
        kind: Kind::Counter,
        help: "How often the Docker engine went away; its containers stay followed meanwhile.",
        labels: &[],
    },
    Family {
        name: "taffrail_docker_containers",
        kind: Kind::Gauge,
        help: "Containers of the Docker engine by how their logs are read: docker (its own files), kubernetes (kubelet's directory) or none.",
        labels: &["read"],
    },
    Family {
        name: "taffrail_logs_containers_unreadable",
        kind: Kind::Gauge,
        help: "Containers whose logs cannot be read because they are in no file here, by log driver.",
        labels: &["driver"],
    },
];

/// A container whose logs are in no file that can be read here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The engine's name for it.
    pub name: String,
    /// Its log driver; `unknown` when the engine does not say.
    pub driver: String,
    /// Why, for people.
    pub reason: String,
}

/// How things stand with the engine and its containers.
#[derive(Debug, Default)]
struct Standing {
    /// `None` before the first answer.
    connection: Option<Connection>,
    ever_connected: bool,
    disconnections: u64,
    followed: usize,
    in_pods: usize,
    unread: Vec<Unread>,
}

/// What is known of the engine: for people, scrapes and the start.
#[derive(Debug)]
pub struct Engine {
    required: bool,
    standing: Mutex<Standing>,
    heard: Condvar,
}

impl Engine {
    /// Nothing known yet.
    #[must_use]
    pub fn new(config: &DockerConfig) -> Arc<Self> {
        let required = config.enabled == Enabled::Always;
        Arc::new(Engine { required, standing: Mutex::default(), heard: Condvar::new() })
    }

    /// Waits for the first answer, which may be that there is no engine.
    pub fn await_first(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut standing = self.standing.lock();
        while standing.connection.is_none() && !self.heard.wait_until(&mut standing, deadline).timed_out() {}
    }

    /// Whether it answers now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.standing.lock().connection, Some(Connection::Connected { .. }))
    }

    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let standing = self.standing.lock();
        let version = match &standing.connection {
            None => return "no answer yet".to_owned(),
            Some(Connection::Off) => return "off".to_owned(),
            Some(Connection::Absent { reason }) => return reason.clone(),
            Some(Connection::Connected { version }) => version,
        };
        let containers = if standing.followed == 1 { "container" } else { "containers" };
        let mut text = format!("engine {version}, {} {containers} followed", standing.followed);
        if standing.in_pods > 0 {
            text += &format!(", {} through the Kubernetes logs", standing.in_pods);
        }
        if !standing.unread.is_empty() {
            text += &format!(", {} without a log file", standing.unread.len());
        }
        text
    }

    fn note(&self, connection: Connection, sorted: Option<&Sorted>) {
        let mut standing = self.standing.lock();
        let was = matches!(standing.connection, Some(Connection::Connected { .. }));
        let is = matches!(connection, Connection::Connected { .. });
        standing.disconnections += u64::from(was && !is);
        standing.ever_connected |= is;
        standing.connection = Some(connection);
        if let Some(sorted) = sorted {
            standing.followed = sorted.followed;
            standing.in_pods = sorted.in_pods;
            standing.unread = sorted.unread.iter().map(|(_, unread)| unread.clone()).collect();
        }
        self.heard.notify_all();
    }
}

impl Ask for Engine {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let standing = self.standing.lock();
        if !standing.ever_connected && !self.required {
            return Ok(());
        }
        let connected = matches!(standing.connection, Some(Connection::Connected { .. }));
        samples.family(&FAMILIES[0]);
        samples.sample(&[], f64::from(u8::from(connected)));
        samples.family(&FAMILIES[1]);
        samples.sample(&[], standing.disconnections as f64);
        samples.family(&FAMILIES[2]);
        let counts = [standing.followed, standing.in_pods, standing.unread.len()];
        for (read, count) in ["docker", "kubernetes", "none"].into_iter().zip(counts) {
            samples.sample(&[read], count as f64);
        }
        let mut drivers: BTreeMap<&str, u64> = BTreeMap::new();
        standing.unread.iter().for_each(|unread| *drivers.entry(&unread.driver).or_default() += 1);
        samples.family(&FAMILIES[3]);
        for (driver, count) in drivers {
            samples.sample(&[driver], count as f64);
        }
        Ok(())
    }
}

/// Starts handing the engine's containers to the log collector, until `shared.stop` is raised. Nothing is started
/// when the configuration says not to look.
///
/// # Errors
/// When the system grants no thread.
pub fn start(
    config: &Config,
    node: &Arc<Node>,
    shared: &Shared,
) -> io::Result<(Arc<Engine>, Option<JoinHandle<()>>)> {
    let engine = Engine::new(&config.docker);
    if config.docker.enabled == Enabled::Never {
        engine.note(Connection::Off, None);
        return Ok((engine, None));
    }
    let finder = Finder {
        config: config.docker.clone(),
        engine: Arc::clone(&engine),
        handed: Arc::clone(&shared.handed),
        names: Arc::clone(&shared.names),
        sorter: Sorter::new(config, node),
    };
    let make: Make = Box::new(move || Box::new(finder.again()));
    let context = shared.context_without_records();
    let thread = supervise("docker", make, context, Arc::clone(&shared.components), Patience::default())?;
    Ok((engine, Some(thread)))
}

/// Follows the engine. A collector only in how it is kept running: what it finds are lanes, not records.
struct Finder {
    config: DockerConfig,
    engine: Arc<Engine>,
    handed: Arc<Handed>,
    names: Arc<Names>,
    sorter: Sorter,
}

impl Finder {
    /// One for another life.
    fn again(&self) -> Finder {
        Finder {
            config: self.config.clone(),
            engine: Arc::clone(&self.engine),
            handed: Arc::clone(&self.handed),
            names: Arc::clone(&self.names),
            sorter: self.sorter.clone(),
        }
    }

    fn take(&mut self, snapshot: Snapshot) {
        // Without a connection nothing is known that was not known before.
        if !matches!(snapshot.connection, Connection::Connected { .. }) {
            self.engine.note(snapshot.connection, None);
            return;
        }
        let sorted = self.sorter.sort(&snapshot.containers);
        self.sorter.report(&sorted.unread);
        self.engine.note(snapshot.connection, Some(&sorted));
        self.names.set_containers("docker", snapshot.containers.iter().map(named).collect());
        self.handed.set(sorted.targets);
    }
}

impl Collector for Finder {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn run(&mut self, context: &Context) -> Result<(), Box<dyn Error + Send + Sync>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let told = until_raised(context.stop.clone(), context.beat.clone());
        runtime.block_on(watch(self.config.clone(), told, |snapshot| self.take(snapshot)));
        Ok(())
    }
}

/// Tells `names` once what the engine calls its containers; nothing when none answers within `patience`.
pub(crate) async fn tell_once(config: &DockerConfig, names: &Names, patience: Duration) {
    let told = Notify::new();
    let enough = async {
        // Who is not there has told all that it will.
        let _ = tokio::time::timeout(patience, told.notified()).await;
    };
    watch(config.clone(), enough, |snapshot| {
        names.set_containers("docker", snapshot.containers.iter().map(named).collect());
        told.notify_one();
    })
    .await;
}

fn named(info: &ContainerInfo) -> (String, Arc<ContainerName>) {
    (info.id.clone(), Arc::new(container_name(info)))
}

/// What metrics call a container. Below kubelet the engine's labels say whose it is.
fn container_name(info: &ContainerInfo) -> ContainerName {
    let origin = origin(info, &Arc::default());
    let pod = origin.pod.unwrap_or_default();
    let in_pod = origin.container.filter(|_| !pod.name.is_empty());
    ContainerName {
        container: in_pod.map(|container| container.name).unwrap_or_default(),
        pod: pod.name,
        namespace: pod.namespace,
        pod_uid: pod.uid,
        image: info.image.clone(),
        name: info.name.clone(),
        labels: info.labels.clone().into_iter().collect(),
        sandbox: is_sandbox(info),
        logs: own_folder(info),
    }
}

/// Where the engine keeps a container's log, if that is a folder of its own.
fn own_folder(info: &ContainerInfo) -> Option<PathBuf> {
    let folder = info.log_path.as_ref()?.parent()?;
    (folder.file_name()? == info.id.as_str()).then(|| folder.to_owned())
}

/// Beats until the stop is raised.
pub(crate) async fn until_raised(stop: Stop, beat: Beat) {
    let raised = Arc::new(Notify::new());
    let raise = Arc::clone(&raised);
    stop.when_raised(move || raise.notify_one());
    while !stop.is_raised() {
        beat.beat();
        let _ = tokio::time::timeout(BEAT, raised.notified()).await;
    }
}

/// Containers by how their logs are read.
#[derive(Debug, Default)]
struct Sorted {
    targets: Vec<Target>,
    followed: usize,
    in_pods: usize,
    /// By container id.
    unread: Vec<(String, Unread)>,
}

/// Decides how each container's logs are read.
#[derive(Debug, Clone)]
struct Sorter {
    node: Arc<Node>,
    kubernetes: Option<KubernetesLogs>,
    /// Read through kubelet's directory, and for good: it may be gone before the container is.
    in_pods: HashSet<String>,
    /// Reported as unreadable.
    reported: HashSet<String>,
    /// The last lanes by container id: as long as nothing changes, records share one origin.
    lanes: BTreeMap<String, Target>,
}

impl Sorter {
    fn new(config: &Config, node: &Arc<Node>) -> Sorter {
        Sorter {
            node: Arc::clone(node),
            kubernetes: config.logs.kubernetes.enabled.then(|| config.logs.kubernetes.clone()),
            in_pods: HashSet::new(),
            reported: HashSet::new(),
            lanes: BTreeMap::new(),
        }
    }

    fn sort(&mut self, containers: &[ContainerInfo]) -> Sorted {
        let mut sorted = Sorted::default();
        let mut lanes = std::mem::take(&mut self.lanes);
        self.in_pods.retain(|id| containers.iter().any(|info| info.id == *id));
        for info in containers.iter().filter(|info| !is_sandbox(info)) {
            if self.is_in_pod(info) {
                self.in_pods.insert(info.id.clone());
                sorted.in_pods += 1;
                continue;
            }
            match unread(info) {
                Some(unread) => sorted.unread.push((info.id.clone(), unread)),
                None => sorted.followed += 1,
            }
            // A lane also for a file that is not visible now: it may have been, and may be again.
            if let Some(target) = target(info, &self.node) {
                let target = lanes.remove(&info.id).filter(|known| *known == target).unwrap_or(target);
                self.lanes.insert(info.id.clone(), target.clone());
                sorted.targets.push(target);
            }
        }
        sorted
    }

    /// Whether kubelet keeps a directory of links to this container's log, which is followed as it is. The
    /// directory is made before the container is, so the answer is the same from the first look on.
    fn is_in_pod(&self, info: &ContainerInfo) -> bool {
        if self.in_pods.contains(&info.id) {
            return true;
        }
        let (Some(kubernetes), Some(log)) = (&self.kubernetes, &info.log_path) else { return false };
        let origin = origin(info, &self.node);
        let (Some(pod), Some(container)) = (&origin.pod, &origin.container) else { return false };
        let folder = format!("{}_{}_{}", pod.namespace, pod.name, pod.uid);
        let mut followed = std::iter::once(&kubernetes.root).chain(&kubernetes.link_targets);
        kubernetes.root.join(folder).join(&container.name).is_dir()
            && followed.any(|directory| is_below(log, directory))
    }

    /// Says once of each container that its logs are not read.
    fn report(&mut self, unread: &[(String, Unread)]) {
        self.reported.retain(|id| unread.iter().any(|(known, _)| known == id));
        let fresh: Vec<_> = unread.iter().filter(|(id, _)| self.reported.insert(id.clone())).collect();
        for (id, unread) in fresh.iter().take(NAMED) {
            tracing::warn!(
                container = unread.name,
                id,
                driver = unread.driver,
                reason = unread.reason,
                "the logs of a container are not read"
            );
        }
        if fresh.len() > NAMED {
            let more = fresh.len() - NAMED;
            tracing::warn!(more, "the logs of more containers are not read; taffrail check counts them");
        }
    }
}

/// Whether a log file lies below a directory, also when that is a link.
fn is_below(log: &Path, directory: &Path) -> bool {
    log.starts_with(directory) || directory.canonicalize().is_ok_and(|real| log.starts_with(real))
}

/// The lane of a container that has a log file.
fn target(info: &ContainerInfo, node: &Arc<Node>) -> Option<Target> {
    let log = info.log_path.as_ref()?;
    let (directory, name) = (log.parent()?.to_owned(), log.file_name()?);
    Some(Target {
        key: format!("docker:{}", info.id).into(),
        origin: Arc::new(origin(info, node)),
        format: Format::Container,
        naming: Naming::Base(name.as_bytes().to_vec()),
        within: Some([directory.clone()].into()),
        directory: directory.into(),
        start: Start::Beginning,
    })
}

/// Why the logs of a container cannot be read; `None` when they can.
#[must_use]
pub fn unread(info: &ContainerInfo) -> Option<Unread> {
    let reason = match (&info.reason, &info.log_path) {
        (Some(reason), _) => reason.clone(),
        // The engine makes the directory before it starts the container. It may see what this process does not.
        (None, Some(log)) if info.running && !log.parent()?.exists() => format!(
            "its log file {} is not visible here; let the agent see the engine's directory under the same path",
            log.display()
        ),
        _ => return None,
    };
    let driver = if info.log_driver.is_empty() { "unknown" } else { &info.log_driver };
    Some(Unread { name: info.name.clone(), driver: driver.to_owned(), reason })
}

/// How many pods have log directories below `root`.
///
/// # Errors
/// When it cannot be listed.
pub fn pods_below(root: &Path) -> io::Result<usize> {
    let is_directory = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    Ok(std::fs::read_dir(root)?.flatten().filter(is_directory).count())
}

#[cfg(test)]
mod tests {
    use taffrail_prometheus::{Exposition, Format as TextFormat};

    use super::*;

    const ID: &str = "ab12";

    fn info(log: &Path) -> ContainerInfo {
        ContainerInfo {
            id: ID.to_owned(),
            name: "web".to_owned(),
            log_driver: "json-file".to_owned(),
            log_path: Some(log.to_owned()),
            ..ContainerInfo::default()
        }
    }

    fn in_pod(log: &Path) -> ContainerInfo {
        let labels =
            [("pod.name", "cart"), ("pod.namespace", "shop"), ("pod.uid", "1-2"), ("container.name", "app")];
        let labels = labels.map(|(name, value)| (format!("io.kubernetes.{name}"), value.to_owned()));
        ContainerInfo { labels: labels.into(), ..info(log) }
    }

    fn sorter(root: &Path) -> Sorter {
        let mut config = Config::default();
        config.logs.kubernetes.root = root.join("pods");
        config.logs.kubernetes.link_targets = vec![root.join("containers")];
        Sorter::new(&config, &Arc::default())
    }

    #[test]
    fn a_container_with_a_log_file_becomes_a_lane_that_stays_the_same() {
        let log = Path::new("/data/containers/ab12/ab12-json.log");
        let mut sorter = sorter(Path::new("/nonexistent"));
        let [first, second] = [0, 1].map(|_| sorter.sort(&[info(log)]).targets.remove(0));
        assert_eq!((&*first.key, &*first.directory), ("docker:ab12", Path::new("/data/containers/ab12")));
        assert_eq!(first.naming, Naming::Base(b"ab12-json.log".to_vec()));
        assert_eq!(first.within.as_deref(), Some(&[first.directory.to_path_buf()][..]));
        assert!(Arc::ptr_eq(&first.origin, &second.origin));
        let renamed = ContainerInfo { name: "shop".to_owned(), ..info(log) };
        assert_eq!(sorter.sort(&[renamed]).targets[0].origin.names(), ["", "", "shop"]);
    }

    #[test]
    fn a_container_in_a_pod_is_read_once() {
        let root = tempfile::tempdir().expect("a directory");
        let log = root.path().join("containers/ab12/ab12-json.log");
        let mut sorter = sorter(root.path());
        assert_eq!(sorter.sort(&[in_pod(&log)]).targets.len(), 1, "kubelet keeps no directory for it");

        let directory = root.path().join("pods/shop_cart_1-2/app");
        std::fs::create_dir_all(&directory).expect("made");
        let sorted = sorter.sort(&[in_pod(&log)]);
        assert_eq!((sorted.targets.len(), sorted.in_pods), (0, 1));
        std::fs::remove_dir_all(&directory).expect("removed");
        assert_eq!(sorter.sort(&[in_pod(&log)]).in_pods, 1, "not read again when the pod goes first");

        std::fs::create_dir_all(&directory).expect("made");
        let elsewhere = in_pod(Path::new("/data/containers/ab12/ab12-json.log"));
        sorter.in_pods.clear();
        assert_eq!(sorter.sort(&[elsewhere]).targets.len(), 1, "kubelet's links would lead out");
    }

    #[test]
    fn what_only_holds_a_pod_together_is_neither_followed_nor_reported() {
        let mut pause = in_pod(Path::new("/data/ab12-json.log"));
        pause.labels.insert("io.kubernetes.container.name".to_owned(), "POD".to_owned());
        let sorted = sorter(Path::new("/nonexistent")).sort(&[pause]);
        assert_eq!((sorted.targets.len(), sorted.in_pods, sorted.unread.len()), (0, 0, 0));
    }

    #[test]
    fn a_container_without_a_readable_file_is_reported_once_and_counted_by_driver() {
        let mut silent = info(Path::new(""));
        silent.log_path = None;
        silent.log_driver = "journald".to_owned();
        silent.reason = Some("the journal has it".to_owned());
        let running =
            ContainerInfo { id: "cd34".to_owned(), running: true, ..info(Path::new("/nonexistent/x/y.log")) };
        let mut sorter = sorter(Path::new("/nonexistent"));
        let sorted = sorter.sort(&[silent, running]);
        let reasons: Vec<&str> = sorted.unread.iter().map(|(_, unread)| unread.reason.as_str()).collect();
        assert_eq!(reasons.len(), 2);
        assert_eq!(reasons[0], "the journal has it");
        assert!(reasons[1].starts_with("its log file /nonexistent/x/y.log is not visible here"));
        sorter.report(&sorted.unread);
        assert_eq!(sorter.reported.len(), 2);

        let engine = Engine::new(&DockerConfig::default());
        let scraped = || {
            let mut exposition = Exposition::new();
            engine.ask(&mut exposition).expect("answered");
            exposition.render(TextFormat::Text)
        };
        assert_eq!(scraped(), "", "no engine, no numbers");
        engine.note(Connection::Connected { version: "20".to_owned() }, Some(&sorted));
        let text = scraped();
        for line in [
            "taffrail_docker_connected 1",
            "taffrail_docker_containers{read=\"none\"} 2",
            "taffrail_logs_containers_unreadable{driver=\"journald\"} 1",
            "taffrail_logs_containers_unreadable{driver=\"json-file\"} 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        engine.note(Connection::Absent { reason: "gone".to_owned() }, None);
        assert!(scraped().contains("taffrail_docker_disconnections_total 1"));
        assert!(scraped().contains("taffrail_docker_containers{read=\"none\"} 2"), "known ones stay");
    }
}
