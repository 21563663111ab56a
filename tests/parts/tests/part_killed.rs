//! Parts whose owner dies or is interrupted: nothing may be left of them then either.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use taffrail_parts::machine::{Machine, traces};

/// Starts `parts up` with these parts, waits until they are up, and returns the addresses it printed.
fn up(parts: &[&str], last: &str) -> Result<(Child, BTreeMap<String, String>)> {
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_parts")).arg("up").args(parts).stdout(Stdio::piped()).spawn()?;
    let mut addresses = BTreeMap::new();
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line?;
        let (name, value) = line.split_once('=').context("not an assignment")?;
        addresses.insert(name.to_owned(), value.to_owned());
        if name == last {
            return Ok((child, addresses));
        }
    }
    anyhow::bail!("parts ended early with {}", child.wait()?)
}

/// The folders of the parts whose logs are among the addresses.
fn folders(addresses: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let logs = addresses.iter().filter(|(name, _)| name.ends_with("_LOG"));
    logs.filter_map(|(_, log)| Some(Path::new(log).parent()?.to_owned())).collect()
}

fn nothing_left(folders: &[PathBuf]) -> Result<()> {
    let start = Instant::now();
    loop {
        let left: Vec<String> = folders.iter().flat_map(|folder| traces(folder)).collect();
        if left.is_empty() {
            return Ok(());
        }
        ensure!(start.elapsed() < Duration::from_secs(120), "left after two minutes: {left:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn nothing_is_left_of_parts_whose_owner_is_killed() -> Result<()> {
    let before = Machine::now();
    let (mut parts, addresses) = up(&["all"], "NODE_LOG")?;
    let folders = folders(&addresses);
    ensure!(folders.len() == 8, "{addresses:?}");
    let docker = |arguments: &[&str]| {
        Command::new("docker").args(["--host", &addresses["DOCKER_HOST"]]).args(arguments).output()
    };
    let started = docker(&["run", "--detach", taffrail_parts::IMAGE, "sleep", "600"])?;
    ensure!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    for folder in &folders {
        assert!(!traces(folder).is_empty());
    }

    parts.kill()?;
    parts.wait()?;
    nothing_left(&folders)?;
    assert_eq!(Machine::now(), before);
    Ok(())
}

#[test]
fn parts_end_in_order_when_interrupted() -> Result<()> {
    let (mut parts, addresses) = up(&["kafka"], "KAFKA_LOG")?;
    assert!(addresses["KAFKA"].starts_with("127.0.0.1:"));
    // The handler is there a moment after the last line; before, the signal kills, which the other test covers.
    std::thread::sleep(Duration::from_millis(500));
    kill(Pid::from_raw(parts.id().cast_signed()), Signal::SIGINT)?;
    assert!(parts.wait()?.success());
    assert!(folders(&addresses).iter().all(|folder| traces(folder).is_empty()), "left when it has ended");
    Ok(())
}
