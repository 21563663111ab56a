//! What containers are called, for a scrape by hand: runtimes are asked once, as the agent asks them all the time.
//!
//! A runtime that is not there, or does not answer soon, leaves the names that kubelet's links give.

use std::sync::Arc;
use std::time::Duration;

use taffrail_cgroup::Names;

use crate::config::Config;
use crate::{cri, targets};

/// A runtime that has not answered by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that the runtimes of this machine tell.
///
/// # Errors
/// When the system grants no event loop.
pub(super) fn learn(config: &Config) -> std::io::Result<Arc<Names>> {
    let names = Names::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::join!(
            targets::tell_once(&config.docker, &names, PATIENCE),
            cri::tell_once(&config.cri, &names, PATIENCE),
        )
    });
    Ok(names)
}
