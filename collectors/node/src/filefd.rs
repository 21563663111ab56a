//! `filefd`: open files of the whole node.

use taffrail_kernfs::parse::{decimal, words};
use taffrail_kernfs::{Kept, Page, Roots};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, gauge, put, said};
use crate::list::Make;

static FAMILIES: [Family; 2] = [
    gauge("node_filefd_allocated", &[], "Open files of all processes."),
    gauge("node_filefd_maximum", &[], "How many files may be open on this node."),
];

pub(crate) struct FileDescriptors(Kept);

impl Make for FileDescriptors {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        FileDescriptors(Kept::new(roots.proc("sys/fs/file-nr")))
    }
}

impl Collect for FileDescriptors {
    const NAME: &'static str = "filefd";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut words = words(self.0.read_once(page)?).map(decimal);
        let (allocated, maximum) = (words.next().flatten(), words.nth(1).flatten());
        put(samples, &FAMILIES[0], said(allocated, self.0.path(), "no number of open files")?);
        put(samples, &FAMILIES[1], said(maximum, self.0.path(), "no limit of open files")?);
        Ok(())
    }
}
