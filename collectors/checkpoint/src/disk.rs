//! The few file operations that the store needs, behind a seam: tests put a disk here that fails or loses power
//! after any one of them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::format;

/// Writes a file's content.
pub(crate) type Content<'a> = &'a mut dyn FnMut(&mut dyn Write) -> io::Result<()>;

/// A directory of files, named by their names in it.
pub(crate) trait Disk: Send {
    /// Names of everything in it.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A file's bytes, as many as matter; `InvalidInput` for what is not a regular file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Makes a file with this content and fsyncs it.
    fn write(&self, name: &str, content: Content<'_>) -> io::Result<()>;
    /// Replaces `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Fsyncs the directory: renames and removals before it are durable.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the file system.
pub(crate) struct Directory {
    path: PathBuf,
    handle: File,
}

impl Directory {
    /// Opens it, and makes it for this user alone when it is missing.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(Directory { path: path.to_owned(), handle: File::open(path)? })
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut options = OpenOptions::new();
        // Neither a link out of the directory nor a FIFO that never answers.
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(self.path.join(name)).map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP | libc::ENXIO) => not_a_file(),
            _ => error,
        })?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(not_a_file());
        }
        let mut bytes = Vec::new();
        (&file).take(format::HEADER as u64).read_to_end(&mut bytes)?;
        // A foreign file may have any size: no more is read than its header promises, and one byte to refuse it by.
        let limit = format::promised_length(&bytes).saturating_add(1);
        let expected = limit.min(metadata.len()).saturating_sub(bytes.len() as u64);
        bytes.try_reserve_exact(usize::try_from(expected).unwrap_or(usize::MAX)).map_err(io::Error::other)?;
        (&file).take(limit.saturating_sub(bytes.len() as u64)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&self, name: &str, content: Content<'_>) -> io::Result<()> {
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = BufWriter::with_capacity(1 << 16, options.open(&path)?);
        let written = content(&mut file).and_then(|()| file.flush()).and_then(|()| file.get_ref().sync_all());
        if written.is_err() {
            // A part of a file would hold the space that the next attempt needs.
            drop(file.into_parts());
            let _ = fs::remove_file(&path);
        }
        written
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}
