//! The Kubernetes layout: `<root>/<namespace>_<pod>_<uid>/<container>/N.log`.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use taffrail_record::{Container, Input, Node, Origin, Pod, Told, ToldState};
use xxhash_rust::xxh3::xxh3_64;

use super::{Naming, PodTeller, RefusedDirectory, Target, settled};
use crate::config::{KubernetesLogs, Start};
use crate::decode::Format;

/// Finds container directories below kubelet's root. It says what is new and what is gone since it was last asked, and
/// lists only directories that have changed since.
#[derive(Debug)]
pub struct Kubernetes {
    config: KubernetesLogs,
    node: Arc<Node>,
    /// Where links may lead to.
    within: Arc<[PathBuf]>,
    pods: HashMap<Box<str>, PodDirectory>,
    /// Whether the root and the links were reported.
    reported: [bool; 2],
    /// When the links changed last, if that is long enough ago.
    links: Option<SystemTime>,
    /// The number of the last scan.
    round: u32,
    /// Who knows more of pods than their paths tell.
    teller: Option<Arc<dyn PodTeller>>,
}

/// A pod's directory as it was last listed.
#[derive(Debug, Default)]
struct PodDirectory {
    settled: Option<SystemTime>,
    containers: Vec<Seen>,
    round: u32,
}

/// A container's directory.
#[derive(Debug)]
struct Seen {
    name: Box<str>,
    /// Hash of its id; 0 while that is not known.
    id: u64,
}

/// What one look through the root found.
#[derive(Debug, Default)]
pub struct Found {
    /// Lanes that are new, or whose container has another id than before.
    pub targets: Vec<Target>,
    /// Keys of lanes that are gone.
    pub gone: Vec<Arc<str>>,
    /// Directories that were reported and are gone.
    pub closed: Vec<Arc<Path>>,
    /// Directories, not reported before, in which new lanes may appear (the root and the pods'), and the one that
    /// tells container ids.
    pub directories: Vec<Arc<Path>>,
    /// New lanes whose container id kubelet has yet to tell.
    pub unnamed: HashSet<Arc<str>>,
    /// New lanes of whose pod the cluster has yet to tell.
    pub untold: HashSet<Arc<str>>,
    /// Directories that could not be looked into, and why.
    pub refused: Vec<(PathBuf, RefusedDirectory)>,
}

impl Kubernetes {
    /// A finder; looks at nothing yet.
    #[must_use]
    pub fn new(config: KubernetesLogs, node: Arc<Node>) -> Self {
        let within = std::iter::once(&config.root).chain(&config.link_targets).cloned().collect();
        let (pods, reported) = (HashMap::new(), [false; 2]);
        Kubernetes { config, node, within, pods, reported, links: None, round: 0, teller: None }
    }

    /// With somebody who knows more of pods than their paths tell.
    #[must_use]
    pub fn with_teller(self, teller: Option<Arc<dyn PodTeller>>) -> Self {
        Kubernetes { teller, ..self }
    }

    /// What the cluster says now of whom an origin of this finder names; none when it says nothing, or nothing new.
    #[must_use]
    pub fn told_anew(&self, origin: &Origin) -> Option<Arc<Origin>> {
        let (teller, pod, container) =
            (self.teller.as_ref()?, origin.pod.as_ref()?, origin.container.as_ref()?);
        let (pod, container) = teller.complete(pod, container)?;
        let node = teller.node().unwrap_or_else(|| Arc::clone(&origin.node));
        let new = Origin { node, pod: Some(pod), container: Some(container), ..origin.clone() };
        (new != *origin).then(|| Arc::new(new))
    }

    /// Looks through the root. Directories that vanish meanwhile are gone; names that are not pods' are left out.
    pub fn scan(&mut self) -> Found {
        let mut found = Found::default();
        self.round = self.round.wrapping_add(1);
        let mut links = Links::new(self.config.links.clone(), self.links);
        let root = self.config.root.clone();
        let pods = fs::read_dir(&root);
        self.report(0, pods.is_ok().then_some(&root), &mut found);
        self.report(1, pods.is_ok().then_some(&links.directory).filter(|d| d.is_dir()), &mut found);
        if let Err(error) = &pods
            && !is_missing(error)
        {
            found.refused.push((root.clone(), RefusedDirectory::Unlisted(error.kind().into())));
        }
        for pod in pods.into_iter().flatten().flatten() {
            if pod.file_type().is_ok_and(|t| t.is_dir()) {
                self.look_at_pod(&pod.path(), &mut links, &mut found);
            }
        }
        self.links = links.settled;
        let (root, round) = (&self.config.root, self.round);
        for (name, pod) in self.pods.extract_if(|_, pod| pod.round != round) {
            let directory = root.join(&*name);
            found.gone.extend(pod.containers.iter().map(|c| key(&directory.join(&*c.name))));
            found.closed.push(directory.into());
        }
        found
    }

    fn report(&mut self, which: usize, directory: Option<&PathBuf>, found: &mut Found) {
        let before = std::mem::replace(&mut self.reported[which], directory.is_some());
        found.directories.extend(directory.filter(|_| !before).map(|d| d.as_path().into()));
    }

    fn look_at_pod(&mut self, directory: &Path, links: &mut Links, found: &mut Found) {
        let Some(name) = directory.file_name().and_then(OsStr::to_str) else { return };
        let now = settled(directory);
        let old = self.pods.get_mut(name);
        let same = now.is_some() && old.as_ref().is_some_and(|old| old.settled == now);
        if let Some(old) = old
            && same
            && !links.changed
        {
            old.round = self.round;
            return;
        }
        let Some(pod) = parse_pod(name) else { return };
        let mut old = self.pods.remove(name);
        let names = match old.as_ref().filter(|_| same) {
            Some(old) => old.containers.iter().map(|c| c.name.clone()).collect(),
            None => match directories_in(directory) {
                Ok(names) => names,
                // What was known of it is gone, or may not be seen.
                Err(error) => {
                    if !is_missing(&error) {
                        found.refused.push((directory.to_owned(), RefusedDirectory::Unlisted(error)));
                    }
                    return self.pods.extend(old.map(|old| (name.into(), old)));
                }
            },
        };
        if old.is_none() {
            found.directories.push(directory.into());
        }
        let before = old.as_mut().map(|old| std::mem::take(&mut old.containers)).unwrap_or_default();
        let mut containers = Vec::with_capacity(names.len());
        for container in names {
            let known = before.iter().find(|c| c.name == container).map(|c| c.id);
            let id = links.id(&pod, &container);
            let hash = id.as_deref().map_or(known.unwrap_or(0), hash);
            if known != Some(hash) {
                let (target, whole) = self.target(&pod, &directory.join(&*container), id.unwrap_or_default());
                if hash == 0 && links.are_there() {
                    found.unnamed.insert(target.key.clone());
                }
                if !whole && known.is_none() {
                    found.untold.insert(target.key.clone());
                }
                found.targets.push(target);
            }
            containers.push(Seen { name: container, id: hash });
        }
        let gone = before.iter().filter(|c| !containers.iter().any(|new| new.name == c.name));
        found.gone.extend(gone.map(|c| key(&directory.join(&*c.name))));
        // One that changes while it is listed is younger than this, and listed again.
        self.pods.insert(name.into(), PodDirectory { settled: now, containers, round: self.round });
    }

    /// A lane, and whether all that can be told of its pod is told.
    fn target(&self, pod: &Pod, directory: &Path, id: String) -> (Target, bool) {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let container = Container { name, id, ..Container::default() };
        let (pod, container, told) = self.complete(pod, container);
        let target = Target {
            key: key(directory),
            origin: Arc::new(Origin {
                node: self.node(),
                input: Input::Kubernetes,
                pod: Some(pod),
                container: Some(container),
            }),
            format: Format::Container,
            directory: directory.into(),
            naming: Naming::Kubernetes,
            within: Some(Arc::clone(&self.within)),
            start: Start::Beginning,
        };
        (target, told)
    }

    fn node(&self) -> Arc<Node> {
        let told = self.teller.as_ref().and_then(|teller| teller.node());
        told.unwrap_or_else(|| Arc::clone(&self.node))
    }

    /// What the cluster says of them; where it says nothing, that it does.
    fn complete(&self, pod: &Pod, container: Container) -> (Pod, Container, bool) {
        let Some(teller) = &self.teller else { return (pod.clone(), container, true) };
        match teller.complete(pod, &container) {
            Some((pod, container)) => (pod, container, true),
            None => {
                let told = Some(Told { state: ToldState::Nothing, ..Told::default() });
                (Pod { told, ..pod.clone() }, container, false)
            }
        }
    }
}

/// Of a container's id; never 0.
fn hash(id: &str) -> u64 {
    xxh3_64(id.as_bytes()).max(1)
}

fn key(directory: &Path) -> Arc<str> {
    format!("kubernetes:{}", directory.display()).into()
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn directories_in(directory: &Path) -> std::io::Result<Vec<Box<str>>> {
    let entries = fs::read_dir(directory)?.flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
    // A name that is not UTF-8 is none of Kubernetes.
    Ok(directories.filter_map(|entry| entry.file_name().into_string().ok()).map(Into::into).collect())
}

/// The links that kubelet keeps for log agents; listed when first asked for.
struct Links {
    directory: PathBuf,
    settled: Option<SystemTime>,
    /// Whether they may differ from those of the scan before.
    changed: bool,
    ids: OnceCell<Option<HashMap<String, String>>>,
}

impl Links {
    fn new(directory: PathBuf, before: Option<SystemTime>) -> Links {
        let settled = settled(&directory);
        let there = directory.is_dir();
        Links {
            changed: there && (settled.is_none() || settled != before),
            settled,
            directory,
            ids: OnceCell::new(),
        }
    }

    fn are_there(&self) -> bool {
        self.ids().is_some()
    }

    fn id(&self, pod: &Pod, container: &str) -> Option<String> {
        self.ids()?.get(&format!("{}_{}_{container}", pod.name, pod.namespace)).cloned()
    }

    /// `<pod>_<namespace>_<container>` -> container id. When a container has restarted there may be several links: the
    /// newest wins. `None` where there are no such links.
    fn ids(&self) -> Option<&HashMap<String, String>> {
        self.ids.get_or_init(|| self.list()).as_ref()
    }

    fn list(&self) -> Option<HashMap<String, String>> {
        let links = fs::read_dir(&self.directory).ok()?;
        let mut newest: HashMap<String, (SystemTime, String)> = HashMap::new();
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
        let mut finder = Kubernetes::new(config.clone(), Arc::default());
        let found = finder.scan();
        assert_eq!(found.targets.len(), 1);
        let origin = &found.targets[0].origin;
        assert_eq!(origin.names(), ["shop", "cart-7d9", "app"]);
        assert_eq!(origin.pod.as_ref().map(|p| p.uid.as_str()), Some("11-22"));
        assert_eq!(origin.container.as_ref().map(|c| c.id.clone()), Some(id));
        assert_eq!(found.directories.len(), 3, "the root, the links and one pod");
        assert!(found.unnamed.is_empty());
        assert_eq!(said(&mut finder), Said::default(), "nothing has changed");
    }

    /// Names of what a scan found, without the directories' paths.
    #[derive(Debug, Default, PartialEq)]
    struct Said {
        targets: Vec<(String, String)>,
        gone: usize,
        directories: usize,
        unnamed: usize,
    }

    fn said(finder: &mut Kubernetes) -> Said {
        let found = finder.scan();
        let container = |target: &Target| {
            let container = target.origin.container.clone().expect("a container");
            (container.name, container.id.get(..2).unwrap_or_default().to_owned())
        };
        let mut targets: Vec<_> = found.targets.iter().map(container).collect();
        targets.sort();
        let (gone, directories, unnamed) = (found.gone.len(), found.directories.len(), found.unnamed.len());
        Said { targets, gone, directories, unnamed }
    }

    #[test]
    fn a_scan_says_what_has_changed_since_the_last_one_however_soon() {
        let root = tempfile::tempdir().expect("a directory");
        let (pods, links) = (root.path().join("pods"), root.path().join("containers"));
        let pod = pods.join("shop_cart-7d9_11-22");
        fs::create_dir_all(pod.join("app")).expect("a container");
        fs::create_dir_all(&links).expect("links");
        let config = KubernetesLogs { root: pods.clone(), links: links.clone(), ..KubernetesLogs::default() };
        let mut finder = Kubernetes::new(config, Arc::default());
        let lane = |name: &str, id: &str| (name.to_owned(), id.to_owned());
        let first = Said { targets: vec![lane("app", "")], gone: 0, directories: 3, unnamed: 1 };
        assert_eq!(said(&mut finder), first);
        fs::create_dir(pod.join("side")).expect("a container");
        let fresh = Said { targets: vec![lane("side", "")], unnamed: 1, ..Said::default() };
        assert_eq!(said(&mut finder), fresh);
        fs::File::create(links.join(format!("cart-7d9_shop_app-{}.log", "ab".repeat(32)))).expect("a link");
        assert_eq!(said(&mut finder), Said { targets: vec![lane("app", "ab")], ..Said::default() });
        // A link that goes away says nothing new of its container.
        fs::remove_dir_all(&links).expect("removed");
        assert_eq!(said(&mut finder), Said::default());
        fs::remove_dir(pod.join("side")).expect("removed");
        assert_eq!(said(&mut finder), Said { gone: 1, ..Said::default() });
        fs::remove_dir_all(&pod).expect("removed");
        assert_eq!(said(&mut finder), Said { gone: 1, ..Said::default() });
        fs::create_dir_all(pod.join("app")).expect("a container");
        assert_eq!(
            said(&mut finder),
            Said { targets: vec![lane("app", "")], directories: 1, ..Said::default() }
        );
    }

    #[test]
    fn a_missing_root_has_no_lanes() {
        let config = KubernetesLogs { root: PathBuf::from("/nonexistent/pods"), ..KubernetesLogs::default() };
        assert!(Kubernetes::new(config, Arc::default()).scan().targets.is_empty());
    }
}
