//! Machines as folders of files, each with what is to be said of it.
//!
//! A folder has `proc`, `sys` and whatever else of a root; `config.json` where it is not the default, and
//! `exposition.txt`. With `TAFFRAIL_WRITE_EXPOSITIONS=1` those are written instead of compared, to be read
//! before they are committed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shown::Shown;
use taffrail_kernfs::Roots;
use taffrail_node::NodeMetricsConfig;
use taffrail_record::Family;

/// Collectors that tell of the machine that runs the test, by system calls.
const LIVE: &str = r#"["build","time","timex","uname"]"#;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).expect("fixtures").map(|entry| entry.expect("an entry").path()).collect();
    found.sort();
    found
}

fn config(fixture: &Path) -> NodeMetricsConfig {
    let text = fs::read_to_string(fixture.join("config.json")).unwrap_or_else(|_| "{}".to_owned());
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config["disable"] = serde_json::from_str(LIVE).expect("JSON");
    serde_json::from_value(config).expect("a configuration")
}

#[test]
fn every_machine_is_said_as_its_exposition_has_it() {
    for fixture in fixtures() {
        let (shown, complaints) = Shown::of(&config(&fixture), &Roots::below(&fixture), &[]);
        assert_eq!(complaints, Vec::<String>::new(), "{}", fixture.display());
        let (path, text) = (fixture.join("exposition.txt"), shown.text());
        if std::env::var_os("TAFFRAIL_WRITE_EXPOSITIONS").is_some() {
            #[allow(clippy::disallowed_methods, reason = "nothing is lost when a test ends half-way")]
            fs::write(&path, &text).expect("written");
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        for (ours, theirs) in text.lines().zip(expected.lines()) {
            assert_eq!(ours, theirs, "{}", fixture.display());
        }
        assert_eq!(text.lines().count(), expected.lines().count(), "{}", fixture.display());
    }
}

#[test]
fn a_second_scrape_says_the_same() {
    for fixture in fixtures() {
        let all = taffrail_node::collectors(&config(&fixture), &Roots::below(&fixture));
        let mut texts = [0, 1, 2].map(|_| {
            let mut shown = Shown::default();
            for collector in &all {
                let _ = collector.ask(&mut shown);
            }
            shown.text()
        });
        texts.sort();
        assert_eq!(texts[0], texts[2], "{}", fixture.display());
    }
}

/// Whether a name is a declared one, or what the machine put for the `*` in it.
fn stands_for(declared: &str, name: &str) -> bool {
    declared
        .split_once('*')
        .map_or(declared == name, |(start, end)| name.starts_with(start) && name.ends_with(end))
}

#[test]
fn every_family_that_is_written_is_declared() {
    for fixture in fixtures() {
        for collector in taffrail_node::collectors(&config(&fixture), &Roots::below(&fixture)) {
            let mut shown = Shown::default();
            let _ = collector.ask(&mut shown);
            for (name, kind) in shown.names() {
                let declares = |family: &Family| {
                    stands_for(family.name, name)
                        && (family.kind == kind || family.name == "*" || name.ends_with("_total"))
                };
                assert!(collector.families().iter().any(declares), "{}: {name}", collector.name());
            }
        }
    }
}

#[test]
fn the_machine_that_runs_the_test_is_said() {
    let (config, roots) = (NodeMetricsConfig::default(), Roots::default());
    let (shown, _) = Shown::of(&config, &roots, &[]);
    for family in [
        "node_boot_time_seconds",
        "node_cpu_seconds_total",
        "node_exporter_build_info",
        "node_filefd_allocated",
        "node_load1",
        "node_memory_MemAvailable_bytes",
        "node_network_receive_bytes_total",
        "node_textfile_scrape_error",
        "node_time_seconds",
        "node_uname_info",
    ] {
        assert!(!shown.lines(family).is_empty(), "{family}");
    }
    let series: Vec<String> =
        shown.text().lines().filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect();
    let distinct: std::collections::BTreeSet<&String> = series.iter().collect();
    assert_eq!(distinct.len(), series.len());
}

#[test]
fn an_interface_that_did_not_change_is_said_the_same_however_it_is_asked() {
    let all = taffrail_node::collectors(&NodeMetricsConfig::default(), &Roots::default());
    let netclass = all.iter().find(|collector| collector.name() == "netclass").expect("it is on");
    let loopback = || {
        let mut shown = Shown::default();
        let _ = netclass.ask(&mut shown);
        let text = shown.text();
        text.lines().filter(|line| line.contains("device=\"lo\"")).map(str::to_owned).collect::<Vec<_>>()
    };
    let first = loopback();
    assert!(first.len() > 10, "{first:?}");
    (0..5).for_each(|_| assert_eq!(loopback(), first));
}
