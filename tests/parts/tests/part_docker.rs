//! The Docker engine itself: what other tests rely on when they name it.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use taffrail_parts::docker::{Docker, IMAGE};
use taffrail_parts::machine::{Machine, traces};

fn until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !done()? {
        ensure!(start.elapsed() < Duration::from_secs(120), "not within two minutes: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn what_a_container_prints_is_in_its_log_file() -> Result<()> {
    let docker = Docker::start()?;
    let printed = docker.run(&["--name", "talker", IMAGE, "sh", "-c", "echo ahoy; echo reef >&2"])?;
    assert_eq!(printed, "ahoy\n", "standard output only");
    let log = docker.log_of("talker")?;
    assert!(log.starts_with(docker.containers()), "{}", log.display());
    let lines: Vec<serde_json::Value> =
        fs::read_to_string(log)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    // The engine reads the two streams each by itself: which comes first in the file is chance.
    let seen: BTreeSet<(&str, &str)> =
        lines.iter().filter_map(|line| Some((line["stream"].as_str()?, line["log"].as_str()?))).collect();
    assert_eq!(seen, BTreeSet::from([("stdout", "ahoy\n"), ("stderr", "reef\n")]));

    docker.run(&["--name", "mute", "--log-driver", "none", IMAGE, "true"])?;
    assert!(docker.log_of("mute").unwrap_err().to_string().contains("no log file"));
    Ok(())
}

#[test]
fn the_engine_rotates_a_log_that_grows() -> Result<()> {
    let docker = Docker::start()?;
    let options = ["--log-opt", "max-size=8k", "--log-opt", "max-file=3", "--log-opt", "compress=true"];
    let print = "seq -w 1 2000";
    docker.run(&[&["--name", "talker"], &options[..], &[IMAGE, "sh", "-c", print]].concat())?;
    let log = docker.log_of("talker")?;
    until("a compressed sibling", || Ok(log.with_extension("log.2.gz").exists()))?;
    Ok(())
}

#[test]
fn containers_end_with_a_stopped_engine_and_start_with_it_again() -> Result<()> {
    let mut docker = Docker::start()?;
    let tick = "trap 'exit 0' TERM; while :; do echo tick; sleep 0.1; done";
    let id = docker.run_detached(&["--restart", "always", "--name", "clock", IMAGE, "sh", "-c", tick])?;
    let log = docker.log_of(&id)?;
    let ticks = || -> Result<usize> { Ok(fs::read_to_string(&log)?.lines().count()) };
    until("a tick", || Ok(ticks()? > 0))?;
    docker.stop()?;
    let before = ticks()?;
    docker.start_again()?;
    until("a tick after the restart", || Ok(ticks()? > before))?;
    Ok(())
}

#[test]
fn containers_outlive_a_killed_engine_that_takes_them_up_again() -> Result<()> {
    let mut docker = Docker::start_with(&["--live-restore"])?;
    let tick = "while :; do echo tick; sleep 0.1; done";
    let id = docker.run_detached(&["--name", "clock", IMAGE, "sh", "-c", tick])?;
    let log = docker.log_of(&id)?;
    let ticks = || -> Result<usize> { Ok(fs::read_to_string(&log)?.lines().count()) };
    let process = |docker: &Docker| docker.output(&["inspect", "--format", "{{.State.Pid}}", "clock"]);
    until("a tick", || Ok(ticks()? > 0))?;
    let before = process(&docker)?;
    docker.kill();
    docker.start_again()?;
    assert_eq!(process(&docker)?, before, "it is the same process");
    let seen = ticks()?;
    until("a tick after the restart", || Ok(ticks()? > seen))?;
    assert_eq!(docker.output(&["exec", "clock", "echo", "inside"])?, "inside\n");
    Ok(())
}

#[test]
fn nothing_is_left_when_it_is_dropped_with_containers_running() -> Result<()> {
    let before = Machine::now();
    let docker = Docker::start()?;
    docker.run_detached(&["--name", "sleeper", IMAGE, "sleep", "600"])?;
    let folder = docker.log().parent().context("no folder")?.to_owned();
    // The engine, its containerd, the shim and the container, at the least.
    let during = traces(&folder);
    assert!(during.len() > 4 && during.iter().any(|trace| trace.contains("sleep 600")), "{during:#?}");
    drop(docker);
    assert_eq!(traces(&folder), Vec::<String>::new());
    assert_eq!(Machine::now(), before);
    Ok(())
}

#[test]
fn two_engines_at_once_do_not_see_each_other() -> Result<()> {
    let (one, other) = (Docker::start()?, Docker::start()?);
    one.run_detached(&["--name", "only", IMAGE, "sleep", "600"])?;
    assert_eq!(one.output(&["ps", "--format", "{{.Names}}"])?, "only\n");
    assert_eq!(other.output(&["ps", "--format", "{{.Names}}"])?, "");
    Ok(())
}
