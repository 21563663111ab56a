//! What one side leaves out because it was told to.
//!
//! Our own filters are known. The peer's are not: that it leaves something out is believed only when it has nothing at all
//! of it, has asked the collector in question, and does not have the same thing under a name of its own.

use std::collections::{BTreeMap, BTreeSet};

use taffrail_node::{FieldFilter, NodeMetricsConfig};
use taffrail_text::{Parsed, split, unescape};

use super::diff::Kind;

pub(super) const THEIRS: &str =
    "the peer's filter leaves it out: it has the collector and nothing of this device, mount or unit";
pub(super) const OURS: &str = "a filter of metrics.node leaves it out here";
pub(super) const OFF: &str = "its collector is off here; metrics.node.enable switches it on";

/// Families that one collector writes of each of its things, and the label that names the thing.
struct Group {
    collector: &'static str,
    prefixes: &'static [&'static str],
    label: &'static str,
}

/// The first that fits is taken.
static GROUPS: [Group; 7] = [
    group("netclass", &["node_network_transmit_queue_length"], "device"),
    group("netdev", &["node_network_receive_", "node_network_transmit_"], "device"),
    group("netclass", &["node_network_"], "device"),
    group("arp", &["node_arp_"], "device"),
    group("diskstats", &["node_disk_"], "device"),
    group("filesystem", &["node_filesystem_"], "mountpoint"),
    group("systemd", &["node_systemd_unit_", "node_systemd_service_", "node_systemd_socket_"], "name"),
];

const fn group(collector: &'static str, prefixes: &'static [&'static str], label: &'static str) -> Group {
    Group { collector, prefixes, label }
}

impl Group {
    fn of(family: &str) -> Option<&'static Group> {
        GROUPS.iter().find(|group| group.prefixes.iter().any(|prefix| family.starts_with(prefix)))
    }
}

/// A thing that a collector tells of: the collector, and what the thing is called.
type Thing = (&'static str, String);

/// The things of both sides.
pub(super) struct Filters<'c> {
    config: &'c NodeMetricsConfig,
    /// Ours, and theirs each with its file system's type where it has one.
    ours: BTreeSet<Thing>,
    theirs: BTreeMap<Thing, Option<String>>,
    /// Collectors with which the peer has had success.
    asked: BTreeSet<String>,
}

impl<'c> Filters<'c> {
    pub(super) fn new(config: &'c NodeMetricsConfig, ours: &[Parsed], theirs: &[Parsed]) -> Self {
        let mut told = BTreeMap::new();
        for (thing, kind) in things(theirs) {
            let known: &mut Option<String> = told.entry(thing).or_default();
            *known = known.take().or(kind);
        }
        let ours = things(ours).map(|(thing, _)| thing).collect();
        Filters { config, ours, theirs: told, asked: asked(theirs) }
    }

    /// Why one side alone has this series, if that is by a filter.
    pub(super) fn reason(&self, kind: Kind, family: &str, series: &str) -> Option<&'static str> {
        match kind {
            Kind::OnlyOurs => self.is_left_out_there(&thing(family, series)?.0).then_some(THEIRS),
            Kind::OnlyTheirs if self.is_left_out_here(family, series) => Some(OURS),
            Kind::OnlyTheirs => self.is_off(family).then_some(OFF),
            _ => None,
        }
    }

    fn is_left_out_there(&self, thing: &Thing) -> bool {
        let (collector, _) = *thing;
        let renamed = || {
            let of_it = self.theirs.iter().filter(|((other, _), _)| *other == collector);
            of_it
                .into_iter()
                .any(|(there, kind)| !self.ours.contains(there) && self.shows(there, kind.as_deref()))
        };
        !self.theirs.contains_key(thing) && self.asked.contains(collector) && !renamed()
    }

    fn is_left_out_here(&self, family: &str, series: &str) -> bool {
        let field = |prefix, filter: &FieldFilter| {
            family.strip_prefix(prefix).is_some_and(|name| !filter.shows(name))
        };
        if field("node_netstat_", &self.config.netstat) || field("node_vmstat_", &self.config.vmstat) {
            return true;
        }
        let Some((thing, _)) = thing(family, series) else { return false };
        let kind = self.theirs.get(&thing).and_then(Option::as_deref);
        !self.ours.contains(&thing) && !self.shows(&thing, kind)
    }

    /// Whether the filters here let a thing through.
    fn shows(&self, (collector, name): &Thing, kind: Option<&str>) -> bool {
        match *collector {
            "netdev" => self.config.netdev.shows(name),
            "netclass" => self.config.netclass.shows(name),
            "arp" => self.config.arp.shows(name),
            "diskstats" => self.config.diskstats.shows(name),
            "systemd" => self.config.systemd.shows(name),
            _ => self.config.filesystem.shows(name, kind.unwrap_or_default()),
        }
    }

    fn is_off(&self, family: &str) -> bool {
        taffrail_node::switched_off(self.config).iter().any(|(_, families)| {
            families.iter().any(|declared| match declared.name.split_once('*') {
                Some((start, end)) => !start.is_empty() && family.starts_with(start) && family.ends_with(end),
                None => declared.name == family,
            })
        })
    }
}

fn things(families: &[Parsed]) -> impl Iterator<Item = (Thing, Option<String>)> + '_ {
    let each = |family: &Parsed| {
        let thing = |(series, _): &(taffrail_record::Series, f64)| thing(&family.name, series.as_str());
        family.samples.iter().filter_map(thing).collect::<Vec<_>>()
    };
    families.iter().flat_map(each)
}

/// The thing that a series tells of, and its file system's type.
fn thing(family: &str, series: &str) -> Option<(Thing, Option<String>)> {
    let group = Group::of(family)?;
    let (_, labels) = split(series);
    let value =
        |wanted: &str| labels.iter().find(|(label, _)| *label == wanted).map(|(_, value)| unescape(value));
    Some(((group.collector, value(group.label)?), value("fstype")))
}

fn asked(families: &[Parsed]) -> BTreeSet<String> {
    let said = families.iter().filter(|family| family.name == "node_scrape_collector_success");
    let successes = said.flat_map(|family| &family.samples).filter(|(_, value)| *value == 1.0);
    let collector = |(series, _): &(taffrail_record::Series, f64)| {
        split(series.as_str())
            .1
            .into_iter()
            .find(|(label, _)| *label == "collector")
            .map(|(_, name)| unescape(name))
    };
    successes.filter_map(collector).collect()
}

#[cfg(test)]
mod tests {
    use taffrail_text::Times;

    use super::*;

    fn parsed(text: &str) -> Vec<Parsed> {
        taffrail_text::parse(text, Times::Ignored).expect("valid")
    }

    /// What is said of a series of `lo` that we alone have.
    fn of_loopback(theirs: &str) -> Option<&'static str> {
        let config = NodeMetricsConfig::default();
        let series = "node_network_receive_bytes_total{device=\"lo\"}";
        let ours = parsed(&format!("{series} 1\nnode_network_receive_bytes_total{{device=\"eth0\"}} 1\n"));
        let filters = Filters::new(&config, &ours, &parsed(theirs));
        filters.reason(Kind::OnlyOurs, "node_network_receive_bytes_total", series)
    }

    #[test]
    fn a_peers_filter_leaves_out_all_of_a_thing_and_puts_no_other_in_its_place() {
        let asked = "node_scrape_collector_success{collector=\"netdev\"} 1\n";
        let receive = |device: &str| format!("node_network_receive_bytes_total{{device=\"{device}\"}} 1\n");
        let transmit = "node_network_transmit_bytes_total{device=\"lo\"} 1\n";
        assert_eq!(of_loopback(&(asked.to_owned() + &receive("eth0"))), Some(THEIRS));
        let state = "node_network_up{device=\"lo\"} 0\nnode_network_transmit_queue_length{device=\"lo\"} 1\n";
        assert_eq!(of_loopback(&(asked.to_owned() + &receive("eth0") + state)), Some(THEIRS), "of netclass");
        assert_eq!(of_loopback(&(asked.to_owned() + &receive("veth12"))), Some(THEIRS), "left out here");
        assert_eq!(of_loopback(&receive("eth0")), None, "nobody says that it was asked");
        assert_eq!(of_loopback(&(asked.to_owned() + &receive("eth0") + transmit)), None, "it has some of it");
        assert_eq!(of_loopback(&(asked.to_owned() + &receive("eth1"))), None, "perhaps under another name");
    }

    #[test]
    fn what_the_filters_here_leave_out_and_what_is_off_is_known() {
        let config = NodeMetricsConfig::default();
        let of = |theirs: &str| {
            let families = parsed(theirs);
            let filters = Filters::new(&config, &[], &families);
            filters.reason(Kind::OnlyTheirs, &families[0].name, families[0].samples[0].0.as_str())
        };
        assert_eq!(of("node_disk_io_now{device=\"zram0\"} 1\n"), Some(OURS));
        assert_eq!(of("node_disk_io_now{device=\"vda\"} 1\n"), None);
        assert_eq!(of("node_netstat_Tcp_MaxConn 1\n"), Some(OURS));
        assert_eq!(of("node_netstat_Tcp_RetransSegs 1\n"), None);
        assert_eq!(of("node_filesystem_files{mountpoint=\"/a\",fstype=\"tracefs\"} 1\n"), Some(OURS));
        assert_eq!(of("node_filesystem_files{mountpoint=\"/a\",fstype=\"ext4\"} 1\n"), None);
        assert_eq!(of("node_hwmon_temp_celsius{chip=\"a\"} 1\n"), Some(OFF));
        assert_eq!(of("node_systemd_unit_state{name=\"a.service\"} 1\n"), Some(OFF));
        assert_eq!(of("node_load1 1\n"), None);
    }
}
