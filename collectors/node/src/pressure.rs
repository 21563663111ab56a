//! `pressure`: how long tasks waited because a resource was short.

use taffrail_kernfs::parse::{assigned, lines};
use taffrail_kernfs::{Kept, Page, Roots, Troubles};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, counter, ended, put, said};
use crate::list::Make;

static FAMILIES: [Family; 6] = [
    counter(
        "node_pressure_cpu_waiting_seconds_total",
        &[],
        "Seconds in which some task waited for a processor.",
    ),
    counter("node_pressure_io_waiting_seconds_total", &[], "Seconds in which some task waited for a disk."),
    counter("node_pressure_io_stalled_seconds_total", &[], "Seconds in which every task waited for a disk."),
    counter(
        "node_pressure_memory_waiting_seconds_total",
        &[],
        "Seconds in which some task waited for memory.",
    ),
    counter(
        "node_pressure_memory_stalled_seconds_total",
        &[],
        "Seconds in which every task waited for memory.",
    ),
    counter(
        "node_pressure_irq_stalled_seconds_total",
        &[],
        "Seconds in which interrupts kept every task from running.",
    ),
];

/// File, line and family.
const LINES: [(usize, &[u8], usize); 6] = [
    (0, b"some ", 0),
    (1, b"some ", 1),
    (1, b"full ", 2),
    (2, b"some ", 3),
    (2, b"full ", 4),
    (3, b"full ", 5),
];

pub(crate) struct Pressure([Kept; 4]);

impl Make for Pressure {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        Pressure(
            ["cpu", "io", "memory", "irq"].map(|name| Kept::new(roots.proc(&format!("pressure/{name}")))),
        )
    }
}

impl Collect for Pressure {
    const NAME: &'static str = "pressure";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        let mut found = false;
        for (at, file) in self.0.iter_mut().enumerate() {
            let Some(text) = troubles.take(file.read_once(page)) else { continue };
            for (_, line, family) in LINES.iter().filter(|(of, ..)| *of == at) {
                let total = lines(text).find_map(|text| assigned(text.strip_prefix(*line)?, b"total"));
                let total = said(total, file.path(), "a line without its total");
                if let Some(microseconds) = troubles.take(total) {
                    put(samples, &FAMILIES[*family], microseconds as f64 / 1e6);
                    found = true;
                }
            }
        }
        ended(troubles, found, self.0[0].path())
    }
}
