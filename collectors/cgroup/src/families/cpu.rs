//! CPU time, and what bandwidth control has done.

use std::sync::LazyLock;

use taffrail_record::Kind::Counter;
use taffrail_record::Labels;

use super::{Emit, Row, one, row};
use crate::config::Compat;
use crate::entry::Entry;

labels!(TOTAL, "cpu" = "total");

/// Figures of bandwidth control say something only where there is a quota.
fn if_limited(entry: &Entry, value: Option<f64>, emit: &mut Emit<'_>) {
    one(value.filter(|_| entry.figures.limits.quota.is_some()), emit);
}

pub(super) static ROWS: &[Row] = &[
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
];
