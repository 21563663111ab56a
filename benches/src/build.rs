//! The programs of this project that are measured, built as they are installed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The agent, built with a profile (`release`, `dist`).
pub fn agent(profile: &str) -> Result<PathBuf> {
    build(profile, &["-p", "taffrail", "--bin", "taffrail"], "taffrail")
}

/// The loop that is the floor.
pub fn floor(profile: &str) -> Result<PathBuf> {
    build(profile, &["-p", "taffrail-kafka", "--example", "floor"], "floor")
}

fn build(profile: &str, what: &[&str], name: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--message-format=json-render-diagnostics", "--profile", profile])
        .args(what)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{name} does not build");
    }
    let executable = |line: &str| {
        let artifact: serde_json::Value = serde_json::from_str(line).ok()?;
        (artifact["target"]["name"] == name).then(|| artifact["executable"].as_str().map(PathBuf::from))?
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(executable)
        .next_back()
        .with_context(|| format!("cargo names no executable {name}"))
}
