//! The taffrail daemon and its command.

mod announce;
pub mod check;
pub mod cli;
pub mod client;
pub mod components;
pub mod config;
pub mod cri;
pub mod events;
pub mod http;
pub mod kubernetes;
pub mod ledger_metrics;
pub mod ledger_report;
pub mod logging;
pub mod machine;
pub mod metrics;
mod once;
pub mod output;
pub mod pipeline;
pub mod pump;
pub mod reference;
pub mod reload;
pub mod run;
pub mod supervise;
pub mod tap;
pub mod targets;
pub mod verify;
pub mod web;
