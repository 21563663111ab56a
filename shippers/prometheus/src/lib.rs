//! Prometheus exposition of what collectors answer when asked.
//!
//! [`Exposition`] takes samples and writes them in the text format 0.0.4 or in OpenMetrics 1.0. [`Scraper`] asks
//! every collector within a deadline: one that fails, panics or hangs costs its own samples and nothing else, and
//! `taffrail_scrape_collector_success` says so. [`Bridge`] lets counters of a `prometheus::Registry` take part.

mod bridge;
mod exposition;
mod scrape;

pub use bridge::Bridge;
pub use exposition::{Exposition, Format};
pub use scrape::{FAMILIES, Scraper};
