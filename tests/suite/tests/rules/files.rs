//! The shipped rules by promtool: they are well-formed, each alert says what a person needs, and each fires when it
//! should and only then.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use taffrail_parts::prometheus::promtool;
use taffrail_parts::{Prometheus, packages};

use crate::support::put;
use crate::table::{CASES, Case, LOOK};

/// A file of the folder that is shipped.
pub(crate) fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prometheus").join(name)
}

/// Every rule of a file.
pub(crate) fn rules(name: &str) -> Result<Vec<Value>> {
    let file: Value = serde_saphyr::from_str(&std::fs::read_to_string(shipped(name))?)?;
    let groups = file["groups"].as_array().context("no groups")?;
    Ok(groups.iter().filter_map(|group| group["rules"].as_array()).flatten().cloned().collect())
}

/// The names of what a file alerts on or records.
pub(crate) fn names(file: &str, key: &str) -> Result<BTreeSet<String>> {
    Ok(rules(file)?.iter().filter_map(|rule| rule[key].as_str()).map(str::to_owned).collect())
}

/// Says nothing when promtool is content.
fn content(mut promtool: Command) -> Result<()> {
    Prometheus::fetch()?;
    let output = promtool.output().context("cannot run promtool")?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
fn promtool_has_nothing_to_say_of_the_rules() -> Result<()> {
    let mut command = promtool();
    command.args(["check", "rules", "--lint=all", "--lint-fatal"]);
    command.args(["recording.yaml", "alerts.yaml"].map(shipped));
    content(command)
}

#[test]
fn the_configuration_to_scrape_with_is_good_and_names_the_jobs_of_the_rules() -> Result<()> {
    let text = std::fs::read_to_string(shipped("prometheus.yaml"))?;
    let mut config: Value = serde_saphyr::from_str(&text)?;
    let rule_files = config["rule_files"].as_array_mut().context("no rule files")?;
    for file in rule_files {
        *file = json!(shipped(file.as_str().context("no name")?));
    }
    let mut jobs = BTreeSet::new();
    for job in config["scrape_configs"].as_array_mut().context("no jobs")? {
        jobs.insert(job["job_name"].as_str().context("no name")?.to_owned());
        // Debian's Prometheus is built without Kubernetes.
        let job = job.as_object_mut().context("no job")?;
        ensure!(job.remove("kubernetes_sd_configs").is_some(), "no pods are looked for");
        job.insert("static_configs".to_owned(), json!([{ "targets": ["localhost:9126"] }]));
    }
    assert_eq!(
        jobs,
        BTreeSet::from(["cadvisor", "kube-state-metrics", "node-exporter", "taffrail"].map(str::to_owned))
    );
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("prometheus.json");
    put(&path, config.to_string().as_bytes())?;
    let mut command = promtool();
    command.args(["check", "config"]).arg(path);
    content(command)
}

#[test]
fn every_alert_has_a_severity_and_says_what_is_and_what_to_do() -> Result<()> {
    let mut known = BTreeSet::new();
    for rule in rules("alerts.yaml")? {
        let name = rule["alert"].as_str().context("no alert")?;
        ensure!(known.insert(name.to_owned()), "{name} is there twice");
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        ensure!(["critical", "warning", "info"].contains(&severity), "{name}: severity {severity:?}");
        for key in ["summary", "description", "action"] {
            let text = rule["annotations"][key].as_str().unwrap_or_default();
            ensure!(text.len() > 15 && text.ends_with(['.', ')']), "{name}: {key}: {text:?}");
        }
    }
    Ok(())
}

#[test]
fn every_alert_fires_on_a_node_that_is_bad_and_not_on_one_that_is_good() -> Result<()> {
    let tried: BTreeSet<String> = CASES.iter().map(|(alert, _)| (*alert).to_owned()).collect();
    let untried: Vec<_> = names("alerts.yaml", "alert")?.difference(&tried).cloned().collect();
    let of_all_agents = ["TaffrailAbsent", "TaffrailEventsUnwatched"];
    assert_eq!(untried, of_all_agents, "each has a case, and these the next tests");
    // Together, each on nodes of its own: a database for each would take a second for each.
    let series = CASES.iter().enumerate().flat_map(|(number, case)| series(number, case));
    let looks = CASES.iter().enumerate().map(|(number, (alert, _))| {
        let expression = firing(alert, &format!(r#",instance=~"(bad|good)-{number}""#), "instance");
        let expected = json!([{ "labels": format!(r#"{{instance="bad-{number}"}}"#), "value": 1 }]);
        json!({ "expr": expression, "eval_time": format!("{LOOK}m"), "exp_samples": expected })
    });
    let (series, looks): (Vec<_>, Vec<_>) = (series.collect(), looks.collect());
    test_rules(&[json!({ "interval": "1m", "input_series": series, "promql_expr_test": looks })])
}

#[test]
fn an_agent_that_prometheus_does_not_know_of_is_missed() -> Result<()> {
    let group = |series: Value, expected: Value| {
        let look = json!({ "expr": firing("TaffrailAbsent", "", "job"), "eval_time": "20m", "exp_samples": expected });
        json!({ "interval": "1m", "input_series": series, "promql_expr_test": [look] })
    };
    let there = json!([{ "series": r#"up{job="taffrail"}"#, "values": "1x30" }]);
    let missed = json!([{ "labels": r#"{job="taffrail"}"#, "value": 1 }]);
    test_rules(&[group(json!([]), missed), group(there, json!([]))])
}

#[test]
fn a_cluster_whose_events_nobody_watches_is_told() -> Result<()> {
    let series = |leader: &str| {
        let of = |node: &str, role: &str, value: &str| {
            let series = format!(r#"taffrail_events_role{{job="taffrail",instance="{node}",role="{role}"}}"#);
            json!({ "series": series, "values": format!("{value}x30") })
        };
        json!([
            of("a", "leader", leader),
            of("a", "candidate", "1"),
            of("b", "leader", "0"),
            of("b", "candidate", "1")
        ])
    };
    let group = |leader: &str, expected: Value| {
        let expression = r#"count(ALERTS{alertname="TaffrailEventsUnwatched",alertstate="firing"})"#;
        let look = json!({ "expr": expression, "eval_time": "20m", "exp_samples": expected });
        json!({ "interval": "1m", "input_series": series(leader), "promql_expr_test": [look] })
    };
    let told = json!([{ "labels": "{}", "value": 1 }]);
    test_rules(&[group("0", told), group("1", json!([]))])
}

fn firing(alert: &str, of: &str, by: &str) -> String {
    format!(r#"group by ({by}) (ALERTS{{alertname="{alert}",alertstate="firing"{of}}})"#)
}

/// What promtool is told of a case's two nodes.
fn series(number: usize, (_, pairs): &Case) -> Vec<Value> {
    let one = |node: &str, name: &str, values: &str| json!({ "series": on(&format!("{node}-{number}"), name), "values": values });
    pairs.iter().flat_map(|(name, bad, good)| [one("bad", name, bad), one("good", name, good)]).collect()
}

/// The series with its job and a node.
fn on(node: &str, series: &str) -> String {
    let (name, labels) =
        series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
    let job = match name.split('_').next() {
        _ if labels.contains("job=") => None,
        Some("node") => Some("node-exporter"),
        Some("container") => Some("cadvisor"),
        _ if name.starts_with("taffrail_containers_") => Some("cadvisor"),
        _ => Some("taffrail"),
    };
    let job = job.map(|job| format!(r#"job="{job}""#));
    let node = format!(r#"instance="{node}""#);
    let all =
        [Some(labels.to_owned()), job, Some(node)].into_iter().flatten().filter(|part| !part.is_empty());
    format!("{name}{{{}}}", all.collect::<Vec<_>>().join(","))
}

fn test_rules(tests: &[Value]) -> Result<()> {
    packages::ensure(&[("promtool", "prometheus")])?;
    let rule_files = ["recording.yaml", "alerts.yaml"].map(shipped);
    let file = json!({
        "rule_files": rule_files,
        "evaluation_interval": "1m",
        "tests": tests,
    });
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("tests.json");
    put(&path, file.to_string().as_bytes())?;
    let mut command = promtool();
    command.args(["test", "rules"]).arg(path);
    content(command)
}
