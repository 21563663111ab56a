//! node_exporter and the Prometheus server that scrapes it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use taffrail_parts::machine::traces;
use taffrail_parts::prometheus::check_metrics;
use taffrail_parts::{NodeExporter, Prometheus, Target};

#[test]
fn prometheus_scrapes_an_exporter_evaluates_rules_and_leaves_nothing() -> Result<()> {
    let rules = tempfile::NamedTempFile::new()?;
    std::io::Write::write_all(
        &mut rules.as_file(),
        b"groups: [{name: g, rules: [{record: two_loads, expr: 'node_load1 * 0 + 2'}]}]",
    )?;
    let exporter = NodeExporter::start(&["--collector.disable-defaults", "--collector.loadavg"])?;
    ensure!(!exporter.scrape()?.contains("node_cpu_seconds_total"), "the arguments are not those given");
    let target = Target::new("node", exporter.address(), "/metrics");
    let prometheus = Prometheus::start(&[target], &[rules.path()])?;
    let start = Instant::now();
    while prometheus.number("two_loads{job=\"node\"}")? != Some(2.0) {
        ensure!(start.elapsed() < Duration::from_secs(180), "no value of the rule");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(prometheus.number("up")?, Some(1.0));
    assert!(prometheus.query("nonsense(").is_err());

    let folders = [exporter.log(), prometheus.log()].map(|log| log.parent().map(Path::to_owned));
    let processes = [exporter.id(), prometheus.id()].map(|id| format!("/proc/{id}"));
    drop((exporter, prometheus));
    for folder in folders.into_iter().flatten() {
        assert_eq!(traces(&folder), Vec::<String>::new());
    }
    assert!(processes.iter().all(|process| !Path::new(process).exists()));
    Ok(())
}

#[test]
fn a_broken_rule_file_is_named_before_the_server_starts() -> Result<()> {
    let error = Prometheus::start(&[], &[Path::new("/nowhere/rules.yml")]).expect_err("no such file");
    assert!(format!("{error:#}").contains("/nowhere/rules.yml"), "{error:#}");
    Ok(())
}

#[test]
fn promtool_tells_faults_of_a_page() -> Result<()> {
    assert_eq!(
        check_metrics("# HELP a_total A.\n# TYPE a_total counter\na_total 1\n")?,
        Vec::<String>::new()
    );
    let found = check_metrics("# HELP a A.\n# TYPE a counter\na 1\n")?;
    assert!(found.iter().any(|line| line.contains("_total")), "{found:?}");
    assert!(check_metrics("a{ 1\n").is_err());
    Ok(())
}
