//! What runs when the probe begins: containers, and who had come into them before.
//!
//! A container's first process, and what descends from it, came in by itself. Whoever else is in a container and has a parent
//! outside of it came from outside, and is the first of a session that is to be adopted, with its descendants. Whoever was
//! handed over to the container's first process when his parent ended cannot be told from that one's children.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use taffrail_kernfs::Roots;

use crate::wire::{Exec, Process, SessionKind};

/// Hexadecimal digits of a container's id.
const ID: usize = 64;
/// Nanoseconds of what /proc counts starts of processes in.
pub(crate) const TICK: u64 = 1_000_000_000 / 100;
/// Namespaces, as the probe orders them.
const NAMESPACES: [&str; 5] = ["mnt", "pid", "net", "ipc", "uts"];
/// How deep cgroups are looked through.
const DEPTH: usize = 12;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// Containers, the one that began first first.
    pub containers: Vec<Container>,
    /// Who had come into them.
    pub entered: Vec<Entered>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The kernfs id of its cgroup.
    pub cgroup: u64,
    /// Names of its cgroup and the two around it.
    pub names: Vec<Vec<u8>>,
    /// Its first process, with the start.
    pub init: (u32, u64),
    /// Whether it has a pid namespace of its own, in which that is the first.
    pub has_own_processes: bool,
    /// Inodes of the namespaces that it has not in common with the machine.
    pub namespaces: Vec<u32>,
}

/// Processes that came into a container from outside: the first, and its descendants in that container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// The kernfs id of the container's cgroup.
    pub container: u64,
    /// Inodes of the namespaces of the first.
    pub namespaces: [u32; 5],
    /// The first, then the others.
    pub processes: Vec<Seen>,
}

/// A process that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// As the probe would describe it; starts are exact to a hundredth of a second.
    pub process: Process,
    /// In the order in which the probe has them.
    pub namespaces: [u32; 5],
    /// The kernfs id of its container's cgroup, where it is in one.
    pub(crate) cgroup: Option<u64>,
    /// Whether it is in one that was not there when cgroups were looked through.
    pub(crate) is_new: bool,
}

/// What more there is to know of a process: texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// Its program.
    pub path: Vec<u8>,
    /// Its arguments, each with a NUL behind it.
    pub arguments: Vec<u8>,
    /// Its working directory, as it sees it.
    pub directory: Vec<u8>,
    /// Its environment, as the arguments.
    pub environment: Vec<u8>,
}

impl Scan {
    /// Looks through the machine's processes.
    ///
    /// # Errors
    /// When `/proc` or the cgroups cannot be listed, or this process does not see the machine's first processes.
    pub fn of(roots: &Roots) -> io::Result<Scan> {
        let cgroups = container_cgroups(roots)?;
        let host = machine(roots)?;
        let mut seen = Vec::new();
        for entry in fs::read_dir(roots.proc(""))? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process that has ended meanwhile is not there.
            seen.extend(Seen::of(roots, pid, &cgroups).ok().filter(|seen| seen.namespaces != [0; 5]));
        }
        Ok(arrange(seen, host, &cgroups))
    }
}

/// Inodes of the namespaces that are no container's, in the order in which the probe has them.
///
/// # Errors
/// When this process does not see the machine's first processes.
pub fn machine(roots: &Roots) -> io::Result<[u32; 5]> {
    // The kernel's own thread that makes the others never leaves the machine's first namespaces, and everybody may look.
    namespaces(&roots.proc("2")).or_else(|_| namespaces(&roots.proc("1")))
}

/// The inode of the machine's own mount namespace.
pub(crate) fn host_mount(roots: &Roots) -> Option<u32> {
    machine(roots).ok().map(|inodes| inodes[0])
}

/// The cgroups of containers: by id, the kernfs id and the names of it and those around it.
pub(crate) type Cgroups = HashMap<String, (u64, Vec<Vec<u8>>)>;

/// The containers that brought namespaces with them, by the inodes of those.
pub(crate) type Owners = HashMap<u32, u64>;

pub(crate) fn owners(containers: &[Container]) -> Owners {
    let mut owners = HashMap::new();
    for container in containers {
        for inode in &container.namespaces {
            owners.entry(*inode).or_insert(container.cgroup);
        }
    }
    owners
}

pub(crate) fn container_cgroups(roots: &Roots) -> io::Result<Cgroups> {
    let version_1 = roots.sys("fs/cgroup/pids");
    let root = if version_1.is_dir() { version_1 } else { roots.sys("fs/cgroup") };
    let mut found = HashMap::new();
    let mut folders = vec![(root.clone(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            // It went away.
            Err(_) if depth > 0 => continue,
            entries => entries?,
        };
        for entry in entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()))
        {
            let path = entry.path();
            let id = entry.file_name().to_str().and_then(id_in).map(str::to_owned);
            if let (Some(id), Ok(metadata)) = (id, entry.metadata()) {
                let around = path.ancestors().take(3).take_while(|around| *around != root);
                let names = around.filter_map(Path::file_name).map(|name| name.as_bytes().to_vec()).collect();
                found.entry(id).or_insert((metadata.ino(), names));
            } else if depth < DEPTH {
                folders.push((path, depth + 1));
            }
        }
    }
    Ok(found)
}

/// The container's id at the end of a cgroup's name, but for `.scope`.
#[must_use]
pub fn id_in(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.get(name.len().checked_sub(ID)?..)?;
    id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(id)
}

impl Seen {
    /// The container that it is in. As the probe has it: a mount namespace says most, then the cgroup, then the others.
    pub(crate) fn container(&self, owners: &Owners) -> Option<u64> {
        let owner = |index: usize| owners.get(self.namespaces.get(index)?).copied();
        owner(0).or(self.cgroup).or_else(|| (1..NAMESPACES.len()).find_map(owner))
    }

    pub(crate) fn of(roots: &Roots, pid: u32, cgroups: &Cgroups) -> io::Result<Seen> {
        let folder = roots.proc(&pid.to_string());
        let stat = fs::read(folder.join("stat"))?;
        let status = fs::read_to_string(folder.join("status"))?;
        let malformed = || io::Error::other("stat is malformed");
        let process = described(pid, &stat, &status).ok_or_else(malformed)?;
        let cgroup = fs::read_to_string(folder.join("cgroup"))?;
        let components =
            cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).flat_map(|path| path.split('/'));
        let mut ids = components.filter_map(id_in).peekable();
        let in_container = ids.peek().is_some();
        let cgroup = ids.find_map(|id| cgroups.get(id)).map(|(inode, _)| *inode);
        let is_new = in_container && cgroup.is_none();
        // Who has ended, and is waited for, has left his namespaces; and in version 1 his cgroup, too.
        let namespaces = match namespaces(&folder) {
            Err(_) if cgroup.is_some() && fields_of(&stat).is_some_and(|fields| has_ended(&fields)) => {
                Default::default()
            }
            namespaces => namespaces?,
        };
        Ok(Seen { process, namespaces, cgroup, is_new })
    }

    /// Whether it is in the cgroup of a container.
    #[must_use]
    pub fn is_in_cgroup_of(&self, container: u64) -> bool {
        self.cgroup == Some(container)
    }

    /// Whether it is still the same process.
    #[must_use]
    pub fn lives(&self, roots: &Roots) -> bool {
        is_alive(roots, self.process.pid, self.process.start)
    }

    /// Its texts as they are now; those that cannot be read are empty.
    #[must_use]
    pub fn texts(&self, roots: &Roots) -> Texts {
        let folder = roots.proc(&self.process.pid.to_string());
        let link =
            |name: &str| fs::read_link(folder.join(name)).map(PathBuf::into_os_string).unwrap_or_default();
        let within = fs::read_link(folder.join("root")).unwrap_or_default();
        let directory = PathBuf::from(link("cwd"));
        let directory =
            directory.strip_prefix(&within).map_or(directory.clone(), |rest| Path::new("/").join(rest));
        let read = |name: &str| fs::read(folder.join(name)).unwrap_or_default();
        Texts {
            path: link("exe").into_vec(),
            arguments: read("cmdline"),
            directory: directory.into_os_string().into_vec(),
            environment: read("environ"),
        }
    }
}

impl Texts {
    /// The program that is known by these.
    pub(crate) fn program(self, kind: SessionKind) -> Exec {
        Exec {
            session_kind: kind as u32,
            path: self.path,
            arguments: self.arguments,
            directory: self.directory,
            environment_total: self.environment.len() as u32,
            environment: self.environment,
            links: 1,
            ..Exec::default()
        }
    }
}

/// Whether the process that began then is there.
#[must_use]
pub fn is_alive(roots: &Roots, pid: u32, start: u64) -> bool {
    let folder = roots.proc(&pid.to_string());
    let stat = fs::read(folder.join("stat"));
    stat.is_ok_and(|stat| {
        fields_of(&stat).is_some_and(|fields| start_of(&fields) == Some(start) && !has_ended(&fields))
    })
}

/// Whether it is only waited for: its first thread has ended, and there is no other.
fn has_ended(fields: &[&str]) -> bool {
    let threads = fields.get(17).and_then(|threads| threads.parse::<u32>().ok());
    matches!(fields.first(), Some(&("Z" | "X"))) && threads.is_none_or(|threads| threads <= 1)
}

/// What stands behind the name in parentheses, which may have anything in it: the state first.
fn fields_of(stat: &[u8]) -> Option<Vec<&str>> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(std::str::from_utf8(stat.get(end + 1..)?).ok()?.split_ascii_whitespace().collect())
}

fn start_of(fields: &[&str]) -> Option<u64> {
    Some(fields.get(19)?.parse::<u64>().ok()? * TICK)
}

fn described(pid: u32, stat: &[u8], status: &str) -> Option<Process> {
    let fields = fields_of(stat)?;
    let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
    let lines: HashMap<&str, Vec<u32>> = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, values)| {
            (key, values.split_ascii_whitespace().filter_map(|value| value.parse().ok()).collect())
        })
        .collect();
    let of = |key: &str, index: usize| lines.get(key).and_then(|values| values.get(index)).copied();
    let numbers = lines.get("NSpid").cloned().unwrap_or_default();
    let begin = stat.iter().position(|byte| *byte == b'(')? + 1;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(Process {
        start: start_of(&fields)?,
        pid,
        thread: pid,
        parent: number(1)? as u32,
        inner_pid: numbers.last().copied().unwrap_or(pid),
        process_session: number(3)? as u32,
        user: of("Uid", 0)?,
        effective_user: of("Uid", 1)?,
        group: of("Gid", 0)?,
        effective_group: of("Gid", 1)?,
        level: numbers.len().saturating_sub(1) as u32,
        name: stat.get(begin..end)?.to_vec(),
        tty: tty(number(4)? as u32).into_bytes(),
        ..Process::default()
    })
}

/// What the kernel calls a terminal, as far as it is of a common kind.
fn tty(device: u32) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        0 => String::new(),
        4 => format!("tty{minor}"),
        136..=143 => format!("pts{}", (major - 136) * 256 + minor),
        _ => format!("{major}:{minor}"),
    }
}

fn namespaces(folder: &Path) -> io::Result<[u32; 5]> {
    let mut inodes = [0; 5];
    for (inode, name) in inodes.iter_mut().zip(NAMESPACES) {
        *inode = fs::metadata(folder.join("ns").join(name))?.ino() as u32;
    }
    Ok(inodes)
}

/// Tells containers, and who came into them, from what is known of each process.
fn arrange(mut seen: Vec<Seen>, host: [u32; 5], cgroups: &Cgroups) -> Scan {
    seen.sort_by_key(|seen| (seen.process.start, seen.process.pid));
    let place: HashMap<u32, Option<u64>> = seen.iter().map(|seen| (seen.process.pid, seen.cgroup)).collect();
    let from_outside =
        |seen: &Seen| seen.cgroup.is_some() && place.get(&seen.process.parent) != Some(&seen.cgroup);
    // The first of its own processes; where those are the machine's or another container's, whoever came before the others.
    let mut firsts: HashMap<u64, &Seen> = HashMap::new();
    for seen in seen.iter().filter(|seen| from_outside(seen)) {
        let Some(cgroup) = seen.cgroup else { continue };
        let first = firsts.entry(cgroup).or_insert(seen);
        if seen.process.inner_pid == 1 && first.process.inner_pid != 1 {
            *first = seen;
        }
    }
    let mut containers: Vec<Container> = Vec::new();
    for seen in &seen {
        let Some(cgroup) = seen
            .cgroup
            .filter(|cgroup| firsts.get(cgroup).is_some_and(|first| first.process.pid == seen.process.pid))
        else {
            continue;
        };
        let own: Vec<u32> = seen.namespaces.into_iter().filter(|inode| !host.contains(inode)).collect();
        let names = cgroups.values().find(|(inode, _)| *inode == cgroup).map(|(_, names)| names.clone());
        containers.push(Container {
            cgroup,
            names: names.unwrap_or_default(),
            init: (seen.process.pid, seen.process.start),
            has_own_processes: seen.process.inner_pid == 1,
            namespaces: own,
        });
    }
    let owners = owners(&containers);
    let places: HashMap<u32, u64> =
        seen.iter().filter_map(|seen| Some((seen.process.pid, seen.container(&owners)?))).collect();
    let inits: HashSet<u32> = containers.iter().map(|container| container.init.0).collect();
    let mut sessions: Vec<Entered> = Vec::new();
    // Parents began before their children, and those come later in the list.
    let mut of: HashMap<u32, usize> = HashMap::new();
    for seen in seen {
        let (pid, parent) = (seen.process.pid, seen.process.parent);
        let Some(container) = places.get(&pid).copied().filter(|_| !inits.contains(&pid)) else { continue };
        if places.get(&parent) == Some(&container) {
            if let Some(session) = of.get(&parent).copied() {
                of.insert(pid, session);
                sessions[session].processes.push(seen);
            }
            continue;
        }
        of.insert(pid, sessions.len());
        sessions.push(Entered { container, namespaces: seen.namespaces, processes: vec![seen] });
    }
    Scan { containers, entered: sessions }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: [u32; 5] = [1, 2, 3, 4, 5];

    fn seen(
        pid: u32,
        parent: u32,
        start: u64,
        inner_pid: u32,
        namespaces: [u32; 5],
        cgroup: Option<u64>,
    ) -> Seen {
        let process = Process { pid, parent, start, inner_pid, ..Process::default() };
        Seen { process, namespaces, cgroup, is_new: false }
    }

    #[test]
    fn who_has_a_parent_outside_came_from_outside_and_his_children_with_him() {
        let (web, app) = ([11, 12, 13, 14, 15], [21, 22, 13, 14, 15]);
        let found = arrange(
            vec![
                seen(1, 0, 0, 1, HOST, None),
                seen(50, 1, 5, 50, HOST, None),
                seen(100, 50, 10, 1, web, Some(7)),
                seen(101, 100, 11, 2, web, Some(7)),
                // Another container of the same pod, with a mount namespace and processes of its own.
                seen(200, 50, 20, 1, app, Some(8)),
                // By the runtime, with a child that has made a namespace for itself.
                seen(300, 50, 30, 40, web, Some(7)),
                seen(301, 300, 31, 41, [99, 12, 13, 14, 15], Some(7)),
                // By nsenter, from the machine: into the mount namespace alone, and into the pod's network.
                seen(400, 1, 40, 400, [21, 2, 3, 4, 5], None),
                seen(500, 1, 50, 500, [1, 2, 13, 4, 5], None),
                // From the first container into the second.
                seen(600, 101, 60, 42, [21, 12, 13, 14, 15], Some(7)),
                // Shares the machine's processes: its first, and somebody who came in.
                seen(700, 50, 70, 700, [31, 2, 3, 4, 5], Some(9)),
                seen(701, 50, 71, 701, [31, 2, 3, 4, 5], Some(9)),
                // Shares the processes of the first container, as in a pod with `shareProcessNamespace`; the same.
                seen(800, 50, 80, 60, [41, 12, 13, 14, 15], Some(10)),
                seen(801, 50, 81, 61, [41, 12, 13, 14, 15], Some(10)),
            ],
            HOST,
            &HashMap::new(),
        );
        let containers: Vec<_> =
            found.containers.iter().map(|c| (c.cgroup, c.init.0, c.namespaces.clone())).collect();
        assert_eq!(
            containers,
            [
                (7, 100, web.to_vec()),
                (8, 200, app.to_vec()),
                (9, 700, vec![31]),
                (10, 800, vec![41, 12, 13, 14, 15])
            ]
        );
        let sessions: Vec<(u64, Vec<u32>)> = found
            .entered
            .iter()
            .map(|entered| {
                (entered.container, entered.processes.iter().map(|seen| seen.process.pid).collect())
            })
            .collect();
        assert_eq!(
            sessions,
            [
                (7, vec![300, 301]),
                (8, vec![400]),
                (7, vec![500]),
                (8, vec![600]),
                (9, vec![701]),
                (10, vec![801])
            ]
        );
    }

    #[test]
    fn names_of_containers_cgroups_end_in_their_ids() {
        let id = "0123456789abcdef".repeat(4);
        for name in [id.clone(), format!("docker-{id}.scope"), format!("cri-containerd-{id}.scope")] {
            assert_eq!(id_in(&name), Some(id.as_str()), "{name}");
        }
        for name in ["", "user.slice", &id[1..], &id.to_uppercase(), &format!("{id}x"), "é"] {
            assert_eq!(id_in(name), None, "{name}");
        }
    }

    #[test]
    fn a_process_is_described_whatever_its_name_is() {
        let mut fields = vec!["S".to_owned(), "7".into(), "6".into(), "5".into(), "34817".into()];
        fields.extend((0..14).map(|_| "0".to_owned()));
        fields.push("1234".into());
        let stat = format!("42 (a) b (c) {}", fields.join(" "));
        let status = "Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t1001\t1002\t0\t0\nNSpid:\t42\t9\n";
        let process = described(42, stat.as_bytes(), status).expect("described");
        assert_eq!(
            (process.name.as_slice(), process.parent, process.process_session),
            (&b"a) b (c"[..], 7, 5)
        );
        assert_eq!((process.start, process.inner_pid, process.level), (12_340_000_000, 9, 1));
        assert_eq!(
            (process.user, process.effective_user, process.group, process.effective_group),
            (1000, 0, 1001, 1002)
        );
        assert_eq!(process.tty, b"pts1");
        assert_eq!(described(42, b"42 (x", status), None);
    }

    #[test]
    fn this_process_lives_and_another_that_began_later_does_not() {
        let roots = Roots::default();
        let pid = std::process::id();
        let seen = Seen::of(&roots, pid, &HashMap::new()).expect("seen");
        assert!(seen.lives(&roots) && !is_alive(&roots, pid, seen.process.start + TICK));
        assert!(!seen.texts(&roots).arguments.is_empty());
    }
}
