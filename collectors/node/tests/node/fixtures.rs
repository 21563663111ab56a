//! Machines as folders of files, each with what is to be said of it.
//!
//! A folder has `proc`, `sys` and whatever else of a root; `config.json` where it is not the default, and
//! `exposition.txt`. With `TAFFRAIL_WRITE_EXPOSITIONS=1` those are written instead of compared, to be read before they are committed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shown::Shown;
use taffrail_kernfs::Roots;
use taffrail_node::NodeMetricsConfig;

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
