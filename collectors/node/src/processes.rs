//! `processes`: how many processes and threads there are, and in which states.

use std::collections::BTreeMap;
use std::path::PathBuf;

use taffrail_kernfs::parse::{number, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles, read};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, gauge, put, said};
use crate::list::Make;
use crate::single::{Single, write_all};
use crate::sources::names;

static FAMILIES: [Family; 5] = [
    gauge("node_processes_state", &["state"], "Processes that are in a state, by its letter."),
    gauge("node_processes_threads", &[], "Threads of all processes."),
    gauge("node_processes_pids", &[], "Processes."),
    gauge("node_processes_max_threads", &[], "How many threads there can be."),
    gauge("node_processes_max_processes", &[], "How large a process's number can be."),
];

pub(crate) struct Processes {
    folder: PathBuf,
    limits: [Single; 2],
}

impl Make for Processes {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        let file = |name: &str| Kept::new(roots.proc(&format!("sys/kernel/{name}")));
        let limits = [(&FAMILIES[3], file("threads-max")), (&FAMILIES[4], file("pid_max"))];
        Processes { folder: roots.proc.clone(), limits }
    }
}

impl Collect for Processes {
    const NAME: &'static str = "processes";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        let mut states: BTreeMap<char, u32> = BTreeMap::new();
        let (mut threads, mut count) = (0, 0);
        for name in names(&self.folder)?.iter().filter(|name| number(name.as_bytes()).is_some()) {
            // One that has ended in the meantime is no process.
            let Some((state, its)) = troubles.take(self.process(name, page)) else { continue };
            *states.entry(state).or_default() += 1;
            threads += its;
            count += 1;
        }
        samples.family(&FAMILIES[0]);
        states.iter().for_each(|(state, count)| samples.sample(&[&state.to_string()], f64::from(*count)));
        put(samples, &FAMILIES[1], threads as f64);
        put(samples, &FAMILIES[2], f64::from(count));
        write_all(&mut self.limits, page, samples)?;
        troubles.told()
    }
}

impl Processes {
    /// A process's state and how many threads it has.
    fn process(&self, name: &str, page: &mut Page) -> Result<(char, u64), ReadError> {
        let path = self.folder.join(name).join("stat");
        let text = read(&path, page)?;
        // The name in brackets may have anything in it.
        let behind = memchr::memrchr(b')', text).map(|end| &text[end + 1..]);
        let parsed = behind.and_then(|rest| {
            let mut words = words(rest);
            let state = char::from(*words.next()?.first()?);
            Some((state, number(words.nth(16)?)?))
        });
        said(parsed, &path, "no state or no number of threads")
    }
}
