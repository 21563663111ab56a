//! `thermal_zone`: temperatures, and what is done against heat.

use std::path::Path;

use taffrail_kernfs::{Kept, Page, Roots, Troubles, read_text};
use taffrail_record::{AskError, Family, Labels, Samples};

use crate::NodeMetricsConfig;
use crate::devices::{Devices, attribute};
use crate::families::{Collect, gauge};
use crate::list::Make;
use crate::sources::trailing;

static FAMILIES: [Family; 3] = [
    gauge("node_thermal_zone_temp", &["zone", "type"], "Temperature of a zone, in degrees Celsius."),
    gauge("node_cooling_device_cur_state", &["name", "type"], "How much a device cools now."),
    gauge("node_cooling_device_max_state", &["name", "type"], "How much a device can cool."),
];

pub(crate) struct ThermalZone(Devices<Device>);

/// Its labels, and its files with their families and units.
struct Device {
    labels: Labels,
    files: Vec<(usize, f64, Kept)>,
}

impl Make for ThermalZone {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        ThermalZone(Devices::new(roots.sys("class/thermal")))
    }
}

impl Collect for ThermalZone {
    const NAME: &'static str = "thermal_zone";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        for device in self.0.now(Device::new)? {
            for (family, unit, file) in &mut device.files {
                if let Some(value) = attribute(file, page, &mut troubles) {
                    samples.family(&FAMILIES[*family]);
                    samples.labelled(&[&device.labels], value as f64 * *unit);
                }
            }
        }
        troubles.told()
    }
}

impl Device {
    fn new(name: &str, path: &Path) -> Option<Device> {
        let zone = name.starts_with("thermal_zone");
        if !zone && !name.starts_with("cooling_device") {
            return None;
        }
        let number = trailing(name)?.to_string();
        let kind =
            read_text(&path.join("type"), &mut Page::default()).ok().filter(|kind| !kind.is_empty())?;
        let labels =
            Labels::new([(if zone { "zone" } else { "name" }, number.as_str()), ("type", kind.as_str())]);
        let file = |family, unit, name| (family, unit, Kept::new(path.join(name)));
        let files = if zone {
            vec![file(0, 1e-3, "temp")]
        } else {
            vec![file(1, 1.0, "cur_state"), file(2, 1.0, "max_state")]
        };
        Some(Device { labels, files })
    }
}
