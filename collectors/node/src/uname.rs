//! `uname`: the node's name, its kernel and its machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use taffrail_kernfs::{Page, Roots, read_text};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, gauge};
use crate::list::Make;
use crate::sources::shares_name;

static FAMILIES: [Family; 1] = [gauge(
    "node_uname_info",
    &["sysname", "release", "version", "machine", "nodename", "domainname"],
    "Always 1; the node's name, kernel and machine.",
)];

pub(crate) struct Uname {
    /// Where the host's name is written, for an agent that has a name of its own.
    hostname: Option<PathBuf>,
}

impl Make for Uname {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        let written = || roots.host(Path::new("/etc/hostname"));
        Uname { hostname: (!shares_name(roots)).then(written) }
    }
}

impl Collect for Uname {
    const NAME: &'static str = "uname";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let failed = |cause| AskError::Failed { what: "uname".to_owned(), cause: Box::new(cause) };
        let said = nix::sys::utsname::uname().map_err(failed)?;
        let host = self.hostname.as_ref().and_then(|path| read_text(path, page).ok());
        let host = host.filter(|name| !name.is_empty()).unwrap_or_else(|| text(said.nodename()));
        let [system, release, version, machine, domain] =
            [said.sysname(), said.release(), said.version(), said.machine(), said.domainname()].map(text);
        samples.family(&FAMILIES[0]);
        samples.sample(&[&system, &release, &version, &machine, &host, &domain], 1.0);
        Ok(())
    }
}

fn text(said: &OsStr) -> String {
    said.to_string_lossy().into_owned()
}
