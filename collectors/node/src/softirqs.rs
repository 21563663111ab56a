//! `softirqs`: software interrupts, by processor and kind.

use taffrail_kernfs::parse::{lines, number, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, counter};
use crate::list::Make;

static FAMILIES: [Family; 1] = [counter(
    "node_softirqs_functions_total",
    &["cpu", "type"],
    "Software interrupts that a processor serviced, by kind.",
)];

pub(crate) struct SoftIrqs(Kept);

impl Make for SoftIrqs {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        SoftIrqs(Kept::new(roots.proc("softirqs")))
    }
}

impl Collect for SoftIrqs {
    const NAME: &'static str = "softirqs";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        samples.family(&FAMILIES[0]);
        for row in lines(self.0.read(page)?).skip(1) {
            let mut words = words(row);
            let kind = words.next().and_then(|word| std::str::from_utf8(word).ok()?.strip_suffix(':'));
            let Some(kind) = kind else {
                troubles.note(ReadError::malformed(self.0.path(), "a line without its name"));
                continue;
            };
            for (cpu, value) in words.map(number).enumerate() {
                match value {
                    Some(value) => samples.sample(&[&cpu.to_string(), kind], value as f64),
                    None => troubles.note(ReadError::malformed(self.0.path(), "a count that is no number")),
                }
            }
        }
        troubles.told()
    }
}
