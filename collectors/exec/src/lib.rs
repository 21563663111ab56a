//! Exec audit: who came into a container from outside, and every process that came of it.
//!
//! The probe in the kernel (`probe/audit.bpf.c`) groups processes into sessions and numbers what it tells of each, so that
//! what is missing is known by its session. The book makes documents of that; they are links of a chain, lie on the node's disk
//! until they are delivered, and say themselves whether they are all there.

mod book;
pub mod chain;
mod collector;
mod config;
mod connector;
mod desk;
mod document;
mod follow;
mod kept;
mod permits;
pub mod pins;
pub mod probe;
mod ring;
pub mod scan;
mod session;
mod status;
mod watch;
pub mod wire;

pub use collector::{Audit, AuditCollector, take_away};
pub use config::{AuditConfig, Invalid, Policy, Recording, TierChoice};
pub use document::{line, plain};
pub use permits::Permits;
pub use session::{Entry, Namer, Open, Origin, Summary, Whose};
pub use status::{Tier, View};
