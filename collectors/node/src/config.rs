//! What can be told about the node's metrics. The defaults are those of kube-prometheus where it has its own,
//! else those of node_exporter.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::Pattern;
use crate::list::{Entry, LIST};

/// The node's metrics under node_exporter's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodeMetricsConfig {
    /// Collectors to switch on beside those that are on by default: `hwmon`, `interrupts`, `processes`,
    /// `softirqs`, `systemd`, `tcpstat`.
    #[schemars(with = "Vec<String>")]
    pub enable: Vec<CollectorName>,
    /// Collectors to switch off, by node_exporter's names for them.
    #[schemars(with = "Vec<String>")]
    pub disable: Vec<CollectorName>,
    /// Which file systems are shown.
    pub filesystem: FilesystemConfig,
    /// Which network interfaces have traffic counters.
    pub netdev: DeviceFilter,
    /// Which network interfaces have their state shown.
    pub netclass: DeviceFilter,
    /// Which disks are shown.
    pub diskstats: DeviceFilter,
    /// Which network interfaces have their ARP entries counted.
    pub arp: DeviceFilter,
    /// Which lines of `/proc/vmstat` are shown.
    pub vmstat: FieldFilter,
    /// Which network counters are shown, named `<protocol>_<field>`.
    pub netstat: FieldFilter,
    /// What of `/proc/stat` is shown.
    pub stat: StatConfig,
    /// Metrics that others leave in files.
    pub textfile: TextfileConfig,
    /// What is asked of systemd.
    pub systemd: SystemdConfig,
}

impl Default for NodeMetricsConfig {
    fn default() -> Self {
        let without = |text| DeviceFilter { exclude: Pattern::known(text), include: Pattern::default() };
        let interfaces = without(r"^(veth.*|[a-f0-9]{15})$");
        NodeMetricsConfig {
            enable: Vec::new(),
            disable: Vec::new(),
            filesystem: FilesystemConfig::default(),
            netdev: interfaces.clone(),
            netclass: interfaces,
            diskstats: without(r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"),
            arp: DeviceFilter::default(),
            vmstat: FieldFilter { fields: Pattern::known(r"^(oom_kill|pgpg|pswp|pg.*fault).*") },
            netstat: FieldFilter { fields: Pattern::known(NETSTAT) },
            stat: StatConfig::default(),
            textfile: TextfileConfig::default(),
            systemd: SystemdConfig::default(),
        }
    }
}

const NETSTAT: &str = concat!(
    r"^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)",
    r"|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)",
    r"|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)",
    r"|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
);

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadValue {
    /// Its dotted key below the node's.
    pub key: String,
    /// What is wrong with it and what to write instead.
    pub problem: String,
}

impl NodeMetricsConfig {
    /// What the types do not say: settings that contradict each other.
    #[must_use]
    pub fn validate(&self) -> Vec<BadValue> {
        let switched = self.disable.iter().enumerate().filter(|(_, name)| self.enable.contains(name));
        let both = switched.map(|(at, name)| BadValue {
            key: format!("disable[{at}]"),
            problem: format!("`{}` is in `enable`, too; take it out of one of the two", name.0),
        });
        both.chain(self.filesystem.validate()).collect()
    }

    /// Whether a collector is switched on, where [`validate`](Self::validate) has nothing to say.
    pub(crate) fn wants(&self, entry: &Entry) -> bool {
        let named = |names: &[CollectorName]| names.iter().any(|name| name.0 == entry.name);
        (entry.on || named(&self.enable)) && !named(&self.disable)
    }
}

/// The name of a collector that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CollectorName(&'static str);

impl<'de> Deserialize<'de> for CollectorName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.try_into().map_err(D::Error::custom)
    }
}

impl TryFrom<String> for CollectorName {
    type Error = String;

    fn try_from(name: String) -> Result<CollectorName, String> {
        if let Some(entry) = LIST.iter().find(|entry| entry.name == name) {
            return Ok(CollectorName(entry.name));
        }
        let hint = nearest(&name).map_or_else(known, |near| format!("did you mean `{near}`?"));
        Err(format!("there is no collector `{name}`; {hint}"))
    }
}

/// The collector that somebody most likely meant, when one is near enough.
fn nearest(name: &str) -> Option<&'static str> {
    let distance = |entry: &&Entry| strsim::damerau_levenshtein(entry.name, name);
    let nearest = LIST.iter().min_by_key(distance)?;
    // A third of the letters may be wrong: enough for slips, too little for a guess at random.
    let longest = name.chars().count().max(nearest.name.len());
    (distance(&nearest) <= 1.max(longest / 3)).then_some(nearest.name)
}

fn known() -> String {
    let mut names = LIST.each_ref().map(|entry| entry.name);
    names.sort_unstable();
    format!("known here: {}", names.join(", "))
}

/// Which file systems are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FilesystemConfig {
    /// Regular expression of mount points to leave out, as the host names them. Its default gives way to
    /// `mount_points_include`.
    pub mount_points_exclude: Pattern,
    /// Regular expression of mount points to show, as the host names them; empty: all. Not together with
    /// `mount_points_exclude`.
    pub mount_points_include: Pattern,
    /// Regular expression of file system types to leave out. Its default gives way to `fs_types_include`.
    pub fs_types_exclude: Pattern,
    /// Regular expression of file system types to show; empty: all. Not together with `fs_types_exclude`.
    pub fs_types_include: Pattern,
    /// How long a scrape waits for file systems to answer, in milliseconds. One that has not by then is shown
    /// with `node_filesystem_device_error` 1, and is not asked again until it has.
    pub patience_ms: u64,
}

/// Mount points that node_exporter leaves out as kube-prometheus starts it.
const MOUNT_POINTS: &str =
    r"^/(dev|proc|sys|run/k3s/containerd/.+|var/lib/docker/.+|var/lib/kubelet/pods/.+)($|/)";
const FS_TYPES: &str = concat!(
    r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660",
    r"|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs",
    r"|tracefs)$"
);

impl FilesystemConfig {
    /// Whether a file system of this type, mounted there, is shown.
    #[must_use]
    pub fn shows(&self, mount_point: &str, fs_type: &str) -> bool {
        chosen(&self.mount_points_include, &self.mount_points_exclude, mount_point)
            && chosen(&self.fs_types_include, &self.fs_types_exclude, fs_type)
    }

    /// node_exporter refuses both of a pair, too, and forgets the default of one for the other.
    fn validate(&self) -> impl Iterator<Item = BadValue> {
        let pairs = [
            ("mount_points", &self.mount_points_include, &self.mount_points_exclude, MOUNT_POINTS),
            ("fs_types", &self.fs_types_include, &self.fs_types_exclude, FS_TYPES),
        ];
        let both = pairs.into_iter().filter(|(_, include, exclude, default)| {
            !include.as_str().is_empty() && !exclude.as_str().is_empty() && exclude.as_str() != *default
        });
        both.map(|(name, ..)| BadValue {
            key: format!("filesystem.{name}_include"),
            problem: format!("`{name}_exclude` is there, too; write one of the two"),
        })
    }
}

/// By the one that is there; to include goes before to exclude.
fn chosen(include: &Pattern, exclude: &Pattern, text: &str) -> bool {
    include.matches(text).unwrap_or_else(|| !exclude.matches(text).unwrap_or(false))
}

impl Default for FilesystemConfig {
    fn default() -> Self {
        FilesystemConfig {
            mount_points_exclude: Pattern::known(MOUNT_POINTS),
            mount_points_include: Pattern::default(),
            fs_types_exclude: Pattern::known(FS_TYPES),
            fs_types_include: Pattern::default(),
            patience_ms: 500,
        }
    }
}

/// Which devices are shown: those that match `include` and do not match `exclude`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceFilter {
    /// Regular expression of devices to leave out; empty: none.
    pub exclude: Pattern,
    /// Regular expression of devices to show; empty: all.
    pub include: Pattern,
}

/// Which fields of a file are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FieldFilter {
    /// Regular expression of fields to show; empty: all.
    pub fields: Pattern,
}

impl FieldFilter {
    /// Whether a field of this name is shown.
    #[must_use]
    pub fn shows(&self, name: &str) -> bool {
        self.fields.matches(name).unwrap_or(true)
    }
}

/// What of `/proc/stat` is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StatConfig {
    /// Whether software interrupts are shown by their vector.
    pub softirq: bool,
}

/// Metrics that others leave in files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TextfileConfig {
    /// Directories whose `*.prom` files are read, as the host names them; `*`, `?` and `[]` stand for what
    /// matches.
    pub directories: Vec<PathBuf>,
}

/// What is asked of systemd, once the collector `systemd` is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SystemdConfig {
    /// Regular expression of units to show; empty: all.
    pub unit_include: Pattern,
    /// Regular expression of units to leave out; empty: none.
    pub unit_exclude: Pattern,
    /// Whether restarts of services are counted, which is one question more for each.
    pub restarts: bool,
    /// How long a scrape waits for systemd to answer, in milliseconds.
    pub patience_ms: u64,
}

impl Default for SystemdConfig {
    fn default() -> Self {
        SystemdConfig {
            unit_include: Pattern::default(),
            unit_exclude: Pattern::known(r"^.+\.(automount|device|mount|scope|slice)$"),
            restarts: false,
            patience_ms: 2000,
        }
    }
}

impl SystemdConfig {
    /// Whether a unit of this name is shown.
    #[must_use]
    pub fn shows(&self, name: &str) -> bool {
        self.unit_include.matches(name).unwrap_or(true) && !self.unit_exclude.matches(name).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<NodeMetricsConfig, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_need_be_said_and_what_is_said_can_be_read_back() {
        let config = parsed("{}").expect("valid");
        assert_eq!(config, NodeMetricsConfig::default());
        let text = serde_json::to_string(&config).expect("writes");
        assert_eq!(parsed(&text).expect("reads"), config);
        assert!(config.netstat.shows("Tcp_RetransSegs") && !config.netstat.shows("Tcp_MaxConn"));
        assert!(!config.netdev.shows("veth12") && config.netdev.shows("eth0"));
        assert!(!config.diskstats.shows("nvme0n1p2") && config.diskstats.shows("nvme0n1"));
    }

    #[test]
    fn an_unknown_collector_is_refused_with_the_nearest_name() {
        let error = parsed(r#"{"disable":["filesytem"]}"#).expect_err("unknown");
        assert!(error.contains("no collector `filesytem`; did you mean `filesystem`?"), "{error}");
    }

    #[test]
    fn a_name_that_is_near_to_none_is_refused_with_all_that_there_are() {
        for name in ["zfs", "xfs", "wifi", "rapl"] {
            let error = parsed(&format!(r#"{{"disable":["{name}"]}}"#)).expect_err("unknown");
            assert!(
                !error.contains("did you mean") && error.contains("known here: arp, bonding,"),
                "{error}"
            );
        }
    }

    fn refused(text: &str) -> Vec<String> {
        let found = parsed(text).expect("reads").validate();
        found.into_iter().map(|bad| format!("{}: {}", bad.key, bad.problem)).collect()
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert_eq!(
            refused(r#"{"enable":["hwmon","tcpstat"],"disable":["cpu","tcpstat"]}"#),
            ["disable[1]: `tcpstat` is in `enable`, too; take it out of one of the two"]
        );
        assert_eq!(
            refused(r#"{"filesystem":{"mount_points_include":"^/$","mount_points_exclude":"^/a"}}"#),
            ["filesystem.mount_points_include: `mount_points_exclude` is there, too; write one of the two"]
        );
        for text in ["{}", r#"{"filesystem":{"fs_types_include":"ext4","mount_points_exclude":"^/a"}}"#] {
            assert_eq!(refused(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn what_is_included_is_shown_whatever_is_left_out_by_default() {
        let config =
            r#"{"filesystem":{"mount_points_include":"^/(dev|data)$","fs_types_include":"^(ext4|tmpfs)$"}}"#;
        let config = parsed(config).expect("valid").filesystem;
        assert!(config.shows("/dev", "tmpfs") && config.shows("/data", "ext4"));
        assert!(!config.shows("/", "ext4") && !config.shows("/dev", "devtmpfs"));
        let default = FilesystemConfig::default();
        assert!(default.shows("/", "xfs") && !default.shows("/dev", "xfs") && !default.shows("/", "tracefs"));
    }

    #[test]
    fn unknown_keys_and_wrong_expressions_are_refused() {
        assert!(parsed(r#"{"netdevs":{}}"#).is_err());
        let error = parsed(r#"{"netdev":{"exclude":"(eth"}}"#).expect_err("unclosed");
        assert!(error.contains("unclosed group (character 1)"), "{error}");
    }

    #[test]
    fn collectors_are_switched_by_name_and_off_wins() {
        let config = parsed(r#"{"enable":["hwmon","tcpstat"],"disable":["tcpstat","cpu"]}"#).expect("valid");
        let on = |name| LIST.iter().find(|entry| entry.name == name).is_some_and(|entry| config.wants(entry));
        assert_eq!(["hwmon", "tcpstat", "cpu", "loadavg"].map(on), [true, false, false, true]);
    }

    #[test]
    fn every_key_is_described() {
        let schema = schemars::schema_for!(NodeMetricsConfig).to_value();
        let kinds = schema["$defs"].as_object().expect("definitions").values();
        for kind in kinds.chain([&schema]) {
            for (key, property) in kind["properties"].as_object().expect("keys") {
                assert!(property["description"].is_string(), "{key}");
            }
        }
    }
}
