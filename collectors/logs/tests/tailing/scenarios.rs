//! What a random model rarely meets: files that go away or rest, hostile ones, quotas, a loud neighbour, lines that never
//! end.

mod bound;
mod gone;
mod resting;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use taffrail_logs::LogsConfig;
use taffrail_logs::config::{FileInput, OverQuota, Quota, QuotaScope};
use taffrail_record::Flags;

use super::agent::{Agent, Arrived, Topic, config};

/// A directory with logs, the topic they go to, and the agent between them.
struct Scene {
    root: tempfile::TempDir,
    topic: Arc<Mutex<Topic>>,
    agent: Option<Agent>,
}

impl Scene {
    fn new() -> Scene {
        Scene { root: tempfile::tempdir().expect("a directory"), topic: Arc::default(), agent: None }
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn start(&mut self) {
        self.start_with(|_| {});
    }

    fn start_with(&mut self, change: impl FnOnce(&mut LogsConfig)) {
        let mut config = config(self.path());
        change(&mut config);
        self.agent = Some(Agent::start(self.path(), config, &self.topic, 1, false));
    }

    fn stop(&mut self) {
        self.agent.take().expect("running").terminate();
    }

    /// Ends the agent and holds its books against themselves.
    fn close(&mut self) {
        let agent = self.agent.take().expect("running");
        let ledger = Arc::clone(&agent.ledger);
        agent.terminate();
        for account in ledger.accounts() {
            assert_eq!(account.balance().difference(), 0, "{:?} {:?}", account.names(), account.balance());
        }
    }

    /// A plain file `files/0/<name>`.
    fn plain(&self, name: &str) -> PathBuf {
        let directory = self.path().join("files/0");
        fs::create_dir_all(&directory).expect("a directory");
        directory.join(name)
    }

    /// A log file of a container.
    fn container(&self, namespace: &str, name: &str, file: &str) -> PathBuf {
        let directory = self.path().join(format!("pods/{namespace}_pod_uid-{namespace}-{name}/{name}"));
        fs::create_dir_all(&directory).expect("a directory");
        directory.join(file)
    }

    /// The records of a lane's first stream.
    fn records(&self, lane: &str) -> Vec<Arrived> {
        self.topic.lock().records.get(&(lane.to_owned(), 0)).cloned().unwrap_or_default()
    }

    fn bodies(&self, lane: &str) -> Vec<String> {
        self.records(lane).iter().map(|a| String::from_utf8_lossy(&a.body).into_owned()).collect()
    }

    fn until(&self, what: &str, done: impl Fn(&Scene) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(180);
        while !done(self) {
            assert!(Instant::now() < deadline, "{what} in vain; statements {:?}", self.statements());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How many statements of a kind were made.
    fn stated(&self, kind: &str) -> usize {
        self.topic.lock().statements.iter().filter(|s| s["ledger"]["kind"] == kind).count()
    }

    fn statements(&self) -> Vec<String> {
        self.topic.lock().statements.iter().map(|s| s["ledger"].to_string()).collect()
    }

    /// The losses declared so far, by reason, in bytes.
    fn declared(&self, reason: &str) -> u64 {
        let topic = self.topic.lock();
        let lost =
            topic.statements.iter().flat_map(|s| s["ledger"]["lost"].as_array().cloned().unwrap_or_default());
        lost.filter(|l| l["reason"] == reason).map(|l| l["length"].as_u64().unwrap_or(0)).sum()
    }

    /// The ranges of a lane's one file that arrived or were declared lost for a reason, joined where they touch.
    fn accounted_for(&self, lane: &str, reason: &str) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = self
            .records(lane)
            .iter()
            .flat_map(|a| a.id.iter().map(|(_, start, end)| (*start, *end)))
            .collect();
        let topic = self.topic.lock();
        let lost =
            topic.statements.iter().flat_map(|s| s["ledger"]["lost"].as_array().cloned().unwrap_or_default());
        ranges.extend(lost.filter(|l| l["reason"] == reason).map(|l| {
            let (offset, length) = (l["offset"].as_u64().unwrap_or(0), l["length"].as_u64().unwrap_or(0));
            (offset, offset + length)
        }));
        ranges.sort_unstable();
        ranges.into_iter().fold(Vec::new(), |mut joined, (start, end)| {
            match joined.last_mut() {
                Some((_, last)) if start <= *last => *last = end.max(*last),
                _ => joined.push((start, end)),
            }
            joined
        })
    }

    /// What the collector's metrics say.
    fn sample(&self, family: &str, labels: &[&str]) -> f64 {
        self.agent.as_ref().expect("running").sample(family, labels)
    }

    fn held(&self, name: &str) -> usize {
        let held = fs::read_dir("/proc/self/fd").expect("listed").flatten();
        let held = held.filter_map(|e| fs::read_link(e.path()).ok());
        held.filter(|p| p.starts_with(self.path()) && p.to_string_lossy().contains(name)).count()
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("opened")
}

fn say(path: &Path, text: impl AsRef<[u8]>) {
    append(path).write_all(text.as_ref()).expect("written");
}

/// Lines `from..to`, each of about `length` bytes.
fn lines(from: usize, to: usize, length: usize) -> String {
    (from..to).map(|n| format!("line:{n} {}\n", "x".repeat(length))).collect()
}

fn cri(stream: &str, tag: &str, text: &str) -> String {
    format!("2026-01-02T03:04:05.678901234Z {stream} {tag} {text}\n")
}

#[test]
fn how_far_a_file_is_confirmed_is_stated_while_it_is_read_and_not_again_until_it_moves() {
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    say(&log, lines(0, 10, 200));
    scene.start();
    let size = lines(0, 10, 200).len();
    let said = |s: &Scene, size: usize| {
        let topic = s.topic.lock();
        let progress = topic.statements.iter().map(|s| &s["ledger"]).filter(|s| s["kind"] == "progress");
        progress.filter(|s| s["confirmed"] == size).count()
    };
    scene.until("progress was awaited", |s| said(s, size) == 1);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(said(&scene, size), 1, "nothing has moved");
    say(&log, "more\n");
    scene.until("more progress was awaited", |s| said(s, size + 5) == 1);
    scene.close();
}

#[test]
fn what_may_not_be_read_is_counted_once_however_often_it_is_tried() {
    // No reader may open it, not even root.
    let forbidden = Path::new("/sys/bus/cpu/drivers_probe");
    let denied = File::open(forbidden).is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
    assert!(denied, "{} can be read here: choose another file", forbidden.display());
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    std::os::unix::fs::symlink(forbidden, &log).expect("linked");
    scene.start();
    scene.until("several looks were awaited", |s| s.sample("taffrail_logs_looks_total", &[]) > 3.0);
    assert_eq!(scene.sample("taffrail_logs_refused_files_total", &["denied"]), 1.0);
    fs::remove_file(&log).expect("removed");
    say(&log, "allowed\n");
    scene.until("the readable file was awaited", |s| s.bodies("app.log") == ["allowed"]);
    scene.close();
}

#[test]
fn hostile_files_are_refused_once_and_the_others_are_read() {
    let mut scene = Scene::new();
    let secret = scene.path().join("secret");
    say(&secret, "the node's secret\n");
    let log = scene.container("shop", "web", "0.log");
    let directory = log.parent().expect("a directory").to_owned();
    say(&log, cri("stdout", "F", "good"));
    std::os::unix::fs::symlink(&secret, directory.join("1.log")).expect("linked");
    nix::unistd::mkfifo(&directory.join("2.log"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    fs::create_dir(directory.join("3.log")).expect("a directory");
    std::os::unix::fs::symlink("/dev/zero", directory.join("4.log")).expect("linked");
    std::os::unix::fs::symlink(directory.join("5.log"), directory.join("5.log")).expect("linked");
    let other = scene.plain("app.log");
    say(&other, "fine\n");
    nix::unistd::mkfifo(&scene.plain("pipe.log"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    scene.start();
    scene.until("the good lines were awaited", |s| {
        s.bodies("web") == ["good"] && s.bodies("app.log") == ["fine"]
    });
    say(&log, cri("stdout", "F", "and on"));
    scene.until("the next line was awaited", |s| s.bodies("web") == ["good", "and on"]);
    let topic = scene.topic.lock();
    let all: Vec<&Arrived> = topic.records.values().flatten().collect();
    assert_eq!(all.len(), 3, "nothing but the good lines: {all:?}");
    drop(topic);
    assert_eq!(scene.held("secret"), 0);
    for (reason, files) in [("not_a_file", 3.0), ("leads_out", 2.0), ("denied", 1.0)] {
        assert_eq!(scene.sample("taffrail_logs_refused_files_total", &[reason]), files, "{reason}");
    }
    scene.close();
}

#[test]
fn links_that_stay_inside_are_followed_and_one_file_with_many_names_is_read_once() {
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    say(&log, "one\n");
    for farm in 1..5 {
        let directory = scene.path().join(format!("files/{farm}"));
        fs::create_dir_all(&directory).expect("a directory");
        std::os::unix::fs::symlink(&log, directory.join("app.log")).expect("linked");
    }
    scene.start();
    scene.until("the line was awaited", |s| !s.records("app.log").is_empty());
    say(&log, "two\n");
    scene.until("the second line was awaited", |s| s.records("app.log").len() >= 2);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(scene.bodies("app.log"), ["one", "two"]);
    scene.close();
}

#[test]
fn a_copy_that_is_met_before_its_original_is_truncated_is_not_read_twice() {
    let mut scene = Scene::new();
    let (log, copy) = (scene.plain("app.log"), scene.plain("app.log.1"));
    say(&log, lines(0, 10, 20));
    fs::copy(&log, &copy).expect("copied");
    scene.start();
    scene.until("the lines were awaited", |s| s.records("app.log").len() == 10);
    append(&log).set_len(0).expect("truncated");
    say(&log, lines(10, 20, 20));
    scene.until("the next lines were awaited", |s| s.records("app.log").len() == 20);
    assert!(scene.bodies("app.log").iter().map(String::as_str).eq(lines(0, 20, 20).lines()));
    assert_eq!((scene.stated("vanished"), scene.declared("overwritten")), (0, 0));
    scene.close();
}

#[test]
fn a_file_that_is_copied_and_truncated_while_the_far_side_is_down_is_read_on_in_its_copy_however_late() {
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    scene.start();
    let gate = Arc::clone(&scene.agent.as_ref().expect("running").gate);
    let closed = gate.lock();
    say(&log, lines(0, 4000, 200));
    let read = "taffrail_logs_read_bytes_total";
    scene.until("the pipeline was full", |s| s.sample(read, &[]) > 4000.0);
    fs::copy(&log, scene.plain("app.log.1")).expect("copied");
    append(&log).set_len(0).expect("truncated");
    say(&log, lines(4000, 4010, 200));
    // Until the copy is too old to be one that is being made.
    std::thread::sleep(Duration::from_millis(3500));
    drop(closed);
    scene.until("all lines were awaited", |s| s.records("app.log").len() >= 4010);
    assert!(scene.bodies("app.log").iter().map(String::as_str).eq(lines(0, 4010, 200).lines()));
    assert_eq!((scene.stated("vanished"), scene.declared("overwritten")), (0, 0));
    scene.close();
}

#[test]
fn what_is_like_the_beginning_of_a_live_file_and_stays_so_is_a_file_of_its_own() {
    let mut scene = Scene::new();
    say(&scene.plain("app.log.1"), "the same first line\n");
    say(&scene.plain("app.log"), "the same first line\nanother\n");
    scene.start();
    scene.until("all lines were awaited", |s| s.records("app.log").len() == 3);
    scene.close();
}

#[test]
fn a_reused_inode_is_another_file() {
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    say(&log, "first life\n");
    scene.start();
    scene.until("the line was awaited", |s| s.records("app.log").len() == 1);
    scene.stop();
    // The same inode with other content: what the file system does when it gives a number away again.
    File::create(&log).expect("emptied");
    say(&log, "second life, longer than the first\n");
    scene.start();
    scene.until("the second content was awaited", |s| s.records("app.log").len() == 2);
    assert_eq!(scene.bodies("app.log"), ["first life", "second life, longer than the first"]);
    let records = scene.records("app.log");
    assert_ne!(records[0].id[0].0, records[1].id[0].0, "two contents, two identities");
    assert_eq!(records[1].id[0].1, 0, "read from its first byte");
    scene.close();
}

#[test]
fn a_last_line_that_never_ends_is_delivered_flagged_after_the_wait() {
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    say(&log, "whole\nnever ends");
    scene.start_with(|config| config.partial_timeout_ms = 100);
    scene.until("the unfinished line was awaited", |s| s.records("app.log").len() == 2);
    let records = scene.records("app.log");
    assert_eq!(scene.bodies("app.log"), ["whole", "never ends"]);
    assert!(!records[0].flags.contains(Flags::PARTIAL) && records[1].flags.contains(Flags::PARTIAL));
    say(&log, " but goes on\nnext\n");
    scene.until("the rest was awaited", |s| s.records("app.log").len() == 4);
    assert_eq!(scene.bodies("app.log")[2..], [" but goes on", "next"]);
    scene.close();
}

#[test]
fn parts_without_an_end_are_delivered_although_their_container_is_gone() {
    let mut scene = Scene::new();
    let log = scene.container("shop", "web", "0.log");
    say(
        &log,
        cri("stdout", "F", "whole")
            + &cri("stdout", "P", "the beginning ")
            + &cri("stdout", "P", "of an end"),
    );
    scene.start_with(|config| config.partial_timeout_ms = 300);
    scene.until("the whole line was awaited", |s| s.records("web").len() == 1);
    fs::remove_dir_all(log.parent().and_then(Path::parent).expect("the pod's directory")).expect("removed");
    scene.until("the parts were awaited", |s| s.records("web").len() == 2);
    let record = &scene.records("web")[1];
    assert_eq!(record.body, b"the beginning of an end");
    assert!(record.flags.contains(Flags::PARTIAL));
    scene.until("the file was let go", |s| s.held("0.log") == 0);
    scene.close();
}

#[test]
fn a_split_line_whose_end_lies_in_the_next_file_is_joined_however_long_the_far_side_takes_nothing() {
    let mut scene = Scene::new();
    let log = scene.container("shop", "web", "0.log");
    let loud = scene.container("shop", "loud", "0.log");
    say(&log, cri("stdout", "F", "whole") + &cri("stdout", "P", "the beginning "));
    say(&loud, cri("stdout", "F", "whole"));
    scene.start_with(|config| config.partial_timeout_ms = 2000);
    scene.until("the whole lines were awaited", |s| {
        !s.records("web").is_empty() && !s.records("loud").is_empty()
    });
    {
        let agent = scene.agent.as_ref().expect("running");
        let _nothing_is_taken = agent.gate.lock();
        say(&loud, cri("stdout", "F", &"word ".repeat(100)).repeat(1000));
        std::thread::sleep(Duration::from_millis(200));
        fs::rename(&log, log.with_file_name("0.log.20261121-101112")).expect("rotated");
        say(&log, cri("stdout", "F", "and the end"));
        std::thread::sleep(Duration::from_millis(2500));
    }
    scene.until("the line was awaited", |s| s.records("web").len() == 2);
    let record = &scene.records("web")[1];
    assert_eq!(String::from_utf8_lossy(&record.body), "the beginning and the end");
    assert!(!record.flags.contains(Flags::PARTIAL));
    scene.close();
}

#[test]
fn a_line_of_a_hundred_megabytes_is_cut_flagged_and_counted() {
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    let mut file = append(&log);
    file.write_all(b"before\n").expect("written");
    for _ in 0..100 {
        file.write_all(&vec![b'x'; 1_000_000]).expect("written");
    }
    file.write_all(b"\nafter\n").expect("written");
    scene.start_with(|config| {
        config.max_line_bytes = 1 << 20;
        config.read_block_bytes = 128 * 1024;
    });
    scene.until("the lines were awaited", |s| s.records("app.log").len() == 3);
    let records = scene.records("app.log");
    assert_eq!(records[1].body.len(), 1 << 20);
    assert!(records[1].flags.contains(Flags::TRUNCATED));
    assert_eq!(records[2].body, b"after");
    let ledger = Arc::clone(&scene.agent.as_ref().expect("running").ledger);
    // They are when what is left of the line is confirmed.
    scene.until("the count of the bytes that were cut was awaited", |_| {
        let lost: u64 = ledger.accounts().iter().map(|a| a.balance().lost_bytes()).sum();
        lost == 100_000_000 - (1 << 20)
    });
    scene.close();
}

#[test]
fn over_its_quota_a_container_loses_what_is_counted_and_declared_and_nobody_else_does() {
    let mut scene = Scene::new();
    let (loud, quiet) = (scene.container("a", "loud", "0.log"), scene.container("b", "quiet", "0.log"));
    let line = cri("stdout", "F", &"x".repeat(163));
    say(&loud, line.repeat(5000));
    say(&quiet, line.repeat(500));
    scene.start_with(|config| {
        config.quotas = vec![Quota { namespace: "a".to_owned(), lines_per_second: 100, ..Quota::default() }];
    });
    scene.until("the quiet container was awaited", |s| s.records("quiet").len() == 500);
    scene.until("the loss was declared", |s| {
        s.declared("quota") + s.records("loud").len() as u64 * line.len() as u64 == 5000 * line.len() as u64
    });
    let delivered = scene.records("loud").len();
    assert!((100..=1000).contains(&delivered), "a second's worth, and what was refilled: {delivered}");
    scene.close();
}

#[test]
fn a_quota_that_waits_loses_nothing_and_holds_for_a_whole_namespace() {
    let mut scene = Scene::new();
    let line = cri("stdout", "F", "x");
    for name in ["one", "two"] {
        say(&scene.container("a", name, "0.log"), line.repeat(150));
    }
    scene.start_with(|config| {
        config.quotas = vec![Quota {
            namespace: "a".to_owned(),
            per: QuotaScope::Namespace,
            lines_per_second: 100,
            over: OverQuota::Wait,
            ..Quota::default()
        }];
    });
    let begun = Instant::now();
    scene.until("all lines were awaited", |s| s.records("one").len() == 150 && s.records("two").len() == 150);
    // 300 lines, of which a second's worth at once; a block that is begun is sent whole.
    assert!(begun.elapsed() > Duration::from_millis(500), "the two share one quota: {:?}", begun.elapsed());
    assert_eq!(scene.declared("quota"), 0);
    scene.close();
}

#[test]
fn a_quiet_container_has_its_turn_beside_a_loud_one() {
    let mut scene = Scene::new();
    let (loud, quiet) = (scene.container("a", "loud", "0.log"), scene.container("b", "quiet", "0.log"));
    let line = cri("stdout", "F", &"x".repeat(200));
    // Far more than can be sent in the time that the test waits for the quiet one.
    say(&loud, line.repeat(800_000));
    say(&quiet, cri("stdout", "F", "first"));
    scene.start();
    scene.until("the quiet container was awaited", |s| s.records("quiet").len() == 1);
    let mut behind = Vec::new();
    for n in 0..5 {
        // Long enough for the quiet one to be left to the kernel's notice.
        std::thread::sleep(Duration::from_millis(200));
        let before = scene.records("loud").len();
        say(&quiet, cri("stdout", "F", &n.to_string()));
        scene.until("the quiet container was awaited", |s| s.records("quiet").len() == n + 2);
        behind.push(scene.records("loud").len() - before);
    }
    assert!(scene.records("loud").len() < 800_000, "the loud one was still behind");
    // In lines of the loud one, since a test must not count seconds.
    assert!(behind.iter().all(|lines| *lines < 40_000), "the quiet one waited for {behind:?} lines");
    scene.agent.take().expect("running").kill();
}

#[test]
fn a_glob_finds_files_that_appear_later_and_leaves_out_the_excluded() {
    let mut scene = Scene::new();
    say(&scene.plain("app.log"), "one\n");
    say(&scene.plain("debug.log"), "noise\n");
    scene.start_with(|config| {
        config.files = vec![FileInput { exclude: vec!["**/debug*".to_owned()], ..config.files[0].clone() }];
    });
    scene.until("the first file was awaited", |s| s.bodies("app.log") == ["one"]);
    say(&scene.plain("later.log"), "two\n");
    scene.until("the later file was awaited", |s| s.bodies("later.log") == ["two"]);
    assert!(scene.records("debug.log").is_empty());
    scene.close();
}
