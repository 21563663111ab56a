//! What parts download or build, kept outside the tree.
//!
//! An entry is a folder `<part>-<hash of its pins>`. It is made aside under a lock and renamed when it
//! is whole: an interrupted fetch leaves nothing that could be taken for an entry, and two
//! processes never make the same one at once. Changed pins make a new entry beside the old.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};
use xxhash_rust::xxh3::xxh3_64;

use crate::tools;

/// One thing to keep: a name, and everything that decides what it contains.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The part's name, the first half of the folder's.
    pub part: &'a str,
    /// Texts whose change makes a different entry: versions, manifests, sources, build flags.
    pub pins: &'a [&'a str],
}

impl Entry<'_> {
    /// Where the entry is, whether it has been made or not.
    pub fn path(&self) -> Result<PathBuf> {
        Ok(self.path_in(&root()?))
    }

    /// True when the entry is whole.
    pub fn is_ready(&self) -> bool {
        self.path().is_ok_and(|path| path.is_dir())
    }

    /// The entry's folder, made by `make` in a folder aside when it is not there yet.
    pub fn get(&self, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        self.get_in(&root()?, make)
    }

    fn path_in(&self, root: &Path) -> PathBuf {
        let mut pins = String::new();
        for pin in self.pins {
            pins.push_str(pin);
            pins.push('\0');
        }
        root.join(format!("{}-{:016x}", self.part, xxh3_64(pins.as_bytes())))
    }

    fn get_in(&self, root: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let path = self.path_in(root);
        if path.is_dir() {
            return Ok(path);
        }
        let _alone = lock(root, self.part)?;
        if path.is_dir() {
            return Ok(path);
        }
        let aside = path.with_extension("partial");
        remove(&aside)?;
        tools::create_folder(&aside)?;
        eprintln!("parts: preparing {} in {}", self.part, path.display());
        make(&aside).with_context(|| format!("cannot prepare {}", self.part))?;
        fs::rename(&aside, &path).with_context(|| format!("cannot rename {}", aside.display()))?;
        Ok(path)
    }
}

/// The folder of all entries: `TAFFRAIL_PARTS_CACHE`, or `taffrail-parts` in the user's cache folder.
pub fn root() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("TAFFRAIL_PARTS_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("taffrail-parts")))
        .or_else(|| set("HOME").map(|folder| folder.join(".cache/taffrail-parts")))
        .context("no folder for the parts' cache: set TAFFRAIL_PARTS_CACHE or HOME")
}

/// Names of the folders in the cache that are not those of these entries.
pub(crate) fn folders_but(known: &[Entry<'_>]) -> Result<Vec<String>> {
    folders_in(&root()?, known)
}

fn folders_in(root: &Path, known: &[Entry<'_>]) -> Result<Vec<String>> {
    if !root.exists() {
        return Ok(Vec::new());
    }
    let known: Vec<PathBuf> = known.iter().map(|entry| entry.path_in(root)).collect();
    let mut names = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("cannot list {}", root.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !known.contains(&path) && !name.ends_with(".partial") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Waits until no other process makes this part.
fn lock(root: &Path, part: &str) -> Result<Flock<File>> {
    tools::create_folder(root)?;
    let path = root.join(format!("{part}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("cannot lock {}", path.display()))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    const ENTRY: Entry<'_> = Entry { part: "anchor", pins: &["1.0", "iron"] };

    fn write(folder: &Path, text: &str) -> Result<()> {
        tools::write(&folder.join("content"), text)
    }

    #[test]
    fn an_entry_is_made_once_and_found_afterwards() -> Result<()> {
        let root = tempfile::tempdir()?;
        let first = ENTRY.get_in(root.path(), |folder| write(folder, "first"))?;
        let second = ENTRY.get_in(root.path(), |folder| write(folder, "second"))?;
        assert_eq!(first, second);
        assert_eq!(fs::read_to_string(second.join("content"))?, "first");
        Ok(())
    }

    #[test]
    fn what_is_not_a_known_entry_is_listed() -> Result<()> {
        let root = tempfile::tempdir()?;
        assert_eq!(folders_in(&root.path().join("none"), &[])?, Vec::<String>::new());
        ENTRY.get_in(root.path(), |folder| write(folder, "known"))?;
        for name in ["rope-12", "sail-34", "mast-56.partial"] {
            tools::create_folder(&root.path().join(name))?;
        }
        assert_eq!(folders_in(root.path(), &[ENTRY])?, ["rope-12", "sail-34"]);
        Ok(())
    }

    #[test]
    fn an_interrupted_entry_is_not_taken_for_whole_and_leaves_nothing_to_the_next() -> Result<()> {
        let root = tempfile::tempdir()?;
        let broken = ENTRY.get_in(root.path(), |folder| {
            tools::write(&folder.join("half"), "half")?;
            bail!("the line went dead")
        });
        assert!(format!("{:#}", broken.unwrap_err()).contains("the line went dead"));
        assert!(!ENTRY.path_in(root.path()).exists());
        let whole = ENTRY.get_in(root.path(), |folder| write(folder, "whole"))?;
        assert!(!whole.join("half").exists());
        Ok(())
    }

    #[test]
    fn every_pin_and_its_place_decide_the_folder() {
        let root = Path::new("/cache");
        let other = |pins| Entry { part: "anchor", pins }.path_in(root);
        let known = ENTRY.path_in(root);
        for pins in
            [&["1.1", "iron"][..], &["1.0", "steel"], &["1.0iron"], &["iron", "1.0"], &["1.0", "iron", ""]]
        {
            assert_ne!(other(pins), known, "{pins:?}");
        }
        assert_eq!(other(&["1.0", "iron"]), known);
    }

    #[test]
    fn two_makers_at_once_make_it_once() -> Result<()> {
        let root = tempfile::tempdir()?;
        let made = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    ENTRY
                        .get_in(root.path(), |folder| {
                            made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            std::thread::sleep(std::time::Duration::from_millis(50));
                            write(folder, "made")
                        })
                        .unwrap();
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
        Ok(())
    }
}
