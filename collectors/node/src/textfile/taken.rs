//! Series that other collectors write on the same page.
//!
//! Only when a file has a family that another collector declares is that collector asked which series it has now. A family
//! that the file gives another type is left out with all its series.

use std::collections::HashSet;
use std::sync::Arc;

use taffrail_record::{Ask, Family, Gathered, Kind, Labels};
use taffrail_text::{Parsed, split};

/// Who else writes.
#[derive(Default)]
pub(super) struct Taken {
    others: Vec<Arc<dyn Ask>>,
    own: &'static [Family],
}

impl Taken {
    /// By `others`, and by the collector itself under the names of `own`.
    pub(super) fn by(others: &[Arc<dyn Ask>], own: &'static [Family]) -> Taken {
        Taken { others: others.to_vec(), own }
    }

    /// Those series of `families` that are taken.
    pub(super) fn clashes<'f>(&self, families: impl Iterator<Item = &'f Parsed>) -> HashSet<String> {
        let mut clashes = HashSet::new();
        for family in families {
            let all = || family.samples.iter().map(|(series, _)| series.as_str().to_owned());
            if self.own.iter().any(|own| own.name == family.name) {
                clashes.extend(all());
            }
            for other in &self.others {
                let Some(kind) = declared(&**other, &family.name) else { continue };
                let taken = series(&**other, &family.name);
                let differs = kind != family.kind && !taken.is_empty();
                clashes.extend(all().filter(|series| differs || taken.contains(series)));
            }
        }
        clashes
    }
}

/// The type of a family of this name, if a collector may write one.
fn declared(other: &dyn Ask, name: &str) -> Option<Kind> {
    let is_named = |family: &&Family| match family.name.split_once('*') {
        Some((start, end)) => name.starts_with(start) && name.ends_with(end),
        None => family.name == name,
    };
    other.families().iter().find(is_named).map(|family| family.kind)
}

/// The series that a collector has of a family now, with their labels sorted as those of files are.
fn series(other: &dyn Ask, name: &str) -> HashSet<String> {
    let mut gathered = Gathered::default();
    // What it could not read it does not write either.
    let _ = other.ask(&mut gathered);
    let of_it = gathered.samples().iter().filter(|sample| sample.family == name);
    of_it.map(|sample| sorted(name, &sample.labels)).collect()
}

fn sorted(name: &str, labels: &str) -> String {
    let text = format!("{{{labels}}}");
    let mut pairs = split(&text).1;
    pairs.sort_unstable();
    let pairs = pairs.into_iter().map(|(label, value)| (label, taffrail_text::unescape(value)));
    let pairs: Vec<(&str, String)> = pairs.collect();
    match Labels::new(pairs.iter().map(|(label, value)| (*label, value.as_str()))).as_str() {
        "" => name.to_owned(),
        labels => format!("{name}{{{labels}}}"),
    }
}
