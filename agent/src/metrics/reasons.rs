//! Why a figure here is not what a peer shows. Each is also in the reference.

use taffrail_text::split;

use super::diff::Kind;
use super::{filters, motion};

/// A reason for one kind of difference of the families whose names begin so, in series that contain a text.
#[derive(Clone, Copy)]
struct Reason {
    prefix: &'static str,
    within: &'static str,
    kind: Kind,
    when: When,
    /// Only beside hierarchies of cgroup v1.
    only_v1: bool,
    why: &'static str,
}

/// For which values of the peer a reason is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// It shows 0.
    Zero,
    /// It shows less than is shown here.
    Less,
    /// It shows a time that is later than that here, and not to come.
    Later,
    /// It shows a time before that here, the machine's clock was set forward since it started, and it showed that time then.
    BeforeSet,
    /// It shows a millionth of what is shown here.
    Millionth,
    /// It has the family, and of no container.
    OfNoContainer,
}

impl When {
    fn holds(self, case: &Case<'_>) -> bool {
        let ours = case.ours;
        let theirs = |fits: fn(f64, f64) -> bool| {
            case.theirs.is_some_and(|theirs| ours.is_some_and(|ours| fits(theirs, ours)))
        };
        match self {
            When::Always => true,
            When::Zero => case.theirs == Some(0.0),
            When::Less => theirs(|theirs, ours| theirs < ours),
            When::Later => theirs(|theirs, ours| theirs > ours) && case.theirs <= Some(case.end),
            When::BeforeSet => case
                .started
                .is_some_and(|started| theirs(|theirs, ours| theirs < ours) && case.theirs >= Some(started)),
            When::OfNoContainer => case.of_no_container && !case.is_unnamed(),
            // It may have read somewhat earlier.
            When::Millionth => {
                theirs(|theirs, ours| (0.5 * ours - 1.0..=ours * 1.01).contains(&(theirs * 1e6)))
            }
        }
    }

    fn said(self) -> &'static str {
        match self {
            When::Always => "",
            When::Zero => " = 0",
            When::Less => " less",
            When::Later => " later",
            When::BeforeSet => " before the clock was set",
            When::OfNoContainer => " of containers",
            When::Millionth => " a millionth",
        }
    }
}

const fn reason(prefix: &'static str, kind: Kind, why: &'static str) -> Reason {
    reason_in(prefix, "", kind, why)
}

const fn reason_in(prefix: &'static str, within: &'static str, kind: Kind, why: &'static str) -> Reason {
    Reason { prefix, within, kind, when: When::Always, only_v1: false, why }
}

const fn zero(prefix: &'static str, kind: Kind, why: &'static str) -> Reason {
    value(prefix, kind, When::Zero, why)
}

const fn value(prefix: &'static str, kind: Kind, when: When, why: &'static str) -> Reason {
    Reason { prefix, within: "", kind, when, only_v1: false, why }
}

const fn on_v1(reason: Reason) -> Reason {
    Reason { only_v1: true, ..reason }
}

const OWN_PROCESS: &str = "each side tells of its own process";
const OWN_SCRAPE: &str = "how long each side took";
const OWN_AGENT: &str = "each agent tells of itself";
const NOT_HERE: &str = "not collected: no rule of node-mixin asks for it";
const LOAD: &str = "always 0 in cAdvisor unless its load reader is on";
const ZERO: &str =
    "cAdvisor shows 0 for what it does not read; metrics.containers.compat: cadvisor does so, too";
const ABSENT: &str = "cAdvisor shows 0 for what the kernel does not tell of a cgroup; here it is missing";
const PRESSURE: &str = "cAdvisor reads pressure on cgroup v2 only, and shows 0 on v1";
const DISK: &str = "cAdvisor shows figures of the whole disk, those of a container too; node_disk_* on the node's page has them";
const MILLIONTH: &str = "cAdvisor takes the kernel's milliseconds for nanoseconds; metrics.containers.compat: cadvisor does so, too";
const UNLOOKED: &str = "the peer has it of no container: cAdvisor and kubelet do not look at what containers of containerd have written";
const UNWALKED: &str = "not looked at yet, or not to be looked at: taffrail_containers_disk_unknown says why";
const UNSEEN: &str =
    "missing here when one of the processes may not be seen; cAdvisor counts the others and calls it all";
const STORED: &str = "the peer was told not to store the labels of containers";
const ONE_HIERARCHY: &str = "cAdvisor looks for processes in the hierarchy of cpu only";
const NO_NVM: &str = "always 0 on a machine without persistent memory";
const NO_PERIOD: &str = "0 for a cgroup that has no period";
const LABEL: &str = "a label that newer releases have";
const NEWER: &str = "newer than the peer's release, or switched off there";

const FOREIGN: &str =
    "a cgroup that the peer has not found yet, or is in hierarchies only at which it does not look";
pub(super) const BEGUN: &str = "a cgroup that began while both were read";
const UNLISTED: &str = "no container, pod or class of pods: metrics.containers.roots names such cgroups, labels: cadvisor shows all";
const UNNAMED: &str = "a container of a runtime that the peer does not ask: there it has no name, network and disk, here its id is its name";
/// What only a runtime makes known to cAdvisor.
const UNNAMED_LACKS: [&str; 4] =
    ["container_network_", "container_fs_usage_bytes", "container_fs_limit_bytes", "container_fs_inodes_"];

const FIRST_PROCESS: &str =
    "cAdvisor reads it of the first process that it finds, at times of none or of another than here";

const MADE: &str = "cAdvisor takes the time at which the runtime made the container; here is told since when it runs, after it was \
                    started (again)";

/// In the labels of the machine's own cgroup.
const MACHINE: &str = "id=\"/\"";
const SET: &str = "the clock was set since the machine started: cAdvisor takes the time of a file, by the clock as it was then";
const APART: &str = "in a pid namespace of its own cAdvisor sees no other processes";

/// The first that fits is taken.
static REASONS: &[Reason] = &[
    reason("go_", Kind::OnlyTheirs, OWN_PROCESS),
    reason("process_", Kind::OnlyTheirs, OWN_PROCESS),
    reason("promhttp_", Kind::OnlyTheirs, OWN_PROCESS),
    reason("process_", Kind::OnlyOurs, OWN_PROCESS),
    reason("process_", Kind::Value, OWN_PROCESS),
    reason("node_exporter_build_info", Kind::OnlyTheirs, "names the peer's build"),
    reason("node_exporter_build_info", Kind::OnlyOurs, "names this build"),
    reason("node_scrape_collector_", Kind::OnlyOurs, "each side names its own collectors"),
    reason("node_scrape_collector_", Kind::OnlyTheirs, "each side names its own collectors"),
    reason("node_scrape_collector_duration_seconds", Kind::Value, OWN_SCRAPE),
    reason("taffrail_scrape_collector_duration_seconds", Kind::Value, OWN_SCRAPE),
    zero(
        "node_scrape_collector_success",
        Kind::Value,
        "node_exporter calls it no success when the machine has no such thing; here that is no failure",
    ),
    reason_in("node_filesystem_", "device_error", Kind::Labels, LABEL),
    reason_in("node_network_info", "adminstate", Kind::Labels, LABEL),
    reason_in("node_disk_info", "rotational", Kind::Labels, LABEL),
    reason("node_bcache_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_btrfs_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_fibrechannel_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_infiniband_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_ipvs_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_nfs_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_nfsd_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_nvme_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_cpu_isolated", Kind::OnlyTheirs, NOT_HERE),
    reason("node_cpu_online", Kind::OnlyTheirs, NOT_HERE),
    reason("node_cpu_scaling_governor", Kind::OnlyTheirs, NOT_HERE),
    reason("node_disk_ata_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_rapl_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_selinux_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_tape_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_watchdog_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_wifi_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_xfs_", Kind::OnlyTheirs, NOT_HERE),
    reason("node_zfs_", Kind::OnlyTheirs, NOT_HERE),
    reason("taffrail_", Kind::OnlyOurs, OWN_AGENT),
    reason("taffrail_", Kind::OnlyTheirs, OWN_AGENT),
    reason("taffrail_", Kind::Value, OWN_AGENT),
    reason("container_cpu_load_", Kind::OnlyTheirs, LOAD),
    reason("container_tasks_state", Kind::OnlyTheirs, LOAD),
    reason("cadvisor_version_info", Kind::OnlyTheirs, "names the peer's build"),
    reason("container_scrape_error", Kind::Value, "each side tells of its own scrape"),
    value(
        "container_start_time_seconds",
        Kind::Value,
        When::Later,
        "cAdvisor takes the directory's time, which the kernel may make up; here the first process counts, too",
    ),
    value("container_start_time_seconds", Kind::Value, When::BeforeSet, SET),
    Reason {
        prefix: "container_processes",
        within: MACHINE,
        kind: Kind::Value,
        when: When::Less,
        // Version 2 lists those that are not seen as 0, and they count.
        only_v1: true,
        why: APART,
    },
    Reason {
        prefix: "container_start_time_seconds",
        within: ",name=\"",
        kind: Kind::Value,
        when: When::Less,
        only_v1: false,
        why: MADE,
    },
    reason_in("container_", "container_label_", Kind::Labels, STORED),
    zero("container_fs_inodes_free", Kind::OnlyTheirs, ZERO),
    zero("container_cpu_", Kind::OnlyTheirs, ABSENT),
    zero("container_memory_", Kind::OnlyTheirs, ABSENT),
    zero("container_oom_events_total", Kind::OnlyTheirs, ABSENT),
    zero("container_pressure_", Kind::OnlyTheirs, ABSENT),
    zero("container_threads", Kind::OnlyTheirs, ABSENT),
    zero("container_processes", Kind::OnlyTheirs, ABSENT),
    on_v1(zero("container_pressure_", Kind::Value, PRESSURE)),
    zero("container_memory_failcnt", Kind::Value, ZERO),
    zero("container_memory_kernel_usage", Kind::Value, ZERO),
    zero("container_memory_file_", Kind::Value, ZERO),
    zero("container_memory_events_", Kind::Value, ZERO),
    zero("container_memory_workingset_", Kind::Value, ZERO),
    on_v1(value(
        "container_memory_failures_total",
        Kind::Value,
        When::Less,
        "on cgroup v1 cAdvisor leaves out the page faults of the cgroups below; metrics.containers.compat: cadvisor does so, too",
    )),
    zero("container_processes", Kind::Value, ONE_HIERARCHY),
    zero("container_file_descriptors", Kind::Value, ONE_HIERARCHY),
    zero("container_sockets", Kind::Value, ONE_HIERARCHY),
    reason("container_file_descriptors", Kind::OnlyTheirs, UNSEEN),
    reason("container_sockets", Kind::OnlyTheirs, UNSEEN),
    reason("container_ulimits_soft", Kind::OnlyOurs, FIRST_PROCESS),
    reason("container_ulimits_soft", Kind::Value, FIRST_PROCESS),
    value("container_fs_read_seconds_total", Kind::Value, When::Millionth, MILLIONTH),
    value("container_fs_write_seconds_total", Kind::Value, When::Millionth, MILLIONTH),
    value("container_fs_io_time_", Kind::Value, When::Millionth, MILLIONTH),
    value("container_fs_usage_bytes", Kind::OnlyOurs, When::OfNoContainer, UNLOOKED),
    value("container_fs_limit_bytes", Kind::OnlyOurs, When::OfNoContainer, UNLOOKED),
    value("container_fs_inodes_", Kind::OnlyOurs, When::OfNoContainer, UNLOOKED),
    reason("container_fs_usage_bytes", Kind::OnlyTheirs, UNWALKED),
    reason("container_fs_limit_bytes", Kind::OnlyTheirs, UNWALKED),
    reason("container_fs_inodes_total", Kind::OnlyTheirs, UNWALKED),
    reason("container_fs_io_", Kind::OnlyTheirs, DISK),
    reason("container_fs_read_seconds_total", Kind::OnlyTheirs, DISK),
    reason("container_fs_write_seconds_total", Kind::OnlyTheirs, DISK),
    reason("container_fs_reads_merged_total", Kind::OnlyTheirs, DISK),
    reason("container_fs_writes_merged_total", Kind::OnlyTheirs, DISK),
    reason("container_fs_reads_total", Kind::OnlyTheirs, DISK),
    reason("container_fs_writes_total", Kind::OnlyTheirs, DISK),
    reason("container_fs_sector_", Kind::OnlyTheirs, DISK),
    zero("machine_nvm_", Kind::OnlyTheirs, NO_NVM),
    value(
        "container_oom_events_total",
        Kind::Value,
        When::Less,
        "cAdvisor counts lines of the kernel's log from its own start on; here the cgroup's own counter counts from its beginning",
    ),
    zero("container_spec_cpu_period", Kind::OnlyTheirs, NO_PERIOD),
    reason("container_cpu_usage_seconds_total", Kind::OnlyOurs, "cAdvisor leaves out what is 0"),
];

/// A difference that wants a reason.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) family: &'a str,
    pub(super) kind: Kind,
    pub(super) series: &'a str,
    /// What the peer shows.
    pub(super) theirs: Option<f64>,
    /// What is shown here.
    pub(super) ours: Option<f64>,
    /// Why it may be by the way it moves, or by a filter.
    pub(super) known: Option<&'static str>,
    /// The peer has no such family.
    pub(super) unknown_family: bool,
    /// The peer has no series of this cgroup.
    pub(super) unknown_cgroup: bool,
    /// It is of a cgroup but the machine's, and the peer has the family of no container.
    pub(super) of_no_container: bool,
    /// Here there is no series of this cgroup.
    pub(super) unlisted: bool,
    /// Here there are hierarchies of cgroup v1.
    pub(super) has_v1: bool,
    /// When all was read, in seconds since the epoch.
    pub(super) end: f64,
    /// What the clock showed when the machine started, if it was set forward since.
    pub(super) started: Option<f64>,
}

impl<'a> Case<'a> {
    pub(super) fn new(family: &'a str, kind: Kind, series: &'a str) -> Self {
        Case {
            family,
            kind,
            series,
            theirs: None,
            ours: None,
            known: None,
            unknown_family: false,
            unknown_cgroup: false,
            of_no_container: false,
            unlisted: false,
            has_v1: false,
            end: f64::INFINITY,
            started: None,
        }
    }

    /// Of a cgroup that is neither a container nor a pod, as far as the peer knows.
    fn is_plain(&self) -> bool {
        self.label("name").is_none() && self.label("pod").is_none()
    }

    fn label(&self, wanted: &str) -> Option<&'a str> {
        split(self.series).1.into_iter().find(|(label, _)| *label == wanted).map(|(_, value)| value)
    }

    /// Of a container that no runtime has named: it is called by its id, and its image is unknown.
    fn is_unnamed(&self) -> bool {
        let id = self.label("id").and_then(|id| id.rsplit_once('/')).map(|(_, id)| id);
        self.label("image").is_none() && id.is_some_and(|id| !id.is_empty() && self.label("name") == Some(id))
    }
}

/// Whether each side tells of itself in a family, and not of the machine.
pub(super) fn is_own(family: &str) -> bool {
    const OWN: [&str; 5] = ["go_", "process_", "promhttp_", "node_scrape_collector_", "taffrail_"];
    OWN.iter().any(|prefix| family.starts_with(prefix))
}

/// Why it differs; nothing when nobody knows.
pub(super) fn of(case: &Case<'_>) -> Option<&'static str> {
    let fits = |reason: &&Reason| {
        reason.kind == case.kind
            && case.family.starts_with(reason.prefix)
            && case.series.contains(reason.within)
            && reason.when.holds(case)
            && (case.has_v1 || !reason.only_v1)
    };
    if case.unknown_cgroup {
        return Some(FOREIGN);
    }
    if case.unlisted && case.is_plain() {
        return Some(UNLISTED);
    }
    let listed = REASONS.iter().find(fits).map(|reason| reason.why);
    let unnamed = case.is_unnamed()
        && (case.kind == Kind::Labels
            || case.kind == Kind::OnlyOurs
                && UNNAMED_LACKS.iter().any(|prefix| case.family.starts_with(prefix)));
    listed
        .or(case.known)
        .or_else(|| unnamed.then_some(UNNAMED))
        .or_else(|| case.unknown_family.then_some(NEWER))
}

/// What cAdvisor shows and `metrics.containers.compat: cadvisor` does not switch back: the reason of the difference, and why
/// it stays.
pub(crate) static NOT_SWITCHED_BACK: [[&str; 2]; 7] = [
    [
        ABSENT,
        "the series would say of a controller or a feature that is off that nothing happens; to queries that add up, what is missing is 0 as well",
    ],
    [LOAD, "nothing reads it in cAdvisor either, and newer releases do not have it"],
    [PRESSURE, "the kernel tells it on v1, too, and nobody relies on a 0"],
    [ONE_HIERARCHY, "the processes are there, and limits by their number count them"],
    [NO_PERIOD, "a quota without a period divides by 0"],
    [NO_NVM, "the machine has none"],
    [DISK, "a container's panel would show what others do"],
];

/// Each reason, and the families that it concerns with how they differ; as people read them.
pub(crate) fn listed() -> Vec<(&'static str, Vec<String>)> {
    let mut all: Vec<(&str, Vec<String>)> = Vec::new();
    for reason in REASONS {
        let text = format!("`{}`: {}", families(reason), reason.kind.name());
        match all.iter_mut().find(|(why, _)| *why == reason.why) {
            Some((_, concerned)) => concerned.push(text),
            None => all.push((reason.why, vec![text])),
        }
    }
    let by_cgroup = |what: &str, kind: Kind| vec![format!("{what}: {}", kind.name())];
    all.push((FOREIGN, by_cgroup("series of a cgroup", Kind::OnlyOurs)));
    all.push((BEGUN, by_cgroup("series of a cgroup", Kind::Value)));
    all.push((UNLISTED, by_cgroup("series of a cgroup", Kind::OnlyTheirs)));
    all.push((UNNAMED, by_cgroup("`name`, `container_network_*`, `container_fs_usage_bytes*`, `container_fs_limit_bytes*`, `container_fs_inodes_*`", Kind::OnlyOurs)));
    all.push((
        motion::OLDER,
        vec![format!(
            "counters, half of ours at least or less by 1 second, 1 MiB or 1000: {}",
            Kind::Value.name()
        )],
    ));
    all.push((motion::TICKS, vec![format!("counters of seconds, by 0.1: {}", Kind::Value.name())]));
    all.push((
        motion::HELD,
        vec![format!("`node_cpu_seconds_total` with idle or iowait, more by 3: {}", Kind::Value.name())],
    ));
    all.push((motion::MOMENT, vec![format!("{}: {}", motion::listed().join(", "), Kind::Value.name())]));
    for (why, kind) in [
        (filters::THEIRS, Kind::OnlyOurs),
        (filters::OURS, Kind::OnlyTheirs),
        (filters::OFF, Kind::OnlyTheirs),
    ] {
        all.push((why, vec![format!("`node_*`: {}", kind.name())]));
    }
    all.push((NEWER, vec![format!("any other family: {}", Kind::OnlyOurs.name())]));
    all
}

fn families(reason: &Reason) -> String {
    let within = if reason.within.is_empty() { String::new() } else { format!(" with {}", reason.within) };
    let only_v1 = if reason.only_v1 { " on cgroup v1" } else { "" };
    format!("{}*{within}{}{only_v1}", reason.prefix, reason.when.said())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_zero_is_explained_and_a_peers_figure_is_not() {
        let case = Case::new("container_memory_rss", Kind::OnlyTheirs, "container_memory_rss");
        assert_eq!(of(&Case { theirs: Some(0.0), ..case }), Some(ABSENT));
        assert_eq!(of(&Case { theirs: Some(4096.0), ..case }), None);
    }

    #[test]
    fn a_container_is_unnamed_when_its_id_is_its_name() {
        let family = "container_network_receive_bytes_total";
        let of = |series| of(&Case::new(family, Kind::OnlyOurs, series));
        assert_eq!(of(r#"x{id="/docker/5e",interface="eth0",name="5e"}"#), Some(UNNAMED));
        let disk = Case::new("container_fs_usage_bytes", Kind::OnlyOurs, r#"x{id="/docker/5e",name="5e"}"#);
        assert_eq!(super::of(&disk), Some(UNNAMED));
        assert_eq!(of(r#"x{id="/docker/5e",image="nginx",interface="eth0",name="5e"}"#), None);
        assert_eq!(of(r#"x{id="/docker/5e",interface="eth0",name="web"}"#), None);
        assert_eq!(of(r#"x{id="/docker/5e",interface="eth0"}"#), None);
    }

    #[test]
    fn what_only_a_container_labels_ending_is_like_is_no_container() {
        let of = |series| Case::new("container_threads", Kind::OnlyTheirs, series).is_plain();
        assert!(of(r#"x{container_label_pod="p",id="/a"}"#));
        assert!(!of(r#"x{id="/a",pod="p"}"#) && !of(r#"x{id="/a",name="n"}"#));
    }

    #[test]
    fn what_node_exporter_has_by_default_and_nobody_collects_here_has_a_reason() {
        for family in
            ["node_disk_ata_write_cache", "node_cpu_scaling_governor", "node_cpu_online", "node_cpu_isolated"]
        {
            assert_eq!(of(&Case::new(family, Kind::OnlyTheirs, family)), Some(NOT_HERE), "{family}");
        }
    }

    #[test]
    fn where_cadvisor_shows_0_it_is_switched_back_or_said_why_not() {
        let zeros = REASONS.iter().filter(|reason| {
            reason.when == When::Zero && reason.prefix.starts_with("container_")
                || reason.prefix.starts_with("machine_")
        });
        for reason in zeros {
            let said = NOT_SWITCHED_BACK.iter().any(|[why, _]| *why == reason.why);
            assert!(
                said != reason.why.contains("compat: cadvisor does so, too"),
                "{}: {}",
                reason.prefix,
                reason.why
            );
        }
    }

    #[test]
    fn every_reason_is_listed_once() {
        let listed = listed();
        for reason in REASONS {
            assert_eq!(listed.iter().filter(|(why, _)| *why == reason.why).count(), 1, "{}", reason.why);
        }
    }
}
