//! Who asked for a session, on a real Kubernetes node: what the API server tells, by webhook and by its audit log, is the user who
//! came; and who came past it is found.

mod support;

use std::fs;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{Agent, put, until_within};
use taffrail_parts::node::{IMAGE, NAME, Node, NodeOptions, pod};
use taffrail_parts::{packages, terminal};

const PATIENCE: Duration = Duration::from_secs(60);
/// In the namespace `default`, by the service accounts of these names.
const ANA: &str = "system:serviceaccount:default:ana";
const BEN: &str = "system:serviceaccount:default:ben";

const RBAC: &str = include_str!("../../../deploy/kubernetes/rbac.yaml");

const ROLES: &str = "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: guests}
rules:
- {apiGroups: [''], resources: [pods], verbs: [get, list, watch]}
- {apiGroups: [''], resources: [pods/exec, pods/attach], verbs: [get, create]}
- {apiGroups: [''], resources: [pods/ephemeralcontainers], verbs: [get, update, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: guests}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: guests}
subjects:
- {kind: ServiceAccount, name: ana, namespace: default}
- {kind: ServiceAccount, name: ben, namespace: default}
";

/// A node with a pod and two users, and an agent's own folders.
struct World {
    node: Node,
    folder: tempfile::TempDir,
    ana: String,
    ben: String,
}

impl World {
    fn new(options: NodeOptions) -> Result<World> {
        let node = Node::start(options)?;
        let folder = tempfile::tempdir()?;
        for name in ["ana", "ben"] {
            node.output(&["create", "serviceaccount", name])?;
        }
        support::apply(node.kubectl(&["apply", "-f", "-"]), ROLES)?;
        let token =
            |name| -> Result<String> { Ok(node.output(&["create", "token", name])?.trim().to_owned()) };
        let (ana, ben) = (token("ana")?, token("ben")?);
        let mut shop = pod("shop", "sleep 100000");
        let container = &mut shop["spec"]["containers"][0];
        container["stdin"] = json!(true);
        // Nobody asks for these.
        container["readinessProbe"] = json!({"exec": {"command": ["true"]}, "periodSeconds": 1});
        container["lifecycle"] = json!({"postStart": {"exec": {"command": ["sh", "-c", "true"]}}});
        node.apply(&shop)?;
        node.wait_for_pod("default", "shop", "Running")?;
        let world = World { node, folder, ana, ben };
        fs::create_dir(world.bpffs())?;
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(world.bpffs()).status()?;
        ensure!(mounted.success(), "no bpffs");
        Ok(world)
    }

    fn bpffs(&self) -> PathBuf {
        self.folder.path().join("bpf")
    }

    fn records(&self) -> PathBuf {
        self.folder.path().join("records")
    }

    /// An agent that audits, and hears of requests so.
    fn agent(&self, requests: &str) -> Result<Agent> {
        self.agent_as(&self.node.kubeconfig(), requests)
    }

    /// The same, as somebody else than the cluster's administrator.
    fn agent_as(&self, kubeconfig: &Path, requests: &str) -> Result<Agent> {
        Agent::new(&format!(
            "node: {{name: {NAME}}}\ndocker: {{enabled: never}}\ncri: {{enabled: never}}\n\
             logs: {{kubernetes: {{enabled: false}}}}\nmetrics: {{containers: {{enabled: false}}}}\n\
             kubernetes: {{api: {{kubeconfig: {}}}}}\noutput: {{file: {{directory: {}}}}}\n\
             audit: {{enabled: true, bpffs: {}, requests: {requests}}}\n",
            kubeconfig.display(),
            self.records().display(),
            self.bpffs().display()
        ))
    }

    /// The kubeconfig of the agent's own service account, with what its manifests grant.
    fn of_agent(&self) -> Result<PathBuf> {
        let namespaced =
            |words: &[&str]| self.node.output(&[&["--namespace", "taffrail", "create"], words].concat());
        namespaced(&["serviceaccount", "taffrail"])?;
        support::apply(self.node.kubectl(&["apply", "-f", "-"]), RBAC)?;
        let token = namespaced(&["token", "taffrail"])?;
        let admin = fs::read_to_string(self.node.kubeconfig())?;
        let secret =
            admin.split("token: \"").nth(1).and_then(|rest| rest.split('"').next()).context("no token")?;
        let kubeconfig = self.folder.path().join("kubeconfig");
        put(&kubeconfig, admin.replace(secret, token.trim()).as_bytes())?;
        Ok(kubeconfig)
    }

    /// `kubectl` of a user.
    fn kubectl(&self, token: &str, arguments: &[&str]) -> Command {
        let mut kubectl = self.node.kubectl(&["--token", token]);
        kubectl.args(arguments).stdin(Stdio::null());
        kubectl
    }

    /// A client that is attached to the pod's first process.
    fn attach(&self, token: &str) -> Result<Child> {
        let quiet = |mut kubectl: Command| kubectl.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(quiet(self.kubectl(token, &["attach", "shop"]))?)
    }

    fn exec(&self, token: &str, script: &str) -> Result<()> {
        let output = self.kubectl(token, &["exec", "shop", "--", "sh", "-c", script]).output()?;
        ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// All documents of the audit so far.
    fn documents(&self) -> Result<Vec<Value>> {
        let mut documents = Vec::new();
        for entry in fs::read_dir(self.records())? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("audit-")) {
                let text = fs::read_to_string(path)?;
                let whole = text.rfind('\n').map_or("", |end| &text[..end]);
                for line in whole.lines() {
                    documents.push(serde_json::from_str(line)?);
                }
            }
        }
        Ok(documents)
    }

    /// The end of the session of this script, and all of its documents.
    fn session(&self, script: &str) -> Result<(Value, Vec<Value>)> {
        let command = json!(["sh", "-c", script]);
        let is_end = |document: &&Value| {
            document["event"]["action"] == "session-ended" && document["process"]["args"] == command
        };
        let mut found = (Value::Null, Vec::new());
        until_within(PATIENCE, &format!("the end of `{script}`"), || {
            let documents = self.documents()?;
            let Some(end) = documents.iter().find(is_end).cloned() else { return Ok(false) };
            let id = end["audit"]["session"]["id"].clone();
            let of =
                documents.into_iter().filter(|document| document["audit"]["session"]["id"] == id).collect();
            found = (end, of);
            Ok(true)
        })?;
        Ok(found)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.bpffs()).status();
    }
}

fn start(agent: &mut Agent) -> Result<()> {
    agent.start()?;
    until_within(PATIENCE, "the probe in the kernel, and somebody who tells of requests", || {
        Ok(agent.metric("taffrail_audit_tier{tier=\"probe\"}")? == Some(1.0)
            && agent.metric("taffrail_audit_requests_trouble")? == Some(0.0))
    })?;
    // Who asked before that may have been missed, and then nobody is called out-of-band.
    std::thread::sleep(Duration::from_secs(11));
    Ok(())
}

/// A port that is free now.
fn port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// What the agent's own command prints for a webhook at this port: all of it, and the files of its Secret.
struct Webhook {
    text: String,
    files: tempfile::TempDir,
}

impl Webhook {
    fn make(port: u16) -> Result<Webhook> {
        let url = format!("https://127.0.0.1:{port}");
        let made =
            Command::new(taffrail_suite::program()?).args(["audit-webhook", "--url", &url]).output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let text = String::from_utf8(made.stdout)?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        let secret = documents.iter().find(|document| document["kind"] == "Secret").context("no Secret")?;
        let files = tempfile::tempdir()?;
        for (name, content) in secret["stringData"].as_object().context("no files")? {
            put(&files.path().join(name), content.as_str().context("no text")?.as_bytes())?;
        }
        Ok(Webhook { text, files })
    }

    fn file(&self, name: &str) -> Result<String> {
        Ok(fs::read_to_string(self.files.path().join(name))?.trim().to_owned())
    }

    /// In the cluster.
    fn apply(&self, node: &Node) -> Result<()> {
        node.output(&["create", "namespace", "taffrail"])?;
        support::apply(node.kubectl(&["apply", "-f", "-"]), &self.text)
    }

    /// What an agent is told of it.
    fn settings(&self, listen: &str) -> String {
        format!("listen: '{listen}', credentials_directory: {}", self.files.path().display())
    }

    /// The status with which an agent answers this body at a path behind the secret, or behind another one.
    fn status(&self, port: u16, secret: Option<&str>, what: &str, body: &str) -> Result<String> {
        packages::ensure(&[("curl", "curl")])?;
        let sent = tempfile::NamedTempFile::new()?;
        put(sent.path(), body.as_bytes())?;
        let own = self.file("token")?;
        let url = format!("https://127.0.0.1:{port}/{}/{what}", secret.unwrap_or(&own));
        let output = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
            .arg(self.files.path().join("ca.crt"))
            .args(["--data-binary", &format!("@{}", sent.path().display()), &url])
            .output()?;
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn known(end: &Value) -> (&str, &str, &str) {
    let text = |pointer: &str| end.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    (text("/audit/session/origin"), text("/audit/attribution/known"), text("/client/user/name"))
}

impl World {
    /// The session of this script came about so, and all of its documents say so.
    fn is_known(&self, script: &str, expected: (&str, &str, &str)) -> Result<Value> {
        let (end, documents) = self.session(script)?;
        ensure!(known(&end) == expected, "{script}: {end:#}\n{documents:#?}");
        let told: Vec<&Value> =
            documents.iter().filter(|document| document["event"]["action"] == "session-attributed").collect();
        ensure!(
            end["audit"]["attribution"]["documents"] == told.len() && !told.is_empty(),
            "{script}: {told:#?}"
        );
        ensure!(known(told[told.len() - 1]) == expected, "{script}: {told:#?}");
        ensure!(end["audit"]["session"]["complete"] == true, "{end:#}");
        Ok(end)
    }

    /// Runs the client on a terminal of its own.
    fn with_terminal(&self, token: &str, script: &str) -> Result<()> {
        let kubeconfig = format!("KUBECONFIG={}", self.node.kubeconfig().display());
        let line = format!(
            "{kubeconfig} {} --token {token} exec -it shop -- sh -c '{script}'",
            self.node.kubectl_line()
        );
        terminal::shown(&line, &[]).map(drop)
    }

    /// Asks kubelet itself, as its administrator.
    fn at_kubelet(&self, script: &str) -> Result<()> {
        // Kubelet takes it apart at spaces.
        let path = format!("/run/default/shop/main?cmd=sh%20-c%20{script}");
        let server = format!("--server={}", self.node.kubelet_url());
        self.node.output(&[&server, "create", "--raw", &path, "-f", "/dev/null"]).map(drop)
    }

    /// By the runtime itself, as root on the node.
    fn by_ctr(&self, script: &str) -> Result<()> {
        let id = self.node.output(&[
            "get",
            "pod",
            "shop",
            "-o",
            "jsonpath={.status.containerStatuses[0].containerID}",
        ])?;
        let id = id.trim_start_matches("containerd://").to_owned();
        let mut ctr = self.node.on_node("ctr");
        ctr.args(["--namespace", "k8s.io", "tasks", "exec", "--exec-id", "by-ctr", &id, "sh", "-c", script]);
        let output = ctr.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// The session of somebody who is attached, once a document with this action has come.
    fn attached(&self, user: &str, action: &str) -> Result<Value> {
        let mut found = Value::Null;
        until_within(PATIENCE, &format!("{action} of {user} who is attached"), || {
            let is_of = |document: &&Value| {
                document["audit"]["session"]["origin"] == "attach"
                    && document["event"]["action"] == action
                    && document["client"]["user"]["name"] == user
            };
            let document = self.documents()?.iter().find(is_of).cloned();
            found = document.unwrap_or_default();
            Ok(!found.is_null())
        })?;
        Ok(found)
    }
}

/// `taffrail verify` finds everything.
fn verify(world: &World) -> Result<()> {
    let output = Command::new(taffrail_suite::program()?).arg("verify").arg(world.records()).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// What `taffrail sessions` prints.
fn listed(agent: &Agent, arguments: &[&str]) -> Result<String> {
    let output = agent.command("sessions")?.args(arguments).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn the_webhook_names_the_user_and_who_comes_past_the_api_server_is_found() -> Result<()> {
    let world = World::new(NodeOptions::default())?;
    let port = port()?;
    let webhook = Webhook::make(port)?;
    webhook.apply(&world.node)?;
    let mut agent = world.agent(&format!("{{{}}}", webhook.settings(&format!("127.0.0.1:{port}"))))?;
    start(&mut agent)?;
    world.exec(&world.ana, "echo of ana")?;
    world.exec(&world.ben, "echo of ben")?;
    world.with_terminal(&world.ben, "tty; exit 0")?;
    // Both want the same at the same time: each of them is named once, and that it may be the other way round is said.
    std::thread::scope(|scope| {
        let both = [&world.ana, &world.ben].map(|token| scope.spawn(|| world.exec(token, "sleep 1 # both")));
        both.into_iter().try_for_each(|one| one.join().expect("no panic"))
    })?;
    world.at_kubelet("id")?;
    world.by_ctr("exit 0 # ctr")?;
    let mut attached = world.attach(&world.ana)?;
    let debugged = world
        .kubectl(
            &world.ben,
            &["debug", "shop", "--image", IMAGE, "-c", "look", "--", "sh", "-c", "exit 0 # debug"],
        )
        .output()?;
    ensure!(debugged.status.success(), "{}", String::from_utf8_lossy(&debugged.stderr));

    let end = world.is_known("echo of ana", ("exec", "known", ANA))?;
    let groups = end["client"]["user"]["group"]["name"].to_string();
    ensure!(groups.contains("system:serviceaccounts"), "{groups}");
    ensure!(end["audit"]["request"]["sources"] == json!(["webhook"]), "{end:#}");
    world.is_known("echo of ben", ("exec", "known", BEN))?;
    let end = world.is_known("tty; exit 0", ("exec", "known", BEN))?;
    ensure!(end["process"]["tty"]["name"].as_str().is_some_and(|tty| tty.starts_with("pts")), "{end:#}");
    let mut users = Vec::new();
    until_within(PATIENCE, "the ends of two sessions at once", || {
        let is_of = |document: &Value| {
            document["event"]["action"] == "session-ended"
                && document["process"]["args"][2] == "sleep 1 # both"
        };
        let ends: Vec<Value> = world.documents()?.into_iter().filter(is_of).collect();
        users = ends.iter().map(|end| known(end).2.to_owned()).collect();
        Ok(ends.len() == 2)
    })?;
    users.sort();
    ensure!(users == [ANA, BEN], "{users:?}");
    let end = world.is_known("id", ("out-of-band", "out-of-band", ""))?;
    ensure!(
        end["audit"]["attribution"]["reason"].as_str().is_some_and(|it| it.contains("no request")),
        "{end:#}"
    );
    world.is_known("exit 0 # ctr", ("out-of-band", "out-of-band", ""))?;
    world.is_known("exit 0 # debug", ("debug", "known", BEN))?;
    for probe in
        world.documents()?.iter().filter(|document| document["audit"]["session"]["origin"] == "probe")
    {
        ensure!(probe["audit"]["attribution"].is_null(), "nobody is asked for a probe: {probe:#}");
    }
    ensure!(agent.metric("taffrail_audit_sessions_total{origin=\"probe\"}")? > Some(5.0));
    world.attached(ANA, "session-attributed")?;

    // The agent lists them by who it was.
    let of_ana = listed(&agent, &["--user", ANA])?;
    ensure!(of_ana.contains("echo of ana") && !of_ana.contains("echo of ben"), "{of_ana}");
    ensure!(listed(&agent, &["--origin", "attach", "--live"])?.contains(ANA));
    let of_nobody = listed(&agent, &["--origin", "out-of-band"])?;
    ensure!(of_nobody.contains("\tnobody\t") && of_nobody.contains("# ctr"), "{of_nobody}");
    let id = of_ana
        .lines()
        .find_map(|line| line.contains("echo of ana").then(|| line.split('\t').next()))
        .flatten();
    let shown = listed(&agent, &["show", id.context("no id")?])?;
    ensure!(shown.contains(&format!("  asked    {ANA}; groups ")), "{shown}");
    for (known, count) in [("known", 5.0), ("out-of-band", 2.0), ("unknown", 0.0)] {
        let series = format!("taffrail_audit_sessions_attributed_total{{known=\"{known}\"}}");
        ensure!(agent.metric(&series)? >= Some(count), "{series} {}", agent.metrics()?);
    }
    ensure!(agent.log()?.contains("who has not asked the API server for it"));

    // Nobody is heard who does not know the secret, and nothing that is sent does any harm.
    let other = "x".repeat(43);
    for (secret, what, body, status) in [
        (Some(other.as_str()), "admission", "{}", "404"),
        (Some(""), "admission", "{}", "404"),
        (None, "metrics", "{}", "404"),
        (None, "admission", "{}", "400"),
        (None, "admission", "{\"request\": {\"userInfo\": 7}}", "400"),
        (None, "events", "nonsense", "400"),
        (None, "requests", "{\"asked\": \"exec\"}", "400"),
        (None, "events", &" ".repeat(9 << 20), "413"),
    ] {
        let said = webhook.status(port, secret, what, body)?;
        ensure!(said == status, "{what} {body:.40}: {said}, not {status}");
    }
    for (reason, count) in [("stranger", 2.0), ("malformed", 4.0), ("too_much", 1.0)] {
        let series = format!("taffrail_audit_requests_refused_total{{reason=\"{reason}\"}}");
        ensure!(agent.metric(&series)? == Some(count), "{}", agent.metrics()?);
    }
    ensure!(!agent.log()?.contains(&webhook.file("token")?), "the secret is in the log");

    // What somebody is attached to ends with the container, when nobody says more.
    attached.kill()?;
    attached.wait()?;
    world.node.delete_pod("default", "shop")?;
    let end = world.attached(ANA, "session-ended")?;
    ensure!(end["audit"]["session"]["gaps"].to_string().contains("when it was left is not known"), "{end:#}");

    // Another certificate and secret are taken while it runs, and those of before are no good any more.
    let (before, renewed) = (webhook.file("token")?, Webhook::make(port)?);
    for name in ["tls.crt", "tls.key", "ca.crt", "token"] {
        fs::copy(renewed.files.path().join(name), webhook.files.path().join(name))?;
    }
    until_within(PATIENCE, "the other secret", || {
        Ok(renewed.status(port, None, "admission", "{}")? == "400")
    })?;
    ensure!(renewed.status(port, Some(&before), "admission", "{}")? == "404");
    let ends =
        agent.metric("taffrail_audit_requests_certificate_end_timestamp_seconds")?.context("no end")?;
    let left = ends - std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
    ensure!((9.9..10.1).contains(&(left / 86400.0 / 365.25)), "{left}");
    agent.stop()?;
    verify(&world)
}

/// As it is sent and as it is read: with the policy that the agent comes with.
#[test]
fn the_audit_log_names_the_user_and_when_somebody_has_left() -> Result<()> {
    let port = port()?;
    let webhook = Webhook::make(port)?;
    let world = World::new(NodeOptions {
        audit_policy: Some(include_str!("../../../deploy/kubernetes/audit-policy.yaml").to_owned()),
        audit_webhook: Some(webhook.file("kubeconfig")?),
        ..NodeOptions::default()
    })?;
    let log = world.node.audit_log();
    let read = format!("{{log_file: {}, patience_seconds: 15}}", log.display());
    let mut agent = world.agent(&read)?;
    start(&mut agent)?;
    let mut attached = world.attach(&world.ana)?;
    world.exec(&world.ana, "echo of ana")?;
    world.with_terminal(&world.ben, "tty; exit 0")?;
    let as_ben = ["exec", "--as", BEN, "shop", "--", "sh", "-c", "exit 0 # as ben"];
    world.node.output(&as_ben)?;
    world.at_kubelet("id")?;
    let debug = ["debug", "shop", "--image", IMAGE, "-c", "look", "--", "sh", "-c", "exit 0 # debug"];
    ensure!(world.kubectl(&world.ben, &debug).output()?.status.success());
    let end = world.is_known("echo of ana", ("exec", "known", ANA))?;
    ensure!(end["audit"]["request"]["sources"] == json!(["audit-log"]), "{end:#}");
    ensure!(end["source"]["ip"] == json!(["127.0.0.1"]), "{end:#}");
    ensure!(end["user_agent"]["original"].as_str().is_some_and(|it| it.contains("kube")), "{end:#}");
    world.is_known("tty; exit 0", ("exec", "known", BEN))?;
    let end = world.is_known("exit 0 # as ben", ("exec", "known", BEN))?;
    ensure!(end["audit"]["request"]["impersonator"]["name"] == "admin", "{end:#}");
    world.is_known("id", ("out-of-band", "out-of-band", ""))?;
    world.is_known("exit 0 # debug", ("debug", "known", BEN))?;
    world.attached(ANA, "session-attributed")?;
    attached.kill()?;
    attached.wait()?;
    let end = world.attached(ANA, "session-ended")?;
    ensure!(end["audit"]["session"]["complete"] == true, "{end:#}");
    // An agent that begins anew goes on behind what it has read.
    agent.stop()?;
    world.exec(&world.ben, "echo while away")?;
    start(&mut agent)?;
    world.is_known("echo while away", ("exec", "known", BEN))?;
    agent.stop()?;

    // The same, as the API server sends it.
    let mut agent = world.agent(&format!("{{{}}}", webhook.settings(&format!("127.0.0.1:{port}"))))?;
    start(&mut agent)?;
    world.exec(&world.ana, "echo sent")?;
    let end = world.is_known("echo sent", ("exec", "known", ANA))?;
    ensure!(end["audit"]["request"]["sources"] == json!(["audit-log"]), "{end:#}");
    agent.stop()?;
    verify(&world)
}

/// An address of this machine that is none of loopback: the API server takes no other one for an endpoint.
fn address() -> Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // Nothing is sent: the kernel only says from where it would be.
    socket.connect("192.0.2.1:9")?;
    Ok(socket.local_addr()?.ip())
}

#[test]
fn an_agent_passes_on_what_is_of_another_nodes_pods() -> Result<()> {
    let world = World::new(NodeOptions::default())?;
    let (port, near) = (port()?, self::port()?);
    let webhook = Webhook::make(port)?;
    webhook.apply(&world.node)?;
    let kubeconfig = world.of_agent()?;
    // The agent that the API server tells is of another node, and has no list of this one's pods.
    let mut far = Agent::new(&format!(
        "node: {{name: elsewhere}}\ndocker: {{enabled: never}}\ncri: {{enabled: never}}\n\
         logs: {{kubernetes: {{enabled: false}}}}\nmetrics: {{containers: {{enabled: false}}}}\n\
         kubernetes: {{api: {{kubeconfig: {}}}}}\nevents: {{lease_namespace: taffrail}}\n\
         audit: {{enabled: true, pinned: false, requests: {{{}}}}}\noutput: {{discard: {{}}}}\n",
        kubeconfig.display(),
        webhook.settings(&format!("127.0.0.1:{port}"))
    ))?;
    start(&mut far)?;
    let mut agent =
        world.agent_as(&kubeconfig, &format!("{{{}}}", webhook.settings(&format!("0.0.0.0:{near}"))))?;
    start(&mut agent)?;
    world.exec(&world.ana, "echo lost")?;
    world.is_known("echo lost", ("out-of-band", "out-of-band", ""))?;
    support::apply(
        world.node.kubectl(&["apply", "-f", "-"]),
        &json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "agents", "namespace": "taffrail", "labels": {"kubernetes.io/service-name": "taffrail-audit"}},
            "ports": [{"name": "audit", "port": near, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address()?], "nodeName": NAME}],
        })
        .to_string(),
    )?;
    world.exec(&world.ana, "echo passed on")?;
    let end = world.is_known("echo passed on", ("exec", "known", ANA))?;
    ensure!(end["audit"]["request"]["sources"] == json!(["webhook"]), "{end:#}");
    // The first one, too, was tried until there was somebody to take it.
    until_within(PATIENCE, "two requests to be passed on", || {
        Ok(far.metric("taffrail_audit_requests_forwarded_total{outcome=\"arrived\"}")? == Some(2.0))
    })?;
    agent.stop()?;
    world.exec(&world.ana, "echo in vain")?;
    until_within(PATIENCE, "a request that does not arrive", || {
        Ok(far.metric("taffrail_audit_requests_forwarded_total{outcome=\"failed\"}")? == Some(1.0))
    })?;
    ensure!(far.log()?.contains("does not arrive at the agent of its pod's node"));
    // What that takes of the API server is granted, and `check` asks for it.
    let metrics = far.metrics()?;
    ensure!(
        metrics.contains("resource=\"endpointslices\"") && !metrics.contains("outcome=\"forbidden\""),
        "{metrics}"
    );
    let said = String::from_utf8(far.command("check")?.output()?.stdout)?;
    ensure!(said.contains("certificate and secret of the webhook") && !said.contains("may not"), "{said}");
    world.node.output(&["--namespace", "taffrail", "delete", "role", "taffrail-audit"])?;
    until_within(PATIENCE, "a finding about what is not granted", || {
        let said = String::from_utf8(far.command("check")?.output()?.stdout)?;
        Ok(said.contains("list endpointslices in the namespace taffrail"))
    })?;
    far.stop()
}
