//! What can be wrong with files.

use std::io;
use std::path::PathBuf;

/// Why a file shipper cannot be made. What goes wrong later is retried and shown in its status.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No directory is configured.
    #[error("output.file.directory is empty; set it to a directory on a local disk")]
    NoDirectory,
    /// A limit that cannot be.
    #[error("output.file.{0} must not be 0")]
    Zero(&'static str),
    /// Raw records have no place for their metadata in a file.
    #[error("encoding raw needs headers, which files do not have; set envelope.encoding to json")]
    RawEncoding,
    /// Another process writes there.
    #[error("{0} is in use by another taffrail; give each its own directory")]
    InUse(PathBuf),
    /// The directory cannot be used.
    #[error("cannot use {path}: {cause}")]
    Directory {
        /// The directory, or the file in it.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

impl FileError {
    pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> FileError {
        let path = path.into();
        move |cause| FileError::Directory { path, cause }
    }
}
