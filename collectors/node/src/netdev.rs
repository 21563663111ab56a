//! `netdev`: what went over the network interfaces.
//!
//! Asked of the kernel by netlink when the agent is in the host's network, else read from the host's
//! `net/dev`, which has the same figures but one.

use nix::sys::socket::SockProtocol;
use taffrail_kernfs::parse::{lines, number, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles};
use taffrail_record::{AskError, Family, Samples};

use crate::families::{Collect, counter};
use crate::list::Make;
use crate::netlink::{Dump, GET_LINK, LINK_HEADER, LINK_NAME, attributes};
use crate::recall::Table;
use crate::sources::{net, shares_network};
use crate::{DeviceFilter, NodeMetricsConfig};

const DEVICE: &[&str] = &["device"];
const FIGURES: usize = 17;
/// In the order of `net/dev`, with the one behind them that it lacks.
static FAMILIES: [Family; FIGURES] = [
    counter("node_network_receive_bytes_total", DEVICE, "Bytes received."),
    counter("node_network_receive_packets_total", DEVICE, "Packets received."),
    counter("node_network_receive_errs_total", DEVICE, "Packets received with errors."),
    counter("node_network_receive_drop_total", DEVICE, "Packets received and dropped."),
    counter("node_network_receive_fifo_total", DEVICE, "Packets lost because a receive queue was full."),
    counter("node_network_receive_frame_total", DEVICE, "Frames received that were no frames."),
    counter("node_network_receive_compressed_total", DEVICE, "Compressed packets received."),
    counter("node_network_receive_multicast_total", DEVICE, "Multicast packets received."),
    counter("node_network_transmit_bytes_total", DEVICE, "Bytes sent."),
    counter("node_network_transmit_packets_total", DEVICE, "Packets sent."),
    counter("node_network_transmit_errs_total", DEVICE, "Packets that could not be sent."),
    counter("node_network_transmit_drop_total", DEVICE, "Packets dropped instead of sent."),
    counter(
        "node_network_transmit_fifo_total",
        DEVICE,
        "Packets lost because a send queue was empty too early.",
    ),
    counter("node_network_transmit_colls_total", DEVICE, "Collisions while sending."),
    counter("node_network_transmit_carrier_total", DEVICE, "Packets not sent for want of a carrier."),
    counter("node_network_transmit_compressed_total", DEVICE, "Compressed packets sent."),
    counter("node_network_receive_nohandler_total", DEVICE, "Packets received that nobody was there for."),
];

const STATISTICS: u16 = 23;
/// Which of the kernel's statistics make up each figure.
const SUMS: [&[usize]; FIGURES] = [
    &[2],
    &[0],
    &[4],
    &[6, 15],
    &[14],
    &[10, 11, 12, 13],
    &[21],
    &[8],
    &[3],
    &[1],
    &[5],
    &[7],
    &[18],
    &[9],
    &[16, 17, 19, 20],
    &[22],
    &[23],
];

pub(crate) struct NetDev {
    dump: Option<Dump>,
    file: Kept,
    filter: DeviceFilter,
    table: Table<FIGURES>,
}

impl Make for NetDev {
    fn make(config: &NodeMetricsConfig, roots: &Roots) -> Self {
        let dump = || Dump::new(SockProtocol::NetlinkRoute, GET_LINK, &[0; LINK_HEADER]).ok();
        NetDev {
            dump: shares_network(roots).then(dump).flatten(),
            file: net(roots, "dev"),
            filter: config.netdev.clone(),
            table: Table::default(),
        }
    }
}

impl Collect for NetDev {
    const NAME: &'static str = "netdev";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        if self.ask().is_none() {
            self.read(page, &mut troubles)?;
        }
        self.table.write(&FAMILIES, samples);
        troubles.told()
    }
}

impl NetDev {
    fn ask(&mut self) -> Option<()> {
        let NetDev { dump, filter, table, .. } = self;
        table.begin();
        let asked = dump.as_mut()?.each(|message| {
            let found = |wanted| move |(kind, value): (u16, _)| (kind == wanted).then_some(value);
            let body = message.get(LINK_HEADER..).unwrap_or_default();
            let name =
                attributes(body).find_map(found(LINK_NAME)).and_then(|name: &[u8]| name.strip_suffix(b"\0"));
            let Some((name, statistics)) = name.zip(attributes(body).find_map(found(STATISTICS))) else {
                return;
            };
            if let Some(row) = table.row(name, |name| filter.labels(name)) {
                *row = SUMS.map(|places| sum(statistics, places));
            }
        });
        // A sandbox may forbid it at any time; the file remains.
        asked.ok()
    }

    fn read(&mut self, page: &mut Page, troubles: &mut Troubles) -> Result<(), ReadError> {
        self.table.begin();
        for line in lines(self.file.read(page)?).skip(2) {
            // The name ends at the last colon: that of an alias has one in it.
            let Some(colon) = memchr::memrchr(b':', line) else {
                troubles.note(ReadError::malformed(self.file.path(), "a line without an interface"));
                continue;
            };
            let name = line[..colon].trim_ascii();
            let Some(row) = self.table.row(name, |name| self.filter.labels(name)) else { continue };
            let figures = words(&line[colon + 1..]).map(number);
            row.iter_mut().zip(figures).for_each(|(place, value)| *place = value.map(|value| value as f64));
            if row[..FIGURES - 1].contains(&None) {
                troubles.note(ReadError::malformed(self.file.path(), "an interface lacks figures"));
            }
        }
        Ok(())
    }
}

/// Older kernels have fewer statistics.
fn sum(statistics: &[u8], places: &[usize]) -> Option<f64> {
    let mut sum = 0_u64;
    for place in places {
        sum = sum.wrapping_add(u64::from_ne_bytes(*statistics.get(place * 8..)?.first_chunk()?));
    }
    Some(sum as f64)
}
