//! A real node_exporter, which tells of this machine.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let exporter = taffrail_parts::NodeExporter::start(&["--no-collector.hwmon"])?;
//! assert!(exporter.scrape()?.contains("node_load1 "));
//! # Ok(())
//! # }
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::janitor::Place;
use crate::ports::Port;
use crate::process::Process;
use crate::{http, packages, tools};

const PROGRAM: &str = "prometheus-node-exporter";
const START: Duration = Duration::from_secs(60);

/// An exporter; ends when dropped.
#[derive(Debug)]
pub struct NodeExporter {
    // Before `place`: the program has ended when its folder is removed.
    process: Process,
    port: Port,
    place: Place,
}

impl NodeExporter {
    /// Installs it if it is missing, starts it with these arguments, and waits until it answers.
    ///
    /// It reads no files of the textfile collector unless an argument names their folder.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::fetch()?;
        let place = Place::new("node-exporter")?;
        let port = Port::reserve()?;
        let mut command = Command::new(PROGRAM);
        packages::with_programs_for_root(&mut command);
        command.arg(format!("--web.listen-address=127.0.0.1:{}", port.number()));
        // Debian's default is a folder that other packages fill.
        if !arguments.iter().any(|argument| argument.starts_with("--collector.textfile.directory")) {
            command.arg("--collector.textfile.directory=");
        }
        command.args(arguments);
        let log = place.join("node-exporter.log");
        let mut process = Process::start(PROGRAM, command, &log)?;
        process.wait_until("answer", START, || port.accepts())?;
        Ok(Self { process, port, place })
    }

    /// Installs it if it is missing.
    pub fn fetch() -> Result<()> {
        packages::ensure(&[(PROGRAM, PROGRAM)])
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// What it tells now, as text.
    pub fn scrape(&self) -> Result<String> {
        http::get(self.address(), "/metrics")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its own log.
    pub fn log(&self) -> PathBuf {
        self.place.join("node-exporter.log")
    }
}

/// The installed program's version.
pub(crate) fn version() -> String {
    tools::version_of(PROGRAM).map_or_else(
        || format!("node_exporter, Debian's {PROGRAM}"),
        |version| format!("node_exporter {version}"),
    )
}
