//! Real cgroups of this machine: made, used and removed here. Root may.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use taffrail_cgroup::{Containers, ContainersConfig, Hierarchy, Layout, Names};
use taffrail_kernfs::Roots;
use taffrail_record::{Ask as _, Gathered};

/// Longer than an answer is shared.
const FRESH: Duration = Duration::from_millis(1050);

/// A parent of containers, in every hierarchy.
struct Parent {
    hierarchy: Hierarchy,
    name: String,
}

impl Parent {
    /// Nothing, said loudly, where this machine does not let us.
    fn make(test: &str) -> Option<Parent> {
        let parent = Parent {
            hierarchy: Hierarchy::detect(&Roots::default()).expect("cgroups"),
            name: format!("taffrail-test-{test}-{}", std::process::id()),
        };
        let made = parent.directories("").iter().all(|directory| fs::create_dir(directory).is_ok());
        if !made {
            eprintln!("SKIPPED: {test}: cgroups cannot be made here");
            return None;
        }
        if parent.hierarchy.layout == Layout::V2 {
            let controllers = parent.directories("")[0].join("cgroup.subtree_control");
            ["+cpu", "+memory", "+io", "+pids"].iter().for_each(|name| write(&controllers, name));
        }
        Some(parent)
    }

    fn directories(&self, container: &str) -> Vec<PathBuf> {
        self.hierarchy.trees().iter().map(|tree| tree.join(&self.name).join(container)).collect()
    }

    /// Makes a container and moves a process into it that runs `script` once it is there.
    fn run(&self, container: &str, script: &str) -> Child {
        for directory in self.directories(container) {
            fs::create_dir(directory).expect("made");
        }
        let waits = format!("read _; {script}");
        let mut child = Command::new("sh")
            .args(["-c", &waits])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("a shell");
        for directory in self.directories(container) {
            write(&directory.join("cgroup.procs"), &child.id().to_string());
        }
        child.stdin.take().expect("piped").write_all(b"\n").expect("told");
        child
    }

    fn remove(&self, container: &str) {
        self.remove_slowly(container, Duration::ZERO);
    }

    /// Removes it from one hierarchy after the other, with a pause in between.
    fn remove_slowly(&self, container: &str, pause: Duration) {
        for directory in self.directories(container) {
            let deadline = Instant::now() + Duration::from_secs(120);
            while fs::remove_dir(&directory).is_err() {
                assert!(Instant::now() < deadline, "{} cannot be removed", directory.display());
                sleep(Duration::from_millis(2));
            }
            sleep(pause);
        }
    }

    /// The sum of a family's samples of one container.
    fn value(&self, gathered: &Gathered, container: &str, family: &str) -> Option<f64> {
        let id = format!("id=\"/{}/{container}\"", self.name);
        let values = gathered.samples().iter().filter(|s| s.family == family && s.labels.contains(&id));
        values.map(|sample| sample.value).reduce(|a, b| a + b)
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        for directory in self.directories("") {
            let _ = fs::remove_dir(directory);
        }
    }
}

fn write(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().write(true).open(path).expect("opened");
    file.write_all(text.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn ask(containers: &Containers) -> Gathered {
    let mut gathered = Gathered::default();
    containers.ask(&mut gathered).expect("asked");
    gathered
}

fn containers(ended_seconds: u64) -> Containers {
    let config = ContainersConfig { ended_seconds, ..ContainersConfig::default() };
    Containers::new(config, Roots::default(), Names::new())
}

fn id(number: u32) -> String {
    format!("{number:064x}")
}

#[test]
fn a_container_that_lives_between_two_scrapes_leaves_its_last_totals_for_a_while() {
    let Some(parent) = Parent::make("short") else { return };
    let containers = containers(3);
    ask(&containers);
    let job = id(1);
    let mut child = parent.run(&job, "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; sleep 0.3");
    child.wait().expect("ended");
    // As a runtime does: it hears of the end and cleans up.
    sleep(Duration::from_millis(30));
    parent.remove(&job);
    sleep(FRESH);
    let after = ask(&containers);
    let usage = parent.value(&after, &job, "container_cpu_usage_seconds_total");
    assert!(usage.is_some_and(|seconds| seconds > 0.001), "{usage:?}");
    assert!(parent.value(&after, &job, "taffrail_container_ended_seconds").is_some(), "marked");
    assert_eq!(parent.value(&after, &job, "container_memory_usage_bytes"), None, "nothing is used any more");
    sleep(Duration::from_secs(3));
    assert_eq!(parent.value(&ask(&containers), &job, "container_cpu_usage_seconds_total"), None);
}

#[test]
fn a_container_that_goes_from_one_hierarchy_after_the_other_leaves_its_last_totals() {
    let Some(parent) = Parent::make("slowly") else { return };
    let (containers, job) = (containers(60), id(4));
    let mut child = parent.run(&job, "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; exec sleep 60");
    let usage = |gathered: &Gathered| parent.value(gathered, &job, "container_cpu_usage_seconds_total");
    let deadline = Instant::now() + Duration::from_secs(120);
    while usage(&ask(&containers)).is_none_or(|seconds| seconds < 0.001) {
        assert!(Instant::now() < deadline, "it does nothing");
        sleep(FRESH);
    }
    let before = usage(&ask(&containers));
    child.kill().expect("killed");
    child.wait().expect("ended");
    // Longer than it takes to hear of it, and so long that somebody asks meanwhile.
    thread::scope(|scope| {
        let removal = scope.spawn(|| parent.remove_slowly(&job, Duration::from_millis(400)));
        while !removal.is_finished() {
            assert!(usage(&ask(&containers)) >= before, "it goes");
            sleep(Duration::from_millis(200));
        }
    });
    sleep(FRESH);
    let after = ask(&containers);
    assert!(usage(&after) >= before, "it stays");
    assert!(parent.value(&after, &job, "taffrail_container_ended_seconds").is_some(), "marked");
}

#[test]
fn a_container_that_begins_again_has_its_series_once() {
    let Some(parent) = Parent::make("again") else { return };
    let containers = containers(60);
    let job = id(2);
    for _ in 0..2 {
        let mut child = parent.run(&job, "exec sleep 2");
        sleep(FRESH);
        let gathered = ask(&containers);
        let name = format!("id=\"/{}/{job}\"", parent.name);
        let seen = gathered.samples().iter().filter(|s| s.family == "container_cpu_usage_seconds_total");
        assert_eq!(seen.filter(|sample| sample.labels.contains(&name)).count(), 1);
        assert_eq!(parent.value(&gathered, &job, "taffrail_container_ended_seconds"), None, "it lives");
        child.kill().expect("killed");
        child.wait().expect("ended");
        parent.remove(&job);
    }
}

#[test]
fn a_limit_that_is_changed_is_shown_at_the_next_scrape() {
    let Some(parent) = Parent::make("limits") else { return };
    let (containers, job) = (containers(0), id(3));
    let mut child = parent.run(&job, "exec sleep 60");
    let quota = |gathered: &Gathered| parent.value(gathered, &job, "container_spec_cpu_quota");
    assert_eq!(quota(&ask(&containers)), None, "unlimited");
    for (value, v2) in [(50_000, "50000 100000"), (20_000, "20000 100000")] {
        let v1 = parent.hierarchy.controller("cpu").map(|cpu| cpu.join(&parent.name).join(&job));
        match v1 {
            Some(cpu) => write(&cpu.join("cpu.cfs_quota_us"), &value.to_string()),
            None => write(&parent.directories(&job)[0].join("cpu.max"), v2),
        }
        sleep(FRESH);
        assert_eq!(quota(&ask(&containers)), Some(f64::from(value)));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    parent.remove(&job);
}

#[test]
fn a_container_whose_cgroup_is_renamed_goes_on_by_its_new_name() {
    let Some(parent) = Parent::make("renamed") else { return };
    let (containers, old, new) = (containers(60), id(5), id(6));
    let mut child = parent.run(&old, "exec sleep 60");
    let lives = |id: &str| parent.value(&ask(&containers), id, "container_processes").is_some();
    assert!(lives(&old));
    let renamed = parent.directories(&old).into_iter().zip(parent.directories(&new));
    let renamed = renamed.map(|(old, new)| fs::rename(old, new)).filter(Result::is_ok).count();
    if renamed > 0 {
        sleep(FRESH);
        assert_eq!((lives(&old), lives(&new)), (false, true));
    } else {
        eprintln!("SKIPPED: this kernel renames no cgroups");
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    parent.remove(if renamed > 0 { &new } else { &old });
}

#[test]
fn hundreds_of_containers_that_come_and_go_leave_nothing_open() {
    let Some(parent) = Parent::make("churn") else { return };
    let containers = containers(1);
    ask(&containers);
    let open = || fs::read_dir("/proc/self/fd").expect("listed").count();
    let before = open();
    for number in 0..300 {
        let job = id(1000 + number);
        let mut child = parent.run(&job, "true");
        child.wait().expect("ended");
        if number % 20 == 0 {
            ask(&containers);
        }
        parent.remove(&job);
    }
    sleep(Duration::from_secs(2));
    let after = ask(&containers);
    assert_eq!(parent.value(&after, &id(1000), "container_last_seen"), None);
    // Other tests of this file open some, too.
    assert!(open() < before + 200, "{before} before, {} after", open());
}

#[test]
fn containers_whose_counters_stay_hold_nothing_open() {
    let Some(parent) = Parent::make("ended") else { return };
    let containers = containers(600);
    ask(&containers);
    for number in 0..30 {
        let job = id(2000 + number);
        let mut child = parent.run(&job, "sleep 0.05");
        child.wait().expect("ended");
        sleep(Duration::from_millis(20));
        parent.remove(&job);
    }
    sleep(FRESH);
    let after = ask(&containers);
    let ended = (0..30).filter(|n| parent.value(&after, &id(2000 + n), "container_last_seen").is_some());
    assert!(ended.count() > 20, "too few were seen");
    let name = format!("/{}/", parent.name);
    let open = fs::read_dir("/proc/self/fd").expect("listed").flatten();
    let open = open.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    let left: Vec<PathBuf> = open.filter(|path| path.to_string_lossy().contains(&name)).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn a_container_that_ended_keeps_what_its_own_network_had_moved() {
    let Some(parent) = Parent::make("network") else { return };
    let has_ip = Command::new("ip").arg("-V").output().is_ok_and(|output| output.status.success());
    assert!(has_ip, "there is no program ip: tests/setup installs it");
    let containers = containers(60);
    let folder = tempfile::tempdir().expect("a folder");
    let moved =
        |gathered: &Gathered, id: &str| parent.value(gathered, id, "container_network_transmit_bytes_total");
    // The kernel gives the number of a network that is gone to the next one.
    let mut told: Vec<(String, Option<f64>)> = Vec::new();
    for number in [51, 52, 53] {
        let ready = folder.path().join(number.to_string());
        let id = id(number);
        // Nothing is sent but announcements of new addresses, and of those by each a number of its own.
        let script = format!(
            "exec unshare --net sh -c 'cd /proc/sys/net; echo 1 >ipv6/conf/default/disable_ipv6; \
             ip link add aft type veth peer name fore; ip link set aft up; ip link set fore up; \
             until ip link show aft | grep -q \"state UP\"; do sleep 0.01; done; \
             ip address add 192.0.2.1/24 dev aft; echo 1 >ipv4/conf/aft/arp_notify; i=50; \
             while [ $i -lt {number} ]; do i=$((i+1)); ip link set aft address 02:00:00:00:00:$i; done; \
             echo >{}; exec sleep 60'",
            ready.display()
        );
        let mut child = parent.run(&id, &script);
        let deadline = Instant::now() + Duration::from_secs(120);
        while !ready.exists() {
            assert!(Instant::now() < deadline, "the network is not ready");
            sleep(Duration::from_millis(20));
        }
        sleep(FRESH);
        let now = ask(&containers);
        for (id, before) in &told {
            assert_eq!(moved(&now, id), *before, "another's network is not its own");
        }
        let own = moved(&now, &id);
        assert!(own.is_some_and(|bytes| bytes > 0.0), "it has moved something: {own:?}");
        assert!(told.iter().all(|(_, other)| *other != own), "each has moved something else");
        told.push((id.clone(), own));
        child.kill().expect("killed");
        child.wait().expect("ended");
        parent.remove(&id);
        sleep(FRESH);
        assert_eq!(moved(&ask(&containers), &id), own, "it stays");
    }
}

#[test]
fn the_layer_of_a_container_is_what_its_runtime_has_mounted_not_what_it_mounts_itself() {
    let Some(parent) = Parent::make("overlay") else { return };
    let config = ContainersConfig { disk_seconds: 1, ..ContainersConfig::default() };
    let containers = Containers::new(config, Roots::default(), Names::new());
    let folder = tempfile::tempdir().expect("a folder");
    // Its root has no programs any more when it is there.
    let script = |own: &Path, flags: &str| {
        let inside = "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged || exit 1; \
                      exec 3<>wait 4>>ready; cd merged; pivot_root . old; echo >&4; read _ <&3";
        format!(
            "cd {} && mkdir -p lower/old upper work merged && mkfifo wait && \
             head -c 1048576 /dev/urandom >upper/file && exec unshare {flags} --mount sh -c '{inside}'",
            own.display()
        )
        .replace("=lower", &format!("={}/lower", own.display()))
        .replace("=upper", &format!("={}/upper", own.display()))
        .replace("=work", &format!("={}/work", own.display()))
    };
    for (number, flags, is_believed) in [(61, "", true), (62, "--user --map-root-user", false)] {
        let (own, job) = (folder.path().join(number.to_string()), id(number));
        fs::create_dir(&own).expect("made");
        let mut child = parent.run(&job, &script(&own, flags));
        let deadline = Instant::now() + Duration::from_secs(120);
        while fs::metadata(own.join("ready")).map_or(0, |known| known.len()) == 0 {
            if child.try_wait().expect("asked").is_some() {
                eprintln!("SKIPPED: overlays cannot be mounted with {flags:?}");
                return parent.remove(&job);
            }
            assert!(Instant::now() < deadline, "the overlay is not there");
            sleep(Duration::from_millis(20));
        }
        let unknown = |gathered: &Gathered| {
            let of_reason = |s: &&taffrail_record::Sample| s.labels.contains("reason=\"untrusted\"");
            let family = "taffrail_containers_disk_unknown";
            gathered.samples().iter().filter(|s| s.family == family).find(of_reason).map_or(0.0, |s| s.value)
        };
        loop {
            let now = ask(&containers);
            let bytes = parent.value(&now, &job, "container_fs_usage_bytes");
            assert!(is_believed || bytes.is_none(), "{bytes:?}");
            if bytes.is_some_and(|bytes| bytes >= 1_048_576.0) || (!is_believed && unknown(&now) > 0.0) {
                break;
            }
            assert!(Instant::now() < deadline, "nobody looks at it");
            sleep(FRESH);
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        parent.remove(&job);
    }
}
