//! `taffrail check`: is the configuration good, and what does this machine permit?
//!
//! Every finding says what was looked at, what is there, and when that stands in the way what to do. Nothing is
//! changed, but for a file that is written into the state directory and removed again.

mod audit;
mod cluster;
mod cri;
mod far;
mod findings;
mod limits;
mod metrics;
mod places;
mod policies;
mod requests;
mod sources;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

pub use findings::{Finding, Status};

use crate::cli::ConfigArg;
use crate::config::Config;
use crate::logging;
use crate::web::Web;

/// More variables than this are counted and not named.
const NAMED: usize = 3;

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Ask nobody over the network (Kafka, the API server)
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
    let web = Web::open(&config)?;
    let mut findings = vec![configuration(&args.config)];
    findings.extend(machine(&config, web.as_deref()));
    if !args.offline {
        findings.extend(cluster::cluster(&config));
        findings.extend(far::output(&config));
        findings.extend(far::search_engine(&config));
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
    Finding::good("configuration", from + &overrides(crate::config::environment().map(|(name, _)| name)))
}

/// Which variables of the environment go over the file.
fn overrides(names: impl Iterator<Item = String>) -> String {
    let ours = |name: &String| name.to_uppercase().starts_with(crate::config::PREFIX) && name.contains("__");
    let mut names: Vec<String> = names.filter(ours).collect();
    names.sort();
    match names.len() {
        0 => String::new(),
        count @ 1..=NAMED => format!(", with {}", names[..count].join(", ")),
        count => format!(", with {} and {} more", names[..NAMED].join(", "), count - NAMED),
    }
}

fn machine(config: &Config, web: Option<&Web>) -> Vec<Finding> {
    let mut findings = sources::all(config);
    findings.extend(metrics::all(config));
    findings.extend(limits::all());
    findings.extend(audit::all(config));
    findings.extend(requests::all(config));
    findings.extend(places::all(config, web));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_go_over_the_file_are_named_while_they_are_few() {
        for (names, expected) in [
            (&["PATH", "TAFFRAIL_CONFIG"][..], ""),
            (&["TAFFRAIL_HTTP__LISTEN"], ", with TAFFRAIL_HTTP__LISTEN"),
            (
                &["taffrail_d__d", "TAFFRAIL_C__C", "TAFFRAIL_B__B", "TAFFRAIL_A__A"],
                ", with TAFFRAIL_A__A, TAFFRAIL_B__B, TAFFRAIL_C__C and 1 more",
            ),
        ] {
            assert_eq!(overrides(names.iter().map(|name| (*name).to_owned())), expected);
        }
    }
}
