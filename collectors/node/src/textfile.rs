//! `textfile`: metrics that others leave in files.
//!
//! A file that cannot be understood is left out as a whole, and `node_textfile_scrape_error` says that one
//! was. A file is parsed again only when it was written again. A series that another collector has written is left
//! out, too: with one series twice Prometheus would take neither for certain.

mod find;
mod merge;
mod taken;

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use merge::Merged;
use taffrail_kernfs::{Page, Roots, read};
use taffrail_record::{AskError, Family, Kind, Samples};
use taffrail_text::{Parsed, Times};
use taken::Taken;

use crate::NodeMetricsConfig;
use crate::families::{Collect, READ_ERRORS, flag, gauge, put};
use crate::list::Make;

static FAMILIES: [Family; 3] = [
    gauge("node_textfile_scrape_error", &[], "Whether a file could not be read or understood."),
    gauge(
        "node_textfile_mtime_seconds",
        &["file"],
        "When a file was written last, in seconds since the Unix epoch.",
    ),
    Family { name: "*", kind: Kind::Untyped, help: "Whatever the files have.", labels: &[] },
];

pub(crate) struct Textfile {
    directories: Vec<PathBuf>,
    roots: Roots,
    files: Vec<File>,
    merged: Merged,
    taken: Taken,
}

/// A file as it was when it was read last.
struct File {
    /// As the host calls it.
    path: PathBuf,
    identity: Identity,
    written: f64,
    parsed: Result<Arc<Vec<Parsed>>, String>,
}

/// Device, inode, size, and when it was written and changed, to the nanosecond.
type Identity = [i128; 5];

impl Make for Textfile {
    fn make(config: &NodeMetricsConfig, roots: &Roots) -> Self {
        let directories = config.textfile.directories.clone();
        let (roots, merged) = (roots.clone(), Merged::default());
        let taken = Taken::new([&FAMILIES[..2], &READ_ERRORS]);
        Textfile { directories, roots, files: Vec::new(), merged, taken }
    }
}

impl Textfile {
    /// On a page that writes the families of `said` itself.
    pub(crate) fn beside(self, said: &'static [Family]) -> Self {
        Textfile { taken: Taken::new([&FAMILIES[..2], &READ_ERRORS, said]), ..self }
    }
}

impl Collect for Textfile {
    const NAME: &'static str = "textfile";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut trouble = self.refresh(page);
        let failed = |file: &File| Some(format!("{}: {}", file.path.display(), file.parsed.as_ref().err()?));
        trouble = trouble.or_else(|| self.files.iter().find_map(failed));
        trouble = trouble.or_else(|| self.merged.conflict.clone());
        let clashes = self.taken.clashes(self.merged.written(), samples);
        trouble = trouble.or_else(|| self.merged.first_of(&clashes));
        put(samples, &FAMILIES[0], flag(trouble.is_some()));
        samples.family(&FAMILIES[1]);
        for file in self.files.iter().filter(|file| file.parsed.is_ok()) {
            samples.sample(&[&file.path.to_string_lossy()], file.written);
        }
        self.merged.write(samples, &clashes);
        trouble.map_or(Ok(()), |cause| {
            Err(AskError::Failed { what: "text files".to_owned(), cause: cause.into() })
        })
    }
}

impl Textfile {
    /// Reads what was written since; says what could not be listed.
    fn refresh(&mut self, page: &mut Page) -> Option<String> {
        let mut before = std::mem::take(&mut self.files);
        let (found, trouble) = find::files(&self.directories, &self.roots);
        let mut changed = before.len() != found.len();
        for path in found {
            let at = self.roots.host(&path);
            let Ok(metadata) = fs::metadata(&at) else {
                // It went away since it was listed.
                changed = true;
                continue;
            };
            let identity = identity(&metadata);
            let known = before.iter().position(|file| file.path == path && file.identity == identity);
            changed |= known.is_none();
            let file = known.map(|known| before.swap_remove(known));
            self.files.push(file.unwrap_or_else(|| File::read(path, &at, &metadata, page)));
        }
        if changed {
            self.merged = Merged::of(&self.files);
        }
        trouble
    }
}

fn identity(metadata: &Metadata) -> Identity {
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    [
        metadata.dev().into(),
        metadata.ino().into(),
        metadata.size().into(),
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    ]
}

impl File {
    fn read(path: PathBuf, at: &Path, metadata: &Metadata, page: &mut Page) -> File {
        let parsed = read(at, page).map_err(|error| error.cause.to_string()).and_then(|text| {
            let text = std::str::from_utf8(text).map_err(|_| "not UTF-8".to_owned())?;
            taffrail_text::parse(text, Times::Refused).map(Arc::new).map_err(|refused| refused.to_string())
        });
        let written = metadata.mtime() as f64 + metadata.mtime_nsec() as f64 / 1e9;
        File { path, identity: identity(metadata), written, parsed }
    }
}
