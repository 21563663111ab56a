//! The durable store of confirmed positions: a small map of opaque keys to opaque values that survives kill -9,
//! power loss, a full disk and a damaged file.
//!
//! # Guarantees
//!
//! - When [`Store::commit`] returns `Ok`, everything staged before it is on the disk: written aside, fsynced,
//!   renamed, and the directory fsynced.
//! - When it returns an error, nothing is forgotten: the changes stay staged, and the next commit writes them too.
//! - A commit costs what changed, not what is stored. Once in a while it also rewrites the base, whose cost is
//!   paid by the deltas written since the last one.
//! - What is not exactly a file that this store wrote is never believed. It is moved aside as `*.damaged-N`, said
//!   in the log and in [`Recovery`], and the state comes from what remains.
//! - Two processes cannot share a directory ([`StoreError::Locked`]), and an older program does not touch the
//!   files of a newer one ([`StoreError::NewerVersion`]).
//!
//! # On the disk
//!
//! `base-<sequence>.ckpt` holds every entry as of one commit, `delta-<sequence>.ckpt` what one commit changed, as
//! absolute values: a put carries the whole value, a removal says so. The state is the newest base and then every
//! delta after it, in order. Each commit writes its delta even when it writes a base as well, and the base before
//! the newest stays, with all deltas since, until the next base. So a damaged base costs nothing at all: the one
//! before it and the deltas lead to the same state.
//!
//! # What a lost delta costs
//!
//! Later deltas still apply, since they carry absolute values. Every key then has some value that was committed
//! for it, at least as new as the base read. For positions that means:
//!
//! - a key whose only change was in the lost delta keeps an *older* position: bytes are read again, a repeat;
//! - a key that the lost delta created is unknown: its file is read from the start, a repeat;
//! - a key that the lost delta removed comes back with its last position: a forgotten file is remembered, and
//!   forgotten again when the collector next looks for it.
//!
//! A position is never newer than one that was committed, so nothing is skipped, as long as the owner of the entries
//! heeds two things. An unknown file is read from its start, unless [`Recovery::first_start`] is set and so nothing was
//! ever known. And after [`Recovery::stale`] two entries may come from different commits: what one says of another
//! (a line that begins in one file and ends in the next) may not fit any more.

mod disk;
mod entries;
mod error;
mod format;
mod lock;
mod metrics;
#[cfg(test)]
mod model;
mod recovery;
mod store;

pub use error::StoreError;
pub use recovery::{Damaged, Recovery};
pub use store::{Committed, Options, Store};
