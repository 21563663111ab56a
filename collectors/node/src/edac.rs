//! `edac`: errors of the memory that were corrected, and that could not be.

use std::path::Path;

use taffrail_kernfs::{Kept, Page, Roots, Troubles};
use taffrail_record::{AskError, Family, Labels, Samples};

use crate::NodeMetricsConfig;
use crate::devices::{Devices, attribute};
use crate::families::{Collect, counter};
use crate::list::Make;
use crate::sources::{names, trailing};

const ROW: &[&str] = &["controller", "csrow"];
static FAMILIES: [Family; 4] = [
    counter("node_edac_correctable_errors_total", &["controller"], "Memory errors that were corrected."),
    counter("node_edac_uncorrectable_errors_total", &["controller"], "Memory errors that could not be."),
    counter("node_edac_csrow_correctable_errors_total", ROW, "Memory errors of a row that were corrected."),
    counter("node_edac_csrow_uncorrectable_errors_total", ROW, "Memory errors of a row that could not be."),
];

pub(crate) struct Edac(Devices<Controller>);

/// Files with their families and labels.
struct Controller(Vec<(usize, Labels, Kept)>);

impl Make for Edac {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        Edac(Devices::new(roots.sys("devices/system/edac/mc")))
    }
}

impl Collect for Edac {
    const NAME: &'static str = "edac";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        for Controller(files) in self.0.now(Controller::new)? {
            for (family, labels, file) in files {
                if let Some(count) = attribute(file, page, &mut troubles) {
                    samples.family(&FAMILIES[*family]);
                    samples.labelled(&[labels], count as f64);
                }
            }
        }
        troubles.told()
    }
}

impl Controller {
    fn new(name: &str, path: &Path) -> Option<Controller> {
        let controller = name.strip_prefix("mc").and_then(trailing)?.to_string();
        let mut files = Vec::new();
        let whole = Labels::new([("controller", controller.as_str())]);
        add(&mut files, 0, &whole, path, ["ce_count", "ue_count"]);
        let row = |row: &str| Labels::new([("controller", controller.as_str()), ("csrow", row)]);
        add(&mut files, 2, &row("unknown"), path, ["ce_noinfo_count", "ue_noinfo_count"]);
        for name in names(path).unwrap_or_default() {
            if let Some(number) = name.strip_prefix("csrow").and_then(trailing) {
                add(&mut files, 2, &row(&number.to_string()), &path.join(&name), ["ce_count", "ue_count"]);
            }
        }
        Some(Controller(files))
    }
}

fn add(
    files: &mut Vec<(usize, Labels, Kept)>,
    family: usize,
    labels: &Labels,
    path: &Path,
    names: [&str; 2],
) {
    for (at, name) in names.into_iter().enumerate() {
        files.push((family + at, labels.clone(), Kept::new(path.join(name))));
    }
}
