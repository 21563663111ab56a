//! From the API server into the store of pods.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use taffrail_api::{Change, Listener};
use taffrail_pods::{Pod, PodSeries, PodStore};
use tokio::sync::mpsc;

use super::teller::Teller;

/// Feeds the store, and says whose namespaces are to be looked up.
pub(super) struct Feed {
    pub(super) store: Arc<PodStore>,
    pub(super) teller: Arc<Teller>,
    pub(super) namespaces: mpsc::UnboundedSender<String>,
    pub(super) refused: Arc<AtomicU64>,
    /// What a list has told so far.
    pub(super) listed: Vec<Pod>,
}

impl Feed {
    fn take(&self, json: &str) -> Option<Pod> {
        match self.store.parse(json.as_bytes()) {
            Ok(pod) => Some(pod),
            Err(error) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "a pod cannot be understood; its records go with what their path tells");
                None
            }
        }
    }

    /// Notes a pod that is new or other than before.
    fn apply(&self, pod: Pod) {
        let before = self.store.by_uid(&pod.meta.uid).map(|found| found.pod);
        self.note_controller(before.as_deref(), &pod);
        if before.is_none_or(|before| before.meta.namespace != pod.meta.namespace) {
            let _ = self.namespaces.send(pod.meta.namespace.to_string());
        }
        self.store.apply(pod);
    }

    /// A pod whose labels were changed so that its controller let go of it goes on, and is watched by nobody else.
    fn note_controller(&self, before: Option<&Pod>, now: &Pod) {
        let controller = |pod: &Pod| pod.controller().map(|owner| format!("{}/{}", owner.kind, owner.name));
        let uid = &now.meta.uid;
        match (before.and_then(controller), controller(now)) {
            (Some(had), None) => {
                tracing::info!(namespace = %now.meta.namespace, pod = %now.meta.name, controller = had, "a pod was detached from its controller");
                self.teller.detached(uid, Some(had));
            }
            (None, Some(_)) => self.teller.detached(uid, None),
            _ => {}
        }
    }
}

impl Listener for Feed {
    fn list_begins(&mut self) {
        self.listed.clear();
    }

    fn object(&mut self, change: Change, object: &str, _version: &str) {
        let Some(pod) = self.take(object) else { return };
        match change {
            Change::Listed => self.listed.push(pod),
            Change::Added | Change::Modified => {
                let uid = Arc::clone(&pod.meta.uid);
                let generation = self.store.generation();
                self.apply(pod);
                if self.store.generation() != generation
                    && let Some(found) = self.store.by_uid(&uid)
                {
                    self.teller.changed(&found.pod);
                }
            }
            Change::Deleted => {
                self.teller.detached(&pod.meta.uid, None);
                // Its last state, which may say why it ended, is taken with the news. It was read before, so it is one.
                let _ = self.store.remove_json(object.as_bytes());
            }
        }
    }

    fn listed(&mut self, _version: &str) {
        let listed = std::mem::take(&mut self.listed);
        for pod in &listed {
            let before = self.store.by_uid(&pod.meta.uid).map(|found| found.pod);
            self.note_controller(before.as_deref(), pod);
            let _ = self.namespaces.send(pod.meta.namespace.to_string());
        }
        for gone in self.store.replace_all(listed) {
            self.teller.detached(&gone.meta.uid, None);
        }
        self.store.mark_fresh();
        self.teller.all_changed();
    }

    fn heard(&mut self) {
        self.store.mark_fresh();
    }

    fn trouble(&mut self, why: &str) {
        self.store.mark_stale(why);
    }
}

/// Feeds the series of the node itself.
pub(super) struct NodeFeed(pub(super) Arc<PodSeries>);

impl Listener for NodeFeed {
    fn object(&mut self, change: Change, object: &str, _version: &str) {
        if change == Change::Deleted {
            self.0.remove_node();
        } else if let Err(error) = self.0.apply_node(object.as_bytes()) {
            tracing::warn!(%error, "the node's object cannot be understood; the series of it stay as they are");
        }
    }

    fn listed(&mut self, _version: &str) {}
}
