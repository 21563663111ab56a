//! Kafka's own programs: fetched by Maven once, the reader of [`super::records`] compiled beside them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::Entry;
use crate::{packages, tools};

/// What is fetched, with its version.
const POM: &str = include_str!("../../kafka/pom.xml");
const READER: &str = include_str!("../../kafka/Records.java");

/// Kafka's place in the cache.
pub(crate) const ENTRY: Entry<'static> = Entry { part: "kafka", pins: &[POM, READER] };

/// The version in the pom.
pub(crate) fn version() -> &'static str {
    let after = POM.split("<artifactId>kafka_2.13</artifactId>").nth(1).unwrap_or_default();
    after.split(['<', '>']).nth(2).unwrap_or("unknown")
}

/// The installed Kafka.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    folder: PathBuf,
}

impl Installed {
    /// Fetches Kafka unless the cache has it.
    pub(crate) fn get() -> Result<Self> {
        packages::ensure(&[("java", "default-jdk-headless")])?;
        Ok(Self { folder: ENTRY.get(fetch)? })
    }

    /// A Java command with Kafka on its class path; options and the class to run are yet to be added.
    pub(crate) fn java(&self) -> Command {
        let folder = self.folder.display();
        let mut java = Command::new("java");
        java.arg("-cp").arg(format!("{folder}/lib/*:{folder}/classes"));
        java
    }

    /// The same for a program that ends soon: what makes a JVM start faster and slower later.
    pub(crate) fn short_java(&self) -> Command {
        let mut java = self.java();
        java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"]);
        java.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
        java
    }
}

fn fetch(folder: &Path) -> Result<()> {
    packages::ensure(&[("javac", "default-jdk-headless"), ("mvn", "maven")])?;
    let pom = folder.join("pom.xml");
    tools::write(&pom, POM)?;
    let maven = Command::new("mvn")
        .args(["--batch-mode", "--no-transfer-progress", "--quiet", "--file"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", folder.join("lib").display()))
        .current_dir(folder)
        .output();
    check_maven(maven)?;
    tools::write(&folder.join("Records.java"), READER)?;
    tools::run(
        Command::new("javac").args(["-d", "classes", "-cp", "lib/*", "Records.java"]).current_dir(folder),
    )?;
    Ok(())
}

/// Maven reports its errors on standard output.
fn check_maven(output: std::io::Result<std::process::Output>) -> Result<()> {
    let output = output.context("cannot run mvn")?;
    if !output.status.success() {
        anyhow::bail!(
            "mvn failed with {}: {}",
            output.status,
            tools::last_lines(&output.stdout, 20).or(&output.stderr)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_read_from_the_pom() {
        let version = super::version();
        assert!(
            version.starts_with(|first: char| first.is_ascii_digit()) && version.contains('.'),
            "{version}"
        );
    }
}
