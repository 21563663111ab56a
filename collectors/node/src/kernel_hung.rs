//! `kernel_hung`: tasks that did not run for so long that the kernel reported them.

use taffrail_kernfs::{Kept, Page, Roots};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, counter};
use crate::list::Make;
use crate::single::{Single, write_all};

static FAMILIES: [Family; 1] =
    [counter("node_kernel_hung_tasks_total", &[], "Tasks that the kernel reported as hung.")];

pub(crate) struct KernelHung([Single; 1]);

impl Make for KernelHung {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        KernelHung([(&FAMILIES[0], Kept::new(roots.proc("sys/kernel/hung_task_detect_count")))])
    }
}

impl Collect for KernelHung {
    const NAME: &'static str = "kernel_hung";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        write_all(&mut self.0, page, samples)
    }
}
