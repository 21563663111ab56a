//! What containers and pods are called: told by runtimes and by kubelet's links, asked for by id and uid.
//!
//! A metric never waits for a name. Whoever knows more sets it here, and series are labelled anew at the next scrape.

use std::collections::{BTreeMap, HashMap};
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
    /// Uid of the pod as the API server writes it, where the runtime tells it.
    pub pod_uid: String,
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
    containers: BTreeMap<&'static str, Told>,
    pods: HashMap<String, PodName>,
}

/// What one source tells.
#[derive(Debug, Default)]
struct Told {
    /// By id.
    containers: HashMap<String, Arc<ContainerName>>,
    /// By uid, out of what it tells of their containers and sandboxes.
    pods: HashMap<String, PodName>,
}

impl Told {
    fn new(containers: HashMap<String, Arc<ContainerName>>) -> Told {
        let in_pods = containers.values().filter(|known| !known.pod_uid.is_empty() && !known.pod.is_empty());
        let pod = |known: &Arc<ContainerName>| {
            let name = PodName { namespace: known.namespace.clone(), name: known.pod.clone() };
            (known.pod_uid.clone(), name)
        };
        let pods = in_pods.map(pod).collect();
        Told { containers, pods }
    }
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
        if known.containers.get(source).map(|told| &told.containers) != Some(&containers) {
            known.containers.insert(source, Told::new(containers));
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Replaces what is known of pods by themselves, by uid.
    pub fn set_pods(&self, pods: HashMap<String, PodName>) {
        let mut known = self.known.write();
        if known.pods != pods {
            known.pods = pods;
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Has `call` called, from a scrape, when a pod or a container of one has no name: again as long as it has none, but
    /// ever more seldom. It must not block.
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

    /// What is known of a container, and who told it: `cri`, `docker`, `links`. Who feeds this is told when nothing is.
    pub fn ask(&self, id: &str) -> Option<(&'static str, Arc<ContainerName>)> {
        let told = {
            let known = self.known.read();
            let each = known.containers.iter();
            each.filter_map(|(source, told)| Some((*source, told.containers.get(id).cloned()?))).next()
        };
        if told.is_none() {
            self.lack();
        }
        told
    }

    pub(crate) fn container(&self, id: &str) -> Option<Arc<ContainerName>> {
        self.known.read().containers.values().find_map(|told| told.containers.get(id).cloned())
    }

    /// The pod with this uid: told itself, or by its containers.
    pub(crate) fn pod(&self, uid: &str) -> Option<PodName> {
        let known = self.known.read();
        let by_containers = || known.containers.values().find_map(|told| told.pods.get(uid));
        known.pods.get(uid).or_else(by_containers).cloned()
    }

    /// Whether anybody has told of a container.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.known.read().containers.values().any(|told| told.containers.contains_key(id))
    }

    /// Whether nothing is known of a container, or of its pod.
    pub(crate) fn lacks(&self, container: Option<&str>, pod: Option<&str>) -> bool {
        container.is_some_and(|id| !self.knows(id)) || pod.is_some_and(|uid| self.pod(uid).is_none())
    }

    /// The keys of all labels, sorted.
    pub(crate) fn label_keys(&self) -> Vec<String> {
        let known = self.known.read();
        let containers = known.containers.values().flat_map(|told| told.containers.values());
        let mut keys: Vec<String> =
            containers.flat_map(|c| c.labels.iter().map(|(key, _)| key.clone())).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known_by_what_is_told_of_its_containers() {
        let names = Names::new();
        let told = |pod: &str, uid: &str| {
            let known = ContainerName { pod: pod.into(), pod_uid: uid.into(), ..ContainerName::default() };
            Arc::new(known)
        };
        let pod = |uid| names.pod(uid).map(|pod| pod.name);
        names.set_containers(
            "cri",
            [("5e".to_owned(), told("web-0", "u1")), ("9f".to_owned(), told("", "u2"))].into(),
        );
        assert_eq!((pod("u1"), pod("u2"), pod("")), (Some("web-0".to_owned()), None, None));
        assert!(!names.lacks(Some("5e"), Some("u1")) && names.lacks(None, Some("u2")));
        let itself = PodName { namespace: "shop".into(), name: "itself".into() };
        names.set_pods([("u1".to_owned(), itself)].into());
        assert_eq!(pod("u1").as_deref(), Some("itself"));
        names.set_pods(HashMap::new());
        names.set_containers("cri", HashMap::new());
        assert_eq!(pod("u1"), None, "it is gone with them");
    }
}
