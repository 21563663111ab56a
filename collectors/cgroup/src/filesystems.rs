//! The machine's file systems: which are mounted, how full they are, and what their devices have done.
//!
//! The list of mounts is read again only when the kernel says that it has changed. Only file systems on this machine's own
//! devices and memory are asked: one behind a network or a program may never answer, and would hold up a scrape.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statvfs::statvfs;
use taffrail_kernfs::{Mounted, Page, ReadError, Roots, Troubles, parse};
use taffrail_record::Labels;

/// File systems that answer at once. Those of ext have a number behind.
const LOCAL: [&str; 7] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs"];

/// Below these, runtimes and kubelet mount what belongs to containers.
const OF_CONTAINERS: [&str; 7] = [
    "/var/lib/docker/",
    "/var/lib/containers/",
    "/var/lib/containerd/",
    "/var/lib/kubelet/pods/",
    "/run/containerd/",
    "/run/docker/",
    "/run/credentials/",
];

/// More are left out: each has a series in a dozen families.
const MOST: usize = 128;

/// How full a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    /// Bytes.
    pub(crate) size: u64,
    /// Bytes.
    pub(crate) used: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

/// What a device has done since the machine was started: the figures of a line of `diskstats` behind the device's name.
pub(crate) type Done = [u64; 11];

/// A file system of the machine.
#[derive(Debug)]
pub(crate) struct Filesystem {
    /// `device="/dev/sda1"`; of one in memory, where it is mounted.
    pub(crate) labels: Labels,
    /// Whether the device's name is one for which cAdvisor reads what it has done.
    pub(crate) is_usual: bool,
    pub(crate) space: Option<Space>,
    pub(crate) done: Option<Done>,
    path: PathBuf,
    number: (u32, u32),
}

#[derive(Debug)]
struct Mount {
    point: PathBuf,
    source: String,
    kind: String,
    number: (u32, u32),
}

/// What is mounted.
#[derive(Debug, Default)]
pub(crate) struct Filesystems {
    /// Becomes ready when something was mounted or unmounted.
    notices: Option<File>,
    mounts: Vec<Mount>,
    shown: Vec<Filesystem>,
}

impl Filesystems {
    /// Those of the machine itself.
    pub(crate) fn shown(&self) -> &[Filesystem] {
        &self.shown
    }

    /// Reads how full they are.
    pub(crate) fn read(&mut self, roots: &Roots, page: &mut Page, troubles: &mut Troubles) {
        self.list(roots, page, troubles);
        for filesystem in &mut self.shown {
            filesystem.space = troubles.take(space(&roots.host(&filesystem.path)));
        }
        let text = troubles.take(taffrail_kernfs::read(&roots.proc("diskstats"), page)).unwrap_or_default();
        self.shown.iter_mut().for_each(|filesystem| filesystem.done = None);
        for (number, done) in parse::lines(text).filter_map(disk) {
            let of_device = self.shown.iter_mut().filter(|filesystem| filesystem.number == number);
            of_device.for_each(|filesystem| filesystem.done = Some(done));
        }
    }

    /// The device below a path of the host: what the deepest mount above it is a mount of.
    pub(crate) fn device(&self, path: &Path) -> Option<&str> {
        let above = self.mounts.iter().filter(|mount| path.starts_with(&mount.point));
        // Of two at one place the later one hides the other.
        let deepest = above.max_by_key(|mount| mount.point.as_os_str().len())?;
        Some(if deepest.kind == "tmpfs" { deepest.point.to_str()? } else { &deepest.source })
    }

    /// Takes up what is mounted, if that has changed.
    pub(crate) fn list(&mut self, roots: &Roots, page: &mut Page, troubles: &mut Troubles) {
        if self.notices.as_ref().is_some_and(|file| !changed(file)) {
            return;
        }
        // The host's, or the agent's own when it may not read those.
        let tables = [("1/mountinfo", false), ("self/mountinfo", true)];
        let mut paths = tables.into_iter().map(|(name, own)| (roots.proc(name), own));
        let Some((path, own)) = paths.find(|(path, _)| File::open(path).is_ok()) else {
            troubles.note(ReadError {
                path: roots.proc("mountinfo"),
                cause: std::io::ErrorKind::NotFound.into(),
            });
            return;
        };
        // Watched before it is read: what is mounted in between is read again.
        if self.notices.is_none() {
            self.notices = File::open(&path).ok();
        }
        let Some(text) = troubles.take(taffrail_kernfs::read(&path, page)) else {
            self.notices = None;
            return;
        };
        self.mounts = parse::lines(text).filter_map(|line| mount(line, own, roots)).collect();
        self.settle();
    }

    fn settle(&mut self) {
        self.shown.clear();
        for mount in &self.mounts {
            let device = if mount.kind == "tmpfs" {
                mount.point.to_string_lossy()
            } else {
                mount.source.as_str().into()
            };
            let labels = Labels::new([("device", &*device)]);
            let known = self.shown.iter().any(|shown| shown.labels.as_str() == labels.as_str());
            if !mount.is_of_machine() || known || self.shown.len() == MOST {
                continue;
            }
            self.shown.push(Filesystem {
                is_usual: is_usual(&mount.source),
                labels,
                space: None,
                done: None,
                path: mount.point.clone(),
                number: mount.number,
            });
        }
    }
}

impl Mount {
    /// Whether it is a file system of the machine that answers at once. An overlay is one only where it is the machine's root.
    fn is_of_machine(&self) -> bool {
        let is_local = LOCAL.contains(&self.kind.as_str());
        let point = self.point.to_string_lossy();
        (is_local && !OF_CONTAINERS.iter().any(|above| point.starts_with(above)))
            || (self.kind == "overlay" && point == "/")
    }
}

/// How full the file system at a path is.
pub(crate) fn space(path: &Path) -> Result<Space, ReadError> {
    let told = statvfs(path).map_err(|cause| ReadError { path: path.to_owned(), cause: cause.into() })?;
    let size = told.blocks() * told.fragment_size();
    Ok(Space {
        size,
        used: size.saturating_sub(told.blocks_free() * told.fragment_size()),
        inodes: told.files(),
        inodes_free: told.files_free(),
    })
}

/// Whether the kernel says that mounts have changed since it was asked last.
fn changed(file: &File) -> bool {
    let mut asked = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
    let told = poll(&mut asked, PollTimeout::ZERO);
    told.is_err()
        || asked[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLPRI | PollFlags::POLLERR))
}

fn mount(line: &[u8], own: bool, roots: &Roots) -> Option<Mount> {
    let Mounted { device, point, kind, source, .. } = Mounted::parse(line)?;
    let point = if own { roots.as_host(&point) } else { point };
    Some(Mount { point, source, kind: kind.to_owned(), number: device })
}

/// A line of `diskstats`: number, name, figures.
fn disk(line: &[u8]) -> Option<((u32, u32), Done)> {
    let mut words = parse::words(line);
    let mut number = || u32::try_from(parse::number(words.next()?)?).ok();
    let number = (number()?, number()?);
    words.next()?;
    let mut done = Done::default();
    for figure in &mut done {
        *figure = parse::number(words.next()?)?;
    }
    Some((number, done))
}

/// Disks of SCSI, virtio and Xen, and what the device mapper makes of them.
fn is_usual(source: &str) -> bool {
    let name = source.strip_prefix("/dev/").unwrap_or_default();
    ["sd", "vd", "xvd", "dm-"].iter().any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
21 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
22 21 0:20 / /proc rw - proc proc rw
23 21 253:0 /srv /mnt/bind rw - ext4 /dev/vda rw
24 21 0:30 / /run rw - tmpfs tmpfs rw
25 21 253:16 / /data\\040x rw shared:9 master:2 - xfs /dev/vdb rw
26 21 0:40 / /mnt/far rw - nfs4 server:/x rw
27 21 0:50 / /var/lib/kubelet/pods/u/volumes/t rw - tmpfs tmpfs rw
28 21 0:51 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
";

    fn machine() -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().expect("a folder");
        let roots = Roots::below(folder.path());
        std::fs::create_dir_all(roots.proc("1")).expect("made");
        std::fs::create_dir_all(roots.host(Path::new("/data x"))).expect("made");
        std::fs::create_dir_all(roots.host(Path::new("/run"))).expect("made");
        for (path, text) in [
            ("1/mountinfo", TABLE),
            (
                "diskstats",
                " 253 0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13\n 253 16 vdb 21 2 3 4 5 6 7 8 9 10 11\n 7 0 loop0 1\n",
            ),
        ] {
            let mut file = File::create(roots.proc(path)).expect("made");
            std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
        }
        (folder, roots)
    }

    #[test]
    fn file_systems_of_the_machine_are_shown_once_and_those_that_may_hang_never() {
        let (_folder, roots) = machine();
        let (mut filesystems, mut troubles) = (Filesystems::default(), Troubles::default());
        filesystems.read(&roots, &mut Page::default(), &mut troubles);
        let shown: Vec<_> = filesystems.shown().iter().map(|shown| shown.labels.as_str()).collect();
        assert_eq!(shown, [r#"device="/dev/vda""#, r#"device="/run""#, r#"device="/dev/vdb""#]);
        let figures: Vec<_> =
            filesystems.shown().iter().map(|shown| shown.done.map(|done| done[0])).collect();
        assert_eq!(figures, [Some(1), None, Some(21)]);
        for filesystem in filesystems.shown() {
            let space = filesystem.space.expect("it was asked");
            assert!(space.size >= space.used && space.inodes >= space.inodes_free, "{space:?}");
        }
        assert!(troubles.told().is_ok());
    }

    #[test]
    fn a_path_lies_on_the_device_of_the_deepest_mount_above_it() {
        let (_folder, roots) = machine();
        let mut filesystems = Filesystems::default();
        filesystems.list(&roots, &mut Page::default(), &mut Troubles::default());
        let device = |path: &str| filesystems.device(Path::new(path));
        assert_eq!(device("/var/lib/x"), Some("/dev/vda"));
        assert_eq!(device("/data x/y"), Some("/dev/vdb"));
        assert_eq!(device("/data xy"), Some("/dev/vda"));
        assert_eq!(device("/run/y"), Some("/run"));
    }

    #[test]
    fn a_machine_without_a_list_has_no_file_systems() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut filesystems, mut troubles) = (Filesystems::default(), Troubles::default());
        filesystems.read(&Roots::below(folder.path()), &mut Page::default(), &mut troubles);
        assert!(filesystems.shown().is_empty());
        assert_eq!(troubles.count(taffrail_kernfs::Reason::Absent), 2);
    }
}
