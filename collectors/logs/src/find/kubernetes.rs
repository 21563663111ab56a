//! The Kubernetes layout: `<root>/<namespace>_<pod>_<uid>/<container>/N.log`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use taffrail_record::{Container, Input, Node, Origin, Pod};

use super::{Naming, Target};
use crate::config::{KubernetesLogs, Start};
use crate::decode::Format;

/// Finds container directories below kubelet's root.
#[derive(Debug)]
pub struct Kubernetes {
    config: KubernetesLogs,
    node: Arc<Node>,
}

/// What one look through the root found.
#[derive(Debug, Default)]
pub struct Found {
    /// The lanes.
    pub targets: Vec<Target>,
    /// Directories in which new lanes may appear (the root and the pods'), and the one that tells container ids.
    pub directories: Vec<PathBuf>,
    /// Lanes whose container id kubelet has yet to tell.
    pub unnamed: HashSet<String>,
}

impl Kubernetes {
    /// A finder; looks at nothing yet.
    #[must_use]
    pub fn new(config: KubernetesLogs, node: Arc<Node>) -> Self {
        Kubernetes { config, node }
    }

    /// Looks through the root. Directories that vanish meanwhile are left out; names that are not pods' too.
    #[must_use]
    pub fn scan(&self) -> Found {
        let mut found = Found::default();
        let Ok(pods) = fs::read_dir(&self.config.root) else { return found };
        found.directories.push(self.config.root.clone());
        let ids = self.container_ids();
        if ids.is_some() {
            found.directories.push(self.config.links.clone());
        }
        for pod in pods.flatten() {
            let Some(name) = pod.file_name().to_str().and_then(parse_pod) else { continue };
            if !pod.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            let Ok(containers) = fs::read_dir(pod.path()) else { continue };
            found.directories.push(pod.path());
            for container in containers.flatten() {
                if container.file_type().is_ok_and(|t| t.is_dir()) {
                    let (target, named) = self.target(&name, &container.path(), ids.as_ref());
                    if !named && ids.is_some() {
                        found.unnamed.insert(target.key.clone());
                    }
                    found.targets.push(target);
                }
            }
        }
        found
    }

    fn target(&self, pod: &Pod, directory: &Path, ids: Option<&HashMap<String, String>>) -> (Target, bool) {
        let container = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let link = format!("{}_{}_{container}", pod.name, pod.namespace);
        let id = ids.and_then(|ids| ids.get(&link)).cloned().unwrap_or_default();
        let named = !id.is_empty();
        let target = Target {
            key: format!("kubernetes:{}", directory.display()),
            origin: Arc::new(Origin {
                node: Arc::clone(&self.node),
                input: Input::Kubernetes,
                pod: Some(pod.clone()),
                container: Some(Container { name: container, id, ..Container::default() }),
            }),
            format: Format::Container,
            directory: directory.to_owned(),
            naming: Naming::Kubernetes,
            within: Some(
                std::iter::once(&self.config.root).chain(&self.config.link_targets).cloned().collect(),
            ),
            start: Start::Beginning,
        };
        (target, named)
    }

    /// `<pod>_<namespace>_<container>` -> container id, from the links that kubelet keeps for log agents. When a
    /// container has restarted there may be several: the newest wins. `None` where there are no such links.
    fn container_ids(&self) -> Option<HashMap<String, String>> {
        let links = fs::read_dir(&self.config.links).ok()?;
        let mut newest: HashMap<String, (std::time::SystemTime, String)> = HashMap::new();
        for link in links.flatten() {
            let name = link.file_name();
            let Some((owner, id)) = name.to_str().and_then(parse_link) else { continue };
            let Ok(made) = link.metadata().and_then(|m| m.modified()) else { continue };
            let entry = newest.entry(owner.to_owned()).or_insert_with(|| (made, id.to_owned()));
            if made > entry.0 {
                *entry = (made, id.to_owned());
            }
        }
        Some(newest.into_iter().map(|(owner, (_, id))| (owner, id)).collect())
    }
}

/// `<namespace>_<pod>_<uid>`: namespaces and pod names have no underscore.
pub(crate) fn parse_pod(name: &str) -> Option<Pod> {
    let mut parts = name.splitn(3, '_');
    let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
    if namespace.is_empty() || pod.is_empty() || uid.is_empty() {
        return None;
    }
    Some(Pod { namespace: namespace.to_owned(), name: pod.to_owned(), uid: uid.to_owned(), ..Pod::default() })
}

/// `<pod>_<namespace>_<container>-<id>.log`.
fn parse_link(name: &str) -> Option<(&str, &str)> {
    let (owner, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some((owner, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_found_with_their_pods_and_ids() {
        let root = tempfile::tempdir().expect("a directory");
        let (pods, links) = (root.path().join("pods"), root.path().join("containers"));
        fs::create_dir_all(pods.join("shop_cart-7d9_11-22/app")).expect("a container");
        fs::create_dir_all(pods.join("not-a-pod")).expect("a stranger");
        fs::create_dir_all(&links).expect("links");
        let id = "ab".repeat(32);
        fs::File::create(links.join(format!("cart-7d9_shop_app-{id}.log"))).expect("a link");
        let config = KubernetesLogs { root: pods, links, ..KubernetesLogs::default() };
        let found = Kubernetes::new(config, Arc::default()).scan();
        assert_eq!(found.targets.len(), 1);
        let origin = &found.targets[0].origin;
        assert_eq!(origin.names(), ["shop", "cart-7d9", "app"]);
        assert_eq!(origin.pod.as_ref().map(|p| p.uid.as_str()), Some("11-22"));
        assert_eq!(origin.container.as_ref().map(|c| c.id.clone()), Some(id));
        assert_eq!(found.directories.len(), 3, "the root, the links and one pod");
        assert!(found.unnamed.is_empty());
    }

    #[test]
    fn a_missing_root_has_no_lanes() {
        let config = KubernetesLogs { root: PathBuf::from("/nonexistent/pods"), ..KubernetesLogs::default() };
        assert!(Kubernetes::new(config, Arc::default()).scan().targets.is_empty());
    }
}
