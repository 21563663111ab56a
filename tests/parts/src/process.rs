//! A program that runs beside the tests, and ends with them.
//!
//! The kernel kills it when the thread that started it ends (`PR_SET_PDEATHSIG`), so all programs are
//! started by one thread that lasts as long as the process: a part may be shared by tests that
//! each have a thread of their own, and still dies with the process, however that dies.

use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

use crate::tools::tail;

/// How often a program that is starting or ending is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A running program with its log; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program in a process group of its own, its output appended to `log`.
    pub(crate) fn start(name: &'static str, mut command: Command, log: &Path) -> Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("cannot share {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        die_with_us(&mut command);
        let child =
            in_lasting_thread(move || command.spawn())?.with_context(|| format!("cannot run {name}"))?;
        Ok(Self { name, child, log: log.to_owned() })
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready`; an error with the tail of the log when the program ends first or the limit is reached.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        while !ready() {
            if let Some(status) = self.ended() {
                bail!("{} ended with {status} before {what}; its log ends:\n{}", self.name, tail(&self.log));
            }
            if start.elapsed() > limit {
                bail!("{}: no {what} within {limit:?}; its log ends:\n{}", self.name, tail(&self.log));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Asks the program to end, and kills it when it has not within `grace`.
    pub(crate) fn stop(mut self, grace: Duration) -> Result<()> {
        self.signal(Signal::SIGCONT)?;
        self.signal(Signal::SIGTERM)?;
        let start = Instant::now();
        while start.elapsed() < grace {
            if let Some(status) = self.ended() {
                return self.expect_orderly(status);
            }
            std::thread::sleep(LOOK);
        }
        self.end();
        bail!(
            "{} did not end within {grace:?} of SIGTERM and was killed; its log ends:\n{}",
            self.name,
            tail(&self.log)
        )
    }

    /// Kills the program with SIGKILL and waits for its end.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// The exit status once the program has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn expect_orderly(&self, status: ExitStatus) -> Result<()> {
        // A JVM that was told to end reports 128 + SIGTERM when it has.
        const BY_SIGTERM: i32 = 128 + libc::SIGTERM;
        match (status.code(), status.signal()) {
            (Some(0 | BY_SIGTERM), _) | (_, Some(libc::SIGTERM)) => Ok(()),
            _ => bail!("{} ended with {status}; its log ends:\n{}", self.name, tail(&self.log)),
        }
    }

    fn end(&mut self) {
        // Both fail only when the program has ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Has the kernel kill the program when the thread that starts it ends.
fn die_with_us(command: &mut Command) {
    let us = Pid::this();
    let arrange = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // We may have died before the line above: then nobody would tell the child.
        if getppid() == us { Ok(()) } else { Err(std::io::Error::from_raw_os_error(libc::ESRCH)) }
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(arrange) };
}

type Work = Box<dyn FnOnce() + Send>;

/// Does some work in a thread that lasts as long as the process.
fn in_lasting_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    static THREAD: OnceLock<mpsc::Sender<Work>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Work>();
        std::thread::spawn(move || receiver.into_iter().for_each(|work| work()));
        sender
    });
    let (give, take) = mpsc::channel();
    // A closed channel on either side means that the thread panicked: `recv` reports it.
    let _ = thread.send(Box::new(move || drop(give.send(work()))));
    take.recv().map_err(|_| anyhow!("the thread that starts programs has panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn alive(id: u32) -> bool {
        kill(Pid::from_raw(id.cast_signed()), None).is_ok()
    }

    #[test]
    fn a_program_that_ends_early_is_reported_with_its_log() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut process = Process::start("ship", shell("echo no wind; exit 4"), &folder.path().join("log"))?;
        let error = process.wait_until("sailing", Duration::from_secs(10), || false).unwrap_err().to_string();
        assert!(error.contains("ship ended with exit status: 4 before sailing"), "{error}");
        assert!(error.contains("no wind"), "{error}");
        Ok(())
    }

    #[test]
    fn a_program_outlives_the_thread_that_asked_for_it_and_dies_with_its_value() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let process = std::thread::spawn(move || Process::start("sleep", shell("exec sleep 60"), &log))
            .join()
            .unwrap()?;
        std::thread::sleep(Duration::from_millis(100));
        let id = process.id();
        assert!(alive(id));
        drop(process);
        assert!(!alive(id));
        Ok(())
    }

    #[test]
    fn a_program_that_ignores_the_request_to_end_is_killed_and_reported() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let mut process =
            Process::start("deaf", shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"), &log)?;
        process.wait_until("its word", Duration::from_secs(10), || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"))
        })?;
        let id = process.id();
        let error = process.stop(Duration::from_millis(200)).unwrap_err().to_string();
        assert!(error.contains("was killed"), "{error}");
        assert!(!alive(id));
        Ok(())
    }
}
