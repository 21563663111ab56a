//! Where the host's files are, when there is more than one place.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use taffrail_kernfs::{Kept, ReadError, Roots};

/// A file of the host's network: that of its first process, whatever network the agent itself is in.
pub(crate) fn net(roots: &Roots, name: &str) -> Kept {
    let first = roots.proc("1/net");
    let folder = if first.exists() { first } else { roots.proc("net") };
    Kept::new(folder.join(name))
}

/// Whether the agent is in the host's network, so that the kernel can be asked about it. Each network has
/// files of its own in `/proc`, which anybody may tell apart by their numbers.
pub(crate) fn shares_network(roots: &Roots) -> bool {
    let number = |path: &Path| {
        let of_the_kernel = statfs(path).ok()?.filesystem_type() == PROC_SUPER_MAGIC;
        of_the_kernel.then(|| fs::metadata(path).ok().map(|found| found.ino()))?
    };
    let own = number(Path::new("/proc/self/net/dev"));
    own.is_some() && own == number(&roots.proc("1/net/dev"))
}

/// Whether the agent has the host's name. Where it may not look, it has when it sees the host's files as its
/// own.
pub(crate) fn shares_name(roots: &Roots) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    match identity(&roots.proc("1/ns/uts")) {
        None => *roots == Roots::default(),
        host => host == identity(Path::new("/proc/self/ns/uts")),
    }
}

/// The names in a folder, in order, numbers in them counted as numbers.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, ReadError> {
    let failed = |cause| ReadError { path: folder.to_owned(), cause };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable_by(|a, b| (text(a), trailing(a), a).cmp(&(text(b), trailing(b), b)));
    Ok(names)
}

fn text(name: &str) -> &str {
    name.trim_end_matches(|character: char| character.is_ascii_digit())
}

/// The number at the end of a name such as `cpu12`.
pub(crate) fn trailing(name: &str) -> Option<u64> {
    name[text(name).len()..].parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn names_are_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().expect("a directory");
        for name in ["cpu10", "cpu9", "cpu", "cpu0", "a1"] {
            File::create(folder.path().join(name)).expect("made");
        }
        assert_eq!(names(folder.path()).expect("listed"), ["a1", "cpu", "cpu0", "cpu9", "cpu10"]);
    }
}
