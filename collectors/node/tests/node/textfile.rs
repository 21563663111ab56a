//! Metrics in files: several of them, good ones and bad ones.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::shown::Shown;
use taffrail_kernfs::Roots;
use taffrail_node::{NodeMetricsConfig, READ_ERRORS};
use taffrail_record::{Ask, AskError, Family, Kind, Samples};

fn put(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
}

/// The samples of these files, but for when they were written; and what is complained about.
fn said(files: &[(&str, &str)]) -> (Vec<String>, String) {
    let folder = tempfile::tempdir().expect("a directory");
    files.iter().for_each(|(name, text)| put(folder.path(), &format!("metrics/{name}"), text));
    let config = r#"{"textfile": {"directories": ["/metrics", "/metrics/[de]?*"]}}"#;
    let config: NodeMetricsConfig = serde_json::from_str(config).expect("a configuration");
    let (shown, complaints) = Shown::of(&config, &Roots::below(folder.path()), &["textfile"]);
    let text = shown.text();
    let samples = text.lines().filter(|line| !line.contains("mtime")).map(str::to_owned);
    (samples.collect(), complaints.join("; "))
}

#[test]
fn a_bad_file_is_left_out_and_the_others_are_not() {
    let (samples, complaint) =
        said(&[("a.prom", "a 1\n"), ("b.prom", "b 1\nb 2 3\n"), ("c.txt", "c 1\n"), ("de/d.prom", "d 1\n")]);
    let expected = [
        "# TYPE a untyped",
        "a 1",
        "# TYPE d untyped",
        "d 1",
        "# TYPE node_textfile_scrape_error gauge",
        "node_textfile_scrape_error 1",
    ];
    assert_eq!(samples, expected);
    assert!(complaint.contains("/metrics/b.prom: line 2: "), "{complaint}");
}

#[test]
fn files_may_share_a_family_that_they_agree_about() {
    let head = "# HELP a_total A.\n# TYPE a_total counter\n";
    let (one, two) = (format!("{head}a_total{{x=\"1\"}} 1\n"), format!("{head}a_total{{x=\"2\"}} 2\n"));
    let (samples, complaint) = said(&[("a.prom", &one), ("b.prom", &two), ("de/c.prom", "z 1\n")]);
    assert_eq!(samples[..3], ["# TYPE a_total counter", "a_total{x=\"1\"} 1", "a_total{x=\"2\"} 2"]);
    assert_eq!(complaint, "");
}

#[test]
fn files_that_disagree_are_told_of() {
    let file = |head: &str, x: u8| format!("{head}a{{x=\"{x}\"}} 1\n");
    for (first, second, kept, said_of) in [
        ("# TYPE a gauge\n", "# TYPE a counter\n", 1, "a is of another type than in /metrics/a.prom"),
        ("# HELP a A.\n", "# HELP a B.\n", 2, "a has another help than in /metrics/a.prom"),
    ] {
        let (samples, complaint) =
            said(&[("a.prom", &file(first, 1)), ("b.prom", &file(second, 2)), ("de/c.prom", "z 1\n")]);
        assert_eq!(samples.iter().filter(|line| line.starts_with("a{")).count(), kept, "{samples:?}");
        assert!(complaint.contains(said_of), "{complaint}");
        assert_eq!(samples.iter().filter(|line| *line == "node_textfile_scrape_error 1").count(), 1);
    }
}

#[test]
fn a_series_that_comes_twice_is_written_once() {
    let (samples, complaint) = said(&[
        ("a.prom", "a{x=\"1\",y=\"2\"} 1\n"),
        ("b.prom", "a{y=\"2\",x=\"1\"} 2\n"),
        ("de/c.prom", "z 1\n"),
    ]);
    assert_eq!(samples[1], "a{x=\"1\",y=\"2\"} 1");
    assert!(samples[2].starts_with('#') && complaint.contains("a has a series twice"), "{complaint}");
}

#[test]
fn a_series_that_another_collector_has_is_left_out_and_told_of() {
    let folder = tempfile::tempdir().expect("a directory");
    put(folder.path(), "proc/loadavg", "0.50 0.25 0.10 1/100 4321\n");
    put(
        folder.path(),
        "metrics/a.prom",
        "# TYPE node_load1 gauge\nnode_load1 99\nnode_load1{of=\"others\"} 7\n# TYPE node_load5 counter\n\
         node_load5{of=\"others\"} 1\nnode_textfile_mtime_seconds{file=\"x\"} 1\nmine 1\n",
    );
    let config = r#"{"textfile": {"directories": ["/metrics"]}}"#;
    let config: NodeMetricsConfig = serde_json::from_str(config).expect("a configuration");
    let (shown, complaints) = Shown::of(&config, &Roots::below(folder.path()), &["loadavg", "textfile"]);
    assert_eq!(shown.lines("node_load1"), ["node_load1 0.5", "node_load1{of=\"others\"} 7"]);
    assert_eq!(shown.lines("node_load5"), ["node_load5 0.25"]);
    assert_eq!((shown.lines("mine"), shown.lines("node_textfile_mtime_seconds").len()), (vec!["mine 1"], 1));
    assert_eq!(shown.lines("node_textfile_scrape_error"), ["node_textfile_scrape_error 1"]);
    assert!(
        complaints[0].contains("/metrics/a.prom: node_load1 is left out: another collector has it"),
        "{complaints:?}"
    );
}

/// One that counts how often it is asked, and fails each time.
#[derive(Default)]
struct Counting(AtomicUsize);

static ASKED: [Family; 1] =
    [Family { name: "x_asked", kind: Kind::Gauge, help: "How often.", labels: &["z", "a"] }];

impl Ask for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn families(&self) -> &'static [Family] {
        &ASKED
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        samples.family(&ASKED[0]);
        samples.sample(&["1", "q\"\\"], (self.0.fetch_add(1, Ordering::Relaxed) + 1) as f64);
        Err(AskError::Failed { what: "/x".to_owned(), cause: "denied".into() })
    }
}

/// This file beside a collector that counts, what the machine names in `/proc/meminfo`, a page that says `y_said`, and
/// loads that cannot be understood.
fn beside(file: &str) -> (tempfile::TempDir, Vec<Arc<dyn Ask>>) {
    static SAID: [Family; 1] =
        [Family { name: "y_said", kind: Kind::Gauge, help: "Of itself.", labels: &["collector"] }];
    let folder = tempfile::tempdir().expect("a directory");
    put(folder.path(), "proc/meminfo", "MemTotal: 4 kB\n");
    put(folder.path(), "proc/loadavg", "nothing\n");
    put(folder.path(), "metrics/a.prom", file);
    let config: NodeMetricsConfig =
        serde_json::from_str(r#"{"textfile": {"directories": ["/metrics"]}}"#).expect("a configuration");
    let counting = vec![Arc::new(Counting::default()) as Arc<dyn Ask>];
    let all = taffrail_node::collectors_beside(counting, &SAID, &config, &Roots::below(folder.path()));
    (folder, all)
}

#[test]
fn no_collector_is_asked_for_the_sake_of_files() {
    let (_folder, all) = beside("# TYPE x_asked gauge\nx_asked{a=\"q\\\"\\\\\",z=\"1\"} 9\nnode_load1 1\n");
    let now = |names: &[&str]| Shown::of_all(&all, names).0;
    let read_errors = |shown: &Shown| {
        let lines = shown.lines(READ_ERRORS[0].name);
        lines.iter().find(|line| line.contains("\"loadavg\"")).expect("it failed").to_string()
    };
    for scrape in 1..4 {
        let shown = now(&["counting", "loadavg", "textfile"]);
        assert_eq!(shown.lines("x_asked"), [format!("x_asked{{z=\"1\",a=\"q\\\"\\\\\"}} {scrape}")]);
        assert_eq!(shown.lines("node_textfile_scrape_error"), ["node_textfile_scrape_error 1"]);
        assert!(read_errors(&shown).ends_with(&format!(" {scrape}")), "{}", read_errors(&shown));
    }
    let alone = now(&["textfile"]);
    assert_eq!(alone.lines("x_asked").len(), 1, "where the other does not write nothing comes twice");
    assert_eq!(alone.lines("node_textfile_scrape_error"), ["node_textfile_scrape_error 0"]);
}

#[test]
fn what_the_page_says_behind_the_files_is_not_theirs_to_say() {
    for (series, name) in [
        ("y_said{collector=\"mine\"}", "y_said"),
        ("taffrail_node_read_errors_total{collector=\"mine\",reason=\"mood\"}", READ_ERRORS[0].name),
        ("node_textfile_scrape_error{of=\"mine\"}", "node_textfile_scrape_error"),
        ("node_memory_MemTotal_bytes", "node_memory_MemTotal_bytes"),
    ] {
        let (_folder, all) = beside(&format!("# TYPE {name} gauge\n{series} 77\nmine 1\n"));
        let (shown, complaints) = Shown::of_all(&all, &["meminfo", "textfile"]);
        assert!(shown.lines(name).iter().all(|line| !line.ends_with(" 77")), "{:?}", shown.lines(name));
        assert_eq!(shown.lines("mine"), ["mine 1"]);
        assert_eq!(shown.lines("node_textfile_scrape_error"), ["node_textfile_scrape_error 1"]);
        let told = format!("/metrics/a.prom: {series} is left out: another collector has it");
        assert!(complaints.iter().any(|complaint| complaint.contains(&told)), "{complaints:?}");
    }
}

#[test]
fn a_file_is_read_again_when_it_is_written_again() {
    let folder = tempfile::tempdir().expect("a directory");
    let config: NodeMetricsConfig =
        serde_json::from_str(r#"{"textfile": {"directories": ["/metrics"]}}"#).expect("a configuration");
    let all = taffrail_node::collectors(&config, &Roots::below(folder.path()));
    let textfile = all.iter().find(|collector| collector.name() == "textfile").expect("it is on");
    let now = || {
        let mut shown = Shown::default();
        drop(textfile.ask(&mut shown));
        shown.lines("a").join(" ") + &shown.lines("b").join(" ")
    };
    put(folder.path(), "metrics/a.prom", "a 1\n");
    assert_eq!((now(), now()), ("a 1".to_owned(), "a 1".to_owned()));
    put(folder.path(), "metrics/new", "a 2\n");
    fs::rename(folder.path().join("metrics/new"), folder.path().join("metrics/a.prom")).expect("renamed");
    put(folder.path(), "metrics/b.prom", "b 1\n");
    assert_eq!(now(), "a 2b 1");
    fs::remove_file(folder.path().join("metrics/a.prom")).expect("removed");
    assert_eq!(now(), "b 1");
}
