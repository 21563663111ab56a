//! Opening files whose names others control.
//!
//! The agent runs as root and containers can influence what lies below their log directories. A path is therefore
//! first pinned without being opened for reading (`O_PATH`), looked at, and only then opened through that pin:
//! a FIFO, a device or a directory is never opened, and a link that leads out of the allowed directories is
//! refused. Swapping the name in between changes nothing.
//!
//! A path that a glob matched may be a link only if root, the agent's user or the owner of the file that it leads to has
//! made it: whoever may write beside a log does not get to read other files through the agent.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::identity::FileKey;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// It is not there any more.
    #[error("{0} is gone")]
    Gone(PathBuf),
    /// It is no regular file.
    #[error("{path} is a {kind}, not a regular file; it is left alone")]
    NotAFile {
        /// Its path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// It is a link to somewhere it may not lead.
    #[error("{path} leads to {target}, outside the allowed directories; it is not read")]
    LeadsOut {
        /// Its path.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// It is a link that somebody made who may not own what it leads to.
    #[error(
        "{path} is a link to {target} that neither root nor the owner of that file has made; it is not read"
    )]
    Untrusted {
        /// Its path.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// It cannot be opened.
    #[error("cannot open {path}: {cause}; grant the agent read access")]
    Denied {
        /// Its path.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

impl OpenError {
    /// The reason of [`OpenError::Denied`].
    pub(crate) const DENIED: &'static str = "denied";

    /// A short name for counting.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            OpenError::Gone(_) => "gone",
            OpenError::NotAFile { .. } => "not_a_file",
            OpenError::LeadsOut { .. } => "leads_out",
            OpenError::Untrusted { .. } => "untrusted_link",
            OpenError::Denied { .. } => Self::DENIED,
        }
    }
}

/// A file that is pinned and known to be regular, not yet open for reading.
#[derive(Debug)]
pub(crate) struct Pinned {
    path: PathBuf,
    pin: OwnedFd,
    /// Its identity.
    pub(crate) key: FileKey,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl Pinned {
    /// Pins `path`. With `within`, the real path must lie below one of those directories; without, links must have been
    /// made by somebody who may read what they lead to.
    pub(crate) fn new(path: &Path, within: Option<&[PathBuf]>) -> Result<Pinned, OpenError> {
        let denied = |cause: io::Error| match cause.kind() {
            io::ErrorKind::NotFound => OpenError::Gone(path.to_owned()),
            _ => OpenError::Denied { path: path.to_owned(), cause },
        };
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let pin = match within {
            Some(allowed) => {
                let pin = open(path, flags, Mode::empty()).map_err(|e| denied(e.into()))?;
                check_within(path, &pin, allowed)?;
                pin
            }
            None => pin_through_links(path, flags | OFlag::O_NOFOLLOW, denied)?,
        };
        let (key, size, kind) = FileKey::of(&pin).map_err(denied)?;
        if kind != libc::S_IFREG {
            return Err(OpenError::NotAFile { path: path.to_owned(), kind: kind_name(kind) });
        }
        Ok(Pinned { path: path.to_owned(), pin, key, size })
    }

    /// Opens it for reading, whatever has become of its name.
    pub(crate) fn open(&self) -> Result<File, OpenError> {
        let through = format!("/proc/self/fd/{}", self.pin.as_raw_fd());
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        match open(through.as_str(), flags, Mode::empty()) {
            Ok(file) => Ok(File::from(file)),
            Err(Errno::ENOENT) => Err(OpenError::Gone(self.path.clone())),
            Err(errno) => Err(OpenError::Denied { path: self.path.clone(), cause: errno.into() }),
        }
    }
}

/// Follows links one by one, each pinned before it is read.
fn pin_through_links(
    path: &Path,
    flags: OFlag,
    denied: impl Fn(io::Error) -> OpenError,
) -> Result<OwnedFd, OpenError> {
    // As many as the kernel follows.
    const LINKS: usize = 40;
    let mut makers = Vec::new();
    let mut target = path.to_owned();
    for _ in 0..LINKS {
        let pin = open(&target, flags, Mode::empty()).map_err(|e| denied(e.into()))?;
        let stat = nix::sys::stat::fstat(&pin).map_err(|e| denied(e.into()))?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFLNK {
            let agent = nix::unistd::geteuid().as_raw();
            if makers.iter().all(|maker| may_lead(*maker, stat.st_uid, agent)) {
                return Ok(pin);
            }
            return Err(OpenError::Untrusted { path: path.to_owned(), target });
        }
        makers.push(stat.st_uid);
        let leads = nix::fcntl::readlinkat(&pin, c"").map_err(|e| denied(e.into()))?;
        target = target.parent().unwrap_or(Path::new("/")).join(leads);
    }
    Err(denied(Errno::ELOOP.into()))
}

/// Whether a link that `maker` has made may lead the agent to a file of `owner`.
fn may_lead(maker: u32, owner: u32, agent: u32) -> bool {
    maker == 0 || maker == owner || maker == agent
}

fn check_within(path: &Path, pin: &OwnedFd, allowed: &[PathBuf]) -> Result<(), OpenError> {
    let real = fs::read_link(format!("/proc/self/fd/{}", pin.as_raw_fd()))
        .map_err(|cause| OpenError::Denied { path: path.to_owned(), cause })?;
    let inside = allowed.iter().any(|directory| {
        real.starts_with(directory) || fs::canonicalize(directory).is_ok_and(|d| real.starts_with(d))
    });
    if inside { Ok(()) } else { Err(OpenError::LeadsOut { path: path.to_owned(), target: real }) }
}

fn kind_name(kind: u32) -> &'static str {
    match kind {
        libc::S_IFDIR => "directory",
        libc::S_IFIFO => "FIFO",
        libc::S_IFSOCK => "socket",
        libc::S_IFCHR => "character device",
        libc::S_IFBLK => "block device",
        _ => "special file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_inside_the_allowed_directories_are_opened() {
        let root = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("another");
        let (file, fifo, link) =
            (root.path().join("0.log"), root.path().join("1.log"), root.path().join("2.log"));
        fs::File::create(&file).expect("a file");
        fs::File::create(outside.path().join("shadow")).expect("a secret");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("a fifo");
        std::os::unix::fs::symlink(outside.path().join("shadow"), &link).expect("a link");
        let allowed = [root.path().to_owned()];
        let reason = |path: &Path| Pinned::new(path, Some(&allowed)).map(|_| ()).map_err(|e| e.reason());
        assert_eq!(reason(&file), Ok(()));
        assert_eq!(reason(&fifo), Err("not_a_file"));
        assert_eq!(reason(&link), Err("leads_out"));
        assert_eq!(reason(root.path()), Err("not_a_file"));
        assert_eq!(reason(&root.path().join("9.log")), Err("gone"));
        assert!(Pinned::new(&link, None).is_ok(), "the agent's user made the link");
    }

    #[test]
    fn root_the_agents_user_and_a_files_owner_may_lead_to_it() {
        const AGENT: u32 = 99;
        for (maker, owner, may) in
            [(0, 0, true), (0, 7, true), (7, 7, true), (AGENT, 0, true), (7, 0, false), (7, 8, false)]
        {
            assert_eq!(may_lead(maker, owner, AGENT), may, "{maker} to {owner}");
        }
    }

    #[test]
    fn a_link_that_a_glob_matches_is_followed_for_whoever_may_own_what_it_leads_to() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("!! SKIPPED: only root can make links for others; the rule itself is tested without");
            return;
        }
        let root = tempfile::tempdir().expect("a directory");
        let made = |name: &str, owner: u32| {
            let path = root.path().join(name);
            fs::File::create(&path).expect("a file");
            std::os::unix::fs::chown(&path, Some(owner), None).expect("run as root");
            path
        };
        let link = |name: &str, to: &Path, owner: u32| {
            let path = root.path().join(name);
            std::os::unix::fs::symlink(to, &path).expect("a link");
            std::os::unix::fs::lchown(&path, Some(owner), None).expect("run as root");
            path
        };
        let (of_root, of_app) = (made("shadow", 0), made("app", 1000));
        let relative = Path::new("app");
        let by_app = link("1", &of_root, 1000);
        for (path, expected) in [
            (link("2", &of_app, 1000), Ok(())),
            (link("3", relative, 1000), Ok(())),
            (link("4", &of_root, 0), Ok(())),
            (link("5", &of_app, 1001), Err("untrusted_link")),
            (link("6", &by_app, 0), Err("untrusted_link")),
            (by_app, Err("untrusted_link")),
            (link("7", &root.path().join("7"), 0), Err("denied")),
            (link("8", &root.path().join("nowhere"), 0), Err("gone")),
        ] {
            let found = Pinned::new(&path, None).map(|_| ()).map_err(|e| e.reason());
            assert_eq!(found, expected, "{}", path.display());
        }
    }
}
