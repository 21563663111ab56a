//! What the kernel's notices are worth: nothing is missing where it gives none, too few, or drops some.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use support::{Agent, put, until};

/// How long the first line of a new pod may take without the kernel's help, on a machine that does much else.
const SOON: Duration = Duration::from_secs(20);

/// An agent that reads pods of a directory of its own and writes files.
struct Scene {
    scratch: tempfile::TempDir,
    agent: Agent,
}

impl Scene {
    fn new() -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        fs::create_dir(scratch.path().join("pods"))?;
        let agent = Agent::new(&format!(
            "docker: {{enabled: never}}\nlogs: {{kubernetes: {{root: {0}/pods, links: {0}/none}}}}\n\
             output: {{file: {{directory: {0}/records}}}}\n",
            scratch.path().display(),
        ))?;
        Ok(Scene { scratch, agent })
    }

    fn container(&self, pod: usize) -> PathBuf {
        let name = format!("pods/default_pod-{pod}_{pod:08x}-0000-4000-8000-000000000001/main");
        self.scratch.path().join(name)
    }

    /// A new pod that prints one line.
    fn pod_prints(&self, pod: usize) -> Result<()> {
        fs::create_dir_all(self.container(pod))?;
        put(&self.container(pod).join("0.log"), line(pod).as_bytes())
    }

    fn has_arrived(&self, pod: usize) -> Result<bool> {
        let records = self.scratch.path().join("records");
        if !records.exists() {
            return Ok(false);
        }
        let message = format!("\"message\":\"from {pod}\"");
        for entry in fs::read_dir(records)? {
            if fs::read_to_string(entry?.path())?.contains(&message) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Holds that a new pod's line arrives soon, and a line that it prints later.
    fn finds(&self, pod: usize) -> Result<()> {
        let start = Instant::now();
        self.pod_prints(pod)?;
        until("the line of a new pod", || self.has_arrived(pod))?;
        ensure!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
        Ok(())
    }
}

fn line(pod: usize) -> String {
    format!("2026-11-21T10:00:00.000000001Z stdout F from {pod}\n")
}

/// The agent as root of a user namespace of its own, in which the kernel gives so much of one thing.
fn with_limit(agent: &Agent, limit: &str, value: u32) -> Result<Command> {
    let run = agent.command("run")?;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c"]);
    command.arg(format!("echo {value} > /proc/sys/user/{limit} && exec \"$@\"")).arg("sh");
    command.arg(run.get_program()).args(run.get_args());
    Ok(command)
}

fn count(agent: &Agent, series: &str) -> Result<f64> {
    agent.metric(series)?.with_context(|| format!("no {series}"))
}

#[test]
fn pods_are_found_soon_where_the_kernel_gives_no_notices_or_too_few() -> Result<()> {
    for (limit, value) in [("max_inotify_instances", 0), ("max_inotify_watches", 2)] {
        let mut scene = Scene::new()?;
        let command = with_limit(&scene.agent, limit, value)?;
        scene.pod_prints(0)?;
        scene.agent.start_by(command)?;
        until("the first line", || scene.has_arrived(0))?;
        for pod in 1..=4 {
            scene.finds(pod).with_context(|| format!("{limit} {value}"))?;
        }
        ensure!(count(&scene.agent, "taffrail_logs_watch_failures_total")? > 0.0, "{limit} was not felt");
        scene.agent.stop()?;
    }
    Ok(())
}

#[test]
fn a_pod_is_found_whose_notice_the_kernel_has_dropped() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.pod_prints(0)?;
    let command = scene.agent.command("run")?;
    scene.agent.start_by(command)?;
    until("the first line", || scene.has_arrived(0))?;
    scene.finds(1)?;

    scene.agent.freeze()?;
    overflow(&scene.scratch.path().join("pods"))?;
    scene.pod_prints(2)?;
    scene.agent.thaw()?;
    until("the line of the pod", || scene.has_arrived(2))?;
    ensure!(count(&scene.agent, "taffrail_logs_watch_failures_total")? > 0.0, "no notice was dropped");
    scene.finds(3)?;
    scene.agent.stop()
}

/// More happens in a directory than the kernel keeps notices of.
fn overflow(directory: &Path) -> Result<()> {
    let kept: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")?.trim().parse()?;
    // Two notices each, and none equal to the one before it, which would be left out.
    for number in 0..kept {
        let path = directory.join(format!("file-{number}"));
        put(&path, b"")?;
        fs::remove_file(path)?;
    }
    Ok(())
}
