//! When a cgroup was made and seen, and what was configured for it.

use taffrail_record::Kind::Gauge;
use taffrail_record::Labels;

use super::{Row, one, row, whole, whole_or_zero};

pub(super) static ROWS: &[Row] = &[
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
];
