//! The watch against a runtime that answers, hangs, goes away and talks nonsense.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use support::{Answer, Fake, container, field, image, map, sandbox, version};
use taffrail_cri::{Connection, ContainerInfo, CriConfig, Enabled, Layer, Snapshot, layers, names, watch};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::sync::{Notify, oneshot, watch as channel};
use tokio::task::JoinHandle;

const IMAGE: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A watch that runs, and the latest it said.
struct Watching {
    latest: channel::Receiver<Option<Snapshot>>,
    nudge: Arc<Notify>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Watching {
    fn start(enabled: Enabled, socket: &Path) -> Watching {
        let (sender, latest) = channel::channel(None);
        let (stop, stopped) = oneshot::channel();
        let config = CriConfig { enabled, socket: Some(socket.to_owned()), rootfs: None };
        let stopped = async { drop(stopped.await) };
        let nudge = Arc::new(Notify::new());
        let said = move |snapshot| drop(sender.send(Some(snapshot)));
        let task = tokio::spawn(watch(config, stopped, Arc::clone(&nudge), said));
        Watching { latest, nudge, stop, task }
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

fn socket() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cri.sock");
    (directory, path)
}

fn messages(each: &[Vec<u8>]) -> Answer {
    Answer::Message(each.concat())
}

/// containerd with one pod of one container, whose image is named by id.
fn one_pod() -> [(&'static str, Answer); 5] {
    let info = map(2, &[("info", r#"{"pid":7,"image":"registry.k8s.io/pause:3.8"}"#)]);
    [
        ("Version", version("containerd", "1.7.1")),
        ("ListPodSandbox", messages(&[sandbox("s1")])),
        ("ListContainers", messages(&[container("c1", "app", IMAGE, "web:1")])),
        ("ListImages", messages(&[image(IMAGE, &["docker.io/library/web:1"])])),
        ("PodSandboxStatus", messages(&[field(1, field(1, "s1")), info])),
    ]
}

fn with_id(snapshot: &Snapshot, id: &str) -> Option<ContainerInfo> {
    snapshot.containers.iter().find(|info| info.id == id).cloned()
}

fn is_connected(snapshot: &Snapshot) -> Option<(String, String)> {
    match &snapshot.connection {
        Connection::Connected { runtime, version } => Some((runtime.clone(), version.clone())),
        _ => None,
    }
}

fn is_absent(snapshot: &Snapshot) -> Option<String> {
    match &snapshot.connection {
        Connection::Absent { reason } => Some(reason.clone()),
        _ => None,
    }
}

fn has_failed(snapshot: &Snapshot) -> Option<String> {
    match &snapshot.connection {
        Connection::Failed { reason } => Some(reason.clone()),
        _ => None,
    }
}

fn errors(snapshot: &Snapshot) -> Vec<&'static str> {
    snapshot.errors.iter().filter(|(_, count)| **count > 0).map(|(kind, _)| *kind).collect()
}

#[tokio::test]
async fn what_the_runtime_lists_is_published_with_pods_and_images_by_name() {
    let (_directory, path) = socket();
    let fake = Fake::listen(&path, &one_pod());
    let mut watching = Watching::start(Enabled::Auto, &path);
    let snapshot = watching.until("the connection", |s| is_connected(s).map(|_| s.clone())).await;
    assert_eq!(is_connected(&snapshot), Some(("containerd".to_owned(), "1.7.1".to_owned())));
    assert_eq!(errors(&snapshot), Vec::<&str>::new());

    let app = with_id(&snapshot, "c1").expect("the container");
    assert_eq!([&*app.container, &app.pod, &app.namespace, &app.pod_uid], ["app", "cart", "shop", "u-1"]);
    assert_eq!(
        (app.attempt, app.created, app.sandbox, &*app.sandbox_id),
        (3, Some(9_000_000_000), false, "s1")
    );
    assert_eq!((&*app.image, app.labels.len()), ("docker.io/library/web:1", 4));
    let pause = with_id(&snapshot, "s1").expect("the sandbox");
    assert_eq!(
        [&*pause.container, &pause.pod, &pause.namespace, &pause.pod_uid],
        ["", "cart", "shop", "u-1"]
    );
    assert_eq!((pause.attempt, pause.created, pause.sandbox), (1, Some(7_000_000_000), true));
    assert_eq!((&*pause.image, pause.labels["app"].as_str()), ("registry.k8s.io/pause:3.8", "cart"));
    let named = names("containerd", &snapshot.containers);
    assert_eq!(named.iter().map(|name| &*name.name).collect::<Vec<_>>(), ["c1", "s1"]);

    let two = [container("c1", "app", IMAGE, "web:1"), container("c2", "side", "reg/side:2", "")];
    fake.answer("ListContainers", messages(&two));
    watching.nudge.notify_one();
    let side = watching.until("a new container", |s| with_id(s, "c2")).await;
    assert_eq!((&*side.container, &*side.image), ("side", "reg/side:2"));
    fake.answer("ListContainers", messages(&two[1..]));
    watching.until("a removal without a nudge", |s| with_id(s, "c1").is_none().then_some(())).await;
    assert_eq!((fake.calls("ListImages"), fake.calls("PodSandboxStatus")), (1, 1));
    fake.answer("Version", version("containerd", "1.7.2"));
    watching.nudge.notify_one();
    watching.until("the new version", |s| is_connected(s).filter(|(_, version)| version == "1.7.2")).await;
    watching.stop().await;
}

#[tokio::test]
async fn an_image_that_the_runtime_does_not_know_is_not_asked_for_with_every_listing() {
    let (_directory, path) = socket();
    let fake = Fake::listen(&path, &one_pod());
    fake.answer("Version", version("cri-o", "1.31.0"));
    fake.answer("ListImages", messages(&[]));
    let mut watching = Watching::start(Enabled::Auto, &path);
    let app = watching.until("the container", |s| with_id(s, "c1")).await;
    assert_eq!(app.image, "web:1", "what the author wrote is better than an id");
    watching.nudge.notify_one();
    while fake.calls("ListContainers") < 3 {
        watching.nudge.notify_one();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(fake.calls("ListImages"), 1);
    assert_eq!(fake.calls("PodSandboxStatus"), 0, "sandboxes of CRI-O have no image in metrics");
    watching.stop().await;
}

#[tokio::test]
async fn a_sandbox_of_which_nothing_more_is_told_has_no_image() {
    let odd = map(2, &[("info", r#"{"image":7}"#)]);
    for answer in [Answer::Status(5), messages(&[]), messages(&[odd])] {
        let (_directory, path) = socket();
        let fake = Fake::listen(&path, &one_pod());
        fake.answer("PodSandboxStatus", answer);
        let mut watching = Watching::start(Enabled::Auto, &path);
        let pause = watching.until("the sandbox", |s| with_id(s, "s1")).await;
        assert_eq!((&*pause.image, &*pause.pod), ("", "cart"));
        watching.stop().await;
    }
}

#[tokio::test]
async fn a_runtime_may_come_late_and_go_away_and_come_back() {
    let (_directory, path) = socket();
    let mut watching = Watching::start(Enabled::Auto, &path);
    let reason = watching.until("its absence", is_absent).await;
    assert!(reason.starts_with("no CRI runtime at "), "{reason}");

    let fake = Fake::listen(&path, &one_pod());
    watching.until("the connection", is_connected).await;
    drop(fake);
    std::fs::remove_file(&path).expect("removed");
    watching.nudge.notify_one();
    let lost = watching.until("its end", |s| is_absent(s).or_else(|| has_failed(s)).map(|_| s.clone())).await;
    assert_eq!(lost.containers.len(), 2, "what was known stays published");
    assert_eq!(errors(&lost).len(), 1, "what was there and is not any more is a failure: {lost:?}");

    let fake = Fake::listen(&path, &one_pod());
    fake.answer("Version", version("containerd", "2.0.0"));
    fake.answer("ListContainers", messages(&[]));
    let gone = |s: &Snapshot| is_connected(s).filter(|_| with_id(s, "c1").is_none());
    assert_eq!(watching.until("the connection again", gone).await.1, "2.0.0");
    watching.stop().await;
}

#[tokio::test]
async fn a_runtime_that_hangs_is_given_up_and_tried_again() {
    for call in ["Version", "ListContainers", "PodSandboxStatus"] {
        let (_directory, path) = socket();
        let fake = Fake::listen(&path, &one_pod());
        fake.answer(call, Answer::Hang);
        let mut watching = Watching::start(Enabled::Auto, &path);
        let reason = watching.until("the wait's end", has_failed).await;
        assert!(reason.contains("did not answer within 5s") && reason.contains(call), "{reason}");
        fake.script().answers.extend(one_pod());
        let snapshot = watching.until("the connection", |s| is_connected(s).map(|_| s.clone())).await;
        assert_eq!((snapshot.containers.len(), errors(&snapshot)), (2, vec!["slow"]));
        watching.stop().await;
    }
}

#[tokio::test]
async fn answers_that_are_no_answers_are_failures_and_never_more() {
    let oversized = vec![0; (16 << 20) + 1];
    let announced = [&[0, 255, 255, 255, 255][..], b"x"].concat();
    let endless = field(1, [0xff; 40]);
    for (answer, kind) in [
        (Answer::Raw(b"<html>".to_vec()), "broken"),
        (Answer::Raw(vec![0, 0, 0, 0, 9, 1]), "broken"),
        (Answer::Raw(Vec::new()), "broken"),
        (Answer::Message(endless), "broken"),
        (Answer::Message(b"\x0a\x7fshort".to_vec()), "broken"),
        (Answer::Message(field(1, field(1, [0xc3, 0x28]))), "broken"),
        (Answer::Message(oversized), "too_large"),
        (Answer::Raw(announced), "too_large"),
        (Answer::Status(7), "refused"),
        (Answer::Status(12), "refused"),
        (Answer::Status(14), "refused"),
    ] {
        let (_directory, path) = socket();
        let fake = Fake::listen(&path, &one_pod());
        let shown = format!("{answer:?}").chars().take(60).collect::<String>();
        fake.answer("ListContainers", answer);
        let mut watching = Watching::start(Enabled::Auto, &path);
        let failed = watching.until(&shown, |s| has_failed(s).map(|_| s.clone())).await;
        assert_eq!(errors(&failed), [kind], "{shown}: {:?}", failed.connection);
        fake.script().answers.extend(one_pod());
        watching.until("the connection", is_connected).await;
        watching.stop().await;
    }
}

#[tokio::test]
async fn what_is_no_runtime_at_all_is_told_as_what_it_is() {
    for said in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"", &[0xff; 4096]] {
        let (_directory, path) = socket();
        let listener = UnixListener::bind(&path).expect("a socket");
        let other = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(said).await;
            }
        });
        let mut watching = Watching::start(Enabled::Auto, &path);
        let failed = watching.until("the failure", |s| has_failed(s).map(|_| s.clone())).await;
        assert_eq!(errors(&failed), ["broken"], "{:?}", failed.connection);
        watching.stop().await;
        other.abort();
    }
}

#[tokio::test]
async fn one_that_never_says_a_word_is_slow() {
    let (_directory, path) = socket();
    let _listener = UnixListener::bind(&path).expect("a socket");
    let mut watching = Watching::start(Enabled::Auto, &path);
    let failed = watching.until("the failure", |s| has_failed(s).map(|_| s.clone())).await;
    assert_eq!(errors(&failed), ["slow"], "{:?}", failed.connection);
    watching.stop().await;
}

#[tokio::test]
async fn a_containerd_that_serves_docker_alone_is_no_cri_runtime_and_no_failure_unless_there_must_be_one() {
    let (_directory, path) = socket();
    let _fake = Fake::listen(&path, &[]);
    for (enabled, expected) in [(Enabled::Auto, vec![]), (Enabled::Always, vec!["absent"])] {
        let mut watching = Watching::start(enabled, &path);
        let absent = watching.until("its absence", |s| is_absent(s).map(|_| s.clone())).await;
        assert!(is_absent(&absent).is_some_and(|reason| reason.contains("does not serve the CRI")));
        assert_eq!(errors(&absent), expected);
        watching.stop().await;
    }
}

#[tokio::test]
async fn a_runtime_that_is_not_to_be_looked_for_is_not() {
    let (_directory, path) = socket();
    let fake = Fake::listen(&path, &one_pod());
    let mut watching = Watching::start(Enabled::Never, &path);
    let off = |s: &Snapshot| (s.connection == Connection::Off && s.containers.is_empty()).then_some(());
    watching.until("that it is off", off).await;
    assert_eq!(fake.calls("Version"), 0);
    watching.stop().await;
}

#[tokio::test]
async fn what_containers_have_written_is_told_of_those_that_the_runtime_knows() {
    let (_directory, path) = socket();
    let fake = Fake::listen(&path, &one_pod());
    let number = |value: u8| field(3, [&[8][..], &[value]].concat());
    let inodes = field(4, [8, 7]);
    let usage = [field(2, field(1, "/var/lib/layers")), number(100), inodes].concat();
    fake.answer("ContainerStats", messages(&[field(1, field(4, usage))]));
    let config = |enabled| CriConfig { enabled, socket: Some(path.clone()), rootfs: None };
    let ids = ["c1".to_owned(), "c2".to_owned()];
    let layer = Layer { bytes: 100, inodes: Some(7), folder: "/var/lib/layers".into() };
    let found = layers(&config(Enabled::Auto), &ids).await;
    assert_eq!(found, [("c1".to_owned(), layer.clone()), ("c2".to_owned(), layer)].into());

    for answer in [Answer::Status(5), messages(&[]), messages(&[field(1, field(4, Vec::new()))])] {
        fake.answer("ContainerStats", answer);
        assert_eq!(layers(&config(Enabled::Auto), &ids).await, [].into(), "nothing is made up");
    }
    assert_eq!(fake.calls("ContainerStats"), 8, "one that is refused does not speak for the others");
    assert_eq!(layers(&config(Enabled::Never), &ids).await, [].into());
}
