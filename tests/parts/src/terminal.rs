//! Somebody at a terminal: a shell line that runs on a terminal of its own, of 100 columns and 30 rows, by `script`.
//!
//! Guarantee: keys are pressed when what they answer is shown, not after a while.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::packages;

/// How long a prompt may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A line that runs.
pub struct Terminal {
    script: Child,
    keys: ChildStdin,
    screen: Receiver<Vec<u8>>,
    shown: Vec<u8>,
    /// How much of it is answered.
    answered: usize,
}

impl Terminal {
    /// Runs a line for `sh` with these variables in its environment.
    ///
    /// # Errors
    /// Where `script` cannot be installed or run.
    pub fn open(line: &str, environment: &[(&str, &str)]) -> Result<Self> {
        packages::ensure(&[("script", "bsdutils")])?;
        let line = format!("stty rows 30 cols 100; {line}");
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).envs(environment.iter().copied());
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let keys = script.stdin.take().context("no keyboard")?;
        let mut stdout = script.stdout.take().context("no screen")?;
        let (send, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut bytes) {
                let _ = send.send(bytes[..length].to_vec());
            }
        });
        Ok(Self { script, keys, screen, shown: Vec::new(), answered: 0 })
    }

    /// Types `answer` when `prompt` is shown after what was answered before.
    ///
    /// # Errors
    /// When the line ends, or two minutes pass, without it.
    pub fn answers(&mut self, prompt: &str, answer: &str) -> Result<()> {
        self.awaits(prompt)?;
        self.types(answer)
    }

    /// Waits until `prompt` is shown after what was answered before.
    ///
    /// # Errors
    /// As of [`Terminal::answers`].
    pub fn awaits(&mut self, prompt: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rest = &self.shown[self.answered..];
            if let Some(at) = rest.windows(prompt.len()).position(|window| window == prompt.as_bytes()) {
                self.answered += at + prompt.len();
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.shown.extend(bytes),
                Err(why) => {
                    bail!("{prompt:?} was not shown ({why}): {:?}", String::from_utf8_lossy(&self.shown))
                }
            }
        }
    }

    /// Types at once.
    ///
    /// # Errors
    /// When the line has ended.
    pub fn types(&mut self, what: &str) -> Result<()> {
        self.keys.write_all(what.as_bytes())?;
        Ok(self.keys.flush()?)
    }

    /// Waits for the line's end, whatever it exits with, and returns what is shown.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn ends(self) -> Result<String> {
        self.wait().map(|(_, shown)| shown)
    }

    fn wait(mut self) -> Result<(bool, String)> {
        let status = self.script.wait()?;
        drop(self.keys);
        self.shown.extend(self.screen.iter().flatten());
        Ok((status.success(), String::from_utf8_lossy(&self.shown).into_owned()))
    }
}

/// What a line shows on a terminal on which nobody types.
///
/// # Errors
/// When it fails; what was shown is in the error.
pub fn shown(line: &str, environment: &[(&str, &str)]) -> Result<String> {
    let (well, shown) = Terminal::open(line, environment)?.wait()?;
    ensure!(well, "{line}: {shown}");
    Ok(shown)
}
