//! `netclass`: what state the network interfaces are in.
//!
//! In the host's network the kernel is asked by netlink, in one question for all interfaces, whether anything about
//! them changed. Of one that did not only those files are read again that may change without it being said.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use nix::sys::socket::SockProtocol;
use taffrail_kernfs::parse::hexadecimal;
use taffrail_kernfs::{Kept, Page, Reason, Roots, Troubles};
use taffrail_record::{AskError, Family, Labels, Samples};

use crate::device::device;
use crate::devices::{Devices, attribute, is_quiet};
use crate::families::{Collect, counter, flag, gauge};
use crate::list::Make;
use crate::netlink::{Dump, GET_LINK, LINK_HEADER, LINK_NAME, attributes};
use crate::sources::shares_network;
use crate::{DeviceFilter, NodeMetricsConfig};

const DEVICE: &[&str] = &["device"];
const INFO_LABELS: &[&str] =
    &["device", "address", "broadcast", "duplex", "operstate", "adminstate", "ifalias"];
static FAMILIES: [Family; 19] = [
    gauge("node_network_carrier", DEVICE, "Whether the interface has a link."),
    counter("node_network_carrier_changes_total", DEVICE, "How often the link came or went."),
    counter("node_network_carrier_up_changes_total", DEVICE, "How often the link came."),
    counter("node_network_carrier_down_changes_total", DEVICE, "How often the link went."),
    gauge("node_network_dormant", DEVICE, "Whether the interface waits for something, such as a login."),
    gauge("node_network_flags", DEVICE, "The interface's flags, as bits."),
    gauge("node_network_iface_link_mode", DEVICE, "The interface's link mode."),
    gauge("node_network_mtu_bytes", DEVICE, "Largest packet, in bytes."),
    gauge("node_network_net_dev_group", DEVICE, "The interface's group."),
    gauge("node_network_speed_bytes", DEVICE, "Speed of the link, in bytes per second."),
    gauge("node_network_transmit_queue_length", DEVICE, "How many packets may wait to be sent."),
    gauge("node_network_address_assign_type", DEVICE, "How the interface came to its address, as a number."),
    gauge("node_network_device_id", DEVICE, "Tells interfaces on one address apart."),
    gauge("node_network_iface_id", DEVICE, "The interface's number."),
    gauge("node_network_iface_link", DEVICE, "The number of the interface that this one lies on."),
    gauge("node_network_name_assign_type", DEVICE, "How the interface came to its name, as a number."),
    gauge("node_network_protocol_type", DEVICE, "The interface's type, as a number."),
    gauge("node_network_up", DEVICE, "Whether the interface is up."),
    gauge("node_network_info", INFO_LABELS, "Always 1; the interface's addresses and states."),
];
const FLAGS: usize = 5;
const SPEED: usize = 9;
/// From here on figures stay as they are while the interface lives.
const FIXED: usize = 11;
const IFINDEX: usize = 13;
const UP: usize = 17;
const INFO: usize = 18;

/// The attributes behind the families, in their order.
const ATTRIBUTES: [&str; UP] = [
    "carrier",
    "carrier_changes",
    "carrier_up_count",
    "carrier_down_count",
    "dormant",
    "flags",
    "link_mode",
    "mtu",
    "netdev_group",
    "speed",
    "tx_queue_len",
    "addr_assign_type",
    "dev_id",
    "ifindex",
    "iflink",
    "name_assign_type",
    "type",
];
const TEXTS: [&str; 5] = ["address", "broadcast", "duplex", "operstate", "ifalias"];
const DUPLEX: usize = 2;
const OPERSTATE: usize = 3;
/// Numbers that change without netlink saying so.
const UNSAID: [usize; 2] = [FLAGS, SPEED];
/// So often everything is read after a change: a driver may have been too busy to tell at first.
const AGREED: u8 = 2;
/// Parts of a netlink message that change all the time: statistics, and addresses with their statistics.
const RESTLESS: [u16; 3] = [7, 23, 26];
/// Beyond so many interfaces descriptors are not kept: they would be more than a process may have.
const KEPT: usize = 16;

pub(crate) struct NetClass {
    dump: Option<Dump>,
    devices: Devices<Interface>,
    filter: DeviceFilter,
}

struct Interface {
    name: String,
    device: Labels,
    numbers: [Kept; UP],
    texts: [Kept; TEXTS.len()],
    figures: [Option<f64>; UP],
    said: [Vec<u8>; TEXTS.len()],
    info: Option<Labels>,
    read: bool,
    /// Whether the last scrape could read all that it looked for: what failed is looked for again.
    whole: bool,
    stamp: Option<u64>,
    /// In how many scrapes the stamp was the same.
    agreed: u8,
}

impl Make for NetClass {
    fn make(config: &NodeMetricsConfig, roots: &Roots) -> Self {
        let dump = || Dump::new(SockProtocol::NetlinkRoute, GET_LINK, &[0; LINK_HEADER]).ok();
        NetClass {
            dump: shares_network(roots).then(dump).flatten(),
            devices: Devices::new(roots.sys("class/net")),
            filter: config.netclass.clone(),
        }
    }
}

impl Collect for NetClass {
    const NAME: &'static str = "netclass";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        let stamps = self.dump.as_mut().map(stamps).unwrap_or_default();
        let filter = &self.filter;
        let make = |name: &str, path: &Path| {
            (filter.shows(name) && path.is_dir()).then(|| Interface::new(name, path))
        };
        let mut interfaces: Vec<&mut Interface> = self.devices.now(make)?.collect();
        let many = interfaces.len() > KEPT;
        for interface in &mut interfaces {
            let stamp = stamps.get(interface.name.as_bytes()).copied();
            let before = errors(&troubles);
            interface.refresh(stamp, page, &mut troubles);
            interface.whole = errors(&troubles) == before;
            if many {
                interface.close();
            }
        }
        for (at, family) in FAMILIES.iter().enumerate() {
            samples.family(family);
            interfaces.iter().for_each(|interface| interface.write(at, samples));
        }
        troubles.told()
    }
}

impl Interface {
    fn new(name: &str, path: &Path) -> Interface {
        Interface {
            name: name.to_owned(),
            device: device(name),
            numbers: ATTRIBUTES.map(|name| Kept::new(path.join(name))),
            texts: TEXTS.map(|name| Kept::new(path.join(name))),
            figures: [None; UP],
            said: Default::default(),
            info: None,
            read: false,
            whole: false,
            stamp: None,
            agreed: 0,
        }
    }

    fn close(&mut self) {
        self.numbers.iter_mut().chain(&mut self.texts).for_each(Kept::close);
    }

    /// `stamp` is another when something about the interface is; nothing where that is not known.
    fn refresh(&mut self, stamp: Option<u64>, page: &mut Page, troubles: &mut Troubles) {
        let flags = self.figures[FLAGS];
        self.agreed = if stamp.is_some() && stamp == self.stamp { self.agreed.saturating_add(1) } else { 0 };
        let unchanged = self.read && self.whole && self.agreed >= AGREED;
        self.stamp = stamp;
        let known = unchanged || (self.is_known(page, troubles) && self.whole);
        for at in 0..UP {
            // What it did not tell it will not tell before something changes.
            let skipped = if unchanged {
                !UNSAID.contains(&at) || self.figures[at].is_none()
            } else {
                known && at >= FIXED
            };
            if skipped {
                continue;
            }
            self.figures[at] = figure(at, &mut self.numbers[at], page, troubles);
        }
        let mut same = known && flags == self.figures[FLAGS];
        for (at, (file, said)) in self.texts.iter_mut().zip(&mut self.said).enumerate() {
            if !unchanged || (at == DUPLEX && !said.is_empty()) {
                same &= !renew(said, file, page, troubles);
            }
        }
        if !same || self.info.is_none() {
            self.info = Some(self.labels());
        }
    }

    /// Whether it is the one that was read before: one that went and came back under its name has another number.
    fn is_known(&mut self, page: &mut Page, troubles: &mut Troubles) -> bool {
        let number = attribute(&mut self.numbers[IFINDEX], page, troubles).map(|number| number as f64);
        std::mem::replace(&mut self.read, number.is_some()) && number == self.figures[IFINDEX]
    }

    fn text(&self, at: usize) -> String {
        String::from_utf8_lossy(&self.said[at]).into_owned()
    }

    fn labels(&self) -> Labels {
        let [address, broadcast, duplex, operstate, alias] = [0, 1, 2, 3, 4].map(|at| self.text(at));
        let admin = match self.figures[FLAGS] {
            None => "unknown",
            Some(flags) if flags as u64 & 1 == 1 => "up",
            Some(_) => "down",
        };
        let values = [&*self.name, &*address, &*broadcast, &*duplex, &*operstate, admin, &*alias];
        Labels::new(INFO_LABELS.iter().copied().zip(values))
    }

    fn write(&self, at: usize, samples: &mut dyn Samples) {
        match at {
            // One whose number cannot be read went away while it was looked at.
            INFO if !self.read => {}
            INFO => self.info.iter().for_each(|info| samples.labelled(&[info], 1.0)),
            UP if self.said[OPERSTATE].is_empty() => {}
            UP => samples.labelled(&[&self.device], flag(self.said[OPERSTATE] == b"up")),
            _ => self.figures[at].iter().for_each(|value| samples.labelled(&[&self.device], *value)),
        }
    }
}

/// What the kernel says of each interface, as one number; of none when it does not answer.
fn stamps(dump: &mut Dump) -> HashMap<Vec<u8>, u64> {
    let mut stamps = HashMap::new();
    let asked = dump.each(|message| {
        let Some((head, body)) = message.split_at_checked(LINK_HEADER) else { return };
        let name = attributes(body).find_map(|(kind, value)| (kind == LINK_NAME).then_some(value));
        let Some(name) = name.and_then(|name| name.strip_suffix(b"\0")) else { return };
        let mut hasher = DefaultHasher::new();
        head.hash(&mut hasher);
        let still = attributes(body).filter(|(kind, _)| !RESTLESS.contains(kind));
        still.for_each(|attribute| attribute.hash(&mut hasher));
        stamps.insert(name.to_vec(), hasher.finish());
    });
    if asked.is_ok() { stamps } else { HashMap::new() }
}

/// Reads that failed, those of what went away meanwhile as well.
fn errors(troubles: &Troubles) -> u64 {
    [Reason::Gone, Reason::Denied, Reason::Malformed, Reason::Failed]
        .map(|reason| troubles.count(reason))
        .iter()
        .sum()
}

/// Whether what the file says has changed. A driver that does not tell says nothing.
fn renew(said: &mut Vec<u8>, file: &mut Kept, page: &mut Page, troubles: &mut Troubles) -> bool {
    let text = match file.read_once(page) {
        Err(error) if is_quiet(&error) => b"",
        read => troubles.take(read).unwrap_or_default().trim_ascii(),
    };
    let changed = said != text;
    if changed {
        said.clear();
        said.extend_from_slice(text);
    }
    changed
}

fn figure(at: usize, file: &mut Kept, page: &mut Page, troubles: &mut Troubles) -> Option<f64> {
    if ATTRIBUTES[at] == "flags" || ATTRIBUTES[at] == "dev_id" {
        let text = troubles.take(file.read_once(page))?.trim_ascii();
        return Some(hexadecimal(text.strip_prefix(b"0x")?)? as f64);
    }
    let value = attribute(file, page, troubles)? as f64;
    // Megabits; a driver that does not know says -1.
    Some(if at == SPEED { value * 1e6 / 8.0 } else { value })
}
