//! `softnet`: packets that processors took off the network.

use taffrail_kernfs::parse::{hexadecimal, lines, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles};
use taffrail_record::{AskError, Family, Labels, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, counter, gauge};
use crate::list::Make;
use crate::recall::Table;
use crate::sources::net;

static FAMILIES: [Family; 7] = [
    counter("node_softnet_processed_total", &["cpu"], "Packets that a processor took."),
    counter("node_softnet_dropped_total", &["cpu"], "Packets dropped because the queue was full."),
    counter("node_softnet_times_squeezed_total", &["cpu"], "How often work was left when the time was up."),
    counter("node_softnet_cpu_collision_total", &["cpu"], "Collisions while sending."),
    counter(
        "node_softnet_received_rps_total",
        &["cpu"],
        "How often another processor woke this one to take packets.",
    ),
    counter("node_softnet_flow_limit_count_total", &["cpu"], "How often the limit of one flow was reached."),
    gauge("node_softnet_backlog_len", &["cpu"], "Packets that wait for a processor."),
];
/// The columns, older kernels have fewer.
const COLUMNS: [usize; 7] = [0, 1, 2, 8, 9, 10, 11];
const CPU: usize = 12;

pub(crate) struct SoftNet {
    file: Kept,
    table: Table<7>,
}

impl Make for SoftNet {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        SoftNet { file: net(roots, "softnet_stat"), table: Table::default() }
    }
}

impl Collect for SoftNet {
    const NAME: &'static str = "softnet";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        self.table.begin();
        for (at, line) in lines(self.file.read(page)?).enumerate() {
            let cpu = words(line).nth(CPU).map_or(Some(at as u64), hexadecimal);
            let figures = COLUMNS.map(|column| words(line).nth(column).map(hexadecimal));
            let broken = figures.contains(&Some(None)) || figures[..3].contains(&None);
            let (Some(cpu), false) = (cpu, broken) else {
                troubles.note(ReadError::malformed(self.file.path(), "a row is cut or has no numbers"));
                continue;
            };
            let label = |_: &str| Some(Labels::new([("cpu", cpu.to_string().as_str())]));
            let Some(row) = self.table.row(&cpu.to_ne_bytes(), label) else { continue };
            *row = figures.map(|figure| figure.flatten().map(|value| value as f64));
        }
        self.table.write(&FAMILIES, samples);
        troubles.told()
    }
}
