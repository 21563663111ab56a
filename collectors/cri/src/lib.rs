//! Containers and pods of a CRI runtime (containerd, CRI-O): found, described, named as kubelet's metrics name them.
//!
//! [`watch`] publishes what the runtime knows; it only lists and changes nothing. It guarantees:
//!
//! - A container is published at the latest ten seconds after the runtime lists it, and within a second or so when
//!   the watch is nudged.
//! - A runtime that goes away takes nothing with it. Its containers stay published until it is back and says that they
//!   are gone.
//! - No runtime is normal: nothing is logged above `debug`, unless the configuration says that there must be one, or
//!   there was one.
//! - A runtime that hangs or answers nonsense is given up after five seconds a call and tried again. No answer beyond
//!   16 MiB is taken: what is kept is bounded by that, and by the few fields that are read of it.
//!
//! [`hear_execs`] tells of programs that containerd is asked to begin.

mod config;
mod execs;
mod info;
mod layers;
mod listing;
mod messages;
mod names;
mod runtime;
mod watch;

pub use config::{CriConfig, Enabled, USUAL_SOCKETS};
pub use execs::{Exec, ExecEvent, hear_execs};
pub use info::ContainerInfo;
pub use layers::{Layer, layers};
pub use names::{Name, names};
pub use watch::{Connection, Errors, Snapshot, watch};
