//! What the real kube-state-metrics says of objects, without a cluster: `kube-state-metrics/main.go` hands them to
//! its generators.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use taffrail_parts::KubeStateMetrics;
//!
//! let pod = r#"{"kind": "Pod", "metadata": {"namespace": "shop", "name": "cart", "uid": "1"}}"#;
//! let page = KubeStateMetrics::get()?.say(pod)?;
//! assert!(page.contains("kube_pod_info{namespace=\"shop\""));
//! # Ok(())
//! # }
//! ```

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cache::Entry;
use crate::go::Source;
use crate::tools;

const SOURCE: Source = Source {
    module: include_str!("../kube-state-metrics/go.mod"),
    sums: include_str!("../kube-state-metrics/go.sum"),
    main: include_str!("../kube-state-metrics/main.go"),
};

/// Its place in the cache.
pub(crate) const ENTRY: Entry<'static> =
    Entry { part: "kube-state-metrics", pins: &[SOURCE.module, SOURCE.sums, SOURCE.main] };

const PROGRAM: &str = "kube-state-metrics";

/// The program, and what it is to show.
#[derive(Clone, Debug)]
pub struct KubeStateMetrics {
    program: PathBuf,
    labels: String,
    annotations: String,
}

impl KubeStateMetrics {
    /// Builds it unless the cache has it.
    pub fn get() -> Result<Self> {
        Ok(Self { program: program()?, labels: String::new(), annotations: String::new() })
    }

    /// Builds it unless the cache has it.
    pub fn fetch() -> Result<()> {
        program().map(drop)
    }

    /// Shows these labels of pods and nodes, as in its `--metric-labels-allowlist`.
    #[must_use]
    pub fn labels(self, keys: &[&str]) -> Self {
        Self { labels: keys.join(","), ..self }
    }

    /// Shows these annotations of pods and nodes, as in its `--metric-annotations-allowlist`.
    #[must_use]
    pub fn annotations(self, keys: &[&str]) -> Self {
        Self { annotations: keys.join(","), ..self }
    }

    /// Its page, were these the pods and nodes of a cluster: their JSON, one behind the other. Those families are there,
    /// too, that have to be asked for.
    pub fn say(&self, objects: &str) -> Result<String> {
        let mut running = Command::new(&self.program)
            .arg(format!("--labels={}", self.labels))
            .arg(format!("--annotations={}", self.annotations))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run kube-state-metrics")?;
        // It reads to the end before it prints.
        running.stdin.take().context("it has no input")?.write_all(objects.as_bytes())?;
        let output = running.wait_with_output().context("cannot wait for kube-state-metrics")?;
        if !output.status.success() {
            bail!("kube-state-metrics failed: {}", tools::last_lines(&output.stderr, 10));
        }
        String::from_utf8(output.stdout).context("kube-state-metrics printed no text")
    }
}

/// The version of its module.
pub(crate) fn version() -> &'static str {
    SOURCE.version_of("k8s.io/kube-state-metrics/v2")
}

fn program() -> Result<PathBuf> {
    let build = |folder: &std::path::Path| {
        eprintln!("parts: building kube-state-metrics {}, about three minutes on two cores", version());
        SOURCE.build(folder, PROGRAM, "")
    };
    Ok(ENTRY.get(build)?.join(PROGRAM))
}
