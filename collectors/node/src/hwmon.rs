//! `hwmon`: temperatures, fans, voltages and whatever else chips on the board measure.
//!
//! Names follow from the files that a chip has: `temp1_crit` is `node_hwmon_temp_crit_celsius` of the sensor
//! `temp1`.

use std::fs;
use std::path::Path;

use taffrail_kernfs::{Kept, Page, Roots, Troubles, read_text};
use taffrail_record::{AskError, Family, Kind, Labels, Samples};

use crate::NodeMetricsConfig;
use crate::devices::{Devices, attribute};
use crate::families::{Collect, gauge};
use crate::list::Make;
use crate::sources::names;

static FAMILIES: [Family; 3] = [
    gauge(
        "node_hwmon_chip_names",
        &["chip", "chip_name"],
        "Always 1; the name that the driver gives a chip.",
    ),
    gauge("node_hwmon_sensor_label", &["chip", "sensor", "label"], "Always 1; what a sensor is called."),
    gauge("node_hwmon_*", &["chip", "sensor"], "What a sensor measures, or a limit for it."),
];

/// What sensors are called, before their number.
const TYPES: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

pub(crate) struct Hwmon(Devices<Chip>);

struct Chip {
    name: Option<Labels>,
    sensors: Vec<Labels>,
    figures: Vec<Figure>,
}

struct Figure {
    name: String,
    kind: Kind,
    help: String,
    unit: f64,
    labels: Labels,
    file: Kept,
}

impl Make for Hwmon {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        Hwmon(Devices::new(roots.sys("class/hwmon")))
    }
}

impl Collect for Hwmon {
    const NAME: &'static str = "hwmon";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        for chip in self.0.now(|name, path| Some(Chip::new(name, path)))? {
            samples.family(&FAMILIES[0]);
            chip.name.iter().for_each(|name| samples.labelled(&[name], 1.0));
            samples.family(&FAMILIES[1]);
            chip.sensors.iter().for_each(|label| samples.labelled(&[label], 1.0));
            for figure in &mut chip.figures {
                if let Some(value) = attribute(&mut figure.file, page, &mut troubles) {
                    samples.named(&figure.name, figure.kind, &figure.help);
                    samples.labelled(&[&figure.labels], value as f64 * figure.unit);
                }
            }
        }
        troubles.told()
    }
}

impl Chip {
    fn new(folder: &str, path: &Path) -> Chip {
        let mut page = Page::default();
        let given = read_text(&path.join("name"), &mut page).ok().map(|name| clean(&name));
        let given = given.filter(|name| !name.is_empty());
        let name = by_device(path).or_else(|| given.clone()).unwrap_or_else(|| clean(folder));
        let labels = given.map(|given| Labels::new([("chip", name.as_str()), ("chip_name", given.as_str())]));
        let mut chip = Chip { name: labels, sensors: Vec::new(), figures: Vec::new() };
        // Old drivers have their files with the device.
        for folder in [path.to_owned(), path.join("device")] {
            for file in names(&folder).unwrap_or_default() {
                chip.add(&name, &file, &folder, &mut page);
            }
        }
        chip
    }

    fn add(&mut self, chip: &str, file: &str, folder: &Path, page: &mut Page) {
        let Some((kind, number, property)) = parts(file) else { return };
        let sensor = format!("{kind}{number}");
        let labels = [("chip", chip), ("sensor", sensor.as_str())];
        if property == "label" {
            let text = read_text(&folder.join(file), page).unwrap_or_default();
            return self.sensors.push(Labels::new(labels.into_iter().chain([("label", text.as_str())])));
        }
        let (name, unit) = named(kind, property);
        let counts = name.ends_with("_total");
        self.figures.push(Figure {
            name,
            kind: if counts { Kind::Counter } else { Kind::Gauge },
            help: format!("What chips say of {kind} {property}."),
            unit,
            labels: Labels::new(labels),
            file: Kept::new(folder.join(file)),
        });
    }
}

/// `temp`, `1` and `crit` of `temp1_crit`.
fn parts(file: &str) -> Option<(&'static str, &str, &str)> {
    if let Some(whole) = TYPES.iter().find(|kind| **kind == file) {
        return Some((whole, "", ""));
    }
    let digits = file.find(|character: char| character.is_ascii_digit())?;
    let kind = TYPES.iter().find(|kind| **kind == &file[..digits])?;
    let rest = &file[digits..];
    let number = rest.split(|character: char| !character.is_ascii_digit()).next()?;
    let property = &rest[number.len()..];
    if property.is_empty() {
        Some((kind, number, ""))
    } else {
        Some((kind, number, property.strip_prefix('_')?))
    }
}

/// The metric's name, and what its file's figure is multiplied with.
fn named(kind: &str, property: &str) -> (String, f64) {
    let property = clean(property);
    let bare = property.is_empty() || property == "input";
    let name = if bare { format!("node_hwmon_{kind}") } else { format!("node_hwmon_{kind}_{property}") };
    let (unit, factor) = match (kind, property.as_str()) {
        (_, "fault" | "alarm") => ("", 1.0),
        (_, "beep") => ("_enabled", 1.0),
        ("in" | "cpu", _) => ("_volts", 1e-3),
        ("temp", property) if property != "type" => ("_celsius", 1e-3),
        ("curr", _) => ("_amps", 1e-3),
        ("energy", _) => ("_joule_total", 1e-6),
        ("power", property) if property.ends_with("accuracy") => ("", 1e-6),
        ("power", property) if property.contains("interval") => ("_seconds", 1e-3),
        ("power", _) => ("_watt", 1e-6),
        ("humidity", _) => ("", 1e-6),
        ("fan", "input" | "min" | "max" | "target") => ("_rpm", 1.0),
        ("freq", _) => ("_freq_mhz", 1e-6),
        _ => ("", 1.0),
    };
    (format!("{name}{unit}"), factor)
}

/// A name that stays the same over restarts, from where the chip's device is.
fn by_device(path: &Path) -> Option<String> {
    let device = fs::canonicalize(path.join("device")).ok()?;
    let part =
        |path: &Path| Some(clean(&path.file_name()?.to_string_lossy())).filter(|part| !part.is_empty());
    let name = part(&device)?;
    Some(match device.parent().and_then(part) {
        Some(parent) => format!("{parent}_{name}"),
        None => name,
    })
}

fn clean(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' || c == '_';
    let lower = name.trim().to_lowercase();
    let clean: String = lower.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    clean.trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_names_with_units() {
        for (file, name, unit) in [
            ("temp1_input", "node_hwmon_temp_celsius", 1e-3),
            ("temp12_crit_alarm", "node_hwmon_temp_crit_alarm_celsius", 1e-3),
            ("temp1_crit_hyst", "node_hwmon_temp_crit_hyst_celsius", 1e-3),
            ("temp1_alarm", "node_hwmon_temp_alarm", 1.0),
            ("fan1_input", "node_hwmon_fan_rpm", 1.0),
            ("fan2_min", "node_hwmon_fan_min_rpm", 1.0),
            ("in0_input", "node_hwmon_in_volts", 1e-3),
            ("energy1_input", "node_hwmon_energy_joule_total", 1e-6),
            ("power1_average_interval", "node_hwmon_power_average_interval_seconds", 1e-3),
            ("pwm1", "node_hwmon_pwm", 1.0),
        ] {
            let (kind, _, property) = parts(file).expect(file);
            assert_eq!(named(kind, property), (name.to_owned(), unit), "{file}");
        }
        for file in ["name", "uevent", "inner1_input", "temp_x", "temp1crit", "1"] {
            assert_eq!(parts(file), None, "{file}");
        }
    }
}
