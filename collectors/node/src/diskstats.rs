//! `diskstats`: what disks did, and what they are.

mod udev;

use std::fmt::Write as _;

use taffrail_kernfs::parse::{lines, number, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles};
use taffrail_record::{AskError, Family, Labels, Samples};
use udev::Facts;

use crate::families::{Collect, counter, gauge};
use crate::list::Make;
use crate::recall::{Recall, Table};
use crate::{DeviceFilter, NodeMetricsConfig};

const DEVICE: &[&str] = &["device"];
static FAMILIES: [Family; 20] = [
    counter("node_disk_reads_completed_total", DEVICE, "Reads that ended well."),
    counter("node_disk_reads_merged_total", DEVICE, "Reads that were done together with a neighbour."),
    counter("node_disk_read_bytes_total", DEVICE, "Bytes read."),
    counter("node_disk_read_time_seconds_total", DEVICE, "Seconds that all reads took together."),
    counter("node_disk_writes_completed_total", DEVICE, "Writes that ended well."),
    counter("node_disk_writes_merged_total", DEVICE, "Writes that were done together with a neighbour."),
    counter("node_disk_written_bytes_total", DEVICE, "Bytes written."),
    counter("node_disk_write_time_seconds_total", DEVICE, "Seconds that all writes took together."),
    gauge("node_disk_io_now", DEVICE, "Requests that are under way."),
    counter("node_disk_io_time_seconds_total", DEVICE, "Seconds in which some request was under way."),
    counter(
        "node_disk_io_time_weighted_seconds_total",
        DEVICE,
        "Seconds in which requests were under way, times their number.",
    ),
    counter("node_disk_discards_completed_total", DEVICE, "Discards that ended well."),
    counter("node_disk_discards_merged_total", DEVICE, "Discards that were done together with a neighbour."),
    counter("node_disk_discarded_sectors_total", DEVICE, "Sectors discarded."),
    counter("node_disk_discard_time_seconds_total", DEVICE, "Seconds that all discards took together."),
    counter("node_disk_flush_requests_total", DEVICE, "Flushes that ended well."),
    counter("node_disk_flush_requests_time_seconds_total", DEVICE, "Seconds that all flushes took together."),
    gauge("node_disk_info", udev::INFO, "Always 1; what the device is."),
    gauge("node_disk_filesystem_info", udev::FILESYSTEM, "Always 1; the file system on the device."),
    gauge("node_disk_device_mapper_info", udev::MAPPER, "Always 1; the mapped device's parts."),
];
const FIGURES: usize = 17;
/// The kernel counts in sectors of this size whatever the disk's are.
const SECTOR: f64 = 512.0;
const MILLISECOND: f64 = 1e-3;
/// What the figures behind the name are multiplied with.
const UNITS: [f64; FIGURES] = [
    1.0,
    1.0,
    SECTOR,
    MILLISECOND,
    1.0,
    1.0,
    SECTOR,
    MILLISECOND,
    1.0,
    MILLISECOND,
    MILLISECOND,
    1.0,
    1.0,
    1.0,
    MILLISECOND,
    1.0,
    MILLISECOND,
];
/// How many of them every kernel has.
const ALWAYS: usize = 11;

pub(crate) struct DiskStats {
    file: Kept,
    filter: DeviceFilter,
    roots: Roots,
    table: Table<FIGURES>,
    facts: Recall<Option<Facts>>,
    key: String,
}

impl Make for DiskStats {
    fn make(config: &NodeMetricsConfig, roots: &Roots) -> Self {
        DiskStats {
            file: Kept::new(roots.proc("diskstats")),
            filter: config.diskstats.clone(),
            roots: roots.clone(),
            table: Table::default(),
            facts: Recall::default(),
            key: String::new(),
        }
    }
}

impl Collect for DiskStats {
    const NAME: &'static str = "diskstats";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        self.table.begin();
        self.facts.begin();
        for line in lines(self.file.read(page)?) {
            let mut words = words(line);
            let (major, minor) = (words.next().and_then(number), words.next().and_then(number));
            let (Some(major), Some(minor), Some(name)) = (major, minor, words.next()) else {
                troubles.note(ReadError::malformed(self.file.path(), "a line without a device"));
                continue;
            };
            let Some(row) = self.table.row(name, |name| self.filter.labels(name)) else { continue };
            for (figure, (word, unit)) in row.iter_mut().zip(words.map(number).zip(UNITS)) {
                *figure = word.map(|value| value as f64 * unit);
            }
            if row[..ALWAYS].contains(&None) {
                troubles.note(ReadError::malformed(self.file.path(), "a device lacks figures"));
            }
            self.key.clear();
            let _ = write!(self.key, "{major}:{minor} {}", String::from_utf8_lossy(name));
            self.facts.next(self.key.as_bytes(), |key| Facts::new(key, &self.roots));
        }
        self.facts.end();
        self.table.write(&FAMILIES[..FIGURES], samples);
        self.write_facts(page, samples);
        troubles.told()
    }
}

impl DiskStats {
    fn write_facts(&mut self, page: &mut Page, samples: &mut dyn Samples) {
        self.facts.rows_mut().flatten().for_each(|facts| facts.refresh(page));
        for (at, family) in FAMILIES[FIGURES..].iter().enumerate() {
            samples.family(family);
            for labels in self.facts.rows().flatten().filter_map(|facts| facts.labels[at].as_ref()) {
                let labels: &Labels = labels;
                samples.labelled(&[labels], 1.0);
            }
        }
    }
}
