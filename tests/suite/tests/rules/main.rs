//! The rules that are shipped for Prometheus: well-formed, each alert tried on figures, and all of them in a real
//! Prometheus that scrapes real agents in real trouble.

mod files;
mod live;
#[path = "../support/mod.rs"]
mod support;
mod table;
