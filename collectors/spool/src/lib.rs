//! Documents on this node's disk, from when they are made until they are confirmed, and the way from there to the pipeline.
//!
//! ```text
//!  who makes them ---> Spool ---> Sender ---> pipeline
//!                      files      batches     receipts
//!                        ^           ^           |
//!                        +-----------+-----------+  confirmed prefix
//! ```
//!
//! It guarantees:
//!
//! - Every document that the [`Spool`] took is sent until it is confirmed, or declared lost for good, in the order in which
//!   it was taken; after a crash or a restart too. A power cut may take what was appended last.
//! - Only the prefix that is confirmed without a gap is let go of, and [`Spool::stored`] never passes a document that is not
//!   confirmed.
//! - Disk and memory are bounded: a full spool refuses documents, and what is read of it is charged to the budget.
//! - The last document is known after it was confirmed, and after a restart ([`Spool::last`]): whoever numbers or chains
//!   documents goes on from there.

mod confirmed;
mod files;
mod frame;
mod send;
mod spool;
mod time;
mod troubles;

pub use confirmed::Confirmed;
pub use frame::{Frame, Kind};
pub use send::{Contents, Observer, Sender};
pub use spool::{LastDocument, Refusal, Spool, SpoolError};
pub use time::{now, stamp};
pub use troubles::Troubles;
