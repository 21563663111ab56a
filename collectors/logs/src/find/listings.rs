//! Directories that many lanes share, listed once for all of them.
//!
//! A lane asks for its own siblings; the names come from the last listing as long as the directory has not changed
//! since. That is what each lane would have listed for itself.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::{Candidate, Naming, settled};

/// The shared directories.
#[derive(Debug, Default)]
pub(crate) struct Listings(Mutex<HashMap<PathBuf, Listing>>);

#[derive(Debug, Default)]
struct Listing {
    /// When the directory last changed, if the names are all that it has had since.
    settled: Option<SystemTime>,
    /// Sorted.
    names: Vec<Box<OsStr>>,
}

impl Listings {
    /// Remembers what this directory lists from now on, or no longer.
    pub(crate) fn share(&self, directory: &Path, shared: bool) {
        let mut listings = self.0.lock();
        if !shared {
            listings.remove(directory);
        } else if !listings.contains_key(directory) {
            listings.insert(directory.to_owned(), Listing::default());
        }
    }

    /// Whether many lanes are in this directory.
    pub(crate) fn is_shared(&self, directory: &Path) -> bool {
        self.0.lock().contains_key(directory)
    }

    /// Like [`Naming::list`].
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub(crate) fn list(&self, naming: &Naming, directory: &Path) -> io::Result<Vec<Candidate>> {
        let mut listings = self.0.lock();
        let Some(listing) = listings.get_mut(directory) else { return naming.list(directory) };
        listing.refresh(directory)?;
        Ok(naming.chain_of(directory, listing.of(naming)))
    }
}

impl Listing {
    fn refresh(&mut self, directory: &Path) -> io::Result<()> {
        let now = settled(directory);
        if now.is_some() && self.settled == now {
            return Ok(());
        }
        self.settled = None;
        let names = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name()));
        let names = names.map(|name: io::Result<OsString>| name.map(OsString::into_boxed_os_str));
        self.names = names.collect::<io::Result<_>>()?;
        self.names.sort_unstable();
        self.settled = now.filter(|_| settled(directory) == now);
        Ok(())
    }

    /// The names among which the chain's are.
    fn of(&self, naming: &Naming) -> &[Box<OsStr>] {
        let Naming::Base(base) = naming else { return &self.names };
        let start = self.names.partition_point(|name| name.as_bytes() < base.as_slice());
        let rest = &self.names[start..];
        let end = rest.partition_point(|name| name.as_bytes().starts_with(base));
        &rest[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_listing_says_what_a_listing_of_ones_own_would() {
        let root = tempfile::tempdir().expect("a directory");
        let make = |name: &str| {
            std::fs::File::create(root.path().join(name)).expect("a file");
        };
        ["a.log", "a.log.1", "a.log.2.gz", "ab.log", "b.log", "b.log-20260101"].into_iter().for_each(make);
        let listings = Listings::default();
        listings.share(root.path(), true);
        let agree = || {
            for base in ["a.log", "ab.log", "b.log", "c.log"] {
                let naming = Naming::Base(base.into());
                let shared = listings.list(&naming, root.path()).expect("listed");
                assert_eq!(shared, naming.list(root.path()).expect("listed"), "{base}");
            }
            let kubelet = listings.list(&Naming::Kubernetes, root.path()).expect("listed");
            assert_eq!(kubelet, Naming::Kubernetes.list(root.path()).expect("listed"));
        };
        agree();
        // Also when the directory has just changed, and once that has settled.
        make("a.log.3");
        agree();
        std::thread::sleep(std::time::Duration::from_millis(60));
        agree();
        std::fs::rename(root.path().join("b.log"), root.path().join("b.log.1")).expect("renamed");
        make("0.log");
        agree();
        listings.share(root.path(), false);
        agree();
    }
}
