//! Which cgroup hierarchies this machine has, and where.

use std::fs;
use std::path::{Path, PathBuf};

use taffrail_kernfs::Roots;

use crate::tree::Place;

/// What kind of machine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
    /// Controllers as in v1, and beside them a v2 hierarchy with few or none.
    Hybrid,
}

/// The mounted hierarchies. Paths are as this process sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// What kind of machine it is.
    pub layout: Layout,
    /// The v2 hierarchy.
    pub unified: Option<PathBuf>,
    /// The v1 controllers that are mounted, by name.
    controllers: Vec<(String, PathBuf)>,
}

impl Hierarchy {
    /// Looks below `/sys/fs/cgroup`; nothing when no hierarchy is mounted there.
    #[must_use]
    pub fn detect(roots: &Roots) -> Option<Hierarchy> {
        let root = roots.sys("fs/cgroup");
        let is_v2 = |path: &Path| path.join("cgroup.controllers").is_file();
        if is_v2(&root) {
            return Some(Hierarchy { layout: Layout::V2, unified: Some(root), controllers: Vec::new() });
        }
        let unified = Some(root.join("unified")).filter(|path| is_v2(path));
        let mut controllers = Vec::new();
        for entry in fs::read_dir(&root).ok()?.flatten() {
            let path = entry.path();
            // `cpu,cpuacct` is one hierarchy; systemd's own has no controller and a name of its own.
            if path.join("cgroup.procs").exists() && Some(&path) != unified.as_ref() {
                let names = entry.file_name().to_string_lossy().into_owned();
                controllers.extend(names.split(',').map(|name| (name.to_owned(), path.clone())));
            }
        }
        // Of a directory and a link to it, either is right.
        controllers.sort();
        controllers.dedup_by(|a, b| a.0 == b.0);
        let layout = match (&unified, controllers.is_empty()) {
            (None, true) => return None,
            (Some(_), true) => Layout::V2,
            (None, false) => Layout::V1,
            (Some(_), false) => Layout::Hybrid,
        };
        Some(Hierarchy { layout, unified, controllers })
    }

    /// Where a v1 controller is mounted.
    #[must_use]
    pub fn controller(&self, name: &str) -> Option<&Path> {
        self.controllers.iter().find(|(known, _)| known == name).map(|(_, path)| path.as_path())
    }

    /// Every directory tree in which cgroups are to be looked for, each once.
    #[must_use]
    pub fn trees(&self) -> Vec<&Path> {
        if self.layout == Layout::V2 {
            return self.unified.as_deref().into_iter().collect();
        }
        let mut trees: Vec<&Path> = ["memory", "cpu", "cpuacct", "blkio", "pids"]
            .iter()
            .filter_map(|name| self.controller(name))
            .collect();
        trees.sort_unstable();
        trees.dedup();
        trees
    }
}

/// The directory of a cgroup in a tree.
#[must_use]
pub(crate) fn within(tree: &Path, place: &Place) -> PathBuf {
    if place.is_empty() { tree.to_owned() } else { tree.join(place) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn machine(files: &[&str]) -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = folder.path().join("sys/fs/cgroup").join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            File::create(path).expect("made");
        }
        let roots = Roots::below(folder.path());
        (folder, roots)
    }

    #[test]
    fn the_layout_follows_from_what_is_mounted() {
        let (_folder, roots) = machine(&["cgroup.controllers", "cgroup.procs", "system.slice/cgroup.procs"]);
        let v2 = Hierarchy::detect(&roots).expect("v2");
        assert_eq!((v2.layout, v2.trees()), (Layout::V2, vec![roots.sys("fs/cgroup").as_path()]));

        let (_folder, roots) =
            machine(&["cpu,cpuacct/cgroup.procs", "memory/cgroup.procs", "systemd/cgroup.procs"]);
        let v1 = Hierarchy::detect(&roots).expect("v1");
        assert_eq!((v1.layout, v1.trees().len()), (Layout::V1, 2));
        assert_eq!(v1.controller("cpuacct"), v1.controller("cpu"));

        let (_folder, roots) =
            machine(&["memory/cgroup.procs", "unified/cgroup.controllers", "unified/cgroup.procs"]);
        let hybrid = Hierarchy::detect(&roots).expect("hybrid");
        assert_eq!((hybrid.layout, hybrid.controller("unified")), (Layout::Hybrid, None));
        assert!(hybrid.unified.is_some());

        let (_folder, roots) = machine(&["nothing/here"]);
        assert_eq!(Hierarchy::detect(&roots), None);
    }
}
