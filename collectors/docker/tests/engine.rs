//! The watch against a real Docker engine.

use std::path::PathBuf;
use std::time::Duration;

use taffrail_docker::{Connection, ContainerInfo, DockerConfig, Enabled, Snapshot, watch};
use taffrail_parts::Docker;
use taffrail_parts::docker::IMAGE;
use tokio::sync::{oneshot, watch as channel};
use tokio::task::JoinHandle;

/// A watch that runs, and the latest it said.
struct Watching {
    latest: channel::Receiver<Option<Snapshot>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Watching {
    fn start(socket: PathBuf) -> Watching {
        let (sender, latest) = channel::channel(None);
        let (stop, stopped) = oneshot::channel();
        let config = DockerConfig { enabled: Enabled::Auto, socket };
        let stopped = async { drop(stopped.await) };
        let task = tokio::spawn(watch(config, stopped, move |snapshot| drop(sender.send(Some(snapshot)))));
        Watching { latest, stop, task }
    }

    /// Waits until it has said something of which `wanted` makes something.
    async fn until<T>(&mut self, what: &str, wanted: impl Fn(&Snapshot) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = self.latest.borrow_and_update().as_ref().and_then(&wanted) {
                    return found;
                }
                self.latest.changed().await.expect("the watch goes on");
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(60), found).await;
        found.unwrap_or_else(|_| panic!("{what} was not seen; last {:?}", self.latest.borrow()))
    }

    async fn stop(self) {
        self.stop.send(()).expect("the watch listens");
        self.task.await.expect("no panic");
    }
}

fn docker(engine: &Docker, arguments: &[&str]) -> String {
    engine.output(arguments).expect("the command succeeds").trim().to_owned()
}

fn named(snapshot: &Snapshot, name: &str) -> Option<ContainerInfo> {
    snapshot.containers.iter().find(|container| container.name == name).cloned()
}

fn is_connected(snapshot: &Snapshot) -> Option<()> {
    matches!(snapshot.connection, Connection::Connected { .. }).then_some(())
}

fn is_absent(snapshot: &Snapshot) -> Option<String> {
    match &snapshot.connection {
        Connection::Absent { reason } => Some(reason.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_followed_from_its_creation_to_its_removal() {
    let engine = Docker::start().expect("an engine");
    let id = docker(
        &engine,
        &["create", "--name", "web", "--label", "app=shop", IMAGE, "sh", "-c", "echo hello; sleep 60"],
    );
    let mut watching = Watching::start(engine.socket());

    let created = watching.until("a created container", |s| named(s, "web")).await;
    assert_eq!((created.id.as_str(), created.image.as_str()), (id.as_str(), IMAGE));
    assert_eq!(created.labels.get("app").map(String::as_str), Some("shop"));
    assert_eq!(
        (created.running, created.started, created.exit_code, &created.reason),
        (false, None, None, &None)
    );

    docker(&engine, &["start", "web"]);
    let running = watching.until("a running one", |s| named(s, "web").filter(|c| c.running)).await;
    assert!(running.started.is_some_and(|started| Some(started) >= created.created));
    assert_eq!(running.log_path, created.log_path, "its place was known before");
    let path = docker(&engine, &["inspect", "-f", "{{.LogPath}}", "web"]);
    assert_eq!(running.log_path, Some(PathBuf::from(path)));

    docker(&engine, &["rename", "web", "shop"]);
    watching.until("the new name", |s| named(s, "shop")).await;
    docker(&engine, &["kill", "shop"]);
    let dead = watching.until("its end", |s| named(s, "shop").filter(|c| !c.running)).await;
    assert_eq!(dead.exit_code, Some(137));
    assert!(dead.finished >= dead.started);
    let log = std::fs::read_to_string(dead.log_path.expect("a path")).expect("a file");
    assert!(log.starts_with("{\"log\":\"hello\\n\",\"stream\":\"stdout\""), "{log}");

    docker(&engine, &["rm", "shop"]);
    watching.until("its removal", |s| s.containers.is_empty().then_some(())).await;
    watching.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_without_a_log_file_are_published_with_the_reason() {
    let engine = Docker::start().expect("an engine");
    let mut watching = Watching::start(engine.socket());
    watching.until("the connection", is_connected).await;
    for driver in ["none", "local", "syslog"] {
        // Created, not started: there is no syslog here to connect to.
        let name = format!("by-{driver}");
        docker(&engine, &["create", "--name", &name, "--log-driver", driver, IMAGE, "sh"]);
        let found = watching.until(&name, |s| named(s, &name)).await;
        assert_eq!((found.log_driver.as_str(), &found.log_path), (driver, &None));
        let reason = found.reason.expect("a reason");
        assert!(reason.contains(&format!("`{driver}`")), "{reason}");
    }
    watching.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_may_come_late_and_go_away_and_come_back() {
    let mut engine = Docker::start().expect("an engine");
    engine.stop().expect("it stops");
    let mut watching = Watching::start(engine.socket());
    let reason = watching.until("its absence", is_absent).await;
    assert!(reason.starts_with("no Docker engine at "), "{reason}");

    engine.start_again().expect("it starts");
    watching.until("the connection", is_connected).await;
    for name in ["stays", "goes"] {
        docker(&engine, &["create", "--name", name, IMAGE, "sh"]);
        watching.until(name, |s| named(s, name)).await;
    }

    engine.stop().expect("it stops");
    watching.until("its second absence", is_absent).await;
    let names = watching
        .until("the last known", |s| Some(s.containers.iter().map(|c| c.name.clone()).collect::<Vec<_>>()));
    let mut names = names.await;
    names.sort();
    assert_eq!(names, ["goes", "stays"], "what was known stays published");

    engine.start_again().expect("it starts");
    docker(&engine, &["rm", "goes"]);
    watching.until("the removal", |s| is_connected(s).filter(|()| named(s, "goes").is_none())).await;
    watching.until("what stays", |s| named(s, "stays")).await;
    watching.stop().await;
}

#[tokio::test]
async fn an_engine_that_is_not_to_be_looked_for_is_not() {
    let (sender, mut latest) = channel::channel(None);
    let (stop, stopped) = oneshot::channel::<()>();
    let config = DockerConfig { enabled: Enabled::Never, ..DockerConfig::default() };
    let stopped = async { drop(stopped.await) };
    let task = tokio::spawn(watch(config, stopped, move |snapshot| drop(sender.send(Some(snapshot)))));
    latest.changed().await.expect("one snapshot");
    let snapshot = latest.borrow().clone().expect("one snapshot");
    assert_eq!(snapshot, Snapshot { connection: Connection::Off, containers: Vec::new() });
    stop.send(()).expect("the watch listens");
    task.await.expect("no panic");
}
