//! Which cgroups there are.
//!
//! Every directory is watched; a scrape takes up what the kernel has told since the last one. When the kernel has dropped
//! notices or grants no more watches, and now and then in any case, everything is looked through: notices are hints.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// Everything is looked through after so long, whatever the kernel has told.
const RESCAN: Duration = Duration::from_secs(120);
/// The same when the kernel does not tell everything.
const RESCAN_BLIND: Duration = Duration::from_secs(2);
/// Deeper directories are not looked into.
const DEEPEST: usize = 64;

/// A cgroup, by its path below the mount: empty for the root, without a leading slash.
pub(crate) type Place = OsString;

/// What has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) added: Vec<Place>,
    pub(crate) removed: Vec<Place>,
    /// Removed in one hierarchy, and still there in another.
    pub(crate) lessened: Vec<Place>,
    /// Somebody wrote to a file: limits may have changed.
    pub(crate) written: Vec<Place>,
    /// The last process of it has ended, or its first was moved in (version 2).
    pub(crate) populated: Vec<Place>,
    /// That is not told, or was not.
    pub(crate) written_unheard: bool,
}

/// The directories of one or more hierarchies, taken together.
#[derive(Debug)]
pub(crate) struct Tree {
    mounts: Vec<PathBuf>,
    /// In which hierarchies each was seen, a bit for each.
    known: BTreeMap<Place, u32>,
    inotify: Option<Inotify>,
    watched: HashMap<WatchDescriptor, (usize, Place)>,
    /// A watch was refused, or there is no inotify.
    blind: bool,
    written: Vec<Place>,
    populated: Vec<Place>,
    scanned: Option<Instant>,
}

impl Tree {
    /// Of the hierarchies mounted there; nothing is looked at yet.
    pub(crate) fn new(mounts: Vec<PathBuf>) -> Tree {
        let inotify = listen();
        let blind = inotify.is_none();
        Tree {
            mounts,
            known: BTreeMap::new(),
            inotify,
            watched: HashMap::new(),
            blind,
            written: Vec::new(),
            populated: Vec::new(),
            scanned: None,
        }
    }

    /// What has changed since this was last asked.
    pub(crate) fn changes(&mut self, now: Instant) -> Changes {
        let before = self.heard();
        let patience = if self.blind { RESCAN_BLIND } else { RESCAN };
        let due = self.scanned.is_none_or(|at| now.saturating_duration_since(at) >= patience);
        let mut changes = match before {
            Some(heard) if !due => self.take_up(heard),
            _ => Changes { written_unheard: true, ..self.rescan(now) },
        };
        changes.written = std::mem::take(&mut self.written);
        changes.populated = std::mem::take(&mut self.populated);
        changes.written_unheard |= self.blind;
        changes
    }

    /// A descriptor that is readable when there is something to be heard.
    pub(crate) fn notices(&self) -> Option<OwnedFd> {
        self.inotify.as_ref()?.as_fd().try_clone_to_owned().ok()
    }

    /// As if the kernel had granted no notices.
    #[cfg(test)]
    pub(crate) fn deafen(&mut self) {
        (self.inotify, self.blind) = (None, true);
        self.watched.clear();
    }

    /// The directories that were made and removed; nothing when some were not told of.
    fn heard(&mut self) -> Option<Vec<(usize, Place, bool)>> {
        let mut heard = Vec::new();
        let Some(inotify) = &self.inotify else { return Some(heard) };
        loop {
            let events = match inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => return Some(heard),
                Err(_) => return None,
            };
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    return None;
                }
                if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    self.watched.remove(&event.wd);
                    continue;
                }
                let Some((mount, parent)) = self.watched.get(&event.wd) else { continue };
                if event.mask.contains(AddWatchFlags::IN_MODIFY) {
                    // Files of events are written by the kernel, some of them often.
                    let name = event.name.as_deref().unwrap_or_default();
                    if name == "cgroup.events" {
                        self.populated.push(parent.clone());
                    } else if !name.to_string_lossy().contains(".events")
                        && self.written.last() != Some(parent)
                    {
                        self.written.push(parent.clone());
                    }
                }
                if let Some(name) = event.name.filter(|_| event.mask.contains(AddWatchFlags::IN_ISDIR)) {
                    let made = event.mask.intersects(AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO);
                    let place = child(parent, &name);
                    if event.mask.contains(AddWatchFlags::IN_MOVED_FROM) {
                        // What is below it has gone with it, which nobody tells.
                        let with_it = below(&self.known, &place).map(|place| (*mount, place.clone(), false));
                        heard.extend(with_it);
                    }
                    heard.push((*mount, place, made));
                }
            }
        }
    }

    fn take_up(&mut self, heard: Vec<(usize, Place, bool)>) -> Changes {
        let before: BTreeMap<Place, bool> =
            heard.iter().map(|(_, place, _)| (place.clone(), self.known.contains_key(place))).collect();
        let made: BTreeSet<Place> =
            heard.iter().filter(|(.., made)| *made).map(|(_, place, _)| place.clone()).collect();
        let mut found = Vec::new();
        for (mount, place, made) in heard {
            if made {
                self.walk(mount, &place, 0, &mut found);
            } else {
                self.forget(mount, &place);
            }
        }
        // What was removed and made again between two looks is another one.
        let mut changes = Changes::default();
        for (place, was_known) in before {
            if was_known && !made.contains(&place) && self.known.contains_key(&place) {
                changes.lessened.push(place);
                continue;
            }
            if was_known {
                changes.removed.push(place.clone());
            }
            if self.known.contains_key(&place) {
                changes.added.push(place);
            }
        }
        let told: Vec<Place> = changes.added.clone();
        changes.added.extend(
            found.into_iter().filter(|place| !told.contains(place) && self.known.contains_key(place)),
        );
        changes.added.sort_unstable();
        changes.added.dedup();
        changes
    }

    fn forget(&mut self, mount: usize, place: &Place) {
        if let Some(seen) = self.known.get_mut(place) {
            *seen &= !(1 << mount);
            if *seen == 0 {
                self.known.remove(place);
            }
        }
    }

    fn rescan(&mut self, now: Instant) -> Changes {
        self.scanned = Some(now);
        // It may be granted by now.
        self.inotify = self.inotify.take().or_else(listen);
        self.blind = self.inotify.is_none();
        let before = std::mem::take(&mut self.known);
        let mut found = Vec::new();
        for mount in 0..self.mounts.len() {
            self.walk(mount, &Place::new(), 0, &mut found);
        }
        let known = &self.known;
        let mut added: Vec<Place> = found.into_iter().filter(|place| !before.contains_key(place)).collect();
        added.sort_unstable();
        added.dedup();
        let (mut removed, mut lessened) = (Vec::new(), Vec::new());
        for (place, seen) in before {
            match known.get(&place) {
                None => removed.push(place),
                Some(now) if seen & !now != 0 => lessened.push(place),
                Some(_) => {}
            }
        }
        Changes { added, removed, lessened, ..Changes::default() }
    }

    /// Takes in a directory and all below it. A directory is watched before it is listed: what is made in between is told.
    fn walk(&mut self, mount: usize, place: &Place, depth: usize, found: &mut Vec<Place>) {
        let directory = self.mounts[mount].join(place);
        if depth > DEEPEST || !self.watch(mount, place, &directory) {
            return;
        }
        let Ok(entries) = fs::read_dir(&directory) else { return };
        *self.known.entry(place.clone()).or_default() |= 1 << mount;
        found.push(place.clone());
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.walk(mount, &child(place, &entry.file_name()), depth + 1, found);
            }
        }
    }

    /// Returns whether the directory is to be looked into: one that was watched before and is told of again is known.
    fn watch(&mut self, mount: usize, place: &Place, directory: &Path) -> bool {
        let Some(inotify) = &self.inotify else { return true };
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ONLYDIR;
        match inotify.add_watch(directory, flags) {
            Ok(watch) => {
                self.watched.insert(watch, (mount, place.clone()));
            }
            Err(Errno::ENOENT) => return false,
            Err(_) => self.blind = true,
        }
        true
    }
}

fn listen() -> Option<Inotify> {
    Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()
}

/// The cgroups that are known below another.
fn below<'k>(known: &'k BTreeMap<Place, u32>, place: &Place) -> impl Iterator<Item = &'k Place> {
    let prefix = child(place, OsStr::new(""));
    let from = known.range(prefix.clone()..).map(|(place, _)| place);
    from.take_while(move |place| place.as_bytes().starts_with(prefix.as_bytes()))
}

fn child(parent: &OsStr, name: &OsStr) -> Place {
    if parent.is_empty() {
        return name.to_owned();
    }
    let mut path = parent.as_bytes().to_vec();
    path.push(b'/');
    path.extend_from_slice(name.as_bytes());
    Place::from_vec(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(names: &[&str]) -> Vec<Place> {
        names.iter().map(Place::from).collect()
    }

    fn tree(mounts: &[&Path]) -> Tree {
        Tree::new(mounts.iter().map(|path| path.to_path_buf()).collect())
    }

    #[test]
    fn what_is_made_and_removed_between_two_looks_is_told_once() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("a/b")).expect("made");
        let (mut tree, now) = (tree(&[root.path()]), Instant::now());
        assert_eq!(tree.changes(now).added, places(&["", "a", "a/b"]));
        assert_eq!(tree.changes(now), Changes::default());
        fs::create_dir_all(root.path().join("a/c/d/e")).expect("made");
        fs::remove_dir(root.path().join("a/b")).expect("removed");
        let changes = tree.changes(now);
        assert_eq!(
            (changes.added, changes.removed),
            (places(&["a/c", "a/c/d", "a/c/d/e"]), places(&["a/b"]))
        );
        fs::remove_dir_all(root.path().join("a")).expect("removed");
        assert_eq!(tree.changes(now).removed, places(&["a", "a/c", "a/c/d", "a/c/d/e"]));
        assert_eq!(tree.known.len(), 1);
    }

    #[test]
    fn what_was_written_to_is_told() {
        let root = tempfile::tempdir().expect("a directory");
        let limit = root.path().join("a/memory.max");
        fs::create_dir(root.path().join("a")).expect("made");
        let mut file = fs::File::create(&limit).expect("made");
        let (mut tree, now) = (tree(&[root.path()]), Instant::now());
        assert!(tree.changes(now).written_unheard, "nobody listened before");
        assert_eq!(tree.changes(now), Changes::default());
        std::io::Write::write_all(&mut file, b"100").expect("written");
        assert_eq!(tree.changes(now), Changes { written: places(&["a"]), ..Changes::default() });
    }

    #[test]
    fn what_is_removed_and_made_again_is_another_one() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join("a")).expect("made");
        let (mut tree, now) = (tree(&[root.path()]), Instant::now());
        tree.changes(now);
        fs::remove_dir(root.path().join("a")).expect("removed");
        fs::create_dir(root.path().join("a")).expect("made");
        let changes = tree.changes(now);
        assert_eq!((changes.added, changes.removed), (places(&["a"]), places(&["a"])));
        fs::create_dir(root.path().join("a/b")).expect("made");
        assert_eq!(tree.changes(now).added, places(&["a/b"]), "the new one is watched");
    }

    #[test]
    fn one_that_is_renamed_is_another_one_with_all_below_it() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("a/b/c")).expect("made");
        fs::create_dir(root.path().join("a-b")).expect("made");
        let (mut tree, now) = (tree(&[root.path()]), Instant::now());
        tree.changes(now);
        fs::rename(root.path().join("a"), root.path().join("d")).expect("renamed");
        let changes = tree.changes(now);
        assert_eq!(
            (changes.added, changes.removed),
            (places(&["d", "d/b", "d/b/c"]), places(&["a", "a/b", "a/b/c"]))
        );
        fs::create_dir(root.path().join("d/b/e")).expect("made");
        assert_eq!(tree.changes(now).added, places(&["d/b/e"]), "it is watched by its new name");
        assert_eq!(tree.known.len(), tree.watched.len());
    }

    #[test]
    fn who_hears_nothing_sees_that_one_has_gone_from_one_of_several() {
        let (one, two) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        for root in [&one, &two] {
            fs::create_dir(root.path().join("a")).expect("made");
        }
        let (mut tree, now) = (tree(&[one.path(), two.path()]), Instant::now());
        tree.changes(now);
        tree.deafen();
        fs::remove_dir(one.path().join("a")).expect("removed");
        let changes = tree.changes(now + RESCAN_BLIND);
        assert_eq!((changes.lessened, changes.removed), (places(&["a"]), places(&[])));
    }

    #[test]
    fn one_that_is_in_several_hierarchies_goes_with_the_last() {
        let (one, two) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        for root in [&one, &two] {
            fs::create_dir(root.path().join("a")).expect("made");
        }
        let (mut tree, now) = (tree(&[one.path(), two.path()]), Instant::now());
        assert_eq!(tree.changes(now).added, places(&["", "a"]));
        fs::remove_dir(one.path().join("a")).expect("removed");
        assert_eq!(tree.changes(now), Changes { lessened: places(&["a"]), ..Changes::default() });
        fs::create_dir(one.path().join("a")).expect("made");
        let changes = tree.changes(now);
        assert_eq!((changes.added, changes.removed), (places(&["a"]), places(&["a"])), "it begins again");
        fs::remove_dir(one.path().join("a")).expect("removed");
        assert_eq!(tree.changes(now).lessened, places(&["a"]));
        fs::remove_dir(two.path().join("a")).expect("removed");
        let changes = tree.changes(now);
        assert_eq!((changes.added, changes.removed), (places(&[]), places(&["a"])));
    }

    #[test]
    fn everything_is_looked_through_now_and_then() {
        let root = tempfile::tempdir().expect("a directory");
        let (mut tree, now) = (tree(&[root.path()]), Instant::now());
        tree.changes(now);
        tree.deafen();
        fs::create_dir(root.path().join("a")).expect("made");
        assert_eq!(tree.changes(now), Changes { written_unheard: true, ..Changes::default() });
        assert_eq!(tree.changes(now + RESCAN_BLIND).added, places(&["a"]));
    }

    #[test]
    fn hundreds_of_cgroups_a_second_leave_nothing_behind() {
        let root = tempfile::tempdir().expect("a directory");
        let (mut tree, now) = (tree(&[root.path()]), Instant::now());
        tree.changes(now);
        for number in 0..500 {
            let path = root.path().join(format!("short-{number}"));
            fs::create_dir(&path).expect("made");
            if number % 3 == 0 {
                tree.changes(now);
            }
            fs::remove_dir(&path).expect("removed");
        }
        tree.changes(now);
        assert_eq!((tree.known.len(), tree.watched.len()), (1, 1));
    }
}
