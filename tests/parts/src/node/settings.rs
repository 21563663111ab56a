//! The configuration files of kubelet and containerd.

use super::NodeOptions;
use super::install::PAUSE_IMAGE;

/// Kubelet's configuration. Paths are those inside the node's own mount namespace.
/// Ports are its own, that of its health, and that which wants no credentials.
pub(crate) fn kubelet(options: &NodeOptions, pki: &str, cgroup: &str, ports: [u16; 3]) -> String {
    let [port, health_port, read_only_port] = ports;
    let NodeOptions { log_max_size, log_max_files, log_monitor_interval, .. } = options;
    let interval = log_monitor_interval.as_millis();
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: {port}
healthzBindAddress: 127.0.0.1
healthzPort: {health_port}
readOnlyPort: {read_only_port}
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true, cacheTTL: 2s}}
  x509: {{clientCAFile: {pki}/ca.crt}}
authorization:
  mode: Webhook
  webhook: {{cacheAuthorizedTTL: 2s, cacheUnauthorizedTTL: 2s}}
tlsCertFile: {pki}/kubelet.crt
tlsPrivateKeyFile: {pki}/kubelet.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: {cgroup}
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
# The machine is shared with the tests: nothing is evicted, whatever its disks and memory are like.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {{memory.available: \"0%\", nodefs.available: \"0%\", nodefs.inodesFree: \"0%\", imagefs.available: \"0%\"}}
makeIPTablesUtilChains: false
resolvConf: \"\"
containerLogMaxSize: \"{log_max_size}\"
containerLogMaxFiles: {log_max_files}
containerLogMonitorInterval: {interval}ms
nodeStatusUpdateFrequency: 5s
syncFrequency: 5s
volumeStatsAggPeriod: 10s
"
    )
}

/// Containerd's configuration. `SNAPSHOTTER` is filled in once it is known what the machine can do.
pub(crate) fn containerd(network: &str) -> String {
    format!(
        "version = 2
root = \"/var/lib/containerd\"
state = \"/run/containerd\"
disabled_plugins = [\"io.containerd.internal.v1.opt\", \"io.containerd.internal.v1.tracing\", \"io.containerd.tracing.processor.v1.otlp\"]

[grpc]
  address = \"/run/containerd/containerd.sock\"

[plugins.\"io.containerd.grpc.v1.cri\"]
  sandbox_image = \"{PAUSE_IMAGE}\"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = \"127.0.0.1\"

  [plugins.\"io.containerd.grpc.v1.cri\".cni]
    bin_dir = \"/usr/lib/cni\"
    conf_dir = \"{network}\"

  [plugins.\"io.containerd.grpc.v1.cri\".containerd]
    snapshotter = \"SNAPSHOTTER\"

    [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]
      runtime_type = \"io.containerd.runc.v2\"

      [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]
        SystemdCgroup = false
"
    )
}

/// A network that makes containerd ready: pods use the machine's own, others get no sandbox.
pub(crate) const NO_NETWORK: &str =
    r#"{"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "loopback"}]}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn options_arrive_in_kubelets_configuration() {
        let options = NodeOptions {
            log_max_size: "64Ki".into(),
            log_max_files: 3,
            log_monitor_interval: Duration::from_millis(3500),
            ..NodeOptions::default()
        };
        let text = kubelet(&options, "/pki", "/group", [1, 2, 3]);
        for line in [
            "containerLogMaxSize: \"64Ki\"",
            "containerLogMaxFiles: 3",
            "containerLogMonitorInterval: 3500ms",
            "cgroupRoot: /group",
            "port: 1",
            "healthzPort: 2",
            "readOnlyPort: 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
