//! The Unix socket: readable by its owner alone, and never anybody else's file.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind as bind_to, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another agent answers there.
    #[error("another agent listens on {path}; stop it, or set tap.socket to another path", path = .0.display())]
    Taken(PathBuf),
    /// Something that is no socket is there.
    #[error("{path} is no socket; move it away, or set tap.socket to another path", path = .0.display())]
    NotASocket(PathBuf),
    /// Whoever can write to the directory could put a socket of their own in its place.
    #[error("{path} can be written by everybody; set tap.socket to a path in a directory of the agent's own", path = .0.display())]
    Exposed(PathBuf),
    /// It cannot be made.
    #[error("cannot make the socket {path}: {cause}", path = path.display())]
    Failed {
        /// The socket.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

/// Listens on `path`. A socket that nobody answers on any more is replaced.
pub(super) fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |cause| SocketError::Failed { path: path.to_owned(), cause };
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory).map_err(failed)?;
    look(path)?;
    // Bound aside and renamed, so that at no moment there is a socket that does not answer or is open to others.
    let aside = path.with_extension(format!("{}~", std::process::id() % 1000));
    let _ = std::fs::remove_file(&aside);
    let listener = bind_private(&aside).map_err(failed)?;
    std::fs::rename(&aside, path).map_err(failed)?;
    Ok(listener)
}

/// Whether a socket could be there, as far as what is there says; a directory that is missing would be made.
///
/// # Errors
/// [`SocketError`], as serving would fail with.
pub fn look(path: &Path) -> Result<(), SocketError> {
    let failed = |cause| SocketError::Failed { path: path.to_owned(), cause };
    let directory = path.parent().unwrap_or(Path::new("/"));
    match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() && found.mode() & 0o002 != 0 => {
            Err(SocketError::Exposed(directory.to_owned()))
        }
        Ok(_) => unused(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn unused(path: &Path) -> Result<(), SocketError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(SocketError::Failed { path: path.to_owned(), cause }),
        Ok(found) if !found.file_type().is_socket() => Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => Err(SocketError::Taken(path.to_owned())),
        Ok(_) => Ok(()),
    }
}

fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let descriptor: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The file that bind makes takes its mode from the descriptor: it is private from its first moment.
    fchmod(&descriptor, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind_to(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&descriptor, Backlog::new(64)?)?;
    Ok(UnixListener::from(descriptor))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_socket_is_private_and_a_stale_one_is_replaced() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("tap.sock");
        let first = bind(&path).expect("bound");
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert!(matches!(bind(&path), Err(SocketError::Taken(_))));
        drop(first);
        assert!(path.exists(), "what a killed agent leaves behind");
        let _second = bind(&path).expect("replaced");
        UnixStream::connect(&path).expect("answers");
        assert_eq!(std::fs::read_dir(directory.path()).expect("read").count(), 1, "nothing is left aside");
    }

    #[test]
    fn another_file_is_never_replaced() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("tap.sock");
        std::fs::File::create(&path).expect("made");
        assert!(matches!(bind(&path), Err(SocketError::NotASocket(_))));
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/etc/passwd", &path).expect("linked");
        assert!(matches!(bind(&path), Err(SocketError::NotASocket(_))));
    }

    #[test]
    fn a_directory_that_everybody_can_write_is_refused() {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).expect("opened up");
        assert!(matches!(bind(&directory.path().join("tap.sock")), Err(SocketError::Exposed(_))));
    }
}
