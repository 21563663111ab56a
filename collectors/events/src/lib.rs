//! The events of a cluster, watched by one elected agent, and kept on its disk until they are stored.
//!
//! ```text
//!  election ---> watch ---> room ---> spool ---> sender ---> pipeline
//!  one Lease     list,      filter,   files of   batches     receipts
//!     ^          watch      owners    this node     |           |
//!     +------------- position <--- confirmed prefix <-----------+
//! ```
//!
//! It guarantees:
//!
//! - Every version of every event that the API server tells is sent, or counted as left out by a rule. What is told again
//!   has the same id, so that a search engine keeps it once.
//! - The position is the highest version with everything up to it stored; it stands in the Lease, and whoever watches next
//!   goes on from there. A list counts once all of it is stored, never by its items. When the server has forgotten the
//!   position (410), or turns out to be older than it, all events are listed and each is sent.
//! - Whoever could not write the Lease in time puts nothing into the spool any more, at once. What is there is still sent,
//!   by whoever was the one that watched, and again after a restart.
//! - Disk and memory are bounded: a full spool pauses the watch and says so, and nothing but the spool holds what waits.
//! - What is no event is sent as it is, with the reason. Nothing that an event says leads to anything else.

mod collector;
mod config;
mod document;
mod election;
mod event;
mod lease;
mod owner;
mod owners;
mod random;
mod room;
mod status;
mod there;
mod timeline;
mod watch;

pub use collector::{Events, EventsCollector};
pub use config::{Choice, Enabled, EventsConfig};
pub use document::{Document, Writer};
pub use election::Timing;
pub use event::{Event, Meta, Reference};
pub use status::{Role, View};
pub use there::{There, there};
pub use timeline::{Entry, Selector, SelectorError, from_server, merged, render, with_pods};
