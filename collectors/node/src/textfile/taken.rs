//! Series that others write on the same page.
//!
//! Nobody is asked for them: what counts is what they have written in this scrape, so one that hangs or fails holds nothing
//! up, and then has nothing. A family to which the file gives another type than they is left out with all its series, and so
//! is one that is written behind the files.

use std::collections::{HashMap, HashSet};

use taffrail_record::{Family, Kind, Labels, Samples};
use taffrail_text::{Parsed, split};

/// The families that no file may have.
pub(super) struct Taken(Vec<&'static str>);

impl Taken {
    /// Whatever labels there are in a file.
    pub(super) fn new(families: impl IntoIterator<Item = &'static [Family]>) -> Taken {
        Taken(families.into_iter().flatten().map(|family| family.name).collect())
    }

    /// Those series of `families` that are taken, also by what was written on the page of `samples` earlier.
    pub(super) fn clashes<'f>(
        &self,
        families: impl Iterator<Item = &'f Parsed>,
        samples: &dyn Samples,
    ) -> HashSet<String> {
        let mut clashes = HashSet::new();
        let mut earlier: HashMap<&str, Option<(Kind, HashSet<String>)>> = HashMap::new();
        for family in families {
            let name = family.name.as_str();
            let all = || family.samples.iter().map(|(series, _)| series.as_str().to_owned());
            if self.0.contains(&name) {
                clashes.extend(all());
            } else if let Some((kind, series)) = earlier.entry(name).or_insert_with(|| written(samples, name))
            {
                clashes.extend(all().filter(|own| *kind != family.kind || series.contains(own)));
            }
        }
        clashes
    }
}

/// What the page has of a family, the labels sorted as those of files are.
fn written(samples: &dyn Samples, name: &str) -> Option<(Kind, HashSet<String>)> {
    let (kind, series) = samples.earlier(name)?;
    Some((kind, series.iter().map(|series| sorted(series.as_str())).collect()))
}

fn sorted(series: &str) -> String {
    let (name, mut pairs) = split(series);
    pairs.sort_unstable();
    let pairs = pairs.into_iter().map(|(label, value)| (label, taffrail_text::unescape(value)));
    let pairs: Vec<(&str, String)> = pairs.collect();
    match Labels::new(pairs.iter().map(|(label, value)| (*label, value.as_str()))).as_str() {
        "" => name.to_owned(),
        labels => format!("{name}{{{labels}}}"),
    }
}
