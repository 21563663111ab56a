//! Why a figure here is not what a peer shows. Each is also in the reference.

use super::diff::Kind;

/// A reason for one kind of difference of the families whose names begin so, in series that contain a text.
struct Reason {
    prefix: &'static str,
    within: &'static str,
    kind: Kind,
    why: &'static str,
}

const fn reason(prefix: &'static str, kind: Kind, why: &'static str) -> Reason {
    reason_in(prefix, "", kind, why)
}

const fn reason_in(prefix: &'static str, within: &'static str, kind: Kind, why: &'static str) -> Reason {
    Reason { prefix, within, kind, why }
}

const OWN_PROCESS: &str = "the peer's own process; the agent's is on /metrics";
const LOAD: &str = "always 0 in cAdvisor unless its load reader is on";
const ZERO: &str =
    "cAdvisor shows 0 for what it does not read; metrics.containers.compat: cadvisor does so, too";
const MOMENT: &str = "it moves, and was read at another moment";
const LABEL: &str = "a label that newer releases have";
const NEWER: &str = "newer than the peer's release, or switched off there";

/// The first that fits is taken.
static REASONS: &[Reason] = &[
    reason("go_", Kind::OnlyTheirs, OWN_PROCESS),
    reason("process_", Kind::OnlyTheirs, OWN_PROCESS),
    reason("promhttp_", Kind::OnlyTheirs, OWN_PROCESS),
    reason("node_exporter_build_info", Kind::OnlyTheirs, "names the peer's build"),
    reason("node_exporter_build_info", Kind::OnlyOurs, "names this build"),
    reason("node_scrape_collector_", Kind::OnlyOurs, "each side names its own collectors"),
    reason("node_scrape_collector_", Kind::OnlyTheirs, "each side names its own collectors"),
    reason("node_scrape_collector_duration_seconds", Kind::Value, "how long each side took"),
    reason(
        "node_scrape_collector_success",
        Kind::Value,
        "node_exporter calls it no success when the machine has no such thing; here that is no failure",
    ),
    reason_in("node_filesystem_", "device_error", Kind::Labels, LABEL),
    reason_in("node_network_info", "adminstate", Kind::Labels, LABEL),
    reason_in("node_disk_info", "rotational", Kind::Labels, LABEL),
    reason_in(
        "node_disk_",
        "zram",
        Kind::OnlyTheirs,
        "metrics.node.diskstats.exclude leaves out what newer releases leave out",
    ),
    reason("node_selinux_enabled", Kind::OnlyTheirs, "not collected: no dashboard asks for it"),
    reason("taffrail_", Kind::OnlyOurs, "the agent tells of itself"),
    reason("container_cpu_load_", Kind::OnlyTheirs, LOAD),
    reason("container_tasks_state", Kind::OnlyTheirs, LOAD),
    reason("cadvisor_version_info", Kind::OnlyTheirs, "names the peer's build"),
    reason("container_scrape_error", Kind::Value, "each side tells of its own scrape"),
    reason("container_last_seen", Kind::Value, "the moment at which each side looked"),
    reason(
        "container_start_time_seconds",
        Kind::Value,
        "cAdvisor takes the directory's time, which the kernel may make up; here the first process counts, too",
    ),
    reason("container_memory_", Kind::OnlyTheirs, ZERO),
    reason("container_memory_failcnt", Kind::Value, ZERO),
    reason("container_memory_kernel_usage", Kind::Value, ZERO),
    reason("container_memory_file_", Kind::Value, ZERO),
    reason("container_memory_events_", Kind::Value, ZERO),
    reason("container_memory_workingset_", Kind::Value, ZERO),
    reason(
        "container_oom_events_total",
        Kind::Value,
        "cAdvisor counts lines of the kernel's log from its own start on; here the cgroup's own counter counts from its beginning",
    ),
    reason("container_spec_cpu_period", Kind::OnlyTheirs, "0 for a cgroup that has no period"),
    reason(
        "container_memory_failures_total",
        Kind::Value,
        "on cgroup version 1 cAdvisor leaves out what is in cgroups below, as metrics.containers.compat: cadvisor does; else it \
         moves, and was read at another moment",
    ),
    reason("container_memory_", Kind::Value, MOMENT),
    reason("container_threads", Kind::Value, MOMENT),
    reason("container_processes", Kind::Value, MOMENT),
    reason("container_file_descriptors", Kind::Value, MOMENT),
    reason("container_sockets", Kind::Value, MOMENT),
    reason("container_cpu_usage_seconds_total", Kind::OnlyOurs, "cAdvisor leaves out what is 0"),
    reason("node_memory_", Kind::Value, MOMENT),
    reason("node_sockstat_", Kind::Value, MOMENT),
    reason("node_netstat_Tcp_CurrEstab", Kind::Value, MOMENT),
    reason("node_procs_", Kind::Value, MOMENT),
    reason("node_load", Kind::Value, MOMENT),
    reason("node_filefd_allocated", Kind::Value, MOMENT),
    reason("node_entropy_available_bits", Kind::Value, MOMENT),
    reason("node_timex_", Kind::Value, MOMENT),
    reason("node_disk_io_now", Kind::Value, MOMENT),
    reason("node_schedstat_", Kind::Value, MOMENT),
    reason(
        "node_cpu_",
        Kind::Value,
        "a Go program and a Rust program add the clock's ticks at different moments",
    ),
];

/// Every reason: the beginning of the names, what else a series contains, the kind of difference, why.
pub(crate) fn all() -> impl Iterator<Item = [&'static str; 4]> {
    REASONS.iter().map(|reason| [reason.prefix, reason.within, reason.kind.name(), reason.why])
}

/// Why a series of `family` differs so. `known` says whether the peer has the family at all.
pub(super) fn of(family: &str, kind: Kind, series: &str, known: bool) -> Option<&'static str> {
    let fits = |reason: &&Reason| {
        reason.kind == kind && family.starts_with(reason.prefix) && series.contains(reason.within)
    };
    let listed = REASONS.iter().find(fits).map(|reason| reason.why);
    listed.or_else(|| (kind == Kind::OnlyOurs && !known).then_some(NEWER))
}
