//! The families of all files, each with one header.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use taffrail_record::{Kind, Samples, Series};

use taffrail_text::Parsed;

use super::File;

/// What is written on every scrape until a file changes.
#[derive(Default)]
pub(super) struct Merged {
    families: Vec<Part>,
    /// The first thing that two files, or two lines, disagree about.
    pub(super) conflict: Option<String>,
}

/// One family of one file, with the header that all of its name have.
struct Part {
    file: Arc<Vec<Parsed>>,
    path: Arc<str>,
    at: usize,
    help: Arc<str>,
    /// Which of its samples are written: those that no other has been before.
    fresh: Vec<bool>,
}

impl Part {
    fn family(&self) -> &Parsed {
        &self.file[self.at]
    }
}

struct Header {
    kind: Kind,
    help: Option<Arc<str>>,
    file: String,
}

impl Merged {
    /// In the order of the files. Where two disagree about a family's kind the later one's samples are left
    /// out.
    pub(super) fn of(files: &[File]) -> Merged {
        let mut merged = Merged::default();
        let mut headers: HashMap<String, Header> = HashMap::new();
        let mut seen: HashSet<String> = HashSet::new();
        for file in files {
            let Ok(parsed) = &file.parsed else { continue };
            let path: Arc<str> = file.path.display().to_string().into();
            for (at, family) in parsed.iter().enumerate().filter(|(_, family)| !family.samples.is_empty()) {
                let Some(help) = merged.agree(&mut headers, family, &path) else { continue };
                let fresh: Vec<bool> = family
                    .samples
                    .iter()
                    .map(|(series, _)| seen.insert(series.as_str().to_owned()))
                    .collect();
                if fresh.contains(&false) {
                    merged.note(format!("{path}: {} has a series twice", family.name));
                }
                let (file, path) = (Arc::clone(parsed), Arc::clone(&path));
                merged.families.push(Part { file, path, at, help, fresh });
            }
        }
        merged
    }

    /// The help that goes with this family; nothing when its kind is another than before.
    fn agree(
        &mut self,
        headers: &mut HashMap<String, Header>,
        family: &Parsed,
        path: &str,
    ) -> Option<Arc<str>> {
        let help = family.help.as_deref().map(Arc::from);
        let Some(known) = headers.get(&family.name) else {
            let shown = help.clone().unwrap_or_else(|| format!("Metric read from {path}").into());
            let header = Header { kind: family.kind, help, file: path.to_owned() };
            headers.insert(family.name.clone(), header);
            return Some(shown);
        };
        if known.kind != family.kind {
            self.note(format!("{path}: {} is of another type than in {}", family.name, known.file));
            return None;
        }
        if help.is_some() && known.help.is_some() && known.help != help {
            self.note(format!("{path}: {} has another help than in {}", family.name, known.file));
        }
        Some(known.help.clone().or(help).unwrap_or_else(|| format!("Metric read from {}", known.file).into()))
    }

    fn note(&mut self, conflict: String) {
        self.conflict.get_or_insert(conflict);
    }

    /// Every family that is written.
    pub(super) fn written(&self) -> impl Iterator<Item = &Parsed> {
        self.families.iter().map(Part::family)
    }

    /// The first series of any file that is among these.
    pub(super) fn first_of(&self, clashes: &HashSet<String>) -> Option<String> {
        let clashing = |part: &Part| {
            let series = part.family().samples.iter().find(|(series, _)| clashes.contains(series.as_str()));
            let said = |series: &Series| {
                format!("{}: {} is left out: another collector has it", part.path, series.as_str())
            };
            series.map(|(series, _)| said(series))
        };
        self.families.iter().find_map(clashing)
    }

    /// Writes all but the series among these.
    pub(super) fn write(&self, samples: &mut dyn Samples, clashes: &HashSet<String>) {
        for part in &self.families {
            let family = part.family();
            let each = family.samples.iter().zip(&part.fresh);
            let own = each.filter(|((series, _), fresh)| **fresh && !clashes.contains(series.as_str()));
            let mut own = own.map(|(sample, _)| sample).peekable();
            if own.peek().is_some() {
                samples.named(&family.name, family.kind, &part.help);
            }
            own.for_each(|(series, value)| samples.series(series, *value));
        }
    }
}
