//! Where the host's trees are mounted.

use std::path::{Path, PathBuf};

/// The host's `/proc`, `/sys` and `/` as this process sees them: in a container they lie below `/host` or so, in a
/// test in a folder of fixtures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// The host's `/proc`.
    pub proc: PathBuf,
    /// The host's `/sys`.
    pub sys: PathBuf,
    /// The host's `/`.
    pub rootfs: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Roots { proc: "/proc".into(), sys: "/sys".into(), rootfs: "/".into() }
    }
}

impl Roots {
    /// All three in their usual places below one folder, as fixtures have them.
    #[must_use]
    pub fn below(folder: &Path) -> Roots {
        Roots { proc: folder.join("proc"), sys: folder.join("sys"), rootfs: folder.to_owned() }
    }

    /// A path in `/proc`, given without a leading slash.
    #[must_use]
    pub fn proc(&self, path: &str) -> PathBuf {
        self.proc.join(path)
    }

    /// A path in `/sys`, given without a leading slash.
    #[must_use]
    pub fn sys(&self, path: &str) -> PathBuf {
        self.sys.join(path)
    }

    /// Where this process finds what the host calls `path`.
    #[must_use]
    pub fn host(&self, path: &Path) -> PathBuf {
        self.rootfs.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// What the host calls a path of this process: the inverse of [`Roots::host`].
    #[must_use]
    pub fn as_host(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.rootfs).map_or_else(|_| path.to_owned(), |rest| Path::new("/").join(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_host_are_found_below_its_root() {
        let roots = Roots { rootfs: "/host".into(), ..Roots::default() };
        assert_eq!(roots.host(Path::new("/var/lib")), Path::new("/host/var/lib"));
        assert_eq!(Roots::default().host(Path::new("/")), Path::new("/"));
        assert_eq!(roots.as_host(Path::new("/host/var")), Path::new("/var"));
        assert_eq!(roots.as_host(Path::new("/host")), Path::new("/"));
        assert_eq!(roots.as_host(Path::new("/else")), Path::new("/else"));
        assert_eq!(Roots::below(Path::new("/f")).proc("1/net/dev"), Path::new("/f/proc/1/net/dev"));
    }
}
