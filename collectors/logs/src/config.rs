//! What the log collector can be told. Every key has a default that is right for an ordinary node.

use std::path::PathBuf;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decode::Format;

/// Where logs are found and how they are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogsConfig {
    /// Container logs in the Kubernetes layout.
    pub kubernetes: KubernetesLogs,
    /// Plain files named by globs.
    pub files: Vec<FileInput>,
    /// Longest message in bytes; the rest of a longer line is cut, flagged `truncated` and counted.
    pub max_line_bytes: u32,
    /// How long an unfinished line (no newline, or parts without the final part) waits for its end, in
    /// milliseconds, before it is delivered flagged `partial`.
    pub partial_timeout_ms: u64,
    /// How many unread bytes of deleted files each container may keep on the disk, by the descriptors held open on
    /// them. Beyond it the oldest are let go and declared lost: a far side that is down for long does not fill the
    /// node's disk. 0: no limit.
    pub max_deleted_bytes: u64,
    /// Bytes read from one file before another file has its turn.
    pub read_block_bytes: u32,
    /// Longest pause between two looks at a file that is being written, in milliseconds. Shorter means earlier
    /// delivery, longer means less CPU.
    pub poll_interval_ms: u64,
    /// How often every known directory is looked through whatever the kernel announced, in seconds. What it does not
    /// announce at all (network file systems, links, exhausted limits) is looked at every 10 seconds at least.
    pub rescan_seconds: u64,
    /// Limits per container or namespace; the first that matches a container applies.
    pub quotas: Vec<Quota>,
}

impl Default for LogsConfig {
    fn default() -> Self {
        LogsConfig {
            kubernetes: KubernetesLogs::default(),
            files: Vec::new(),
            max_line_bytes: 1024 * 1024,
            partial_timeout_ms: 10_000,
            max_deleted_bytes: 1024 * 1024 * 1024,
            read_block_bytes: 128 * 1024,
            poll_interval_ms: 250,
            rescan_seconds: 300,
            quotas: Vec::new(),
        }
    }
}

/// Container logs in the Kubernetes layout: `<root>/<namespace>_<pod>_<uid>/<container>/<n>.log`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesLogs {
    /// Whether to look for them. A root that does not exist (yet) is no error.
    pub enabled: bool,
    /// The directory that kubelet writes to.
    pub root: PathBuf,
    /// The directory of links whose names tell container ids.
    pub links: PathBuf,
    /// How long the first records of a pod wait until the cluster has told of it, in milliseconds, where the API server
    /// is asked (`kubernetes.api`). Then they go with what the path tells, and `kubernetes.metadata: missing`. Its files are
    /// held open meanwhile. Default 5000.
    pub metadata_wait_ms: u64,
    /// Further directories that log files may be links into (Docker below kubelet keeps them there). A link
    /// that leads anywhere else is refused.
    pub link_targets: Vec<PathBuf>,
}

impl Default for KubernetesLogs {
    fn default() -> Self {
        KubernetesLogs {
            enabled: true,
            root: PathBuf::from("/var/log/pods"),
            links: PathBuf::from("/var/log/containers"),
            metadata_wait_ms: 5000,
            link_targets: vec![PathBuf::from("/var/lib/docker/containers")],
        }
    }
}

/// Plain files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FileInput {
    /// Globs of absolute paths; `*` stays within one directory, `**` crosses them.
    pub paths: Vec<String>,
    /// Globs of paths to leave out.
    pub exclude: Vec<String>,
    /// How lines are written.
    pub format: LineFormat,
    /// Where to begin in files that were there before the agent first saw them.
    pub start: Start,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineFormat {
    /// A line is the message.
    #[default]
    Plain,
    /// CRI or Docker json-file, told by each line's first byte.
    Container,
}

impl From<LineFormat> for Format {
    fn from(format: LineFormat) -> Self {
        match format {
            LineFormat::Plain => Format::Plain,
            LineFormat::Container => Format::Container,
        }
    }
}

/// Where to begin in a file that is new to the agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At its first byte.
    #[default]
    Beginning,
    /// At its end, when it was there at the agent's very first look; files that appear later are read whole.
    End,
}

/// A limit on what one container, or all containers of one namespace together, may send.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Glob of namespaces it applies to; empty: all.
    pub namespace: String,
    /// Glob of pods it applies to; empty: all.
    pub pod: String,
    /// Glob of containers it applies to; empty: all.
    pub container: String,
    /// Whether each container has the limit to itself, or all of one namespace share it.
    pub per: QuotaScope,
    /// Bytes of log file per second; 0: no limit.
    pub bytes_per_second: u64,
    /// Lines per second; 0: no limit.
    pub lines_per_second: u64,
    /// What happens beyond it.
    pub over: OverQuota,
}

/// Who shares a quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuotaScope {
    /// Each container on its own.
    #[default]
    Container,
    /// All containers of a namespace on this node together.
    Namespace,
}

/// What happens to lines beyond a quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverQuota {
    /// They are dropped, counted as lost with reason `quota`, and declared in the ledger.
    #[default]
    Drop,
    /// They wait in their file; nothing is lost unless the file is rotated away first.
    Wait,
}

/// A value that cannot be used, by its key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("logs.{key}: {problem}")]
pub struct Invalid {
    /// The key below `logs`.
    pub key: String,
    /// What is wrong and what to write instead.
    pub problem: String,
}

impl LogsConfig {
    /// Checks what the types do not say.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn validate(&self) -> Result<(), Invalid> {
        let invalid =
            |key: &str, problem: &str| Err(Invalid { key: key.to_owned(), problem: problem.to_owned() });
        if !(1024..=256 * 1024 * 1024).contains(&self.max_line_bytes) {
            return invalid("max_line_bytes", "must be between 1024 and 268435456");
        }
        if !(4096..=16 * 1024 * 1024).contains(&self.read_block_bytes) {
            return invalid("read_block_bytes", "must be between 4096 and 16777216");
        }
        if self.poll_interval_ms == 0 || self.poll_interval_ms > 60_000 {
            return invalid("poll_interval_ms", "must be between 1 and 60000");
        }
        if self.rescan_seconds == 0 {
            return invalid("rescan_seconds", "must be at least 1");
        }
        for (index, input) in self.files.iter().enumerate() {
            if input.paths.is_empty() {
                return invalid(&format!("files[{index}].paths"), "name at least one glob");
            }
            for path in &input.paths {
                if !path.starts_with('/') {
                    return invalid(
                        &format!("files[{index}].paths"),
                        &format!("{path:?} is not an absolute path"),
                    );
                }
            }
            for pattern in input.paths.iter().chain(&input.exclude) {
                if let Err(error) = glob(pattern) {
                    return invalid(
                        &format!("files[{index}]"),
                        &format!("{pattern:?} is not a glob: {error}"),
                    );
                }
            }
        }
        for (index, quota) in self.quotas.iter().enumerate() {
            if quota.bytes_per_second == 0 && quota.lines_per_second == 0 {
                return invalid(&format!("quotas[{index}]"), "set bytes_per_second or lines_per_second");
            }
            for pattern in [&quota.namespace, &quota.pod, &quota.container] {
                if let Err(error) = glob(pattern) {
                    return invalid(
                        &format!("quotas[{index}]"),
                        &format!("{pattern:?} is not a glob: {error}"),
                    );
                }
            }
        }
        Ok(())
    }
}

/// A glob in which `*` does not cross directories.
pub(crate) fn glob(pattern: &str) -> Result<globset::Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

/// A set of such globs; those that do not parse were refused by [`LogsConfig::validate`].
pub(crate) fn glob_set(patterns: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for glob in patterns.iter().filter_map(|p| glob(p).ok()) {
        set.add(glob);
    }
    set.build().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(LogsConfig::default().validate(), Ok(()));
    }

    #[test]
    fn a_relative_path_is_refused_with_its_key() {
        let config = LogsConfig {
            files: vec![FileInput { paths: vec!["logs/*.log".to_owned()], ..FileInput::default() }],
            ..LogsConfig::default()
        };
        let error = config.validate().expect_err("relative");
        assert_eq!(error.to_string(), "logs.files[0].paths: \"logs/*.log\" is not an absolute path");
    }

    #[test]
    fn a_quota_without_a_limit_is_refused() {
        let config = LogsConfig { quotas: vec![Quota::default()], ..LogsConfig::default() };
        assert!(config.validate().is_err());
    }
}
