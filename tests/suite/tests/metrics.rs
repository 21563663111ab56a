//! The machine's metrics: beside a real node_exporter and kubelet, in a real Prometheus, and of a real engine's containers
//! of which is known what they do.
//!
//! Every difference to node_exporter and kubelet is in a table here with its reason; another one fails the test.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{
    Agent, Exposition, Round, Series, agree, is_explained, is_page_explained, until, until_within,
};
use taffrail_parts::docker::{Docker, IMAGE};
use taffrail_parts::node::{self, Node, NodeOptions};
use taffrail_parts::prometheus::check_metrics;
use taffrail_parts::{KUBE_PROMETHEUS, NodeExporter, Prometheus, Target, packages};

/// The defaults of newer versions, which old ones have to be told.
const NEWER_DEFAULTS: [&str; 2] = [
    r"--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
    "--collector.netstat.fields=^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$",
];

const NEWER: &str = "newer than the node_exporter 1.5 of Debian 12";
const PROGRAM: &str = "of the program itself, which is another here";
const NO_COLLECTOR: &str = "no panel or rule of node-mixin asks for it, and it has no collector here";

/// Families, by the beginnings of their names, that only the agent has.
const ONLY_HERE: [(&str, &str); 7] = [
    ("process_threads", "told by other client libraries"),
    ("node_filesystem_mount_info", NEWER),
    ("node_kernel_hung_tasks_total", NEWER),
    ("node_softnet_backlog_len", NEWER),
    ("node_softnet_cpu_collision_total", NEWER),
    ("node_softnet_flow_limit_count_total", NEWER),
    ("node_softnet_received_rps_total", NEWER),
];

/// Families, by the beginnings of their names, that only node_exporter has.
const ONLY_THERE: [(&str, &str); 14] = [
    ("go_", PROGRAM),
    ("promhttp_", PROGRAM),
    ("node_bcache_", NO_COLLECTOR),
    ("node_fibrechannel_", NO_COLLECTOR),
    ("node_infiniband_", NO_COLLECTOR),
    ("node_ipvs_", NO_COLLECTOR),
    ("node_nfs_", NO_COLLECTOR),
    ("node_nfsd_", NO_COLLECTOR),
    ("node_nvme_", NO_COLLECTOR),
    ("node_rapl_", NO_COLLECTOR),
    ("node_selinux_", NO_COLLECTOR),
    ("node_tape_", NO_COLLECTOR),
    ("node_xfs_", NO_COLLECTOR),
    ("node_zfs_", NO_COLLECTOR),
];

/// Collectors, as `node_scrape_collector_*` names them, that only one of the two has.
const COLLECTORS: [(&str, &str); 16] = [
    ("process", "what node_exporter tells of its process comes from no collector"),
    ("build", "what node_exporter tells of its build comes from no collector"),
    ("kernel_hung", NEWER),
    ("bcache", NO_COLLECTOR),
    ("fibrechannel", NO_COLLECTOR),
    ("infiniband", NO_COLLECTOR),
    ("ipvs", NO_COLLECTOR),
    ("nfs", NO_COLLECTOR),
    ("nfsd", NO_COLLECTOR),
    ("nvme", NO_COLLECTOR),
    ("rapl", NO_COLLECTOR),
    ("selinux", NO_COLLECTOR),
    ("systemd", "on in Debian's build only"),
    ("tapestats", NO_COLLECTOR),
    ("xfs", NO_COLLECTOR),
    ("zfs", NO_COLLECTOR),
];

/// Labels that only one of the two has: family (by the beginning of its name), label, reason.
const LABELS: [(&str, &str, &str); 8] = [
    ("node_disk_info", "rotational", NEWER),
    ("node_filesystem_", "device_error", NEWER),
    ("node_network_info", "adminstate", NEWER),
    ("node_exporter_build_info", "tags", NEWER),
    ("node_exporter_build_info", "branch", "each tells of its own build"),
    ("node_exporter_build_info", "goversion", "each tells of its own build"),
    ("node_exporter_build_info", "revision", "each tells of its own build"),
    ("node_exporter_build_info", "version", "each tells of its own build"),
];

/// Families whose values are each program's own.
const VALUES: [(&str, &str); 2] = [
    ("node_scrape_collector_duration_seconds", "how long each of the two has taken"),
    ("process_", "each of the two tells of its own process"),
];

/// Families that may be more or less there by so much.
const ROOM: [(&str, f64, &str); 1] = [(
    "node_filefd_allocated",
    16.0,
    "node_exporter has the files of its other collectors open while it reads",
)];

/// Flags that may be set here and not there.
const ONLY_SET_HERE: [(&str, &str); 1] = [(
    "node_scrape_collector_success",
    "a collector of something that the machine does not have fails there only",
)];

/// A running agent without a node of Kubernetes.
fn agent(scratch: &Path, docker: &str) -> Result<Agent> {
    agent_with(scratch, docker, "{enabled: false}", "metrics: {containers: {disk_seconds: 1}}")
}

fn agent_with(scratch: &Path, docker: &str, kubernetes: &str, more: &str) -> Result<Agent> {
    let mut agent = Agent::new(&format!(
        "docker: {docker}\nlogs: {{kubernetes: {kubernetes}}}\noutput: {{file: {{directory: {}}}}}\n{more}\n",
        scratch.join("records").display()
    ))?;
    agent.start()?;
    Ok(agent)
}

/// A page without the labels that only one of the two has.
fn comparable(page: &str) -> Result<Exposition> {
    let read = Exposition::parse(page)?;
    let without = |mut series: Series| {
        for (family, label, _) in LABELS {
            if series.name.starts_with(family) {
                series.labels.remove(label);
            }
        }
        series
    };
    let samples = read.samples.into_iter().map(|(series, value)| (without(series), value)).collect();
    Ok(Exposition { samples, ..read })
}

fn in_table(name: &str, table: &[(&str, &str)]) -> bool {
    table.iter().any(|(beginning, _)| name.starts_with(beginning))
}

fn one_sided(series: &Series, table: &[(&str, &str)]) -> bool {
    in_table(&series.name, table)
        || series.name.starts_with("node_scrape_collector_")
            && COLLECTORS.iter().any(|(collector, _)| series.label("collector") == *collector)
}

fn round(agent: &Agent, exporter: &NodeExporter) -> Result<Round> {
    let before = comparable(&agent.page("/metrics/node")?)?;
    let theirs = comparable(&exporter.scrape()?)?;
    // Within a second of another scrape the agent gives the same answer.
    std::thread::sleep(Duration::from_millis(1050));
    Ok(Round { before, theirs, after: comparable(&agent.page("/metrics/node")?)? })
}

/// What speaks against a series, if anything does.
fn complaint(round: &Round, series: &Series) -> Option<String> {
    match round.values(series) {
        (Some(before), Some(theirs), Some(after)) => {
            let (least, most) = (before.min(after), before.max(after));
            // Sums of floating point numbers, and clocks that tick in hundredths.
            let room = (theirs.abs() * 1e-9).max(if theirs.fract() == 0.0 { 0.0 } else { 0.011 });
            let more =
                ROOM.iter().find(|(family, ..)| series.name == *family).map_or(0.0, |(_, more, _)| *more);
            let room = room.max(more);
            let flag = (before, theirs, after) == (1.0, 0.0, 1.0) && in_table(&series.name, &ONLY_SET_HERE);
            let within = flag || theirs >= least - room && theirs <= most + room;
            (!within && !in_table(&series.name, &VALUES))
                .then(|| format!("{before} here, then {theirs} there, then {after} here"))
        }
        (_, None, _) if one_sided(series, &ONLY_HERE) => None,
        (None, Some(_), None) if one_sided(series, &ONLY_THERE) => None,
        (_, None, _) => Some("only here".to_owned()),
        _ => Some("only there".to_owned()),
    }
}

#[test]
fn the_node_has_the_series_types_and_values_of_node_exporter() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut agent = agent(scratch.path(), "{enabled: never}")?;
    let exporter = NodeExporter::start(&[&KUBE_PROMETHEUS[..], &NEWER_DEFAULTS].concat())?;
    let agreed = agree(|| round(&agent, &exporter), complaint)?;
    agent.stop()?;
    let compared = agreed.iter().filter(|series| series.name.starts_with("node_")).count();
    assert!(compared > 300, "only {compared} series");
    Ok(())
}

#[test]
fn every_difference_to_a_node_exporter_as_debian_or_kube_prometheus_start_it_is_explained() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut agent = agent(scratch.path(), "{enabled: never}")?;
    for flags in [&[][..], &KUBE_PROMETHEUS] {
        let exporter = NodeExporter::start(flags)?;
        is_explained(&agent, "node", exporter.address()).with_context(|| format!("with {flags:?}"))?;
    }
    agent.stop()
}

/// What promtool says of names that the originals have given: beginning of the name, what is said, reason.
const NAMING: [(&str, &str, &str); 5] = [
    ("container_fs_inodes_total ", "_total", "cAdvisor's name"),
    ("node_memory_", "camelCase", "fields of /proc/meminfo as the kernel writes them"),
    ("node_netstat_", "camelCase", "fields of /proc/net/netstat and snmp as the kernel writes them"),
    ("node_entropy_", "base unit", "node_exporter tells bits"),
    ("container_memory_failcnt ", "_total", "cAdvisor's name"),
];

/// The engine's settings for an agent.
fn engine_at(engine: &Docker) -> String {
    format!("{{enabled: always, socket: {}}}", engine.socket().display())
}

/// The type that Prometheus was told of a family; in OpenMetrics, a counter's family is named without the ending.
fn told_type<'t>(metadata: &'t [Value], name: &str) -> Option<&'t str> {
    let family = |name: &str| metadata.iter().find(|told| told["metric"] == name);
    let told = family(name).or_else(|| family(name.strip_suffix("_total")?))?;
    told["type"].as_str()
}

#[test]
fn prometheus_takes_every_page_without_a_fault() -> Result<()> {
    /// Of each page, one every two seconds: two minutes.
    const SCRAPES: f64 = 60.0;
    let engine = Docker::start()?;
    let scratch = tempfile::tempdir()?;
    let mut agent = agent(scratch.path(), &engine_at(&engine))?;
    engine.run_detached(&["--name", "steady", IMAGE, "sleep", "600"])?;
    let pages = [("own", "/metrics"), ("containers", "/metrics/cadvisor"), ("node", "/metrics/node")];
    let address = agent.address()?;
    let target = |(job, path): &(&str, &str)| Target {
        interval: Duration::from_secs(2),
        ..Target::new(job, address, path)
    };
    let prometheus = Prometheus::start(&pages.iter().map(target).collect::<Vec<_>>(), &[])?;
    let mut number = 0;
    until_within(Duration::from_secs(600), "enough scrapes of each page", || {
        // Series come and go meanwhile.
        number += 1;
        engine.run(&["--rm", "--name", &format!("brief-{number}"), IMAGE, "sleep", "1"])?;
        let enough = |(job, _): &(&str, &str)| -> Result<bool> {
            let scrapes = prometheus.number(&format!("sum_over_time(up{{job=\"{job}\"}}[1h])"))?;
            Ok(scrapes.is_some_and(|scrapes| scrapes >= SCRAPES))
        };
        pages.iter().map(enough).try_fold(true, |all, enough| Ok(all && enough?))
    })?;

    let own = Exposition::parse(&prometheus.metrics()?)?;
    for fault in ["duplicate_timestamp", "out_of_bounds", "out_of_order"] {
        let name = format!("prometheus_target_scrapes_sample_{fault}_total");
        assert_eq!(own.value(&name, &[])?, Some(0.0), "{name}");
    }
    let log = fs::read_to_string(prometheus.log())?;
    let faults = ["Append failed", "Error on ingesting", "commit failed", "level=error"];
    let said: Vec<&str> =
        log.lines().filter(|line| faults.iter().any(|fault| line.contains(fault))).collect();
    assert_eq!(said, Vec::<&str>::new());

    for (job, path) in pages {
        let page = agent.page(path)?;
        let found = check_metrics(&page)?;
        let new: Vec<_> = found
            .iter()
            .filter(|line| {
                !NAMING.iter().any(|(name, words, _)| line.starts_with(name) && line.contains(words))
            })
            .collect();
        assert!(new.is_empty(), "promtool says of {path}: {new:#?}");

        let page = Exposition::parse(&page)?;
        let encoded = format!("%7Bjob%3D%22{job}%22%7D");
        let names = prometheus.api(&format!("label/__name__/values?match%5B%5D={encoded}"))?;
        let names: BTreeSet<&str> =
            names.as_array().context("no names")?.iter().filter_map(Value::as_str).collect();
        let metadata = prometheus.api(&format!("targets/metadata?match_target={encoded}"))?;
        let metadata = metadata.as_array().context("no metadata")?;
        for series in page.samples.keys() {
            ensure!(names.contains(&*series.name), "{} of {path} is not in Prometheus", series.name);
        }
        for (name, kind) in &page.types {
            let told = told_type(metadata, name).with_context(|| format!("no type of {name}"))?;
            // OpenMetrics has no counters whose names do not end so.
            let unnamed = kind == "counter" && !name.ends_with("_total");
            let expected = if kind == "untyped" || unnamed { "unknown" } else { kind };
            ensure!(told == expected, "{name} is a {kind} on {path} and a {told} in Prometheus");
        }
    }
    agent.stop()
}

/// Where the kernel keeps a controller's figures of a process: version 1's folder or version 2's.
fn control_group(process: &str, controller: &str) -> Result<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    let found = |wanted: &str, root: &str| {
        let mut lines = groups.lines().map(|line| line.splitn(3, ':'));
        let path = lines.find_map(|mut parts| {
            let listed = parts.nth(1)?;
            let path = parts.next()?;
            listed.split(',').any(|listed| listed == wanted).then(|| format!("{root}{path}"))
        });
        path.map(PathBuf::from).filter(|path| path.is_dir())
    };
    found(controller, &format!("/sys/fs/cgroup/{controller}"))
        .or_else(|| found("", "/sys/fs/cgroup"))
        .with_context(|| format!("no {controller} group of {process}"))
}

/// Bytes of page cache that the kernel would give up first.
fn inactive_file(process: &str) -> Result<f64> {
    let stat = fs::read_to_string(control_group(process, "memory")?.join("memory.stat"))?;
    let field = |name: &str| {
        stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok())
    };
    field("total_inactive_file").or_else(|| field("inactive_file")).context("no inactive_file")
}

/// Bytes that the kernel says a process's group has written to disks, if it says anything.
fn written(process: &str) -> Result<Option<f64>> {
    let group = control_group(process, "blkio").or_else(|_| control_group(process, "io"))?;
    let files = ["blkio.io_service_bytes_recursive", "blkio.throttle.io_service_bytes", "io.stat"];
    for text in files.iter().filter_map(|file| fs::read_to_string(group.join(file)).ok()) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let after_word = words.windows(2).filter(|pair| pair[0] == "Write").map(|pair| pair[1]);
        let in_word = words.iter().filter_map(|word| word.strip_prefix("wbytes="));
        let bytes: Vec<f64> = after_word.chain(in_word).filter_map(|number| number.parse().ok()).collect();
        if !bytes.is_empty() {
            return Ok(Some(bytes.iter().sum()));
        }
    }
    Ok(None)
}

fn process_of(engine: &Docker, container: &str) -> Result<String> {
    Ok(engine.output(&["inspect", "--format", "{{.State.Pid}}", container])?.trim().to_owned())
}

/// Runs a program of the machine, perhaps in the network of a process.
fn run(inside: Option<&str>, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("nsenter");
    let network = inside.map(|process| format!("--net=/proc/{process}/ns/net"));
    let output = command.args(network).arg("--").args(arguments).output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A cable between two containers, which ends with either of them and touches nothing else of the machine.
fn connect(left: &str, right: &str) -> Result<()> {
    packages::ensure(&[("ip", "iproute2"), ("nsenter", "util-linux")])?;
    run(
        None,
        &["ip", "link", "add", "aft", "netns", left, "type", "veth", "peer", "name", "fore", "netns", right],
    )?;
    for (process, device, address) in [(left, "aft", "198.18.0.1/30"), (right, "fore", "198.18.0.2/30")] {
        run(Some(process), &["ip", "address", "add", address, "dev", device])?;
        run(Some(process), &["ip", "link", "set", device, "up"])?;
    }
    Ok(())
}

/// What is told of containers now.
fn containers(agent: &Agent) -> Result<Exposition> {
    Exposition::parse(&agent.page("/metrics/cadvisor")?)
}

/// The value of a container's only series of this name; 0 while there is none.
fn of(page: &Exposition, container: &str, name: &str) -> Result<f64> {
    Ok(page.value(name, &[("name", container)])?.unwrap_or(0.0))
}

const MIB: f64 = 1048576.0;

#[test]
fn what_containers_do_is_what_is_told_of_them() -> Result<()> {
    let engine = Docker::start()?;
    let scratch = tempfile::tempdir()?;
    let mut agent = agent(scratch.path(), &engine_at(&engine))?;
    let start = |name: &str, options: &[&str], script: &str| {
        engine.run_detached(&[&["--name", name], options, &[IMAGE, "sh", "-c", script]].concat())
    };
    let volume = format!("{}:/data", scratch.path().display());
    // It goes on reading: some machines reclaim what nobody touches.
    let fill = "dd if=/dev/zero of=/data/file bs=1M count=24; cat /data/file >/dev/null; \
                dd if=/dev/zero of=/data/direct bs=1M count=8 oflag=direct; touch /data/done; \
                while sleep 1; do cat /data/file >/dev/null; done";
    start("throttled", &["--cpus", "0.2"], "while :; do :; done")?;
    start("caching", &["--memory", "64m", "--volume", &volume], fill)?;
    start(
        "hungry",
        &["--memory", "16m", "--memory-swap", "16m"],
        "for i in 1 2 3; do tail /dev/zero; done; sleep 600",
    )?;
    let serve = "mkdir /www; dd if=/dev/zero of=/www/file bs=1M count=16; httpd -f -p 9000 -h /www";
    let id = start("server", &[], serve)?;
    start("client", &[], "sleep 600")?;
    connect(&process_of(&engine, "client")?, &process_of(&engine, "server")?)?;

    is_throttled(&agent)?;
    has_a_cache(&agent, &engine, &scratch.path().join("done"))?;
    is_killed_three_times(&agent)?;
    exchange(&agent, &engine)?;
    has_written(&agent, &engine, scratch.path())?;

    let page = containers(&agent)?;
    let server: Vec<&Series> =
        page.samples.keys().filter(|series| series.label("id").ends_with(&id)).collect();
    ensure!(server.len() > 30, "only {} series of the server", server.len());
    for series in server {
        let told = ["name", "image", "container", "pod", "namespace"].map(|label| series.label(label));
        assert_eq!(told, ["server", IMAGE, "", "", ""], "{series:?}");
    }
    agent.stop()
}

fn is_throttled(agent: &Agent) -> Result<()> {
    let mut page = Exposition::default();
    until("throttled periods", || {
        page = containers(agent)?;
        Ok(of(&page, "throttled", "container_cpu_cfs_throttled_periods_total")? >= 20.0)
    })?;
    let of = |name: &str| of(&page, "throttled", name);
    assert_eq!(of("container_spec_cpu_quota")?, 20_000.0);
    assert_eq!(of("container_spec_cpu_period")?, 100_000.0);
    let (periods, throttled) =
        (of("container_cpu_cfs_periods_total")?, of("container_cpu_cfs_throttled_periods_total")?);
    ensure!(throttled <= periods, "{throttled} of {periods} periods");
    ensure!(of("container_cpu_cfs_throttled_seconds_total")? > 0.0);
    // 20 ms of each period, what the kernel lets through in slices, and the container's start.
    let used = of("container_cpu_usage_seconds_total")?;
    let (least, most) = (throttled * 0.02 * 0.5, periods * 0.02 * 1.5 + 0.3);
    ensure!(least < used && used < most, "{used} s used in {periods} periods, {throttled} of them throttled");
    Ok(())
}

fn has_a_cache(agent: &Agent, engine: &Docker, done: &Path) -> Result<()> {
    until("the files are written", || Ok(done.exists()))?;
    let process = process_of(engine, "caching")?;
    let mut told = String::new();
    let agrees = until("figures that agree with what was written", || {
        let before = inactive_file(&process)?;
        let page = containers(agent)?;
        let after = inactive_file(&process)?;
        let of = |name: &str| of(&page, "caching", name);
        let (usage, cache) = (of("container_memory_usage_bytes")?, of("container_memory_cache")?);
        let (set, rss) = (of("container_memory_working_set_bytes")?, of("container_memory_rss")?);
        let limit = of("container_spec_memory_limit_bytes")?;
        told = format!(
            "usage {usage}, cache {cache}, working set {set}, rss {rss}, limit {limit}, inactive {before}"
        );
        Ok(limit == 64.0 * MIB
            && (24.0 * MIB..25.0 * MIB).contains(&cache)
            && (cache..limit).contains(&usage)
            && rss < 2.0 * MIB
            && before == after
            && (set - (usage - before)).abs() < MIB / 4.0)
    });
    agrees.with_context(|| told.clone())?;

    let Some(kernel) = written(&process)? else {
        eprintln!("this kernel tells no writes of containers: not compared");
        return Ok(());
    };
    ensure!(kernel >= 8.0 * MIB, "the kernel has seen {kernel} bytes written");
    until("the writes", || {
        let page = containers(agent)?;
        let writes = page.samples.iter().filter(|(series, _)| {
            series.name == "container_fs_writes_bytes_total" && series.label("name") == "caching"
        });
        Ok(writes.map(|(_, bytes)| bytes).sum::<f64>() >= kernel)
    })
}

fn is_killed_three_times(agent: &Agent) -> Result<()> {
    let kills = || of(&containers(agent)?, "hungry", "container_oom_events_total");
    until("three kills", || Ok(kills()? >= 3.0))?;
    assert_eq!(kills()?, 3.0);
    assert_eq!(of(&containers(agent)?, "caching", "container_oom_events_total")?, 0.0);
    Ok(())
}

fn exchange(agent: &Agent, engine: &Docker) -> Result<()> {
    let fetch = ["exec", "client", "wget", "-q", "-O", "/dev/null", "http://198.18.0.2:9000/file"];
    until("the server answers", || Ok(engine.output(&fetch).is_ok()))?;
    let mut told = (0.0, 0.0);
    until("both ends tell the same", || {
        let page = containers(agent)?;
        told = (
            of(&page, "client", "container_network_receive_bytes_total")?,
            of(&page, "server", "container_network_transmit_bytes_total")?,
        );
        Ok(told.0 >= 16.0 * MIB && told.0 == told.1)
    })?;
    ensure!(told.0 < 16.0 * MIB * 1.05, "{} bytes received of a file of 16 MiB", told.0);
    let page = containers(agent)?;
    let client =
        page.value("container_network_receive_bytes_total", &[("name", "client"), ("interface", "aft")])?;
    ensure!(client.is_some(), "not under the interface's name");
    let asked = of(&page, "client", "container_network_transmit_bytes_total")?;
    ensure!(asked > 0.0 && asked < MIB, "{asked} bytes sent to ask for a file");
    assert_eq!(of(&page, "client", "container_network_receive_errors_total")?, 0.0);
    Ok(())
}

/// The server has a file of 16 MiB in its own layer; what the other has on a volume is not the container's.
fn has_written(agent: &Agent, engine: &Docker, scratch: &Path) -> Result<()> {
    until("what the server has written", || {
        Ok(of(&containers(agent)?, "server", "container_fs_usage_bytes")? >= 16.0 * MIB)
    })?;
    engine.output(&["exec", "server", "rm", "/www/file"])?;
    until("the file's removal", || {
        Ok((1.0..MIB).contains(&of(&containers(agent)?, "server", "container_fs_usage_bytes")?))
    })?;
    let page = containers(agent)?;
    assert!(of(&page, "caching", "container_fs_usage_bytes")? < MIB);
    let known = nix::sys::statvfs::statvfs(scratch)?;
    let size = known.blocks() as f64 * known.fragment_size() as f64;
    for labels in [[("name", "server")], [("id", "/")]] {
        let limits = page.samples.iter().filter(|(series, _)| {
            series.name == "container_fs_limit_bytes" && labels.iter().all(|(l, v)| series.label(l) == *v)
        });
        let devices: Vec<(&str, f64)> = limits.map(|(series, v)| (series.label("device"), *v)).collect();
        ensure!(
            devices.iter().any(|(device, v)| device.starts_with('/') && *v == size),
            "{devices:?}, not {size}"
        );
    }
    Ok(())
}

/// Families, by the beginnings of their names, that only kubelet has.
const ONLY_KUBELET: [(&str, &str); 4] = [
    ("container_cpu_load_average_10s", "always 0: kubelet does not read it"),
    ("container_cpu_load_d_average_10s", "always 0: kubelet does not read it"),
    ("container_tasks_state", "always 0: kubelet does not read it"),
    ("machine_nvm_", "always 0 without such memory"),
];

/// Families, by the beginnings of their names, that kubelet does not have.
const NOT_KUBELET: [(&str, &str); 8] = [
    ("container_fs_usage_bytes", "kubelet does not look at what containers of containerd have written"),
    ("container_fs_limit_bytes", "kubelet does not look at what containers of containerd have written"),
    ("container_fs_inodes_total", "kubelet does not look at what containers of containerd have written"),
    ("container_cpu_cfs_burst_", "newer than the cAdvisor in Kubernetes 1.34"),
    ("container_memory_file_dirty_bytes", "newer than the cAdvisor in Kubernetes 1.34"),
    ("container_memory_file_writeback_bytes", "newer than the cAdvisor in Kubernetes 1.34"),
    ("container_memory_workingset_refault_", "newer than the cAdvisor in Kubernetes 1.34"),
    ("container_ulimits_soft", "kubelet reads it for the first process that it finds, at times for none"),
];

/// Families whose values differ from kubelet's.
const NOT_KUBELETS: [(&str, &str); 2] = [
    ("container_last_seen", "the time of the scrape"),
    ("container_pressure_", "0 there beside cgroup version 1, although the kernel tells it"),
];

/// Families of which kubelet tells 0 for a pod, and the agent its containers' sum.
const ZERO_OF_PODS: [(&str, &str); 1] =
    [("container_memory_failures_total", "on cgroup version 1 kubelet leaves out what is in groups below")];

/// What kubelet tells of the pod and of the machine, or what the agent does.
fn of_pod(page: &str, pod: &str) -> Result<Exposition> {
    let mut page = Exposition::parse(page)?;
    let samples = std::mem::take(&mut page.samples).into_iter();
    let wanted =
        samples.filter(|(series, _)| series.label("pod") == pod || series.name.starts_with("machine_"));
    page.samples = wanted.collect();
    Ok(page)
}

/// The least and the most that the agent has told of each series.
type Seen = BTreeMap<Series, (f64, f64)>;

/// What speaks against each series of kubelet and of the agent.
fn complaints(seen: &Seen, theirs: &Exposition) -> Vec<(Series, String)> {
    let mut found = Vec::new();
    for (series, value) in &theirs.samples {
        let complaint = match seen.get(series) {
            None if in_table(&series.name, &ONLY_KUBELET) => continue,
            None => "only kubelet has it".to_owned(),
            Some(_) if in_table(&series.name, &NOT_KUBELETS) => continue,
            Some(_)
                if *value == 0.0
                    && series.label("name").is_empty()
                    && in_table(&series.name, &ZERO_OF_PODS) =>
            {
                continue;
            }
            Some((least, most)) => {
                // Kubelet tells whole seconds.
                let room =
                    if series.name == "container_start_time_seconds" { 2.0 } else { value.abs() * 1e-9 };
                if (least - room..=most + room).contains(value) {
                    continue;
                }
                format!("{value} there, {least} to {most} here")
            }
        };
        found.push((series.clone(), complaint));
    }
    let only_here = seen
        .keys()
        .filter(|series| !theirs.samples.contains_key(series) && !in_table(&series.name, &NOT_KUBELET));
    found.extend(only_here.map(|series| (series.clone(), "kubelet does not have it".to_owned())));
    found
}

#[test]
fn a_pod_has_the_series_types_and_values_of_kubelet() -> Result<()> {
    const ROUNDS: usize = 60;
    let node = Node::start(NodeOptions::default())?;
    let scratch = tempfile::tempdir()?;
    let (root, links) = (node.pod_logs(), node.container_logs());
    let kubernetes = format!("{{root: {}, links: {}}}", root.display(), links.display());
    let runtime = format!(
        "cri: {{socket: {}}}\nmetrics: {{rootfs: {}, containers: {{disk_seconds: 1}}}}",
        node.runtime().display(),
        node.root().display()
    );
    let mut agent = agent_with(scratch.path(), "{enabled: never}", &kubernetes, &runtime)?;
    // Some work, then rest: kubelet looks every ten seconds or so.
    let work = "dd if=/dev/zero of=/file bs=1M count=24; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 600";
    let mut pod = node::pod("measured", work);
    pod["spec"]["containers"][0]["resources"] = json!({ "limits": { "cpu": "500m", "memory": "64Mi" }, "requests": { "cpu": "100m", "memory": "32Mi" } });
    node.apply(&pod)?;
    node.wait_for_pod("default", "measured", "Running")?;

    let (mut seen, mut agreed) = (Seen::new(), BTreeSet::new());
    let (mut left, mut types) = (Vec::new(), Vec::new());
    let page = || containers(&agent);
    until("what the pod has written", || {
        let labels = [("pod", "measured"), ("container", "main")];
        Ok(page()?.value("container_fs_usage_bytes", &labels)?.is_some_and(|bytes| bytes >= 24.0 * MIB))
    })?;
    for round in 0..ROUNDS {
        let ours = of_pod(&agent.page("/metrics/cadvisor")?, "measured")?;
        for (series, value) in &ours.samples {
            let (least, most) = seen.entry(series.clone()).or_insert((*value, *value));
            (*least, *most) = (least.min(*value), most.max(*value));
        }
        let theirs = of_pod(&node.kubelet("/metrics/cadvisor")?, "measured")?;
        left = complaints(&seen, &theirs);
        let wrong: BTreeSet<&Series> = left.iter().map(|(series, _)| series).collect();
        agreed.extend(theirs.samples.keys().filter(|series| !wrong.contains(series)).cloned());
        left.retain(|(series, _)| !agreed.contains(series));
        types = ours
            .types
            .iter()
            .filter(|(name, kind)| theirs.types.get(*name).is_some_and(|there| there != *kind))
            .map(|(name, kind)| format!("{name} is no {kind} there"))
            .collect();
        let whole = theirs.samples.keys().any(|series| series.label("container") == "main");
        if round > 5 && whole && left.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1050));
    }
    let saved = scratch.path().join("kubelet.txt");
    is_page_explained(&agent, "container", &saved, || node.kubelet("/metrics/cadvisor"))?;
    agent.stop()?;
    let left: Vec<String> = left
        .iter()
        .map(|(series, complaint)| format!("{} {:?}: {complaint}", series.name, series.labels))
        .collect();
    ensure!(left.is_empty(), "after {ROUNDS} rounds:\n{}", left.join("\n"));
    assert_eq!(types, Vec::<String>::new());
    assert!(agreed.len() > 100, "only {} series", agreed.len());
    Ok(())
}
