//! Pages in Prometheus' text format, read strictly.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

/// A series: its name, and its labels in order.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Series {
    /// The value of a label, empty when there is none.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// What a page says.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// The type of each family that is declared.
    pub(crate) types: BTreeMap<String, String>,
    /// Every sample.
    pub(crate) samples: BTreeMap<Series, f64>,
}

impl Exposition {
    /// Reads a page.
    ///
    /// # Errors
    /// When a line is malformed, or a series or a type is there twice.
    pub(crate) fn parse(page: &str) -> Result<Self> {
        let mut exposition = Self::default();
        for line in page.lines().filter(|line| !line.is_empty()) {
            exposition.add(line).with_context(|| format!("in the line {line:?}"))?;
        }
        Ok(exposition)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').context("no type")?;
            ensure!(self.types.insert(name.to_owned(), kind.to_owned()).is_none(), "a second type");
            return Ok(());
        }
        if line.starts_with('#') {
            return Ok(());
        }
        let end = line.find(['{', ' ']).context("no value")?;
        let (name, mut rest) = line.split_at(end);
        let mut series = Series { name: name.to_owned(), labels: BTreeMap::new() };
        if let Some(inside) = rest.strip_prefix('{') {
            rest = labels(inside, &mut series.labels)?;
        }
        let value = rest.split_whitespace().next().context("no value")?;
        ensure!(self.samples.insert(series, value.parse()?).is_none(), "the series is there twice");
        Ok(())
    }

    /// The value of the only series of this name that has these labels, if there is one.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<Option<f64>> {
        let has = |series: &Series| labels.iter().all(|(label, value)| series.label(label) == *value);
        let mut found = self.samples.iter().filter(|(series, _)| series.name == name && has(series));
        let first = found.next();
        ensure!(found.next().is_none(), "{name} with {labels:?} is there more than once");
        Ok(first.map(|(_, value)| *value))
    }
}

/// Reads labels up to the closing brace; what follows it.
fn labels<'t>(mut text: &'t str, into: &mut BTreeMap<String, String>) -> Result<&'t str> {
    loop {
        text = text.trim_start_matches(',');
        if let Some(rest) = text.strip_prefix('}') {
            return Ok(rest);
        }
        let (name, rest) = text.split_once("=\"").context("no label")?;
        let (value, rest) = quoted(rest)?;
        ensure!(into.insert(name.to_owned(), value).is_none(), "the label {name} is there twice");
        text = rest;
    }
}

/// Reads to the closing quote; the text, and what follows.
fn quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match letters.next().context("nothing after a backslash")?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    bail!("no closing quote")
}
