//! How families are declared and written here, in few words.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use taffrail_kernfs::{Page, ReadError, Reason, Troubles, failures};
use taffrail_record::{Ask, AskError, Family, Kind, Samples};

/// A collector: what it is called, what it writes, and how it reads. [`asked`] makes it one that can be
/// asked.
pub(crate) trait Collect: Send {
    /// node_exporter's name for it.
    const NAME: &'static str;
    /// Every family that it may write; a `*` stands for what the machine names.
    const FAMILIES: &'static [Family];

    /// Reads by way of `page` and writes.
    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError>;
}

/// Failures of all collectors.
pub static READ_ERRORS: [Family; 1] = [Family {
    name: "taffrail_node_read_errors_total",
    kind: Kind::Counter,
    help: "Reads of the node's files that failed, by reason; a reason has a series from its first failure on.",
    labels: &["collector", "reason"],
}];

/// A collector, what it reads into, and how often it has failed for each reason.
struct Asked<C>(Mutex<(C, Page, [u64; Reason::ALL.len()])>);

impl<C: Collect> Ask for Asked<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn families(&self) -> &'static [Family] {
        C::FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut state = self.0.lock();
        let (collector, page, failed) = &mut *state;
        let result = collector.collect(page, samples);
        for (reason, count) in result.as_ref().err().into_iter().flat_map(failures) {
            failed[reason as usize] += count;
        }
        samples.family(&READ_ERRORS[0]);
        for (reason, count) in Reason::ALL.into_iter().zip(*failed).filter(|(_, count)| *count > 0) {
            samples.sample(&[C::NAME, reason.name()], count as f64);
        }
        result
    }
}

/// `collector` with a lock around it.
pub(crate) fn asked(collector: impl Collect + 'static) -> Arc<dyn Ask> {
    Arc::new(Asked(Mutex::new((collector, Page::default(), Default::default()))))
}

/// A gauge with these labels.
pub(crate) const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels }
}

/// A counter with these labels.
pub(crate) const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Counter, help, labels }
}

/// One sample without labels.
pub(crate) fn put(samples: &mut dyn Samples, family: &'static Family, value: f64) {
    samples.family(family);
    samples.sample(&[], value);
}

/// The value, or that `path` does not say it.
pub(crate) fn said<T>(value: Option<T>, path: &Path, what: &str) -> Result<T, ReadError> {
    value.ok_or_else(|| ReadError::malformed(path, what))
}

/// How a collector of several files ends: with the first real trouble, or, when nothing was there at all,
/// absent.
pub(crate) fn ended(troubles: Troubles, found: bool, path: &Path) -> Result<(), AskError> {
    let absent = !found && troubles.count(Reason::Absent) > 0;
    troubles.told()?;
    if absent { Err(AskError::Absent(path.display().to_string())) } else { Ok(()) }
}

/// 1 or 0.
pub(crate) fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}
