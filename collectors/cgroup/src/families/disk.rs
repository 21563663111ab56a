//! What a cgroup has written and done to block devices; of the machine, how full its file systems are and what their devices
//! have done.

use taffrail_record::Kind::{Counter, Gauge};

use super::{Emit, Row, row};
use crate::config::Compat;
use crate::entry::{Entry, Scene};
use crate::figures::DeviceIo;
use crate::filesystems::{Filesystem, Space};
use crate::written::Written;

/// Columns of `/proc/diskstats` behind the name.
const READS: usize = 0;
const READS_MERGED: usize = 1;
const SECTORS_READ: usize = 2;
const READING: usize = 3;
const WRITES: usize = 4;
const WRITES_MERGED: usize = 5;
const SECTORS_WRITTEN: usize = 6;
const WRITING: usize = 7;
const IN_FLIGHT: usize = 8;
const BUSY: usize = 9;
const WAITED: usize = 10;

fn each_device(
    entry: &Entry,
    scene: &Scene<'_>,
    emit: &mut Emit<'_>,
    value: impl Fn(&DeviceIo) -> Option<u64>,
) {
    for io in &entry.figures.io {
        if let (Some(value), Some(device)) = (value(io), scene.devices.get(io.device)) {
            emit(&device.labels, value as f64);
        }
    }
}

/// Figures of the machine's file systems, and of what a container has written to one.
fn space(
    entry: &Entry,
    scene: &Scene<'_>,
    emit: &mut Emit<'_>,
    of_machine: fn(Space) -> u64,
    of_container: fn(&Written) -> Option<u64>,
) {
    for filesystem in scene.filesystems.iter().filter(|_| entry.is_root()) {
        if let Some(space) = filesystem.space {
            emit(&filesystem.labels, of_machine(space) as f64);
        }
    }
    if let Some((written, value)) = entry.written.as_ref().and_then(|w| Some((w, of_container(w)?))) {
        emit(&written.labels, value as f64);
    }
}

/// What the devices of the machine's file systems have done; those that the cgroup itself tells of are left to it.
fn done(entry: &Entry, scene: &Scene<'_>, emit: &mut Emit<'_>, column: usize) {
    done_in(entry, scene, emit, column, 1.0);
}

/// As [`done`] in seconds. The kernel counts milliseconds, which cAdvisor takes for nanoseconds.
fn seconds_done(entry: &Entry, scene: &Scene<'_>, emit: &mut Emit<'_>, column: usize) {
    let unit = if scene.compat == Compat::Cadvisor { 1e9 } else { 1e3 };
    done_in(entry, scene, emit, column, unit);
}

fn done_in(entry: &Entry, scene: &Scene<'_>, emit: &mut Emit<'_>, column: usize, unit: f64) {
    let told = |filesystem: &Filesystem| {
        entry.figures.io.iter().any(|io| {
            let device = scene.devices.get(io.device);
            device.is_some_and(|device| device.labels.as_str() == filesystem.labels.as_str())
        })
    };
    for filesystem in scene.filesystems.iter().filter(|filesystem| entry.is_root() && !told(filesystem)) {
        if let Some(done) = &filesystem.done {
            let is_read = filesystem.is_usual || scene.compat == Compat::None;
            emit(&filesystem.labels, if is_read { done[column] as f64 / unit } else { 0.0 });
        }
    }
}

pub(super) static ROWS: &[Row] = &[
    row(
        "container_fs_usage_bytes",
        Gauge,
        "Bytes taken on the file system: of the machine by everything, of a container by its writable layer and its logs.",
        &["device"],
        |entry, scene, emit| {
            space(entry, scene, emit, |space| space.used, |written| Some(written.bytes));
        },
    ),
    row(
        "container_fs_limit_bytes",
        Gauge,
        "Bytes that the file system has.",
        &["device"],
        |entry, scene, emit| {
            space(entry, scene, emit, |space| space.size, |written| written.size);
        },
    ),
    row(
        "container_fs_inodes_total",
        Gauge,
        "Inodes: of the machine what the file system has, of a container what its layer uses.",
        &["device"],
        |entry, scene, emit| {
            space(entry, scene, emit, |space| space.inodes, |written| written.inodes);
        },
    ),
    row(
        "container_fs_inodes_free",
        Gauge,
        "Inodes of the file system that are free.",
        &["device"],
        |entry, scene, emit| {
            space(
                entry,
                scene,
                emit,
                |space| space.inodes_free,
                if scene.compat == Compat::Cadvisor { |_| Some(0) } else { |_| None },
            );
        },
    ),
    row(
        "container_fs_reads_bytes_total",
        Counter,
        "Bytes read from the device.",
        &["device"],
        |entry, scene, emit| {
            each_device(entry, scene, emit, |io| io.read_bytes);
        },
    ),
    row(
        "container_fs_writes_bytes_total",
        Counter,
        "Bytes written to the device.",
        &["device"],
        |entry, scene, emit| {
            each_device(entry, scene, emit, |io| io.written_bytes);
        },
    ),
    row(
        "container_fs_reads_total",
        Counter,
        "Reads done by the device.",
        &["device"],
        |entry, scene, emit| {
            each_device(entry, scene, emit, |io| io.reads);
            done(entry, scene, emit, READS);
        },
    ),
    row(
        "container_fs_writes_total",
        Counter,
        "Writes done by the device.",
        &["device"],
        |entry, scene, emit| {
            each_device(entry, scene, emit, |io| io.writes);
            done(entry, scene, emit, WRITES);
        },
    ),
    row(
        "container_fs_sector_reads_total",
        Counter,
        "Sectors of 512 bytes that the devices of the machine's file systems have read.",
        &["device"],
        |entry, scene, emit| {
            done(entry, scene, emit, SECTORS_READ);
        },
    ),
    row(
        "container_fs_sector_writes_total",
        Counter,
        "Sectors of 512 bytes that the devices of the machine's file systems have written.",
        &["device"],
        |entry, scene, emit| {
            done(entry, scene, emit, SECTORS_WRITTEN);
        },
    ),
    row(
        "container_fs_reads_merged_total",
        Counter,
        "Reads that were merged with others.",
        &["device"],
        |entry, scene, emit| {
            done(entry, scene, emit, READS_MERGED);
        },
    ),
    row(
        "container_fs_writes_merged_total",
        Counter,
        "Writes that were merged with others.",
        &["device"],
        |entry, scene, emit| {
            done(entry, scene, emit, WRITES_MERGED);
        },
    ),
    row(
        "container_fs_read_seconds_total",
        Counter,
        "Time spent reading.",
        &["device"],
        |entry, scene, emit| {
            seconds_done(entry, scene, emit, READING);
        },
    ),
    row(
        "container_fs_write_seconds_total",
        Counter,
        "Time spent writing.",
        &["device"],
        |entry, scene, emit| {
            seconds_done(entry, scene, emit, WRITING);
        },
    ),
    row(
        "container_fs_io_current",
        Gauge,
        "Reads and writes under way.",
        &["device"],
        |entry, scene, emit| {
            done(entry, scene, emit, IN_FLIGHT);
        },
    ),
    row(
        "container_fs_io_time_seconds_total",
        Counter,
        "Time for which the device was busy.",
        &["device"],
        |entry, scene, emit| {
            seconds_done(entry, scene, emit, BUSY);
        },
    ),
    row(
        "container_fs_io_time_weighted_seconds_total",
        Counter,
        "Time that reads and writes have taken together.",
        &["device"],
        |entry, scene, emit| {
            seconds_done(entry, scene, emit, WAITED);
        },
    ),
    row(
        "container_blkio_device_usage_total",
        Counter,
        "Bytes moved, by device and operation.",
        &["device", "major", "minor", "operation"],
        |entry, scene, emit| {
            for io in &entry.figures.io {
                let Some(device) = scene.devices.get(io.device) else { continue };
                for (operation, bytes) in &io.operations {
                    if let Some(labels) = device.operation(operation) {
                        emit(labels, *bytes as f64);
                    }
                }
            }
        },
    ),
];
