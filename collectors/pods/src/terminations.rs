//! How often containers ended: true counters, where the objects only show the last two ends.
//!
//! Each end that an object shows is counted once, whether it is first seen as a container's state or as its last state, in
//! this life of the agent or in the one before. Ends that were never shown, because several fell between two updates, are
//! known by the number of restarts alone: they are counted under the reason `unseen`. So all reasons together never stay
//! behind the number of restarts.
//!
//! After a crash of the agent the ends of its last ten seconds may be counted as unseen; none is lost.

mod account;
mod file;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use taffrail_record::{Samples, Worker};

use crate::pod::Pod;
use crate::series::families::{OOM_KILLS, OWN, TERMINATIONS};
use account::{Account, OfPod};
use file::File;

/// How often the file is written at most.
const PAUSE: Duration = Duration::from_secs(10);
/// For how long one is remembered that was known before the agent was restarted and has not been seen since: its API server
/// may be away.
const KEEP_UNSURE: i64 = 86_400;

/// Counts how containers end.
#[derive(Debug)]
pub(crate) struct Terminations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// For how many seconds those of a pod that is gone are told.
    keep: i64,
    /// How many pods that are gone are told of at most.
    most_gone: usize,
    pods: Mutex<BTreeMap<Arc<str>, OfPod>>,
    file: Option<File>,
    pace: Mutex<Pace>,
    worker: Worker,
}

/// Whether there is something to write, and somebody who will.
#[derive(Debug, Default)]
struct Pace {
    dirty: bool,
    writing: bool,
}

impl Terminations {
    /// Goes on from what `path` holds, and keeps it there; only in memory without one.
    pub(crate) fn new(keep: Duration, most_gone: usize, path: Option<PathBuf>) -> Self {
        let file = path.map(File::new);
        let pods = file.as_ref().map(|file| file.load(now())).unwrap_or_default();
        Terminations(Arc::new(Inner {
            keep: keep.as_secs().try_into().unwrap_or(i64::MAX),
            most_gone,
            pods: Mutex::new(pods),
            file,
            pace: Mutex::default(),
            worker: Worker::new("terminations"),
        }))
    }

    /// A pod is new or has changed.
    pub(crate) fn changed(&self, pod: &Pod) {
        let mut pods = self.0.pods.lock();
        let known = pods.entry(Arc::clone(&pod.meta.uid)).or_insert_with(|| OfPod::new(pod));
        if known.see(pod) {
            self.0.forget(&mut pods, now());
            drop(pods);
            self.write_soon();
        }
    }

    /// A pod is gone.
    pub(crate) fn gone(&self, pod: &Pod) {
        let mut pods = self.0.pods.lock();
        if let Some(known) = pods.get_mut(&pod.meta.uid) {
            known.go(now());
        }
        self.0.forget(&mut pods, now());
        drop(pods);
        self.write_soon();
    }

    /// Writes the samples.
    pub(crate) fn ask(&self, samples: &mut dyn Samples) {
        let (now, keep) = (now(), self.0.keep);
        let mut pods = self.0.pods.lock();
        self.0.forget(&mut pods, now);
        let told = || pods.iter().filter(|(_, pod)| pod.is_told(now, keep));
        samples.family(&OWN[TERMINATIONS]);
        for (uid, pod) in told() {
            for Account { name, counts, .. } in &pod.containers {
                for count in counts {
                    let labels = [&*pod.namespace, &pod.name, uid, name, &count.reason, &count.exit_code];
                    samples.sample(&labels, count.ends as f64);
                }
            }
        }
        samples.family(&OWN[OOM_KILLS]);
        for (uid, pod) in told() {
            for account in &pod.containers {
                let labels = [&*pod.namespace, &pod.name, uid, &account.name];
                samples.sample(&labels, account.oom_kills as f64);
            }
        }
    }

    /// Writes down what is not yet.
    pub(crate) fn flush(&self) -> std::io::Result<()> {
        self.0.pace.lock().dirty = false;
        self.0.save()
    }

    /// Has it written, now or when the pause after the last time is over.
    fn write_soon(&self) {
        let mut pace = self.0.pace.lock();
        pace.dirty = self.0.file.is_some();
        if !pace.dirty || pace.writing {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        let write = move || {
            while let Some(inner) = inner.upgrade() {
                let mut pace = inner.pace.lock();
                pace.writing = std::mem::take(&mut pace.dirty);
                if !pace.writing {
                    return;
                }
                drop(pace);
                if let Err(error) = inner.save() {
                    tracing::warn!("{error}; it is tried again");
                    inner.pace.lock().dirty = true;
                }
                drop(inner);
                thread::sleep(PAUSE);
            }
        };
        pace.writing = self.0.worker.run(write).is_ok();
    }
}

impl Drop for Terminations {
    fn drop(&mut self) {
        // Who is writing now may have begun before the last change.
        let Pace { dirty, writing } = *self.0.pace.lock();
        if (dirty || writing)
            && let Err(error) = self.flush()
        {
            tracing::warn!("{error}; the last ends of containers will count as unseen");
        }
    }
}

impl Inner {
    fn save(&self) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.save(|| self.pods.lock().clone())
    }

    fn forget(&self, pods: &mut BTreeMap<Arc<str>, OfPod>, now: i64) {
        pods.retain(|_, pod| pod.is_kept(now, self.keep));
        let mut away: Vec<(i64, Arc<str>)> =
            pods.iter().filter_map(|(uid, pod)| Some((pod.away()?, Arc::clone(uid)))).collect();
        let many = away.len().saturating_sub(self.most_gone);
        if many > 0 {
            away.sort_unstable();
            away[..many].iter().for_each(|(_, uid)| drop(pods.remove(uid)));
        }
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

#[cfg(test)]
mod tests;
