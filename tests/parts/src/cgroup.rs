//! Control groups of a part's own, in every hierarchy of the machine, cleared away with the part.
//!
//! Works with version 1, version 2 and both at once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::janitor::Place;
use crate::tools;

/// A mounted hierarchy.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Hierarchy {
    path: PathBuf,
    /// `cgroup2`, or the version 1 controllers as mount options.
    options: String,
}

/// A control group with the same name in each hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    name: String,
    hierarchies: Vec<Hierarchy>,
}

impl Cgroup {
    /// Plans a group named after the part's folder; the part's janitor removes it and all below.
    pub(crate) fn of(place: &mut Place) -> Result<Self> {
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
        let hierarchies = hierarchies(&mounts);
        if hierarchies.is_empty() {
            bail!("no control groups are mounted: containers need /sys/fs/cgroup");
        }
        let group = Self { name: place.unique_name(), hierarchies };
        for folder in group.folders() {
            place.clears_cgroup(&folder)?;
        }
        Ok(group)
    }

    /// The group's path as container programs name it, from the root of each hierarchy.
    pub(crate) fn name(&self) -> String {
        format!("/{}", self.name)
    }

    /// The group's folder in each hierarchy.
    pub(crate) fn folders(&self) -> impl Iterator<Item = PathBuf> {
        self.hierarchies.iter().map(|hierarchy| hierarchy.path.join(&self.name))
    }

    /// Creates the group in every hierarchy, with the settings of its parent.
    pub(crate) fn create(&self) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let folder = hierarchy.path.join(&self.name);
            tools::create_folder(&folder)?;
            inherit_cpuset(&hierarchy.path, &folder)?;
        }
        Ok(())
    }

    /// Creates a group below in one hierarchy, to hold processes together; it limits nothing.
    pub(crate) fn create_holder(&self, name: &str) -> Result<PathBuf> {
        let rank = |hierarchy: &&Hierarchy| {
            let known = ["cgroup2", "pids", "name=systemd", "freezer"];
            known.iter().position(|known| hierarchy.options.split(',').any(|option| option == *known))
        };
        let version_1 = self.hierarchies.iter().any(|hierarchy| hierarchy.options != "cgroup2");
        let chosen = self
            .hierarchies
            .iter()
            // Beside version 1, no program counts on the second version's groups.
            .filter(|hierarchy| !version_1 || hierarchy.options != "cgroup2")
            .filter(|hierarchy| rank(hierarchy).is_some())
            .min_by_key(rank)
            .context("no control group hierarchy to hold processes")?;
        let folder = chosen.path.join(&self.name).join(name);
        tools::create_folder(&folder)?;
        Ok(folder)
    }
}

/// In version 1 a new group may hold no process until it is told which processors and memory it has.
fn inherit_cpuset(parent: &Path, child: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(name), child.join(name));
        if from.exists() && to.exists() && fs::read_to_string(&to)?.trim().is_empty() {
            tools::write(&to, fs::read_to_string(&from)?.trim())?;
        }
    }
    Ok(())
}

/// The hierarchies in the text of `/proc/self/mountinfo`.
fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    mounts.lines().filter_map(hierarchy).collect()
}

fn hierarchy(line: &str) -> Option<Hierarchy> {
    let (mount, kind) = line.split_once(" - ")?;
    let path = PathBuf::from(mount.split(' ').nth(4)?);
    let mut kind = kind.split(' ');
    let options = match kind.next()? {
        "cgroup" => kind.nth(1)?.to_owned(),
        "cgroup2" => "cgroup2".to_owned(),
        _ => return None,
    };
    Some(Hierarchy { path, options })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
22 1 0:20 / /proc rw shared:5 - proc proc rw
30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/cpuset rw shared:10 - cgroup cgroup rw,cpuset
33 30 0:29 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/pids rw shared:12 - cgroup cgroup rw,pids
";
    const UNIFIED: &str = "31 30 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn group(mounts: &str, root: &Path) -> Cgroup {
        let below = |hierarchy: Hierarchy| Hierarchy {
            path: root.join(hierarchy.path.strip_prefix("/sys/fs/cgroup").unwrap()),
            ..hierarchy
        };
        Cgroup { name: "part".into(), hierarchies: hierarchies(mounts).into_iter().map(below).collect() }
    }

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let paths = |mounts| hierarchies(mounts).into_iter().map(|found| found.path).collect::<Vec<_>>();
        let expected =
            ["unified", "cpuset", "systemd", "pids"].map(|name| Path::new("/sys/fs/cgroup").join(name));
        assert_eq!(paths(HYBRID), expected);
        assert_eq!(paths(UNIFIED), [Path::new("/sys/fs/cgroup")]);
    }

    #[test]
    fn processes_are_held_where_nothing_is_limited() -> Result<()> {
        let root = tempfile::tempdir()?;
        for (mounts, expected) in [(HYBRID, "pids/part/engine"), (UNIFIED, "part/engine")] {
            assert_eq!(group(mounts, root.path()).create_holder("engine")?, root.path().join(expected));
        }
        Ok(())
    }

    #[test]
    fn a_new_group_inherits_its_processors() -> Result<()> {
        let root = tempfile::tempdir()?;
        let group = group(HYBRID, root.path());
        group.create()?;
        // The kernel makes these files with the folder: empty in the child.
        tools::write(&root.path().join("cpuset/cpuset.cpus"), "0-1\n")?;
        tools::write(&root.path().join("cpuset/part/cpuset.cpus"), "\n")?;
        group.create()?;
        assert_eq!(fs::read_to_string(root.path().join("cpuset/part/cpuset.cpus"))?, "0-1");
        Ok(())
    }
}
