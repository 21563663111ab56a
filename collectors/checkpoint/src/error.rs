//! Why the store cannot be opened or written.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// An operation of the store failed. Each message says where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the directory.
    #[error(
        "{} is in use by {}; stop it, or give this agent a state directory of its own",
        .path.display(), holder_name(*.holder)
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Process id of the holder as it sees itself, when it can be read.
        holder: Option<u32>,
    },
    /// A newer program wrote this directory. Its files were left as they are.
    #[error(
        "{} has format version {found}, this program knows up to {known}; run the newer program again, or move the \
         directory away and accept that every log is read again from its start",
        .path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// The file system refused. Worth retrying: what was staged still is.
    #[error("cannot {action} {}: {cause}; {}", .path.display(), remedy(.cause))]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |cause| StoreError::Io { action, path, cause }
    }
}

fn holder_name(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free space there; until then confirmed positions are kept in memory and a restart would repeat them"
        }
        ErrorKind::ReadOnlyFilesystem => "remount it writable or choose another state directory",
        ErrorKind::PermissionDenied => "give this process the right to write there",
        ErrorKind::NotADirectory | ErrorKind::NotFound => "check the path of the state directory",
        _ if error.raw_os_error() == Some(libc::EIO) => {
            "check the disk (kernel log, SMART) and choose another state directory if it is failing"
        }
        _ => "check the file system of the state directory",
    }
}
