//! What befalls the state directory: no space left, a damaged file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::random::Random;

/// Gives `directory` a file system of its own of `bytes` bytes, that only this process and its children see. To be
/// called before any thread is started.
///
/// # Errors
/// Without the right to mount (root has it).
pub(super) fn small_disk(directory: &Path, bytes: u64) -> nix::Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let size = format!("size={bytes},mode=700");
    mount(Some("torture"), directory, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
}

/// A file that takes all the space there is, until it is dropped.
pub(super) struct FullDisk(PathBuf);

impl FullDisk {
    /// Fills the file system of `directory`.
    ///
    /// # Errors
    /// When something else than the lack of space ends it.
    pub(super) fn fill(directory: &Path) -> io::Result<Self> {
        let full = FullDisk(directory.join("filler"));
        let mut file = File::create(&full.0)?;
        for size in [1 << 16, 1 << 12, 1] {
            loop {
                match file.write(&vec![0; size]) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(full)
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Flips a bit of a checkpoint file or cuts it, while nobody uses it. Returns what was done; nothing when there is none.
///
/// # Errors
/// When the files cannot be read or written.
pub(super) fn damage(state: &Path, random: &mut Random) -> io::Result<Option<String>> {
    let mut files = Vec::new();
    find(state, &mut files)?;
    files.sort();
    if files.is_empty() {
        return Ok(None);
    }
    let path = &files[random.below(files.len() as u64) as usize];
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if length == 0 || random.once_in(3) {
        let kept = random.below(length + 1);
        file.set_len(kept)?;
        return Ok(Some(format!("{name} cut from {length} to {kept} bytes")));
    }
    let (at, bit) = (random.below(length), random.below(8));
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 1 << bit], at)?;
    Ok(Some(format!("bit {bit} of byte {at} of {name} flipped")))
}

fn find(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find(&entry.path(), files)?;
        } else if entry.file_name().to_string_lossy().ends_with(".ckpt") {
            files.push(entry.path());
        }
    }
    Ok(())
}
