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

/// Kubelet itself, to be asked for its pods where the API server is to be spared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KubeletConfig {
    /// Whether kubelet is asked for the pods of this node, instead of the API server. Default false. It is asked again and
    /// again, so changes are heard of later than from the API server.
    pub enabled: bool,
    /// Whether it is asked only while the API server is not heard: pods that come meanwhile then are known all the same.
    /// Default false: always, and the API server is not asked for pods.
    pub only_while_away: bool,
    /// Where kubelet answers. Default `https://127.0.0.1:10250`, with the token or certificate that `kubernetes.api` has,
    /// which must be allowed to `get` `nodes/pods` (`nodes/proxy` before Kubernetes 1.33); its read-only port is
    /// `http://127.0.0.1:10255`.
    pub url: String,
    /// File with the authorities that sign kubelet's certificate. Default: those of the API server.
    pub ca_file: Option<PathBuf>,
    /// Whether to believe kubelet whatever its certificate: many sign it themselves, and then `ca_file` is of no use. Who
    /// listens at that port of the node could then read the token.
    pub insecure_skip_verify: bool,
    /// How often it is asked, in seconds. Default 15.
    pub interval_seconds: u64,
}

impl KubeletConfig {
    /// Whether it is asked instead of the API server, as long as there is one.
    #[must_use]
    pub fn is_instead(&self, api: &ApiConfig) -> bool {
        self.enabled && !(self.only_while_away && api.is_wanted())
    }
}

impl Default for KubeletConfig {
    fn default() -> Self {
        KubeletConfig {
            enabled: false,
            only_while_away: false,
            url: "https://127.0.0.1:10250".to_owned(),
            ca_file: None,
            insecure_skip_verify: false,
            interval_seconds: 15,
        }
    }
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
