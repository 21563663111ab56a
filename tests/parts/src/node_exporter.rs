//! A real node_exporter, which tells of this machine.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let exporter = taffrail_parts::NodeExporter::start(&["--no-collector.hwmon"])?;
//! assert!(exporter.scrape()?.contains("node_load1 "));
//! # Ok(())
//! # }
//! ```

use std::ops::Deref;
use std::process::Command;

use anyhow::Result;

use crate::exporter::Exporter;
use crate::{packages, tools};

const PROGRAM: &str = "prometheus-node-exporter";

/// What kube-prometheus says to it, which are the agent's defaults.
pub const KUBE_PROMETHEUS: [&str; 6] = [
    "--no-collector.wifi",
    "--no-collector.hwmon",
    "--no-collector.btrfs",
    "--collector.filesystem.mount-points-exclude=^/(dev|proc|sys|run/k3s/containerd/.+|var/lib/docker/.+|var/lib/kubelet/pods/.+)($|/)",
    "--collector.netclass.ignored-devices=^(veth.*|[a-f0-9]{15})$",
    "--collector.netdev.device-exclude=^(veth.*|[a-f0-9]{15})$",
];

/// An exporter; ends when dropped.
#[derive(Debug)]
pub struct NodeExporter(Exporter);

impl Deref for NodeExporter {
    type Target = Exporter;

    fn deref(&self) -> &Exporter {
        &self.0
    }
}

impl NodeExporter {
    /// Installs it if it is missing, starts it with these arguments, and waits until it answers.
    ///
    /// It reads no files of the textfile collector unless an argument names their folder.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::fetch()?;
        let command = |address: &str| {
            let mut command = Command::new(PROGRAM);
            packages::with_programs_for_root(&mut command);
            command.arg(format!("--web.listen-address={address}"));
            // Debian's default is a folder that other packages fill.
            if !arguments.iter().any(|argument| argument.starts_with("--collector.textfile.directory")) {
                command.arg("--collector.textfile.directory=");
            }
            command.args(arguments);
            command
        };
        Exporter::start("node-exporter", command).map(Self)
    }

    /// Installs it if it is missing.
    pub fn fetch() -> Result<()> {
        packages::ensure(&[(PROGRAM, PROGRAM)])
    }
}

/// The installed program's version.
pub(crate) fn version() -> String {
    tools::version_of(PROGRAM).map_or_else(
        || format!("node_exporter, Debian's {PROGRAM}"),
        |version| format!("node_exporter {version}"),
    )
}
