//! Hints from the kernel: which directories something happened in.
//!
//! A hint is never more than a reason to look earlier. What the kernel drops, or will not watch because its limits are
//! used up, is found by the timers. Only idle directories are watched: a file that is being written is polled, which
//! costs a fraction of an event per write.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{ModifyKind, RemoveKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::{Condvar, Mutex};

use super::counters::Counters;

/// The one inotify instance.
pub(crate) struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// The real path of each directory that is watched: the kernel knows a directory once, whatever its names.
    watched: HashMap<Arc<Path>, Arc<Path>>,
    /// Real paths that are watched under other names, with these.
    also: HashMap<Arc<Path>, Vec<Arc<Path>>>,
    seen: Arc<Seen>,
    counters: Arc<Counters>,
    reported: bool,
}

/// Ends a wait, now or the next.
#[derive(Debug, Clone)]
pub(crate) struct Waker(Arc<Seen>);

impl Waker {
    pub(crate) fn wake(&self) {
        self.0.news.lock().woken = true;
        self.0.woken.notify_one();
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

/// What is there to be taken, by the one who waits.
#[derive(Debug, Default)]
struct Seen {
    news: Mutex<News>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct News {
    hints: Hints,
    /// There is something to be taken, or somebody wants to be heard.
    woken: bool,
}

impl Watch {
    /// Starts watching; without the kernel's help when it refuses.
    pub(crate) fn new(counters: Arc<Counters>) -> Watch {
        let seen = Arc::<Seen>::default();
        let (handler, counting) = (Arc::clone(&seen), Arc::clone(&counters));
        let watcher =
            notify::recommended_watcher(move |event: notify::Result<Event>| handler.note(event, &counting));
        let mut watch = Watch {
            watcher: None,
            watched: HashMap::new(),
            also: HashMap::new(),
            seen,
            counters,
            reported: false,
        };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.report(&error, Path::new("")),
        }
        watch
    }

    /// Ends a wait, now or the next.
    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.seen))
    }

    /// Watches a directory; returns whether the kernel does.
    pub(crate) fn add(&mut self, directory: &Arc<Path>) -> bool {
        if self.is_watching(directory) {
            return true;
        }
        let Some(watcher) = &mut self.watcher else { return false };
        let Ok(real) = std::fs::canonicalize(directory) else { return false };
        let real = if real == **directory { Arc::clone(directory) } else { real.into() };
        match watcher.watch(&real, RecursiveMode::NonRecursive) {
            Ok(()) => {
                if real != *directory {
                    self.also.entry(Arc::clone(&real)).or_default().push(Arc::clone(directory));
                }
                self.watched.insert(Arc::clone(directory), real);
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
        self.watched.contains_key(directory)
    }

    /// Watches it no longer.
    pub(crate) fn remove(&mut self, directory: &Path) {
        let Some(real) = self.watched.remove(directory) else { return };
        let mut others = Vec::new();
        if let Some(mut names) = self.also.remove(&real) {
            names.retain(|name| **name != *directory);
            others = names;
        }
        let needed = !others.is_empty() || self.watched.get(&real) == Some(&real);
        if !others.is_empty() {
            self.also.insert(Arc::clone(&real), others);
        }
        if !needed && let Some(watcher) = &mut self.watcher {
            // It may be gone already, and the kernel's watch with it.
            let _ = watcher.unwatch(&real);
        }
    }

    /// Waits for a hint, at most `patience`; takes all there are.
    pub(crate) fn wait(&mut self, patience: Duration) -> Hints {
        let mut hints = {
            let mut news = self.seen.news.lock();
            if !patience.is_zero() {
                self.seen.woken.wait_while_for(&mut news, |news| !news.woken, patience);
            }
            std::mem::take(&mut *news).hints
        };
        for (real, names) in &self.also {
            if let Some(happened) = hints.directories.get(real).cloned() {
                hints.directories.extend(names.iter().map(|name| (Arc::clone(name), happened.clone())));
            }
            if hints.removed.contains(real) {
                hints.removed.extend(names.iter().map(Arc::clone));
            }
        }
        hints.directories.retain(|directory, _| self.watched.contains_key(directory));
        hints.removed.retain(|directory| self.watched.contains_key(directory));
        for directory in &hints.removed {
            self.remove(directory);
            hints.directories.entry(Arc::clone(directory)).or_default().renamed = true;
        }
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
}

impl Seen {
    fn note(&self, event: notify::Result<Event>, counters: &Counters) {
        let mut news = self.news.lock();
        let hints = &mut news.hints;
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
        news.woken = true;
        drop(news);
        self.woken.notify_one();
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

    #[test]
    fn a_new_file_is_hinted_by_its_directory_and_a_missing_directory_is_no_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut watch = Watch::new(Counters::new());
        assert!(watch.add(&directory.path().into()));
        assert!(!watch.add(&directory.path().join("missing").into()));
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

    #[test]
    fn a_directory_with_two_names_is_hinted_by_both_and_watched_until_both_are_removed() {
        let root = tempfile::tempdir().expect("a directory");
        let [real, link] = ["real", "link"].map(|name| Arc::<Path>::from(root.path().join(name)));
        std::fs::create_dir(&real).expect("made");
        std::os::unix::fs::symlink(&real, &link).expect("a link");
        let mut watch = Watch::new(Counters::new());
        assert!(watch.add(&real) && watch.add(&link));
        write(&real.join("a"));
        let hints = hear(&mut watch, |hints| hints.directories.len() == 2);
        assert!(hints.directories.contains_key(&real) && hints.directories.contains_key(&link));
        watch.remove(&real);
        write(&real.join("b"));
        let hints = hear(&mut watch, |hints| !hints.directories.is_empty());
        assert!(hints.directories.contains_key(&link) && !hints.directories.contains_key(&real));
    }

    #[test]
    fn a_directory_that_goes_away_is_said_to_and_can_be_watched_again() {
        let root = tempfile::tempdir().expect("a directory");
        let directory: Arc<Path> = root.path().join("a").into();
        std::fs::create_dir(&directory).expect("made");
        let mut watch = Watch::new(Counters::new());
        assert!(watch.add(&directory));
        std::fs::remove_dir(&directory).expect("removed");
        let hints = hear(&mut watch, |hints| !hints.removed.is_empty());
        assert_eq!(hints.removed, std::slice::from_ref(&directory));
        assert!(hints.directories[&directory].names.is_empty(), "whoever waits for its files hears of it");
        assert!(!watch.is_watching(&directory) && !watch.add(&directory));
        std::fs::create_dir(&directory).expect("made");
        assert!(watch.add(&directory));
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
