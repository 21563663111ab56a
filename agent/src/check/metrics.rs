//! Are the places there that metrics are read from? What is as it should be is not mentioned.

use taffrail_cgroup::{ContainersConfig, Hierarchy};
use taffrail_kernfs::Roots;

use super::Finding;
use crate::config::Config;

const SUBJECT: &str = "metrics";

pub(super) fn all(config: &Config) -> Vec<Finding> {
    let roots = config.metrics.roots();
    let mut findings = trees(&roots);
    if config.metrics.containers.enabled {
        findings.extend(cgroups(&config.metrics.containers.roots, &roots));
    }
    findings
}

/// The host's trees, each by something that it has on every machine.
fn trees(roots: &Roots) -> Vec<Finding> {
    let known = [
        ("metrics.procfs", "/proc", roots.proc("stat")),
        ("metrics.sysfs", "/sys", roots.sys("devices")),
        ("metrics.rootfs", "/", roots.rootfs.clone()),
    ];
    let missing = known.into_iter().filter(|(_, _, path)| !path.exists());
    let finding = |(key, tree, path): (&str, &str, std::path::PathBuf)| {
        let remedy = format!("set {key} to where the host's {tree} is mounted");
        Finding::warning(SUBJECT, format!("{} is not there", path.display()), remedy)
    };
    missing.map(finding).collect()
}

/// Those that are named here and that this machine does not have; the defaults are of many machines.
fn cgroups(named: &[String], roots: &Roots) -> Vec<Finding> {
    let Some(hierarchy) = Hierarchy::detect(roots) else { return Vec::new() };
    let usual = ContainersConfig::default().roots;
    let is_there = |root: &str| {
        let below = root.trim_start_matches('/');
        hierarchy.trees().iter().any(|tree| tree.join(below).is_dir())
    };
    let missing = named.iter().filter(|root| !usual.contains(root) && !is_there(root));
    let finding = |root: &String| {
        Finding::warning(
            SUBJECT,
            format!("{root} is no cgroup now"),
            "compare metrics.containers.roots with what is below /sys/fs/cgroup, if it should be there",
        )
    };
    missing.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir_all};

    use super::*;

    #[test]
    fn trees_and_cgroups_that_are_not_there_are_told_with_a_remedy() {
        let folder = tempfile::tempdir().expect("a directory");
        let roots = Roots::below(folder.path());
        let said =
            |findings: Vec<Finding>| findings.into_iter().map(|f| f.detail).collect::<Vec<_>>().join("; ");
        let missing = said(trees(&roots));
        assert!(missing.contains("proc/stat is not there; ") && missing.contains("sys/devices"), "{missing}");

        let cgroups_at = roots.sys("fs/cgroup");
        create_dir_all(cgroups_at.join("app.slice")).expect("made");
        create_dir_all(roots.sys("devices")).expect("made");
        create_dir_all(roots.proc("")).expect("made");
        File::create(roots.proc("stat")).expect("made");
        File::create(cgroups_at.join("cgroup.controllers")).expect("made");
        assert_eq!(trees(&roots), []);
        let named = ["/app.slice", "/foo", "/system.slice/kubelet.service"].map(str::to_owned);
        assert_eq!(said(cgroups(&named, &roots)), "/foo is no cgroup now");
    }
}
