//! The pods of the node, as the last that was heard of them.
//!
//! Somebody feeds it, everybody asks it. A question takes one short lock. A change is told to who subscribed and to who
//! waits in the order in which it was fed, and can be found before it is told.

mod state;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};

use crate::allow::AllowList;
use crate::listeners::Change;
use crate::namespace::Namespace;
use crate::pod::{Pod, PodError};
use crate::text::{Text, TextMap};
use state::State;

/// What a store keeps.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Annotations that are kept.
    pub annotations: AllowList,
    /// For how long a pod that is gone is still found.
    pub keep_gone: Duration,
    /// How many pods that are gone are found at most.
    pub most_gone: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            annotations: AllowList::default(),
            keep_gone: Duration::from_secs(600),
            most_gone: 500,
        }
    }
}

/// A pod that was asked for.
#[derive(Debug, Clone)]
pub struct Found {
    /// The last that was heard of it.
    pub pod: Arc<Pod>,
    /// Whether it no longer exists.
    pub gone: bool,
}

/// Whether what is known is how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// In a word.
    pub state: FreshnessState,
    /// When the feeder last said that it has everything.
    pub seen_at: Option<Timestamp>,
}

/// Whether what is known is how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FreshnessState {
    /// Nothing has been heard yet.
    Unknown,
    /// As far as the feeder knows.
    Fresh,
    /// The source is away.
    Stale {
        /// Since when.
        since: Timestamp,
        /// Why, for people.
        reason: Text,
    },
}

/// Is told of each change of a pod, in their order, by the thread that feeds. Must not feed.
pub(crate) trait Observer: Send + Sync {
    /// One is new or another.
    fn changed(&self, now: &Arc<Pod>);
    /// One is gone.
    fn gone(&self, pod: &Arc<Pod>);
}

type Observers = Vec<Weak<dyn Observer>>;

/// The pods of the node. See the [module's page](self).
pub struct PodStore {
    options: StoreOptions,
    /// Held while something is fed, so that changes are told in their order.
    feeding: Mutex<Observers>,
    state: Mutex<State>,
    changed: Condvar,
    generation: AtomicU64,
}

impl Default for PodStore {
    fn default() -> Self {
        Self::new(StoreOptions::default())
    }
}

impl PodStore {
    /// An empty one.
    #[must_use]
    pub fn new(options: StoreOptions) -> Self {
        PodStore {
            options,
            feeding: Mutex::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            generation: AtomicU64::new(0),
        }
    }

    // ---- for who feeds

    /// Reads the JSON of a pod as [`Pod::parse_keeping`] does, with the annotations that this store keeps.
    ///
    /// # Errors
    /// [`PodError`] when it is not a pod that can be known.
    pub fn parse(&self, json: &[u8]) -> Result<Pod, PodError> {
        Pod::parse_keeping(json, &self.options.annotations)
    }

    /// A pod is new or has changed, in the API's JSON.
    ///
    /// # Errors
    /// [`PodError`] when it is not a pod that can be known; nothing has changed then.
    pub fn apply_json(&self, json: &[u8]) -> Result<(), PodError> {
        self.parse(json).map(|pod| self.apply(pod))
    }

    /// A pod is new or has changed. One that equals what is known changes nothing.
    pub fn apply(&self, pod: Pod) {
        let observers = self.feeding.lock();
        self.apply_one(pod, &observers);
    }

    /// A pod no longer exists. It is still found for a while.
    pub fn remove(&self, uid: &str) {
        let observers = self.feeding.lock();
        self.remove_one(uid, &observers);
    }

    /// A pod no longer exists. What it was last, in the API's JSON, is taken first: the ends of its containers are often told with
    /// the news that it is gone.
    ///
    /// # Errors
    /// [`PodError`] when it is not a pod that can be known; nothing has changed then.
    pub fn remove_json(&self, json: &[u8]) -> Result<(), PodError> {
        let pod = self.parse(json)?;
        let uid = Arc::clone(&pod.meta.uid);
        let observers = self.feeding.lock();
        self.apply_one(pod, &observers);
        self.remove_one(&uid, &observers);
        Ok(())
    }

    /// These are all pods there are, as a new listing has it. Returns those that were known and are gone.
    pub fn replace_all(&self, pods: Vec<Pod>) -> Vec<Arc<Pod>> {
        let observers = self.feeding.lock();
        let listed: HashSet<Arc<str>> = pods.iter().map(|pod| Arc::clone(&pod.meta.uid)).collect();
        let known = self.snapshot().into_iter().map(|pod| Arc::clone(&pod.meta.uid));
        let missing: Vec<Arc<str>> = known.filter(|uid| !listed.contains(uid)).collect();
        // First those that are gone: another may have the name of one.
        let gone = missing.iter().filter_map(|uid| self.remove_one(uid, &observers)).collect();
        pods.into_iter().for_each(|pod| self.apply_one(pod, &observers));
        gone
    }

    /// A namespace is new or has changed.
    pub fn apply_namespace(&self, name: &str, uid: &str, labels: TextMap) {
        let namespace = Namespace { name: name.into(), uid: uid.into(), labels };
        let _feeding = self.feeding.lock();
        let mut state = self.state.lock();
        if state.set_namespace(namespace) {
            self.tell(state, &Change::Namespace(name.into()));
        }
    }

    /// A namespace is new or has changed, in the API's JSON.
    ///
    /// # Errors
    /// [`PodError`] when it is none with a name; nothing has changed then.
    pub fn apply_namespace_json(&self, json: &[u8]) -> Result<(), PodError> {
        let Namespace { name, uid, labels } = Namespace::parse(json)?;
        self.apply_namespace(&name, &uid, labels);
        Ok(())
    }

    /// A namespace no longer exists.
    pub fn remove_namespace(&self, name: &str) {
        let _feeding = self.feeding.lock();
        let mut state = self.state.lock();
        if state.namespaces.remove(name).is_some() {
            self.tell(state, &Change::Namespace(name.into()));
        }
    }

    /// All that is known is how it is now.
    pub fn mark_fresh(&self) {
        let mut state = self.state.lock();
        state.freshness = Freshness { state: FreshnessState::Fresh, seen_at: Some(Timestamp::now()) };
        self.let_go(&mut state);
    }

    /// The source is away, for this reason; what is known may be old.
    pub fn mark_stale(&self, reason: &str) {
        let freshness = &mut self.state.lock().freshness;
        let since = match &freshness.state {
            FreshnessState::Stale { since, .. } => *since,
            _ => Timestamp::now(),
        };
        freshness.state = FreshnessState::Stale { since, reason: reason.into() };
    }

    // ---- for who asks

    /// The pod with this uid. A static pod is found by its own uid, by which kubelet calls its logs, as by that of its mirror.
    #[must_use]
    pub fn by_uid(&self, uid: &str) -> Option<Found> {
        self.state.lock().by_uid(uid)
    }

    /// The pod of this name; when several had it one after the other, the last.
    #[must_use]
    pub fn by_name(&self, namespace: &str, name: &str) -> Option<Found> {
        self.state.lock().by_name(namespace, name)
    }

    /// The pod of a container, and the container's name. The id may have `containerd://` in front. Containers that were
    /// replaced in the pod are found, too.
    #[must_use]
    pub fn by_container(&self, id: &str) -> Option<(Found, Arc<str>)> {
        self.state.lock().by_container(bare_id(id))
    }

    /// The pods that exist, in no order.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Arc<Pod>> {
        self.state.lock().pods(false)
    }

    /// The pods that no longer exist and are still found, in no order.
    #[must_use]
    pub fn gone(&self) -> Vec<Arc<Pod>> {
        self.state.lock().pods(true)
    }

    /// A namespace.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.state.lock().namespaces.get(name).cloned()
    }

    /// Whether what is known is how it is.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.state.lock().freshness.clone()
    }

    /// Grows with each change: whoever kept something need not look while it stays.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The pod with this uid, waited for until the deadline.
    #[must_use]
    pub fn wait_for(&self, uid: &str, deadline: Instant) -> Option<Found> {
        let mut state = self.state.lock();
        loop {
            if let Some(found) = state.by_uid(uid) {
                return Some(found);
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return state.by_uid(uid);
            }
        }
    }

    /// A queue of the changes from now on, of this length. Who reads too slowly finds [`Change::Everything`] at its end.
    #[must_use]
    pub fn subscribe(&self, most: usize) -> Receiver<Change> {
        self.state.lock().listeners.add(most)
    }

    /// Has `observer` told of all there are, and of each change from now on while somebody holds it.
    pub(crate) fn observe(&self, observer: &Arc<dyn Observer>) {
        let mut observers = self.feeding.lock();
        self.snapshot().iter().for_each(|pod| observer.changed(pod));
        observers.retain(|observer| observer.strong_count() > 0);
        observers.push(Arc::downgrade(observer));
    }

    // ---- inside

    fn apply_one(&self, pod: Pod, observers: &Observers) {
        let mut state = self.state.lock();
        self.let_go(&mut state);
        let Some((before, now)) = state.set(pod) else { return };
        self.tell(state, &Change::Pod { before, now: Arc::clone(&now) });
        observers.iter().filter_map(Weak::upgrade).for_each(|observer| observer.changed(&now));
    }

    fn remove_one(&self, uid: &str, observers: &Observers) -> Option<Arc<Pod>> {
        let mut state = self.state.lock();
        let pod = state.mark_gone(uid, Instant::now())?;
        self.let_go(&mut state);
        self.tell(state, &Change::Gone(Arc::clone(&pod)));
        observers.iter().filter_map(Weak::upgrade).for_each(|observer| observer.gone(&pod));
        Some(pod)
    }

    fn let_go(&self, state: &mut State) {
        state.let_go(Instant::now(), self.options.keep_gone, self.options.most_gone);
    }

    fn tell(&self, mut state: parking_lot::MutexGuard<'_, State>, change: &Change) {
        self.generation.fetch_add(1, Ordering::Release);
        state.listeners.tell(change);
        drop(state);
        self.changed.notify_all();
    }
}

impl fmt::Debug for PodStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodStore").field("pods", &self.snapshot().len()).finish_non_exhaustive()
    }
}

/// An id without the runtime's name in front.
pub(crate) fn bare_id(id: &str) -> &str {
    id.split_once("://").map_or(id, |(_, id)| id)
}

#[cfg(test)]
mod tests;
