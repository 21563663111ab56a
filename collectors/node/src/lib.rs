//! The node's metrics under node_exporter's names.
//!
//! One collector per file, each with node_exporter's name for it, so that a scraper, a dashboard or an alert
//! that knew node_exporter finds every series where it was. All read below [`Roots`]. What this kernel does
//! not have gives no sample; what cannot be understood gives no sample and an error, and never a zero.

mod config;
mod device;
mod devices;
mod families;
mod list;
mod pattern;
mod recall;
mod single;
mod sources;

mod arp;
mod bonding;
mod build_info;
mod conntrack;
mod cpu;
mod cpufreq;
mod diskstats;
mod dmi;
mod edac;
mod entropy;
mod filefd;
mod filesystem;
mod hwmon;
mod interrupts;
mod kernel_hung;
mod loadavg;
mod mdadm;
mod meminfo;
mod netclass;
mod netdev;
mod netlink;
mod netstat;
mod os;
mod powersupply;
mod pressure;
mod processes;
mod schedstat;
mod sockstat;
mod softirqs;
mod softnet;
mod stat;
mod systemd;
mod tcpstat;
mod textfile;
mod thermal_zone;
mod time;
mod timex;
mod udp_queues;
mod uname;
mod vmstat;

use std::sync::Arc;

pub use config::{
    BadValue, CollectorName, DeviceFilter, FieldFilter, FilesystemConfig, NodeMetricsConfig, StatConfig,
    SystemdConfig, TextfileConfig,
};
pub use families::READ_ERRORS;
pub use pattern::Pattern;
use taffrail_kernfs::Roots;
use taffrail_record::{Ask, Family};

use families::Collect as _;
use list::Make as _;
use textfile::Textfile;

/// The collectors that are switched on, in a fixed order.
#[must_use]
pub fn collectors(config: &NodeMetricsConfig, roots: &Roots) -> Vec<Arc<dyn Ask>> {
    collectors_beside(Vec::new(), &[], config, roots)
}

/// `others` that write on the same page, and behind them the collectors that are switched on. Files with
/// metrics come last: what others have written is theirs. Under the names of `said` the page speaks itself.
#[must_use]
pub fn collectors_beside(
    others: Vec<Arc<dyn Ask>>,
    said: &'static [Family],
    config: &NodeMetricsConfig,
    roots: &Roots,
) -> Vec<Arc<dyn Ask>> {
    let mut all = others;
    let wanted = list::LIST.iter().filter(|entry| config.wants(entry));
    let (files, own): (Vec<&list::Entry>, Vec<_>) = wanted.partition(|entry| entry.name == Textfile::NAME);
    all.extend(own.into_iter().map(|entry| (entry.make)(config, roots)));
    if !files.is_empty() {
        all.push(families::asked(Textfile::make(config, roots).beside(said)));
    }
    all
}

/// The collectors that there are and that are switched off, and what they would write.
#[must_use]
pub fn switched_off(config: &NodeMetricsConfig) -> Vec<(&'static str, &'static [Family])> {
    let off = list::LIST.iter().filter(|entry| !config.wants(entry));
    off.map(|entry| (entry.name, entry.families)).collect()
}
