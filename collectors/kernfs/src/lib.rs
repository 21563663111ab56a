//! Files that the kernel writes while they are read: `/proc`, `/sys` and cgroups.
//!
//! A [`Kept`] file stays open and costs one `pread` per scrape; what it says lies in a [`Page`] that all files of a
//! collector share, and is parsed in place ([`parse`]) without an allocation. What cannot be read is a [`ReadError`] that names the
//! file and says whether it is absent (this kernel has no such file), gone (its owner went away), denied or broken:
//! absent is not zero, and failed is not absent. [`Roots`] says where the host's trees are mounted, [`Mounted`] reads what else is.

mod error;
mod kept;
mod mounts;
pub mod parse;
mod roots;

pub use error::{ReadError, Reason, Troubles, failures};
pub use kept::{Kept, Page, read, read_text};
pub use mounts::Mounted;
pub use roots::Roots;
