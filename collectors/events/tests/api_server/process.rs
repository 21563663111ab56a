//! Agents in processes of their own, to be killed and frozen. The test binary runs itself for it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use taffrail_events::EventsConfig;

use crate::support::{Agent, Far, fast};

const NODE: &str = "TAFFRAIL_TEST_NODE";
const KUBECONFIG: &str = "TAFFRAIL_TEST_KUBECONFIG";
const FOLDER: &str = "TAFFRAIL_TEST_FOLDER";

/// What the other tests start; by itself it does nothing.
#[test]
fn an_agent_of_the_other_tests() {
    let Ok(node) = std::env::var(NODE) else { return };
    let kubeconfig = PathBuf::from(std::env::var_os(KUBECONFIG).expect("a kubeconfig"));
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("a folder"));
    let far = Arc::new(Far::in_file(&folder.join("stored")));
    let agent = Agent::at(&kubeconfig, &node, &folder.join("state"), EventsConfig::default(), fast(), &far);
    while !folder.join("end").exists() {
        // While this file is there the far side takes nothing.
        if folder.join("away").exists() {
            far.go_away();
        } else {
            far.come_back();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    agent.stop();
}

/// An agent in a process.
pub(crate) struct Agents {
    folder: PathBuf,
    kubeconfig: PathBuf,
    children: BTreeMap<String, Child>,
}

impl Agents {
    pub(crate) fn new(folder: &Path, kubeconfig: PathBuf) -> Agents {
        Agents { folder: folder.to_owned(), kubeconfig, children: BTreeMap::new() }
    }

    pub(crate) fn start(&mut self, node: &str) -> Result<()> {
        let folder = self.folder.join(node);
        std::fs::create_dir_all(&folder)?;
        let log = OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
        let child = Command::new(std::env::current_exe()?)
            .args(["--exact", "process::an_agent_of_the_other_tests", "--nocapture"])
            .env(NODE, node)
            .env(KUBECONFIG, &self.kubeconfig)
            .env(FOLDER, &folder)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot run an agent")?;
        self.children.insert(node.to_owned(), child);
        Ok(())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.children.keys().cloned().collect()
    }

    /// Makes its far side take nothing, or something again.
    pub(crate) fn away(&self, node: &str, away: bool) -> Result<()> {
        let flag = self.folder.join(node).join("away");
        if away {
            std::fs::File::create(flag).map(drop)?;
        } else {
            std::fs::remove_file(flag)?;
        }
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }

    pub(crate) fn kill(&mut self, node: &str) -> Result<()> {
        let mut child = self.children.remove(node).context("it runs")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    pub(crate) fn signal(&self, node: &str, signal: Signal) -> Result<()> {
        let child = self.children.get(node).context("it runs")?;
        kill(Pid::from_raw(child.id() as i32), signal)?;
        Ok(())
    }

    /// The most memory that it ever had, in KiB.
    pub(crate) fn peak(&self, node: &str) -> Result<u64> {
        let child = self.children.get(node).context("it runs")?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// How often each observation was stored by whichever agent, by name and id.
    pub(crate) fn stored(&self) -> BTreeMap<(String, String), usize> {
        let mut stored = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path().join("stored")).unwrap_or_default();
            for (id, name) in text.lines().filter_map(|line| line.split_once(' ')) {
                *stored.entry((name.to_owned(), id.to_owned())).or_default() += 1;
            }
        }
        stored
    }

    pub(crate) fn count(&self, prefix: &str) -> usize {
        self.stored().keys().filter(|(name, _)| name.starts_with(prefix)).count()
    }

    /// Tells all to end, and waits for it.
    pub(crate) fn end(&mut self) -> Result<()> {
        for node in self.names() {
            std::fs::File::create(self.folder.join(&node).join("end"))?;
        }
        for (_, mut child) in std::mem::take(&mut self.children) {
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Appends what arrives to a file.
pub(crate) fn append(path: &Path, id: &str, name: &str) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| writeln!(file, "{id} {name}")).expect("written");
}
