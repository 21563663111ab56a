//! `powersupplyclass`: mains and batteries.

use std::path::Path;

use taffrail_kernfs::{Kept, Page, Roots, Troubles, read_text};
use taffrail_record::{AskError, Family, Labels, Samples};

use crate::NodeMetricsConfig;
use crate::devices::{Devices, attribute};
use crate::families::{Collect, gauge};
use crate::list::Make;

const SUPPLY: &[&str] = &["power_supply"];
const INFO: &[&str] = &[
    "power_supply",
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
];
static FAMILIES: [Family; 12] = [
    gauge("node_power_supply_online", SUPPLY, "Whether the supply gives power."),
    gauge("node_power_supply_present", SUPPLY, "Whether the supply is there."),
    gauge("node_power_supply_capacity", SUPPLY, "Charge, in percent."),
    gauge("node_power_supply_cyclecount", SUPPLY, "How often the battery was charged."),
    gauge("node_power_supply_current_ampere", SUPPLY, "Current, in ampere."),
    gauge("node_power_supply_energy_watthour", SUPPLY, "Energy that is left, in watt hours."),
    gauge("node_power_supply_energy_full", SUPPLY, "Energy when full, in watt hours."),
    gauge("node_power_supply_energy_full_design", SUPPLY, "Energy when full and new, in watt hours."),
    gauge("node_power_supply_power_watt", SUPPLY, "Power, in watt."),
    gauge("node_power_supply_voltage_volt", SUPPLY, "Voltage, in volt."),
    gauge("node_power_supply_voltage_min_design", SUPPLY, "Least voltage it is made for, in volt."),
    gauge("node_power_supply_info", INFO, "Always 1; what the supply is and how it is."),
];
const MICRO: f64 = 1e-6;
/// The attributes behind the families, with their units.
const ATTRIBUTES: [(&str, f64); 11] = [
    ("online", 1.0),
    ("present", 1.0),
    ("capacity", 1.0),
    ("cycle_count", 1.0),
    ("current_now", MICRO),
    ("energy_now", MICRO),
    ("energy_full", MICRO),
    ("energy_full_design", MICRO),
    ("power_now", MICRO),
    ("voltage_now", MICRO),
    ("voltage_min_design", MICRO),
];

pub(crate) struct PowerSupply(Devices<Supply>);

struct Supply {
    labels: Labels,
    name: String,
    folder: std::path::PathBuf,
    files: [Kept; ATTRIBUTES.len()],
}

impl Make for PowerSupply {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        PowerSupply(Devices::new(roots.sys("class/power_supply")))
    }
}

impl Collect for PowerSupply {
    const NAME: &'static str = "powersupplyclass";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        for supply in self.0.now(|name, path| Some(Supply::new(name, path)))? {
            supply.write(page, &mut troubles, samples);
        }
        troubles.told()
    }
}

impl Supply {
    fn new(name: &str, path: &Path) -> Supply {
        Supply {
            labels: Labels::new([("power_supply", name)]),
            name: name.to_owned(),
            folder: path.to_owned(),
            files: ATTRIBUTES.map(|(name, _)| Kept::new(path.join(name))),
        }
    }

    fn write(&mut self, page: &mut Page, troubles: &mut Troubles, samples: &mut dyn Samples) {
        for ((file, family), (_, unit)) in self.files.iter_mut().zip(&FAMILIES).zip(ATTRIBUTES) {
            if let Some(value) = attribute(file, page, troubles) {
                samples.family(family);
                samples.labelled(&[&self.labels], value as f64 * unit);
            }
        }
        let said = |name: &'static str| {
            let text = read_text(&self.folder.join(name), page).ok().filter(|text| !text.is_empty())?;
            Some((name, text))
        };
        let said: Vec<(&str, String)> = INFO.iter().skip(1).copied().filter_map(said).collect();
        let named = std::iter::once(("power_supply", self.name.as_str()));
        let labels = Labels::new(named.chain(said.iter().map(|(name, text)| (*name, text.as_str()))));
        samples.family(&FAMILIES[ATTRIBUTES.len()]);
        samples.labelled(&[&labels], 1.0);
    }
}
