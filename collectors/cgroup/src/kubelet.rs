//! Names that kubelet leaves on the disk: what pods and containers are called when no runtime can be asked.
//!
//! Below its log root each pod has a directory `<namespace>_<pod>_<uid>`, and a directory of links has one for each
//! container, `<pod>_<namespace>_<container>-<id>.log`. Names of the API cannot contain an underscore, so both can be
//! taken apart.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::names::{ContainerName, Names, PodName};

/// Where kubelet keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletPaths {
    /// Directories of pods, such as `/var/log/pods`.
    pub pods: PathBuf,
    /// Links to log files, such as `/var/log/containers`.
    pub links: PathBuf,
}

impl KubeletPaths {
    /// Tells `names` what is there.
    pub(crate) fn tell(&self, names: &Names) {
        let list = |path: &Path| -> Vec<String> {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        names.set_pods(list(&self.pods).iter().filter_map(|name| pod(name)).collect());
        let containers =
            list(&self.links).iter().filter_map(|name| container(name)).collect::<HashMap<_, _>>();
        // Last in the alphabet: a runtime knows more.
        names.set_containers("links", containers);
    }
}

fn pod(directory: &str) -> Option<(String, PodName)> {
    let mut parts = directory.splitn(3, '_');
    let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
    Some((uid.to_owned(), PodName { namespace: namespace.to_owned(), name: name.to_owned() }))
}

fn container(link: &str) -> Option<(String, Arc<ContainerName>)> {
    let (names, id) = link.strip_suffix(".log")?.rsplit_once('-')?;
    let mut parts = names.splitn(3, '_');
    let known = ContainerName {
        pod: parts.next()?.to_owned(),
        namespace: parts.next()?.to_owned(),
        container: parts.next()?.to_owned(),
        ..ContainerName::default()
    };
    Some((id.to_owned(), Arc::new(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let (uid, known) = pod("kube-system_etcd-node1_0123").expect("a pod");
        assert_eq!(
            (uid.as_str(), known.namespace.as_str(), known.name.as_str()),
            ("0123", "kube-system", "etcd-node1")
        );
        assert_eq!(pod("lost+found"), None);
        let (id, known) = container("web-0_shop_side-car-00ff.log").expect("a container");
        assert_eq!(id, "00ff");
        assert_eq!([&*known.pod, &known.namespace, &known.container], ["web-0", "shop", "side-car"]);
        assert_eq!(container("notes.log"), None);
    }
}
