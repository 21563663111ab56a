//! Block devices by number, and the labels that name them.

use std::collections::HashMap;

use taffrail_kernfs::{Page, Roots, read_text};
use taffrail_record::Labels;

/// The labels of one device.
#[derive(Debug)]
pub(crate) struct Device {
    /// `device="/dev/sda"`.
    pub(crate) labels: Labels,
    /// The same with `major`, `minor` and each `operation` that was asked for.
    operations: Vec<(&'static str, Labels)>,
    name: String,
    number: (u32, u32),
}

/// The devices that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Devices(HashMap<(u32, u32), Device>);

impl Devices {
    /// The device, looked up the first time. One that the kernel does not name goes by its number: two of them with no name
    /// would be one series.
    pub(crate) fn of(&mut self, roots: &Roots, number: (u32, u32), page: &mut Page) -> &mut Device {
        self.0.entry(number).or_insert_with(|| {
            let (major, minor) = number;
            let event =
                read_text(&roots.sys(&format!("dev/block/{major}:{minor}/uevent")), page).unwrap_or_default();
            let name = event.lines().find_map(|line| line.strip_prefix("DEVNAME="));
            let name = name.map_or_else(|| format!("{major}:{minor}"), |name| format!("/dev/{name}"));
            Device { labels: Labels::new([("device", name.as_str())]), operations: Vec::new(), name, number }
        })
    }

    /// A device that was looked up.
    pub(crate) fn get(&self, number: (u32, u32)) -> Option<&Device> {
        self.0.get(&number)
    }

    /// Forgets all: a number may be another device's after a while.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Device {
    /// Renders the labels of an operation, once.
    pub(crate) fn prepare(&mut self, operation: &'static str) {
        if self.operations.iter().any(|(known, _)| *known == operation) {
            return;
        }
        let (major, minor) = (self.number.0.to_string(), self.number.1.to_string());
        let labels =
            [("device", self.name.as_str()), ("major", &major), ("minor", &minor), ("operation", operation)];
        self.operations.push((operation, Labels::new(labels)));
    }

    /// The labels of an operation that was prepared.
    pub(crate) fn operation(&self, operation: &str) -> Option<&Labels> {
        self.operations.iter().find(|(known, _)| *known == operation).map(|(_, labels)| labels)
    }
}
