//! What the user may choose about the API server.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether to talk to the API server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// When this is a pod with a service account, or a kubeconfig is named.
    #[default]
    Auto,
    /// In any case: without one the agent is not ready.
    Always,
    /// Not at all.
    Never,
}

/// How the API server is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Whether to talk to the API server: `auto` (default: when this is a pod with a service account, or `kubeconfig` is
    /// set), `always` or `never`.
    pub enabled: Wanted,
    /// File that says where the server is and who we are. Default: the service account of this pod.
    pub kubeconfig: Option<PathBuf>,
}

/// What kubelet puts into every pod.
const HOST: &str = "KUBERNETES_SERVICE_HOST";
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

impl ApiConfig {
    /// Whether there is a server to talk to, as far as can be told without talking.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        match self.enabled {
            Wanted::Always => true,
            Wanted::Never => false,
            Wanted::Auto => self.kubeconfig.is_some() || is_pod_with_account(),
        }
    }
}

fn is_pod_with_account() -> bool {
    std::env::var_os(HOST).is_some() && std::path::Path::new(TOKEN).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_wanted_where_one_is_named_and_nobody_said_no() {
        let named = |enabled| ApiConfig { enabled, kubeconfig: Some("/etc/kubeconfig".into()) };
        assert!(named(Wanted::Auto).is_wanted());
        assert!(!named(Wanted::Never).is_wanted());
        assert!(ApiConfig { enabled: Wanted::Always, kubeconfig: None }.is_wanted());
    }
}
