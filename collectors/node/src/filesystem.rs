//! `filesystem`: how full file systems are.
//!
//! A file system that does not answer in time, such as a network mount whose server is away, holds up
//! nothing: it is shown as failing and is not asked again until it has answered.

mod mounts;
mod patient;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mounts::Mount;
use patient::{Answer, Figures, Patient};
use taffrail_kernfs::parse::lines;
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles, read};
use taffrail_record::{AskError, Family, Labels, Samples};

use crate::families::{Collect, flag, gauge};
use crate::list::Make;
use crate::recall::Recall;
use crate::{FilesystemConfig, NodeMetricsConfig};

const LABELS: &[&str] = &["device", "mountpoint", "fstype", "device_error"];
static FAMILIES: [Family; 8] = [
    gauge("node_filesystem_size_bytes", LABELS, "Size of the file system, in bytes."),
    gauge("node_filesystem_free_bytes", LABELS, "Bytes that are free."),
    gauge("node_filesystem_avail_bytes", LABELS, "Bytes that are free for those who are not root."),
    gauge("node_filesystem_files", LABELS, "How many files it can hold."),
    gauge("node_filesystem_files_free", LABELS, "How many more files it can hold."),
    gauge("node_filesystem_readonly", LABELS, "Whether it is mounted for reading only."),
    gauge("node_filesystem_device_error", LABELS, "Whether it could not be asked."),
    gauge(
        "node_filesystem_mount_info",
        &["device", "major", "minor", "mountpoint"],
        "Always 1; where a device is mounted.",
    ),
];
const READ_ONLY: usize = 5;
const ERROR: usize = 6;
const INFO: usize = 7;

pub(crate) struct Filesystem {
    /// The host's mounts, or the agent's own when it may not read those.
    files: [Kept; 2],
    own: bool,
    roots: Roots,
    config: FilesystemConfig,
    mounts: Recall<Option<Mount>>,
    paths: Arc<[PathBuf]>,
    patient: Patient,
}

impl Make for Filesystem {
    fn make(config: &NodeMetricsConfig, roots: &Roots) -> Self {
        let files = ["1/mountinfo", "self/mountinfo"].map(|name| Kept::new(roots.proc(name)));
        Filesystem {
            own: !readable(&files[0]),
            files,
            roots: roots.clone(),
            patient: Patient::new(Duration::from_millis(config.filesystem.patience_ms)),
            config: config.filesystem.clone(),
            mounts: Recall::default(),
            paths: Arc::new([]),
        }
    }
}

impl Collect for Filesystem {
    const NAME: &'static str = "filesystem";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        self.list(page, &mut troubles)?;
        let answers = self.patient.ask(&self.paths).map_err(|cause| AskError::Failed {
            what: "cannot start a thread to ask file systems".to_owned(),
            cause: Box::new(cause),
        })?;
        self.write(&answers, samples);
        troubles.told()
    }
}

impl Filesystem {
    fn list(&mut self, page: &mut Page, troubles: &mut Troubles) -> Result<(), ReadError> {
        let own = self.own;
        let file = &mut self.files[usize::from(own)];
        let text = match file.read(page) {
            Ok(text) => text,
            Err(error) => {
                self.own = !readable(&self.files[0]);
                return Err(error);
            }
        };
        self.mounts.begin();
        for line in lines(text) {
            let make = |_: &str| mounts::parse(line, own, &self.roots);
            let Some(mount) = self.mounts.next(line, make) else {
                troubles.note(ReadError::malformed(file.path(), "a line that is no mount"));
                continue;
            };
            mount.choose(&self.config);
        }
        if self.mounts.end() {
            self.settle();
        }
        Ok(())
    }

    /// Leaves out what is mounted twice with the same labels, and notes the paths to ask.
    fn settle(&mut self) {
        let mut seen = HashSet::new();
        for mount in self.mounts.rows_mut().flatten() {
            mount.again = !seen.insert(mount.labels.as_str().to_owned());
        }
        self.paths = shown(&self.mounts).map(|mount| mount.path.clone()).collect();
    }

    fn write(&self, answers: &[Option<Answer>], samples: &mut dyn Samples) {
        let errors: Vec<Labels> = answers.iter().map(error).collect();
        for (at, family) in FAMILIES.iter().enumerate() {
            samples.family(family);
            for ((mount, answer), error) in shown(&self.mounts).zip(answers).zip(&errors) {
                let figures = answer.as_ref().and_then(|answer| answer.as_ref().ok());
                if let Some(value) = value(at, mount, figures) {
                    let labels =
                        if at == INFO { [&mount.info, &Labels::NONE] } else { [&mount.labels, error] };
                    samples.labelled(&labels, value);
                }
            }
        }
    }
}

fn readable(file: &Kept) -> bool {
    read(file.path(), &mut Page::default()).is_ok()
}

fn shown(mounts: &Recall<Option<Mount>>) -> impl Iterator<Item = &Mount> {
    mounts.rows().flatten().filter(|mount| mount.shown == Some(true) && !mount.again)
}

fn error(answer: &Option<Answer>) -> Labels {
    let text = match answer {
        Some(Ok(_)) => String::new(),
        Some(Err(error)) => begun_small(error.desc()),
        None => "mountpoint timeout".to_owned(),
    };
    Labels::new([("device_error", text.as_str())])
}

/// Errors are written as node_exporter writes them.
fn begun_small(text: &str) -> String {
    let (first, rest) = text.split_at(text.len().min(1));
    first.to_ascii_lowercase() + rest
}

fn value(family: usize, mount: &Mount, figures: Option<&Figures>) -> Option<f64> {
    match family {
        READ_ONLY => Some(flag(mount.read_only)),
        ERROR => Some(flag(figures.is_none())),
        INFO => Some(1.0),
        figure => Some(figures?[figure]),
    }
}
