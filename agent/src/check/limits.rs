//! What the kernel grants: watches, descriptors, control groups, probes.

use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};

use super::Finding;

/// Fewer watches than this, and a busy node falls back to looking by timer.
const WATCHES: u64 = 65_536;
/// The agent keeps a file open for each container that prints, and for each that is rotated away unread.
const DESCRIPTORS: u64 = 4096;

pub(super) fn all() -> Vec<Finding> {
    let mut findings = vec![watches(), instances(), descriptors(), cgroups(Path::new("/sys/fs/cgroup"))];
    findings.push(probes(Path::new("/sys/kernel/btf/vmlinux"), effective_capabilities()));
    findings
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn watches() -> Finding {
    const SUBJECT: &str = "inotify watches";
    match number("/proc/sys/fs/inotify/max_user_watches") {
        Some(limit) if limit >= WATCHES => Finding::good(SUBJECT, format!("{limit} per user")),
        Some(limit) => Finding::warning(
            SUBJECT,
            format!("{limit} per user; without a watch, new files are found by timer and so later"),
            format!("sysctl fs.inotify.max_user_watches={}", WATCHES * 4),
        ),
        None => Finding::warning(SUBJECT, "unknown: /proc/sys/fs/inotify cannot be read", "mount /proc"),
    }
}

fn instances() -> Finding {
    const SUBJECT: &str = "inotify instances";
    match number("/proc/sys/fs/inotify/max_user_instances") {
        Some(limit) if limit >= 128 => Finding::good(SUBJECT, format!("{limit} per user")),
        Some(limit) => Finding::warning(
            SUBJECT,
            format!("{limit} per user; the agent needs one, others may have taken them all"),
            "sysctl fs.inotify.max_user_instances=512",
        ),
        None => Finding::warning(SUBJECT, "unknown: /proc/sys/fs/inotify cannot be read", "mount /proc"),
    }
}

fn descriptors() -> Finding {
    const SUBJECT: &str = "open files";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if hard >= DESCRIPTORS => Finding::good(SUBJECT, format!("up to {hard}")),
        Ok((_, hard)) => Finding::warning(
            SUBJECT,
            format!("up to {hard}; one is needed for each container that prints"),
            "raise LimitNOFILE= in the unit, or ulimit -n",
        ),
        Err(error) => Finding::warning(SUBJECT, format!("unknown: {error}"), "none"),
    }
}

fn cgroups(root: &Path) -> Finding {
    const SUBJECT: &str = "cgroups";
    match (root.join("cgroup.controllers").exists(), root.join("memory").exists()) {
        (true, _) => Finding::good(SUBJECT, "version 2"),
        (false, true) => Finding::good(SUBJECT, "version 1"),
        (false, false) => {
            Finding::note(SUBJECT, format!("{} shows none; logs do not need them", root.display()))
        }
    }
}

fn probes(types: &Path, capabilities: Option<u64>) -> Finding {
    const SUBJECT: &str = "bpf";
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let has = |bit: u32| capabilities.is_some_and(|set| set >> bit & 1 == 1);
    let permitted = has(SYS_ADMIN) || has(BPF) && has(PERFMON);
    let detail = match (types.exists(), permitted) {
        (true, true) => "permitted, kernel types (BTF) present".to_owned(),
        (true, false) => {
            "not permitted: CAP_BPF and CAP_PERFMON are missing; logs do not need them".to_owned()
        }
        (false, true) => format!(
            "permitted, kernel types missing: {} is not there; logs do not need them",
            types.display()
        ),
        (false, false) => "not permitted, kernel types missing; logs do not need them".to_owned(),
    };
    if types.exists() && permitted { Finding::good(SUBJECT, detail) } else { Finding::note(SUBJECT, detail) }
}

/// The capabilities in force, one bit each.
fn effective_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn the_version_of_cgroups_is_told_by_their_files() {
        let root = tempfile::tempdir().expect("directory");
        assert_eq!(cgroups(root.path()).status, Status::Note);
        fs::create_dir(root.path().join("memory")).expect("made");
        assert_eq!(cgroups(root.path()).detail, "version 1");
        fs::File::create(root.path().join("cgroup.controllers")).expect("made");
        assert_eq!(cgroups(root.path()).detail, "version 2");
    }

    #[test]
    fn probes_need_types_and_capabilities() {
        let types = Path::new("/proc/self/status");
        for (path, capabilities, status) in [
            (types, Some(1 << 21), Status::Good),
            (types, Some(1 << 38 | 1 << 39), Status::Good),
            (types, Some(1 << 39), Status::Note),
            (types, None, Status::Note),
            (Path::new("/nothing"), Some(u64::MAX), Status::Note),
        ] {
            assert_eq!(probes(path, capabilities).status, status, "{path:?} {capabilities:?}");
        }
    }
}
