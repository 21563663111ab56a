//! Sessions that have not ended, a file for each in the state directory, so that the next life knows what began them.
//!
//! They are not synced: a session does not outlive the kernel that would not write them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::session::Open;

/// The folder of these files.
pub(crate) struct Kept(PathBuf);

impl Kept {
    /// For the sessions of one boot: what is of another goes.
    pub(crate) fn open(folder: &Path, boot: &str) -> io::Result<Kept> {
        Ok(Kept(of_boot(folder, boot)?))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number:x}.json"))
    }

    pub(crate) fn put(&self, open: &Open) -> io::Result<()> {
        let file = fs::File::create(self.path(open.number))?;
        Ok(serde_json::to_writer(io::BufWriter::new(file), open)?)
    }

    pub(crate) fn remove(&self, number: u64) {
        let _ = fs::remove_file(self.path(number));
    }

    /// All of them; what was not written whole is as good as not written.
    pub(crate) fn all(&self) -> io::Result<Vec<Open>> {
        let entries = fs::read_dir(&self.0)?.filter_map(Result::ok);
        let read = |path: PathBuf| serde_json::from_slice(&fs::read(path).ok()?).ok();
        Ok(entries.filter_map(|entry| read(entry.path())).collect())
    }
}

/// The folder for one boot, in `folder`; those of others are taken away.
pub(crate) fn of_boot(folder: &Path, boot: &str) -> io::Result<PathBuf> {
    let own = folder.join(boot);
    fs::create_dir_all(&own)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path != own {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_this_boot_come_back_and_those_of_another_do_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = Kept::open(folder.path(), "a").expect("opened");
        let open = |number| Open { number, id: format!("a-{number}"), ..Open::default() };
        kept.put(&open(1)).expect("put");
        kept.put(&open(2)).expect("put");
        kept.remove(1);
        fs::File::create(kept.path(3)).expect("torn");
        assert_eq!(Kept::open(folder.path(), "a").expect("opened").all().expect("read"), [open(2)]);
        assert_eq!(Kept::open(folder.path(), "b").expect("opened").all().expect("read"), []);
        assert_eq!(Kept::open(folder.path(), "a").expect("opened").all().expect("read"), []);
    }
}
