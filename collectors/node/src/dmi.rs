//! `dmi`: what the firmware says about the machine. It does not change while the machine runs.

use std::path::PathBuf;

use taffrail_kernfs::{Page, Reason, Roots, read_text};
use taffrail_record::{AskError, Family, Labels, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, gauge};
use crate::list::Make;
use crate::sources::names;

const LABELS: &[&str] = &[
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_vendor",
    "chassis_version",
    "product_family",
    "product_name",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "system_vendor",
];
static FAMILIES: [Family; 1] = [gauge(
    "node_dmi_info",
    LABELS,
    "Always 1; what the firmware says about the machine, where it may be read.",
)];

pub(crate) struct Dmi {
    folder: PathBuf,
    labels: Option<Labels>,
}

impl Make for Dmi {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        Dmi { folder: roots.sys("class/dmi/id"), labels: None }
    }
}

impl Collect for Dmi {
    const NAME: &'static str = "dmi";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        if self.labels.is_none() {
            self.labels = Some(self.read(page)?);
        }
        samples.family(&FAMILIES[0]);
        self.labels.iter().for_each(|labels| samples.labelled(&[labels], 1.0));
        Ok(())
    }
}

impl Dmi {
    fn read(&self, page: &mut Page) -> Result<Labels, AskError> {
        names(&self.folder)?;
        let mut values: Vec<(&str, String)> = Vec::new();
        for label in LABELS {
            let file = if *label == "system_vendor" { "sys_vendor" } else { label };
            match read_text(&self.folder.join(file), page) {
                Ok(text) => values.push((label, text)),
                // Serial numbers are for root alone.
                Err(error) if error.is_expected() || error.reason() == Reason::Denied => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Labels::new(values.iter().map(|(label, value)| (*label, value.as_str()))))
    }
}
