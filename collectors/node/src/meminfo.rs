//! `meminfo`: every line of `/proc/meminfo` under its own name.

use taffrail_kernfs::parse::{lines, number, words};
use taffrail_kernfs::{Kept, Page, Roots, Troubles};
use taffrail_record::{AskError, Family, Kind, Samples};

use crate::NodeMetricsConfig;
use crate::device::valid;
use crate::families::{Collect, gauge, said};
use crate::list::Make;
use crate::recall::Recall;

static FAMILIES: [Family; 2] = [
    gauge("node_memory_*_bytes", &[], "A line of /proc/meminfo, in bytes."),
    gauge("node_memory_*", &[], "A line of /proc/meminfo that is a count, such as HugePages_Total."),
];

pub(crate) struct MemInfo {
    file: Kept,
    names: Recall<Line>,
}

struct Line {
    name: String,
    help: String,
    unit: f64,
}

impl Make for MemInfo {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        MemInfo { file: Kept::new(roots.proc("meminfo")), names: Recall::default() }
    }
}

impl Collect for MemInfo {
    const NAME: &'static str = "meminfo";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        self.names.begin();
        let text = self.file.read_once(page)?;
        said((!text.trim_ascii().is_empty()).then_some(()), self.file.path(), "nothing in it")?;
        for line in lines(text) {
            let mut words = words(line);
            let key = words.next().and_then(|word| word.strip_suffix(b":"));
            let (value, unit) = (words.next().and_then(number), words.next());
            let both = said(key.zip(value), self.file.path(), "a line without name or number");
            let Some((key, value)) = troubles.take(both) else { continue };
            let line = self.names.next(key, |key| Line::new(key, unit == Some(b"kB")));
            samples.named(&line.name, Kind::Gauge, &line.help);
            samples.sample(&[], value as f64 * line.unit);
        }
        troubles.told()
    }
}

impl Line {
    /// `Active(anon)` in kB is `node_memory_Active_anon_bytes`.
    fn new(key: &str, kilobytes: bool) -> Line {
        let (suffix, unit) = if kilobytes { ("_bytes", 1024.0) } else { ("", 1.0) };
        let name = format!("node_memory_{}{suffix}", valid(key.trim_end_matches(')')));
        Line { name, help: format!("{key} of /proc/meminfo."), unit }
    }
}
