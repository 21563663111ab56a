//! All rules in a real Prometheus that scrapes real agents, each in trouble of another kind.
//!
//! The rules are those that are shipped but for one thing: how long an alert waits before it fires (`for`) is one second
//! here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use taffrail_parts::docker::{Docker, IMAGE};
use taffrail_parts::{Prometheus, Target, packages};
use taffrail_suite::preload::Preload;

use crate::files::{names, shipped};
use crate::support::{Agent, Unanswered, put, until};

/// Alerts that nothing here provokes, and why.
const NOT_PROVOKED: [(&str, &str); 32] = [
    ("NodeClockSkewDetected", CLOCK),
    ("NodeClockNotSynchronising", CLOCK),
    ("NodeNetworkReceiveErrs", HARDWARE),
    ("NodeNetworkTransmitErrs", HARDWARE),
    ("NodeNetworkInterfaceFlapping", NETWORK),
    ("NodeBondingDegraded", NETWORK),
    ("NodeHighNumberConntrackEntriesUsed", NETWORK),
    ("NodeCPUHighUsage", WHOLE),
    ("NodeSystemSaturation", WHOLE),
    ("NodeMemoryHighUtilization", WHOLE),
    ("NodeMemoryMajorPagesFaults", WHOLE),
    ("NodeMemoryPressure", WHOLE),
    ("NodeIOPressure", WHOLE),
    ("NodeDiskIOSaturation", WHOLE),
    ("NodeHungTasks", WHOLE),
    ("NodeFileDescriptorLimit", WHOLE),
    ("NodeMemoryErrors", HARDWARE),
    ("NodeRAIDDegraded", HARDWARE),
    ("NodeRAIDDiskFailure", HARDWARE),
    ("NodeSystemdServiceFailed", "the machine may run without systemd"),
    ("NodeSystemdServiceCrashlooping", "the machine may run without systemd"),
    ("ContainerMemoryPressure", KERNEL),
    ("ContainerIOPressure", KERNEL),
    ("TaffrailAbsent", "it takes a Prometheus without any agent"),
    ("TaffrailLedgerDoesNotAddUp", "it takes a defect"),
    ("TaffrailCheckpointDamaged", "the torture command damages checkpoints"),
    ("TaffrailFileDescriptors", "an agent that is short of descriptors may not take the scrape that says so"),
    ("TaffrailPodsStale", CLUSTER),
    ("TaffrailEventsUnwatched", CLUSTER),
    ("TaffrailEventsBehind", CLUSTER),
    ("TaffrailDeadLetters", CLUSTER),
    ("TaffrailComponentDown", "a component that fails is started again at once"),
];
const CLOCK: &str =
    "the machine's clock is not the tests' to set; on many machines nothing keeps it, and it fires";
const CLUSTER: &str = "it takes a cluster";
const HARDWARE: &str = "it takes hardware that fails";
const NETWORK: &str = "the machine's network is not the tests' to change";
const WHOLE: &str = "it takes the machine away from all others on it";
const KERNEL: &str = "kernels tell pressure of cgroups by version 2 alone, and not all do";

/// Recorded series whose inputs a machine may not have.
const NOT_EVERYWHERE: [&str; 3] = [
    "instance_device:node_disk_io_time_seconds:rate5m",
    "instance_device:node_disk_io_time_weighted_seconds:rate5m",
    "node_namespace_pod_container:container_memory_swap",
];

/// Copies of the rule files in which alerts fire at once.
fn hasty(directory: &Path) -> Result<[PathBuf; 2]> {
    let text = fs::read_to_string(shipped("alerts.yaml"))?;
    let line = |line: &str| {
        if line.starts_with("        for: ") { "        for: 1s".to_owned() } else { line.to_owned() }
    };
    let copy = directory.join("alerts.yaml");
    put(&copy, text.lines().map(line).collect::<Vec<_>>().join("\n").as_bytes())?;
    Ok([shipped("recording.yaml"), copy])
}

/// An agent in trouble, and what keeps it there.
struct Trouble {
    agent: Agent,
    scratch: tempfile::TempDir,
    kept: Vec<Box<dyn std::any::Any>>,
}

impl Trouble {
    /// `settings` may name the scratch directory as `{0}`.
    fn new(settings: &str) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let settings = settings.replace("{0}", &scratch.path().to_string_lossy());
        Ok(Self { agent: Agent::new(&settings)?, scratch, kept: Vec::new() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn container(&self, name: &str) -> Result<PathBuf> {
        let directory = self.path(&format!("pods/shop_{name}_{UID}/main"));
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }
}

const UID: &str = "00000001-0000-4000-8000-000000000001";
const FILES: &str = "output: {file: {directory: '{0}/records'}}\n";

/// File systems that are full, fill up, become read-only or do not answer; a text file that is none; a state directory
/// that becomes read-only; a kernel that does not describe its types to the audit. All in namespaces of its own.
fn with_file_systems() -> Result<Trouble> {
    let mut trouble = Trouble::new(&format!(
        "docker: {{enabled: never}}\nlogs: {{kubernetes: {{enabled: false}}, files: [{{paths: ['{{0}}/app/log']}}]}}\n\
         metrics: {{node: {{textfile: {{directories: ['{{0}}/text']}}}}}}\naudit: {{enabled: true, tier: probe, pinned: false}}\n{FILES}"
    ))?;
    for name in ["full", "files", "fills", "makes", "turns", "hangs", "text", "app"] {
        fs::create_dir(trouble.path(name))?;
    }
    put(&trouble.path("text/bad.prom"), b"no metric at all\n")?;
    let state = trouble.agent.directory().join("state");
    fs::create_dir(&state)?;
    let script = format!(
        "cd {scratch}
         mount -t tmpfs -o size=1m full full; head -c 1020k /dev/zero > full/file
         mount -t tmpfs -o nr_inodes=40 files files; touch files/$(seq -s ' files/' 39)
         mount -t tmpfs -o size=64m fills fills; head -c 42m /dev/zero > fills/file
         mount -t tmpfs -o nr_inodes=2000 makes makes; touch makes/$(seq -s ' makes/' 1300)
         mount -t tmpfs turns turns; mount -t tmpfs none /sys/kernel/btf
         (while sleep 0.3; do
             head -c 40k /dev/zero >> fills/file; touch makes/$(date +%s%N); date >> app/log
             if [ -e turn ]; then mount -o remount,ro turns; mount -t tmpfs -o ro none {state}; rm turn; fi
          done) &",
        scratch = trouble.scratch.path().display(),
        state = state.display(),
    );
    let mut command = trouble.agent.apart(&script)?;
    let unanswered = Unanswered::mounted_for(&mut command, &trouble.path("hangs"))?;
    trouble.agent.start_by(command)?;
    trouble.kept.push(Box::new(unanswered));
    Ok(trouble)
}

/// Containers of an engine that run out of memory, time or tasks, or whose logs are nowhere; and one that kubelet would
/// have named. Little is taken of what is done in them, and whoever is to tell at whose request gets to an old certificate.
fn with_containers(engine: &Docker) -> Result<Trouble> {
    let mut trouble = Trouble::new(&format!(
        "docker: {{enabled: always, socket: {}}}\nlogs: {{kubernetes: {{root: '{{0}}/pods', links: '{{0}}/none'}}}}\n\
         audit: {{enabled: true, pinned: false, rate: 20, burst: 20, \
                  requests: {{listen: '127.0.0.1:0', credentials_directory: '{{0}}'}}}}\n{FILES}",
        engine.socket().display()
    ))?;
    credentials(trouble.scratch.path())?;
    let start = |name: &str, options: &[&str], script: &str| {
        engine.run_detached(&[&["--name", name], options, &[IMAGE, "sh", "-c", script]].concat())
    };
    start("throttled", &["--cpus", "0.05"], "while :; do :; done")?;
    start(
        "hungry",
        &["--memory", "16m", "--memory-swap", "16m"],
        "tail /dev/zero; tail /dev/zero; sleep 600",
    )?;
    let fill = "head -c 31m /dev/zero > /dev/shm/file; sleep 600";
    start("full", &["--memory", "32m", "--memory-swap", "32m", "--shm-size", "64m"], fill)?;
    let many = "for i in 1 2 3 4 5 6 7 8 9; do sleep 600 & done; wait";
    start("many", &["--pids-limit", "10"], many)?;
    start("mute", &["--log-driver", "none"], "sleep 600")?;

    let inside = engine.output(&["inspect", "--format", "{{.State.Pid}}", "many"])?;
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", inside.trim()))?;
    let group =
        groups.lines().find_map(|line| line.rsplit_once(':')?.1.rsplit_once('/')).context("no group")?.0;
    // As a kubelet above Docker names and places it.
    let parent = format!("--cgroup-parent={group}/kubepods/burstable/pod{UID}");
    let labels = [("pod.name", "web"), ("pod.namespace", "shop"), ("container.name", "main")];
    let labels = labels.map(|(label, value)| format!("--label=io.kubernetes.{label}={value}"));
    let options: Vec<&str> = labels.iter().chain([&parent]).map(String::as_str).collect();
    start("pod", &options, "while :; do sleep 0.1; done")?;
    trouble.agent.start()?;
    Ok(trouble)
}

/// What the audit's webhook has, with a certificate that ends soon.
fn credentials(folder: &Path) -> Result<()> {
    packages::ensure(&[("openssl", "openssl")])?;
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "10",
        ])
        .args(["-subj", "/CN=soon over", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-keyout", "tls.key", "-out", "tls.crt"])
        .current_dir(folder)
        .output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::copy(folder.join("tls.crt"), folder.join("ca.crt"))?;
    put(&folder.join("token"), "a-secret-that-nobody-asks-with-in-this-test".as_bytes())
}

/// Logs that are over their quota, go away and lead out, a collector that panics, and a configuration that is refused.
fn with_logs() -> Result<Trouble> {
    let mut trouble = Trouble::new(&format!(
        "docker: {{enabled: never}}\nlogs:\n  kubernetes: {{root: '{{0}}/pods', links: '{{0}}/none'}}\n  \
         quotas: [{{pod: loud, bytes_per_second: 100}}]\n{FILES}"
    ))?;
    let preload = Preload::build(trouble.scratch.path(), "logs")?;
    put(&trouble.container("loud")?.join("0.log"), &lines(100))?;
    put(&trouble.container("brief")?.join("0.log"), &lines(100))?;
    let mut command = trouble.agent.command("run")?;
    preload.give(&mut command);
    trouble.agent.start_by(command)?;
    trouble.kept.push(Box::new(preload));
    Ok(trouble)
}

/// What befalls them once Prometheus has seen how they were before.
fn befall(trouble: &Trouble) -> Result<()> {
    std::os::unix::fs::symlink("/etc/hostname", trouble.container("escapee")?.join("0.log"))?;
    put(&trouble.container("loud")?.join("0.log"), &lines(5000))?;
    put(&trouble.container("brief")?.join("0.log"), &lines(1))?;
    let preload = trouble.kept[0].downcast_ref::<Preload>().context("no preload")?;
    for _ in 0..3 {
        preload.fail_a_clock()?;
        until("a panic", || preload.has_failed())?;
        std::thread::sleep(Duration::from_millis(500));
    }
    trouble.agent.configure("nothing: known\n")?;
    trouble.agent.reload()
}

/// Somebody does more in a container than is taken, and somebody goes into it past the runtime.
fn intrude(engine: &Docker) -> Result<()> {
    engine.output(&["exec", "mute", "sh", "-c", "for i in $(seq 50); do /bin/true; done"])?;
    let inside = engine.output(&["inspect", "--format", "{{.State.Pid}}", "mute"])?;
    let status = Command::new("nsenter").args(["-t", inside.trim(), "-n", "true"]).status()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// Old lines for a broker that is not there.
fn without_a_broker() -> Result<Trouble> {
    let mut trouble = Trouble::new(
        "docker: {enabled: never}\nlogs: {kubernetes: {root: '{0}/pods', links: '{0}/none'}}\n\
         pipeline: {memory: 1 MiB}\noutput: {kafka: {brokers: ['127.0.0.1:9'], topic: lost}}\n",
    )?;
    put(&trouble.container("web")?.join("0.log"), &lines(40_000))?;
    trouble.agent.start()?;
    Ok(trouble)
}

/// An engine that must be there and is not, more cgroups than it may show, a collector that hangs.
fn without_means() -> Result<Trouble> {
    let mut trouble = Trouble::new(&format!(
        "docker: {{enabled: always, socket: '{{0}}/none'}}\nlogs: {{kubernetes: {{enabled: false}}}}\n\
         metrics: {{containers: {{most: 1}}}}\n{FILES}"
    ))?;
    let preload = Preload::build(trouble.scratch.path(), "scrape")?;
    let mut command = trouble.agent.command("run")?;
    // Prometheus waits for a second.
    command.env("TAFFRAIL_HTTP__COLLECTOR_TIMEOUT", "400ms");
    preload.give(&mut command);
    trouble.agent.start_by(command)?;
    trouble.kept.push(Box::new(preload));
    Ok(trouble)
}

/// Lines of containerd of a day that is long over.
fn lines(count: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for number in 0..count {
        let _ = writeln!(
            text,
            "2026-01-02T03:04:05.{number:09}Z stdout F line {number} of those that somebody printed"
        );
    }
    text
}

/// The pages of each; of the last, whose hanging collector is to be one of containers, without the node's.
fn targets(agents: &[&Agent]) -> Result<Vec<Target>> {
    let pages =
        [("taffrail", "/metrics"), ("cadvisor", "/metrics/cadvisor"), ("node-exporter", "/metrics/node")];
    let addresses: Vec<SocketAddr> = agents.iter().map(|agent| agent.address()).collect::<Result<_>>()?;
    let of = |address: &SocketAddr| pages.map(|(job, path)| Target::new(job, *address, path));
    let mut all: Vec<Target> = addresses.iter().flat_map(of).collect();
    all.pop();
    Ok(all)
}

/// Every alert that fires, with its annotations.
fn firing(prometheus: &Prometheus) -> Result<BTreeMap<String, Value>> {
    let alerts = prometheus.api("alerts")?["alerts"].take();
    let firing = alerts.as_array().context("no alerts")?.iter().filter(|alert| alert["state"] == "firing");
    let named = firing.filter_map(|alert| {
        Some((alert["labels"]["alertname"].as_str()?.to_owned(), alert["annotations"].clone()))
    });
    Ok(named.collect())
}

/// Waits until all that is provoked has fired at some moment; nothing may fire that is neither provoked nor known to.
fn all_fire(
    prometheus: &Prometheus,
    expected: &BTreeSet<String>,
    seen: &mut BTreeMap<String, Value>,
) -> Result<()> {
    let mut missing = Vec::new();
    let waited = until("every alert", || {
        seen.extend(firing(prometheus)?);
        missing = expected.iter().filter(|alert| !seen.contains_key(*alert)).cloned().collect();
        Ok(missing.is_empty())
    });
    waited.with_context(|| format!("not fired: {missing:?}"))
}

/// Every rule can be evaluated, and each recording whose inputs are there gives samples.
fn all_evaluate(prometheus: &Prometheus) -> Result<()> {
    let groups = prometheus.api("rules")?["groups"].take();
    for group in groups.as_array().context("no groups")? {
        for rule in group["rules"].as_array().context("no rules")? {
            ensure!(
                rule["health"] == "ok" && rule["lastError"].as_str().unwrap_or_default().is_empty(),
                "{rule}"
            );
        }
    }
    for name in names("recording.yaml", "record")? {
        let samples = prometheus.query(&format!("{{__name__=\"{name}\"}}"))?;
        let some = samples.as_array().is_some_and(|samples| !samples.is_empty());
        ensure!(some || NOT_EVERYWHERE.contains(&&*name), "{name} gives nothing");
    }
    let pod = prometheus.query("node_namespace_pod_container:container_memory_working_set_bytes")?;
    let labels = &pod[0]["metric"];
    let told = ["namespace", "pod", "container"].map(|label| labels[label].as_str().unwrap_or_default());
    assert_eq!(told, ["shop", "web", "main"], "{pod}");
    Ok(())
}

#[test]
fn every_rule_evaluates_and_every_alert_that_can_be_provoked_fires() -> Result<()> {
    let not_provoked: BTreeSet<String> = NOT_PROVOKED.iter().map(|(alert, _)| (*alert).to_owned()).collect();
    let all = names("alerts.yaml", "alert")?;
    ensure!(not_provoked.is_subset(&all), "the list names alerts that are not there");
    let mut expected: BTreeSet<String> = all.difference(&not_provoked).cloned().collect();
    expected.remove("TaffrailDown");

    let engine = Docker::start()?;
    let scratch = tempfile::tempdir()?;
    let mut file_systems = with_file_systems()?;
    let mut containers = with_containers(&engine)?;
    let (mut logs, mut broker, mut means) = (with_logs()?, without_a_broker()?, without_means()?);
    let agents = [&file_systems, &containers, &logs, &broker, &means];
    let agents = agents.map(|trouble| &trouble.agent);
    let rules = hasty(scratch.path())?;
    let prometheus = Prometheus::start(&targets(&agents)?, &rules.each_ref().map(PathBuf::as_path))?;
    until("three scrapes of every page", || {
        Ok(prometheus.number("min(count_over_time(up[5m]))")?.is_some_and(|count| count >= 3.0))
    })?;
    put(&file_systems.path("turn"), b"")?;
    // It is killed: that is no success.
    let _ = engine.run(&["--memory", "16m", "--memory-swap", "16m", IMAGE, "tail", "/dev/zero"]);
    befall(&logs)?;
    intrude(&engine)?;
    let preload = means.kept[0].downcast_ref::<Preload>().context("no preload")?;
    preload.hang_a_read()?;
    until("a scrape that hangs", || preload.hangs())?;

    let mut seen = BTreeMap::new();
    all_fire(&prometheus, &expected, &mut seen)?;
    all_evaluate(&prometheus)?;
    preload.release()?;
    means.agent.kill()?;
    all_fire(&prometheus, &BTreeSet::from(["TaffrailDown".to_owned()]), &mut seen)?;
    for (alert, annotations) in &seen {
        ensure!(!annotations.to_string().contains("error expanding"), "{alert}: {annotations}");
    }
    file_systems.kept.clear();
    for trouble in [&mut file_systems, &mut containers, &mut logs, &mut broker] {
        trouble.agent.stop()?;
    }
    Ok(())
}
