//! Programs that parts need from the machine, and the Debian packages that bring them.
//!
//! Missing packages are installed by name. That takes root: without it the error names them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Installs the packages it is given; `tests/setup` calls the same script.
const INSTALL: &str = include_str!("../scripts/install-packages.sh");

/// Where Debian keeps programs for root, which a user's `PATH` may not have.
const FOR_ROOT: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// The program `name` on `PATH` or in the folders where Debian keeps programs for root.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FOR_ROOT.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Lets a command find programs for root, whatever the `PATH` of this process.
pub fn with_programs_for_root(command: &mut Command) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOR_ROOT.map(PathBuf::from));
    // Only a folder with a colon in its name cannot be joined, and those came from a split.
    if let Ok(path) = std::env::join_paths(folders) {
        command.env("PATH", path);
    }
}

/// Makes sure that each program is there, installing the packages of those that are not.
///
/// `needs` are pairs of program and Debian package.
pub fn ensure(needs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        needs.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)?;
    for (program, package) in needs {
        find(program)
            .with_context(|| format!("package {package} is installed but has no program {program}"))?;
    }
    Ok(())
}

/// Makes sure that a file exists which the package brings.
pub fn ensure_file(path: &Path, package: &str) -> Result<()> {
    if !path.exists() {
        install(&[package])?;
    }
    if !path.exists() {
        bail!("package {package} is installed but has no {}", path.display());
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    eprintln!("parts: installing {}", packages.join(" "));
    let mut shell = Command::new("sh")
        .arg("-s")
        .arg("--")
        .args(packages)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run sh")?;
    if let Some(mut input) = shell.stdin.take() {
        input.write_all(INSTALL.as_bytes()).context("cannot hand the install script to sh")?;
    }
    let output = shell.wait_with_output().context("cannot wait for the installation")?;
    if !output.status.success() {
        bail!(
            "cannot install {}: {}",
            packages.join(" "),
            crate::tools::last_lines(&output.stderr, 15).or(&output.stdout)
        );
    }
    Ok(())
}
