//! The collector of logs panics, or hangs in a read, while containers print: it is started again, and in the end the
//! topic and the ledger are complete. Nothing in the agent helps with that: its C library does what it is told.

mod support;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use support::{Agent, Arrived, until};
use taffrail_parts::{Kafka, KafkaOptions};
use taffrail_suite::preload::Preload;

/// The thread on which the agent runs its collector of logs.
const THREAD: &str = "logs";

/// A container that prints numbered lines, its log rotated by rename every now and then.
fn print(container: &Path, stop: &AtomicBool) -> Result<usize> {
    const FILE: usize = 700;
    let current = container.join("0.log");
    let mut lines = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut file = OpenOptions::new().create(true).append(true).open(&current)?;
        for _ in 0..20 {
            writeln!(file, "{} stdout F line {lines}", jiff::Timestamp::now())?;
            lines += 1;
        }
        if lines % FILE == 0 {
            fs::rename(&current, rotated(container, lines / FILE))?;
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(lines)
}

fn rotated(container: &Path, number: usize) -> PathBuf {
    container.join(format!("0.log.20261121-{number:06}"))
}

fn failures(agent: &Agent, cause: &str) -> Result<usize> {
    let said = agent.said("a component failed; it will be started again")?;
    Ok(said.iter().filter(|line| line["component"] == THREAD && line["cause"] == cause).count())
}

/// Waits until the agent has confirmed records beyond those that it had.
fn goes_on(agent: &Agent) -> Result<()> {
    let confirmed = || Ok::<_, anyhow::Error>(agent.ledger()?["total"]["confirmed_records"].as_u64());
    let before = confirmed()?.context("no figure")?;
    until("more records", || Ok(confirmed()? > Some(before + 500)))
}

/// Starts an agent that reads a container which prints all the while, has `befall` happen to it, and holds that nothing
/// is missing afterwards.
fn survives(topic: &str, befall: impl FnOnce(&Agent, &Preload) -> Result<()>) -> Result<()> {
    let kafka = Kafka::start(KafkaOptions::default())?;
    let scratch = tempfile::tempdir()?;
    let container = scratch.path().join("pods/default_talker_00000001-0000-4000-8000-000000000001/main");
    fs::create_dir_all(&container)?;
    let preload = Preload::build(scratch.path(), THREAD)?;
    let mut agent = Agent::new(&format!(
        "docker: {{enabled: never}}\nlogs: {{kubernetes: {{root: {0}/pods, links: {0}/none}}}}\n{1}",
        scratch.path().display(),
        Agent::output(&kafka, topic)
    ))?;
    let mut command = agent.command("run")?;
    preload.give(&mut command);
    agent.start_by(command)?;

    let stop = AtomicBool::new(false);
    let lines = thread::scope(|scope| {
        let printer = scope.spawn(|| print(&container, &stop));
        let befallen = goes_on(&agent).and_then(|()| befall(&agent, &preload)).and_then(|()| goes_on(&agent));
        stop.store(true, Ordering::Relaxed);
        let lines = printer.join().map_err(|_| anyhow::anyhow!("the printer panicked"))?;
        befallen?;
        lines
    })?;
    let ledger = agent.settled()?;
    ensure!(ledger["total"]["lost_bytes"] == 0, "{ledger}");
    agent.stop()?;
    let arrived = Arrived::in_topic(&kafka, topic)?;
    let expected: Vec<String> = (0..lines).map(|number| format!("line {number}")).collect();
    ensure!(arrived.stream("default/talker/main", "stdout")?.messages() == expected, "not what was printed");
    Agent::verify_complete(&kafka, topic).map(drop)
}

#[test]
fn nothing_is_missing_after_the_collector_has_panicked() -> Result<()> {
    survives("panic", |agent, preload| {
        for panics in 1..=2 {
            preload.fail_a_clock()?;
            until("a panic", || Ok(preload.has_failed()? && failures(agent, "panic")? == panics))?;
            goes_on(agent)?;
        }
        Ok(())
    })
}

#[test]
fn nothing_is_missing_after_the_collector_has_hung_and_was_left_behind() -> Result<()> {
    survives("hang", |agent, preload| {
        preload.hang_a_read()?;
        until("a read that hangs", || preload.hangs())?;
        until("the collector given up", || Ok(failures(agent, "hang")? == 1))?;
        ensure!(preload.hangs()?, "it hangs still");
        goes_on(agent)?;
        // What was left behind wakes up beside the one that took its place.
        preload.release()?;
        thread::sleep(Duration::from_secs(1));
        Ok(())
    })
}
