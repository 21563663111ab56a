//! What the pods that are known say on the records of their containers.
//!
//! Answers come from memory. Who reads logs asks again for those pods only that have changed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use taffrail_logs::find::{Changed, PodTeller};
use taffrail_pods::{AllowList, Found, PodStore, TextMap, owners};
use taffrail_record::{Container, Node, Pod, Told};

use crate::config::MetadataConfig;

/// The annotation of a static pod's mirror that has the UID under which kubelet keeps its logs.
pub(super) const STATIC_UID: &str = "kubernetes.io/config.hash";

/// How many changes are remembered one by one.
const REMEMBERED: usize = 1024;

/// Completes pods for records.
pub struct Teller {
    store: Arc<PodStore>,
    metadata: Metadata,
    /// What runs this node's containers.
    runtime: ArcSwap<String>,
    /// The node, when more became known of it than at the start.
    node: ArcSwapOption<Node>,
    changes: Mutex<Changes>,
}

/// The configured choice.
struct Metadata {
    labels: AllowList,
    annotations: AllowList,
    namespace_labels: AllowList,
    fields: Vec<(String, Vec<String>)>,
}

#[derive(Default)]
struct Changes {
    version: u64,
    /// UIDs, and the version that each change made, oldest first.
    recent: VecDeque<(u64, String)>,
    /// Everything may have changed at this version.
    all: u64,
    /// Controllers that pods had and have no more, by the pod's UID.
    detached: HashMap<String, String>,
    wake: Vec<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teller").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Teller {
    /// Tells of the pods in `store`. `runtime` runs their containers, as far as a pod does not say otherwise.
    #[must_use]
    pub fn new(store: Arc<PodStore>, config: &MetadataConfig, runtime: String) -> Arc<Self> {
        let metadata = Metadata {
            labels: AllowList::new(&config.labels),
            annotations: AllowList::new(&config.annotations),
            namespace_labels: AllowList::new(&config.namespace_labels),
            fields: config.fields.clone().into_iter().collect(),
        };
        Arc::new(Teller {
            store,
            metadata,
            runtime: ArcSwap::from_pointee(runtime),
            node: ArcSwapOption::empty(),
            changes: Mutex::default(),
        })
    }

    /// The pod and the container of this id, complete.
    pub(crate) fn of_container(&self, id: &str) -> Option<(Pod, Container)> {
        let (found, name) = self.store.by_container(id)?;
        let meta = &found.pod.meta;
        let [namespace, pod, uid] = [&*meta.namespace, &*meta.name, &*meta.uid].map(str::to_owned);
        let pod = Pod { namespace, name: pod, uid, ..Pod::default() };
        let container = Container { name: name.to_string(), id: id.to_owned(), ..Container::default() };
        self.complete(&pod, &container)
    }

    /// The last that was heard of the pod whose cgroup has this UID.
    pub(crate) fn pod(&self, uid: &str) -> Option<Arc<taffrail_pods::Pod>> {
        self.store.by_uid(uid).map(|found| found.pod)
    }

    /// The uid of the pod of this name, if it is one of this node's.
    pub(crate) fn uid_of(&self, namespace: &str, pod: &str) -> Option<String> {
        let found = self.store.by_name(namespace, pod).filter(|found| !found.gone)?;
        Some(found.pod.meta.uid.to_string())
    }

    /// More became known of the node, and of what runs its containers.
    pub(super) fn node_is(&self, node: Arc<Node>, runtime: String) {
        self.runtime.store(Arc::new(runtime));
        self.node.store(Some(node));
        self.all_changed();
    }

    /// A pod has changed.
    pub(super) fn changed(&self, pod: &taffrail_pods::Pod) {
        self.change(|changes| {
            let version = changes.version;
            let known_as = pod.meta.annotations.get(STATIC_UID);
            for uid in [&*pod.meta.uid].into_iter().chain(known_as) {
                changes.recent.push_back((version, uid.to_owned()));
            }
            while changes.recent.len() > REMEMBERED {
                changes.all = changes.recent.pop_front().map_or(changes.all, |(version, _)| version);
            }
        });
    }

    /// Any pod may have changed.
    pub(super) fn all_changed(&self) {
        self.change(|changes| {
            changes.all = changes.version;
            changes.recent.clear();
        });
    }

    /// A pod has lost the controller that it had; or has one again.
    pub(super) fn detached(&self, uid: &str, from: Option<String>) {
        let mut changes = self.changes.lock();
        match from {
            Some(from) => changes.detached.insert(uid.to_owned(), from),
            None => changes.detached.remove(uid),
        };
    }

    fn change(&self, note: impl FnOnce(&mut Changes)) {
        let mut changes = self.changes.lock();
        changes.version += 1;
        note(&mut changes);
        changes.wake.iter().for_each(|wake| wake());
    }

    /// The pod whose logs kubelet keeps under this UID.
    fn find(&self, pod: &Pod) -> Option<Found> {
        self.store.by_uid(&pod.uid).or_else(|| {
            let named = self.store.by_name(&pod.namespace, &pod.name)?;
            (named.pod.meta.annotations.get(STATIC_UID) == Some(pod.uid.as_str())).then_some(named)
        })
    }

    /// The controller that a pod had: seen to go, or, when that was before this life, told by what a ReplicaSet leaves on it.
    fn detached_from(&self, pod: &taffrail_pods::Pod) -> Option<String> {
        let seen = self.changes.lock().detached.get(&*pod.meta.uid).cloned();
        seen.or_else(|| {
            let hash = pod.meta.labels.get("pod-template-hash").filter(|_| pod.meta.owners.is_empty())?;
            let (set, _) = pod.meta.name.rsplit_once('-')?;
            set.ends_with(&format!("-{hash}")).then(|| format!("ReplicaSet/{set}"))
        })
    }

    fn told(&self, pod: &taffrail_pods::Pod) -> Told {
        let namespace = self.store.namespace(&pod.meta.namespace);
        let labels = namespace.as_ref().map(|namespace| &namespace.labels);
        let fed = |names: &[String]| {
            let of = |map: &TextMap| names.iter().find_map(|name| map.get(name).map(str::to_owned));
            of(&pod.meta.labels).or_else(|| of(labels?))
        };
        let fields = &self.metadata.fields;
        Told {
            annotations: allowed(&pod.meta.annotations, &self.metadata.annotations),
            ip: pod.status.pod_ip.to_string(),
            owners: owners(pod).into_iter().map(|o| (o.kind.to_string(), o.name.to_string())).collect(),
            detached_from: self.detached_from(pod).unwrap_or_default(),
            namespace_uid: namespace.as_ref().map(|n| n.uid.to_string()).unwrap_or_default(),
            namespace_labels: labels.map(|l| allowed(l, &self.metadata.namespace_labels)).unwrap_or_default(),
            fields: fields
                .iter()
                .filter_map(|(field, names)| Some((field.clone(), fed(names)?)))
                .filter(|(_, value)| !value.is_empty())
                .collect(),
            ..Told::default()
        }
    }
}

impl PodTeller for Teller {
    fn complete(&self, pod: &Pod, container: &Container) -> Option<(Pod, Container)> {
        let found = self.find(pod)?.pod;
        let complete = Pod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            labels: allowed(&found.meta.labels, &self.metadata.labels),
            told: Some(self.told(&found)),
        };
        let mut container = complete_container(&found, container);
        if container.runtime.is_empty() {
            container.runtime.clone_from(&self.runtime.load());
        }
        Some((complete, container))
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.node.load_full()
    }

    fn version(&self) -> u64 {
        self.changes.lock().version
    }

    fn changed_since(&self, version: u64) -> Changed {
        let changes = self.changes.lock();
        if changes.all > version {
            return Changed::All;
        }
        let newer = changes.recent.iter().rev().take_while(|(then, _)| *then > version);
        Changed::Some(newer.map(|(_, uid)| uid.clone()).collect::<HashSet<_>>())
    }

    fn wakes(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.changes.lock().wake.push(wake);
    }
}

fn allowed<M: FromIterator<(String, String)>>(map: &TextMap, list: &AllowList) -> M {
    map.iter()
        .filter(|(key, _)| list.allows(key))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The id is the one that kubelet's link tells: the status may be about the container before or after.
fn complete_container(pod: &taffrail_pods::Pod, container: &Container) -> Container {
    let mut complete = container.clone();
    let asked_for = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    if let Some(spec) = asked_for.into_iter().find(|spec| *spec.name == *container.name) {
        complete.image = spec.image.to_string();
    }
    if let Some(status) = pod.status.every_container().find(|status| *status.name == *container.name) {
        if !status.image.is_empty() {
            complete.image = status.image.to_string();
        }
        if let Some((runtime, id)) = status.container_id.split_once("://") {
            complete.runtime = runtime.to_owned();
            if complete.id.is_empty() {
                complete.id = id.to_owned();
            }
        }
    }
    complete
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use taffrail_pods::StoreOptions;

    use super::*;

    fn pod() -> Value {
        json!({
            "metadata": {
                "namespace": "shop", "name": "cart-7d9-x", "uid": "u-1", "resourceVersion": "1",
                "labels": {"app": "cart", "pod-template-hash": "7d9", "secret": "no"},
                "annotations": {"team.io/a": "b", "x": "y", STATIC_UID: "s-1"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "cart-7d9", "controller": true}],
            },
            "spec": {"containers": [{"name": "web", "image": "cart:1"}, {"name": "side", "image": "side:1"}]},
            "status": {"podIP": "10.0.0.1", "containerStatuses": [
                {"name": "web", "image": "registry/cart:1", "containerID": "containerd://ab"}]},
        })
    }

    fn teller() -> Arc<Teller> {
        let config = MetadataConfig {
            labels: vec!["app".to_owned(), "pod-*".to_owned()],
            annotations: vec!["team.io/*".to_owned()],
            ..MetadataConfig::default()
        };
        let annotations = AllowList::new(&["team.io/*", STATIC_UID]);
        let store = PodStore::new(StoreOptions { annotations, ..StoreOptions::default() });
        Teller::new(Arc::new(store), &config, String::new())
    }

    fn asked(uid: &str) -> (Pod, Container) {
        let pod =
            Pod { namespace: "shop".into(), name: "cart-7d9-x".into(), uid: uid.into(), ..Pod::default() };
        (pod, Container { name: "web".into(), ..Container::default() })
    }

    #[test]
    fn a_pod_is_completed_by_what_the_cluster_says_of_it() {
        let teller = teller();
        let (pod_of_path, container) = asked("u-1");
        assert!(teller.complete(&pod_of_path, &container).is_none());
        teller.store.apply_json(pod().to_string().as_bytes()).expect("a pod");
        teller
            .store
            .apply_namespace_json(
                json!({"metadata": {"name": "shop", "uid": "n-1", "labels": {"env": "live"}}})
                    .to_string()
                    .as_bytes(),
            )
            .expect("a namespace");
        let (pod, container) = teller.complete(&pod_of_path, &container).expect("known");
        assert_eq!(pod.labels.keys().collect::<Vec<_>>(), ["app", "pod-template-hash"]);
        let told = pod.told.expect("told");
        assert_eq!(
            told.owners,
            [("ReplicaSet".into(), "cart-7d9".into()), ("Deployment".into(), "cart".into())]
        );
        assert_eq!(told.annotations.keys().collect::<Vec<_>>(), ["team.io/a"]);
        assert_eq!((told.ip.as_str(), told.namespace_uid.as_str()), ("10.0.0.1", "n-1"));
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(told.fields, [field("service.environment", "live"), field("service.name", "cart")]);
        assert_eq!(
            (container.image.as_str(), container.runtime.as_str(), container.id.as_str()),
            ("registry/cart:1", "containerd", "ab")
        );
    }

    #[test]
    fn a_pod_that_was_detached_before_this_life_is_told_by_its_name_and_its_hash() {
        let detached = |change: &dyn Fn(&mut Value)| {
            let (teller, mut pod) = (teller(), pod());
            change(&mut pod);
            teller.store.apply_json(pod.to_string().as_bytes()).expect("a pod");
            let (pod, container) = asked("u-1");
            teller.complete(&pod, &container).expect("known").0.told.expect("told").detached_from
        };
        assert_eq!(detached(&|_| {}), "");
        assert_eq!(detached(&|pod| pod["metadata"]["ownerReferences"] = json!([])), "ReplicaSet/cart-7d9");
        assert_eq!(
            detached(&|pod| {
                pod["metadata"]["ownerReferences"] = json!([]);
                pod["metadata"]["labels"]["pod-template-hash"] = json!("d9");
            }),
            ""
        );
    }

    #[test]
    fn a_static_pod_is_known_by_the_uid_that_kubelet_gave_it() {
        let teller = teller();
        teller.store.apply_json(pod().to_string().as_bytes()).expect("a pod");
        for (uid, known) in [("s-1", true), ("u-1", true), ("s-2", false)] {
            let (pod, container) = asked(uid);
            assert_eq!(teller.complete(&pod, &container).is_some(), known, "{uid}");
        }
    }

    #[test]
    fn who_asks_hears_of_the_pods_that_changed_since_and_of_all_when_those_are_too_many() {
        let teller = teller();
        let pod = teller.store.parse(pod().to_string().as_bytes()).expect("a pod");
        let before = teller.version();
        teller.changed(&pod);
        let both: HashSet<String> = ["u-1", "s-1"].map(str::to_owned).into();
        assert_eq!(teller.changed_since(before), Changed::Some(both));
        assert_eq!(teller.changed_since(teller.version()), Changed::Some(HashSet::new()));
        for _ in 0..REMEMBERED {
            teller.changed(&pod);
        }
        assert_eq!(teller.changed_since(before), Changed::All);
        let before = teller.version();
        teller.all_changed();
        assert_eq!(teller.changed_since(before), Changed::All);
    }
}
