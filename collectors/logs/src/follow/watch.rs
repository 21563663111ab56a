//! Hints from the kernel: which directories something happened in.
//!
//! A hint is never more than a reason to look earlier. What the kernel drops, or will not watch because its limits are
//! used up, is found by the timers. Only idle directories are watched: a file that is being written is polled, which
//! costs a fraction of an event per write.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use notify::event::{ModifyKind, RemoveKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;

use super::counters::Counters;

/// The one inotify instance.
pub(crate) struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
    seen: Arc<Seen>,
    woken: Receiver<()>,
    counters: Arc<Counters>,
    reported: bool,
}

/// What happened since it was last asked for.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// Directories in which something happened.
    pub(crate) directories: HashMap<PathBuf, Happened>,
    /// Directories that are gone, and their watches with them.
    pub(crate) removed: Vec<PathBuf>,
    /// The kernel dropped notices: anything may have happened anywhere.
    pub(crate) overflow: bool,
}

/// What happened in a directory.
#[derive(Debug, Default)]
pub(crate) struct Happened {
    /// To what.
    pub(crate) names: HashSet<OsString>,
    /// A name has come or gone; otherwise files were written.
    pub(crate) renamed: bool,
}

struct Seen {
    hints: Mutex<Hints>,
    wake: Sender<()>,
}

impl Watch {
    /// Starts watching; without the kernel's help when it refuses.
    pub(crate) fn new(counters: Arc<Counters>) -> Watch {
        let (wake, woken) = crossbeam_channel::bounded(1);
        let seen = Arc::new(Seen { hints: Mutex::default(), wake });
        let (handler, counting) = (Arc::clone(&seen), Arc::clone(&counters));
        let watcher =
            notify::recommended_watcher(move |event: notify::Result<Event>| handler.note(event, &counting));
        let mut watch =
            Watch { watcher: None, watched: HashSet::new(), seen, woken, counters, reported: false };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.report(&error, Path::new("")),
        }
        watch
    }

    /// Ends a wait, now or the next.
    pub(crate) fn waker(&self) -> Sender<()> {
        self.seen.wake.clone()
    }

    /// Watches a directory; returns whether the kernel does.
    pub(crate) fn add(&mut self, directory: &Path) -> bool {
        if self.watched.contains(directory) {
            return true;
        }
        let Some(watcher) = &mut self.watcher else { return false };
        match watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(directory.to_owned());
                true
            }
            Err(error) => {
                if !matches!(error.kind, notify::ErrorKind::PathNotFound) {
                    self.report(&error, directory);
                }
                false
            }
        }
    }

    /// Whether the kernel will tell.
    pub(crate) fn is_watching(&self, directory: &Path) -> bool {
        self.watched.contains(directory)
    }

    /// Watches it no longer.
    pub(crate) fn remove(&mut self, directory: &Path) {
        if self.watched.remove(directory)
            && let Some(watcher) = &mut self.watcher
        {
            // It may be gone already, and the kernel's watch with it.
            let _ = watcher.unwatch(directory);
        }
    }

    /// Waits for a hint, at most `patience`; takes all there are.
    pub(crate) fn wait(&mut self, patience: Duration) -> Hints {
        if !patience.is_zero() {
            let _ = self.woken.recv_timeout(patience);
        }
        let mut hints = std::mem::take(&mut *self.seen.hints.lock());
        hints.removed.retain(|directory| self.watched.contains(directory));
        hints.removed.iter().for_each(|directory| self.remove(directory));
        hints
    }

    fn report(&mut self, error: &notify::Error, directory: &Path) {
        self.counters.watch_failures.add(1);
        if !std::mem::replace(&mut self.reported, true) {
            tracing::warn!(
                directory = %directory.display(), %error,
                "the kernel will not watch a directory; polling instead (raise fs.inotify.max_user_watches and max_user_instances)"
            );
        }
    }
}

impl Hints {
    fn happened(&mut self, path: &Path, kind: EventKind) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if matches!(kind, EventKind::Remove(RemoveKind::Folder)) {
            self.removed.push(path.to_owned());
        }
        if !self.directories.contains_key(parent) {
            self.directories.insert(parent.to_owned(), Happened::default());
        }
        let Some(happened) = self.directories.get_mut(parent) else { return };
        let written = matches!(kind, EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)));
        happened.renamed |= !written;
        if !happened.names.contains(name) {
            happened.names.insert(name.to_owned());
        }
    }
}

impl Seen {
    fn note(&self, event: notify::Result<Event>, counters: &Counters) {
        let mut hints = self.hints.lock();
        match event {
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => return,
            Ok(event) => {
                if event.need_rescan() {
                    counters.watch_failures.add(1);
                    hints.overflow = true;
                }
                let kind = event.kind;
                for path in event.paths {
                    hints.happened(&path, kind);
                }
            }
            Err(_) => {
                counters.watch_failures.add(1);
                hints.overflow = true;
            }
        }
        let _ = self.wake.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_hinted_by_its_directory_and_a_missing_directory_is_no_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut watch = Watch::new(Counters::new());
        assert!(watch.add(directory.path()));
        assert!(!watch.add(&directory.path().join("missing")));
        std::fs::File::create(directory.path().join("new")).expect("a file");
        let hints = watch.wait(Duration::from_secs(10));
        let happened = hints.directories.get(directory.path()).expect("a hint");
        assert!(happened.renamed && happened.names.contains(std::ffi::OsStr::new("new")));
        watch.remove(directory.path());
    }
}
