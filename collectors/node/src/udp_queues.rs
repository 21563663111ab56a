//! `udp_queues`: bytes that wait in UDP sockets.

use taffrail_kernfs::parse::{hexadecimal, lines, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, ended, gauge, said};
use crate::list::Make;
use crate::sources::net;

static FAMILIES: [Family; 1] =
    [gauge("node_udp_queues", &["queue", "ip"], "Bytes that wait in the queues of UDP sockets.")];

pub(crate) struct UdpQueues([(&'static str, Kept); 2]);

impl Make for UdpQueues {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        UdpQueues([("v4", net(roots, "udp")), ("v6", net(roots, "udp6"))])
    }
}

impl Collect for UdpQueues {
    const NAME: &'static str = "udp_queues";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        let mut found = false;
        samples.family(&FAMILIES[0]);
        for (version, file) in &mut self.0 {
            if let Some([sent, received]) = troubles.take(queues(file, page)) {
                samples.sample(&["tx", version], sent as f64);
                samples.sample(&["rx", version], received as f64);
                found = true;
            }
        }
        ended(troubles, found, self.0[0].1.path())
    }
}

/// What waits to be sent and to be received, over all sockets.
fn queues(file: &mut Kept, page: &mut Page) -> Result<[u64; 2], ReadError> {
    let text = file.read(page)?;
    let mut rows = lines(text);
    let mut sums = said(rows.next().map(|_| [0_u64; 2]), file.path(), "nothing in it")?;
    for row in rows {
        let pair = words(row).nth(4).and_then(|word| {
            let colon = word.iter().position(|byte| *byte == b':')?;
            Some((hexadecimal(&word[..colon])?, hexadecimal(&word[colon + 1..])?))
        });
        let (sent, received) = said(pair, file.path(), "a socket without queues")?;
        sums = [sums[0].saturating_add(sent), sums[1].saturating_add(received)];
    }
    Ok(sums)
}
