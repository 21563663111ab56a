//! Kafka's own programs: fetched by Maven once, the reader of [`super::records`] compiled beside them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::cache::Entry;
use crate::{maven, packages};

/// What is fetched, with its version.
const POM: &str = include_str!("../../kafka/pom.xml");
const READER: &str = include_str!("../../kafka/Records.java");

/// Kafka's place in the cache.
pub(crate) const ENTRY: Entry<'static> = Entry { part: "kafka", pins: &[POM, READER] };

/// The version in the pom.
pub(crate) fn version() -> &'static str {
    maven::version_in(POM, "kafka_2.13")
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
    maven::fetch(folder, POM)?;
    maven::compile(folder, &[("Records.java", READER)])
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
