//! Every series of a cgroup: its name, what it means, and how it follows from the figures.
//!
//! Names, kinds and labels are cAdvisor's. Where cAdvisor shows a wrong or made-up value, the right one is shown or none;
//! [`Compat`] switches each of these places back.

use std::sync::LazyLock;

use taffrail_record::{Family, Kind, Labels};

use crate::config::Compat;
use crate::entry::{Entry, Scene};
use crate::figures::{DeviceIo, Pressure};
use crate::filesystems::{Filesystem, Space};
use crate::written::Written;

/// Takes one sample: labels beyond those of the cgroup, and the value.
pub(crate) type Emit<'a> = dyn FnMut(&Labels, f64) + 'a;

/// A family and how it is written.
pub(crate) struct Row {
    pub(crate) family: Family,
    pub(crate) write: fn(&Entry, &Scene<'_>, &mut Emit<'_>),
}

const fn row(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
    write: fn(&Entry, &Scene<'_>, &mut Emit<'_>),
) -> Row {
    Row { family: Family { name, kind, help, labels }, write }
}

macro_rules! labels {
    ($name:ident, $($label:literal = $value:literal),+) => {
        static $name: LazyLock<Labels> = LazyLock::new(|| Labels::new([$(($label, $value)),+]));
    };
}

labels!(TOTAL, "cpu" = "total");
labels!(FAULT_CONTAINER, "failure_type" = "pgfault", "scope" = "container");
labels!(FAULT_HIERARCHY, "failure_type" = "pgfault", "scope" = "hierarchy");
labels!(MAJOR_CONTAINER, "failure_type" = "pgmajfault", "scope" = "container");
labels!(MAJOR_HIERARCHY, "failure_type" = "pgmajfault", "scope" = "hierarchy");
labels!(OPEN_FILES, "ulimit" = "max_open_files");

/// One sample when the value is known; cAdvisor's 0 when it is not and that is wanted.
fn one(value: Option<f64>, emit: &mut Emit<'_>) {
    if let Some(value) = value {
        emit(&Labels::NONE, value);
    }
}

fn whole(value: Option<u64>, emit: &mut Emit<'_>) {
    one(value.map(|value| value as f64), emit);
}

/// As [`whole`], where cAdvisor shows 0 for what it does not read.
fn whole_or_zero(value: Option<u64>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
    whole(value.or((scene.compat == Compat::Cadvisor).then_some(0)), emit);
}

/// Figures of bandwidth control say something only where there is a quota.
fn if_limited(entry: &Entry, value: Option<f64>, emit: &mut Emit<'_>) {
    one(value.filter(|_| entry.figures.limits.quota.is_some()), emit);
}

fn each_device(
    entry: &Entry,
    scene: &Scene<'_>,
    emit: &mut Emit<'_>,
    value: impl Fn(&DeviceIo) -> Option<u64>,
) {
    for io in &entry.figures.io {
        if let (Some(value), Some(device)) = (value(io), scene.devices.get(io.device)) {
            emit(&device.labels, value as f64);
        }
    }
}

/// Figures of the machine's file systems, and of what a container has written to one.
fn space(
    entry: &Entry,
    scene: &Scene<'_>,
    emit: &mut Emit<'_>,
    of_machine: fn(Space) -> u64,
    of_container: fn(&Written) -> Option<u64>,
) {
    for filesystem in scene.filesystems.iter().filter(|_| entry.is_root()) {
        if let Some(space) = filesystem.space {
            emit(&filesystem.labels, of_machine(space) as f64);
        }
    }
    if let Some((written, value)) = entry.written.as_ref().and_then(|w| Some((w, of_container(w)?))) {
        emit(&written.labels, value as f64);
    }
}

/// What the devices of the machine's file systems have done; those that the cgroup itself tells of are left to it.
fn done(entry: &Entry, scene: &Scene<'_>, emit: &mut Emit<'_>, column: usize) {
    done_in(entry, scene, emit, column, 1.0);
}

/// As [`done`] in seconds. The kernel counts milliseconds, which cAdvisor takes for nanoseconds.
fn seconds_done(entry: &Entry, scene: &Scene<'_>, emit: &mut Emit<'_>, column: usize) {
    let unit = if scene.compat == Compat::Cadvisor { 1e9 } else { 1e3 };
    done_in(entry, scene, emit, column, unit);
}

fn done_in(entry: &Entry, scene: &Scene<'_>, emit: &mut Emit<'_>, column: usize, unit: f64) {
    let told = |filesystem: &Filesystem| {
        entry.figures.io.iter().any(|io| {
            let device = scene.devices.get(io.device);
            device.is_some_and(|device| device.labels.as_str() == filesystem.labels.as_str())
        })
    };
    for filesystem in scene.filesystems.iter().filter(|filesystem| entry.is_root() && !told(filesystem)) {
        if let Some(done) = &filesystem.done {
            let is_read = filesystem.is_usual || scene.compat == Compat::None;
            emit(&filesystem.labels, if is_read { done[column] as f64 / unit } else { 0.0 });
        }
    }
}

fn each_size(
    entry: &Entry,
    scene: &Scene<'_>,
    emit: &mut Emit<'_>,
    value: impl Fn(&crate::figures::Huge) -> Option<u64>,
) {
    for huge in &entry.figures.hugetlb {
        if let (Some(value), Some(labels)) = (value(huge), scene.huge.get(huge.size)) {
            emit(labels, value as f64);
        }
    }
}

fn each_interface(entry: &Entry, scene: &Scene<'_>, emit: &mut Emit<'_>, column: usize) {
    for interface in entry.interfaces(scene.networks) {
        emit(&interface.labels, interface.columns[column] as f64);
    }
}

fn stalled(entry: &Entry, resource: usize, value: impl Fn(Pressure) -> Option<f64>, emit: &mut Emit<'_>) {
    one(entry.figures.pressure[resource].and_then(value), emit);
}

const CPU: usize = 0;
const MEMORY: usize = 1;
const IO: usize = 2;

/// Columns of `/proc/diskstats` behind the name.
const READS: usize = 0;
const READS_MERGED: usize = 1;
const SECTORS_READ: usize = 2;
const READING: usize = 3;
const WRITES: usize = 4;
const WRITES_MERGED: usize = 5;
const SECTORS_WRITTEN: usize = 6;
const WRITING: usize = 7;
const IN_FLIGHT: usize = 8;
const BUSY: usize = 9;
const WAITED: usize = 10;

/// Columns of `/proc/net/dev`.
const RECEIVED: usize = 0;
const SENT: usize = 8;

use Kind::{Counter, Gauge};

/// Every family, in the order of the exposition.
pub(crate) static ROWS: &[Row] = &[
    row(
        "container_last_seen",
        Gauge,
        "When the cgroup was last seen, in seconds since the epoch.",
        &[],
        |entry, _, emit| {
            emit(&Labels::NONE, entry.seen);
        },
    ),
    row(
        "container_start_time_seconds",
        Gauge,
        "When the cgroup was made, in seconds since the epoch.",
        &[],
        |entry, _, emit| {
            one(entry.started, emit);
        },
    ),
    row(
        "container_spec_cpu_period",
        Gauge,
        "Period of CPU bandwidth control, in microseconds.",
        &[],
        |entry, _, emit| {
            whole(entry.figures.limits.period, emit);
        },
    ),
    row(
        "container_spec_cpu_quota",
        Gauge,
        "CPU time of each period, in microseconds; missing when unlimited.",
        &[],
        |entry, _, emit| {
            whole(entry.figures.limits.quota, emit);
        },
    ),
    row(
        "container_spec_cpu_shares",
        Gauge,
        "CPU weight as shares of cgroup v1, 2 to 262144.",
        &[],
        |entry, _, emit| {
            whole(entry.figures.limits.shares, emit);
        },
    ),
    row(
        "container_spec_memory_limit_bytes",
        Gauge,
        "Memory limit; 0 for none, of the machine its memory.",
        &[],
        |entry, scene, emit| {
            whole(scene.machine_memory.filter(|_| entry.is_root()).or(entry.figures.limits.memory), emit);
        },
    ),
    row(
        "container_spec_memory_swap_limit_bytes",
        Gauge,
        "Limit of swap (cgroup v1: of memory and swap); 0 for none, of the machine its swap.",
        &[],
        |entry, scene, emit| {
            whole(scene.machine_swap.filter(|_| entry.is_root()).or(entry.figures.limits.swap), emit);
        },
    ),
    row(
        "container_spec_memory_reservation_limit_bytes",
        Gauge,
        "Memory that is reserved; 0 for none.",
        &[],
        |entry, scene, emit| {
            whole_or_zero(entry.figures.limits.reservation, scene, emit);
        },
    ),
    row("container_cpu_usage_seconds_total", Counter, "CPU time used.", &["cpu"], |entry, scene, emit| {
        let cpu = &entry.figures.cpu;
        for (number, seconds) in cpu.each.iter().enumerate().filter(|(_, seconds)| **seconds > 0.0) {
            if let Some(labels) = scene.cpus.get(number) {
                emit(labels, *seconds);
            }
        }
        if cpu.each.is_empty()
            && let Some(seconds) = cpu.usage.filter(|seconds| *seconds > 0.0 || scene.compat == Compat::None)
        {
            emit(&TOTAL, seconds);
        }
    }),
    row("container_cpu_user_seconds_total", Counter, "CPU time used in user mode.", &[], |entry, _, emit| {
        one(entry.figures.cpu.user, emit);
    }),
    row(
        "container_cpu_system_seconds_total",
        Counter,
        "CPU time used in kernel mode.",
        &[],
        |entry, _, emit| {
            one(entry.figures.cpu.system, emit);
        },
    ),
    row(
        "container_cpu_cfs_periods_total",
        Counter,
        "Periods of CPU bandwidth control that have passed.",
        &[],
        |entry, _, emit| {
            if_limited(entry, entry.figures.cpu.periods.map(|n| n as f64), emit);
        },
    ),
    row(
        "container_cpu_cfs_throttled_periods_total",
        Counter,
        "Periods in which the cgroup was throttled.",
        &[],
        |entry, _, emit| {
            if_limited(entry, entry.figures.cpu.throttled_periods.map(|n| n as f64), emit);
        },
    ),
    row(
        "container_cpu_cfs_throttled_seconds_total",
        Counter,
        "Time for which the cgroup was throttled.",
        &[],
        |entry, _, emit| {
            if_limited(entry, entry.figures.cpu.throttled, emit);
        },
    ),
    row(
        "container_cpu_cfs_burst_periods_total",
        Counter,
        "Periods in which the cgroup used more than its quota.",
        &[],
        |entry, _, emit| {
            if_limited(entry, entry.figures.cpu.burst_periods.map(|n| n as f64), emit);
        },
    ),
    row(
        "container_cpu_cfs_burst_seconds_total",
        Counter,
        "CPU time used beyond the quota.",
        &[],
        |entry, _, emit| {
            if_limited(entry, entry.figures.cpu.burst, emit);
        },
    ),
    row(
        "container_memory_usage_bytes",
        Gauge,
        "Memory charged, page cache included.",
        &[],
        |entry, _, emit| {
            whole(entry.figures.memory.usage, emit);
        },
    ),
    row(
        "container_memory_working_set_bytes",
        Gauge,
        "Memory charged without inactive file cache.",
        &[],
        |entry, _, emit| {
            whole(entry.figures.memory.working_set(), emit);
        },
    ),
    row("container_memory_rss", Gauge, "Anonymous memory.", &[], |entry, _, emit| {
        whole(entry.figures.memory.rss, emit);
    }),
    row("container_memory_cache", Gauge, "Page cache.", &[], |entry, _, emit| {
        whole(entry.figures.memory.cache, emit);
    }),
    row("container_memory_swap", Gauge, "Swap used.", &[], |entry, scene, emit| {
        let own = entry.figures.memory.swap;
        whole_or_zero(scene.swap_used.filter(|_| entry.is_root() && own.is_none()).or(own), scene, emit);
    }),
    row("container_memory_mapped_file", Gauge, "File pages that are mapped.", &[], |entry, _, emit| {
        whole(entry.figures.memory.mapped, emit);
    }),
    row("container_memory_kernel_usage", Gauge, "Kernel memory charged.", &[], |entry, scene, emit| {
        whole_or_zero(entry.figures.memory.kernel, scene, emit);
    }),
    row(
        "container_memory_max_usage_bytes",
        Gauge,
        "Most memory that was ever charged.",
        &[],
        |entry, scene, emit| {
            whole_or_zero(entry.figures.memory.peak, scene, emit);
        },
    ),
    row(
        "container_memory_failcnt",
        Counter,
        "How often the memory limit was hit.",
        &[],
        |entry, scene, emit| {
            whole_or_zero(entry.figures.memory.failures, scene, emit);
        },
    ),
    row(
        "container_memory_total_active_file_bytes",
        Gauge,
        "File cache that is in use.",
        &[],
        |entry, _, emit| {
            whole(entry.figures.memory.active_file, emit);
        },
    ),
    row(
        "container_memory_total_inactive_file_bytes",
        Gauge,
        "File cache that is the first to go; the working set leaves it out.",
        &[],
        |entry, _, emit| {
            whole(entry.figures.memory.inactive_file, emit);
        },
    ),
    row(
        "container_memory_failures_total",
        Counter,
        "Page faults; both scopes have the same number.",
        &["failure_type", "scope"],
        |entry, scene, emit| {
            let memory = &entry.figures.memory;
            let [own, own_major] =
                memory.own_faults.map(|own| own.filter(|_| scene.compat == Compat::Cadvisor));
            for (value, labels) in [
                (own.or(memory.faults), [&FAULT_CONTAINER, &FAULT_HIERARCHY]),
                (own_major.or(memory.major_faults), [&MAJOR_CONTAINER, &MAJOR_HIERARCHY]),
            ] {
                if let Some(value) = value {
                    labels.into_iter().for_each(|labels| emit(labels, value as f64));
                }
            }
        },
    ),
    row(
        "container_memory_events_high_total",
        Counter,
        "How often memory.high throttled.",
        &[],
        |entry, scene, emit| {
            whole_or_zero(entry.figures.memory.high_events, scene, emit);
        },
    ),
    row(
        "container_memory_events_max_total",
        Counter,
        "How often memory.max was hit.",
        &[],
        |entry, scene, emit| {
            whole_or_zero(entry.figures.memory.max_events, scene, emit);
        },
    ),
    row(
        "container_memory_file_dirty_bytes",
        Gauge,
        "File cache that is not written yet.",
        &[],
        |entry, scene, emit| {
            whole_or_zero(entry.figures.memory.dirty, scene, emit);
        },
    ),
    row(
        "container_memory_file_writeback_bytes",
        Gauge,
        "File cache that is being written.",
        &[],
        |entry, scene, emit| {
            whole_or_zero(entry.figures.memory.writeback, scene, emit);
        },
    ),
    row(
        "container_memory_pgscan_total",
        Counter,
        "Pages that reclaim looked at.",
        &[],
        |entry, scene, emit| {
            whole_or_zero(entry.figures.memory.scanned, scene, emit);
        },
    ),
    row(
        "container_memory_pgsteal_total",
        Counter,
        "Pages that were reclaimed.",
        &[],
        |entry, scene, emit| {
            whole_or_zero(entry.figures.memory.stolen, scene, emit);
        },
    ),
    row(
        "container_memory_workingset_refault_file_total",
        Counter,
        "File pages that were reclaimed too early.",
        &[],
        |entry, scene, emit| {
            whole_or_zero(entry.figures.memory.refault_file, scene, emit);
        },
    ),
    row(
        "container_memory_workingset_refault_anon_total",
        Counter,
        "Anonymous pages that were reclaimed too early.",
        &[],
        |entry, scene, emit| {
            whole_or_zero(entry.figures.memory.refault_anon, scene, emit);
        },
    ),
    row(
        "container_oom_events_total",
        Counter,
        "Processes that were killed because memory ran out.",
        &[],
        |entry, _, emit| {
            whole(entry.figures.memory.oom_kills, emit);
        },
    ),
    row("container_hugetlb_usage_bytes", Gauge, "Huge pages used.", &["pagesize"], |entry, scene, emit| {
        each_size(entry, scene, emit, |huge| huge.usage);
    }),
    row(
        "container_hugetlb_max_usage_bytes",
        Gauge,
        "Most huge pages that were ever used.",
        &["pagesize"],
        |entry, scene, emit| {
            each_size(entry, scene, emit, |huge| huge.peak);
        },
    ),
    row(
        "container_hugetlb_failcnt",
        Counter,
        "How often the limit of huge pages was hit.",
        &["pagesize"],
        |entry, scene, emit| {
            each_size(entry, scene, emit, |huge| huge.failures);
        },
    ),
    row(
        "container_fs_usage_bytes",
        Gauge,
        "Bytes taken on the file system: of the machine by everything, of a container by its writable layer and its logs.",
        &["device"],
        |entry, scene, emit| {
            space(entry, scene, emit, |space| space.used, |written| Some(written.bytes));
        },
    ),
    row(
        "container_fs_limit_bytes",
        Gauge,
        "Bytes that the file system has.",
        &["device"],
        |entry, scene, emit| {
            space(entry, scene, emit, |space| space.size, |written| written.size);
        },
    ),
    row(
        "container_fs_inodes_total",
        Gauge,
        "Inodes: of the machine what the file system has, of a container what its layer uses.",
        &["device"],
        |entry, scene, emit| {
            space(entry, scene, emit, |space| space.inodes, |written| written.inodes);
        },
    ),
    row(
        "container_fs_inodes_free",
        Gauge,
        "Inodes of the file system that are free.",
        &["device"],
        |entry, scene, emit| {
            space(
                entry,
                scene,
                emit,
                |space| space.inodes_free,
                if scene.compat == Compat::Cadvisor { |_| Some(0) } else { |_| None },
            );
        },
    ),
    row(
        "container_fs_reads_bytes_total",
        Counter,
        "Bytes read from the device.",
        &["device"],
        |entry, scene, emit| {
            each_device(entry, scene, emit, |io| io.read_bytes);
        },
    ),
    row(
        "container_fs_writes_bytes_total",
        Counter,
        "Bytes written to the device.",
        &["device"],
        |entry, scene, emit| {
            each_device(entry, scene, emit, |io| io.written_bytes);
        },
    ),
    row(
        "container_fs_reads_total",
        Counter,
        "Reads done by the device.",
        &["device"],
        |entry, scene, emit| {
            each_device(entry, scene, emit, |io| io.reads);
            done(entry, scene, emit, READS);
        },
    ),
    row(
        "container_fs_writes_total",
        Counter,
        "Writes done by the device.",
        &["device"],
        |entry, scene, emit| {
            each_device(entry, scene, emit, |io| io.writes);
            done(entry, scene, emit, WRITES);
        },
    ),
    row(
        "container_fs_sector_reads_total",
        Counter,
        "Sectors of 512 bytes that the devices of the machine's file systems have read.",
        &["device"],
        |entry, scene, emit| {
            done(entry, scene, emit, SECTORS_READ);
        },
    ),
    row(
        "container_fs_sector_writes_total",
        Counter,
        "Sectors of 512 bytes that the devices of the machine's file systems have written.",
        &["device"],
        |entry, scene, emit| {
            done(entry, scene, emit, SECTORS_WRITTEN);
        },
    ),
    row(
        "container_fs_reads_merged_total",
        Counter,
        "Reads that were merged with others.",
        &["device"],
        |entry, scene, emit| {
            done(entry, scene, emit, READS_MERGED);
        },
    ),
    row(
        "container_fs_writes_merged_total",
        Counter,
        "Writes that were merged with others.",
        &["device"],
        |entry, scene, emit| {
            done(entry, scene, emit, WRITES_MERGED);
        },
    ),
    row(
        "container_fs_read_seconds_total",
        Counter,
        "Time spent reading.",
        &["device"],
        |entry, scene, emit| {
            seconds_done(entry, scene, emit, READING);
        },
    ),
    row(
        "container_fs_write_seconds_total",
        Counter,
        "Time spent writing.",
        &["device"],
        |entry, scene, emit| {
            seconds_done(entry, scene, emit, WRITING);
        },
    ),
    row(
        "container_fs_io_current",
        Gauge,
        "Reads and writes under way.",
        &["device"],
        |entry, scene, emit| {
            done(entry, scene, emit, IN_FLIGHT);
        },
    ),
    row(
        "container_fs_io_time_seconds_total",
        Counter,
        "Time for which the device was busy.",
        &["device"],
        |entry, scene, emit| {
            seconds_done(entry, scene, emit, BUSY);
        },
    ),
    row(
        "container_fs_io_time_weighted_seconds_total",
        Counter,
        "Time that reads and writes have taken together.",
        &["device"],
        |entry, scene, emit| {
            seconds_done(entry, scene, emit, WAITED);
        },
    ),
    row(
        "container_blkio_device_usage_total",
        Counter,
        "Bytes moved, by device and operation.",
        &["device", "major", "minor", "operation"],
        |entry, scene, emit| {
            for io in &entry.figures.io {
                let Some(device) = scene.devices.get(io.device) else { continue };
                for (operation, bytes) in &io.operations {
                    if let Some(labels) = device.operation(operation) {
                        emit(labels, *bytes as f64);
                    }
                }
            }
        },
    ),
    row(
        "container_network_receive_bytes_total",
        Counter,
        "Bytes received.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, RECEIVED);
        },
    ),
    row(
        "container_network_receive_packets_total",
        Counter,
        "Packets received.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, RECEIVED + 1);
        },
    ),
    row(
        "container_network_receive_errors_total",
        Counter,
        "Packets received with errors.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, RECEIVED + 2);
        },
    ),
    row(
        "container_network_receive_packets_dropped_total",
        Counter,
        "Packets received and dropped.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, RECEIVED + 3);
        },
    ),
    row(
        "container_network_transmit_bytes_total",
        Counter,
        "Bytes sent.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, SENT);
        },
    ),
    row(
        "container_network_transmit_packets_total",
        Counter,
        "Packets sent.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, SENT + 1);
        },
    ),
    row(
        "container_network_transmit_errors_total",
        Counter,
        "Packets that could not be sent for errors.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, SENT + 2);
        },
    ),
    row(
        "container_network_transmit_packets_dropped_total",
        Counter,
        "Packets to be sent and dropped.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, SENT + 3);
        },
    ),
    row("container_processes", Gauge, "Processes directly in the cgroup.", &[], |entry, _, emit| {
        whole(entry.figures.pids.processes, emit);
    }),
    row("container_threads", Gauge, "Tasks in the cgroup and below it.", &[], |entry, _, emit| {
        whole(entry.figures.pids.current, emit);
    }),
    row("container_threads_max", Gauge, "Limit of tasks; 0 for none.", &[], |entry, _, emit| {
        whole(entry.figures.limits.pids, emit);
    }),
    row(
        "container_file_descriptors",
        Gauge,
        "Open descriptors of the processes directly in the cgroup.",
        &[],
        |entry, _, emit| {
            whole(entry.processes.descriptors, emit);
        },
    ),
    row("container_sockets", Gauge, "Descriptors of those that are sockets.", &[], |entry, _, emit| {
        whole(entry.processes.sockets, emit);
    }),
    row(
        "container_ulimits_soft",
        Gauge,
        "Soft limits of the first process; -1 for none.",
        &["ulimit"],
        |entry, _, emit| {
            if let Some(limit) = entry.processes.open_files {
                emit(&OPEN_FILES, limit as f64);
            }
        },
    ),
    row(
        "container_pressure_cpu_waiting_seconds_total",
        Counter,
        "Time for which some task waited for CPU.",
        &[],
        |entry, _, emit| {
            stalled(entry, CPU, |p| Some(p.some), emit);
        },
    ),
    row(
        "container_pressure_cpu_stalled_seconds_total",
        Counter,
        "Time for which all tasks waited for CPU.",
        &[],
        |entry, _, emit| {
            stalled(entry, CPU, |p| p.full, emit);
        },
    ),
    row(
        "container_pressure_memory_waiting_seconds_total",
        Counter,
        "Time for which some task waited for memory.",
        &[],
        |entry, _, emit| {
            stalled(entry, MEMORY, |p| Some(p.some), emit);
        },
    ),
    row(
        "container_pressure_memory_stalled_seconds_total",
        Counter,
        "Time for which all tasks waited for memory.",
        &[],
        |entry, _, emit| {
            stalled(entry, MEMORY, |p| p.full, emit);
        },
    ),
    row(
        "container_pressure_io_waiting_seconds_total",
        Counter,
        "Time for which some task waited for I/O.",
        &[],
        |entry, _, emit| {
            stalled(entry, IO, |p| Some(p.some), emit);
        },
    ),
    row(
        "container_pressure_io_stalled_seconds_total",
        Counter,
        "Time for which all tasks waited for I/O.",
        &[],
        |entry, _, emit| {
            stalled(entry, IO, |p| p.full, emit);
        },
    ),
];
