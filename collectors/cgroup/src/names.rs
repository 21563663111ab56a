//! What containers and pods are called: told by runtimes and by kubelet's links, asked for by id and uid.
//!
//! A metric never waits for a name. Whoever knows more sets it here, and series are labelled anew at the next scrape.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

/// What is known of a container. Empty: unknown, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerName {
    /// Name in the pod; `POD` or empty for a sandbox, as the runtime has it.
    pub container: String,
    /// Name of the pod.
    pub pod: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// The image, by name.
    pub image: String,
    /// What the runtime calls it.
    pub name: String,
    /// Labels, for cAdvisor's style.
    pub labels: Vec<(String, String)>,
    /// Whether it is the one that holds its pod's network.
    pub sandbox: bool,
    /// The folder of its log files, as this process sees it, where the runtime tells it.
    pub logs: Option<PathBuf>,
}

/// Namespace and name of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Names by id and uid.
#[derive(Default)]
pub struct Names {
    known: RwLock<Known>,
    version: AtomicU64,
    lacking: RwLock<Vec<Box<dyn Fn() + Send + Sync>>>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("known", &self.known).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Known {
    /// By who told them, then by id.
    containers: HashMap<&'static str, HashMap<String, Arc<ContainerName>>>,
    pods: HashMap<String, PodName>,
}

impl Names {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Arc<Names> {
        Arc::default()
    }

    /// Replaces what `source` has told of containers, by id. The first source in the alphabet wins where two know one.
    pub fn set_containers(&self, source: &'static str, containers: HashMap<String, Arc<ContainerName>>) {
        let mut known = self.known.write();
        if known.containers.get(source) != Some(&containers) {
            known.containers.insert(source, containers);
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Replaces what is known of pods, by uid.
    pub fn set_pods(&self, pods: HashMap<String, PodName>) {
        let mut known = self.known.write();
        if known.pods != pods {
            known.pods = pods;
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Has `call` called, from a scrape, when a container of a pod has no name: now and then, as long as it has none.
    /// It must not block.
    pub fn when_lacking(&self, call: impl Fn() + Send + Sync + 'static) {
        self.lacking.write().push(Box::new(call));
    }

    /// Tells those who wait for it that a name is lacking.
    pub(crate) fn lack(&self) {
        self.lacking.read().iter().for_each(|call| call());
    }

    /// Grows whenever something is told that was not known.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn container(&self, id: &str) -> Option<Arc<ContainerName>> {
        let known = self.known.read();
        let mut sources: Vec<_> = known.containers.iter().collect();
        sources.sort_by_key(|(source, _)| **source);
        sources.into_iter().find_map(|(_, containers)| containers.get(id).cloned())
    }

    /// The pod with this uid: told itself, or by one of its containers.
    pub(crate) fn pod(&self, uid: &str) -> Option<PodName> {
        self.known.read().pods.get(uid).cloned()
    }

    /// Whether anybody has told of a container.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.known.read().containers.values().any(|told| told.contains_key(id))
    }

    /// Whether nothing is known of a container's place in a pod, nor of a pod.
    pub(crate) fn lacks(&self, container: Option<&str>, pod: Option<&str>) -> bool {
        container.is_some_and(|id| !self.knows(id)) || pod.is_some_and(|uid| self.pod(uid).is_none())
    }

    /// The keys of all labels, sorted.
    pub(crate) fn label_keys(&self) -> Vec<String> {
        let known = self.known.read();
        let containers = known.containers.values().flat_map(HashMap::values);
        let mut keys: Vec<String> =
            containers.flat_map(|c| c.labels.iter().map(|(key, _)| key.clone())).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}
