//! Container and file logs: found, followed through every kind of rotation, decoded in place.
//!
//! Guarantee: every byte of every file that was found is in a record that was sent, in a loss that was declared, or
//! still to be read; a position never passes what is not settled.
//!
//! [`find`] turns directories into lanes; `follow` reads each lane's files in order; [`decode`] makes
//! records of blocks of bytes; [`LogsCollector`] gives each lane its turn.

mod collector;
pub mod config;

pub mod decode;
pub mod find;
mod follow;
mod orphans;
mod run;

pub use collector::{LogsCollector, Settings};
pub use config::LogsConfig;
pub use follow::{Pace, Rhythm};
