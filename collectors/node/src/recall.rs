//! What was made of a name in the last scrape, found again in this one.
//!
//! The kernel lists things in the same order every time, so the one that follows is nearly always the one
//! that followed before: neither a filter nor an allocation is needed again.

use std::collections::VecDeque;

use taffrail_record::{Family, Labels, Samples};

/// Something remembered per name, in the order in which the names come.
pub(crate) struct Recall<T> {
    /// What came in this scrape.
    rows: VecDeque<(Vec<u8>, T)>,
    /// What came in the last one and not yet in this.
    before: VecDeque<(Vec<u8>, T)>,
    changed: bool,
}

/// How far ahead a name is looked for when others have gone.
const AHEAD: usize = 64;

impl<T> Default for Recall<T> {
    fn default() -> Self {
        Recall { rows: VecDeque::new(), before: VecDeque::new(), changed: false }
    }
}

impl<T> Recall<T> {
    /// A scrape begins: names come from the first again.
    pub(crate) fn begin(&mut self) {
        // What an unfinished scrape did not come to stands behind what it did.
        self.rows.append(&mut self.before);
        std::mem::swap(&mut self.rows, &mut self.before);
        self.changed = false;
    }

    /// What is remembered for the next name; made when the name is new here.
    pub(crate) fn next(&mut self, name: &[u8], make: impl FnOnce(&str) -> T) -> &mut T {
        let ahead = self.before.iter().take(AHEAD).position(|(known, _)| known == name);
        if let Some(gone) = ahead.filter(|gone| *gone > 0) {
            self.before.drain(..gone);
        }
        let known = ahead.and_then(|_| self.before.pop_front());
        self.changed |= ahead != Some(0);
        let row = known.unwrap_or_else(|| (name.to_vec(), make(&String::from_utf8_lossy(name))));
        self.rows.push_back(row);
        let last = self.rows.len() - 1;
        &mut self.rows[last].1
    }

    /// What came in this scrape.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &T> {
        self.rows.iter().map(|(_, row)| row)
    }

    /// What came in this scrape.
    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.rows.iter_mut().map(|(_, row)| row)
    }

    /// Forgets what did not come in this scrape, and says whether that was anything other than in the last.
    pub(crate) fn end(&mut self) -> bool {
        self.changed |= !self.before.is_empty();
        self.before.clear();
        self.changed
    }
}

/// Things with `N` figures each, filled thing by thing and written family by family.
pub(crate) struct Table<const N: usize>(Recall<Option<Row<N>>>);

struct Row<const N: usize> {
    labels: Labels,
    figures: [Option<f64>; N],
}

impl<const N: usize> Default for Table<N> {
    fn default() -> Self {
        Table(Recall::default())
    }
}

impl<const N: usize> Table<N> {
    /// A scrape begins.
    pub(crate) fn begin(&mut self) {
        self.0.begin();
    }

    /// The figures of the next thing, all empty; nothing when `labels` says that it is not to be shown.
    pub(crate) fn row(
        &mut self,
        name: &[u8],
        labels: impl FnOnce(&str) -> Option<Labels>,
    ) -> Option<&mut [Option<f64>; N]> {
        let row = self.0.next(name, |name| Some(Row { labels: labels(name)?, figures: [None; N] }));
        let row = row.as_mut()?;
        row.figures = [None; N];
        Some(&mut row.figures)
    }

    /// Writes figure `i` of every thing as `families[i]`.
    pub(crate) fn write(&mut self, families: &'static [Family], samples: &mut dyn Samples) {
        self.0.end();
        for (at, family) in families.iter().enumerate().take(N) {
            samples.family(family);
            for row in self.0.rows().flatten() {
                if let Some(value) = row.figures[at] {
                    samples.labelled(&[&row.labels], value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use taffrail_record::Gathered;

    use super::*;
    use crate::families::gauge;

    static FAMILIES: [Family; 2] = [gauge("x_a", &["of"], "A."), gauge("x_b", &["of"], "B.")];

    fn written(table: &mut Table<2>, names: &[&str]) -> Vec<(String, String)> {
        table.begin();
        for name in names {
            let labels = |name: &str| (name != "hidden").then(|| Labels::new([("of", name)]));
            if let Some(figures) = table.row(name.as_bytes(), labels) {
                figures[0] = Some(1.0);
            }
        }
        let mut gathered = Gathered::default();
        table.write(&FAMILIES, &mut gathered);
        gathered.samples().iter().map(|s| (s.family.clone(), s.labels.clone())).collect()
    }

    #[test]
    fn things_come_and_go_and_hidden_ones_stay_hidden() {
        let mut table = Table::default();
        let of = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| ("x_a".to_owned(), format!("of=\"{name}\""))).collect()
        };
        assert_eq!(written(&mut table, &["a", "hidden", "b"]), of(&["a", "b"]));
        assert_eq!(written(&mut table, &["hidden", "b"]), of(&["b"]));
        assert_eq!(written(&mut table, &["b", "a", "hidden", "c"]), of(&["b", "a", "c"]));
        assert_eq!(written(&mut table, &[]), of(&[]));
    }
}
