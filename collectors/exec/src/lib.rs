//! Exec audit: who came into a container from outside, and every process that came of it.
//!
//! The probe in the kernel (`probe/audit.bpf.c`) groups processes into sessions and numbers what it tells of each, so that
//! what is missing is known by its session. The book makes documents of that; they are links of a chain, lie on the node's disk
//! until they are delivered, and say themselves whether they are all there.

mod asked;
mod book;
mod bpf;
pub mod chain;
mod collector;
mod config;
mod connector;
mod desk;
mod document;
mod engines;
mod execve;
mod follow;
mod kept;
mod lineage;
mod netlink;
mod permits;
pub mod pins;
pub mod probe;
mod recording;
pub mod request;
mod ring;
mod runs;
pub mod scan;
mod session;
mod status;
mod tree;
mod undecided;
mod watch;
pub mod wire;

pub use asked::AskedFor;
pub use collector::{Audit, AuditCollector, take_away};
pub use config::{AuditConfig, Invalid, Policies, Policy, Recording, TierChoice};
pub use document::{execs, line, plain};
pub use engines::Engines;
pub use permits::Permits;
pub use recording::{Account, RecordingConfig};
pub use session::{Ending, Entry, Namer, Open, Origin, Summary, Unread, Whose};
pub use status::{Tier, View};
