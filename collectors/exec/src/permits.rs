//! What this machine permits of the audit, tried without leaving anything behind.

use std::path::Path;

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use taffrail_kernfs::Roots;

use crate::config::AuditConfig;
use crate::connector::Connector;
use crate::engines::{Engines, Listening};
use crate::execve::Heard;
use crate::probe::Loaded;
use crate::scan::Scan;
use crate::watch::options;

/// Each of the things that the audit goes by, or why it cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permits {
    /// The probe can be brought into the kernel.
    pub probe: Result<(), String>,
    /// What is typed and shown can be recorded, if that is wanted.
    pub recording: Result<(), String>,
    /// It can be pinned there.
    pub pins: Result<(), String>,
    /// The kernel's audit can be heard.
    pub audit: Result<(), String>,
    /// The process connector can be heard.
    pub connector: Result<(), String>,
    /// A container engine tells what it is asked for.
    pub runtime: Result<(), String>,
    /// Who is in containers can be seen: how many containers there are, and how many sessions in them.
    pub scan: Result<(usize, usize), String>,
}

impl Permits {
    /// Tries it all.
    #[must_use]
    pub fn of(config: &AuditConfig, roots: &Roots, engines: &Engines) -> Permits {
        let probe = Loaded::load(&options(config, roots), None);
        let unrecorded = probe.as_ref().ok().and_then(|loaded| loaded.unrecorded.clone());
        Permits {
            recording: unrecorded.map_or(Ok(()), Err),
            probe: probe.map(drop).map_err(|error| error.to_string()),
            pins: pins(&config.bpffs),
            audit: Heard::is_permitted(),
            connector: Connector::open().map(drop).map_err(|error| error.to_string()),
            runtime: Listening::begin(engines).map(drop),
            scan: Scan::of(roots)
                .map(|scan| (scan.containers.len(), scan.entered.len()))
                .map_err(|error| error.to_string()),
        }
    }
}

fn pins(folder: &Path) -> Result<(), String> {
    match statfs(folder) {
        Ok(there) if there.filesystem_type() == BPF_FS_MAGIC => Ok(()),
        Ok(_) => Err(format!("{} is no bpf file system", folder.display())),
        Err(error) => Err(format!("{}: {error}", folder.display())),
    }
}
