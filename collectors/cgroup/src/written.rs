//! What containers have written to disk: their writable layers and their logs.
//!
//! Nobody but a walk through all files knows how large a folder is. It is done by a thread of its own, at most once in a
//! configured time and only when somebody asks, at the lowest priority and for at most a tenth of the time. A folder that cannot
//! be walked as a whole has no figure, and is counted by the reason; where there is a runtime, it is asked instead.
//!
//! A container's files are hostile: nothing is opened but folders, none through a link, none on another file system, and
//! neither depth nor number is without bounds.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, ReadDir};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use taffrail_kernfs::{Mounted, Page, Roots, parse};
use taffrail_record::Labels;

use crate::containers::{Inner, State};
use crate::entry::{Entry, Owner};
use crate::filesystems::{Filesystems, space};
use crate::tree::Place;

/// Files of one container at most.
const MOST: u64 = 500_000;
/// Folders in one another at most: each is an open descriptor.
const DEEPEST: usize = 128;
/// After so many files there is a pause, this many times as long as they took.
const AT_ONCE: u64 = 512;
const PAUSES: u32 = 9;

/// What a runtime says of a container's writable layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// A folder on the file system that it lies on, as the host calls it.
    pub folder: PathBuf,
}

/// Asks a runtime for the layers of containers, by id. It may take seconds.
pub type AskLayers = dyn Fn(&[String]) -> BTreeMap<String, Layer> + Send + Sync;

/// What a container has written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Written {
    /// `device="/dev/sda1"`.
    pub(crate) labels: Labels,
    /// Bytes that are taken on the disk.
    pub(crate) bytes: u64,
    /// Of the layer alone, as cAdvisor counts them.
    pub(crate) inodes: u64,
    /// Bytes that the file system has, or that its quota gives to the container.
    pub(crate) size: Option<u64>,
}

/// Why it is not known what a container has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The agent may not look into a folder of it.
    Denied,
    /// Its files are too many, or its folders too deep.
    TooLarge,
    /// Its root is not an overlay with a folder to write into.
    NoLayer,
    /// Anything else.
    Failed,
}

impl Unknown {
    pub(crate) const ALL: [Unknown; 4] =
        [Unknown::Denied, Unknown::TooLarge, Unknown::NoLayer, Unknown::Failed];

    /// The label value.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unknown::Denied => "denied",
            Unknown::TooLarge => "too_large",
            Unknown::NoLayer => "no_layer",
            Unknown::Failed => "failed",
        }
    }
}

/// Bytes and inodes of a folder.
type Taken = (u64, u64);

/// A container to look at.
struct Job {
    place: Place,
    container: String,
    pid: u32,
    /// Where its logs are.
    logs: Option<PathBuf>,
}

/// Starts the thread; it looks at all containers each time that it is told to, and ends with `inner`.
pub(crate) fn watch(inner: &Arc<Inner>, told: Receiver<()>) -> io::Result<()> {
    let inner = Arc::downgrade(inner);
    thread::Builder::new().name("containers-disk".to_owned()).spawn(move || {
        be_modest();
        while told.recv().is_ok() {
            pass(&inner);
        }
    })?;
    Ok(())
}

/// Lets everybody else go first, to the processor and to the disk.
fn be_modest() {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IDLE: libc::c_int = 3 << 13;
    // SAFETY: both calls take numbers only and concern this thread; without their effect it is only less modest.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IDLE);
    }
}

fn pass(inner: &Weak<Inner>) {
    let Some((jobs, roots)) = inner.upgrade().map(|inner| (inner.writers(), inner.roots.clone())) else {
        return;
    };
    let mut unknown = Vec::new();
    for job in jobs {
        let found = look(&job, &roots, || inner.strong_count() > 0);
        let Some(inner) = inner.upgrade() else { return };
        match found {
            Ok((folder, taken)) => inner.written(&job.place, &folder, taken),
            Err(why) => unknown.push((job, why)),
        }
    }
    let Some(inner) = inner.upgrade() else { return };
    let told = inner.ask_layers(&unknown.iter().map(|(job, _)| job.container.clone()).collect::<Vec<_>>());
    let mut reasons = Vec::new();
    for (job, why) in unknown {
        match told.get(&job.container) {
            Some(layer) => {
                let (bytes, _) = job.logs.and_then(|logs| walk(&logs, || true).ok()).unwrap_or_default();
                inner.written(&job.place, &layer.folder, (layer.bytes + bytes, layer.inodes));
            }
            None => {
                inner.not_written(&job.place);
                reasons.push(why);
            }
        }
    }
    inner.unknown(&reasons);
}

/// Looks at one container: where it writes, as the host calls it, and how much it has.
fn look(job: &Job, roots: &Roots, go_on: impl Fn() -> bool + Copy) -> Result<(PathBuf, Taken), Unknown> {
    let table = taffrail_kernfs::read(&roots.proc(&format!("{}/mountinfo", job.pid)), &mut Page::default())
        .map(<[u8]>::to_vec)
        .map_err(|error| refused(error.cause.raw_os_error()))?;
    let folder = upper(&table).ok_or(Unknown::NoLayer)?;
    let (mut bytes, inodes) = walk(&roots.host(&folder), go_on)?;
    if let Some(logs) = &job.logs {
        match walk(logs, go_on) {
            Ok((more, _)) => bytes += more,
            // It has printed nothing yet.
            Err(Unknown::NoLayer) => {}
            Err(why) => return Err(why),
        }
    }
    Ok((folder, (bytes, inodes)))
}

/// The folder that a process writes into whose root is an overlay.
fn upper(mountinfo: &[u8]) -> Option<PathBuf> {
    // Of two at one place the later one hides the other.
    let mounts = parse::lines(mountinfo).filter_map(Mounted::parse);
    let root = mounts.filter(|mounted| mounted.point == Path::new("/")).last()?;
    let folder = root.super_option(b"upperdir").filter(|_| root.kind == "overlay")?;
    let folder = PathBuf::from(OsString::from_vec(folder));
    folder.is_absolute().then_some(folder)
}

fn refused(code: Option<i32>) -> Unknown {
    match code {
        Some(libc::EACCES | libc::EPERM) => Unknown::Denied,
        Some(libc::ENOENT | libc::ESRCH) => Unknown::NoLayer,
        _ => Unknown::Failed,
    }
}

/// A folder on the way down.
struct Level {
    folder: OwnedFd,
    entries: ReadDir,
}

/// What a folder and all in it take. Stops with an error when `go_on` does not hold any more.
fn walk(folder: &Path, go_on: impl Fn() -> bool) -> Result<Taken, Unknown> {
    let folder = open(folder, FOLDER, Mode::empty()).map_err(|error| refused(Some(error as i32)))?;
    let top = level(folder)?;
    let own = stat(&top)?;
    let (device, mut taken) = (own.dev(), (own.blocks() * 512, 1));
    let mut levels = vec![top];
    let mut linked = HashSet::new();
    let mut since = Instant::now();
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.next() else {
            levels.pop();
            continue;
        };
        // What goes away in the meantime takes nothing.
        let Ok(entry) = entry else { continue };
        let Ok(known) = entry.metadata() else { continue };
        if known.dev() != device || (!known.is_dir() && known.nlink() > 1 && !linked.insert(known.ino())) {
            continue;
        }
        taken = (taken.0 + known.blocks() * 512, taken.1 + 1);
        if taken.1 > MOST {
            return Err(Unknown::TooLarge);
        }
        if taken.1.is_multiple_of(AT_ONCE) {
            thread::sleep((since.elapsed() * PAUSES).min(Duration::from_secs(5)));
            since = Instant::now();
            if !go_on() {
                return Err(Unknown::Failed);
            }
        }
        if known.is_dir() {
            let Some(below) = below(level, &entry.file_name())? else { continue };
            if levels.len() == DEEPEST {
                return Err(Unknown::TooLarge);
            }
            levels.push(below);
        }
    }
    Ok(taken)
}

const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK);

/// A folder in a folder, unless it has gone away or become something else.
fn below(level: &Level, name: &OsStr) -> Result<Option<Level>, Unknown> {
    match openat(level.folder.as_fd(), name, FOLDER, Mode::empty()) {
        Ok(folder) => self::level(folder).map(Some),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(error) => Err(refused(Some(error as i32))),
    }
}

fn level(folder: OwnedFd) -> Result<Level, Unknown> {
    let entries = fs::read_dir(itself(&folder)).map_err(|error| refused(error.raw_os_error()))?;
    Ok(Level { folder, entries })
}

fn stat(level: &Level) -> Result<fs::Metadata, Unknown> {
    fs::metadata(itself(&level.folder)).map_err(|error| refused(error.raw_os_error()))
}

/// The name of what is open, which leads nowhere else.
fn itself(folder: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", folder.as_raw_fd())
}

/// What lies in `folder`, as the host calls it.
fn written(roots: &Roots, filesystems: &Filesystems, folder: &Path, (bytes, inodes): Taken) -> Written {
    let labels = Labels::new([("device", filesystems.device(folder).unwrap_or_default())]);
    let size = space(&roots.host(folder)).ok().map(|space| space.size);
    Written { labels, bytes, inodes, size }
}

impl Inner {
    /// Who may have written to disk.
    fn writers(&self) -> Vec<Job> {
        let state = self.state.lock();
        let writer = |(place, entry): (&Place, &Entry)| {
            let container = entry.owner.container.clone()?;
            let pid = entry.figures.pids.first?;
            Some(Job { place: place.clone(), logs: self.logs(&entry.owner, &container), container, pid })
        };
        state.entries.iter().filter_map(writer).collect()
    }

    /// Where a container's logs are: the runtime has told it, or kubelet has chosen it.
    fn logs(&self, owner: &Owner, container: &str) -> Option<PathBuf> {
        let known = self.names.container(container)?;
        let of_kubelet = || {
            let (kubelet, uid) = (self.kubelet.as_ref()?, owner.pod.as_ref()?);
            let of_pod = format!("{}_{}_{uid}", known.namespace, known.pod);
            (!known.container.is_empty()).then(|| kubelet.pods.join(of_pod).join(&known.container))
        };
        known.logs.clone().or_else(of_kubelet)
    }

    fn ask_layers(&self, containers: &[String]) -> BTreeMap<String, Layer> {
        match &self.layers {
            Some(layers) if !containers.is_empty() => layers(containers),
            _ => BTreeMap::new(),
        }
    }

    /// Takes up what a container has written into `folder`, as the host calls it.
    fn written(&self, place: &Place, folder: &Path, taken: (u64, u64)) {
        let mut state = self.state.lock();
        let State { entries, filesystems, .. } = &mut *state;
        if let Some(entry) = entries.get_mut(place) {
            entry.written = Some(written(&self.roots, filesystems, folder, taken));
        }
    }

    /// It is not known any more what a container has written.
    fn not_written(&self, place: &Place) {
        if let Some(entry) = self.state.lock().entries.get_mut(place) {
            entry.written = None;
        }
    }

    /// Takes up of how many containers nothing is known, and why.
    fn unknown(&self, reasons: &[Unknown]) {
        let count = |why| reasons.iter().filter(|reason| **reason == why).count();
        self.state.lock().unwritten = Unknown::ALL.map(count);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn fill(path: &Path, length: usize) {
        let mut file = fs::File::create(path).expect("made");
        io::Write::write_all(&mut file, &vec![7; length]).expect("written");
    }

    #[test]
    fn a_folder_takes_what_is_in_it_and_each_file_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let (empty, inodes) = walk(folder.path(), || true).expect("walked");
        assert_eq!(inodes, 1);
        fs::create_dir_all(path("a/b")).expect("made");
        fill(&path("a/b/file"), 1 << 20);
        fs::hard_link(path("a/b/file"), path("again")).expect("linked");
        symlink("/", path("a/away")).expect("linked");
        nix::unistd::mkfifo(&path("a/pipe"), Mode::S_IRWXU).expect("made");
        let (bytes, inodes) = walk(folder.path(), || true).expect("walked");
        assert_eq!(inodes, 6, "itself, two folders, a file with two names, a link, a pipe");
        let files = bytes - empty;
        assert!((1 << 20..(1 << 20) + (64 << 10)).contains(&files), "{files}");
    }

    #[test]
    fn what_is_too_deep_has_no_figure() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = |levels: usize| folder.path().join(vec!["d"; levels].join("/"));
        fs::create_dir_all(deep(DEEPEST - 1)).expect("made");
        assert_eq!(walk(folder.path(), || true).expect("walked").1, DEEPEST as u64);
        fs::create_dir_all(deep(DEEPEST)).expect("made");
        assert_eq!(walk(folder.path(), || true), Err(Unknown::TooLarge));
    }

    #[test]
    fn a_walk_ends_when_nobody_wants_it_any_more() {
        let folder = tempfile::tempdir().expect("a folder");
        for number in 0..AT_ONCE {
            fill(&folder.path().join(number.to_string()), 0);
        }
        assert_eq!(walk(folder.path(), || false), Err(Unknown::Failed));
        assert_eq!(walk(folder.path(), || true).expect("walked").1, AT_ONCE + 1);
        assert_eq!(walk(&folder.path().join("none"), || true), Err(Unknown::NoLayer));
        assert_eq!(walk(&folder.path().join("0"), || true), Err(Unknown::Failed), "a file is no folder");
    }

    #[test]
    fn the_folder_that_is_written_into_is_the_overlays() {
        let overlay = "1 2 0:5 / /proc rw - proc proc rw\n\
            3 2 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/l/1:/l/2,upperdir=/var/lib/x\\040y/diff,workdir=/w\n";
        assert_eq!(upper(overlay.as_bytes()), Some("/var/lib/x y/diff".into()));
        for other in [
            "3 2 0:50 / / rw - ext4 /dev/vda rw,upperdir=/x\n",
            "3 2 0:50 / / rw - overlay overlay rw,lowerdir=/l\n",
            "3 2 0:50 / / rw - overlay overlay rw,upperdir=../../etc\n",
            "",
        ] {
            assert_eq!(upper(other.as_bytes()), None, "{other}");
        }
        let hidden = format!("{overlay}9 3 0:60 / / rw - tmpfs tmpfs rw\n");
        assert_eq!(upper(hidden.as_bytes()), None, "something else was mounted over it");
    }
}
