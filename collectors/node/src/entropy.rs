//! `entropy`: how much randomness the kernel has gathered.

use taffrail_kernfs::{Kept, Page, Roots};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, gauge};
use crate::list::Make;
use crate::single::{Single, write_all};

static FAMILIES: [Family; 2] = [
    gauge("node_entropy_available_bits", &[], "Entropy that is available, in bits."),
    gauge("node_entropy_pool_size_bits", &[], "Size of the pool of entropy, in bits."),
];

pub(crate) struct Entropy([Single; 2]);

impl Make for Entropy {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        let file = |name: &str| Kept::new(roots.proc(&format!("sys/kernel/random/{name}")));
        Entropy([(&FAMILIES[0], file("entropy_avail")), (&FAMILIES[1], file("poolsize"))])
    }
}

impl Collect for Entropy {
    const NAME: &'static str = "entropy";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        write_all(&mut self.0, page, samples)
    }
}
