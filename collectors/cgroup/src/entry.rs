//! One cgroup that has series: its files, its figures and its labels.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use taffrail_kernfs::{Page, Roots, Troubles, parse};
use taffrail_record::Labels;

use crate::asking::Asking;
use crate::attribute::Attribute;
use crate::config::Compat;
use crate::devices::Devices;
use crate::ends::Init;
use crate::figures::Figures;
use crate::filesystems::Filesystem;
use crate::hierarchy::{Hierarchy, Layout, within};
use crate::name::{self, Kind};
use crate::network::{Interface, Membership, Networks};
use crate::processes::{Processes, start};
use crate::tree::Place;
use crate::v1::V1;
use crate::v2::{PressureFiles, V2};
use crate::written::Written;

/// What families are written with besides the entries.
pub(crate) struct Scene<'a> {
    pub(crate) devices: &'a Devices,
    pub(crate) networks: &'a Networks,
    pub(crate) filesystems: &'a [Filesystem],
    /// `pagesize="2Mi"`, by index.
    pub(crate) huge: &'a [Labels],
    /// `cpu="cpu00"`, by number.
    pub(crate) cpus: &'a [Labels],
    pub(crate) machine_memory: Option<u64>,
    pub(crate) machine_swap: Option<u64>,
    pub(crate) swap_used: Option<u64>,
    pub(crate) compat: Compat,
}

/// What the machine is like.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) roots: Roots,
    pub(crate) hierarchy: Hierarchy,
    /// Names of huge page sizes as the kernel's files have them.
    pub(crate) huge_sizes: Vec<String>,
    pub(crate) per_cpu: bool,
    /// Of a second, in the kernel's figures.
    pub(crate) ticks: u64,
    /// When the machine was started, in seconds since the epoch.
    pub(crate) booted: Option<f64>,
}

/// Whose a cgroup is, as far as its path tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The container's id.
    pub(crate) container: Option<String>,
    /// The pod's uid.
    pub(crate) pod: Option<String>,
    /// `kubepods` or one of its classes.
    pub(crate) class: bool,
}

/// A cgroup under observation.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The path as series have it.
    pub(crate) id: String,
    pub(crate) owner: Owner,
    pub(crate) labels: Labels,
    /// [`crate::names::Names::version`] when the labels were rendered.
    pub(crate) labelled: Option<u64>,
    /// When its name is asked for, if it has none.
    pub(crate) asking: Asking,
    pub(crate) figures: Figures,
    /// What they were before they were read last.
    before: Figures,
    /// The limits may be others than were read last.
    pub(crate) limits_stale: bool,
    /// Since when it is gone from one of several hierarchies: a runtime removes it from one after the other.
    pub(crate) leaving: Option<Instant>,
    /// The network it shows, if it does.
    pub(crate) network: Option<Membership>,
    /// What that had moved when its last process was gone: its number may be another network's after that.
    pub(crate) moved: Vec<Interface>,
    pub(crate) processes: Processes,
    /// On disk, when it was looked at last.
    pub(crate) written: Option<Written>,
    pub(crate) started: Option<f64>,
    /// Watched for the end of the container.
    pub(crate) init: Init,
    /// When it was read last, in seconds since the epoch.
    pub(crate) seen: f64,
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    V1(Box<V1>, Option<PressureFiles>),
    V2(Box<V2>),
}

impl Owner {
    /// From the path of a cgroup, with a leading slash.
    pub(crate) fn of(path: &str) -> Owner {
        match name::kind(path) {
            Kind::Container(container) => {
                Owner { container: Some(container.id.to_owned()), pod: container.pod, class: false }
            }
            Kind::Pod(uid) => Owner { pod: Some(uid), ..Owner::default() },
            Kind::Pods => Owner { class: true, ..Owner::default() },
            Kind::Root | Kind::Other => Owner::default(),
        }
    }

    /// Whether it has series without being named in the configuration.
    pub(crate) fn is_known(&self) -> bool {
        self.class || self.container.is_some() || self.pod.is_some()
    }
}

/// The path as series have it, no two the same. A path that is text is shown as it is; systemd's names have `\x2d` in
/// them, as text. In one that is not, bytes that are no text are written as `\xff`, a backslash as `\\`, and a slash at its
/// end, where no other has one, tells it from text.
pub(crate) fn shown(place: &Place) -> String {
    if let Some(text) = place.to_str() {
        return format!("/{text}");
    }
    let mut path = String::from("/");
    for chunk in place.as_bytes().utf8_chunks() {
        path.push_str(&chunk.valid().replace('\\', r"\\"));
        chunk.invalid().iter().for_each(|byte| path.push_str(&format!("\\x{byte:02x}")));
    }
    path.push('/');
    path
}

impl Entry {
    /// Opens nothing yet.
    pub(crate) fn new(place: &Place, machine: &Machine, page: &mut Page) -> Entry {
        let id = shown(place);
        let hierarchy = &machine.hierarchy;
        let sizes = &machine.huge_sizes;
        let unified = hierarchy.unified.as_deref();
        let reader = match (hierarchy.layout, unified) {
            (Layout::V2, Some(tree)) => Reader::V2(Box::new(V2::new(tree, place, sizes))),
            _ => {
                // Some runtimes put a container into the v2 hierarchy, too, some do not.
                let pressure = unified.filter(|tree| within(tree, place).is_dir());
                let v1 = V1::new(hierarchy, place, sizes, machine.per_cpu, machine.ticks, page);
                Reader::V1(Box::new(v1), pressure.map(|tree| PressureFiles::new(tree, place)))
            }
        };
        Entry {
            started: started(machine, place, page),
            owner: Owner::of(&id),
            id,
            labels: Labels::NONE,
            labelled: None,
            asking: Asking::default(),
            figures: Figures::default(),
            before: Figures::default(),
            limits_stale: true,
            leaving: None,
            network: None,
            moved: Vec::new(),
            processes: Processes::default(),
            written: None,
            init: Init::default(),
            seen: 0.0,
            reader,
        }
    }

    /// Whether it is the machine itself.
    pub(crate) fn is_root(&self) -> bool {
        self.id == "/"
    }

    /// Reads its files. `block` is what the machine's cgroups have in common: see [`V1::read`]. Of a container that is leaving
    /// stays what cannot be read any more, whether that is known by now or not.
    pub(crate) fn read(
        &mut self,
        now: f64,
        block: &mut Option<usize>,
        page: &mut Page,
        troubles: &mut Troubles,
    ) {
        let may_leave = self.leaving.is_some() || self.owner.container.is_some();
        if may_leave {
            self.before.remember(&self.figures);
        }
        self.read_files(now, block, page, troubles);
        if may_leave && self.figures.lacks_of(&self.before) && (self.leaving.is_some() || self.is_gone()) {
            self.figures.keep_of(std::mem::take(&mut self.before));
        }
    }

    /// Whether a directory of it is.
    fn is_gone(&mut self) -> bool {
        let gone =
            |attribute: &mut Attribute| attribute.path().parent().is_some_and(|folder| !folder.exists());
        match &mut self.reader {
            Reader::V2(files) => files.attributes().any(gone),
            Reader::V1(files, pressure) => {
                files.attributes().chain(pressure.iter_mut().flat_map(PressureFiles::attributes)).any(gone)
            }
        }
    }

    fn read_files(&mut self, now: f64, block: &mut Option<usize>, page: &mut Page, troubles: &mut Troubles) {
        self.seen = now;
        let stale = std::mem::take(&mut self.limits_stale);
        match &mut self.reader {
            Reader::V2(files) => {
                if stale {
                    files.read_limits(&mut self.figures.limits, page, troubles);
                }
                files.read(&mut self.figures, page, troubles);
            }
            Reader::V1(files, pressure) => {
                if stale {
                    files.read_limits(&mut self.figures.limits, page, troubles);
                }
                files.read(&mut self.figures, block, page, troubles);
                if let Some(pressure) = pressure {
                    self.figures.pressure = pressure.read(page, troubles);
                }
            }
        }
    }

    /// Reads it when its container has ended. What cannot be read any more stays as it was read last.
    pub(crate) fn read_last(&mut self, page: &mut Page) {
        let before = self.figures.clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.read_files(now, &mut None, page, &mut Troubles::default());
        self.figures.keep_of(before);
    }

    /// Is in this network, or in none any more.
    pub(crate) fn join(&mut self, network: Option<Membership>, networks: &Networks) {
        if let (Some(last), None) = (self.network.and_then(|member| networks.last(member)), network) {
            last.clone_into(&mut self.moved);
        }
        self.network = network;
    }

    /// Is in none any more when the process that it was seen by has ended before it could be.
    pub(crate) fn part(&mut self, networks: &Networks) {
        if self.network.is_some_and(|member| !networks.knows(member)) {
            self.join(None, networks);
        }
    }

    /// The interfaces that it shows.
    pub(crate) fn interfaces<'a>(&'a self, networks: &'a Networks) -> &'a [Interface] {
        self.network.map_or(&self.moved, |member| networks.of(member))
    }

    /// Lets everything go that the kernel has to keep for it: its cgroup is gone.
    pub(crate) fn end(&mut self, networks: &Networks) {
        self.join(None, networks);
        self.close();
        self.init = Init::default();
    }

    /// Lets all descriptors go until the next reading.
    pub(crate) fn close(&mut self) {
        match &mut self.reader {
            Reader::V2(files) => files.attributes().for_each(Attribute::close),
            Reader::V1(files, pressure) => {
                files.attributes().for_each(Attribute::close);
                pressure.iter_mut().flat_map(PressureFiles::attributes).for_each(Attribute::close);
            }
        }
    }
}

/// When the cgroup was made, by the oldest of what tells: its directory, a file in it, its first process. The kernel makes up a
/// directory's time when it has not been looked at for long; it is never older than the boot.
fn started(machine: &Machine, place: &Place, page: &mut Page) -> Option<f64> {
    let modified = |path: &Path| {
        let time = std::fs::metadata(path).ok()?.modified().ok()?;
        Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
    };
    let mut oldest = f64::INFINITY;
    for tree in machine.hierarchy.trees() {
        let directory = within(tree, place);
        for path in [&directory, &directory.join("cgroup.clone_children"), &directory.join("cgroup.events")] {
            oldest = oldest.min(modified(path).unwrap_or(f64::INFINITY));
        }
        oldest = oldest.min(first_process(machine, &directory, page).unwrap_or(f64::INFINITY));
    }
    oldest.is_finite().then(|| oldest.max(machine.booted.unwrap_or(0.0)))
}

/// When the first process of a cgroup was started.
fn first_process(machine: &Machine, directory: &Path, page: &mut Page) -> Option<f64> {
    let procs = taffrail_kernfs::read(&directory.join("cgroup.procs"), page).ok()?;
    let pid = parse::lines(procs).find_map(parse::number).filter(|pid| *pid > 0)?;
    let stat = taffrail_kernfs::read(&machine.roots.proc(&format!("{pid}/stat")), page).ok()?;
    let ticks = start(stat)?;
    Some(machine.booted? + ticks as f64 / machine.ticks as f64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn paths_are_shown_without_two_becoming_one() {
        let shown = |bytes: &[u8]| shown(&Place::from_vec(bytes.to_vec()));
        assert_eq!(shown(b""), "/");
        assert_eq!(shown(b"a/b"), "/a/b");
        assert_eq!(shown(br"system-systemd\x2dfsck.slice"), r"/system-systemd\x2dfsck.slice");
        assert_eq!(shown(b"a\xff\xfeb"), r"/a\xff\xfeb/");
        assert_eq!(shown(b"\\xfe\xff"), r"/\\xfe\xff/");
        let alike: [&[u8]; 6] =
            [b"\xff\xfe", br"\xff\xfe", b"\\xff\xfe", b"\xff\\xfe", b"\xff\\\xfe", b"\xff/\xfe"];
        let names: BTreeSet<String> = alike.iter().map(|name| shown(name)).collect();
        assert_eq!(names.len(), alike.len(), "{names:?}");
        assert_eq!(shown("ü\n\"".as_bytes()), "/ü\n\"");
    }
}
