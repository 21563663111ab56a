//! A real Kubernetes node: etcd, API server, kubelet, containerd and runc.
//!
//! Kubelet writes, rotates and compresses the logs of real pods as it does on any node. It lives in mount and
//! process namespaces of its own; its `/var/log/pods` is seen from outside at [`Node::pod_logs`].
//!
//! Pods use the machine's network (`hostNetwork: true`); others wait for a sandbox for ever. Without
//! [`NodeOptions::controllers`] there is no scheduler: pods name their node, [`NAME`].
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use taffrail_parts::node::{Node, NodeOptions, pod};
//!
//! let node = Node::start(NodeOptions::default())?;
//! node.apply(&pod("talker", "echo ahoy"))?;
//! node.wait_for_pod("default", "talker", "Succeeded")?;
//! let logs = node.logs_of("default", "talker")?; // <pod_logs>/default_talker_<uid>
//! # let _ = logs; Ok(())
//! # }
//! ```

mod control;
mod control_plane;
mod install;
mod settings;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::cgroup::Cgroup;
use crate::image;
pub use crate::image::IMAGE;
use crate::janitor::Place;
use crate::ports::Port;
use crate::process::Process;
use crate::{packages, tools};
use control::{Control, ServerOptions};
pub use control_plane::ControlPlane;
use install::Installed;
pub(crate) use install::{ENTRY, version};

/// The node's name, also its address.
pub const NAME: &str = "127.0.0.1";

const APART: &str = include_str!("../../scripts/apart.sh");
const SCRIPT: &str = include_str!("../../scripts/node.sh");
const START: Duration = Duration::from_secs(240);
const POD: Duration = Duration::from_secs(240);

/// How a node is to be.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The size at which kubelet rotates a container's log, as Kubernetes writes quantities: `64Ki`.
    pub log_max_size: String,
    /// How many files of a container kubelet keeps, at least 2.
    pub log_max_files: u32,
    /// How often kubelet looks at the sizes; it takes no less than 3 seconds.
    pub log_monitor_interval: Duration,
    /// Also runs the controller manager and the scheduler: Deployments, DaemonSets, namespaces that fill themselves.
    pub controllers: bool,
    /// For how long the API server keeps events; an hour when it is not said.
    pub event_ttl: Option<Duration>,
    /// What goes into the API server's audit log, as an audit policy; what service accounts ask for when it is not said.
    pub audit_policy: Option<String>,
    /// Where the API server sends its audit log, as a kubeconfig, besides to its file.
    pub audit_webhook: Option<String>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            log_max_size: "10Mi".to_owned(),
            log_max_files: 5,
            log_monitor_interval: Duration::from_secs(10),
            controllers: false,
            event_ttl: None,
            audit_policy: None,
            audit_webhook: None,
        }
    }
}

/// A running node; ends with its pods when dropped.
#[derive(Debug)]
pub struct Node {
    // In this order: kubelet and its pods end before what they talk to, and all before the folder goes.
    kubelet: Process,
    control: Control,
    /// Kubelet's own, that of its health, and that which wants no credentials.
    ports: [Port; 3],
    installed: Installed,
    options: NodeOptions,
    place: Place,
}

impl Node {
    /// Builds the node's programs unless the cache has them, starts the node and waits until it is ready.
    pub fn start(options: NodeOptions) -> Result<Self> {
        let installed = Installed::get()?;
        if !nix::unistd::geteuid().is_root() {
            bail!("a Kubernetes node needs root");
        }
        let mut place = Place::new("node")?;
        let group = Cgroup::of(&mut place)?;
        group.create()?;
        let ports = [Port::reserve()?, Port::reserve()?, Port::reserve()?];
        write_files(&options, &place, &installed, &group, &ports)?;
        let server = ServerOptions {
            event_ttl: options.event_ttl,
            audit_policy: options.audit_policy.clone(),
            audit_webhook: options.audit_webhook.clone(),
        };
        let control = Control::start(&installed, &place, options.controllers, server)?;
        let kubelet = start_kubelet(&place, &installed)?;
        let mut node = Self { kubelet, control, ports, installed, options, place };
        node.wait_until_ready()?;
        if !node.options.controllers {
            node.furnish("default")?;
        }
        Ok(node)
    }

    /// Builds the node's programs unless the cache has them, and installs the packages they need.
    pub fn fetch() -> Result<()> {
        Installed::get().map(drop)
    }

    /// The folder where kubelet keeps the logs of pods, seen from outside the node.
    pub fn pod_logs(&self) -> PathBuf {
        self.place.join("log/pods")
    }

    /// The folder of links to the current log of each container. They lead to paths inside the node.
    pub fn container_logs(&self) -> PathBuf {
        self.place.join("log/containers")
    }

    /// The socket of the node's containerd, seen from outside.
    pub fn runtime(&self) -> PathBuf {
        self.place.join("run/containerd/containerd.sock")
    }

    /// The root of all files as the node sees them.
    pub fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.kubelet.id()).into()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.place.join("pki/admin.kubeconfig")
    }

    /// The API server's log of what service accounts asked for: see [`ControlPlane::audit_log`].
    pub fn audit_log(&self) -> PathBuf {
        self.place.join(control::AUDIT_LOG)
    }

    /// A command on the node, as somebody who has logged in there.
    pub fn on_node(&self, program: &str) -> Command {
        let id = self.kubelet.id();
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{id}/ns/mnt"))
            .arg(format!("--pid=/proc/{id}/ns/pid_for_children"));
        command.args(["--", program]);
        packages::with_programs_for_root(&mut command);
        command
    }

    /// The node's `/proc`, seen from outside: its processes have other numbers there.
    pub fn proc(&self) -> PathBuf {
        Path::new("/proc").join(self.kubelet.id().to_string()).join("root/proc")
    }

    /// Kubelet's own log.
    pub fn log(&self) -> PathBuf {
        self.place.join("kubelet.log")
    }

    /// A `kubectl` command of the administrator.
    pub fn kubectl<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut kubectl = control::kubectl(&self.installed, &self.place);
        kubectl.args(arguments);
        kubectl
    }

    /// The start of a shell's line that runs `kubectl`: the program and where it keeps what it learns.
    pub fn kubectl_line(&self) -> String {
        let (program, cache) = (self.installed.file(), self.place.join("kubectl"));
        format!("{} kubectl --cache-dir={}", program.display(), cache.display())
    }

    /// Runs a `kubectl` command to its end; what it printed.
    pub fn output<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        Ok(String::from_utf8_lossy(&tools::run(&mut self.kubectl(arguments))?).into_owned())
    }

    /// Where kubelet itself answers.
    pub fn kubelet_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[0].number())
    }

    /// Where kubelet tells of its pods to anybody.
    pub fn kubelet_read_only_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[2].number())
    }

    /// Kills the API server with SIGKILL. Its address stays.
    pub fn kill_api_server(&mut self) {
        self.control.kill_api_server();
    }

    /// Starts the API server again, at the same address.
    pub fn start_api_server(&mut self) -> Result<()> {
        self.control.start_api_server(&self.installed, &self.place)
    }

    /// What kubelet itself answers at a path such as `/metrics/cadvisor`.
    pub fn kubelet(&self, path: &str) -> Result<String> {
        // The API server passes nothing on to a node on loopback.
        let server = format!("--server={}", self.kubelet_url());
        self.output(&[&server, "get", "--raw", path])
    }

    /// Creates or changes objects, such as [`pod`] makes.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let mut kubectl = self
            .kubectl(&["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run kubectl")?;
        kubectl.stdin.take().context("kubectl has no input")?.write_all(object.to_string().as_bytes())?;
        let output = kubectl.wait_with_output().context("cannot wait for kubectl")?;
        if !output.status.success() {
            bail!("kubectl apply failed: {}", tools::last_lines(&output.stderr, 10));
        }
        Ok(())
    }

    /// Creates a namespace in which pods can run.
    pub fn create_namespace(&self, name: &str) -> Result<()> {
        self.output(&["create", "namespace", name])?;
        if self.options.controllers { Ok(()) } else { self.furnish(name) }
    }

    /// Gives the node an image, from an archive as `docker save` writes it.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(self.runtime()).args(["--namespace", "k8s.io", "images", "import"]);
        packages::with_programs_for_root(&mut ctr);
        tools::run(ctr.arg(archive)).map(drop)
    }

    /// Waits until a pod has reached a phase: `Running`, `Succeeded`, `Failed`.
    pub fn wait_for_pod(&self, namespace: &str, pod: &str, phase: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            let found = self.output(&[
                "--namespace",
                namespace,
                "get",
                "pod",
                pod,
                "-o",
                "jsonpath={.status.phase}",
            ])?;
            if found == phase {
                return Ok(());
            }
            if start.elapsed() > POD || (found == "Failed" || found == "Succeeded") {
                let state = self.output(&["--namespace", namespace, "describe", "pod", pod])?;
                bail!("pod {pod} is {found}, not {phase}:\n{state}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Deletes a pod and waits until it is gone, and its logs with it.
    pub fn delete_pod(&self, namespace: &str, pod: &str) -> Result<()> {
        self.output(&["--namespace", namespace, "delete", "pod", pod, "--grace-period=1"]).map(drop)
    }

    /// The folder of a pod's logs, seen from outside: `<namespace>_<pod>_<uid>`.
    pub fn logs_of(&self, namespace: &str, pod: &str) -> Result<PathBuf> {
        let uid =
            self.output(&["--namespace", namespace, "get", "pod", pod, "-o", "jsonpath={.metadata.uid}"])?;
        Ok(self.pod_logs().join(format!("{namespace}_{pod}_{uid}")))
    }

    /// What the controller manager would do for a new namespace.
    fn furnish(&self, namespace: &str) -> Result<()> {
        let metadata = |name: &str| json!({ "name": name, "namespace": namespace });
        let authority = std::fs::read_to_string(self.place.join("pki/ca.crt"))?;
        self.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("default") },
            { "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("kube-root-ca.crt"), "data": { "ca.crt": authority } },
        ]}))
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        const READY: &str = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        let (installed, place) = (&self.installed, &self.place);
        self.kubelet.wait_until("ready node", START, || {
            let mut kubectl = control::kubectl(installed, place);
            tools::run(kubectl.args(["get", "node", NAME, "-o", READY])).is_ok_and(|status| status == b"True")
        })
    }
}

/// A pod on this node whose one container, `main`, runs a shell script once.
///
/// An object to be changed as a test likes, then given to [`Node::apply`].
pub fn pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "nodeName": NAME,
            "hostNetwork": true,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "containers": [{ "name": "main", "image": IMAGE, "command": ["sh", "-c", script] }],
        },
    })
}

/// What `kubectl run --overrides` takes for a pod that can run on this node.
pub fn overrides() -> String {
    json!({ "spec": { "nodeName": NAME, "hostNetwork": true, "automountServiceAccountToken": false } })
        .to_string()
}

fn write_files(
    options: &NodeOptions,
    place: &Place,
    installed: &Installed,
    group: &Cgroup,
    ports: &[Port; 3],
) -> Result<()> {
    let path = |name: &str| place.join(name).display().to_string();
    for folder in ["images", "network"] {
        tools::create_folder(&place.join(folder))?;
    }
    let numbers = ports.each_ref().map(Port::number);
    let kubelet = settings::kubelet(options, &path("pki"), &group.name(), numbers);
    tools::write(&place.join("kubelet.yaml"), kubelet)?;
    tools::write(&place.join("containerd.toml"), settings::containerd(&path("network")))?;
    tools::write(&place.join("network/10-none.conflist"), settings::NO_NETWORK)?;
    image::busybox(&place.join("image"), &place.join("images/busybox.tar"))?;
    std::fs::copy(installed.pause_image(), place.join("images/pause.tar"))
        .context("cannot copy the pause image")?;
    Ok(())
}

fn start_kubelet(place: &Place, installed: &Installed) -> Result<Process> {
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"])
        .args(["sh", "-c"])
        .arg(format!("{APART}\n{SCRIPT}"))
        .arg("node")
        .arg(place.path())
        .arg(installed.file());
    packages::with_programs_for_root(&mut unshare);
    Process::start("kubelet", unshare, &place.join("kubelet.log"))
}
