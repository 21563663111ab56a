//! Containers of a Docker engine: found, watched, described.
//!
//! [`watch`] publishes who runs and where each container's log file lies; it reads no logs itself. It guarantees:
//!
//! - A change of a container is published as soon as the engine announces it, and at the latest with the next full
//!   listing a minute later.
//! - No container is skipped in silence: one whose logs lie in no file says why ([`ContainerInfo::reason`]).
//! - An engine that goes away takes nothing with it. Its containers stay published, since their files are still
//!   there, until the engine is back and says that they are gone.
//! - No engine is normal: nothing is logged above `debug`, unless the configuration says that there must be one.

mod config;
mod engine;
mod execs;
mod info;
mod origin;
mod watch;

pub use config::{DockerConfig, Enabled};
pub use execs::{Exec, ExecEvent, hear_execs};
pub use info::ContainerInfo;
pub use origin::{is_sandbox, origin};
pub use watch::{Connection, Snapshot, watch};
