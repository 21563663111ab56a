//! Two scrapes of one machine, series by series.
//!
//! Figures move while they are read, so ours are read before and after the peer's: what lies between, or near enough, is the
//! same. Every difference that is left has a reason from [`super::reasons`], or it is unexplained.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use taffrail_text::Parsed;

use super::reasons;

/// A counter that a peer read up to so many seconds ago is the same counter.
const STALE: f64 = 0.05;
/// A gauge that differs by less than this part moves.
const NEAR: f64 = 0.02;

/// How two scrapes differ in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The peer alone has these series.
    OnlyTheirs,
    /// We alone have them.
    OnlyOurs,
    /// Both have them, ours with more labels.
    Labels,
    /// The type is another.
    Type,
    /// The value is another.
    Value,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::OnlyTheirs => "only theirs",
            Kind::OnlyOurs => "only ours",
            Kind::Labels => "more labels here",
            Kind::Type => "type",
            Kind::Value => "value",
        }
    }
}

/// One difference of one family.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The family.
    pub family: String,
    /// What differs.
    pub kind: Kind,
    /// In how many series.
    pub series: usize,
    /// One of them, with both values where both have one.
    pub example: String,
    /// Why; nothing when nobody knows.
    pub reason: Option<&'static str>,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Series that both have with the same type and value.
    pub same: usize,
    /// The others, by family.
    pub differences: Vec<Difference>,
}

/// Compares `theirs` with ours, read before and after it.
#[must_use]
pub fn compare(before: &[Parsed], after: &[Parsed], theirs: &[Parsed]) -> Report {
    let known: BTreeSet<&str> = theirs.iter().map(|family| family.name.as_str()).collect();
    let mut found: BTreeMap<(String, Kind, Option<&'static str>), (usize, String)> = BTreeMap::new();
    let mut note = |family: &str, kind: Kind, series: &str, more: String| {
        let reason = reasons::of(family, kind, series, known.contains(family));
        let example = format!("{series}{more}");
        found.entry((family.to_owned(), kind, reason)).or_insert((0, example)).0 += 1;
    };
    let (mut ours, earlier, peers) = (series(after), series(before), series(theirs));
    let mut same = 0;
    for (name, (family, value)) in &peers {
        let exact = ours.remove_entry(name);
        let Some((our_name, (our_family, our_value))) = exact.or_else(|| with_more_labels(&mut ours, name))
        else {
            note(&family.name, Kind::OnlyTheirs, name, format!(" {value}"));
            continue;
        };
        let moved_from = earlier.get(our_name).map_or(our_value, |(_, value)| *value);
        if family.kind != our_family.kind {
            let kinds = format!(": {} here, {} there", our_family.kind.name(), family.kind.name());
            note(&family.name, Kind::Type, name, kinds);
        } else if !is_same(moved_from, our_value, *value) {
            note(&family.name, Kind::Value, name, format!(": {our_value} here, {value} there"));
        } else if our_name == *name {
            same += 1;
        } else {
            note(&family.name, Kind::Labels, our_name, String::new());
        }
    }
    for (name, (family, value)) in &ours {
        note(&family.name, Kind::OnlyOurs, name, format!(" {value}"));
    }
    let difference =
        |((family, kind, reason), (series, example))| Difference { family, kind, series, example, reason };
    Report { same, differences: found.into_iter().map(difference).collect() }
}

type All<'p> = BTreeMap<&'p str, (&'p Parsed, f64)>;

fn series(families: &[Parsed]) -> All<'_> {
    let all = families.iter().flat_map(|family| family.samples.iter().map(move |sample| (family, sample)));
    all.map(|(family, (series, value))| (series.as_str(), (family, *value))).collect()
}

/// Takes out the one series of ours that has all labels of `wanted`, and more.
fn with_more_labels<'p>(ours: &mut All<'p>, wanted: &str) -> Option<(&'p str, (&'p Parsed, f64))> {
    let (family, labels) = split(wanted);
    let has_all = |name: &str| {
        let (other, all) = split(name);
        other == family && all.len() > labels.len() && labels.iter().all(|label| all.contains(label))
    };
    let mut fitting = ours
        .range(family..)
        .take_while(|(name, _)| name.starts_with(family))
        .filter(|(name, _)| has_all(name));
    let name = fitting.next().map(|(name, _)| *name);
    if fitting.next().is_some() {
        return None;
    }
    ours.remove_entry(name?)
}

/// The name, and each label with its value. A comma in a value cuts that in two, on both sides alike.
fn split(series: &str) -> (&str, Vec<&str>) {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    (name, labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect())
}

fn is_same(before: f64, after: f64, theirs: f64) -> bool {
    if theirs.to_bits() == after.to_bits() || theirs.is_nan() && after.is_nan() {
        return true;
    }
    let (low, high) = (before.min(after), before.max(after));
    let slack = NEAR * high.abs() + STALE * (high - low).abs();
    (low - slack..=high + slack).contains(&theirs)
}

impl Report {
    /// Whether every difference has a reason.
    #[must_use]
    pub fn is_explained(&self) -> bool {
        self.differences.iter().all(|difference| difference.reason.is_some())
    }

    pub(super) fn render(&self) -> String {
        let mut text = format!("{} series are the same.\n", self.same);
        let (explained, open): (Vec<_>, Vec<_>) = self.differences.iter().partition(|d| d.reason.is_some());
        if !open.is_empty() {
            text.push_str("\nUnexplained:\n");
        }
        for Difference { family, kind, series, example, .. } in open {
            let _ = writeln!(text, "  {family}  {} ({series} series)\n      {example}", kind.name());
        }
        let mut reasons: BTreeMap<&str, Vec<&Difference>> = BTreeMap::new();
        for difference in explained {
            reasons.entry(difference.reason.unwrap_or_default()).or_default().push(difference);
        }
        if !reasons.is_empty() {
            text.push_str("\nExplained:\n");
        }
        for (reason, differences) in reasons {
            let _ = writeln!(text, "  {reason}");
            for Difference { family, kind, series, .. } in differences {
                let _ = writeln!(text, "      {family}  {} ({series})", kind.name());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use taffrail_text::Times;

    use super::*;

    fn parsed(text: &str) -> Vec<Parsed> {
        taffrail_text::parse(text, Times::Ignored).expect("valid")
    }

    #[test]
    fn what_moves_while_it_is_read_is_the_same() {
        let before = parsed("# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 100\n");
        let after = parsed("# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 200\n");
        let report = |value: &str| {
            let theirs =
                format!("# TYPE a_total counter\na_total{{y=\"2\",x=\"1\"}} {value} 1700000000000\n");
            compare(&before, &after, &parsed(&theirs))
        };
        assert_eq!(report("150"), Report { same: 1, differences: vec![] });
        assert_eq!(report("95").same, 1, "a little older");
        let other = report("300");
        assert_eq!((other.same, other.differences[0].kind, other.is_explained()), (0, Kind::Value, false));
        assert!(other.render().contains("200 here, 300 there"), "{}", other.render());
    }

    #[test]
    fn what_one_side_alone_has_or_types_otherwise_is_told_once_for_a_family() {
        let ours = parsed("# TYPE a gauge\na 1\n# TYPE b gauge\nb{n=\"1\"} 1\nb{n=\"2\"} 1\n");
        let theirs = parsed("# TYPE a counter\na 1\n# TYPE go_threads gauge\ngo_threads 7\n");
        let report = compare(&ours, &ours, &theirs);
        let told: Vec<_> = report.differences.iter().map(|d| (d.family.as_str(), d.kind, d.series)).collect();
        assert_eq!(
            told,
            [("a", Kind::Type, 1), ("b", Kind::OnlyOurs, 2), ("go_threads", Kind::OnlyTheirs, 1)]
        );
        assert!(report.differences[2].reason.is_some(), "a Go program tells of itself");
    }

    #[test]
    fn a_series_with_more_labels_is_found_when_it_is_the_only_one() {
        let theirs = parsed("a{x=\"1\"} 1\na{x=\"2\"} 1\n");
        let ours = parsed(
            "a{more=\"m\",x=\"1\"} 1\na{more=\"m\",x=\"2\"} 1\na{more=\"n\",x=\"2\"} 1\nab{x=\"1\",y=\"\"} 1\n",
        );
        let told: Vec<_> = compare(&ours, &ours, &theirs)
            .differences
            .iter()
            .map(|d| (d.family.clone(), d.kind, d.series))
            .collect();
        let expected = [
            ("a", Kind::OnlyTheirs, 1),
            ("a", Kind::OnlyOurs, 2),
            ("a", Kind::Labels, 1),
            ("ab", Kind::OnlyOurs, 1),
        ];
        assert_eq!(told, expected.map(|(family, kind, series)| (family.to_owned(), kind, series)));
    }
}
