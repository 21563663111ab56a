//! What users are told of differences to another program: `taffrail metrics --diff` must give each a reason.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::Agent;

/// Compares with a peer until nothing is unexplained: things of others come and go between two looks, so it has some tries.
///
/// # Errors
/// What was left unexplained, or when less than a hundred series are the same.
pub(crate) fn is_explained(agent: &Agent, what: &str, peer: SocketAddr) -> Result<()> {
    explained(agent, what, || Ok(format!("http://{peer}/metrics")))
}

/// The same with pages that are written to a file, each for one try.
///
/// # Errors
/// As there, and when there is no page.
pub(crate) fn is_page_explained(
    agent: &Agent,
    what: &str,
    file: &Path,
    page: impl Fn() -> Result<String>,
) -> Result<()> {
    explained(agent, what, || {
        super::put(file, page()?.as_bytes())?;
        Ok(file.display().to_string())
    })
}

fn explained(agent: &Agent, what: &str, peer: impl Fn() -> Result<String>) -> Result<()> {
    const TRIES: usize = 8;
    let mut left = Vec::new();
    for _ in 0..TRIES {
        let peer = peer()?;
        let output = agent.command("metrics")?.args([what, "--json", "--diff", &peer]).output()?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        ensure!(report["same"].as_u64() > Some(100), "{} series are the same", report["same"]);
        let differences = report["differences"].as_array().context("no differences")?;
        let is_open = |difference: &&Value| difference["reason"].is_null();
        left = differences.iter().filter(is_open).cloned().collect();
        ensure!(left.is_empty() == output.status.success(), "{} after {left:#?}", output.status);
        if left.is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    bail!("unexplained after {TRIES} tries: {left:#?}")
}
