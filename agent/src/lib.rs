//! The taffrail daemon and its command.

pub mod client;
pub mod components;
pub mod config;
pub mod http;
pub mod ledger_metrics;
pub mod ledger_report;
pub mod logging;
pub mod reload;
pub mod tap;
pub mod verify;
