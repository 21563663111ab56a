//! How long tasks have waited.

use taffrail_record::Kind::Counter;

use super::{Emit, Row, one, row};
use crate::entry::Entry;
use crate::figures::Pressure;

const CPU: usize = 0;
const MEMORY: usize = 1;
const IO: usize = 2;

fn stalled(entry: &Entry, resource: usize, value: impl Fn(Pressure) -> Option<f64>, emit: &mut Emit<'_>) {
    one(entry.figures.pressure[resource].and_then(value), emit);
}

pub(super) static ROWS: &[Row] = &[
    row(
        "container_pressure_cpu_waiting_seconds_total",
        Counter,
        "Time for which some task waited for CPU.",
        &[],
        |entry, _, emit| {
            stalled(entry, CPU, |p| Some(p.some), emit);
        },
    ),
    row(
        "container_pressure_cpu_stalled_seconds_total",
        Counter,
        "Time for which all tasks waited for CPU.",
        &[],
        |entry, _, emit| {
            stalled(entry, CPU, |p| p.full, emit);
        },
    ),
    row(
        "container_pressure_memory_waiting_seconds_total",
        Counter,
        "Time for which some task waited for memory.",
        &[],
        |entry, _, emit| {
            stalled(entry, MEMORY, |p| Some(p.some), emit);
        },
    ),
    row(
        "container_pressure_memory_stalled_seconds_total",
        Counter,
        "Time for which all tasks waited for memory.",
        &[],
        |entry, _, emit| {
            stalled(entry, MEMORY, |p| p.full, emit);
        },
    ),
    row(
        "container_pressure_io_waiting_seconds_total",
        Counter,
        "Time for which some task waited for I/O.",
        &[],
        |entry, _, emit| {
            stalled(entry, IO, |p| Some(p.some), emit);
        },
    ),
    row(
        "container_pressure_io_stalled_seconds_total",
        Counter,
        "Time for which all tasks waited for I/O.",
        &[],
        |entry, _, emit| {
            stalled(entry, IO, |p| p.full, emit);
        },
    ),
];
