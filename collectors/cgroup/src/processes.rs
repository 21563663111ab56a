//! What is told of a cgroup's processes only: descriptors, sockets, limits.
//!
//! It takes a look at each descriptor of each process, so it is done seldom.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Instant;

use taffrail_kernfs::{Page, Roots, parse};

use crate::hierarchy::within;
use crate::tree::Place;

/// Of more processes than this in one cgroup nothing is counted: each costs some system calls.
const MOST: usize = 1024;

/// The last count.
#[derive(Debug, Default, Clone)]
pub(crate) struct Processes {
    pub(crate) descriptors: Option<u64>,
    pub(crate) sockets: Option<u64>,
    /// The soft limit of open files; -1 for none.
    pub(crate) open_files: Option<i64>,
    pub(crate) counted: Option<Instant>,
}

impl Processes {
    /// Counts anew. `tree` is any hierarchy that has the cgroup `place`.
    pub(crate) fn count(&mut self, roots: &Roots, tree: &Path, place: &Place, page: &mut Page, now: Instant) {
        *self = Processes { counted: Some(now), ..Processes::default() };
        let Ok(text) = taffrail_kernfs::read(&within(tree, place).join("cgroup.procs"), page) else { return };
        let pids: Vec<u32> =
            parse::lines(text).filter_map(|pid| u32::try_from(parse::number(pid)?).ok()).collect();
        // 0 is a process of another PID namespace than ours.
        if pids.len() > MOST || pids.contains(&0) {
            return;
        }
        if let Some((descriptors, sockets)) = count_all(roots, &pids) {
            (self.descriptors, self.sockets) = (Some(descriptors), Some(sockets));
        }
        self.open_files = pids.first().and_then(|pid| {
            let limits = taffrail_kernfs::read(&roots.proc(&format!("{pid}/limits")), page).ok()?;
            soft_limit(limits)
        });
    }
}

/// Descriptors and sockets; nothing when the agent may not look at one of the processes.
fn count_all(roots: &Roots, pids: &[u32]) -> Option<(u64, u64)> {
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let (mut descriptors, mut sockets) = (0, 0);
    for pid in pids {
        let entries = match fs::read_dir(roots.proc(&format!("{pid}/fd"))) {
            Ok(entries) => entries,
            Err(error) if denied(&error) => return None,
            // One that has ended meanwhile has none.
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            descriptors += 1;
            match fs::read_link(entry.path()) {
                Ok(target) => sockets += u64::from(target.as_os_str().as_bytes().starts_with(b"socket:")),
                Err(error) if denied(&error) => return None,
                Err(_) => {}
            }
        }
    }
    Some((descriptors, sockets))
}

/// When a process was started, in ticks since the machine was, out of its `stat`.
pub(crate) fn start(stat: &[u8]) -> Option<u64> {
    // The name in parentheses may contain anything; the start is the 20th field behind it.
    let behind = stat.iter().rposition(|byte| *byte == b')')?;
    parse::words(&stat[behind + 1..]).nth(19).and_then(parse::number)
}

fn soft_limit(limits: &[u8]) -> Option<i64> {
    let line = parse::lines(limits).find_map(|line| line.strip_prefix(b"Max open files"))?;
    match parse::words(line).next()? {
        b"unlimited" => Some(-1),
        word => parse::signed(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_counted_of_what_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let roots = Roots::below(folder.path());
        let open = roots.proc("7/fd");
        fs::create_dir_all(&open).expect("made");
        for (number, target) in [("0", "/dev/null"), ("1", "socket:[5]"), ("2", "pipe:[6]")] {
            std::os::unix::fs::symlink(target, open.join(number)).expect("linked");
        }
        assert_eq!(count_all(&roots, &[7, 8]), Some((3, 1)), "8 has ended");
    }

    #[test]
    fn the_soft_limit_is_the_first_number() {
        let limits = b"Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(soft_limit(b"Max open files            unlimited unlimited files\n"), Some(-1));
        assert_eq!(soft_limit(b"Max cpu time 1 1 s\n"), None);
    }
}
