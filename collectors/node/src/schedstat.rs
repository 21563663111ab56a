//! `schedstat`: how long tasks ran and waited to run, by processor.

use taffrail_kernfs::parse::{lines, number, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles};
use taffrail_record::{AskError, Family, Labels, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, counter};
use crate::list::Make;
use crate::recall::Table;

static FAMILIES: [Family; 3] = [
    counter("node_schedstat_running_seconds_total", &["cpu"], "Seconds that tasks ran on a processor."),
    counter("node_schedstat_waiting_seconds_total", &["cpu"], "Seconds that tasks waited for a processor."),
    counter("node_schedstat_timeslices_total", &["cpu"], "Time slices that a processor gave."),
];
const UNITS: [f64; 3] = [1e9, 1e9, 1.0];

pub(crate) struct SchedStat {
    file: Kept,
    table: Table<3>,
}

impl Make for SchedStat {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        SchedStat { file: Kept::new(roots.proc("schedstat")), table: Table::default() }
    }
}

impl Collect for SchedStat {
    const NAME: &'static str = "schedstat";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        self.table.begin();
        for line in lines(self.file.read(page)?) {
            let mut words = words(line);
            let Some(cpu) = words.next().and_then(|word| word.strip_prefix(b"cpu")) else { continue };
            let Some(row) = self.table.row(cpu, |cpu| Some(Labels::new([("cpu", cpu)]))) else { continue };
            // Six figures of the scheduler itself come first.
            for (figure, (word, unit)) in row.iter_mut().zip(words.skip(6).map(number).zip(UNITS)) {
                *figure = word.map(|value| value as f64 / unit);
            }
            if row.contains(&None) {
                troubles.note(ReadError::malformed(self.file.path(), "a processor lacks figures"));
            }
        }
        self.table.write(&FAMILIES, samples);
        troubles.told()
    }
}
