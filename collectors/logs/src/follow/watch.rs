//! Hints from the kernel: which directories something happened in.
//!
//! A hint is never more than a reason to look earlier. What the kernel drops, or will not watch because its limits are
//! used up or others write there too (network file systems), is found by the timers. Only idle directories are watched:
//! a file that is being written is polled, which costs a fraction of an event per write.
//!
//! The configured directories, in which lanes appear, are watched through [`notify`]. Those that are found in them, tens of
//! thousands on a full node, have an inotify instance that is read here: `notify` keeps each path twice and asks its
//! thread for each watch, which is 60 MB and ten seconds of CPU with 100,000 containers.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::statfs::{AFS_SUPER_MAGIC, FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};
use notify::event::{ModifyKind, RemoveKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;

use super::counters::Counters;

/// How often the kernel's queue is read in one wait; a read takes a few hundred events, the queue has 16,384 by default.
const READS: usize = 100;

/// The directories that are watched.
pub(crate) struct Watch {
    roots: Option<RecommendedWatcher>,
    /// Watched through `notify`: names by real path, since the kernel knows a directory once, whatever its names.
    root_names: HashMap<PathBuf, Arc<Path>>,
    /// What `notify` has heard.
    heard: Arc<Mutex<Hints>>,
    inotify: Option<Inotify>,
    waker: Waker,
    by_path: HashMap<Arc<Path>, WatchDescriptor>,
    by_number: HashMap<WatchDescriptor, Arc<Path>>,
    /// Further paths of directories that are watched by another.
    also: Vec<(WatchDescriptor, Arc<Path>)>,
    counters: Arc<Counters>,
    reported: bool,
}

/// Ends a wait, now or the next.
#[derive(Debug, Clone)]
pub(crate) struct Waker(Arc<Option<EventFd>>);

impl Waker {
    fn new() -> Waker {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Waker(Arc::new(EventFd::from_value_and_flags(0, flags).ok()))
    }

    pub(crate) fn wake(&self) {
        // Without one, waits end by their patience; a counter that is full wakes too.
        let _ = self.0.as_ref().as_ref().map(|event| event.write(1));
    }
}

/// What happened since it was last asked for.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// Directories in which something happened.
    pub(crate) directories: HashMap<Arc<Path>, Happened>,
    /// Directories that are gone, or have another name, and their watches with them.
    pub(crate) removed: Vec<Arc<Path>>,
    /// The kernel dropped notices: anything may have happened anywhere.
    pub(crate) overflow: bool,
}

/// What happened in a directory.
#[derive(Debug, Default, Clone)]
pub(crate) struct Happened {
    /// To what; empty when it is the directory itself.
    pub(crate) names: HashSet<OsString>,
    /// A name has come or gone; otherwise files were written.
    pub(crate) renamed: bool,
}

impl Watch {
    /// Starts watching; without the kernel's help when it refuses.
    pub(crate) fn new(counters: Arc<Counters>) -> Watch {
        let (waker, heard) = (Waker::new(), Arc::<Mutex<Hints>>::default());
        let (wake, hints, counting) = (waker.clone(), Arc::clone(&heard), Arc::clone(&counters));
        let roots = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if hints.lock().note(event, &counting) {
                wake.wake();
            }
        });
        let mut watch = Watch {
            roots: None,
            root_names: HashMap::new(),
            heard,
            inotify: None,
            waker,
            by_path: HashMap::new(),
            by_number: HashMap::new(),
            also: Vec::new(),
            counters,
            reported: false,
        };
        match roots {
            Ok(roots) => watch.roots = Some(roots),
            Err(error) => watch.report(&error, Path::new("")),
        }
        match Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) {
            Ok(inotify) => watch.inotify = Some(inotify),
            Err(error) => watch.report(&error, Path::new("")),
        }
        watch
    }

    /// Ends a wait, now or the next.
    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Watches a directory that is configured; returns whether the kernel does.
    pub(crate) fn add_root(&mut self, directory: &Arc<Path>) -> bool {
        if self.is_watching(directory) {
            return true;
        }
        let Ok(real) = directory.canonicalize() else { return false };
        if is_remote(directory) {
            return false;
        }
        match &mut self.roots {
            Some(roots) if !self.root_names.contains_key(&real) => {
                let watched = roots.watch(directory, RecursiveMode::NonRecursive);
                if watched.is_ok() {
                    self.root_names.insert(real, Arc::clone(directory));
                    return true;
                }
            }
            _ => {}
        }
        self.add(directory)
    }

    /// Watches a directory; returns whether the kernel does.
    pub(crate) fn add(&mut self, directory: &Arc<Path>) -> bool {
        if self.is_watching(directory) {
            return true;
        }
        let Some(inotify) = self.inotify.as_ref().filter(|_| !is_remote(directory)) else { return false };
        let names = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
        let itself = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ONLYDIR;
        match inotify.add_watch(&**directory, names | itself | AddWatchFlags::IN_MODIFY) {
            Ok(number) => {
                let path = Arc::clone(directory);
                match self.by_number.entry(number) {
                    Entry::Occupied(_) => self.also.push((number, Arc::clone(&path))),
                    Entry::Vacant(free) => {
                        free.insert(Arc::clone(&path));
                    }
                }
                self.by_path.insert(path, number);
                true
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => false,
            Err(error) => {
                self.report(&error, directory);
                false
            }
        }
    }

    /// Whether the kernel will tell.
    pub(crate) fn is_watching(&self, directory: &Path) -> bool {
        self.by_path.contains_key(directory) || self.root_names.values().any(|root| **root == *directory)
    }

    /// Watches it no longer.
    pub(crate) fn remove(&mut self, directory: &Path) {
        let root = self.root_names.iter().find(|(_, name)| ***name == *directory);
        if let Some(real) = root.map(|(real, _)| real.clone()) {
            self.root_names.remove(&real);
            // It may be gone already, and the kernel's watch with it.
            let _ = self.roots.as_mut().map(|roots| roots.unwatch(directory));
        }
        let Some(number) = self.by_path.remove(directory) else { return };
        self.also.retain(|(_, path)| **path != *directory);
        if self.by_number.get(&number).is_none_or(|path| **path != *directory) {
            return;
        }
        if let Some(at) = self.also.iter().position(|(other, _)| *other == number) {
            let (_, path) = self.also.swap_remove(at);
            self.by_number.insert(number, path);
            return;
        }
        self.by_number.remove(&number);
        if let Some(inotify) = &self.inotify {
            // It may be gone already, and the kernel's watch with it.
            let _ = inotify.rm_watch(number);
        }
    }

    /// Waits for a hint, at most `patience`; takes all there are.
    pub(crate) fn wait(&mut self, patience: Duration) -> Hints {
        if !patience.is_zero() {
            self.sleep(patience);
        }
        let mut hints = std::mem::take(&mut *self.heard.lock());
        hints.directories.retain(|directory, _| self.is_watching(directory));
        hints.removed.retain(|directory| self.is_watching(directory));
        for directory in hints.removed.clone() {
            self.remove(&directory);
            hints.directories.entry(directory).or_default().renamed = true;
        }
        // Who makes events faster than they are read holds nobody up: what is left is read at the next wait.
        for _ in 0..READS {
            let Some(Ok(events)) = self.inotify.as_ref().map(Inotify::read_events) else { break };
            events.iter().for_each(|event| self.note(event, &mut hints));
        }
        hints
    }

    fn sleep(&self, patience: Duration) {
        let event = self.waker.0.as_ref().as_ref();
        let sources = [event.map(AsFd::as_fd), self.inotify.as_ref().map(AsFd::as_fd)];
        let mut sources: Vec<PollFd<'_>> =
            sources.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // Rounded up: waking before the time would only mean to wait again.
        let millis = patience.as_nanos().div_ceil(1_000_000);
        let timeout = u16::try_from(millis).map_or(PollTimeout::MAX, PollTimeout::from);
        // A signal ends the wait early, which does no harm.
        let _ = poll(&mut sources, timeout);
        let _ = event.map(EventFd::read);
    }

    fn note(&mut self, event: &InotifyEvent, hints: &mut Hints) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            self.counters.watch_failures.add(1);
            hints.overflow = true;
        }
        let Some(first) = self.by_number.get(&event.wd).cloned() else { return };
        let also =
            self.also.iter().filter(|(number, _)| *number == event.wd).map(|(_, path)| Arc::clone(path));
        let paths: Vec<Arc<Path>> = std::iter::once(first).chain(also).collect();
        let gone = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        for path in paths {
            if event.mask.intersects(gone) {
                self.remove(&path);
                hints.removed.push(Arc::clone(&path));
            }
            let happened = hints.directories.entry(path).or_default();
            happened.renamed |= !event.mask.contains(AddWatchFlags::IN_MODIFY);
            if let Some(name) = event.name.as_ref().filter(|name| !happened.names.contains(*name)) {
                happened.names.insert(name.clone());
            }
        }
    }

    fn report(&mut self, error: &dyn std::fmt::Display, directory: &Path) {
        self.counters.watch_failures.add(1);
        if !std::mem::replace(&mut self.reported, true) {
            tracing::warn!(
                directory = %directory.display(), %error,
                "the kernel will not watch a directory; polling instead (raise fs.inotify.max_user_watches and max_user_instances)"
            );
        }
    }
}

/// Whether others than this kernel write there: it tells of nothing that they do.
fn is_remote(directory: &Path) -> bool {
    const CEPH: i64 = 0x00c3_6400;
    const CIFS: i64 = 0xff53_4d42;
    const PLAN_9: i64 = 0x0102_1997;
    const SMB_2: i64 = 0xfe53_4d42;
    let kinds = [NFS_SUPER_MAGIC, FUSE_SUPER_MAGIC, SMB_SUPER_MAGIC, AFS_SUPER_MAGIC];
    statfs(directory).is_ok_and(|found| {
        let kind = found.filesystem_type();
        kinds.contains(&kind) || [CEPH, CIFS, PLAN_9, SMB_2].contains(&kind.0)
    })
}

impl Hints {
    fn happened(&mut self, path: &Path, kind: EventKind) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        // Of a file, or of a directory that is watched: who waits knows which.
        if matches!(kind, EventKind::Remove(RemoveKind::Folder) | EventKind::Modify(ModifyKind::Name(_))) {
            self.removed.push(path.into());
        }
        if !self.directories.contains_key(parent) {
            self.directories.insert(parent.into(), Happened::default());
        }
        let Some(happened) = self.directories.get_mut(parent) else { return };
        let written = matches!(kind, EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)));
        happened.renamed |= !written;
        if !happened.names.contains(name) {
            happened.names.insert(name.to_owned());
        }
    }

    /// Takes up what `notify` says; returns whether that is worth waking somebody.
    fn note(&mut self, event: notify::Result<Event>, counters: &Counters) -> bool {
        match event {
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => return false,
            Ok(event) => {
                if event.need_rescan() {
                    counters.watch_failures.add(1);
                    self.overflow = true;
                }
                let kind = event.kind;
                event.paths.iter().for_each(|path| self.happened(path, kind));
            }
            Err(_) => {
                counters.watch_failures.add(1);
                self.overflow = true;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn write(path: &Path) {
        std::fs::File::create(path).and_then(|mut file| file.write_all(b"x")).expect("written");
    }

    /// What is heard within ten seconds, until `done`.
    fn hear(watch: &mut Watch, done: impl Fn(&Hints) -> bool) -> Hints {
        let start = std::time::Instant::now();
        let mut all = Hints::default();
        while !done(&all) && start.elapsed() < Duration::from_secs(10) {
            let hints = watch.wait(Duration::from_secs(1));
            all.directories.extend(hints.directories);
            all.removed.extend(hints.removed);
        }
        all
    }

    /// The directory itself is told by both in the same way.
    const WAYS: [fn(&mut Watch, &Arc<Path>) -> bool; 2] = [Watch::add, Watch::add_root];

    #[test]
    fn a_new_file_is_hinted_by_its_directory_and_a_missing_directory_is_no_error() {
        for add in WAYS {
            let directory = tempfile::tempdir().expect("a directory");
            let mut watch = Watch::new(Counters::new());
            assert!(add(&mut watch, &directory.path().into()));
            assert!(!add(&mut watch, &directory.path().join("missing").into()));
            std::fs::File::create(directory.path().join("new")).expect("a file");
            let hints = hear(&mut watch, |hints| !hints.directories.is_empty());
            let happened = hints.directories.get(directory.path()).expect("a hint");
            assert!(happened.renamed && happened.names.contains(std::ffi::OsStr::new("new")));
            write(&directory.path().join("new"));
            let hints = hear(&mut watch, |hints| !hints.directories.is_empty());
            assert!(!hints.directories[directory.path()].renamed);
            watch.remove(directory.path());
            assert!(!watch.is_watching(directory.path()));
        }
    }

    #[test]
    fn a_directory_with_two_names_is_hinted_by_both_and_watched_until_both_are_removed() {
        for add in WAYS {
            let root = tempfile::tempdir().expect("a directory");
            let [real, link] = ["real", "link"].map(|name| Arc::<Path>::from(root.path().join(name)));
            std::fs::create_dir(&real).expect("made");
            std::os::unix::fs::symlink(&real, &link).expect("a link");
            let mut watch = Watch::new(Counters::new());
            assert!(add(&mut watch, &real) && add(&mut watch, &link));
            write(&real.join("a"));
            let hints = hear(&mut watch, |hints| hints.directories.len() == 2);
            assert!(hints.directories.contains_key(&real) && hints.directories.contains_key(&link));
            watch.remove(&real);
            write(&real.join("b"));
            let hints = hear(&mut watch, |hints| !hints.directories.is_empty());
            assert!(hints.directories.contains_key(&link) && !hints.directories.contains_key(&real));
        }
    }

    #[test]
    fn a_directory_that_goes_away_is_said_to_and_can_be_watched_again() {
        for add in WAYS {
            let root = tempfile::tempdir().expect("a directory");
            let directory: Arc<Path> = root.path().join("a").into();
            std::fs::create_dir(&directory).expect("made");
            let mut watch = Watch::new(Counters::new());
            assert!(add(&mut watch, &directory));
            std::fs::remove_dir(&directory).expect("removed");
            let hints = hear(&mut watch, |hints| !hints.removed.is_empty());
            assert_eq!(hints.removed, std::slice::from_ref(&directory));
            assert!(
                hints.directories[&directory].names.is_empty(),
                "whoever waits for its files hears of it"
            );
            assert!(!watch.is_watching(&directory) && !add(&mut watch, &directory));
            std::fs::create_dir(&directory).expect("made");
            assert!(add(&mut watch, &directory));
        }
    }

    #[test]
    fn a_waker_ends_a_wait() {
        let mut watch = Watch::new(Counters::new());
        let waker = watch.waker();
        waker.wake();
        let start = std::time::Instant::now();
        watch.wait(Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(50));
    }
}
