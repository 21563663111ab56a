//! A program under measurement: its processor time and memory as the kernel counts them, nobody else's.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// What a program has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Processor time of all its threads, seconds.
    pub cpu: f64,
    /// The most memory it ever had resident, bytes.
    pub peak: u64,
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Measured {
    child: Child,
    output: PathBuf,
}

impl Measured {
    /// Starts it with its output in the file `output`. It dies with the thread that started it.
    pub fn start(mut command: Command, output: &Path) -> Result<Self> {
        let file = File::create(output).with_context(|| format!("cannot make {}", output.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // SAFETY: between fork and exec the closure makes one system call.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        Ok(Measured { child, output: output.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage> {
        usage_of(self.child.id())
    }

    /// Waits until `done`; an error with the end of its output when it ends before or the limit is reached.
    pub fn wait_until(&mut self, limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !done()? {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}; its output ends:\n{}", self.tail());
            }
            if start.elapsed() > limit {
                bail!("not done within {limit:?}; its output ends:\n{}", self.tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Asks it to end and waits; kills it when that takes longer than `grace`.
    pub fn stop(mut self, grace: Duration) -> Result<()> {
        let start = Instant::now();
        // SAFETY: the child was not waited for, so the number is still its own.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        while start.elapsed() < grace {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The last lines of its output.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = fs::read(&self.output).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process, whoever started it, has used so far.
pub fn usage_of(process: u32) -> Result<Usage> {
    let folder = PathBuf::from(format!("/proc/{process}"));
    let stat = fs::read_to_string(folder.join("stat")).context("the program has ended")?;
    let status = fs::read_to_string(folder.join("status")).context("the program has ended")?;
    parse(&stat, &status).context("cannot read its counters in /proc")
}

/// Writes a configuration file.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The name in parentheses may contain anything; what follows is regular.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // SAFETY: a question about a constant of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak: u64 = peak.split_whitespace().next()?.parse().ok()?;
    Some(Usage { cpu: ticks as f64 / per_second as f64, peak: peak * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_and_parentheses_do_not_move_the_counters() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1";
        let usage = parse(stat, "Name:\tx\nVmHWM:\t  2048 kB\n").expect("parsed");
        // SAFETY: a question about a constant of the system.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        assert!((usage.cpu - 300.0 / per_second).abs() < 1e-9);
        assert_eq!(usage.peak, 2048 * 1024);
    }
}
