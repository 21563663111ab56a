//! Samples kept as figures, for whoever wants no text: `taffrail run --once`, tests.

use crate::{Family, Kind, Labels, Samples, Series};

/// Takes samples and keeps them in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gathered {
    samples: Vec<Sample>,
    family: String,
    labels: &'static [&'static str],
}

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name of its family.
    pub family: String,
    /// Its labels, rendered: `a="x",b="y"`.
    pub labels: String,
    /// The value.
    pub value: f64,
}

impl Gathered {
    /// Every sample, in the order in which it was given.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The value of a family's one sample with these labels, rendered; empty for none.
    #[must_use]
    pub fn value(&self, family: &str, labels: &str) -> Option<f64> {
        let found = self.samples.iter().find(|s| s.family == family && s.labels == labels);
        found.map(|sample| sample.value)
    }

    /// The sum of a family's samples.
    #[must_use]
    pub fn sum(&self, family: &str) -> f64 {
        self.samples.iter().filter(|sample| sample.family == family).map(|sample| sample.value).sum()
    }

    fn push(&mut self, labels: String, value: f64) {
        self.samples.push(Sample { family: self.family.clone(), labels, value });
    }
}

impl Samples for Gathered {
    fn family(&mut self, family: &'static Family) {
        self.named(family.name, family.kind, family.help);
        self.labels = family.labels;
    }

    fn named(&mut self, name: &str, _: Kind, _: &str) {
        name.clone_into(&mut self.family);
        self.labels = &[];
    }

    fn sample(&mut self, values: &[&str], value: f64) {
        let labels = Labels::new(self.labels.iter().copied().zip(values.iter().copied()));
        self.push(labels.as_str().to_owned(), value);
    }

    fn labelled(&mut self, labels: &[&Labels], value: f64) {
        let parts: Vec<&str> = labels.iter().map(|l| l.as_str()).filter(|text| !text.is_empty()).collect();
        self.push(parts.join(","), value);
    }

    fn series(&mut self, series: &Series, value: f64) {
        let labels = series.as_str().split_once('{').map_or("", |(_, rest)| rest.trim_end_matches('}'));
        self.push(labels.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static LEVEL: Family = Family { name: "x_level", kind: Kind::Gauge, help: "Level.", labels: &["of"] };

    #[test]
    fn samples_are_found_by_their_family_and_labels_however_they_were_given() {
        let mut gathered = Gathered::default();
        gathered.family(&LEVEL);
        gathered.sample(&["a"], 1.0);
        gathered.series(&Series::new(&LEVEL, &["b"]), 2.0);
        gathered.labelled(&[&Labels::new([("of", "c")]), &Labels::NONE], 3.0);
        gathered.named("y", Kind::Untyped, "Y.");
        gathered.sample(&[], 4.0);
        let level = |labels| gathered.value("x_level", labels);
        assert_eq!([level("of=\"a\""), level("of=\"b\""), level("of=\"c\"")], [1.0, 2.0, 3.0].map(Some));
        assert_eq!(
            (gathered.sum("x_level"), gathered.value("y", ""), gathered.value("z", "")),
            (6.0, Some(4.0), None)
        );
    }
}
