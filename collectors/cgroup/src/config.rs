//! What is told of containers, and in whose style.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Metrics of containers and other cgroups, on `/metrics/cadvisor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContainersConfig {
    /// Whether they are collected.
    pub enabled: bool,
    /// Which labels every series has.
    pub labels: LabelStyle,
    /// `cadvisor` shows what cAdvisor shows where that is known to be wrong, such as 0 for what it does not read.
    pub compat: Compat,
    /// CPU time of each CPU instead of all together, where the kernel says it (cgroup v1).
    pub per_cpu: bool,
    /// Cgroups that have series although they are no container, pod or class of pods, such as
    /// `/system.slice/kubelet.service`. `labels: cadvisor` shows every cgroup.
    pub roots: Vec<String>,
    /// How often the descriptors and sockets of processes are counted, in seconds; 0: never. It is the most expensive figure.
    pub descriptors_seconds: u64,
    /// How often it is looked at what containers have written to disk, in seconds, as long as somebody asks; 0: never. It is
    /// done aside, by a walk through writable layers and logs that is slow by intent.
    pub disk_seconds: u64,
    /// For how long the counters of a container stay after its end, in seconds, so that one that lives and dies between two
    /// scrapes is seen; 0: not at all. `taffrail_container_ended_seconds` marks them.
    pub ended_seconds: u64,
    /// How many cgroups have series at most; further ones are counted in `taffrail_containers_left_out`.
    pub most: u32,
}

impl Default for ContainersConfig {
    fn default() -> Self {
        let units = ["kubelet", "containerd", "crio", "docker"];
        ContainersConfig {
            enabled: true,
            labels: LabelStyle::Kubelet,
            compat: Compat::None,
            per_cpu: false,
            roots: units.map(|unit| format!("/system.slice/{unit}.service")).into(),
            descriptors_seconds: 30,
            disk_seconds: 60,
            ended_seconds: 120,
            most: 5000,
        }
    }
}

/// Whose labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelStyle {
    /// `container`, `id`, `image`, `name`, `namespace`, `pod`, as on kubelet's endpoint.
    #[default]
    Kubelet,
    /// `id`, `image`, `name` and one `container_label_...` for each label of any container, as cAdvisor has them when it runs by itself.
    Cadvisor,
}

/// Whose values, where they differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// What is true; what is not known is missing.
    #[default]
    None,
    /// What cAdvisor shows.
    Cadvisor,
}

/// Every place that [`Compat::Cadvisor`] switches back: the series, what cAdvisor shows, and why that is wrong.
pub static SWITCHED_BACK: &[[&str; 3]] = &[
    [
        "`container_memory_max_usage_bytes`, `container_memory_failcnt`, `container_memory_kernel_usage`, \
         `container_memory_swap`, `container_memory_events_*`, `container_memory_file_*`, `container_memory_pgscan_total`, \
         `container_memory_pgsteal_total`, `container_memory_workingset_refault_*`, \
         `container_spec_memory_reservation_limit_bytes`",
        "0 where the kernel or its cgroup version does not tell the figure",
        "a panel cannot tell \"none\" from \"not known\"; here such a series is missing",
    ],
    [
        "`container_memory_failures_total` of cgroups that have others below them, on cgroup version 1",
        "the faults of processes in the cgroup itself, which for a pod is 0, in both scopes",
        "all its other figures of memory are those of the whole pod; here these are, too",
    ],
    [
        "`container_cpu_usage_seconds_total`",
        "no series while the figure is 0",
        "a counter that begins with its first value loses that value to every rate; here it begins with 0",
    ],
    [
        "`container_fs_inodes_free` of containers",
        "0",
        "it looks as if no file could be made any more; a container has no inodes of its own",
    ],
    [
        "`container_fs_read_seconds_total`, `container_fs_write_seconds_total`, `container_fs_io_time_seconds_total`, \
         `container_fs_io_time_weighted_seconds_total` of `/`",
        "a millionth of the time",
        "the kernel counts milliseconds, and they are divided as if they were nanoseconds",
    ],
    [
        "`container_fs_*` of `/` that come from `/proc/diskstats`",
        "0 for devices whose names do not begin with `sd`, `vd`, `xvd` or `dm-`, such as NVMe disks",
        "a disk that is busy looks idle; here every device has its figures",
    ],
];
