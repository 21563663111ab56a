//! What the network of a cgroup has moved.

use taffrail_record::Kind::Counter;

use super::{Emit, Row, row};
use crate::entry::{Entry, Scene};

/// Columns of `/proc/net/dev`.
const RECEIVED: usize = 0;
const SENT: usize = 8;

fn each_interface(entry: &Entry, scene: &Scene<'_>, emit: &mut Emit<'_>, column: usize) {
    for interface in entry.interfaces(scene.networks) {
        emit(&interface.labels, interface.columns[column] as f64);
    }
}

pub(super) static ROWS: &[Row] = &[
    row(
        "container_network_receive_bytes_total",
        Counter,
        "Bytes received.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, RECEIVED);
        },
    ),
    row(
        "container_network_receive_packets_total",
        Counter,
        "Packets received.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, RECEIVED + 1);
        },
    ),
    row(
        "container_network_receive_errors_total",
        Counter,
        "Packets received with errors.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, RECEIVED + 2);
        },
    ),
    row(
        "container_network_receive_packets_dropped_total",
        Counter,
        "Packets received and dropped.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, RECEIVED + 3);
        },
    ),
    row(
        "container_network_transmit_bytes_total",
        Counter,
        "Bytes sent.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, SENT);
        },
    ),
    row(
        "container_network_transmit_packets_total",
        Counter,
        "Packets sent.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, SENT + 1);
        },
    ),
    row(
        "container_network_transmit_errors_total",
        Counter,
        "Packets that could not be sent for errors.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, SENT + 2);
        },
    ),
    row(
        "container_network_transmit_packets_dropped_total",
        Counter,
        "Packets to be sent and dropped.",
        &["interface"],
        |entry, scene, emit| {
            each_interface(entry, scene, emit, SENT + 3);
        },
    ),
];
