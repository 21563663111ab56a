//! The agent under torture: a process that is started, killed, and started again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::preload::Preload;

/// How to run it.
#[derive(Debug)]
pub(super) struct Setup {
    /// The `taffrail` binary.
    pub(super) program: PathBuf,
    /// Its configuration file.
    pub(super) config: PathBuf,
    /// Where its own log goes.
    pub(super) log: PathBuf,
    /// What sets its clock.
    pub(super) preload: Preload,
}

/// What the agent is told.
#[derive(Debug, Clone)]
pub(super) struct Settings<'a> {
    /// Where the pods' logs are.
    pub(super) pods: &'a Path,
    /// Where it keeps its state.
    pub(super) state: &'a Path,
    /// Kafka.
    pub(super) brokers: &'a str,
    /// Records.
    pub(super) topic: &'a str,
    /// Statements.
    pub(super) ledger_topic: &'a str,
    /// `pipeline.memory`.
    pub(super) memory: u64,
    /// `state.checkpoint_bytes`.
    pub(super) checkpoint_bytes: u64,
}

impl Settings<'_> {
    /// The configuration file's text.
    #[must_use]
    pub(super) fn yaml(&self) -> String {
        let Settings { pods, state, brokers, topic, ledger_topic, memory, checkpoint_bytes } = self;
        let (pods, state) = (pods.display(), state.display());
        format!(
            "state:\n  directory: {state}\n  checkpoint_bytes: {checkpoint_bytes}\n\
             pipeline:\n  memory: {memory}\n\
             logs:\n  kubernetes:\n    root: {pods}\n    links: {pods}/none\n\
             http:\n  enabled: false\n\
             output:\n  kafka:\n    brokers: [\"{brokers}\"]\n    topic: {topic}\n    ledger_topic: {ledger_topic}\n"
        )
    }
}

/// One life of it.
pub(super) struct Agent {
    child: Child,
    began: Instant,
}

impl Agent {
    /// Starts a life.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn start(setup: &Setup) -> Result<Self> {
        let mut log = OpenOptions::new().create(true).append(true).open(&setup.log)?;
        writeln!(log, "---- a new life")?;
        let mut command = Command::new(&setup.program);
        // SAFETY: one system call, which allocates nothing.
        unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
        setup.preload.give(&mut command);
        let child = command
            .args(["run", "--config"])
            .arg(&setup.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", setup.program.display()))?;
        Ok(Agent { child, began: Instant::now() })
    }

    /// For how long it has lived.
    #[must_use]
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// kill -9.
    ///
    /// # Errors
    /// When it had ended by itself, which it must not.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.must_live()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// TERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end in time or says that it failed.
    pub(super) fn stop(&mut self, patience: Duration) -> Result<Duration> {
        self.must_live()?;
        self.signal(Signal::SIGTERM)?;
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() { Ok(start.elapsed()) } else { bail!("it ended with {status}") };
            }
            if start.elapsed() > patience {
                self.child.kill()?;
                self.child.wait()?;
                bail!("it did not end within {patience:?} of a TERM");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it has ended without being told.
    ///
    /// # Errors
    /// When it has.
    pub(super) fn must_live(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended by itself with {status}"),
        }
    }

    /// Stops and continues it.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).context("cannot signal the agent")
    }

    /// The most memory it ever held, in bytes.
    #[must_use]
    pub(super) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Does nothing after a life that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks `taffrail ledger` of the agent that runs. Returns whether it says that all adds up, and the ledger.
///
/// # Errors
/// When it cannot be run, or the agent does not answer.
pub(super) fn ledger(setup: &Setup) -> Result<(bool, serde_json::Value)> {
    let output = Command::new(&setup.program)
        .args(["ledger", "--json", "--config"])
        .arg(&setup.config)
        .stdin(Stdio::null())
        .output()
        .context("cannot run taffrail ledger")?;
    let value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((output.status.success(), value))
}

/// Runs `taffrail verify` on the topics. Returns how it ended and its report.
///
/// # Errors
/// When it cannot be run.
pub(super) fn verify(
    setup: &Setup,
    settings: &Settings<'_>,
    report: &Path,
) -> Result<(ExitStatus, serde_json::Value)> {
    let log = OpenOptions::new().create(true).append(true).open(&setup.log)?;
    let status = Command::new(&setup.program)
        .args(["verify", "--json", "--deep", "--brokers", settings.brokers])
        .args(["--topic", settings.topic, "--ledger-topic", settings.ledger_topic])
        .stdin(Stdio::null())
        .stdout(File::create(report)?)
        .stderr(log)
        .status()
        .context("cannot run taffrail verify")?;
    let text = fs::read_to_string(report)?;
    let value = serde_json::from_str(&text).unwrap_or_else(|_| text.into());
    Ok((status, value))
}
