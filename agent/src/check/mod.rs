//! `taffrail check`: is the configuration good, and what does this machine permit?
//!
//! Every finding says what was looked at, what is there, and when that stands in the way what to do. Nothing is
//! changed, but for a file that is written into the state directory and removed again.

mod far;
mod findings;
mod limits;
mod places;
mod sources;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

pub use findings::{Finding, Status};

use crate::cli::ConfigArg;
use crate::config::Config;
use crate::logging;

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Do not ask the far side (Kafka)
    #[arg(long)]
    offline: bool,
    /// Print the findings as one JSON object
    #[arg(long)]
    json: bool,
}

/// Checks and prints. The exit code is 0 when nothing stands in the way, else 1.
///
/// # Errors
/// [`crate::config::ConfigError`] when the configuration is bad, or an I/O error of standard output.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let mut findings = vec![configuration(&args.config)];
    findings.extend(machine(&config));
    if !args.offline {
        findings.extend(far::output(&config.output));
    }
    let good = findings.iter().all(|finding| finding.status != Status::Bad);
    let text = if args.json {
        serde_json::to_string_pretty(&serde_json::json!({ "ok": good, "findings": findings }))? + "\n"
    } else {
        findings::render(&findings, good, io::stdout().is_terminal() && logging::colour())
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn configuration(argument: &ConfigArg) -> Finding {
    let from = match argument.path() {
        Some(path) => path.display().to_string(),
        None => "no file: the defaults".to_owned(),
    };
    let overrides = crate::config::environment()
        .filter(|(name, _)| name.to_uppercase().starts_with(crate::config::PREFIX) && name.contains("__"));
    let detail = match overrides.count() {
        0 => from,
        count => format!("{from}, {count} overrides from the environment"),
    };
    Finding::good("configuration", detail)
}

fn machine(config: &Config) -> Vec<Finding> {
    let mut findings = sources::all(config);
    findings.extend(limits::all());
    findings.extend(places::all(config));
    findings
}
