//! `arp`: neighbours that are known, by interface.

use std::collections::BTreeMap;

use taffrail_kernfs::parse::{lines, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles};
use taffrail_record::{AskError, Family, Samples};

use crate::families::{Collect, gauge};
use crate::list::Make;
use crate::sources::net;
use crate::{DeviceFilter, NodeMetricsConfig};

static FAMILIES: [Family; 1] = [gauge("node_arp_entries", &["device"], "ARP entries of an interface.")];

pub(crate) struct Arp {
    file: Kept,
    filter: DeviceFilter,
}

impl Make for Arp {
    fn make(config: &NodeMetricsConfig, roots: &Roots) -> Self {
        Arp { file: net(roots, "arp"), filter: config.arp.clone() }
    }
}

impl Collect for Arp {
    const NAME: &'static str = "arp";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        let mut counts: BTreeMap<&[u8], u32> = BTreeMap::new();
        for line in lines(self.file.read(page)?).skip(1) {
            match words(line).nth(5) {
                Some(device) => *counts.entry(device).or_default() += 1,
                None => troubles.note(ReadError::malformed(self.file.path(), "an entry without its device")),
            }
        }
        samples.family(&FAMILIES[0]);
        for (device, count) in counts {
            let device = String::from_utf8_lossy(device);
            if self.filter.shows(&device) {
                samples.sample(&[&device], count.into());
            }
        }
        troubles.told()
    }
}
