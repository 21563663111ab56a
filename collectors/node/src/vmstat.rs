//! `vmstat`: the chosen lines of `/proc/vmstat` under their own names.

use taffrail_kernfs::parse::pairs;
use taffrail_kernfs::{Kept, Page, Roots};
use taffrail_record::{AskError, Family, Kind, Samples};

use crate::device::valid;
use crate::families::{Collect, said};
use crate::list::Make;
use crate::recall::Recall;
use crate::{FieldFilter, NodeMetricsConfig};

static FAMILIES: [Family; 1] = [Family {
    name: "node_vmstat_*",
    kind: Kind::Untyped,
    help: "A line of /proc/vmstat; of those that only grow the rate is meant.",
    labels: &[],
}];

pub(crate) struct VmStat {
    file: Kept,
    fields: FieldFilter,
    names: Recall<Option<(String, String)>>,
}

impl Make for VmStat {
    fn make(config: &NodeMetricsConfig, roots: &Roots) -> Self {
        let file = Kept::new(roots.proc("vmstat"));
        VmStat { file, fields: config.vmstat.clone(), names: Recall::default() }
    }
}

impl Collect for VmStat {
    const NAME: &'static str = "vmstat";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        self.names.begin();
        let mut found = None;
        for (key, value) in pairs(self.file.read(page)?) {
            found = Some(());
            let name = self.names.next(key, |key| {
                let name = || (format!("node_vmstat_{}", valid(key)), format!("{key} of /proc/vmstat."));
                self.fields.shows(key).then(name)
            });
            if let Some((name, help)) = name {
                samples.named(name, Kind::Untyped, help);
                samples.sample(&[], value as f64);
            }
        }
        Ok(said(found, self.file.path(), "no line with a name and a number")?)
    }
}
