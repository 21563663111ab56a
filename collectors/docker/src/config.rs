//! What can be told about the Docker engine.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Containers of a Docker engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DockerConfig {
    /// Whether to look for an engine.
    pub enabled: Enabled,
    /// The socket that the engine listens on, with or without `unix://` in front.
    pub socket: PathBuf,
}

/// Whether to look for a Docker engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enabled {
    /// Where there is one; none is normal.
    #[default]
    Auto,
    /// There must be one: its absence is a warning.
    Always,
    /// Never.
    Never,
}

impl Default for DockerConfig {
    fn default() -> Self {
        DockerConfig { enabled: Enabled::Auto, socket: PathBuf::from("/var/run/docker.sock") }
    }
}

impl DockerConfig {
    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        let text = self.socket.to_str().and_then(|text| text.strip_prefix("unix://"));
        text.map_or(&self.socket, Path::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_need_be_said() {
        let config: DockerConfig = serde_json::from_str("{}").expect("valid");
        assert_eq!(config, DockerConfig::default());
        assert_eq!(config.path(), Path::new("/var/run/docker.sock"));
    }

    #[test]
    fn a_socket_may_be_written_as_an_address() {
        let config: DockerConfig =
            serde_json::from_str(r#"{"enabled":"always","socket":"unix:///run/other.sock"}"#).expect("valid");
        assert_eq!((config.enabled, config.path()), (Enabled::Always, Path::new("/run/other.sock")));
    }

    #[test]
    fn unknown_keys_and_words_are_refused() {
        assert!(serde_json::from_str::<DockerConfig>(r#"{"sock":"x"}"#).is_err());
        assert!(serde_json::from_str::<DockerConfig>(r#"{"enabled":"maybe"}"#).is_err());
    }
}
