//! Memory, page faults and huge pages.

use std::sync::LazyLock;

use taffrail_record::Kind::{Counter, Gauge};
use taffrail_record::Labels;

use super::{Emit, Row, row, whole, whole_or_zero};
use crate::config::Compat;
use crate::entry::{Entry, Scene};
use crate::figures::Huge;

labels!(FAULT_CONTAINER, "failure_type" = "pgfault", "scope" = "container");
labels!(FAULT_HIERARCHY, "failure_type" = "pgfault", "scope" = "hierarchy");
labels!(MAJOR_CONTAINER, "failure_type" = "pgmajfault", "scope" = "container");
labels!(MAJOR_HIERARCHY, "failure_type" = "pgmajfault", "scope" = "hierarchy");

fn each_size(entry: &Entry, scene: &Scene<'_>, emit: &mut Emit<'_>, value: impl Fn(&Huge) -> Option<u64>) {
    for huge in &entry.figures.hugetlb {
        if let (Some(value), Some(labels)) = (value(huge), scene.huge.get(huge.size)) {
            emit(labels, value as f64);
        }
    }
}

pub(super) static ROWS: &[Row] = &[
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
];
