//! What can be told about the CRI runtime.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where runtimes listen: containerd, CRI-O, Docker below kubelet, the containerd of k3s.
pub const USUAL_SOCKETS: [&str; 4] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
];

/// Names of containers and pods from a CRI runtime.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CriConfig {
    /// Whether to look for a runtime.
    pub enabled: Enabled,
    /// The socket that the runtime listens on, with or without `unix://` in front. Without one the usual sockets of
    /// containerd, CRI-O, cri-dockerd and k3s are tried.
    pub socket: Option<PathBuf>,
    /// Where the host's files are seen, if not at `/`: the usual sockets are tried below it, too.
    #[serde(skip)]
    pub rootfs: Option<PathBuf>,
}

/// Whether to look for a CRI runtime.
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

impl CriConfig {
    /// The sockets to try, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        match &self.socket {
            Some(socket) => vec![bare(socket).to_owned()],
            None => {
                let below =
                    |root: &PathBuf| USUAL_SOCKETS.map(|path| root.join(path.trim_start_matches('/')));
                USUAL_SOCKETS
                    .map(PathBuf::from)
                    .into_iter()
                    .chain(self.rootfs.iter().flat_map(below))
                    .collect()
            }
        }
    }
}

fn bare(socket: &Path) -> &Path {
    let text = socket.to_str().and_then(|text| text.strip_prefix("unix://"));
    text.map_or(socket, Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_need_be_said() {
        let config: CriConfig = serde_json::from_str("{}").expect("valid");
        assert_eq!(config, CriConfig::default());
        assert_eq!(config.paths(), USUAL_SOCKETS.map(PathBuf::from));
    }

    #[test]
    fn the_host_may_be_elsewhere() {
        let config = CriConfig { rootfs: Some("/host/root".into()), ..CriConfig::default() };
        assert_eq!(config.paths().len(), 2 * USUAL_SOCKETS.len());
        assert!(config.paths().contains(&"/host/root/run/crio/crio.sock".into()));
    }

    #[test]
    fn a_socket_may_be_written_as_an_address_and_is_then_the_only_one() {
        let config: CriConfig =
            serde_json::from_str(r#"{"enabled":"always","socket":"unix:///run/other.sock"}"#).expect("valid");
        assert_eq!((config.enabled, config.paths()), (Enabled::Always, vec!["/run/other.sock".into()]));
    }

    #[test]
    fn unknown_keys_and_words_are_refused() {
        assert!(serde_json::from_str::<CriConfig>(r#"{"sock":"x"}"#).is_err());
        assert!(serde_json::from_str::<CriConfig>(r#"{"enabled":"maybe"}"#).is_err());
    }
}
