//! `os`: which operating system the node has.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use taffrail_kernfs::{Page, ReadError, Roots, read_text};
use taffrail_record::{AskError, Family, Labels, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, gauge};
use crate::list::Make;

const INFO: &[&str] = &[
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
];
const VERSION: &[&str] = &["id", "id_like", "name"];
static FAMILIES: [Family; 2] = [
    gauge("node_os_info", INFO, "Always 1; what os-release says."),
    gauge("node_os_version", VERSION, "The system's version as major.minor, where it has one."),
];

pub(crate) struct Os {
    paths: [PathBuf; 2],
    known: Option<Known>,
}

/// What the file said when it was written last.
struct Known {
    written: SystemTime,
    info: Labels,
    version: Option<(Labels, f64)>,
}

impl Make for Os {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        let paths = ["/etc/os-release", "/usr/lib/os-release"].map(|path| roots.host(Path::new(path)));
        Os { paths, known: None }
    }
}

impl Collect for Os {
    const NAME: &'static str = "os";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let [first, second] = &self.paths;
        let path = if first.exists() { first } else { second };
        let written = fs::metadata(path).and_then(|found| found.modified());
        let written = written.map_err(|cause| ReadError { path: path.clone(), cause })?;
        let known = match self.known.take().filter(|known| known.written == written) {
            Some(known) => known,
            None => Known::read(&read_text(path, page)?, written),
        };
        samples.family(&FAMILIES[0]);
        samples.labelled(&[&known.info], 1.0);
        if let Some((labels, version)) = &known.version {
            samples.family(&FAMILIES[1]);
            samples.labelled(&[labels], *version);
        }
        self.known = Some(known);
        Ok(())
    }
}

impl Known {
    fn read(text: &str, written: SystemTime) -> Known {
        let labels = |names: &[&'static str]| {
            let values: Vec<String> =
                names.iter().map(|name| value(text, name).unwrap_or_default()).collect();
            Labels::new(names.iter().copied().zip(values.iter().map(String::as_str)))
        };
        let version = value(text, "version_id").and_then(|version| major_minor(&version));
        Known { written, info: labels(INFO), version: version.map(|version| (labels(VERSION), version)) }
    }
}

/// The value behind `KEY=`, in quotes or without, of the last line that has it.
fn value(text: &str, key: &str) -> Option<String> {
    let value = |line: &str| {
        let (name, value) = line.trim().split_once('=')?;
        name.eq_ignore_ascii_case(key).then(|| unquoted(value))
    };
    text.lines().rev().find_map(value)
}

fn unquoted(value: &str) -> String {
    let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    let mut out = String::new();
    let mut rest = inner.unwrap_or(value).chars();
    while let Some(character) = rest.next() {
        let next = if character == '\\' { rest.next() } else { None };
        out.push(next.unwrap_or(character));
    }
    out
}

/// `24.04.1` is 24.04.
fn major_minor(version: &str) -> Option<f64> {
    let mut parts = version.splitn(3, '.');
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let major = parts.next().filter(digits)?;
    let minor = parts.next().filter(digits).unwrap_or("0");
    format!("{major}.{minor}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_without_their_quotes() {
        let text = "NAME=\"A \\\"b\\\" \\$c\"\n# ID=no\nID=debian\nVERSION_ID='24.04.1'\n";
        assert_eq!(value(text, "name").as_deref(), Some("A \"b\" $c"));
        assert_eq!(value(text, "id").as_deref(), Some("debian"));
        assert_eq!(value(text, "version_id").and_then(|version| major_minor(&version)), Some(24.04));
        assert_eq!(
            (value(text, "variant"), major_minor("rolling"), major_minor("12")),
            (None, None, Some(12.0))
        );
    }
}
