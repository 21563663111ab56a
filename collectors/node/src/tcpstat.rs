//! `tcpstat`: how many connections are in which state.

use nix::sys::socket::SockProtocol;
use taffrail_kernfs::parse::{hexadecimal, lines, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, ended, gauge, said};
use crate::list::Make;
use crate::netlink::{Dump, word};
use crate::sources::{net, shares_network};

static FAMILIES: [Family; 1] = [gauge(
    "node_tcp_connection_states",
    &["state"],
    "Connections that are in a state; also the bytes that wait in all of them.",
)];

/// In the order of the kernel's numbers, from 1.
const STATES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST: usize = 56;

pub(crate) struct TcpStat {
    /// Where the agent is in the host's network the kernel can be asked.
    dumps: Vec<Dump>,
    files: [Kept; 2],
}

#[derive(Default)]
struct Counts {
    states: [u64; STATES.len()],
    received: u64,
    sent: u64,
}

impl Make for TcpStat {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        let families = if shares_network(roots) { vec![libc::AF_INET, libc::AF_INET6] } else { Vec::new() };
        let dumps = families.into_iter().filter_map(dump).collect();
        TcpStat { dumps, files: [net(roots, "tcp"), net(roots, "tcp6")] }
    }
}

fn dump(family: i32) -> Option<Dump> {
    let mut request = [0; REQUEST];
    request[0] = u8::try_from(family).ok()?;
    request[1] = u8::try_from(libc::IPPROTO_TCP).ok()?;
    request[4..8].fill(u8::MAX);
    Dump::new(SockProtocol::NetlinkSockDiag, SOCK_DIAG_BY_FAMILY, &request).ok()
}

impl Collect for TcpStat {
    const NAME: &'static str = "tcpstat";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        if let Some(counts) = self.ask() {
            counts.write(samples);
            return Ok(());
        }
        let (mut counts, mut troubles, mut found) = (Counts::default(), Troubles::default(), false);
        for file in &mut self.files {
            found |= troubles.take(counts.read(file, page)).is_some();
        }
        if found {
            counts.write(samples);
        }
        ended(troubles, found, self.files[0].path())
    }
}

impl TcpStat {
    fn ask(&mut self) -> Option<Counts> {
        let mut counts = Counts::default();
        let mut asked = None;
        for dump in &mut self.dumps {
            let each = dump.each(|message| {
                let queues = word(message, 56).zip(word(message, 60)).unwrap_or_default();
                counts.add(
                    message.get(1).copied().unwrap_or_default().into(),
                    queues.0.into(),
                    queues.1.into(),
                );
            });
            asked = Some(each.ok()?);
        }
        asked.map(|()| counts)
    }
}

impl Counts {
    fn add(&mut self, state: u64, received: u64, sent: u64) {
        let place = state.checked_sub(1).and_then(|at| self.states.get_mut(at as usize));
        place.into_iter().for_each(|count| *count += 1);
        self.received = self.received.saturating_add(received);
        self.sent = self.sent.saturating_add(sent);
    }

    fn read(&mut self, file: &mut Kept, page: &mut Page) -> Result<(), ReadError> {
        let text = file.read(page)?;
        let mut rows = lines(text);
        said(rows.next(), file.path(), "nothing in it")?;
        for row in rows {
            let mut words = words(row).skip(3);
            let (state, queues) = (words.next().and_then(hexadecimal), words.next());
            let queues = queues.and_then(|queues| {
                let colon = memchr::memchr(b':', queues)?;
                Some((hexadecimal(&queues[..colon])?, hexadecimal(&queues[colon + 1..])?))
            });
            let (state, (sent, received)) = said(state.zip(queues), file.path(), "a socket without a state")?;
            self.add(state, received, sent);
        }
        Ok(())
    }

    fn write(&self, samples: &mut dyn Samples) {
        samples.family(&FAMILIES[0]);
        for (state, count) in STATES.iter().zip(self.states) {
            samples.sample(&[state], count as f64);
        }
        samples.sample(&["rx_queued_bytes"], self.received as f64);
        samples.sample(&["tx_queued_bytes"], self.sent as f64);
    }
}
