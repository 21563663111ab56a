//! What the suites on real parts share: programs' output, a running agent, and what arrived.
//!
//! Nothing here uses the agent's own code: what was printed is kept as bytes, and what arrived is put together again
//! from the records' documented fields.
#![allow(dead_code, reason = "each suite uses its own part of this")]

mod agent;
mod arrived;
mod bpffs;
mod explained;
mod exposition;
mod fuse;
mod printed;
mod rounds;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

#[allow(unused_imports, reason = "each suite uses its own part of this")]
pub(crate) use agent::{Agent, page};
#[allow(unused_imports, reason = "each suite uses its own part of this")]
pub(crate) use arrived::Arrived;
#[allow(unused_imports, reason = "each suite uses its own part of this")]
pub(crate) use bpffs::Bpffs;
#[allow(unused_imports, reason = "each suite uses its own part of this")]
pub(crate) use explained::{is_explained, is_page_explained};
#[allow(unused_imports, reason = "each suite uses its own part of this")]
pub(crate) use exposition::{Exposition, Series};
#[allow(unused_imports, reason = "each suite uses its own part of this")]
pub(crate) use fuse::Unanswered;
#[allow(unused_imports, reason = "each suite uses its own part of this")]
pub(crate) use printed::{Mix, as_containerd_keeps_it, as_docker_keeps_it, text};
#[allow(unused_imports, reason = "each suite uses its own part of this")]
pub(crate) use rounds::{Round, agree};

/// Writes a file.
pub(crate) fn put(path: &Path, content: &[u8]) -> Result<()> {
    Ok(File::create(path)?.write_all(content)?)
}

/// Gives `kubectl apply -f -` these manifests.
pub(crate) fn apply(mut kubectl: Command, text: &str) -> Result<()> {
    let mut kubectl = kubectl.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    kubectl.stdin.take().context("kubectl has no input")?.write_all(text.as_bytes())?;
    ensure!(kubectl.wait()?.success(), "kubectl apply failed");
    Ok(())
}

/// Whether a page has a series of this family with all of these labels.
pub(crate) fn has_series(page: &str, family: &str, labels: &[&str]) -> bool {
    let is_of = |line: &str| line.strip_prefix(family).is_some_and(|rest| rest.starts_with('{'));
    page.lines().any(|line| is_of(line) && labels.iter().all(|label| line.contains(label)))
}

/// Asks every now and then until the answer is yes.
pub(crate) fn until(what: &str, done: impl FnMut() -> Result<bool>) -> Result<()> {
    until_within(Duration::from_secs(300), what, done)
}

/// As [`until`], for what takes its time.
pub(crate) fn until_within(
    patience: Duration,
    what: &str,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !done()? {
        ensure!(start.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Says where two texts begin to differ, which is shorter than both.
pub(crate) fn ensure_same(who: &str, arrived: &[u8], printed: &[u8]) -> Result<()> {
    if arrived == printed {
        return Ok(());
    }
    let at = arrived.iter().zip(printed).take_while(|(a, b)| a == b).count();
    let around = |text: &[u8]| {
        let end = text.len().min(at + 100);
        String::from_utf8_lossy(&text[at.saturating_sub(60).min(end)..end]).into_owned()
    };
    bail!(
        "{who}: {} bytes arrived, {} were printed; they differ from byte {at} on:\narrived {:?}\nprinted {:?}",
        arrived.len(),
        printed.len(),
        around(arrived),
        around(printed)
    )
}
