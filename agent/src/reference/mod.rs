//! The reference pages, generated from the types so that they cannot say anything else.

mod command_line;
mod configuration;
mod metrics;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

/// Where the pages go.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of the pages
    #[arg(long, value_name = "DIR", default_value = "deploy/reference")]
    out: PathBuf,
    /// Write nothing; fail when a page is missing or out of date
    #[arg(long)]
    check: bool,
}

/// Every page: its file name and its text.
///
/// # Errors
/// When a part cannot be asked what it measures.
pub fn pages() -> anyhow::Result<[(&'static str, String); 3]> {
    Ok([
        ("configuration.md", configuration::page()),
        ("metrics.md", metrics::page()?),
        ("cli.md", command_line::page()),
    ])
}

/// Writes the pages, or checks them.
///
/// # Errors
/// When a page cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut stale = Vec::new();
    for (name, text) in pages()? {
        let path = args.out.join(name);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        if !args.check {
            write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        stale.push(path.display().to_string());
    }
    if args.check && !stale.is_empty() {
        eprintln!(
            "taffrail: out of date: {}; run `taffrail reference` and commit the result",
            stale.join(", ")
        );
        return Ok(ExitCode::FAILURE);
    }
    if !stale.is_empty() {
        writeln!(io::stdout(), "written: {}", stale.join(", "))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    File::create(path)?.write_all(text.as_bytes())
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
