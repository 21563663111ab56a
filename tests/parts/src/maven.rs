//! What Maven fetches by a manifest.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{packages, tools};

/// Copies the jars of `pom`'s dependencies, and of theirs, into `folder`/lib.
pub(crate) fn fetch(folder: &Path, pom: &str) -> Result<()> {
    let library = format!("-DoutputDirectory={}", folder.join("lib").display());
    goal(folder, pom, &["dependency:copy-dependencies", "-DincludeTypes=jar", &library])
}

/// Unpacks the archives among `pom`'s dependencies into `folder`/`into`.
pub(crate) fn unpack(folder: &Path, pom: &str, into: &str) -> Result<()> {
    let target = format!("-DoutputDirectory={}", folder.join(into).display());
    goal(folder, pom, &["dependency:unpack-dependencies", "-DincludeTypes=zip", &target])
}

/// Compiles sources against `folder`/lib, into `folder`/classes.
pub(crate) fn compile(folder: &Path, sources: &[(&str, &str)]) -> Result<()> {
    packages::ensure(&[("javac", "default-jdk-headless")])?;
    let mut javac = Command::new("javac");
    javac.args(["-d", "classes", "-cp", "lib/*"]).current_dir(folder);
    for (name, text) in sources {
        tools::write(&folder.join(name), text)?;
        javac.arg(name);
    }
    tools::run(&mut javac).map(drop)
}

/// The version that a pom names for this artifact.
pub(crate) fn version_in(pom: &'static str, artifact: &str) -> &'static str {
    let after = pom.split(&format!("<artifactId>{artifact}</artifactId>")).last().unwrap_or_default();
    after.split(['<', '>']).nth(2).unwrap_or("unknown")
}

fn goal(folder: &Path, pom: &str, arguments: &[&str]) -> Result<()> {
    packages::ensure(&[("mvn", "maven")])?;
    let manifest = folder.join("pom.xml");
    tools::write(&manifest, pom)?;
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--no-transfer-progress", "--quiet", "--file"]).arg(&manifest);
    let output = maven.args(arguments).current_dir(folder).output().context("cannot run mvn")?;
    if !output.status.success() {
        // It reports its errors on standard output.
        let said = tools::last_lines(&output.stdout, 20).or(&output.stderr);
        bail!("mvn failed with {}: {said}", output.status);
    }
    Ok(())
}
