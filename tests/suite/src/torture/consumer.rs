//! Follows the record topic with kcat while all goes on.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::oracle::Oracle;

/// By partition, the offset before which all has been heard.
type Next = Mutex<HashMap<i32, i64>>;

/// Follows the topic in a thread of its own until dropped.
pub(super) struct Follower {
    next: Arc<Next>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Begins at the topic's first record; survives the broker's absence.
    pub(super) fn start(brokers: String, topic: String, oracle: Arc<Oracle>) -> Self {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(Next::default()));
        let (stopped, heard) = (Arc::clone(&stop), Arc::clone(&next));
        let thread = thread::spawn(move || follow(&brokers, &topic, &oracle, &stopped, &heard));
        Follower { next, stop, thread: Some(thread) }
    }

    /// Whether everything before these offsets, by partition, has been heard.
    pub(super) fn has_heard(&self, ends: &[i64]) -> bool {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        (0..).zip(ends).all(|(partition, end)| next.get(&partition).copied().unwrap_or(0) >= *end)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn follow(brokers: &str, topic: &str, oracle: &Oracle, stop: &AtomicBool, next: &Next) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut child, out)) = kcat(brokers, topic) else { break };
        let ended = Arc::new(AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && !ended.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(50));
                }
                let _ = child.kill();
            });
            let _ = hear(out, oracle, next);
            ended.store(true, Ordering::Relaxed);
        });
        let _ = child.wait();
        thread::sleep(Duration::from_millis(300));
    }
}

fn kcat(brokers: &str, topic: &str) -> Result<(Child, BufReader<ChildStdout>)> {
    let mut child = Command::new("kcat")
        .args(["-C", "-u", "-E", "-q", "-b", brokers, "-t", topic, "-o", "beginning", "-f", "%p %o %s\n"])
        .args(["-X", "topic.metadata.refresh.interval.ms=2000", "-X", "reconnect.backoff.max.ms=1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start kcat (Debian package kcat)")?;
    let out = child.stdout.take().context("kcat has no output")?;
    Ok((child, BufReader::with_capacity(1 << 20, out)))
}

/// What was heard before kcat had to begin again is not heard again.
fn hear(mut out: impl BufRead, oracle: &Oracle, next: &Next) -> Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if out.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        // A line that kcat did not live to end.
        if line.pop() != Some(b'\n') {
            return Ok(());
        }
        let mut fields = line.splitn(3, |byte| *byte == b' ');
        let mut number = || -> Option<i64> { std::str::from_utf8(fields.next()?).ok()?.parse().ok() };
        let (Some(partition), Some(offset)) = (number(), number()) else { continue };
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        let due = || next.lock().unwrap_or_else(PoisonError::into_inner);
        if offset >= due().get(&partition).copied().unwrap_or(0) {
            oracle.hear(fields.next().unwrap_or_default());
            due().insert(partition, offset + 1);
        }
    }
}
