//! The folder that a container writes into, as the mounts of its processes tell it.
//!
//! Whoever makes a user namespace may mount overlays in it, and choose the folders that they name. So the overlay that is a
//! process's root is believed only when it is
//!
//! - mounted in the machine's own mount namespace, too, where runtimes mount and containers cannot: it is known again by its
//!   device number, and both say the same of it; or
//! - the root of a process of the agent's own user namespace, the machine's, in which only who is root mounts.
//!
//! What is asked of a process is asked through one descriptor, so that it stays the same one, and it is of the container
//! if it is still in one of its cgroups after that.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use taffrail_kernfs::{Mounted, Page, Roots, parse};

use crate::processes::start;
use crate::written::{Unknown, refused};

/// So many cgroups below a container's own are looked into for processes.
const CGROUPS: usize = 256;
/// So many processes of a container are looked at.
const PROCESSES: usize = 256;
/// So many of them are asked, the oldest first.
const ASKED: usize = 8;

/// What is believed.
#[derive(Debug, Default)]
pub(crate) struct Uppers {
    /// Folders of the overlays in the machine's own mount namespace, by device number.
    overlays: HashMap<(u32, u32), PathBuf>,
    /// The agent's own user namespace.
    users: Option<u64>,
}

/// A process that was found in a cgroup.
struct Found {
    pid: u32,
    /// The list that it is in.
    procs: PathBuf,
    /// When it was started, in ticks.
    start: u64,
}

impl Uppers {
    /// Reads what the machine itself says.
    pub(crate) fn read(roots: &Roots) -> Uppers {
        let mut page = Page::default();
        let table = taffrail_kernfs::read(&roots.proc("1/mountinfo"), &mut page).unwrap_or_default();
        let mounts = parse::lines(table).filter_map(Mounted::parse);
        let overlays = mounts.filter_map(|mounted| Some((mounted.device, folder(&mounted)?))).collect();
        Uppers { overlays, users: fs::metadata("/proc/self/ns/user").ok().map(|users| users.ino()) }
    }

    /// Where the container writes whose cgroup has these directories, one in each hierarchy. The oldest process that can
    /// be believed tells; one that was started in the container may have a root of its own.
    pub(crate) fn of(&self, directories: &[PathBuf], roots: &Roots) -> Result<PathBuf, Unknown> {
        let mut why = None;
        for found in processes(directories, roots).iter().take(ASKED) {
            match self.told(found, roots) {
                Ok(folder) => return Ok(folder),
                Err(reason) => why = why.or(Some(reason)),
            }
        }
        Err(why.unwrap_or(Unknown::NoProcess))
    }

    fn told(&self, found: &Found, roots: &Roots) -> Result<PathBuf, Unknown> {
        const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
        let process = open(&roots.proc(&found.pid.to_string()), FOLDER, Mode::empty());
        let process = process.map_err(|error| refused(Some(error as i32)))?;
        let folder = self.root(&process)?;
        // Its number may be another's by now, which is somewhere else.
        let mut page = Page::default();
        let procs = taffrail_kernfs::read(&found.procs, &mut page).unwrap_or_default();
        pids(procs).any(|pid| pid == found.pid).then_some(folder).ok_or(Unknown::NoProcess)
    }

    /// The folder below the root of a process, whose directory in `/proc` is open.
    fn root(&self, process: &OwnedFd) -> Result<PathBuf, Unknown> {
        let of = |name: &str| PathBuf::from(format!("/proc/self/fd/{}/{name}", process.as_raw_fd()));
        let mut page = Page::default();
        let table = taffrail_kernfs::read(&of("mountinfo"), &mut page)
            .map_err(|error| refused(error.cause.raw_os_error()))?;
        let (device, folder) = upper(table).ok_or(Unknown::NoLayer)?;
        // The number of one that is gone is given again, and both say the same of one and the same.
        if self.overlays.get(&device) == Some(&folder) {
            return Ok(folder);
        }
        // Behind the table: who has left this user namespace does not come back.
        let users = fs::metadata(of("ns/user")).map_err(|error| refused(error.raw_os_error()))?;
        if self.users == Some(users.ino()) { Ok(folder) } else { Err(Unknown::Untrusted) }
    }
}

/// The overlay that is the root of a process, and the folder that it writes into.
fn upper(mountinfo: &[u8]) -> Option<((u32, u32), PathBuf)> {
    // Of two at one place the later one hides the other.
    let mounts = parse::lines(mountinfo).filter_map(Mounted::parse);
    let root = mounts.filter(|mounted| mounted.point == Path::new("/")).last()?;
    Some((root.device, folder(&root)?))
}

/// The folder that an overlay writes into.
fn folder(mounted: &Mounted<'_>) -> Option<PathBuf> {
    let folder = mounted.super_option(b"upperdir").filter(|_| mounted.kind == "overlay")?;
    let folder = PathBuf::from(OsString::from_vec(folder));
    folder.is_absolute().then_some(folder)
}

/// The processes of a container, the oldest first: those in its own cgroup or, when all have moved on, in those below it.
fn processes(directories: &[PathBuf], roots: &Roots) -> Vec<Found> {
    let mut found = Vec::new();
    directories.iter().for_each(|directory| list(directory, roots, &mut found));
    let mut below: Vec<PathBuf> = if found.is_empty() { directories.to_vec() } else { Vec::new() };
    let mut looked = 0;
    while let Some(directory) = below.pop().filter(|_| looked < CGROUPS && found.len() < PROCESSES) {
        looked += 1;
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                list(&entry.path(), roots, &mut found);
                below.push(entry.path());
            }
        }
    }
    found.sort_by_key(|found| (found.start, found.pid));
    found.dedup_by_key(|found| found.pid);
    found
}

fn list(directory: &Path, roots: &Roots, found: &mut Vec<Found>) {
    let procs = directory.join("cgroup.procs");
    let (mut page, mut stat) = (Page::default(), Page::default());
    let Ok(text) = taffrail_kernfs::read(&procs, &mut page) else { return };
    for pid in pids(text).take(PROCESSES.saturating_sub(found.len())) {
        // One that has ended is no use.
        let stat = taffrail_kernfs::read(&roots.proc(&format!("{pid}/stat")), &mut stat);
        if let Some(start) = stat.ok().and_then(start) {
            found.push(Found { pid, procs: procs.clone(), start });
        }
    }
}

/// The processes in a list; those of another PID namespace are shown as 0 and cannot be asked.
fn pids(procs: &[u8]) -> impl Iterator<Item = u32> {
    parse::lines(procs).filter_map(|pid| u32::try_from(parse::number(pid)?).ok()).filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERLAY: &str = "1 2 0:5 / /proc rw - proc proc rw\n\
        3 2 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/l/1:/l/2,upperdir=/var/lib/x\\040y/diff,workdir=/w\n";

    fn file(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        let mut file = fs::File::create(path).expect("made");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
    }

    /// A machine whose process 1 sees `mounts`, with one container.
    struct Machine {
        _folder: tempfile::TempDir,
        roots: Roots,
        group: PathBuf,
    }

    impl Machine {
        fn new(mounts: &str) -> Machine {
            let folder = tempfile::tempdir().expect("a folder");
            let (roots, group) = (Roots::below(folder.path()), folder.path().join("sys/fs/cgroup/box"));
            file(&roots.proc("1/mountinfo"), mounts);
            file(&roots.proc("1/ns/user"), "");
            Machine { _folder: folder, roots, group }
        }

        /// A process in a cgroup; one of the agent's own user namespace or not.
        fn process(&self, pid: u32, start: u32, group: &str, mounts: &str, own: bool) {
            let procs = self.group.join(group).join("cgroup.procs");
            let before = fs::read_to_string(&procs).unwrap_or_default();
            file(&procs, &format!("{before}{pid}\n"));
            file(
                &self.roots.proc(&format!("{pid}/stat")),
                &format!("{pid} (a) S{} {start} 0", " 0".repeat(18)),
            );
            file(&self.roots.proc(&format!("{pid}/mountinfo")), mounts);
            let users = self.roots.proc(&format!("{pid}/ns/user"));
            file(&users, "");
            if own {
                fs::remove_file(&users).expect("removed");
                fs::hard_link(self.roots.proc("1/ns/user"), &users).expect("linked");
            }
        }

        fn upper(&self) -> Result<PathBuf, Unknown> {
            self.uppers().of(std::slice::from_ref(&self.group), &self.roots)
        }

        fn uppers(&self) -> Uppers {
            let own = fs::metadata(self.roots.proc("1/ns/user")).expect("made");
            Uppers { users: Some(own.ino()), ..Uppers::read(&self.roots) }
        }
    }

    #[test]
    fn the_folder_that_is_written_into_is_the_overlays() {
        let of = |table: &str| upper(table.as_bytes()).map(|(_, folder)| folder);
        assert_eq!(of(OVERLAY), Some("/var/lib/x y/diff".into()));
        for other in [
            "3 2 0:50 / / rw - ext4 /dev/vda rw,upperdir=/x\n",
            "3 2 0:50 / / rw - overlay overlay rw,lowerdir=/l\n",
            "3 2 0:50 / / rw - overlay overlay rw,upperdir=../../etc\n",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        let hidden = format!("{OVERLAY}9 3 0:60 / / rw - tmpfs tmpfs rw\n");
        assert_eq!(of(&hidden), None, "something else was mounted over it");
    }

    #[test]
    fn an_overlay_is_believed_when_the_machine_has_it_or_none_but_root_could_mount_it() {
        let chosen = OVERLAY.replace("/var/lib/x\\040y/diff", "/etc");
        let (of_machine, elsewhere) = (OVERLAY.replace(" / / ", " / /run/box/rootfs "), "");
        for (machine, mounts, own, expected) in [
            (&*of_machine, OVERLAY, false, Ok("/var/lib/x y/diff")),
            // The number was another's, or somebody lies.
            (&of_machine, &chosen, false, Err(Unknown::Untrusted)),
            (elsewhere, OVERLAY, true, Ok("/var/lib/x y/diff")),
            (elsewhere, &chosen, false, Err(Unknown::Untrusted)),
            (&of_machine.replace("0:50", "0:51"), &chosen, false, Err(Unknown::Untrusted)),
            (&of_machine, "3 2 8:1 / / rw - ext4 /dev/sda1 rw\n", true, Err(Unknown::NoLayer)),
        ] {
            let box_ = Machine::new(machine);
            box_.process(7, 1, "", mounts, own);
            assert_eq!(box_.upper(), expected.map(PathBuf::from), "{machine} {mounts}");
        }
    }

    #[test]
    fn the_oldest_process_that_is_believed_tells() {
        let other = OVERLAY.replace("/var/lib/x\\040y", "/other");
        let machine = Machine::new("");
        machine.process(5, 30, "", &other, true);
        machine.process(9, 20, "", OVERLAY, true);
        machine.process(3, 10, "", &other, false);
        assert_eq!(machine.upper(), Ok("/var/lib/x y/diff".into()));
    }

    #[test]
    fn processes_may_have_moved_into_cgroups_below() {
        let machine = Machine::new("");
        file(&machine.group.join("cgroup.procs"), "");
        assert_eq!(machine.upper(), Err(Unknown::NoProcess));
        let other = OVERLAY.replace("/var/lib/x\\040y", "/inner");
        machine.process(9, 20, "docker/inner", &other, true);
        machine.process(8, 10, "init.scope/deep", OVERLAY, true);
        assert_eq!(machine.upper(), Ok("/var/lib/x y/diff".into()), "what it runs itself is younger");
    }

    #[test]
    fn a_process_that_is_not_in_the_cgroup_any_more_tells_nothing() {
        let machine = Machine::new("");
        machine.process(7, 1, "", OVERLAY, true);
        let found = processes(std::slice::from_ref(&machine.group), &machine.roots);
        file(&machine.group.join("cgroup.procs"), "77\n");
        assert_eq!(machine.uppers().told(&found[0], &machine.roots), Err(Unknown::NoProcess));
    }
}
