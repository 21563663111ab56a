//! Processes and what they hold.

use std::sync::LazyLock;

use taffrail_record::Kind::Gauge;
use taffrail_record::Labels;

use super::{Row, row, whole};

labels!(OPEN_FILES, "ulimit" = "max_open_files");

pub(super) static ROWS: &[Row] = &[
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
];
