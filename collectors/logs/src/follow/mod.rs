//! Following lanes: from a directory entry to batches, through every way in which a log file can change.

mod chain;
mod counters;
mod deliver;
mod file;
mod finished;
mod forms;
mod gone;
mod identity;
mod keeper;
mod lane;
mod open;
mod quota;
mod reader;
mod schedule;
mod settle;
mod state;
mod statements;
mod watch;

pub use keeper::Rhythm;
pub use lane::Pace;

pub(crate) use counters::Counters;
pub(crate) use keeper::Keeper;
pub(crate) use lane::{Claims, Lane, Step, Tools};
pub(crate) use quota::Quotas;
pub(crate) use reader::Reader;
pub(crate) use schedule::Schedule;
pub(crate) use state::FileState;
pub(crate) use watch::{Happened, Waker, Watch};
