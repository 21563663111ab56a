//! `stat`: what the kernel counts for the node as a whole.

use taffrail_kernfs::parse::{lines, number, words};
use taffrail_kernfs::{Kept, Page, Roots, Troubles};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, counter, gauge, put, said};
use crate::list::Make;

static FAMILIES: [Family; 7] = [
    counter("node_intr_total", &[], "Interrupts serviced."),
    counter("node_context_switches_total", &[], "Context switches."),
    gauge("node_boot_time_seconds", &[], "When the node was started, in seconds since the Unix epoch."),
    counter("node_forks_total", &[], "Processes and threads created."),
    gauge("node_procs_running", &[], "Tasks that run or could run."),
    gauge("node_procs_blocked", &[], "Tasks that wait for input or output."),
    counter("node_softirqs_total", &["vector"], "Software interrupts serviced, by vector."),
];

/// The first word of a line and the family of its second, in the order of the file.
const LINES: [(&[u8], usize); 6] = [
    (b"intr", 0),
    (b"ctxt", 1),
    (b"btime", 2),
    (b"processes", 3),
    (b"procs_running", 4),
    (b"procs_blocked", 5),
];

/// The vectors in the order of the file.
const VECTORS: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu"];

pub(crate) struct Stat {
    file: Kept,
    softirq: bool,
}

impl Make for Stat {
    fn make(config: &NodeMetricsConfig, roots: &Roots) -> Self {
        Stat { file: Kept::new(roots.proc("stat")), softirq: config.stat.softirq }
    }
}

impl Collect for Stat {
    const NAME: &'static str = "stat";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        let mut found = false;
        for line in lines(self.file.read_once(page)?) {
            let mut words = words(line);
            let key = words.next().unwrap_or_default();
            if let Some((_, family)) = LINES.iter().find(|(known, _)| *known == key) {
                found = true;
                let value =
                    said(words.next().and_then(number), self.file.path(), "a line without its number");
                if let Some(value) = troubles.take(value) {
                    put(samples, &FAMILIES[*family], value as f64);
                }
            } else if self.softirq && key == b"softirq" {
                write_vectors(samples, words.skip(1));
            }
        }
        said(found.then_some(()), self.file.path(), "none of the known lines")?;
        troubles.told()
    }
}

fn write_vectors<'a>(samples: &mut dyn Samples, counts: impl Iterator<Item = &'a [u8]>) {
    samples.family(&FAMILIES[6]);
    for (vector, count) in VECTORS.iter().zip(counts) {
        if let Some(count) = number(count) {
            samples.sample(&[vector], count as f64);
        }
    }
}
