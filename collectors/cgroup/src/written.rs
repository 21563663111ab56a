//! What containers have written to disk: their writable layers and their logs.
//!
//! Nobody but a walk through all files knows how large a folder is. It is done by a thread of its own, at most once in a
//! configured time and only when somebody asks, at the lowest priority and for at most a tenth of the time. A folder that cannot
//! be walked as a whole has no figure, and is counted by the reason; where there is a runtime, it is asked instead.
//!
//! A container's files are hostile, and so is what its processes say of its layer ([`crate::upper`]): nothing is opened but
//! folders, none through a link, none on another file system, and neither depth nor number is without bounds.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, ReadDir};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use taffrail_kernfs::Roots;
use taffrail_record::Labels;

use crate::containers::{Inner, State};
use crate::entry::{Entry, Owner};
use crate::filesystems::space;
use crate::hierarchy::within;
use crate::tree::Place;
use crate::upper::Uppers;

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
    /// Inodes, if it says.
    pub inodes: Option<u64>,
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
    pub(crate) inodes: Option<u64>,
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
    /// It may have chosen the folder itself.
    Untrusted,
    /// It has no process that could be asked.
    NoProcess,
    /// Anything else.
    Failed,
}

impl Unknown {
    pub(crate) const ALL: [Unknown; 6] = [
        Unknown::Denied,
        Unknown::TooLarge,
        Unknown::NoLayer,
        Unknown::Untrusted,
        Unknown::NoProcess,
        Unknown::Failed,
    ];

    /// The label value.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unknown::Denied => "denied",
            Unknown::TooLarge => "too_large",
            Unknown::NoLayer => "no_layer",
            Unknown::Untrusted => "untrusted",
            Unknown::NoProcess => "no_process",
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
    /// Its cgroup in each hierarchy.
    directories: Vec<PathBuf>,
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
    let go_on = || inner.strong_count() > 0;
    let uppers = Uppers::read(&roots);
    let mut unknown = Vec::new();
    for job in jobs {
        let found = look(&job, &roots, &uppers, go_on);
        let Some(inner) = inner.upgrade() else { return };
        match found {
            Ok((layer, logs)) => inner.written(&job.place, &layer, logs, space_of),
            Err(why) => unknown.push((job, why)),
        }
    }
    let ids: Vec<String> = unknown.iter().map(|(job, _)| job.container.clone()).collect();
    let Some(told) = inner.upgrade().map(|inner| inner.ask_layers(&ids)) else { return };
    let mut reasons = Vec::new();
    for (job, why) in unknown {
        let logs = told.get(&job.container).ok_or(why).and_then(|layer| Ok((layer, log_bytes(&job, go_on)?)));
        let Some(inner) = inner.upgrade() else { return };
        match logs {
            Ok((layer, logs)) => inner.written(&job.place, layer, logs, space_of),
            Err(why) => {
                inner.not_written(&job.place);
                reasons.push(why);
            }
        }
    }
    if let Some(inner) = inner.upgrade() {
        inner.unknown(&reasons);
    }
}

/// Looks at one container: its layer, and the bytes of its logs.
fn look(
    job: &Job,
    roots: &Roots,
    uppers: &Uppers,
    go_on: impl Fn() -> bool + Copy,
) -> Result<(Layer, u64), Unknown> {
    let folder = uppers.of(&job.directories, roots)?;
    let (bytes, inodes) = walk(&roots.host(&folder), go_on)?;
    Ok((Layer { bytes, inodes: Some(inodes), folder }, log_bytes(job, go_on)?))
}

fn log_bytes(job: &Job, go_on: impl Fn() -> bool) -> Result<u64, Unknown> {
    let Some(logs) = &job.logs else { return Ok(0) };
    match walk(logs, go_on) {
        Ok((bytes, _)) => Ok(bytes),
        // It has printed nothing yet, where others do.
        Err(Unknown::NoLayer) if logs.parent().is_some_and(Path::is_dir) => Ok(0),
        Err(why) => Err(why),
    }
}

pub(crate) fn refused(code: Option<i32>) -> Unknown {
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
        let entry = entry.map_err(|error| refused(error.raw_os_error()))?;
        let known = match entry.metadata() {
            Ok(known) => known,
            // What goes away in the meantime takes nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(refused(error.raw_os_error())),
        };
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

/// How large the file system is that a path lies on.
fn space_of(path: &Path) -> Option<u64> {
    space(path).ok().map(|space| space.size)
}

impl Inner {
    /// Who may have written to disk.
    fn writers(&self) -> Vec<Job> {
        let state = self.state.lock();
        let Some(machine) = &state.machine else { return Vec::new() };
        let trees = machine.hierarchy.trees();
        let writer = |(place, entry): (&Place, &Entry)| {
            let container = entry.owner.container.clone()?;
            let directories = trees.iter().map(|tree| within(tree, place)).collect();
            Some(Job {
                place: place.clone(),
                logs: self.logs(&entry.owner, &container),
                container,
                directories,
            })
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

    /// Takes up what a container has written: a layer and so many bytes of logs. `size` says how large the file system at a
    /// path is.
    fn written(&self, place: &Place, layer: &Layer, logs: u64, size: impl FnOnce(&Path) -> Option<u64>) {
        // A file system that does not answer holds up no scrape.
        let size = size(&self.roots.host(&layer.folder));
        let mut state = self.state.lock();
        let State { entries, filesystems, .. } = &mut *state;
        if let Some(entry) = entries.get_mut(place) {
            let labels = Labels::new([("device", filesystems.device(&layer.folder).unwrap_or_default())]);
            let bytes = layer.bytes.saturating_add(logs);
            entry.written = Some(Written { labels, bytes, inodes: layer.inodes, size });
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
    use crate::{ContainerName, Containers, ContainersConfig, Names};

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

    const ID: &str = "524a620ed6ebbd1e711055808a1d8614a36d2e69b74418f11c3eec0e2fc57294";

    /// A container without processes on a machine of version 2, whose logs are there; the runtime knows its layer.
    fn container(logs: Option<PathBuf>, layer: Option<Layer>) -> (tempfile::TempDir, Arc<Inner>) {
        let folder = tempfile::tempdir().expect("a folder");
        let (roots, names) = (Roots::below(folder.path()), Names::new());
        fs::create_dir_all(roots.sys("fs/cgroup/docker").join(ID)).expect("made");
        fill(&roots.sys("fs/cgroup/cgroup.controllers"), 0);
        let known = Arc::new(ContainerName { logs, ..ContainerName::default() });
        names.set_containers("docker", [(ID.to_owned(), known)].into());
        let containers =
            Containers::new(ContainersConfig::default(), roots, names).with_layers(Box::new(move |_| {
                layer.clone().map(|layer| (ID.to_owned(), layer)).into_iter().collect()
            }));
        let inner = containers.inner();
        inner.collect(&mut inner.state.lock(), Instant::now());
        pass(&Arc::downgrade(&inner));
        (folder, inner)
    }

    /// What is known of the container, and for which reasons it is not.
    fn known(inner: &Inner) -> (Option<(u64, Option<u64>)>, Vec<&'static str>) {
        let state = inner.state.lock();
        let written = state.entries.values().find_map(|entry| entry.written.as_ref());
        let reasons = Unknown::ALL.iter().zip(state.unwritten).filter(|(_, count)| *count > 0);
        (written.map(|w| (w.bytes, w.inodes)), reasons.map(|(why, _)| why.name()).collect())
    }

    #[test]
    fn a_figure_of_which_a_part_is_not_known_is_missing_and_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let (none, unreadable) = (folder.path().join("none"), folder.path().join("file"));
        fill(&unreadable, 0);
        let layer = |inodes| Some(Layer { bytes: 70, inodes, folder: "/layers".into() });
        for (logs, layer, expected) in [
            (None, layer(Some(7)), (Some((70, Some(7))), vec![])),
            (None, layer(None), (Some((70, None)), vec![])),
            (Some(none), layer(Some(7)), (Some((70, Some(7))), vec![])),
            (Some(unreadable), layer(Some(7)), (None, vec!["failed"])),
            (None, None, (None, vec!["no_process"])),
        ] {
            let (_folder, inner) = container(logs.clone(), layer);
            assert_eq!(known(&inner), expected, "{logs:?}");
        }
    }

    #[test]
    fn nobody_waits_for_a_file_system_that_is_asked_for_its_size() {
        let (_folder, inner) = container(None, None);
        let place = Place::from(format!("docker/{ID}"));
        let layer = Layer { bytes: 1, inodes: None, folder: "/layers".into() };
        inner.written(&place, &layer, 2, |_| {
            assert!(inner.state.try_lock().is_some(), "a scrape would wait");
            Some(9)
        });
        assert_eq!(inner.state.lock().entries[&place].written.as_ref().and_then(|w| w.size), Some(9));
    }
}
