//! What can be wrong with a search engine from here.

use std::io;
use std::path::PathBuf;

/// An error of this crate; all of them name what to change.
#[derive(Debug, thiserror::Error)]
pub enum ElasticsearchError {
    /// A value of the configuration that cannot work.
    #[error("elasticsearch.{key}: {problem}")]
    Invalid {
        /// Its key within the section.
        key: String,
        /// What is wrong, and what to write instead.
        problem: String,
    },
    /// A file that the configuration names cannot be used.
    #[error("cannot read {path}: {cause}; name a file that the agent's user can read")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// No client can be made, because of certificates or keys.
    #[error("cannot make a client for elasticsearch: {0}; check elasticsearch.tls")]
    Client(String),
    /// The directory of dead letters cannot be used.
    #[error(
        "cannot use {path}: {cause}; dead letters need a directory on a local disk that the agent may write to"
    )]
    DeadLetters {
        /// The directory, or the file in it.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// Somebody else sends the same dead letters.
    #[error("dead letters in {0} are being sent again by another process; wait for it")]
    Busy(PathBuf),
    /// The thread cannot be started.
    #[error("cannot start the thread of elasticsearch: {0}")]
    Thread(io::Error),
    /// No node can be used.
    #[error("{0}")]
    Unusable(String),
}

impl ElasticsearchError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { path, cause }
    }

    pub(crate) fn dead(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::DeadLetters { path, cause }
    }
}
