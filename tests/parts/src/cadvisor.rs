//! A real cAdvisor, by itself and not inside kubelet, which tells of this machine.
//!
//! Its program is not published, only what it is made of; `cadvisor/main.go` puts that together again.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use taffrail_parts::{Cadvisor, CadvisorOptions};
//!
//! let cadvisor = Cadvisor::start(&CadvisorOptions::default())?;
//! assert!(cadvisor.scrape()?.contains("machine_cpu_cores{"));
//! # Ok(())
//! # }
//! ```

use std::ops::Deref;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::cache::Entry;
use crate::exporter::Exporter;
use crate::go::Source;

const SOURCE: Source = Source {
    module: include_str!("../cadvisor/go.mod"),
    sums: include_str!("../cadvisor/go.sum"),
    main: include_str!("../cadvisor/main.go"),
};

/// Its place in the cache.
pub(crate) const ENTRY: Entry<'static> =
    Entry { part: "cadvisor", pins: &[SOURCE.module, SOURCE.sums, SOURCE.main] };

const PROGRAM: &str = "cadvisor";

/// What it reads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MetricSet {
    /// What kubelet has it read.
    #[default]
    Kubelet,
    /// Everything that it can without perf events, resctrl and referenced memory.
    All,
}

/// Which labels its series have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LabelSet {
    /// `id`, `image`, `name`, and one for each label of any container: its own default.
    #[default]
    Stored,
    /// `id`, `image` and `name`: `--store_container_labels=false`.
    Base,
    /// The six that kubelet's endpoint has.
    Kubelet,
}

/// How it is started.
#[derive(Clone, Debug)]
pub struct CadvisorOptions {
    /// What it reads.
    pub metrics: MetricSet,
    /// Which labels its series have.
    pub labels: LabelSet,
    /// How often it reads each cgroup.
    pub housekeeping: Duration,
    /// Whether it reads idle cgroups less and less often, up to `most`.
    pub most: Option<Duration>,
    /// The engine's address, as `DOCKER_HOST` takes it; none: no engine is asked.
    pub docker: Option<String>,
    /// Beginnings of the paths of the cgroups that it reads beside the root; empty: all.
    pub cgroups: Vec<String>,
}

impl Default for CadvisorOptions {
    /// As its program runs, but for the engine.
    fn default() -> Self {
        Self {
            metrics: MetricSet::default(),
            labels: LabelSet::default(),
            housekeeping: Duration::from_secs(1),
            most: None,
            docker: None,
            cgroups: Vec::new(),
        }
    }
}

impl CadvisorOptions {
    /// What kubelet says to the one inside it.
    #[must_use]
    pub fn as_kubelet() -> Self {
        Self {
            labels: LabelSet::Kubelet,
            housekeeping: Duration::from_secs(10),
            most: Some(Duration::from_secs(15)),
            ..Self::default()
        }
    }

    fn arguments(&self) -> Vec<String> {
        // A socket that nobody listens on: one that is there might be the machine's own.
        let nowhere = || "unix:///nonexistent/docker.sock".to_owned();
        let seconds = |time: Duration| format!("{}ms", time.as_millis());
        vec![
            format!("--metrics={}", if self.metrics == MetricSet::All { "all" } else { "kubelet" }),
            format!("--store_container_labels={}", self.labels == LabelSet::Stored),
            format!("--kubelet_labels={}", self.labels == LabelSet::Kubelet),
            format!("--housekeeping_interval={}", seconds(self.housekeeping)),
            format!("--allow_dynamic_housekeeping={}", self.most.is_some()),
            format!("--max_housekeeping_interval={}", seconds(self.most.unwrap_or(self.housekeeping))),
            format!("--docker={}", self.docker.clone().unwrap_or_else(nowhere)),
            "--containerd=/nonexistent/containerd.sock".to_owned(),
            format!("--raw_cgroup_prefix_whitelist={}", self.cgroups.join(",")),
        ]
    }
}

/// A running cAdvisor; ends when dropped.
#[derive(Debug)]
pub struct Cadvisor(Exporter);

impl Deref for Cadvisor {
    type Target = Exporter;

    fn deref(&self) -> &Exporter {
        &self.0
    }
}

impl Cadvisor {
    /// Builds it unless the cache has it, starts it, and waits until it answers.
    pub fn start(options: &CadvisorOptions) -> Result<Self> {
        let program = program()?;
        if !nix::unistd::geteuid().is_root() {
            bail!("cAdvisor needs root to see processes of others");
        }
        Exporter::start(PROGRAM, |address| {
            let mut command = Command::new(program);
            command.arg(format!("--address={address}")).args(options.arguments());
            command
        })
        .map(Self)
    }

    /// Builds it unless the cache has it.
    pub fn fetch() -> Result<()> {
        program().map(drop)
    }
}

/// The version of its module.
pub(crate) fn version() -> &'static str {
    SOURCE.version_of("github.com/google/cadvisor")
}

fn program() -> Result<PathBuf> {
    let build = |folder: &std::path::Path| {
        eprintln!("parts: building cAdvisor {}, about a minute on two cores", version());
        let linked = format!("-X github.com/google/cadvisor/version.Version={}", version());
        SOURCE.build(folder, PROGRAM, &linked)
    };
    Ok(ENTRY.get(build)?.join(PROGRAM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_said_as_its_program_takes_them() {
        let options =
            CadvisorOptions { docker: Some("unix:///x.sock".to_owned()), ..CadvisorOptions::as_kubelet() };
        let said = options.arguments();
        for argument in [
            "--metrics=kubelet",
            "--store_container_labels=false",
            "--kubelet_labels=true",
            "--housekeeping_interval=10000ms",
            "--max_housekeeping_interval=15000ms",
            "--allow_dynamic_housekeeping=true",
            "--docker=unix:///x.sock",
        ] {
            assert!(said.iter().any(|said| said == argument), "{argument} in {said:?}");
        }
        assert!(
            CadvisorOptions::default()
                .arguments()
                .iter()
                .any(|said| said.starts_with("--docker=unix:///none"))
        );
    }

    #[test]
    fn it_shares_the_nodes_version() {
        assert!(
            include_str!("../node/go.mod").contains(&format!("github.com/google/cadvisor {} //", version()))
        );
    }
}
