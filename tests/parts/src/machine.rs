//! What neither parts nor tests may change on the machine, looked at before and after.

use std::fs;
use std::path::Path;

/// Settings that container engines and kubelet would change for the whole machine.
const SETTINGS: [&str; 8] = [
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
];

/// Folders that engines would create.
const FOLDERS: [&str; 8] = [
    "/etc/cni/net.d",
    "/etc/docker/key.json",
    "/run/containerd",
    "/run/docker",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// The state of the machine as far as parts could change it.
#[derive(Debug, Eq, PartialEq)]
pub struct Machine {
    settings: Vec<(&'static str, Option<String>)>,
    folders: Vec<(&'static str, bool)>,
    interfaces: Vec<String>,
    addresses: String,
    routes: String,
}

impl Machine {
    /// The state now.
    #[must_use]
    pub fn now() -> Self {
        let setting = |name| (name, fs::read_to_string(Path::new("/proc/sys").join(name)).ok());
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            settings: SETTINGS.map(setting).to_vec(),
            folders: FOLDERS.map(|path| (path, Path::new(path).exists())).to_vec(),
            interfaces: names("/sys/class/net"),
            addresses: read("/proc/net/fib_trie"),
            routes: read("/proc/net/route"),
        }
    }
}

/// Everything that still mentions a part's folder: processes, mounts, control groups and the folder itself.
pub fn traces(folder: &Path) -> Vec<String> {
    let path = folder.display().to_string();
    let name = path.rsplit('/').next().unwrap_or(&path);
    let mounts = text(Path::new("/proc/self/mountinfo"));
    let mut found: Vec<String> = folder.exists().then(|| path.clone()).into_iter().collect();
    found.extend(mounts.lines().filter(|line| line.contains(name)).map(|line| format!("mount {line}")));
    let hierarchies = mounts.lines().filter(|line| line.contains(" - cgroup"));
    let groups = hierarchies.filter_map(|line| Some(Path::new(line.split(' ').nth(4)?).join(name)));
    found.extend(groups.filter(|group| group.exists()).map(|group| format!("cgroup {}", group.display())));
    found.extend(names("/proc").iter().filter_map(|process| trace_of(process, name)));
    found
}

fn trace_of(process: &str, name: &str) -> Option<String> {
    let folder = Path::new("/proc").join(process);
    let mentions = |file: &str| text(&folder.join(file)).contains(name);
    let found = process.bytes().all(|byte| byte.is_ascii_digit())
        && ["cmdline", "cgroup", "mountinfo"].into_iter().any(mentions);
    found.then(|| format!("process {process}: {}", text(&folder.join("cmdline"))))
}

/// A file's text, empty when it is gone.
fn text(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).replace('\0', " ")
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
