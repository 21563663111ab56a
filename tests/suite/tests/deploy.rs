//! What `deploy/` holds is what the agent takes: a configuration to start from, a unit, a manifest. A key that is
//! renamed, a path that moves or a probe that goes away is found here and not on somebody's node.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use taffrail::config::{self, Config};
use taffrail::machine;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

fn text(name: &str) -> Result<String> {
    std::fs::read_to_string(deploy(name)).with_context(|| format!("deploy/{name} cannot be read"))
}

/// Checked as `taffrail check` does, without any variable of this shell.
fn checked(text: &str) -> Result<Config> {
    let file = tempfile::NamedTempFile::new()?;
    write(file.path(), text)?;
    Ok(config::load(Some(file.path()), std::iter::empty())?)
}

/// The documents of the manifest, by kind.
fn manifest() -> Result<Vec<(String, Value)>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text("kubernetes/taffrail.yaml")?)?;
    let kind = |document: &Value| document["kind"].as_str().unwrap_or_default().to_owned();
    Ok(documents.into_iter().map(|document| (kind(&document), document)).collect())
}

fn the(kind: &str) -> Result<Value> {
    let found = manifest()?.into_iter().find(|(each, _)| each == kind);
    found.map(|(_, document)| document).with_context(|| format!("no {kind} in the manifest"))
}

fn strings<'v>(list: &'v Value, key: &str) -> Vec<&'v str> {
    list.as_array().into_iter().flatten().filter_map(|item| item[key].as_str()).collect()
}

#[test]
fn the_configuration_to_start_from_is_good_as_it_is_and_with_every_setting_taken_in() -> Result<()> {
    let given = text("taffrail.yaml")?;
    let config = checked(&given)?;
    ensure!(
        matches!(config.output, config::Output::File(_)),
        "records go to files until somebody names brokers"
    );
    // One space after the `#` makes prose; anything else is a key, or the indentation before one.
    let prose = |line: &str| line.starts_with("# ") && !line.starts_with("#  ");
    let setting = |line: &str| line.starts_with('#') && !prose(line);
    let taken: Vec<&str> = given.lines().map(|line| if setting(line) { &line[1..] } else { line }).collect();
    let config = checked(&taken.join("\n"))?;
    ensure!(matches!(config.output, config::Output::Kafka(_)), "the brokers are taken in");
    ensure!(config.logs.files.len() == 1 && config.logs.quotas.len() == 1, "and so are files and quotas");
    Ok(())
}

#[test]
fn the_configuration_in_the_readme_is_good() -> Result<()> {
    let readme = text("../README.md")?;
    let block = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    // The files it names are there wherever it is meant for: here others stand for them.
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut there = block.context("no block of YAML in the README")?.to_owned();
    for (name, stand_in) in
        [("/etc/taffrail/ca.pem", "support/authority.pem"), ("/etc/taffrail/password", "deploy.rs")]
    {
        there = there.replace(name, &tests.join(stand_in).to_string_lossy());
    }
    let config = checked(&there)?;
    ensure!(matches!(config.output, config::Output::Kafka(_)));
    Ok(())
}

#[test]
fn the_manifest_configures_an_agent_that_its_own_probes_reach() -> Result<()> {
    let map = the("ConfigMap")?;
    let config = checked(map["data"]["taffrail.yaml"].as_str().context("no taffrail.yaml")?)?;
    ensure!(!config.http.listen.ip().is_loopback(), "kubelet asks from outside the pod");
    let container = &the("DaemonSet")?["spec"]["template"]["spec"]["containers"][0];
    let ports = &container["ports"][0];
    ensure!(ports["containerPort"] == config.http.listen.port(), "{ports}");
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        ensure!(get["path"] == path && get["port"] == ports["name"], "{probe}: {get}");
    }
    Ok(())
}

#[test]
fn the_manifest_mounts_what_the_agent_reads_and_lets_it_write_its_state_alone() -> Result<()> {
    let map = the("ConfigMap")?;
    let config = checked(map["data"]["taffrail.yaml"].as_str().context("no taffrail.yaml")?)?;
    let pod = &the("DaemonSet")?["spec"]["template"]["spec"];
    let mounts = &pod["containers"][0]["volumeMounts"];
    let kubernetes = &config.logs.kubernetes;
    let read = [&kubernetes.root, &kubernetes.links].into_iter().chain(&kubernetes.link_targets);
    for path in read.map(|path| path.to_string_lossy()) {
        let is_mount = |mount: &&Value| mount["mountPath"] == *path;
        let mount = mounts.as_array().into_iter().flatten().find(is_mount).context(path.to_string())?;
        ensure!(mount["readOnly"] == true, "{path} is not read-only");
        let volume = pod["volumes"].as_array().into_iter().flatten().find(|v| v["name"] == mount["name"]);
        let host = volume.map(|volume| &volume["hostPath"]["path"]);
        ensure!(host.is_some_and(|host| *host == *path), "links lead to {path} on the node too");
    }
    let writable: Vec<Value> =
        mounts.as_array().into_iter().flatten().filter(|m| m["readOnly"] != true).cloned().collect();
    ensure!(strings(&Value::Array(writable), "mountPath") == ["/var/lib/taffrail"]);
    Ok(())
}

#[test]
fn the_manifest_gives_a_token_to_the_agent_alone_and_no_capability() -> Result<()> {
    let pod = &the("DaemonSet")?["spec"]["template"]["spec"];
    ensure!(pod["automountServiceAccountToken"] == true);
    ensure!(the("ServiceAccount")?["automountServiceAccountToken"] == false);
    ensure!(pod["serviceAccountName"] == the("ServiceAccount")?["metadata"]["name"]);
    let context = &pod["containers"][0]["securityContext"];
    ensure!(context["capabilities"] == serde_json::json!({ "drop": ["ALL"] }), "{context}");
    ensure!(context["allowPrivilegeEscalation"] == false && context["readOnlyRootFilesystem"] == true);
    // The host's processes it must see: see the manifest.
    for key in ["hostNetwork", "hostIPC"] {
        ensure!(pod[key].is_null(), "{key}");
    }
    Ok(())
}

#[test]
fn the_monitor_asks_for_every_page_at_the_port_that_the_manifest_opens() -> Result<()> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text("kubernetes/monitoring.yaml")?)?;
    let of = |kind: &str| {
        documents.iter().find(|document| document["kind"] == kind).with_context(|| format!("no {kind}"))
    };
    let (monitor, service) = (&of("PodMonitor")?["spec"], &of("Service")?["spec"]);
    let endpoints = &monitor["podMetricsEndpoints"];
    let pages = ["/metrics", machine::CONTAINERS, machine::NODE, machine::PODS];
    ensure!(strings(endpoints, "path") == pages, "{endpoints}");
    let pod = &the("DaemonSet")?["spec"]["template"];
    let port = &pod["spec"]["containers"][0]["ports"][0];
    ensure!(strings(endpoints, "port").iter().all(|name| port["name"] == *name), "{endpoints}");
    ensure!(service["ports"][0]["targetPort"] == port["name"], "{service}");
    ensure!(service["ports"][0]["port"] == port["containerPort"], "{service}");
    for selector in [&monitor["selector"]["matchLabels"], &service["selector"]] {
        ensure!(*selector == pod["metadata"]["labels"], "{selector}");
    }
    Ok(())
}

#[test]
fn a_stop_has_more_time_than_the_agent_takes_to_drain() -> Result<()> {
    let drain = Config::default().pipeline.drain_timeout.0.as_secs();
    let pod = &the("DaemonSet")?["spec"]["template"]["spec"];
    ensure!(pod["terminationGracePeriodSeconds"].as_u64().is_some_and(|grace| grace > drain + 5));
    let unit = text("taffrail.service")?;
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec="));
    ensure!(stop.and_then(|stop| stop.parse().ok()).is_some_and(|stop: u64| stop > drain + 5), "{stop:?}");
    Ok(())
}

#[test]
fn the_unit_is_one_that_systemd_understands() -> Result<()> {
    let unit = text("taffrail.service")?;
    ensure!(unit.contains("CapabilityBoundingSet=CAP_DAC_READ_SEARCH\n"), "one capability");
    ensure!(unit.contains("RestartPreventExitStatus=78\n"), "a bad configuration is not tried again");
    // The program need not be installed here for the rest to be checked.
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("taffrail.service");
    write(&path, unit.replace("/usr/local/bin/taffrail", "/bin/true"))?;
    // With what the audit adds to it.
    let added = text("taffrail-audit.conf")?;
    ensure!(added.contains("\nRestrictAddressFamilies=AF_NETLINK\n"), "the process connector");
    std::fs::create_dir(directory.path().join("taffrail.service.d"))?;
    write(&directory.path().join("taffrail.service.d/audit.conf"), added)?;
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
        eprintln!("!! SKIPPED: systemd-analyze is not installed, so deploy/taffrail.service is not verified");
        return Ok(());
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && !said.contains("taffrail.service") && !said.contains("audit.conf"),
        "{said}"
    );
    Ok(())
}

fn write(path: &Path, text: impl AsRef<[u8]>) -> std::io::Result<()> {
    std::io::Write::write_all(&mut std::fs::File::create(path)?, text.as_ref())
}
