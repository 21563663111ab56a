//! The same series of two programs, looked at until both agree.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::{Exposition, Series};

/// Theirs, read after `before` and before `after`.
pub(crate) struct Round {
    pub(crate) before: Exposition,
    pub(crate) theirs: Exposition,
    pub(crate) after: Exposition,
}

impl Round {
    /// A series' values: ours, theirs and ours again.
    pub(crate) fn values(&self, series: &Series) -> (Option<f64>, Option<f64>, Option<f64>) {
        let value = |page: &Exposition| page.samples.get(series).copied();
        (value(&self.before), value(&self.theirs), value(&self.after))
    }

    fn series(&self) -> BTreeSet<&Series> {
        [&self.before, &self.theirs, &self.after].into_iter().flat_map(|page| page.samples.keys()).collect()
    }

    /// Families that both declare, differently.
    fn types(&self) -> Vec<String> {
        let differ = |(name, here): (&String, &String)| {
            let there = self.theirs.types.get(name).filter(|there| *there != here)?;
            Some(format!("{name} is a {here} here and a {there} there"))
        };
        self.after.types.iter().filter_map(differ).collect()
    }
}

/// Takes rounds until there was no `complaint` of each series once: what goes up and down within a second can miss both of
/// our looks. Gives the series.
///
/// # Errors
/// What is left to complain about.
pub(crate) fn agree(
    mut take: impl FnMut() -> Result<Round>,
    complaint: impl Fn(&Round, &Series) -> Option<String>,
) -> Result<BTreeSet<Series>> {
    const ROUNDS: usize = 40;
    let mut agreed: BTreeSet<Series> = BTreeSet::new();
    let mut complaints = Vec::new();
    for _ in 0..ROUNDS {
        let round = take()?;
        complaints = round.types();
        for series in round.series() {
            match complaint(&round, series) {
                None => drop(agreed.insert(series.clone())),
                Some(_) if agreed.contains(series) => {}
                Some(complaint) => {
                    complaints.push(format!("{} {:?}: {complaint}", series.name, series.labels));
                }
            }
        }
        if complaints.is_empty() {
            return Ok(agreed);
        }
    }
    bail!("after {ROUNDS} rounds:\n{}", complaints.join("\n"))
}
