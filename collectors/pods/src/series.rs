//! What Prometheus is told of the node's pods: kube-state-metrics' series, and counters that it does not have.
//!
//! Names, labels, their order, values and when there is a series are kube-state-metrics' (2.20), with these exceptions:
//!
//! - A time that the object does not say has no series; there it is that of the year 1.
//! - Tolerations are shown when that is configured.
//! - Of several series with the same labels there is one.
//! - An amount that is too large for a 64-bit integer is the largest of those; there it is 0. One that is negative, which no
//!   server accepts, is what it says; there it may be any number.
//! - `kubectl`'s copy of the whole object is shown when it is named, not because all annotations are.

mod containers;
pub(crate) mod families;
mod keys;
mod node;
mod pod;
mod render;
mod resources;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use taffrail_record::{Ask, AskError, Family, Samples};

use crate::allow::AllowList;
use crate::config::PodsConfig;
use crate::pod::{Pod, PodError};
use crate::store::{FreshnessState, Observer, PodStore};
use crate::terminations::Terminations;
use families::{OF_NODE, OF_PODS, OWN, SEEN, STALE};
use pod::Shown;
use render::Rendered;

/// The file in the state directory.
const FILE: &str = "pod-terminations";

static FAMILIES: LazyLock<Vec<Family>> = LazyLock::new(|| {
    let all = OF_PODS.iter().chain(OF_NODE).chain(&OWN);
    all.map(|&Family { name, kind, help, labels }| Family { name, kind, help, labels }).collect()
});

/// Answers for the pods of a store and for the node. Each pod is rendered when it changes.
#[derive(Debug)]
pub struct PodSeries {
    store: Arc<PodStore>,
    told: Arc<Told>,
}

#[derive(Debug)]
struct Told {
    shown: Shown,
    with_node: bool,
    pods: Mutex<BTreeMap<Arc<str>, Arc<Rendered>>>,
    node: Mutex<Option<Arc<Rendered>>>,
    terminations: Terminations,
}

impl PodSeries {
    /// Follows `store` from now on. Counts of terminations are kept in the directory `state`, which must exist, and without one
    /// in memory only. A pod that is gone is counted for as long as `config` says.
    #[must_use]
    pub fn new(store: &Arc<PodStore>, config: &PodsConfig, state: Option<&Path>) -> Self {
        let keep = Duration::from_secs(config.keep_gone_seconds);
        let told = Arc::new(Told {
            shown: Shown {
                labels: AllowList::new(&config.labels),
                annotations: AllowList::new(&config.annotations),
                tolerations: config.tolerations,
                node_selectors: config.node_selectors,
            },
            with_node: config.node,
            pods: Mutex::default(),
            node: Mutex::default(),
            terminations: Terminations::new(keep, config.most_gone, state.map(|folder| folder.join(FILE))),
        });
        store.observe(&(Arc::clone(&told) as Arc<dyn Observer>));
        PodSeries { store: Arc::clone(store), told }
    }

    /// The node is new or has changed, in the API's JSON.
    ///
    /// # Errors
    /// [`PodError`] when it is none with a name; nothing has changed then.
    pub fn apply_node(&self, json: &[u8]) -> Result<(), PodError> {
        if self.told.with_node {
            let rendered = node::render(json, &self.told.shown)?;
            *self.told.node.lock() = Some(Arc::new(rendered));
        }
        Ok(())
    }

    /// The node no longer exists.
    pub fn remove_node(&self) {
        self.told.node.lock().take();
    }

    /// Writes down the counts of terminations. What changes is written by itself soon after; this is for the end.
    ///
    /// # Errors
    /// When the file cannot be written, with its path.
    pub fn flush(&self) -> std::io::Result<()> {
        self.told.terminations.flush()
    }
}

impl Observer for Told {
    fn changed(&self, now: &Arc<Pod>) {
        let rendered = Arc::new(pod::render(now, &self.shown));
        self.pods.lock().insert(Arc::clone(&now.meta.uid), rendered);
        self.terminations.changed(now);
    }

    fn gone(&self, pod: &Arc<Pod>) {
        self.pods.lock().remove(&pod.meta.uid);
        self.terminations.gone(pod);
    }
}

impl Ask for PodSeries {
    fn name(&self) -> &'static str {
        "pods"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let pods: Vec<Arc<Rendered>> = self.told.pods.lock().values().cloned().collect();
        let node: Vec<Arc<Rendered>> = self.told.node.lock().iter().cloned().collect();
        render::write(samples, OF_PODS, &pods);
        render::write(samples, OF_NODE, &node);
        self.told.terminations.ask(samples);
        let freshness = self.store.freshness();
        if freshness.state == FreshnessState::Unknown {
            return Err(AskError::Absent("nothing has been heard of this node's pods yet".to_owned()));
        }
        samples.family(&OWN[STALE]);
        samples.sample(&[], render::flag(freshness.state != FreshnessState::Fresh));
        if let Some(seen) = freshness.seen_at {
            samples.family(&OWN[SEEN]);
            samples.sample(&[], seen.as_second() as f64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
