//! What the suites on real parts share: programs' output, a running agent, and what arrived.
//!
//! Nothing here uses the agent's own code: what was printed is kept as bytes, and what arrived is put together again
//! from the records' documented fields.
#![allow(dead_code, reason = "each suite uses its own part of this")]

mod agent;
mod arrived;
mod explained;
mod exposition;
mod fuse;
mod printed;
mod rounds;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

#[allow(unused_imports, reason = "each suite uses its own part of this")]
pub(crate) use agent::{Agent, page};
#[allow(unused_imports, reason = "each suite uses its own part of this")]
pub(crate) use arrived::Arrived;
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

/// Asks every now and then until the answer is yes.
pub(crate) fn until(what: &str, done: impl FnMut() -> Result<bool>) -> Result<()> {
    until_within(Duration::from_secs(120), what, done)
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
