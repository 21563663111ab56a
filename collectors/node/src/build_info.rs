//! `build`: what answers here, under the name by which dashboards find node_exporter.

use taffrail_kernfs::{Page, Roots};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, gauge};
use crate::list::Make;

static FAMILIES: [Family; 1] = [gauge(
    "node_exporter_build_info",
    &["branch", "goarch", "goos", "goversion", "revision", "tags", "version"],
    "Always 1; the version is that of what answers here.",
)];

/// Go's names of architectures, which dashboards may filter by.
const ARCHITECTURE: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    _ => std::env::consts::ARCH,
};

pub(crate) struct BuildInfo;

impl Make for BuildInfo {
    fn make(_: &NodeMetricsConfig, _: &Roots) -> Self {
        BuildInfo
    }
}

impl Collect for BuildInfo {
    const NAME: &'static str = "build";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, _: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let version = env!("CARGO_PKG_VERSION");
        samples.family(&FAMILIES[0]);
        samples.sample(&["", ARCHITECTURE, std::env::consts::OS, "", "", "", version], 1.0);
        Ok(())
    }
}
