//! Which file names belong to one chain, and which came first.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How the files of a chain are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// kubelet's: `N.log`, rotated to `N.log.<time>`, then `.gz`; `N` counts restarts.
    Kubernetes,
    /// A base name, rotated to `base.1`, `base.2` (older), or to names with a date; each perhaps `.gz`.
    Base(Vec<u8>),
}

/// One file of a chain, as its directory lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its path.
    pub path: PathBuf,
    /// Whether it is gzip-compressed, by its name.
    pub gzip: bool,
    /// Whether it is the file that is written to, by its name.
    pub live: bool,
    rank: Rank,
}

/// Sorts older files first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rank {
    /// Restart number (Kubernetes), else 0.
    major: u64,
    live: bool,
    /// Rotation number, larger is older; `None` when the name has a date instead.
    number: Option<u64>,
    /// The date or time as written.
    text: Vec<u8>,
    modified: Option<SystemTime>,
}

impl Rank {
    fn compare(&self, other: &Rank) -> Ordering {
        self.major.cmp(&other.major).then(self.live.cmp(&other.live)).then_with(|| {
            match (self.number, other.number) {
                (Some(a), Some(b)) => b.cmp(&a),
                (None, None) => self.modified.cmp(&other.modified).then(self.text.cmp(&other.text)),
                _ => self.modified.cmp(&other.modified),
            }
        })
    }
}

impl Naming {
    /// The chain in `directory`, oldest first. Names that do not belong are left out, and so is a compressed form as
    /// long as what it is made from lies beside it: it may not be whole yet.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn list(&self, directory: &Path) -> io::Result<Vec<Candidate>> {
        let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name()));
        Ok(self.chain_of(directory, &names.collect::<io::Result<Vec<_>>>()?))
    }

    /// The same of names that were listed before.
    pub(super) fn chain_of<N: AsRef<OsStr>>(&self, directory: &Path, names: &[N]) -> Vec<Candidate> {
        let mut found = Vec::new();
        for name in names.iter().map(N::as_ref) {
            let Some((mut rank, gzip)) = self.parse(name) else { continue };
            let path = directory.join(name);
            if rank.number.is_none() && !rank.live && matches!(self, Naming::Base(_)) {
                rank.modified = fs::symlink_metadata(&path).and_then(|m| m.modified()).ok();
            }
            found.push(Candidate { path, gzip, live: rank.live, rank });
        }
        let plain: HashSet<PathBuf> = found.iter().filter(|c| !c.gzip).map(|c| c.path.clone()).collect();
        found.retain(|c| !c.gzip || !plain.contains(&c.path.with_extension("")));
        found.sort_by(|a, b| a.rank.compare(&b.rank).then_with(|| a.path.cmp(&b.path)));
        found
    }

    fn parse(&self, name: &OsStr) -> Option<(Rank, bool)> {
        let name = name.as_bytes();
        match self {
            Naming::Kubernetes => parse_kubernetes(name),
            Naming::Base(base) => parse_base(base, name),
        }
    }
}

fn parse_kubernetes(name: &[u8]) -> Option<(Rank, bool)> {
    let dot = memchr::memchr(b'.', name)?;
    let major = number(&name[..dot])?;
    let rest = name[dot..].strip_prefix(b".log")?;
    if rest.is_empty() {
        return Some((Rank { major, live: true, number: None, text: Vec::new(), modified: None }, false));
    }
    let time = rest.strip_prefix(b".")?;
    let (time, gzip) = time.strip_suffix(b".gz").map_or((time, false), |t| (t, true));
    if !time.first()?.is_ascii_digit() || time.ends_with(b".tmp") {
        return None;
    }
    Some((Rank { major, live: false, number: None, text: time.to_vec(), modified: None }, gzip))
}

fn parse_base(base: &[u8], name: &[u8]) -> Option<(Rank, bool)> {
    let rest = name.strip_prefix(base)?;
    let rank =
        |live, number, text: &[u8]| Rank { major: 0, live, number, text: text.to_vec(), modified: None };
    if rest.is_empty() {
        return Some((rank(true, None, b""), false));
    }
    let (rest, gzip) = rest.strip_suffix(b".gz").map_or((rest, false), |r| (r, true));
    let (b'.' | b'-' | b'_', suffix) = rest.split_first()? else { return None };
    if let Some(number) = number(suffix).filter(|n| *n < 100_000) {
        return Some((rank(false, Some(number), b""), gzip));
    }
    let dated = suffix.first()?.is_ascii_digit()
        && suffix.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:+".contains(b))
        && !suffix.ends_with(b".tmp");
    (dated || suffix == b"old").then(|| (rank(false, None, suffix), gzip))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The base name that `name` would be a rotated file of, when it looks like one (`app.log.1` -> `app.log`).
pub(crate) fn rotated_from(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    (1..name.len())
        .rev()
        .filter(|&at| matches!(name[at], b'.' | b'-' | b'_'))
        .map(|at| &name[..at])
        .filter(|base| parse_base(base, name).is_some_and(|(rank, _)| !rank.live))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(naming: &Naming, names: &[&str]) -> Vec<String> {
        let directory = tempfile::tempdir().expect("a directory");
        for name in names {
            fs::File::create(directory.path().join(name)).expect("a file");
        }
        let found = naming.list(directory.path()).expect("a listing");
        found.iter().map(|c| c.path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn kubelet_chains_are_read_from_the_oldest_restart_and_rotation() {
        let names = [
            "1.log",
            "0.log",
            "10.log",
            "0.log.20260102-030405.gz",
            "0.log.20260102-030406",
            "0.log.20260102-030406.gz",
            "0.log.20260102-030407.tmp",
            "notes.txt",
            "0.log.gz",
        ];
        let expected = ["0.log.20260102-030405.gz", "0.log.20260102-030406", "0.log", "1.log", "10.log"];
        assert_eq!(listed(&Naming::Kubernetes, &names), expected);
    }

    #[test]
    fn docker_chains_count_backwards() {
        let names =
            ["ab-json.log", "ab-json.log.1", "ab-json.log.2.gz", "ab-json.log.10.gz", "ab-json.log.tmp"];
        let expected = ["ab-json.log.10.gz", "ab-json.log.2.gz", "ab-json.log.1", "ab-json.log"];
        assert_eq!(listed(&Naming::Base(b"ab-json.log".to_vec()), &names), expected);
    }

    #[test]
    fn a_rotated_name_tells_its_base() {
        let bases = |name: &str| -> Vec<String> {
            rotated_from(name.as_bytes()).map(|b| String::from_utf8_lossy(b).into_owned()).collect()
        };
        assert_eq!(bases("app.log.1"), ["app.log"]);
        assert!(bases("app.log-20260101.gz").contains(&"app.log".to_owned()));
        assert!(bases("app.log").is_empty());
    }
}
