//! Asked collectors: metrics that are collected when somebody scrapes.

use std::fmt::Write as _;

/// What a family's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One metric: its name, what it says, its labels. Declared as a static beside the code that measures it.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Name, with `_total` for counters and the unit in it.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// One sentence for people; also the reference page's.
    pub help: &'static str,
    /// Label names; [`Samples::sample`] gives their values in this order.
    pub labels: &'static [&'static str],
}

/// A series whose name and labels are rendered once and written many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series(String);

impl Series {
    /// Renders `family`'s name with these label values, escaped as the exposition formats want it.
    #[must_use]
    pub fn new(family: &Family, values: &[&str]) -> Self {
        let mut text = String::from(family.name);
        for (index, (label, value)) in family.labels.iter().zip(values).enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            let _ = write!(text, "{label}=\"");
            for character in value.chars() {
                match character {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    other => text.push(other),
                }
            }
            text.push('"');
        }
        if !family.labels.is_empty() {
            text.push('}');
        }
        Series(text)
    }

    /// `name{label="value",...}`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Takes samples during a scrape.
pub trait Samples {
    /// Begins a family; the samples that follow belong to it.
    fn family(&mut self, family: &'static Family);

    /// One sample of the current family.
    fn sample(&mut self, values: &[&str], value: f64);

    /// One sample of the current family, its series rendered before.
    fn series(&mut self, series: &Series, value: f64);
}

/// A collector that answers when asked.
pub trait Ask: Send + Sync {
    /// Its name in `collect[]` and in the metrics about the scrape itself.
    fn name(&self) -> &'static str;

    /// Every family it may write, for the generated reference.
    fn families(&self) -> &'static [Family];

    /// Writes its samples. What cannot be read is left out and said in the error; what could be is written.
    ///
    /// # Errors
    /// [`AskError`] when anything could not be read.
    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError>;
}

/// Why samples are missing.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// This machine does not have it: expected, logged quietly.
    #[error("not available here: {0}")]
    Absent(String),
    /// It should be there and could not be read.
    #[error("{what}: {cause}")]
    Failed {
        /// What was being read (path).
        what: String,
        /// The cause.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        static FAMILY: Family =
            Family { name: "x_total", kind: Kind::Counter, help: "X.", labels: &["a", "b"] };
        assert_eq!(
            Series::new(&FAMILY, &["p\"q\\", "l\nm"]).as_str(),
            "x_total{a=\"p\\\"q\\\\\",b=\"l\\nm\"}"
        );
    }
}
