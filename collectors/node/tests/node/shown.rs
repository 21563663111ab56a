//! What collectors write, as lines that a test can compare.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use taffrail_kernfs::Roots;
use taffrail_node::{NodeMetricsConfig, READ_ERRORS, collectors};
use taffrail_record::{Ask, AskError, Family, Kind, Labels, Samples, Series};

/// Families with their type and their lines, in the order of their names.
#[derive(Default)]
pub(crate) struct Shown {
    families: BTreeMap<String, (Kind, Vec<String>)>,
    current: String,
    labels: &'static [&'static str],
}

impl Shown {
    /// All that `names`, or everything when there are none, say of `roots`; and what they complain about.
    pub(crate) fn of(config: &NodeMetricsConfig, roots: &Roots, names: &[&str]) -> (Shown, Vec<String>) {
        Shown::of_all(&collectors(config, roots), names)
    }

    /// The same of these collectors.
    pub(crate) fn of_all(collectors: &[Arc<dyn Ask>], names: &[&str]) -> (Shown, Vec<String>) {
        let (mut shown, mut complaints) = (Shown::default(), Vec::new());
        for collector in collectors {
            if !names.is_empty() && !names.contains(&collector.name()) {
                continue;
            }
            match collector.ask(&mut shown) {
                Ok(()) | Err(AskError::Absent(_)) => {}
                Err(error) => complaints.push(format!("{}: {error}", collector.name())),
            }
        }
        (shown, complaints)
    }

    /// As an exposition without help texts. What a file system says, and when a
    /// file was written, is the machine's and not the fixture's. How much has failed is left out.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let shown = |(name, (_, lines)): &(&String, &(Kind, Vec<String>))| {
            !lines.is_empty() && name.as_str() != READ_ERRORS[0].name
        };
        for (name, (kind, lines)) in self.families.iter().filter(shown) {
            let _ = writeln!(text, "# TYPE {name} {}", kind.name());
            let machine = ["size_bytes", "free_bytes", "avail_bytes", "files", "files_free"];
            let machine = name.strip_prefix("node_filesystem_").is_some_and(|rest| machine.contains(&rest))
                || name == "node_textfile_mtime_seconds";
            for line in lines {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let _ = writeln!(text, "{series} {}", if machine { "*" } else { value });
            }
        }
        text
    }

    /// The families that have lines.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, Kind)> {
        let said = self.families.iter().filter(|(_, (_, lines))| !lines.is_empty());
        said.map(|(name, (kind, _))| (name.as_str(), *kind))
    }

    /// The lines of a family.
    pub(crate) fn lines(&self, family: &str) -> Vec<&str> {
        let lines = self.families.get(family).map(|(_, lines)| lines.iter().map(String::as_str).collect());
        lines.unwrap_or_default()
    }

    fn push(&mut self, series: &str, value: f64) {
        let (_, lines) = self.families.get_mut(&self.current).expect("a family comes first");
        lines.push(format!("{series} {value}"));
    }
}

impl Samples for Shown {
    fn family(&mut self, family: &'static Family) {
        self.named(family.name, family.kind, family.help);
        self.labels = family.labels;
    }

    fn named(&mut self, name: &str, kind: Kind, help: &str) {
        assert!(!help.is_empty() && !name.contains('*'), "{name}");
        name.clone_into(&mut self.current);
        self.labels = &[];
        let family = self.families.entry(name.to_owned()).or_insert((kind, Vec::new()));
        assert_eq!(family.0, kind, "{name}");
    }

    fn sample(&mut self, values: &[&str], value: f64) {
        assert_eq!(values.len(), self.labels.len(), "{}", self.current);
        let labels = Labels::new(self.labels.iter().copied().zip(values.iter().copied()));
        self.labelled(&[&labels], value);
    }

    fn labelled(&mut self, labels: &[&Labels], value: f64) {
        let parts: Vec<&str> = labels.iter().map(|l| l.as_str()).filter(|text| !text.is_empty()).collect();
        let labels = if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) };
        let series = format!("{}{labels}", self.current);
        self.push(&series, value);
    }

    fn series(&mut self, series: &Series, value: f64) {
        self.push(series.as_str(), value);
    }

    fn earlier(&self, name: &str) -> Option<(Kind, Vec<Series>)> {
        let (kind, lines) = self.families.get(name).filter(|(_, lines)| !lines.is_empty())?;
        let series = lines.iter().filter_map(|line| line.rsplit_once(' '));
        Some((*kind, series.map(|(series, _)| Series::verbatim(series.to_owned())).collect()))
    }
}
