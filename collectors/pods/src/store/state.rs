//! What a store knows, behind its lock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_128;

use super::{Found, Freshness, FreshnessState, bare_id};
use crate::listeners::Listeners;
use crate::namespace::Namespace;
use crate::pod::Pod;
use crate::text::Text;

/// How many ids of former containers a pod keeps, beyond those that its object names.
const FORMER: usize = 8;

#[derive(Debug)]
pub(super) struct State {
    pods: HashMap<Arc<str>, Entry>,
    /// The uids of mirrors by those of their static pods.
    mirrors: HashMap<Text, Arc<str>>,
    /// By `NAMESPACE/NAME`.
    names: HashMap<Text, Arc<str>>,
    /// By the hash of their ids, which are long.
    containers: HashMap<u128, Inside>,
    /// Those that are gone, the longest first.
    gone: VecDeque<(Instant, Arc<str>)>,
    pub(super) namespaces: HashMap<Text, Arc<Namespace>>,
    pub(super) freshness: Freshness,
    pub(super) listeners: Listeners,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<Pod>,
    gone: Option<Instant>,
    /// Ids of its containers, those that were seen last at the end.
    ids: Vec<u128>,
}

/// Which container an id is.
#[derive(Debug)]
struct Inside {
    uid: Arc<str>,
    name: Arc<str>,
}

impl Default for State {
    fn default() -> Self {
        State {
            pods: HashMap::new(),
            mirrors: HashMap::new(),
            names: HashMap::new(),
            containers: HashMap::new(),
            gone: VecDeque::new(),
            namespaces: HashMap::new(),
            freshness: Freshness { state: FreshnessState::Unknown, seen_at: None },
            listeners: Listeners::default(),
        }
    }
}

impl Entry {
    fn found(&self) -> Found {
        Found { pod: Arc::clone(&self.pod), gone: self.gone.is_some() }
    }
}

impl State {
    pub(super) fn by_uid(&self, uid: &str) -> Option<Found> {
        let mirror = || self.mirrors.get(uid).and_then(|uid| self.pods.get(uid));
        self.pods.get(uid).or_else(mirror).map(Entry::found)
    }

    pub(super) fn by_name(&self, namespace: &str, name: &str) -> Option<Found> {
        let uid = self.names.get(&*format!("{namespace}/{name}"))?;
        self.by_uid(uid)
    }

    pub(super) fn by_container(&self, id: &str) -> Option<(Found, Arc<str>)> {
        let Inside { uid, name } = self.containers.get(&xxh3_128(id.as_bytes()))?;
        Some((self.by_uid(uid)?, Arc::clone(name)))
    }

    pub(super) fn pods(&self, gone: bool) -> Vec<Arc<Pod>> {
        let some = self.pods.values().filter(|entry| entry.gone.is_some() == gone);
        some.map(|entry| Arc::clone(&entry.pod)).collect()
    }

    /// What was known of it and what is known now, unless that is the same.
    pub(super) fn set(&mut self, pod: Pod) -> Option<(Option<Arc<Pod>>, Arc<Pod>)> {
        if self.pods.get(&pod.meta.uid).is_some_and(|known| known.gone.is_none() && *known.pod == pod) {
            return None;
        }
        let uid = &Arc::clone(&pod.meta.uid);
        let now = Arc::new(pod);
        let known = self.pods.remove(uid);
        let mut ids = known.as_ref().map(|known| known.ids.clone()).unwrap_or_default();
        self.learn_containers(&now, &mut ids);
        self.names.insert(full_name(&now), Arc::clone(uid));
        if !now.meta.static_uid.is_empty() {
            self.mirrors.insert(now.meta.static_uid.clone(), Arc::clone(uid));
        }
        self.pods.insert(Arc::clone(uid), Entry { pod: Arc::clone(&now), gone: None, ids });
        Some((known.map(|known| known.pod), now))
    }

    fn learn_containers(&mut self, pod: &Pod, ids: &mut Vec<u128>) {
        let mut named = 0;
        for status in pod.status.every_container() {
            let name: Arc<str> = (*status.name).into();
            let ended = [&status.state, &status.last_state].map(|state| state.terminated.as_deref());
            let ended = ended.into_iter().flatten().map(|ended| &*ended.container_id);
            for id in ended.chain([&*status.container_id]).map(bare_id).filter(|id| !id.is_empty()) {
                named += 1;
                let id = xxh3_128(id.as_bytes());
                if !ids.contains(&id) {
                    let inside = Inside { uid: Arc::clone(&pod.meta.uid), name: Arc::clone(&name) };
                    self.containers.insert(id, inside);
                    ids.push(id);
                }
            }
        }
        let former = ids.len().saturating_sub(named + FORMER);
        ids.drain(..former).for_each(|id| drop(self.containers.remove(&id)));
    }

    /// The pod, unless it was gone or never known.
    pub(super) fn mark_gone(&mut self, uid: &str, now: Instant) -> Option<Arc<Pod>> {
        let entry = self.pods.get_mut(uid).filter(|entry| entry.gone.is_none())?;
        entry.gone = Some(now);
        self.gone.push_back((now, Arc::clone(&entry.pod.meta.uid)));
        Some(Arc::clone(&entry.pod))
    }

    /// Forgets those that have been gone for longer than `keep`, and the longest gone beyond `most`.
    pub(super) fn let_go(&mut self, now: Instant, keep: Duration, most: usize) {
        while let Some((since, uid)) = self.gone.front() {
            if self.gone.len() <= most && now.saturating_duration_since(*since) < keep {
                return;
            }
            // One that came back, and may have gone again since, is another entry's matter.
            let still = self.pods.get(uid).is_some_and(|entry| entry.gone == Some(*since));
            let uid = Arc::clone(uid);
            self.gone.pop_front();
            if still {
                self.forget(&uid);
            }
        }
    }

    fn forget(&mut self, uid: &str) {
        let Some(Entry { pod, ids, .. }) = self.pods.remove(uid) else { return };
        ids.iter().for_each(|id| drop(self.containers.remove(id)));
        // Another may have its name by now.
        for (uids, name) in
            [(&mut self.names, full_name(&pod)), (&mut self.mirrors, pod.meta.static_uid.clone())]
        {
            if uids.get(&name).is_some_and(|last| **last == *uid) {
                uids.remove(&name);
            }
        }
    }

    /// Whether it is another than was known.
    pub(super) fn set_namespace(&mut self, namespace: Namespace) -> bool {
        if self.namespaces.get(&namespace.name).is_some_and(|known| **known == namespace) {
            return false;
        }
        self.namespaces.insert(namespace.name.clone(), Arc::new(namespace));
        true
    }
}

fn full_name(pod: &Pod) -> Text {
    format!("{}/{}", pod.meta.namespace, pod.meta.name).into()
}
