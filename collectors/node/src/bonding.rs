//! `bonding`: how many interfaces of a bond there should be, and how many carry.

use std::path::PathBuf;

use taffrail_kernfs::{Page, ReadError, Roots, Troubles, read_text};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, gauge, said};
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
            samples.family(&FAMILIES[0]);
            samples.sample(&[master], slaves.split_whitespace().count() as f64);
            let up = |slave| troubles.take(self.is_up(master, slave, page));
            let up: Option<Vec<bool>> = slaves.split_whitespace().map(up).collect();
            if let Some(up) = up {
                samples.family(&FAMILIES[1]);
                samples.sample(&[master], up.into_iter().filter(|up| *up).count() as f64);
            }
        }
        troubles.told()
    }
}

impl Bonding {
    fn is_up(&self, master: &str, slave: &str, page: &mut Page) -> Result<bool, ReadError> {
        let folder = self.0.join(master);
        // Old kernels say slave_ for what new ones say lower_.
        let lower = folder.join(format!("lower_{slave}"));
        let folder = if lower.exists() { lower } else { folder.join(format!("slave_{slave}")) };
        let path = folder.join("bonding_slave/mii_status");
        let status = read_text(&path, page)?;
        said((!status.is_empty()).then_some(status == "up"), &path, "nothing in it")
    }
}
