//! `loadavg`: how many tasks run or wait, averaged over three spans of time.

use taffrail_kernfs::parse::{decimal, words};
use taffrail_kernfs::{Kept, Page, Roots};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, gauge, put, said};
use crate::list::Make;

static FAMILIES: [Family; 3] = [
    gauge("node_load1", &[], "Load average over one minute."),
    gauge("node_load5", &[], "Load average over five minutes."),
    gauge("node_load15", &[], "Load average over fifteen minutes."),
];

pub(crate) struct LoadAverage(Kept);

impl Make for LoadAverage {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        LoadAverage(Kept::new(roots.proc("loadavg")))
    }
}

impl Collect for LoadAverage {
    const NAME: &'static str = "loadavg";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut words = words(self.0.read_once(page)?).map(decimal);
        for family in &FAMILIES {
            put(samples, family, said(words.next().flatten(), self.0.path(), "fewer than three loads")?);
        }
        Ok(())
    }
}
