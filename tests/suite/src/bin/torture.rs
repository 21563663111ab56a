//! `torture`: see [`taffrail_suite::torture`].

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use taffrail_suite::torture::{Fault, Options, default_directory, run};

/// Containers at full speed, the agent, a real Kafka, and everything that goes wrong; exit code 1 when anything was found
#[derive(Parser)]
struct Args {
    /// How long faults come
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Seed of all choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The agent's binary; default: the variable `TAFFRAIL_PROGRAM`, else `taffrail` beside this program
    #[arg(long)]
    program: Option<PathBuf>,
    /// Number of containers
    #[arg(long, default_value_t = 8)]
    writers: u16,
    /// Megabytes a second that they print together at most; default: as many as the machine can
    #[arg(long)]
    rate: Option<f64>,
    /// The agent's `pipeline.memory`, in MiB
    #[arg(long, default_value_t = 8)]
    memory: u64,
    /// The agent's `state.checkpoint_bytes`, in MiB
    #[arg(long, default_value_t = 2)]
    checkpoint: u64,
    /// Memory that the agent may hold at most, in MiB
    #[arg(long, default_value_t = 120)]
    memory_bound: u64,
    /// Only these faults, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<Fault>,
    /// Where everything is kept; default: a new directory below the system's temporary one, removed when all is well
    #[arg(long)]
    directory: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let options = Options {
        time: Duration::from_secs_f64(args.minutes * 60.0),
        seed: args.seed,
        program: args.program.clone().map_or_else(taffrail_suite::program, Ok)?,
        writers: args.writers,
        rate: args.rate.map(|rate| (rate * 1e6) as u64),
        memory: args.memory << 20,
        checkpoint_bytes: args.checkpoint << 20,
        faults: args.only.clone(),
        memory_bound: args.memory_bound << 20,
        directory: args.directory.clone().unwrap_or_else(|| default_directory(args.seed)),
    };
    let summary = run(&options)?;
    println!("seed                 {}\n{summary}", args.seed);
    if !summary.findings.is_empty() {
        println!("kept in              {}", options.directory.display());
        return Ok(ExitCode::FAILURE);
    }
    if args.directory.is_none() {
        // The state is a mount of this process alone: what is below it goes with the process.
        let _ = std::fs::remove_dir_all(options.directory.join("pods"));
        let _ = nix::mount::umount(&options.directory.join("state"));
        let _ = std::fs::remove_dir_all(&options.directory);
    }
    Ok(ExitCode::SUCCESS)
}
