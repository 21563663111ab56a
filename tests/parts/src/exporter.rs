//! A program that tells of this machine on a page of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::http;
use crate::janitor::Place;
use crate::ports::Port;
use crate::process::Process;

const START: Duration = Duration::from_secs(240);

/// One that runs; ends when dropped.
#[derive(Debug)]
pub struct Exporter {
    // Before `place`: the program has ended when its folder is removed.
    process: Process,
    port: Port,
    place: Place,
}

impl Exporter {
    /// Starts what `command` makes of an address to listen on, and waits until it answers.
    pub(crate) fn start(name: &'static str, command: impl FnOnce(&str) -> Command) -> Result<Self> {
        let place = Place::new(name)?;
        let port = Port::reserve()?;
        let command = command(&format!("127.0.0.1:{}", port.number()));
        let mut process = Process::start(name, command, &place.join("log"))?;
        process.wait_until("answer", START, || port.accepts())?;
        Ok(Self { process, port, place })
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
        self.place.join("log")
    }
}
