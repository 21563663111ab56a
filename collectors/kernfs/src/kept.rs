//! Kept descriptors, and the page they are read into.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::ReadError;

/// What a file says, as it was read last. One serves many files, one after the other, and is as large as the
/// largest of them.
#[derive(Debug)]
pub struct Page(Vec<u8>);

/// Enough for nearly every file at the first try.
const FIRST: usize = 16 << 10;

impl Default for Page {
    fn default() -> Self {
        Page(vec![0; FIRST])
    }
}

/// A file that is opened once and read on every scrape.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    file: Option<File>,
}

impl Kept {
    /// The file at `path`, opened when it is first read.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Kept {
        Kept { path: path.into(), file: None }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it, however long.
    ///
    /// # Errors
    /// [`ReadError`]; it is opened anew the next time.
    pub fn read<'p>(&mut self, page: &'p mut Page) -> Result<&'p [u8], ReadError> {
        self.with(page, whole)
    }

    /// All of it with one system call. For what the kernel shows in one piece: attributes in `/sys`, files of cgroups. A file that
    /// has one record after the other may come back cut.
    ///
    /// # Errors
    /// As [`Kept::read`].
    pub fn read_once<'p>(&mut self, page: &'p mut Page) -> Result<&'p [u8], ReadError> {
        self.with(page, at_once)
    }

    /// Lets the descriptor go; the next read opens it again.
    pub fn close(&mut self) {
        self.file = None;
    }

    fn with<'p>(
        &mut self,
        page: &'p mut Page,
        read: impl Fn(&File, &mut Page) -> io::Result<usize>,
    ) -> Result<&'p [u8], ReadError> {
        let result = match &mut self.file {
            Some(file) => read(file, page),
            None => open(&self.path).and_then(|file| read(self.file.insert(file), page)),
        };
        match result {
            Ok(length) => Ok(&page.0[..length]),
            Err(cause) => {
                self.file = None;
                Err(ReadError { path: self.path.clone(), cause })
            }
        }
    }
}

/// Reads a file that is not worth keeping open.
///
/// # Errors
/// [`ReadError`].
pub fn read<'p>(path: &Path, page: &'p mut Page) -> Result<&'p [u8], ReadError> {
    let length = open(path).and_then(|file| whole(&file, page));
    let length = length.map_err(|cause| ReadError { path: path.to_owned(), cause })?;
    Ok(&page.0[..length])
}

/// A short text file without the white space at its ends; what is not UTF-8 is replaced.
///
/// # Errors
/// [`ReadError`].
pub fn read_text(path: &Path, page: &mut Page) -> Result<String, ReadError> {
    read(path, page).map(|text| String::from_utf8_lossy(text.trim_ascii()).into_owned())
}

fn open(path: &Path) -> io::Result<File> {
    // A FIFO among the files of a hostile tree must not hold up the reader.
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

fn whole(file: &File, page: &mut Page) -> io::Result<usize> {
    let mut length = 0;
    loop {
        if length == page.0.len() {
            page.0.resize(length * 2, 0);
        }
        match file.read_at(&mut page.0[length..], length as u64) {
            Ok(0) => return Ok(length),
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn at_once(file: &File, page: &mut Page) -> io::Result<usize> {
    loop {
        match file.read_at(&mut page.0, 0) {
            Ok(length) if length < page.0.len() => return Ok(length),
            Ok(length) => page.0.resize(length * 2, 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::Reason;

    #[test]
    fn a_kept_file_is_read_again_as_it_is_now() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("usage");
        let mut file = File::create(&path).expect("made");
        file.write_all(b"12\n").expect("written");
        let (mut kept, mut page) = (Kept::new(&path), Page::default());
        assert_eq!(kept.read_once(&mut page).expect("read"), b"12\n");
        file.write_all(b"3\n").expect("written");
        assert_eq!(kept.read(&mut page).expect("read"), b"12\n3\n");
    }

    #[test]
    fn a_file_larger_than_the_page_is_read_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("large");
        let text = b"0123456789".repeat(FIRST / 4);
        File::create(&path).and_then(|mut file| file.write_all(&text)).expect("written");
        let mut kept = Kept::new(&path);
        assert_eq!(kept.read(&mut Page::default()).expect("read"), text);
        assert_eq!(kept.read_once(&mut Page::default()).expect("read"), text);
    }

    #[test]
    fn what_is_not_there_is_absent_and_may_come() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("later");
        let (mut kept, mut page) = (Kept::new(&path), Page::default());
        assert_eq!(kept.read(&mut page).expect_err("absent").reason(), Reason::Absent);
        File::create(&path).expect("made");
        assert_eq!(kept.read(&mut page).expect("read"), b"");
    }

    #[test]
    fn iterated_files_of_the_kernel_come_whole() {
        let mut page = Page::default();
        let whole = std::fs::read("/proc/self/maps").expect("read");
        let mut kept = Kept::new("/proc/self/maps");
        let lines = |bytes: &[u8]| memchr::memchr_iter(b'\n', bytes).count();
        let ours = lines(kept.read(&mut page).expect("read"));
        assert!(ours.abs_diff(lines(&whole)) <= 4 && ours > 20, "{ours}");
    }
}
