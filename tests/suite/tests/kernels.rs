//! The machine's metrics on real kernels with cgroups of version 2 only: containers of known load in a virtual machine,
//! looked at by an agent beside them.
//!
//! The scripts in `guest/` say what is done there. What the pages have to show follows from that, not from the files that
//! the agent reads.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use support::{Exposition, Series};
use taffrail_parts::vm::End;
use taffrail_parts::{Kernel, Vm};

const MIB: f64 = 1_048_576.0;

/// A machine that has been through a script.
struct Guest {
    kernel: Kernel,
    end: End,
    facts: BTreeMap<String, String>,
}

impl Guest {
    fn run(kernel: Kernel, script: &str) -> Result<Self> {
        Self::run_with(kernel, script, "")
    }

    /// With an option on the kernel's command line.
    fn run_with(kernel: Kernel, script: &str, option: &str) -> Result<Self> {
        let vm = Vm::new(kernel, script)
            .option(option)
            .text("/lib.sh", include_str!("../guest/lib.sh"))
            .program(&taffrail_suite::program()?)
            .disk(128 << 20)
            .disk(64 << 20);
        let end = vm.run()?;
        let facts = end.told("facts")?.lines().filter_map(|line| line.split_once(' '));
        let facts = facts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Self { kernel, end, facts })
    }

    fn fact(&self, name: &str) -> Result<&str> {
        Ok(self.facts.get(name).with_context(|| format!("no {name} among {:?}", self.facts))?)
    }

    /// Seconds since the start of the machine.
    fn time(&self, name: &str) -> Result<f64> {
        Ok(self.fact(name)?.parse()?)
    }

    fn page(&self, name: &str) -> Result<Page> {
        let read = Exposition::parse(self.end.told(name)?);
        Ok(Page { name: name.to_owned(), read: read.with_context(|| format!("in the page {name}"))? })
    }

    /// The path of a container's cgroup, by its name in the script.
    fn path<'a>(&'a self, who: &'a str) -> Result<&'a str> {
        if who.starts_with('/') { Ok(who) } else { self.fact(&format!("path-{who}")) }
    }

    /// Says each row that a page does not bear out.
    fn complaints(&self, page: &Page, rows: &[Row]) -> Result<Vec<String>> {
        let mut complaints = Vec::new();
        for row in rows {
            let path = self.path(row.who)?;
            let labels: Vec<(&str, &str)> =
                [("id", path)].into_iter().chain(row.labels.iter().copied()).collect();
            let value = page.read.value(row.family, &labels)?;
            let wrong = match (&row.expected, value) {
                (None, None) => false,
                (Some(range), Some(value)) => !range.contains(&value),
                _ => true,
            };
            if wrong {
                let Row { who, family, labels, expected } = row;
                complaints.push(format!(
                    "{}: {family} of {who} {labels:?} is {value:?}, not {expected:?}",
                    page.name
                ));
            }
        }
        Ok(complaints)
    }

    /// Fails with everything that is wrong.
    fn ensure_none(&self, complaints: &[String]) -> Result<()> {
        if complaints.is_empty() {
            return Ok(());
        }
        let log = self.end.told("log").unwrap_or_default();
        bail!("on Linux {}:\n{}\nthe agent's log:\n{log}", self.kernel.series(), complaints.join("\n"))
    }
}

/// A page as a guest has told it.
struct Page {
    name: String,
    read: Exposition,
}

impl Page {
    fn of<'p>(&'p self, path: &'p str) -> impl Iterator<Item = (&'p Series, f64)> {
        self.read
            .samples
            .iter()
            .filter(move |(series, _)| series.label("id") == path)
            .map(|(series, value)| (series, *value))
    }
}

/// What a series has to be; missing without an expectation.
struct Row {
    who: &'static str,
    family: &'static str,
    labels: &'static [(&'static str, &'static str)],
    expected: Option<RangeInclusive<f64>>,
}

fn row(
    who: &'static str,
    family: &'static str,
    labels: &'static [(&'static str, &'static str)],
    expected: RangeInclusive<f64>,
) -> Row {
    Row { who, family, labels, expected: Some(expected) }
}

fn is(who: &'static str, family: &'static str, expected: f64) -> Row {
    row(who, family, &[], expected..=expected)
}

fn from(who: &'static str, family: &'static str, expected: RangeInclusive<f64>) -> Row {
    row(who, family, &[], expected)
}

fn missing(who: &'static str, family: &'static str) -> Row {
    Row { who, family, labels: &[], expected: None }
}

/// What was done before both looks; `seconds` have passed since the busy one began, at the least and at the most.
fn always(seconds: &RangeInclusive<f64>) -> Vec<Row> {
    let (least, most) = (*seconds.start(), *seconds.end());
    let file_read = 16.0 * MIB..=16.5 * MIB;
    let (reads, writes) = ("container_fs_reads_total", "container_fs_writes_total");
    let (received, sent) =
        ("container_network_receive_bytes_total", "container_network_transmit_bytes_total");
    vec![
        // A fifth of a CPU: periods of 100 ms, throttled in nearly all, for 80 ms of each.
        is("busy", "container_spec_cpu_period", 100_000.0),
        is("busy", "container_spec_cpu_quota", 20_000.0),
        is("busy", "container_spec_cpu_shares", 998.0),
        from("busy", "container_cpu_usage_seconds_total", least * 0.12..=most * 0.2 + 0.2),
        from("busy", "container_cpu_user_seconds_total", least * 0.08..=most * 0.2 + 0.2),
        from("busy", "container_cpu_cfs_periods_total", least * 9.0 - 5.0..=most * 10.0 + 2.0),
        from("busy", "container_cpu_cfs_throttled_periods_total", least * 8.0 - 5.0..=most * 10.0 + 2.0),
        from("busy", "container_cpu_cfs_throttled_seconds_total", least * 0.6 - 0.5..=most * 0.9),
        from("busy", "container_pressure_cpu_waiting_seconds_total", least * 0.4..=most),
        missing("memory", "container_spec_cpu_quota"),
        missing("memory", "container_cpu_cfs_periods_total"),
        missing("memory", "container_cpu_cfs_throttled_seconds_total"),
        is("memory", "container_spec_memory_limit_bytes", 64.0 * MIB),
        is("memory", "container_spec_memory_reservation_limit_bytes", 4.0 * MIB),
        from("memory", "container_memory_cache", file_read.clone()),
        from("memory", "container_memory_rss", 8.0 * MIB..=9.0 * MIB),
        from("memory", "container_memory_usage_bytes", 24.0 * MIB..=27.0 * MIB),
        from("memory", "container_memory_max_usage_bytes", 24.0 * MIB..=32.0 * MIB),
        // A file that was read once is the first to go.
        from("memory", "container_memory_working_set_bytes", 8.0 * MIB..=11.0 * MIB),
        from("memory", "container_memory_total_inactive_file_bytes", 15.5 * MIB..=16.5 * MIB),
        is("memory", "container_memory_failcnt", 0.0),
        is("memory", "container_processes", 3.0),
        is("memory", "container_oom_events_total", 0.0),
        row("memory", "container_fs_reads_bytes_total", &[("device", "/dev/vdb")], file_read),
        row("io", "container_fs_reads_bytes_total", &[("device", "/dev/vdc")], 4.0 * MIB..=4.0 * MIB),
        row("io", reads, &[("device", "/dev/vdc")], 64.0..=64.0),
        row(
            "io",
            "container_blkio_device_usage_total",
            &[("device", "/dev/vdc"), ("major", "254"), ("minor", "32"), ("operation", "Read")],
            4.0 * MIB..=4.0 * MIB,
        ),
        row("io", "container_fs_writes_bytes_total", &[("device", "/dev/vdb")], 2.0 * MIB..=2.25 * MIB),
        row("io", writes, &[("device", "/dev/vdb")], 2.0..=600.0),
        is("reclaim", "container_spec_memory_limit_bytes", 16.0 * MIB),
        from("reclaim", "container_memory_usage_bytes", 8.0 * MIB..=16.0 * MIB),
        from("reclaim", "container_memory_max_usage_bytes", 15.0 * MIB..=16.0 * MIB),
        // 32 of 48 MiB, in pages.
        from("reclaim", "container_memory_pgsteal_total", 8192.0..=13000.0),
        from("reclaim", "container_memory_pgscan_total", 8192.0..=100_000.0),
        from("reclaim", "container_memory_failcnt", 1.0..=10_000.0),
        from("reclaim", "container_memory_events_max_total", 1.0..=10_000.0),
        is("reclaim", "container_oom_events_total", 0.0),
        row("reclaim", "container_fs_reads_bytes_total", &[("device", "/dev/vdb")], 48.0 * MIB..=50.0 * MIB),
        // The pod's limit kills in a container without one; the sum is seen above both.
        is("idle", "container_oom_events_total", 1.0),
        is("idle", "container_spec_memory_limit_bytes", 0.0),
        is("io", "container_oom_events_total", 0.0),
        is("guaranteed", "container_oom_events_total", 1.0),
        is("guaranteed", "container_spec_memory_limit_bytes", 32.0 * MIB),
        is("/kubepods.slice", "container_oom_events_total", 1.0),
        is("burstable", "container_oom_events_total", 0.0),
        is("pids", "container_processes", 7.0),
        is("pids", "container_threads", 7.0),
        is("pids", "container_threads_max", 32.0),
        is("pids", "container_file_descriptors", 22.0),
        is("pids", "container_sockets", 1.0),
        is("burstable", "container_processes", 0.0),
        is("burstable", "container_threads", 5.0),
        row("huge", "container_hugetlb_usage_bytes", &[("pagesize", "2MB")], 4.0 * MIB..=4.0 * MIB),
        row("huge", "container_hugetlb_failcnt", &[("pagesize", "2MB")], 1.0..=2.0),
        row("idle", "container_hugetlb_usage_bytes", &[("pagesize", "2MB")], 0.0..=0.0),
        // Told of the sandbox only.
        missing("busy", received),
        missing("burstable", sent),
        row("/", "container_cpu_usage_seconds_total", &[("cpu", "total")], least * 0.12..=most * 2.0 + 30.0),
        // The root has no such files.
        missing("/", "container_oom_events_total"),
        missing("/", "container_memory_max_usage_bytes"),
        missing("/", "container_spec_memory_reservation_limit_bytes"),
        missing("/", "container_threads"),
    ]
}

/// The parts of `io`, `oom` and the sandbox's network that grow between the looks, `times` of so many.
fn grown(writes: f64, kills: f64, pings: f64) -> Vec<Row> {
    // Neighbours ask for each other now and then, in 42 bytes.
    let passed = pings * 1042.0..=pings * 1042.0 + 20.0 * 42.0;
    let (written, moved) = ("container_fs_writes_bytes_total", "container_blkio_device_usage_total");
    let bytes = writes * 65_536.0;
    vec![
        row("io", written, &[("device", "/dev/vdc")], bytes..=bytes),
        row("io", "container_fs_writes_total", &[("device", "/dev/vdc")], writes..=writes),
        row("io", moved, &[("device", "/dev/vdc"), ("operation", "Write")], bytes..=bytes),
        row("guaranteed", written, &[("device", "/dev/vdc")], bytes..=bytes),
        is("oom", "container_oom_events_total", kills),
        row("sandbox", "container_network_receive_bytes_total", &[("interface", "eth0")], passed.clone()),
        row("sandbox", "container_network_transmit_bytes_total", &[("interface", "eth0")], passed.clone()),
        row(
            "sandbox",
            "container_network_receive_packets_total",
            &[("interface", "eth0")],
            pings..=pings + 20.0,
        ),
        row("sandbox", "container_network_transmit_errors_total", &[("interface", "eth0")], 0.0..=0.0),
        row("/", "container_network_receive_bytes_total", &[("interface", "pair0")], passed),
    ]
}

/// What those that ended between the looks leave, which each burned a second of CPU time or, where ticks were late, more:
/// what the kernel said in the end.
fn ended(guest: &Guest) -> Result<Vec<Row>> {
    let burned = |name: &str| -> Result<RangeInclusive<f64>> {
        let seconds = guest.fact(name)?.parse::<f64>()? / 1e6;
        ensure!((0.9..=5.0).contains(&seconds), "{name} is {seconds}");
        Ok(seconds - 1e-6..=seconds + 1e-6)
    };
    Ok(vec![
        from("dying", "container_cpu_usage_seconds_total", burned("dying-cpu")?),
        is("dying", "container_oom_events_total", 0.0),
        from("brief", "container_cpu_usage_seconds_total", burned("brief-cpu")?),
        is("brief", "container_oom_events_total", 1.0),
        from("brief", "container_cpu_cfs_periods_total", 15.0..=80.0),
        from("brief", "container_cpu_cfs_throttled_periods_total", 8.0..=60.0),
        from("brief", "container_cpu_cfs_throttled_seconds_total", 0.4..=6.0),
        // What does not count has no meaning any more.
        missing("brief", "container_memory_usage_bytes"),
        missing("dying", "container_processes"),
        missing("dying", "container_spec_cpu_shares"),
    ])
}

/// What cannot be 0 after all this, whatever it is.
fn not_zero() -> Vec<Row> {
    let some = |who, family| from(who, family, f64::MIN_POSITIVE..=f64::MAX);
    vec![
        some("busy", "container_start_time_seconds"),
        some("busy", "container_memory_kernel_usage"),
        some("memory", "container_cpu_system_seconds_total"),
        some("memory", "container_pressure_io_waiting_seconds_total"),
        // At least the 8 MiB that were touched, unless huge pages made it a few.
        row(
            "memory",
            "container_memory_failures_total",
            &[("failure_type", "pgfault"), ("scope", "container")],
            100.0..=1e6,
        ),
        some("io", "container_pressure_io_waiting_seconds_total"),
        some("io", "container_pressure_io_stalled_seconds_total"),
        some("reclaim", "container_pressure_memory_waiting_seconds_total"),
        some("oom", "container_memory_failcnt"),
        some("guaranteed", "container_memory_failcnt"),
        some("/", "container_memory_usage_bytes"),
        some("/", "container_memory_working_set_bytes"),
        some("/", "container_memory_rss"),
        some("/", "container_spec_memory_limit_bytes"),
        some("/", "container_pressure_cpu_waiting_seconds_total"),
        some("/", "container_processes"),
        // These kernels do not say it.
        missing("huge", "container_hugetlb_max_usage_bytes"),
        missing("/", "container_memory_failcnt"),
        missing("/", "container_memory_events_max_total"),
    ]
}

/// Between the ends of what may have passed since a time of the script.
fn passed(guest: &Guest, since: &str, page: &str) -> Result<RangeInclusive<f64>> {
    let since = guest.time(since)?;
    Ok(guest.time(&format!("before-{page}"))? - since..=guest.time(&format!("after-{page}"))? - since)
}

/// Counters that are less in the second of two pages, or that are gone although their cgroup is not.
fn not_monotonic(first: &Page, second: &Page) -> Vec<String> {
    let is_counter =
        |series: &Series| first.read.types.get(&series.name).is_some_and(|kind| kind == "counter");
    let fell =
        first.read.samples.iter().filter(|(series, _)| is_counter(series)).filter_map(|(series, before)| {
            let after = second.read.samples.get(series);
            let fell = after.is_none_or(|after| after < before);
            fell.then(|| format!("{} of {:?} was {before} and is {after:?}", series.name, series.labels))
        });
    fell.collect()
}

/// The labels that kubelet's page has, of a container whose pod and name are known and of one that nobody has named.
fn ensure_labels(guest: &Guest, page: &Page) -> Result<()> {
    let cases = [
        ("busy", ["app", "1", "shop", "web-0"]),
        ("memory", ["cache", "2", "shop", "web-0"]),
        ("sandbox", ["", "0", "shop", "web-0"]),
        ("burstable", ["", "", "shop", "web-0"]),
        ("io", ["", "3", "", ""]),
        ("oom", ["", "5", "", ""]),
        ("/", ["", "", "", ""]),
    ];
    for (who, [container, digit, namespace, pod]) in cases {
        let (name, path) = (digit.repeat(64), guest.path(who)?);
        let labels = [
            ("container", container),
            ("id", path),
            ("image", ""),
            ("name", &name),
            ("namespace", namespace),
            ("pod", pod),
        ];
        let labels: BTreeMap<String, String> =
            labels.into_iter().map(|(label, value)| (label.to_owned(), value.to_owned())).collect();
        let series =
            page.of(path).map(|(series, _)| series).find(|series| series.name == "container_last_seen");
        ensure!(series.is_some_and(|series| series.labels == labels), "{who} has {series:?}, not {labels:?}");
    }
    Ok(())
}

/// What another agent shows with `compat: cadvisor` and `labels: cadvisor`.
fn compatible() -> Vec<Row> {
    vec![
        // Every cgroup, and 0 for what cAdvisor does not read.
        from("/docker", "container_cpu_usage_seconds_total", 0.01..=100.0),
        is("/", "container_memory_max_usage_bytes", 0.0),
        is("/", "container_memory_failcnt", 0.0),
        is("/", "container_spec_memory_reservation_limit_bytes", 0.0),
        is("oom", "container_oom_events_total", 4.0),
        is("memory", "container_spec_memory_limit_bytes", 64.0 * MIB),
        row("io", "container_fs_reads_total", &[("device", "/dev/vdc")], 64.0..=64.0),
        is("pids", "container_threads", 7.0),
        missing("memory", "container_cpu_cfs_periods_total"),
    ]
}

#[test]
fn containers_of_known_load_have_their_figures() -> Result<()> {
    for kernel in Kernel::EACH {
        let guest = Guest::run(kernel, include_str!("../guest/containers.sh"))?;
        let odd: Vec<&String> = guest
            .facts
            .keys()
            .filter(|name| name.starts_with("survived") || name.starts_with("no-"))
            .collect();
        ensure!(odd.is_empty(), "the machine did not do as it was told: {odd:?}");
        let (first, second) = (guest.page("first")?, guest.page("second")?);
        let mut complaints = guest.complaints(&first, &always(&passed(&guest, "busy-since", "first")?))?;
        complaints.extend(guest.complaints(&first, &grown(128.0, 3.0, 20.0))?);
        complaints.extend(guest.complaints(&second, &always(&passed(&guest, "busy-since", "second")?))?);
        complaints.extend(guest.complaints(&second, &grown(144.0, 4.0, 30.0))?);
        complaints.extend(guest.complaints(&second, &ended(&guest)?)?);
        complaints.extend(guest.complaints(&second, &not_zero())?);
        complaints.extend(not_monotonic(&first, &second));
        complaints.extend(guest.complaints(&guest.page("compat")?, &compatible())?);
        guest.ensure_none(&complaints)?;
        ensure_labels(&guest, &first)?;
        ensure_labels(&guest, &second)?;
        ensure_node(&guest)?;
        // It copes without an engine and a runtime, and says so.
        for said in
            ["cgroups            version 2", "none: /var/run/docker.sock is not there", "no CRI runtime"]
        {
            ensure!(
                guest.end.told("check")?.contains(said),
                "{said:?} is not in {}",
                guest.end.told("check")?
            );
        }
        let log = guest.end.told("log")?;
        ensure!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    }
    Ok(())
}

/// The node beside them: families, and figures that are known.
fn ensure_node(guest: &Guest) -> Result<()> {
    let (first, second) = (guest.page("node-first")?, guest.page("node-second")?);
    let value = |family: &str, labels: &[(&str, &str)]| -> Result<f64> {
        second.read.value(family, labels)?.with_context(|| format!("no {family} with {labels:?}"))
    };
    let release = value("node_uname_info", &[("release", guest.end.told("release")?.trim())])?;
    let up = value("node_time_seconds", &[])? - value("node_boot_time_seconds", &[])?;
    let disk = value("node_filesystem_size_bytes", &[("mountpoint", "/mnt"), ("fstype", "ext4")])?;
    let expected = [
        ("release", release, 1.0..=1.0),
        ("up", up, guest.time("before-node-second")? - 1.5..=guest.time("after-node-second")? + 1.5),
        ("disk", disk, 110.0 * MIB..=128.0 * MIB),
        ("memory", value("node_memory_MemTotal_bytes", &[])?, 600.0 * MIB..=768.0 * MIB),
        ("huge pages", value("node_memory_HugePages_Total", &[])?, 4.0..=4.0),
        ("free huge pages", value("node_memory_HugePages_Free", &[])?, 2.0..=2.0),
        // 48 MiB for reclaim and 16 for memory; 64 MiB of both files before.
        ("read", value("node_disk_read_bytes_total", &[("device", "vdb")])?, 64.0 * MIB..=72.0 * MIB),
        ("written", value("node_disk_written_bytes_total", &[("device", "vdc")])?, 9.0 * MIB..=9.0 * MIB),
        ("kills", value("node_vmstat_oom_kill", &[])?, 6.0..=6.0),
        ("stalls", value("node_pressure_memory_waiting_seconds_total", &[])?, 0.001..=60.0),
        ("waits", value("node_pressure_cpu_waiting_seconds_total", &[])?, 0.1..=60.0),
        ("io waits", value("node_pressure_io_waiting_seconds_total", &[])?, 0.001..=60.0),
        (
            "network",
            value("node_network_receive_bytes_total", &[("device", "pair0")])?,
            30.0 * 1042.0..=30.0 * 1042.0 + 840.0,
        ),
    ];
    let wrong = expected.iter().filter(|(_, value, range)| !range.contains(value));
    let mut complaints: Vec<String> =
        wrong.map(|(what, value, range)| format!("the node's {what}: {value}, not {range:?}")).collect();
    complaints.extend(not_monotonic(&first, &second));
    let cpus: std::collections::BTreeSet<&str> = second
        .read
        .samples
        .keys()
        .filter(|series| series.name == "node_cpu_seconds_total")
        .map(|series| series.label("cpu"))
        .collect();
    ensure!(cpus.into_iter().eq(["0", "1"]), "CPUs");
    for (series, value) in &second.read.samples {
        if series.name == "node_scrape_collector_success" && *value == 0.0 {
            complaints.push(format!("{:?} failed", series.labels));
        }
    }
    guest.ensure_none(&complaints)
}

/// What the deep container of `faults.sh` is called: bytes that are no text are shown by their numbers, the backslash is
/// doubled, and a slash at the end says so.
fn deep() -> String {
    let levels: String = (2..20).map(|level| format!("/level-{level}")).collect();
    format!("/qu\"o\\\\te \t\u{fc}\\xff\\xfe{levels}/docker-{:064}.scope/", 2)
}

/// Cgroups that lack something have all the rest.
fn lacking() -> Vec<Row> {
    let some = |who, family| from(who, family, f64::MIN_POSITIVE..=f64::MAX);
    vec![
        is("threaded", "container_processes", 1.0),
        is("frozen", "container_processes", 1.0),
        some("frozen", "container_cpu_usage_seconds_total"),
        is("uncounted", "container_processes", 1.0),
        some("uncounted", "container_memory_usage_bytes"),
        missing("uncounted", "container_pressure_cpu_waiting_seconds_total"),
        missing("uncounted", "container_pressure_memory_waiting_seconds_total"),
        missing("uncounted", "container_pressure_io_stalled_seconds_total"),
        some("bare", "container_cpu_usage_seconds_total"),
        is("bare", "container_processes", 1.0),
        missing("bare", "container_threads"),
        missing("bare", "container_memory_usage_bytes"),
        missing("bare", "container_memory_working_set_bytes"),
        missing("bare", "container_oom_events_total"),
        missing("bare", "container_spec_memory_limit_bytes"),
        missing("bare", "container_fs_reads_bytes_total"),
    ]
}

/// What every page has to be, whatever happens to the cgroups that it tells of.
fn sound(page: &Page) -> Vec<String> {
    let fault = |series: &Series, value: f64| match series.name.as_str() {
        "container_scrape_error" | "machine_scrape_error" => value != 0.0,
        "taffrail_scrape_collector_success" => value != 1.0,
        "taffrail_containers_read_errors_total" => {
            !["absent", "gone"].contains(&series.label("reason")) && value != 0.0
        }
        _ => value < 0.0 && !series.name.starts_with("container_ulimits"),
    };
    let faults = page.read.samples.iter().filter(|(series, value)| fault(series, **value));
    faults
        .map(|(series, value)| format!("{}: {} {:?} is {value}", page.name, series.name, series.labels))
        .collect()
}

/// The steady container's counters from one page to the next.
fn steady_falls(guest: &Guest, pages: &[Page]) -> Result<Vec<String>> {
    let path = guest.path("steady")?;
    let only = |page: &Page| {
        let samples = page.of(path).map(|(series, value)| (series.clone(), value)).collect();
        Page { name: page.name.clone(), read: Exposition { samples, types: page.read.types.clone() } }
    };
    let steady: Vec<Page> = pages.iter().map(only).collect();
    ensure!(steady.iter().all(|page| page.read.samples.len() > 20), "the steady one is not everywhere");
    Ok(steady.windows(2).flat_map(|pair| not_monotonic(&pair[0], &pair[1])).collect())
}

/// Containers of the churn that are shown as if they were there.
fn undead(page: &Page) -> Vec<String> {
    let id =
        |series: &Series| series.label("id").strip_prefix("/docker/").and_then(|id| id.parse::<u64>().ok());
    let gauges = page.read.samples.keys().filter(|series| series.name == "container_threads");
    let undead = gauges.filter(|series| id(series).is_some_and(|number| number >= 100));
    undead.map(|series| format!("{}: {} is shown as alive", page.name, series.label("id"))).collect()
}

/// Times of containers that began after somebody set the clock, and of the node.
fn clock_faults(guest: &Guest, name: &str, number: u64) -> Result<Vec<String>> {
    let (page, node) = (guest.page(name)?, guest.page(&format!("node-{name}"))?);
    let clock: f64 = guest.fact(&format!("clock-{name}"))?.parse()?;
    let path = format!("/docker/{number:064}");
    let of = |family: &str, id: &str| -> Result<f64> {
        page.read.value(family, &[("id", id)])?.with_context(|| format!("no {family} of {id} in {name}"))
    };
    let node = |family: &str| node.read.value(family, &[])?.with_context(|| format!("no {family}"));
    let up = node("node_time_seconds")? - node("node_boot_time_seconds")?;
    let known = [
        ("start", of("container_start_time_seconds", &path)?, clock - 30.0..=clock + 1.0),
        ("last look", of("container_last_seen", guest.path("steady")?)?, clock..=clock + 30.0),
        ("node's clock", node("node_time_seconds")?, clock..=clock + 30.0),
        (
            "node's age",
            up,
            guest.time(&format!("before-node-{name}"))? - 1.5
                ..=guest.time(&format!("after-node-{name}"))? + 1.5,
        ),
    ];
    let wrong = known.iter().filter(|(_, value, range)| !range.contains(value));
    Ok(wrong.map(|(what, value, range)| format!("{name}: the {what} is {value}, not {range:?}")).collect())
}

#[test]
fn vanishing_and_odd_cgroups_and_a_jumping_clock_leave_every_page_sound() -> Result<()> {
    const PAGES: [&str; 9] =
        ["first", "churn-1", "churn-2", "churn-3", "churn-4", "calm", "swift", "ahead", "back"];
    for kernel in Kernel::EACH {
        let guest = Guest::run(kernel, include_str!("../guest/faults.sh"))?;
        let pages = PAGES.map(|name| guest.page(name)).into_iter().collect::<Result<Vec<_>>>()?;
        let every = guest.page("every")?;
        let mut complaints: Vec<String> = pages.iter().chain([&every]).flat_map(sound).collect();
        complaints.extend(guest.complaints(&pages[0], &lacking())?);
        complaints.extend(steady_falls(&guest, &pages)?);
        complaints.extend(undead(&pages[5]));
        complaints.extend(clock_faults(&guest, "ahead", 31)?);
        complaints.extend(clock_faults(&guest, "back", 32)?);

        let deep = deep();
        let processes = |page: &Page, id: &str| page.read.value("container_processes", &[("id", id)]);
        ensure!(processes(&pages[0], &deep)? == Some(1.0), "{deep} is not on the first page");
        ensure!(processes(&every, &deep)? == Some(1.0), "{deep} is not on the page of all");
        let threads = format!("{}/threads", guest.path("threaded")?);
        ensure!(processes(&every, &threads)?.is_none(), "nobody can list the processes of {threads}");
        let usage = every.read.value("container_cpu_usage_seconds_total", &[("id", &threads)])?;
        ensure!(usage.is_some(), "{threads} is not shown");

        let descriptors = guest.time("descriptors-after")? - guest.time("descriptors-before")?;
        ensure!(guest.time("churned")? >= 5.0, "only {} came and went", guest.fact("churned")?);
        if descriptors > 12.0 {
            complaints.push(format!("{descriptors} more descriptors are open after the churn"));
        }
        // Who removes a cgroup may be faster than who reads it, now and then.
        let total = |number| {
            pages[6]
                .read
                .value("container_cpu_usage_seconds_total", &[("id", &format!("/docker/{number:064}"))])
        };
        let totals = (11..=20).map(total).collect::<Result<Vec<_>>>()?;
        if totals.iter().filter(|total| total.is_some_and(|seconds| seconds >= 0.9)).count() < 8 {
            complaints.push(format!("last totals of a second each are lost: {totals:?}"));
        }
        guest.ensure_none(&complaints)?;
    }
    Ok(())
}

#[test]
fn sessions_are_told_on_each_kernel_with_version_2_of_cgroups() -> Result<()> {
    for kernel in Kernel::EACH {
        let guest = Guest::run(kernel, include_str!("../guest/audit.sh"))?;
        let documents: Vec<Value> =
            guest.end.told("documents")?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let of = |mark: &str, action: &str| -> Vec<&Value> {
            let ends = |document: &&Value| {
                let args = document["process"]["args"].as_array();
                document["event"]["action"] == "session-ended"
                    && args.is_some_and(|args| args.last() == Some(&mark.into()))
            };
            let Some(end) = documents.iter().find(ends) else { return Vec::new() };
            let id = &end["audit"]["session"]["id"];
            let same = |document: &&Value| {
                document["audit"]["session"]["id"] == *id && document["event"]["action"] == action
            };
            // What was not confirmed when the agent was killed is there twice.
            let mut seen = BTreeSet::new();
            documents
                .iter()
                .filter(same)
                .filter(|document| seen.insert(document["event"]["id"].to_string()))
                .collect()
        };
        let mut complaints = Vec::new();
        for (mark, code, execs) in [("commands", 3, 2), ("leftover", 0, 2), ("away", 4, 2), ("after", 5, 1)] {
            let ended = of(mark, "session-ended");
            let end = ended.first().copied().cloned().unwrap_or_default();
            let session = &end["audit"]["session"];
            if session["complete"] != true
                || end["process"]["exit_code"] != code
                || of(mark, "exec").len() != execs
            {
                complaints.push(format!("{mark}: {} execs, {end}", of(mark, "exec").len()));
            }
        }
        let adopted = documents.iter().filter(|document| document["audit"]["session"]["adopted"] == true);
        let commands: Vec<&Value> = adopted.map(|document| &document["process"]["command_line"]).collect();
        if !commands.iter().any(|command| **command == "sh -c 'sleep 100; exit 1' old") {
            complaints.push(format!("who was there before is not adopted: {commands:?}"));
        }
        let (verified, sessions) = (guest.end.told("verify")?, guest.end.told("sessions")?);
        if guest.fact("verified")? != "0" || !sessions.contains("live") {
            complaints.push(format!("{verified}\n{sessions}"));
        }
        guest.ensure_none(&complaints)?;
    }
    Ok(())
}

/// What is wrong with the recording of the session in which something was read, shown and wrong.
fn recorded(guest: &Guest) -> Result<Option<String>> {
    let documents: Vec<Value> =
        guest.end.told("recorded")?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let is = |document: &&Value, action: &str| document["event"]["action"] == action;
    let end = documents.iter().find(|document| is(document, "session-ended")).context("no end")?;
    let mut parts: Vec<&Value> = documents.iter().filter(|document| is(document, "recorded")).collect();
    parts.sort_by_key(|part| part["audit"]["recording"]["first"].as_u64());
    let events = parts.iter().filter_map(|part| part["audit"]["recording"]["events"].as_array()).flatten();
    let mut all: BTreeMap<&str, String> = BTreeMap::new();
    for event in events {
        let code = event["code"].as_str().unwrap_or_default();
        all.entry(code).or_default().push_str(event["text"].as_str().unwrap_or_default());
    }
    let expected = [("e", "wrong\n"), ("i", "typed\n"), ("o", "shown\ntyped\n")];
    let is_same = all.iter().map(|(code, text)| (*code, text.as_str())).eq(expected);
    let is_well =
        is_same && end["audit"]["session"]["complete"] == true && guest.fact("recorded-code")? == "6";
    Ok((!is_well).then(|| format!("recorded: {all:?}, {end}, {:?}", guest.fact("attach-seconds"))))
}

/// Whether the kernel took all of the probe, and by far not at its limit: a million instructions of each program.
fn verified(guest: &Guest) -> Result<Option<String>> {
    let log = guest.end.told("log")?;
    let said = log.lines().find(|line| line.contains("has been verified by the kernel"));
    let said: Value = serde_json::from_str(said.context("the log says nothing of the kernel's verifier")?)?;
    let is_well = said["most"].as_u64().is_some_and(|most| (1..250_000).contains(&most))
        && !log.contains("\"trouble\"")
        && !log.contains("\"why\"");
    Ok((!is_well).then(|| format!("verified: {said}")))
}

#[test]
fn what_is_typed_and_shown_is_recorded_on_each_kernel() -> Result<()> {
    for kernel in Kernel::EACH {
        let guest = Guest::run(kernel, include_str!("../guest/recording.sh"))?;
        let mut complaints: Vec<String> = recorded(&guest)?.into_iter().collect();
        complaints.extend(verified(&guest)?);
        guest.ensure_none(&complaints)?;
    }
    Ok(())
}

#[test]
fn where_the_kernel_is_locked_down_the_next_tier_is_gone_by_and_the_reason_said() -> Result<()> {
    for kernel in Kernel::EACH {
        let guest = Guest::run_with(kernel, include_str!("../guest/locked.sh"), "lockdown=confidentiality")?;
        let (documents, checked) = (guest.end.told("documents")?, guest.end.told("check")?);
        let documents: Vec<Value> = documents.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let is_told = documents.iter().any(|document| {
            document["event"]["action"] == "session-ended" && document["process"]["exit_code"] == 3
        }) && documents
            .iter()
            .any(|document| document["process"]["args"] == json!(["sh", "-c", "sleep 1; exit 3", "locked"]));
        let log = guest.end.told("log")?;
        let is_said = log.contains("the audit goes by what is next best")
            && checked.contains("the kernel is locked down");
        let is_locked = guest.fact("lockdown")?.contains("[confidentiality]");
        let is_well = is_told && is_said && is_locked && guest.fact("ready")? == "0";
        let complaint = (!is_well).then(|| format!("{:?}\n{documents:#?}\n{checked}", guest.facts));
        guest.ensure_none(&complaint.into_iter().collect::<Vec<_>>())?;
    }
    Ok(())
}
