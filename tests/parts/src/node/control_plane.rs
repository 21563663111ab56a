//! A control plane alone: etcd and the API server, ready in seconds, for tests of what talks to it and needs no pods.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::control::{self, Control, ServerOptions};
use super::install::Installed;
use crate::janitor::Place;
use crate::tools;

/// A running etcd with an API server; both end when it is dropped.
#[derive(Debug)]
pub struct ControlPlane {
    control: Control,
    installed: Installed,
    place: Place,
}

impl ControlPlane {
    /// Starts both and waits until they are ready. The API server keeps events for so long, or for an hour.
    pub fn start(event_ttl: Option<Duration>) -> Result<Self> {
        let installed = Installed::get()?;
        let place = Place::new("control")?;
        let options = ServerOptions { event_ttl, ..ServerOptions::default() };
        let control = Control::start(&installed, &place, false, options)?;
        Ok(Self { control, installed, place })
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.place.join("pki/admin.kubeconfig")
    }

    /// A `kubectl` command of the administrator.
    pub fn kubectl<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut kubectl = control::kubectl(&self.installed, &self.place);
        kubectl.args(arguments);
        kubectl
    }

    /// Runs a `kubectl` command to its end; what it printed.
    pub fn output<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        Ok(String::from_utf8_lossy(&tools::run(&mut self.kubectl(arguments))?).into_owned())
    }

    /// The API server's log of what service accounts asked for: an event of `audit.k8s.io/v1` in each line, a watch at its
    /// beginning.
    pub fn audit_log(&self) -> PathBuf {
        self.place.join(control::AUDIT_LOG)
    }

    /// The API server's process, while it runs.
    pub fn api_server(&self) -> Option<u32> {
        self.control.api_server_id()
    }

    /// Kills the API server with SIGKILL.
    pub fn kill_api_server(&mut self) {
        self.control.kill_api_server();
    }

    /// Starts the API server again, at the same address, and waits until it is ready.
    pub fn start_api_server(&mut self) -> Result<()> {
        self.control.start_api_server(&self.installed, &self.place)
    }

    /// Makes etcd forget all versions but the last, so that a watch from any of them is answered with 410. Returns that last
    /// version.
    pub fn compact(&self) -> Result<u64> {
        self.control.compact()
    }
}
