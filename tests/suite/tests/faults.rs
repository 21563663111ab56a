//! Scrapes while the machine, or whoever scrapes, does not do as it should: file systems that hang, processes that may not
//! be seen, clocks that jump, groups that go away, clients that do. Nothing panics, leaks, waits for long, or tells a zero
//! that is none.
//!
//! What is mounted is mounted in namespaces of the agent's own, and another clock is that of its process alone: the machine
//! keeps its settings. What is counted (descriptors, threads, time) would be others', too, so these tests run one at a time, as
//! those do that name `taffrail_parts`.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use support::{Agent, Exposition, Unanswered, until};
use taffrail_suite::preload::Preload;

const NODE: &str = "/metrics/node";
const CONTAINERS: &str = "/metrics/cadvisor";
/// As long as an answer is given again.
const FRESH: Duration = Duration::from_millis(1050);

/// An agent that reads no logs.
fn agent(scratch: &Path, more: &str) -> Result<Agent> {
    Agent::new(&format!(
        "docker: {{enabled: never}}\ncri: {{enabled: never}}\nlogs: {{kubernetes: {{enabled: false}}}}\n\
         output: {{file: {{directory: {}/records}}}}\n{more}",
        scratch.display()
    ))
}

/// A page that is made for this request, and how long it took.
fn fresh(agent: &Agent, path: &str) -> Result<(Exposition, Duration)> {
    thread::sleep(FRESH);
    let start = Instant::now();
    let page = Exposition::parse(&agent.page(path)?)?;
    Ok((page, start.elapsed()))
}

/// Threads and descriptors of an agent. It keeps files of the kernel for each group, its processes and its network, and each
/// device, and others than this test's come and go: of those only what leads to the same file twice is counted.
fn held(agent: &Agent) -> Result<Held> {
    let id = agent.id()?;
    let threads = fs::read_dir(format!("/proc/{id}/task"))?.count();
    let mut held = Held { threads, ..Held::default() };
    for entry in fs::read_dir(format!("/proc/{id}/fd"))?.flatten() {
        let leads = fs::read_link(entry.path()).unwrap_or_default();
        let of_the_machine = ["/sys", "/proc"].iter().any(|tree| leads.starts_with(tree));
        let name = leads.display().to_string();
        if name == "anon_inode:[pidfd]" || of_the_machine && held.kernel.insert(name.clone()) {
            continue;
        }
        let kind = name.split([':', '[']).next().unwrap_or_default().to_owned();
        *held.others.entry(kind).or_default() += 1;
    }
    Ok(held)
}

/// What an agent holds of the system.
#[derive(Debug, Default)]
struct Held {
    threads: usize,
    /// Files of the kernel.
    kernel: BTreeSet<String>,
    /// Everything else by its kind, and what leads to the same file of the kernel again.
    others: BTreeMap<String, usize>,
}

impl Held {
    fn counts(&self) -> [usize; 2] {
        [self.threads, self.others.values().sum()]
    }
}

/// Waits until an agent has no more threads and descriptors than before, but for few that come and go.
fn nothing_is_left(agent: &Agent, before: &Held) -> Result<()> {
    let mut now = Held::default();
    let gone = until("threads and descriptors are given back", || {
        now = held(agent)?;
        Ok(now.counts().iter().zip(before.counts()).all(|(now, before)| *now <= before + 3))
    });
    gone.with_context(|| {
        let [before, now] = [before, &now].map(|held| (held.threads, &held.others));
        format!("threads and descriptors: {before:?} before, {now:?} now")
    })
}

fn no_panic(agent: &Agent) -> Result<()> {
    ensure!(!agent.log()?.contains("panicked"), "{}", agent.log()?);
    Ok(())
}

fn resident(agent: &Agent) -> Result<usize> {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn succeeded(page: &Exposition, collector: &str) -> Result<Option<f64>> {
    page.value("node_scrape_collector_success", &[("collector", collector)])
}

#[test]
fn a_file_system_that_hangs_is_shown_as_failing_and_is_asked_once() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let hangs = scratch.path().join("hangs");
    fs::create_dir(&hangs)?;
    let mut agent = agent(scratch.path(), "")?;
    let mut command = agent.apart("")?;
    let unanswered = Unanswered::mounted_for(&mut command, &hangs)?;
    agent.start_by(command)?;
    let place = hangs.to_string_lossy().into_owned();
    let labels = [("mountpoint", &*place)];
    let told = |page: &Exposition, name: &str| page.value(&format!("node_filesystem_{name}"), &labels);

    let (page, took) = fresh(&agent, NODE)?;
    ensure!(took < Duration::from_secs(3), "the first scrape took {took:?}");
    let before = held(&agent)?;
    for _ in 0..4 {
        let (page, took) = fresh(&agent, NODE)?;
        // It need not be waited for again.
        ensure!(took < Duration::from_millis(1500), "another scrape took {took:?}");
        assert_eq!(told(&page, "device_error")?, Some(1.0));
        assert_eq!(told(&page, "size_bytes")?, None, "no figure of what did not answer");
    }
    assert_eq!(
        page.value("node_filesystem_device_error", &[("device_error", "mountpoint timeout")])?,
        Some(1.0)
    );
    let root = page.value("node_filesystem_size_bytes", &[("mountpoint", "/")])?;
    ensure!(root.is_some_and(|size| size > 0.0), "the others are told: {root:?}");
    nothing_is_left(&agent, &before)?;

    // Its other end goes away: the call comes back with an error, and it is asked again.
    drop(unanswered);
    until("another error", || {
        let (page, _) = fresh(&agent, NODE)?;
        let late = page.value("node_filesystem_device_error", &[("device_error", "mountpoint timeout")])?;
        Ok(late.is_none() && told(&page, "device_error")? == Some(1.0))
    })?;
    no_panic(&agent)?;
    agent.stop()
}

#[test]
fn an_agent_ends_in_order_beside_a_file_system_that_hangs() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let hangs = scratch.path().join("hangs");
    fs::create_dir(&hangs)?;
    // Two collectors hang in it: one asks how full it is, one looks for text files there.
    let text = format!("metrics: {{node: {{textfile: {{directories: ['{}']}}}}}}\n", hangs.display());
    let mut agent = agent(scratch.path(), &text)?;
    let mut command = agent.apart("")?;
    command.env("TAFFRAIL_HTTP__COLLECTOR_TIMEOUT", "700ms");
    let unanswered = Unanswered::mounted_for(&mut command, &hangs)?;
    agent.start_by(command)?;
    for _ in 0..3 {
        let (page, took) = fresh(&agent, NODE)?;
        ensure!(took < Duration::from_secs(3), "it took {took:?}");
        assert_eq!(succeeded(&page, "textfile")?, Some(0.0));
        assert_eq!(succeeded(&page, "loadavg")?, Some(1.0));
        assert_eq!(page.value("node_textfile_scrape_error", &[])?, None, "nobody knows");
    }
    let start = Instant::now();
    agent.stop()?;
    ensure!(start.elapsed() < Duration::from_secs(10), "it took {:?} to end", start.elapsed());
    drop(unanswered);
    Ok(())
}

#[test]
fn ten_thousand_mounts_are_told_in_bounded_time_and_memory() -> Result<()> {
    const MOUNTS: usize = 10_000;
    let scratch = tempfile::tempdir()?;
    let place = scratch.path().join("mounts");
    fs::create_dir(&place)?;
    let mut agent = agent(scratch.path(), "")?;
    // By itself mount(8) would take a minute.
    let script = format!(
        "cd {}; mkdir m; mount -t tmpfs tmpfs m; mkdir $(seq -f m/%g {MOUNTS})
         python3 -c 'import ctypes
mount = ctypes.CDLL(None).mount
for i in range(1, {MOUNTS} + 1):
    assert mount(b\"small\", b\"m/%d\" % i, b\"tmpfs\", 0, b\"size=4k\") == 0'",
        place.display()
    );
    let command = agent.apart(&script)?;
    agent.start_by(command)?;
    let (page, first) = fresh(&agent, NODE)?;
    let of_ours = |page: &Exposition, name: &str| {
        let below = place.join("m/").to_string_lossy().into_owned();
        let ours = page.samples.iter().filter(|(series, _)| series.name == name);
        ours.filter(|(series, value)| series.label("mountpoint").starts_with(&below) && **value == 4096.0)
            .count()
    };
    assert_eq!(of_ours(&page, "node_filesystem_size_bytes"), MOUNTS);
    assert_eq!(succeeded(&page, "filesystem")?, Some(1.0));
    let (_, again) = fresh(&agent, NODE)?;
    let (before, memory) = (held(&agent)?, resident(&agent)?);
    for _ in 0..3 {
        fresh(&agent, NODE)?;
    }
    let later = resident(&agent)?;
    eprintln!("10,000 mounts: {first:?}, then {again:?}; {memory} kB resident, {later} kB after three more");
    ensure!(first < Duration::from_secs(10) && again < Duration::from_secs(10), "{first:?}, then {again:?}");
    ensure!(later < 400 << 10 && later < memory + (64 << 10), "{memory} kB, then {later} kB resident");
    nothing_is_left(&agent, &before)?;
    agent.stop()
}

/// Where the kernel keeps groups of tasks.
fn hierarchies() -> Vec<PathBuf> {
    let version_1 = ["memory", "cpu", "cpuacct", "pids"].map(|name| Path::new("/sys/fs/cgroup").join(name));
    let there: Vec<PathBuf> = version_1.into_iter().filter(|path| path.is_dir()).collect();
    if there.is_empty() { vec!["/sys/fs/cgroup".into()] } else { there }
}

/// Groups of this test, removed when dropped.
struct Groups(Vec<PathBuf>);

impl Groups {
    fn new() -> Result<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("taffrail-faults-{}-{number}", std::process::id());
        let groups = Self(hierarchies().iter().map(|hierarchy| hierarchy.join(&name)).collect());
        groups.0.iter().try_for_each(fs::create_dir)?;
        Ok(groups)
    }

    fn make(&self, name: &str) -> Result<()> {
        Ok(self.0.iter().try_for_each(|group| fs::create_dir(group.join(name)))?)
    }

    fn remove(&self, name: &str) -> Result<()> {
        Ok(self.0.iter().try_for_each(|group| fs::remove_dir(group.join(name)))?)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in &self.0 {
            for inner in fs::read_dir(group).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(inner.path());
            }
            let _ = fs::remove_dir(group);
        }
    }
}

#[test]
fn groups_that_come_and_go_during_scrapes_are_told_or_missing() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut agent = agent(scratch.path(), "")?;
    agent.start()?;
    let groups = Groups::new()?;
    // As a container's is named: others have no series.
    let stays = "f".repeat(64);
    groups.make(&stays)?;
    fresh(&agent, CONTAINERS)?;
    let before = held(&agent)?;
    let done = AtomicBool::new(false);
    let made = thread::scope(|scope| -> Result<usize> {
        let churn = scope.spawn(|| -> Result<usize> {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                groups.make(&format!("{number:064x}"))?;
                if number >= 5 {
                    groups.remove(&format!("{:064x}", number - 5))?;
                }
                number += 1;
                thread::sleep(Duration::from_millis(9));
            }
            Ok(number)
        });
        let told = (0..8).try_for_each(|_| {
            let (page, took) = fresh(&agent, CONTAINERS)?;
            ensure!(took < Duration::from_secs(3), "a scrape took {took:?}");
            let stays =
                page.samples.iter().filter(|(series, _)| series.label("id").ends_with(&stays)).count();
            ensure!(stays > 3, "{stays} series of the group that stays");
            // A group of a moment has run for no second: its start is told right, or not at all.
            let wrong = page.samples.iter().filter(|(series, value)| {
                series.name == "container_start_time_seconds" && **value < 1_000_000_000.0
            });
            assert_eq!(wrong.count(), 0);
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        let made = churn.join().map_err(|_| anyhow::anyhow!("the churn panicked"))?;
        told?;
        made
    })?;
    ensure!(made > 400, "only {made} groups came and went");
    let metrics = Exposition::parse(&agent.page(CONTAINERS)?)?;
    let errors = |reason: &str| metrics.value("taffrail_containers_read_errors_total", &[("reason", reason)]);
    for reason in ["malformed", "failed"] {
        assert_eq!(errors(reason)?.unwrap_or(0.0), 0.0, "{reason}");
    }
    nothing_is_left(&agent, &before)?;
    no_panic(&agent)?;
    agent.stop()
}

#[test]
fn a_thousand_scrapes_at_once_are_answered_and_leave_nothing() -> Result<()> {
    const MANY: usize = 1000;
    let scratch = tempfile::tempdir()?;
    let mut agent = agent(scratch.path(), "")?;
    agent.start()?;
    for path in [NODE, CONTAINERS, "/metrics"] {
        agent.page(path)?;
    }
    let (before, address) = (held(&agent)?, agent.address()?);
    for path in [NODE, CONTAINERS, "/metrics"] {
        // All are open before the first is read: they are there at once.
        let mut asked = (0..MANY).map(|_| ask(address, path)).collect::<Result<Vec<_>>>()?;
        let mut refused = 0;
        for stream in &mut asked {
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            let code = answer.split(' ').nth(1).unwrap_or_default();
            ensure!(["200", "503"].contains(&code), "{path}: {answer}");
            refused += usize::from(code == "503");
            ensure!(
                code == "503" || answer.ends_with('\n') && answer.contains("_duration_seconds{"),
                "it is cut"
            );
        }
        eprintln!("{path}: {MANY} scrapes at once, {refused} refused");
    }
    nothing_is_left(&agent, &before)?;
    no_panic(&agent)?;
    let (page, _) = fresh(&agent, NODE)?;
    assert_eq!(succeeded(&page, "cpu")?, Some(1.0));
    agent.stop()
}

/// Holds that no counter of a page is lower than it was.
fn only_grow(before: &Exposition, after: &Exposition) -> Result<()> {
    for (series, value) in &after.samples {
        let counts = after.types.get(&series.name).is_some_and(|kind| kind == "counter");
        let lower = before.samples.get(series).is_some_and(|before| value < before);
        ensure!(!(counts && lower), "{series:?} went back to {value}");
    }
    Ok(())
}

fn ask(address: SocketAddr, path: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    Ok(stream)
}

#[test]
fn scrapes_that_clients_break_off_leave_nothing() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut agent = agent(scratch.path(), "")?;
    agent.start()?;
    for path in [NODE, CONTAINERS] {
        agent.page(path)?;
    }
    let (before, address) = (held(&agent)?, agent.address()?);
    for round in 0..60 {
        let path = [NODE, CONTAINERS, "/metrics"][round % 3];
        let mut stream = ask(address, path)?;
        match round % 4 {
            // At once, after the first bytes, without a word of goodbye, and in the middle of a question.
            0 => drop(stream),
            1 => drop(stream.read(&mut [0; 100])),
            2 => stream.shutdown(Shutdown::Read)?,
            _ => drop(TcpStream::connect(address)?.write_all(b"GET /metr")),
        }
        thread::sleep(Duration::from_millis(50));
    }
    nothing_is_left(&agent, &before)?;
    no_panic(&agent)?;
    let (page, took) = fresh(&agent, NODE)?;
    ensure!(took < Duration::from_secs(3), "the next scrape took {took:?}");
    assert_eq!(succeeded(&page, "cpu")?, Some(1.0));
    agent.stop()
}

#[test]
fn a_clock_that_jumps_moves_no_counter_back_and_stops_no_scrape() -> Result<()> {
    const DAY: i64 = 86_400;
    let scratch = tempfile::tempdir()?;
    let preload = Preload::build(scratch.path(), "none")?;
    let mut agent = agent(scratch.path(), "")?;
    let mut command = agent.command("run")?;
    preload.give(&mut command);
    agent.start_by(command)?;
    let mut last: Option<Exposition> = None;
    // With all that each page keeps from its first scrape on.
    for path in [NODE, CONTAINERS] {
        fresh(&agent, path)?;
    }
    let before = held(&agent)?;
    for ahead in [0, 3600, -2 * DAY, 400 * DAY, -DAY, 0] {
        preload.set_clock(ahead)?;
        for path in [NODE, CONTAINERS] {
            let (page, took) = fresh(&agent, path)?;
            ensure!(took < Duration::from_secs(3), "{ahead} s ahead a scrape took {took:?}");
            if path != NODE {
                continue;
            }
            let said = page.value("node_time_seconds", &[])?.context("no time")?;
            let now = jiff::Timestamp::now().as_second() + ahead;
            ensure!((said - now as f64).abs() < 60.0, "{said} is told at {now}");
            if let Some(last) = &last {
                only_grow(last, &page)?;
            }
            last = Some(page);
        }
    }
    nothing_is_left(&agent, &before)?;
    no_panic(&agent)?;
    agent.stop()
}

#[test]
fn a_read_that_fails_leaves_figures_out_and_makes_no_zero() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let preload = Preload::build(scratch.path(), "scrape")?;
    let mut agent = agent(scratch.path(), "")?;
    let mut command = agent.command("run")?;
    preload.give(&mut command);
    agent.start_by(command)?;
    fresh(&agent, CONTAINERS)?;
    fresh(&agent, NODE)?;
    let before = held(&agent)?;
    // A disk that fails, and a process and a device that went away since the file was opened.
    for error in [libc::EIO, libc::ESRCH, libc::ENODEV] {
        for (path, said) in
            [(NODE, "node_scrape_collector_success"), (CONTAINERS, "taffrail_scrape_collector_success")]
        {
            let (good, _) = fresh(&agent, path)?;
            for count in [1, 7, 40] {
                preload.fail_reads(count, error)?;
                let (bad, _) = fresh(&agent, path)?;
                ensure!(preload.failures_left()? < count, "nothing has failed");
                preload.fail_reads(0, 0)?;
                only_grow(&good, &bad)?;
                let failed = bad.samples.iter().any(|(series, value)| series.name == said && *value == 0.0);
                ensure!(
                    failed || error != libc::EIO || path == CONTAINERS,
                    "{count} reads failed and nobody says so"
                );
            }
            let (again, _) = fresh(&agent, path)?;
            only_grow(&good, &again)?;
            let missing = good.samples.keys().filter(|series| !again.samples.contains_key(series));
            let missing: Vec<_> = missing.filter(|series| !series.name.starts_with("container_")).collect();
            ensure!(missing.is_empty(), "after error {error} these do not come back: {missing:?}");
        }
    }
    nothing_is_left(&agent, &before)?;
    no_panic(&agent)?;
    agent.stop()
}

/// A process in a group of its own that looks like a pod's container, ended with its group.
struct Pod {
    groups: Groups,
    child: std::process::Child,
}

const UID: &str = "0badcafe-0000-4000-8000-000000000001";

impl Pod {
    fn start() -> Result<Self> {
        let groups = Groups::new()?;
        let child = std::process::Command::new("sleep").arg("600").spawn()?;
        let pod = Self { groups, child };
        let (container, id) = (format!("pod{UID}/{}", "0bad".repeat(16)), pod.child.id().to_string());
        pod.groups.make(&format!("pod{UID}"))?;
        pod.groups.make(&container)?;
        for group in &pod.groups.0 {
            support::put(&group.join(&container).join("cgroup.procs"), id.as_bytes())?;
        }
        Ok(pod)
    }

    /// Series of its container on a page.
    fn told(page: &Exposition) -> impl Iterator<Item = (&str, f64)> {
        let id = "0bad".repeat(16);
        let its = page.samples.iter().filter(move |(series, _)| series.label("id").ends_with(&id));
        its.map(|(series, value)| (&*series.name, *value))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for group in &self.groups.0 {
            let pod = group.join(format!("pod{UID}"));
            let _ = fs::remove_dir(pod.join("0bad".repeat(16)));
            let _ = fs::remove_dir(pod);
        }
    }
}

/// Figures that come from the processes of a group, which an agent that does not see them cannot know.
fn of_processes(name: &str) -> bool {
    ["container_file_descriptors", "container_sockets", "container_ulimits_soft"].contains(&name)
        || name.starts_with("container_network_")
}

#[test]
fn an_agent_in_another_pid_namespace_leaves_out_what_it_cannot_see() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let pod = Pod::start()?;
    let mut agent = agent(scratch.path(), "")?;
    let command = agent.apart("")?;
    agent.start_by(command)?;
    let (page, _) = fresh(&agent, CONTAINERS)?;
    let told: Vec<(&str, f64)> = Pod::told(&page).collect();
    ensure!(told.contains(&("container_threads", 1.0)), "{told:?}");
    let guessed: Vec<_> = told.iter().filter(|(name, _)| of_processes(name)).collect();
    assert!(guessed.is_empty(), "told of processes that it does not see: {guessed:?}");
    let errors =
        page.samples.iter().filter(|(series, _)| series.name == "taffrail_containers_read_errors_total");
    let errors: Vec<_> = errors.map(|(series, value)| (series.label("reason").to_owned(), *value)).collect();
    ensure!(errors.iter().any(|(_, count)| *count > 0.0), "no reason is counted: {errors:?}");
    eprintln!("another PID namespace: {errors:?}");
    no_panic(&agent)?;
    agent.stop()?;
    drop(pod);
    Ok(())
}

#[test]
fn an_agent_that_may_not_see_others_processes_leaves_out_what_they_would_tell() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let pod = Pod::start()?;
    let mut agent = agent(scratch.path(), "")?;
    let program = scratch.path().join("taffrail");
    fs::copy(taffrail_suite::program()?, &program)?;
    for place in [scratch.path(), agent.directory()] {
        std::os::unix::fs::chown(place, Some(65534), Some(65534))?;
    }
    // The first process is root's, and the agent's user does not see it.
    let script = format!(
        "mount -t proc -o hidepid=2 proc /proc; shift; sleep 600 &
         trap 'kill -TERM $agent' TERM
         setpriv --reuid=65534 --regid=65534 --clear-groups {} \"$@\" & agent=$!
         wait $agent || wait $agent; exit",
        program.display()
    );
    let command = agent.apart(&script)?;
    agent.start_by(command)?;
    let (node, took) = fresh(&agent, NODE)?;
    ensure!(took < Duration::from_secs(3), "it took {took:?}");
    for collector in ["cpu", "meminfo", "filesystem", "netdev", "stat"] {
        assert_eq!(succeeded(&node, collector)?, Some(1.0), "{collector}");
    }
    ensure!(node.value("node_filesystem_size_bytes", &[("mountpoint", "/")])?.is_some_and(|size| size > 0.0));
    let (page, _) = fresh(&agent, CONTAINERS)?;
    let memory = page.value("container_memory_usage_bytes", &[("id", "/")])?;
    ensure!(memory.is_some_and(|bytes| bytes > 0.0), "{memory:?}");
    let guessed: Vec<_> = Pod::told(&page).filter(|(name, _)| of_processes(name)).collect();
    assert!(guessed.is_empty(), "told of processes that it does not see: {guessed:?}");
    ensure!(Pod::told(&page).any(|told| told == ("container_threads", 1.0)), "the kernel counts its tasks");
    no_panic(&agent)?;
    agent.stop()?;
    drop(pod);
    Ok(())
}
