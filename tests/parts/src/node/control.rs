//! The control plane: etcd, the API server, and, where asked for, the controllers and the scheduler.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::install::Installed;
use crate::janitor::Place;
use crate::pki::{Authority, Leaf};
use crate::ports::{self, Port};
use crate::process::Process;
use crate::tools;

/// Who is audited: service accounts alone, as each request is complete. Others ask too much.
const AUDITED: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, userGroups: ['system:serviceaccounts']}
  - {level: None}
";
pub(crate) const AUDIT_LOG: &str = "audit.log";

const START: Duration = Duration::from_secs(240);

/// A running control plane.
#[derive(Debug)]
pub(crate) struct Control {
    // Those that use the others end first.
    _managers: Vec<Process>,
    api_server: Option<Process>,
    _etcd: Process,
    /// The first is where etcd answers.
    ports: Vec<Port>,
    network: Network,
    options: ServerOptions,
}

/// How the API server is to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerOptions {
    /// For how long it keeps events; an hour when it is not said.
    pub(crate) event_ttl: Option<Duration>,
    /// What goes into its audit log; what service accounts ask for when it is not said.
    pub(crate) audit_policy: Option<String>,
    /// Where it sends that, too, as a kubeconfig says it; in batches of a second.
    pub(crate) audit_webhook: Option<String>,
}

/// A network on loopback for the addresses of services.
///
/// The API server listens on its first address, port 443: that is where pods look for it.
#[derive(Debug)]
struct Network {
    number: u8,
    _held: UnixListener,
}

impl Network {
    fn reserve() -> Result<Self> {
        let free = |number| Some(Self { number, _held: ports::hold(&format!("network-{number}"))? });
        (64..128).find_map(free).context("no free network between 127.64.0.0 and 127.127.0.0")
    }

    fn api_server(&self) -> String {
        format!("127.{}.0.1", self.number)
    }

    fn services(&self) -> String {
        format!("127.{}.0.0/24", self.number)
    }
}

impl Control {
    /// Starts a control plane that keeps everything in `place`: certificates and kubeconfigs in `pki`.
    pub(crate) fn start(
        installed: &Installed,
        place: &Place,
        managers: bool,
        options: ServerOptions,
    ) -> Result<Self> {
        let network = Network::reserve()?;
        identities(&place.join("pki"), &network)?;
        let (client, peer) = (Port::reserve()?, Port::reserve()?);
        let etcd = etcd(installed, place, &client, &peer)?;
        let api_server = api_server(installed, place, &network, &client, &options)?;
        let mut ports = vec![client, peer];
        let mut running = Vec::new();
        if managers {
            for name in ["kube-controller-manager", "kube-scheduler"] {
                let port = Port::reserve()?;
                running.push(manager(installed, place, name, &port)?);
                ports.push(port);
            }
        }
        Ok(Self { _managers: running, api_server: Some(api_server), _etcd: etcd, ports, network, options })
    }

    /// The API server's process id.
    pub(crate) fn api_server_id(&self) -> Option<u32> {
        self.api_server.as_ref().map(Process::id)
    }

    /// Kills the API server with SIGKILL: it drains its watches when it is asked to end.
    pub(crate) fn kill_api_server(&mut self) {
        if let Some(server) = self.api_server.take() {
            server.kill();
        }
    }

    /// Starts the API server again, at the same address, unless it runs.
    pub(crate) fn start_api_server(&mut self, installed: &Installed, place: &Place) -> Result<()> {
        if self.api_server.is_none() {
            let server = api_server(installed, place, &self.network, &self.ports[0], &self.options)?;
            self.api_server = Some(server);
        }
        Ok(())
    }

    /// Makes etcd forget all versions but the last. Returns that.
    pub(crate) fn compact(&self) -> Result<u64> {
        let port = self.ports[0].number();
        let answer = etcd_answers(port, "/v3/maintenance/status", "{}")?;
        let status: serde_json::Value = serde_json::from_str(&answer).context("etcd answers no JSON")?;
        let revision = status["header"]["revision"].as_str().context("etcd names no revision")?.to_owned();
        etcd_answers(
            port,
            "/v3/kv/compaction",
            &format!(r#"{{"revision": "{revision}", "physical": true}}"#),
        )?;
        revision.parse().context("a revision that is no number")
    }
}

/// What etcd says to a request through its gateway for HTTP.
fn etcd_answers(port: u16, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("etcd does not answer")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("etcd's answer has no body")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "etcd answers {path} with {answer}");
    Ok(body.to_owned())
}

fn etcd(installed: &Installed, place: &Place, client: &Port, peer: &Port) -> Result<Process> {
    let url = |port: &Port| format!("http://127.0.0.1:{}", port.number());
    let (client_url, peer_url) = (url(client), url(peer));
    let mut command = installed.program("etcd");
    command
        // Nothing of a test outlives a crash of the machine.
        .args(["--name", "one", "--log-level", "warn", "--unsafe-no-fsync", "--data-dir"])
        .arg(place.join("etcd"))
        .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", &format!("one={peer_url}")]);
    let mut etcd = Process::start("etcd", command, &place.join("etcd.log"))?;
    etcd.wait_until("answer", START, || is_healthy(client.number()))?;
    Ok(etcd)
}

fn is_healthy(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
}

fn api_server(
    installed: &Installed,
    place: &Place,
    network: &Network,
    etcd: &Port,
    options: &ServerOptions,
) -> Result<Process> {
    let pki = |name: &str| place.join("pki").join(name).display().to_string();
    let mut command = installed.program("kube-apiserver");
    command.args([
        format!("--etcd-servers=http://127.0.0.1:{}", etcd.number()),
        format!("--bind-address={}", network.api_server()),
        format!("--service-cluster-ip-range={}", network.services()),
        format!("--cert-dir={}", pki("")),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--token-auth-file={}", pki("tokens.csv")),
        format!("--service-account-key-file={}", pki("accounts.pub")),
        format!("--service-account-signing-key-file={}", pki("accounts.key")),
        format!("--kubelet-client-certificate={}", pki("apiserver-kubelet.crt")),
        format!("--kubelet-client-key={}", pki("apiserver-kubelet.key")),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
    ]);
    command.args([
        "--secure-port=443",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--kubelet-preferred-address-types=InternalIP,Hostname",
        "--allow-privileged=true",
    ]);
    let policy = place.join("audit-policy.yaml");
    tools::write(&policy, options.audit_policy.as_deref().unwrap_or(AUDITED))?;
    command.args([
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", place.join(AUDIT_LOG).display()),
        "--audit-log-mode=blocking".to_owned(),
    ]);
    if let Some(text) = &options.audit_webhook {
        let kubeconfig = place.join("audit-webhook.kubeconfig");
        tools::write(&kubeconfig, text)?;
        command.arg(format!("--audit-webhook-config-file={}", kubeconfig.display()));
        command.args(["--audit-webhook-batch-max-wait=1s", "--audit-webhook-initial-backoff=1s"]);
    }
    if let Some(ttl) = options.event_ttl {
        command.arg(format!("--event-ttl={}s", ttl.as_secs()));
    }
    let mut server = Process::start("kube-apiserver", command, &place.join("apiserver.log"))?;
    server
        .wait_until("readiness", START, || ready(kubectl(installed, place).args(["get", "--raw=/readyz"])))?;
    Ok(server)
}

fn ready(kubectl: &mut Command) -> bool {
    tools::run(kubectl).is_ok_and(|answer| answer == b"ok")
}

fn manager(installed: &Installed, place: &Place, name: &'static str, port: &Port) -> Result<Process> {
    let admin = place.join("pki/admin.kubeconfig").display().to_string();
    let mut command = installed.program(name);
    command.args([
        format!("--kubeconfig={admin}"),
        format!("--authentication-kubeconfig={admin}"),
        format!("--authorization-kubeconfig={admin}"),
        format!("--cert-dir={}", place.join("pki").display()),
        format!("--secure-port={}", port.number()),
        "--bind-address=127.0.0.1".to_owned(),
        "--leader-elect=false".to_owned(),
    ]);
    if name == "kube-controller-manager" {
        command.arg(format!("--root-ca-file={}", place.join("pki/ca.crt").display()));
        command
            .arg(format!("--service-account-private-key-file={}", place.join("pki/accounts.key").display()));
    }
    let mut manager = Process::start(name, command, &place.join(&format!("{name}.log")))?;
    manager.wait_until("answer", START, || port.accepts())?;
    Ok(manager)
}

/// A `kubectl` command of the administrator.
pub(crate) fn kubectl(installed: &Installed, place: &Place) -> Command {
    let mut kubectl = installed.program("kubectl");
    kubectl
        .env("KUBECONFIG", place.join("pki/admin.kubeconfig"))
        .arg(format!("--cache-dir={}", place.join("kubectl").display()));
    kubectl
}

/// Makes certificates, tokens and kubeconfigs for everyone who takes part.
fn identities(pki: &Path, network: &Network) -> Result<()> {
    let authority = Authority::new(pki)?;
    let address = network.api_server();
    let names = "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc";
    let api_server = format!("IP:127.0.0.1,IP:{address},{names}");
    let leaves = [
        ("apiserver", "/CN=kube-apiserver", "serverAuth", api_server.as_str()),
        ("apiserver-kubelet", "/CN=kube-apiserver-kubelet-client/O=system:masters", "clientAuth", ""),
        ("kubelet", "/CN=system:node:127.0.0.1/O=system:nodes", "serverAuth,clientAuth", "IP:127.0.0.1"),
    ];
    for (name, subject, usage, alternatives) in leaves {
        authority.issue(&Leaf { name, subject, usage, alternatives })?;
    }
    authority.key_pair("accounts")?;
    let (admin, kubelet) = (token()?, token()?);
    let tokens = format!(
        "{admin},admin,admin,\"system:masters\"\n{kubelet},system:node:127.0.0.1,kubelet,\"system:nodes\"\n"
    );
    tools::write(&pki.join("tokens.csv"), tokens)?;
    for (name, token) in [("admin", admin), ("kubelet", kubelet)] {
        let text = kubeconfig(&address, &authority.certificate(), &token);
        tools::write(&pki.join(format!("{name}.kubeconfig")), text)?;
    }
    Ok(())
}

fn kubeconfig(address: &str, authority: &Path, token: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: parts
  cluster: {{server: \"https://{address}:443\", certificate-authority: \"{}\"}}
users:
- name: user
  user: {{token: \"{token}\"}}
contexts:
- name: parts
  context: {{cluster: parts, user: user}}
current-context: parts
",
        authority.display()
    )
}

fn token() -> Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("no random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
