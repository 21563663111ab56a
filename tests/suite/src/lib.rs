//! What the end-to-end suites share, and the torture command.

pub mod preload;
pub mod torture;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

/// The `taffrail` binary to be tested: what the variable `TAFFRAIL_PROGRAM` names, else the one that `cargo build -p taffrail`
/// put where this program comes from.
///
/// # Errors
/// When there is none.
pub fn program() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("TAFFRAIL_PROGRAM") {
        return Ok(named.into());
    }
    let me = std::env::current_exe().context("cannot find this program")?;
    let beside = me
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("taffrail"))
        .find(|path| path.is_file());
    ensure!(beside.is_some(), "no taffrail near {}: run `cargo build -p taffrail` first", me.display());
    beside.context("no program")
}
