//! Another clock for one process, and single calls of it that fail or hang: a small library, written in C beside this
//! file, is built with `cc` and put before the C library of that process.
//!
//! A time namespace has no real-time clock of its own, and the machine's must not be touched; so the process is told
//! another time. The program under test is the one that is shipped: it has no seam for this.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

const SOURCE: &str = include_str!("preload.c");
const FAILING_CLOCKS: u64 = 0;
const HANGING: u64 = 8;
const THREAD: u64 = 16;
const FAILING_READS: u64 = 32;
const ERROR: u64 = 40;
const COUNT: u64 = 48;
const STEPS: u64 = 56;
const MOST_STEPS: u64 = 4096;
const SIZE: u64 = STEPS + 16 * MOST_STEPS;
/// No kernel's is longer.
const TICK: Duration = Duration::from_millis(10);

/// The built library and the file that tells it what to do.
#[derive(Debug)]
pub struct Preload {
    library: PathBuf,
    path: PathBuf,
    control: File,
}

impl Preload {
    /// Builds it in a directory; nothing is changed for the process yet. Calls that fail or hang will be those of threads
    /// of this name.
    ///
    /// # Errors
    /// When there is no C compiler (Debian package build-essential), or the directory cannot be written.
    pub fn build(directory: &Path, thread: &str) -> Result<Self> {
        ensure!(thread.len() < (FAILING_READS - THREAD) as usize, "no thread has so long a name: {thread}");
        let (source, library) = (directory.join("preload.c"), directory.join("preload.so"));
        File::create(&source)
            .and_then(|mut file| file.write_all(SOURCE.as_bytes()))
            .with_context(|| format!("cannot write {}", source.display()))?;
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
            .args([&library, &source])
            .output()
            .context("cannot run cc (Debian package build-essential)")?;
        ensure!(built.status.success(), "cc: {}", String::from_utf8_lossy(&built.stderr));
        let path = directory.join("preload.control");
        let control = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
        control.set_len(SIZE)?;
        control.write_all_at(thread.as_bytes(), THREAD)?;
        Ok(Preload { library, path, control })
    }

    /// Has a command run with it.
    pub fn give(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("PRELOAD_CONTROL", &self.path);
    }

    /// Sets the process's clock so many seconds ahead of the machine's, or behind. Files that were written before keep
    /// their times.
    ///
    /// # Errors
    /// When the file cannot be written, or the clock was set too often before.
    pub fn set_clock(&self, ahead: i64) -> Result<()> {
        let count = self.get(COUNT)?;
        let at = STEPS + 16 * count.cast_unsigned();
        ensure!(at < SIZE, "the clock can be set {MOST_STEPS} times");
        // Times of files lag behind the clock by a tick: one written in this moment must not look old after a step ahead.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(TICK);
        self.put(at, i64::try_from(since.as_nanos())?)?;
        self.put(at + 8, ahead * 1_000_000_000)?;
        self.put(COUNT, count + 1)
    }

    /// The next reading of the wall clock by the named thread fails. It never does on a sound kernel, so Rust's
    /// standard library panics.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn fail_a_clock(&self) -> Result<()> {
        self.put(FAILING_CLOCKS, 1)
    }

    /// Whether no failure is left to come.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn has_failed(&self) -> Result<bool> {
        Ok(self.get(FAILING_CLOCKS)? == 0)
    }

    /// The next reads at a position by threads of the name, so many of them, fail with an error of the kernel's.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn fail_reads(&self, count: i64, error: i32) -> Result<()> {
        self.put(ERROR, error.into())?;
        self.put(FAILING_READS, count)
    }

    /// How many of those failures are left to come.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn failures_left(&self) -> Result<i64> {
        self.get(FAILING_READS)
    }

    /// The next read at a position by a thread of the name hangs, as on a disk that does not answer. Other reads do not.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn hang_a_read(&self) -> Result<()> {
        self.put(HANGING, 1)
    }

    /// Whether a read hangs.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn hangs(&self) -> Result<bool> {
        Ok(self.get(HANGING)? == 2)
    }

    /// The disk answers again: the read that hangs goes on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn release(&self) -> Result<()> {
        self.put(HANGING, 0)
    }

    fn put(&self, at: u64, value: i64) -> Result<()> {
        self.control.write_all_at(&value.to_ne_bytes(), at).context("cannot write the preload's control")
    }

    fn get(&self, at: u64) -> Result<i64> {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, at).context("cannot read the preload's control")?;
        Ok(i64::from_ne_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(preload: &Preload, program: &str, arguments: &[&str]) -> Result<i64> {
        let mut command = Command::new(program);
        preload.give(command.args(arguments));
        Ok(String::from_utf8(command.output()?.stdout)?.trim().parse()?)
    }

    #[test]
    fn a_process_sees_the_clock_it_is_given_and_others_do_not() -> Result<()> {
        const DAY: i64 = 86_400;
        let directory = tempfile::tempdir()?;
        let preload = Preload::build(directory.path(), "none")?;
        let mut written = Vec::new();
        for ahead in [0, DAY, -3 * DAY] {
            preload.set_clock(ahead)?;
            let machine = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().cast_signed();
            let seen = seconds(&preload, "date", &["+%s"])?;
            assert!(
                (seen - machine - ahead).abs() < DAY / 2,
                "{ahead}: {seen} while the machine has {machine}"
            );
            // Files are as old as they are, by the clock that there was.
            let file = directory.path().join(ahead.to_string());
            File::create(&file)?;
            // The kernel's times lag behind its clock by a tick.
            std::thread::sleep(TICK * 5);
            written.push((file, ahead));
            for (file, ahead) in &written {
                let file = file.to_str().context("a path")?;
                let seen = seconds(&preload, "stat", &["--format=%Y", file])?;
                assert!((seen - machine - ahead).abs() < DAY / 2, "{file}: {seen} instead of {ahead} ahead");
            }
        }
        Ok(())
    }
}
