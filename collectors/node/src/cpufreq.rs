//! `cpufreq`: how fast processors run, and how fast they may.

use std::path::Path;

use taffrail_kernfs::{Kept, Page, Roots, Troubles};
use taffrail_record::{AskError, Family, Labels, Samples};

use crate::NodeMetricsConfig;
use crate::devices::{Devices, attribute};
use crate::families::{Collect, gauge};
use crate::list::Make;
use crate::sources::trailing;

const CPU: &[&str] = &["cpu"];
static FAMILIES: [Family; 6] = [
    gauge("node_cpu_frequency_hertz", CPU, "Frequency of a processor as the hardware tells it."),
    gauge("node_cpu_frequency_min_hertz", CPU, "Least frequency the hardware allows."),
    gauge("node_cpu_frequency_max_hertz", CPU, "Largest frequency the hardware allows."),
    gauge("node_cpu_scaling_frequency_hertz", CPU, "Frequency of a processor as the kernel set it."),
    gauge("node_cpu_scaling_frequency_min_hertz", CPU, "Least frequency the kernel may set."),
    gauge("node_cpu_scaling_frequency_max_hertz", CPU, "Largest frequency the kernel may set."),
];
const ATTRIBUTES: [&str; 6] = [
    "cpuinfo_cur_freq",
    "cpuinfo_min_freq",
    "cpuinfo_max_freq",
    "scaling_cur_freq",
    "scaling_min_freq",
    "scaling_max_freq",
];

pub(crate) struct CpuFreq(Devices<Processor>);

struct Processor {
    labels: Labels,
    files: [Kept; 6],
    figures: [Option<i64>; 6],
}

impl Make for CpuFreq {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        CpuFreq(Devices::new(roots.sys("devices/system/cpu")))
    }
}

impl Collect for CpuFreq {
    const NAME: &'static str = "cpufreq";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        let mut processors: Vec<&mut Processor> = self.0.now(Processor::new)?.collect();
        for processor in &mut processors {
            for (figure, file) in processor.figures.iter_mut().zip(&mut processor.files) {
                *figure = attribute(file, page, &mut troubles);
            }
        }
        for (at, family) in FAMILIES.iter().enumerate() {
            samples.family(family);
            for processor in &processors {
                if let Some(kilohertz) = processor.figures[at] {
                    samples.labelled(&[&processor.labels], kilohertz as f64 * 1e3);
                }
            }
        }
        troubles.told()
    }
}

impl Processor {
    fn new(name: &str, path: &Path) -> Option<Processor> {
        let number = trailing(name).filter(|number| name == format!("cpu{number}"))?.to_string();
        let folder = path.join("cpufreq");
        let labels = Labels::new([("cpu", number.as_str())]);
        let files = ATTRIBUTES.map(|name| Kept::new(folder.join(name)));
        folder.exists().then_some(Processor { labels, files, figures: [None; 6] })
    }
}
