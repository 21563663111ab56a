//! What deploy/kubernetes/rbac.yaml grants is what the agent needs, and nothing more: held against a real API server.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{Agent, until};
use taffrail::config;
use taffrail::kubernetes::permissions::needed;
use taffrail_parts::node::ControlPlane;
use taffrail_parts::prometheus_operator;

const RBAC: &str = include_str!("../../../deploy/kubernetes/rbac.yaml");

/// The agent's configuration as the manifest has it, with a search engine that is not asked here.
fn settings(kubeconfig: &Path) -> String {
    format!(
        "node: {{name: n-1, cluster: fleet}}\ndocker: {{enabled: never}}\ncri: {{enabled: never}}\n\
         logs: {{kubernetes: {{enabled: false}}}}\nmetrics: {{containers: {{enabled: false}}}}\n\
         kubernetes: {{api: {{kubeconfig: {}}}}}\nevents: {{lease_namespace: taffrail}}\n\
         elasticsearch: {{hosts: ['http://127.0.0.1:9']}}\n",
        kubeconfig.display()
    )
}

/// Each thing that is granted: verb, group, resource, and the object's name where it is one.
fn grants() -> Result<BTreeSet<[String; 4]>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(RBAC)?;
    let rules = documents.iter().filter_map(|document| document["rules"].as_array()).flatten();
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let mut grants = BTreeSet::new();
    for rule in rules {
        let names = strings(&rule["resourceNames"]);
        let names = if names.is_empty() { vec![String::new()] } else { names };
        for verb in strings(&rule["verbs"]) {
            for group in strings(&rule["apiGroups"]) {
                for resource in strings(&rule["resources"]) {
                    let grant = |name: &String| [verb.clone(), group.clone(), resource.clone(), name.clone()];
                    grants.extend(names.iter().map(grant));
                }
            }
        }
    }
    Ok(grants)
}

/// `verb resource` of each thing that is granted.
fn granted() -> Result<BTreeSet<String>> {
    Ok(grants()?.into_iter().map(|[verb, _, resource, _]| format!("{verb} {resource}")).collect())
}

/// The same manifest without one verb of one resource.
fn without(verb: &str, resource: &str) -> String {
    let mut lines: Vec<String> = RBAC.lines().map(str::to_owned).collect();
    let named = format!("resources: [{resource}]");
    let rules = (0..lines.len()).filter(|at| lines[*at].contains(&named));
    let verbs_of = |rule: usize| (rule..lines.len()).find(|at| lines[*at].contains("verbs:")).expect("verbs");
    let has = |at: &usize| lines[*at].split(['[', ']', ',', ' ']).any(|word| word == verb);
    let at = rules.map(verbs_of).find(has).expect("a rule of the resource with the verb");
    let verbs = lines[at].split(['[', ']']).nth(1).expect("verbs").split(", ");
    let rest: Vec<&str> = verbs.filter(|each| *each != verb).collect();
    lines[at] = if rest.is_empty() {
        "    verbs: [deletecollection]".to_owned()
    } else {
        format!("    verbs: [{}]", rest.join(", "))
    };
    lines.join("\n")
}

/// What is granted for API servers that this one is not: where a watch cannot begin with everything that there is, that is
/// listed before.
fn only_elsewhere() -> BTreeSet<String> {
    [String::from("list nodes")].into()
}

/// `verb resource` of all that the API server has let the agent's account do.
fn used(cluster: &ControlPlane) -> Result<BTreeSet<String>> {
    let mut used = BTreeSet::new();
    for line in fs::read_to_string(cluster.audit_log())?.lines() {
        let event: Value = serde_json::from_str(line)?;
        let is_agent = event["user"]["username"] == "system:serviceaccount:taffrail:taffrail";
        if is_agent && event["annotations"]["authorization.k8s.io/decision"] == "allow" {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            used.insert(format!("{} {}", text(&event["verb"]), text(&event["objectRef"]["resource"])));
        }
    }
    Ok(used)
}

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: default}
spec: {nodeName: n-1, automountServiceAccountToken: false, containers: [{name: main, image: a}]}
";

const EVENT: &str = "apiVersion: v1
kind: Event
metadata: {name: web-0.1, namespace: default}
involvedObject: {kind: Pod, namespace: default, name: web-0, uid: u-1}
reason: Tested
message: ahoy
type: Normal
";

fn apply(cluster: &ControlPlane, text: &str) -> Result<()> {
    support::apply(cluster.kubectl(&["apply", "-f", "-"]), text)
}

#[test]
fn the_monitor_is_one_that_prometheus_operator_understands() -> Result<()> {
    const MONITOR: &str = include_str!("../../../deploy/kubernetes/monitoring.yaml");
    let cluster = ControlPlane::start(None)?;
    let definition = prometheus_operator::definition("podmonitors")?;
    cluster.output(&["create", "-f", &definition.display().to_string()])?;
    let established = "--for=condition=established";
    cluster.output(&["wait", established, "--timeout=60s", "crd/podmonitors.monitoring.coreos.com"])?;
    cluster.output(&["create", "namespace", "taffrail"])?;
    let strictly = |text: &str| -> Result<()> {
        let arguments = ["apply", "--server-side", "--validate=strict", "-f", "-"];
        support::apply(cluster.kubectl(&arguments), text)
    };
    strictly(MONITOR)?;
    let endpoints = "jsonpath={.spec.podMetricsEndpoints[*].path}";
    let known = cluster.output(&["-n", "taffrail", "get", "podmonitor", "taffrail", "-o", endpoints])?;
    ensure!(known == "/metrics /metrics/cadvisor /metrics/node /metrics/pods", "{known}");
    for (from, to) in [("honorLabels", "honourLabels"), ("action: labeldrop", "action: drop_label")] {
        ensure!(strictly(&MONITOR.replacen(from, to, 1)).is_err(), "{to} is accepted");
    }
    Ok(())
}

#[test]
fn a_way_to_the_server_that_leads_nowhere_is_told_with_its_remedy() -> Result<()> {
    let cluster = ControlPlane::start(None)?;
    let admin = fs::read_to_string(cluster.kubeconfig())?;
    let pki = cluster.kubeconfig().parent().context("no folder")?.to_owned();
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/authority.pem");
    let own = pki.join("ca.crt").display().to_string();
    let server = admin.split("https://").nth(1).and_then(|it| it.split(':').next()).context("no server")?;
    ensure!(admin.contains(&own), "{admin}");
    // What is changed in a kubeconfig that is right, what is said of it, and what to do.
    for (from, to, detail, remedy) in [
        (own.as_str(), other, "UnknownIssuer", "`certificate-authority` in the kubeconfig"),
        (server, "127.0.0.9", "cannot be reached", "that the address is right"),
        ("token: \"", "token: \"x", "401", "token or certificate is valid"),
        ("clusters:", "clusters: [", "kubeconfig", "mend what is named"),
        ("current-context: parts", "current-context: none", "kubeconfig", "mend what is named"),
    ] {
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("config");
        support::put(&kubeconfig, admin.replace(from, to).as_bytes())?;
        let said = findings(&Agent::new(&settings(&kubeconfig))?)?;
        let has = |key: &str, words: &str| said[0][key].as_str().is_some_and(|text| text.contains(words));
        ensure!(said.len() == 1 && has("detail", detail) && has("remedy", remedy), "{from} {to}: {said:#?}");
    }
    Ok(())
}

/// What `taffrail check` says of the cluster.
fn findings(agent: &Agent) -> Result<Vec<Value>> {
    let output = agent.command("check")?.arg("--json").output()?;
    let said: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let all = said["findings"].as_array().cloned().unwrap_or_default();
    Ok(all.into_iter().filter(|finding| finding["subject"] == "cluster").collect())
}

#[test]
fn the_service_account_may_do_what_the_agent_does_and_nothing_more_and_check_names_what_is_missing()
-> Result<()> {
    let cluster = ControlPlane::start(None)?;
    cluster.output(&["create", "namespace", "taffrail"])?;
    cluster.output(&["--namespace", "taffrail", "create", "serviceaccount", "taffrail"])?;
    apply(&cluster, RBAC)?;
    let token = cluster.output(&["--namespace", "taffrail", "create", "token", "taffrail"])?;
    let admin = fs::read_to_string(cluster.kubeconfig())?;
    let secret =
        admin.split("token: \"").nth(1).and_then(|rest| rest.split('"').next()).context("no token")?;
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("config");
    support::put(&kubeconfig, admin.replace(secret, token.trim()).as_bytes())?;

    let file = folder.path().join("taffrail.yaml");
    support::put(&file, settings(&kubeconfig).as_bytes())?;
    let config = config::load(Some(&file), std::iter::empty())?;
    let needed = needed(&config);
    let all = needed.iter().map(|each| {
        [each.verb, each.group, each.resource, each.name.as_deref().unwrap_or_default()].map(str::to_owned)
    });
    let all: BTreeSet<[String; 4]> = all.collect();
    ensure!(all == grants()?, "asked for {all:?}, granted {:?}", grants()?);
    let asked: BTreeSet<String> =
        needed.iter().map(|each| format!("{} {}", each.verb, each.resource)).collect();

    let mut agent = Agent::new(&settings(&kubeconfig))?;
    apply(&cluster, RBAC)?;
    until("a finding about the node's name", || {
        let says =
            |it: &Value| it["detail"].as_str().is_some_and(|it| it.contains("there is no node \"n-1\""));
        Ok(findings(&agent)?.iter().any(says))
    })?;
    apply(&cluster, "{apiVersion: v1, kind: Node, metadata: {name: n-1}}")?;
    for each in &asked {
        let (verb, resource) = each.split_once(' ').context("a verb and a resource")?;
        apply(&cluster, &without(verb, resource))?;
        let mut said = Vec::new();
        until(&format!("a finding about {each}"), || {
            said = findings(&agent)?;
            let names =
                |it: &Value| it["detail"].as_str().is_some_and(|detail| detail.contains(each.as_str()));
            Ok(!said.is_empty() && said.iter().all(names))
        })
        .with_context(|| format!("without {each}: {said:?}"))?;
    }
    apply(&cluster, RBAC)?;
    until("a good finding", || Ok(findings(&agent)?.iter().all(|finding| finding["status"] == "good")))?;

    // And it does with it what it does: pods and the node are followed, one watches events, and nothing is refused.
    agent.start()?;
    until("the agent to watch events", || {
        Ok(agent.metric("taffrail_events_role{role=\"leader\"}")? == Some(1.0)
            && agent.metric("taffrail_pods_stale_seconds")? == Some(0.0))
    })?;
    // What makes it ask for a pod by name, for those of a node, and for the namespace of one.
    cluster.output(&["--namespace", "default", "create", "serviceaccount", "default"])?;
    apply(&cluster, POD)?;
    apply(&cluster, EVENT)?;
    until("each thing that is granted to be asked for", || {
        // A timeline needs the pods of the node.
        ensure!(agent.command("events")?.arg("node/n-1").output()?.status.success(), "no timeline");
        Ok(used(&cluster)?.is_superset(&granted()?.difference(&only_elsewhere()).cloned().collect()))
    })
    .with_context(|| format!("granted {:?}\nused {:?}", granted(), used(&cluster)))?;
    let more: Vec<String> = used(&cluster)?.difference(&granted()?).cloned().collect();
    // Everybody may ask what he may do.
    ensure!(more == ["create selfsubjectaccessreviews"], "it asks for more: {more:?}");
    let metrics = agent.metrics()?;
    ensure!(!metrics.contains("outcome=\"forbidden\""), "{metrics}");
    agent.stop()
}
