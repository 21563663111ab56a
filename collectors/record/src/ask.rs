//! Asked collectors: metrics that are collected when somebody scrapes.

use std::fmt::Write as _;

/// What a family's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Nobody has said; some consumers depend on that.
    Untyped,
    /// Buckets, a sum and a count; only samples that come from elsewhere are of this kind.
    Histogram,
    /// Quantiles, a sum and a count; only samples that come from elsewhere are of this kind.
    Summary,
}

impl Kind {
    /// As the text format names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Untyped => "untyped",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        }
    }
}

/// One metric: its name, what it says, its labels. Declared as a static beside the code that measures it.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Name, with `_total` for counters and the unit in it.
    pub name: &'static str,
    /// What its values mean.
    pub kind: Kind,
    /// One sentence for people; also the reference page's.
    pub help: &'static str,
    /// Label names; [`Samples::sample`] gives their values in this order.
    pub labels: &'static [&'static str],
}

/// A [`Family`] in a line, for lists of them.
#[must_use]
pub const fn family(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
) -> Family {
    Family { name, kind, help, labels }
}

/// A series whose name and labels are rendered once and written many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series(String);

impl Series {
    /// Renders `family`'s name with these label values, escaped as the exposition formats want it.
    #[must_use]
    pub fn new(family: &Family, values: &[&str]) -> Self {
        let labels = Labels::new(family.labels.iter().copied().zip(values.iter().copied()));
        if labels.0.is_empty() {
            Series(family.name.to_owned())
        } else {
            Series(format!("{}{{{}}}", family.name, labels.0))
        }
    }

    /// One that somebody else has rendered: `name{label="value",...}`, escaped.
    #[must_use]
    pub fn verbatim(text: String) -> Self {
        Series(text)
    }

    /// `name{label="value",...}`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Label names and values that are rendered once and belong to many series, of whatever family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    /// None.
    pub const NONE: Labels = Labels(String::new());

    /// Renders them in this order, values escaped as the exposition formats want it. Names must be valid.
    #[must_use]
    pub fn new<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = String::new();
        for (label, value) in labels {
            if !text.is_empty() {
                text.push(',');
            }
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
        text.shrink_to_fit();
        Labels(text)
    }

    /// `label="value",...`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Takes samples during a scrape.
pub trait Samples {
    /// Begins a family; the samples that follow belong to it.
    fn family(&mut self, family: &'static Family);

    /// Begins a family that only this machine names, such as a line of `/proc/meminfo`. Its samples have no labels, or
    /// come by [`Samples::labelled`] or [`Samples::series`]. The name must be valid.
    fn named(&mut self, name: &str, kind: Kind, help: &str);

    /// One sample of the current family.
    fn sample(&mut self, values: &[&str], value: f64);

    /// One sample of the current family with these labels, which no two of them share.
    fn labelled(&mut self, labels: &[&Labels], value: f64);

    /// One sample of the current family, its series rendered before.
    fn series(&mut self, series: &Series, value: f64);

    /// The type and the series of a family that collectors have written that were asked earlier in this scrape; nothing when
    /// none has, or when nobody keeps it.
    fn earlier(&self, _name: &str) -> Option<(Kind, Vec<Series>)> {
        None
    }
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
