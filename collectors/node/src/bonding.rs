//! `bonding`: how many interfaces of a bond there should be, and how many carry.

use std::path::PathBuf;

use taffrail_kernfs::{Page, Roots, Troubles, read_text};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, gauge};
use crate::list::Make;

static FAMILIES: [Family; 2] = [
    gauge("node_bonding_slaves", &["master"], "Interfaces that belong to a bond."),
    gauge("node_bonding_active", &["master"], "Interfaces of a bond that have a link."),
];

pub(crate) struct Bonding(PathBuf);

impl Make for Bonding {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        Bonding(roots.sys("class/net"))
    }
}

impl Collect for Bonding {
    const NAME: &'static str = "bonding";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        let masters = read_text(&self.0.join("bonding_masters"), page)?;
        for master in masters.split_whitespace() {
            let slaves = read_text(&self.0.join(master).join("bonding/slaves"), page);
            let Some(slaves) = troubles.take(slaves) else { continue };
            let up = slaves.split_whitespace().filter(|slave| self.is_up(master, slave, page, &mut troubles));
            let active = up.count() as f64;
            samples.family(&FAMILIES[0]);
            samples.sample(&[master], slaves.split_whitespace().count() as f64);
            samples.family(&FAMILIES[1]);
            samples.sample(&[master], active);
        }
        troubles.told()
    }
}

impl Bonding {
    fn is_up(&self, master: &str, slave: &str, page: &mut Page, troubles: &mut Troubles) -> bool {
        let folder = self.0.join(master);
        // Old kernels say slave_ for what new ones say lower_.
        let lower = folder.join(format!("lower_{slave}"));
        let folder = if lower.exists() { lower } else { folder.join(format!("slave_{slave}")) };
        let status = troubles.take(read_text(&folder.join("bonding_slave/mii_status"), page));
        status.is_some_and(|status| status == "up")
    }
}
