//! How fast, against what a user would pick instead and against what is possible.
//!
//! - `cargo bench -p taffrail-benches --bench shootout`: on a real Kafka, the agent, the floor (the same encoded bytes
//!   through a bare `rd_kafka_produce_batch` loop with the same settings), rsyslog and syslog-ng ship the same varied
//!   CRI lines. One table: processor seconds per GB of log, throughput, peak memory, delivered against expected.
//!   Only the shipper's own processor time counts, not the broker's. `-- --help` tells what can be chosen.
//! - `cargo bench -p taffrail-benches --bench scale`: the agent at a steady rate, with many files, idle, and starting
//!   anew; each figure with its goal.
//! - `cargo bench -p taffrail-benches --bench scrapes`: the agent's pages beside node_exporter and cAdvisor, for crowds of
//!   cgroups, each figure with its goal; `--bench metrics`: the collector by itself, against the bare system calls.
//! - `cargo bench -p taffrail-benches --bench pods`: what a pod's change and the page about a node's pods cost.
//! - `cargo bench -p taffrail-benches --bench fleet`: what a thousand agents cost a real API server, as they start, while
//!   nothing happens, and when it comes back after it was killed.
//! - `cargo bench -p taffrail-benches --bench decode` and `--bench envelope`: micro-benches.
//!
//! Figures are ratios within one run on one machine: the machine's other work changes all of them alike.

use std::process::ExitCode;

pub mod agent;
pub mod build;
pub mod cluster;
pub mod crowd;
pub mod lines;
pub mod meter;
pub mod peers;
pub mod process;

/// How a bench ends: what went wrong is said under its name.
#[must_use]
pub fn ended(name: &str, result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
