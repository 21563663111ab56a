//! The machine's own facts, as cAdvisor tells them.

use std::fs;
use std::path::Path;

use parking_lot::Mutex;
use taffrail_kernfs::{Page, Roots, Troubles, parse, read_text};
use taffrail_record::{Ask, AskError, Family, Kind, Labels, Samples};

const fn family(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: &["boot_id", "machine_id", "system_uuid"] }
}

static FAMILIES: [Family; 6] = [
    family("machine_cpu_cores", "Logical CPUs."),
    family("machine_cpu_physical_cores", "Physical cores."),
    family("machine_cpu_sockets", "CPU packages."),
    family("machine_memory_bytes", "Memory as the kernel counts it."),
    family("machine_swap_bytes", "Size of all swap."),
    Family {
        name: "machine_scrape_error",
        kind: Kind::Gauge,
        help: "1 when the machine's facts could not be read.",
        labels: &[],
    },
];

/// Answers for the machine.
#[derive(Debug)]
pub struct MachineFacts {
    roots: Roots,
    identity: Mutex<Option<Labels>>,
}

impl MachineFacts {
    /// Of the machine at `roots`.
    #[must_use]
    pub fn new(roots: Roots) -> MachineFacts {
        MachineFacts { roots, identity: Mutex::default() }
    }

    /// The labels of every series; empty where this machine has no such thing.
    fn identity(&self, page: &mut Page) -> Labels {
        let mut known = self.identity.lock();
        let roots = &self.roots;
        let first = |paths: &[std::path::PathBuf], page: &mut Page| {
            paths
                .iter()
                .find_map(|path| read_text(path, page).ok().filter(|text| !text.is_empty()))
                .unwrap_or_default()
        };
        let fresh = || {
            let boot = first(&[roots.proc("sys/kernel/random/boot_id")], page);
            let machine = first(
                &["/etc/machine-id", "/var/lib/dbus/machine-id"].map(|path| roots.host(Path::new(path))),
                page,
            );
            // A machine without firmware to tell it is known by its installation, as cAdvisor does.
            let system = first(
                &[
                    roots.sys("class/dmi/id/product_uuid"),
                    roots.proc("device-tree/system-id"),
                    roots.proc("device-tree/vm,uuid"),
                    roots.host(Path::new("/etc/machine-id")),
                ],
                page,
            );
            Labels::new([("boot_id", boot.as_str()), ("machine_id", &machine), ("system_uuid", &system)])
        };
        known.get_or_insert_with(fresh).clone()
    }
}

impl Ask for MachineFacts {
    fn name(&self) -> &'static str {
        "machine"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let (mut page, mut troubles) = (Page::default(), Troubles::default());
        let labels = self.identity(&mut page);
        let topology = Topology::read(&self.roots, &mut page);
        let told =
            troubles.take(taffrail_kernfs::read(&self.roots.proc("meminfo"), &mut page)).unwrap_or_default();
        let values = [
            Some(topology.cpus).filter(|n| *n > 0),
            Some(topology.cores).filter(|n| *n > 0),
            Some(topology.sockets).filter(|n| *n > 0),
            meminfo(told, b"MemTotal:"),
            meminfo(told, b"SwapTotal:"),
        ];
        for (family, value) in FAMILIES.iter().zip(values) {
            if let Some(value) = value {
                samples.family(family);
                samples.labelled(&[&labels], value as f64);
            }
        }
        let failed = values.iter().any(Option::is_none);
        samples.family(&FAMILIES[5]);
        samples.sample(&[], f64::from(u8::from(failed)));
        troubles.told()
    }
}

/// Bytes of a line of `/proc/meminfo`, by its name with the colon.
pub(crate) fn meminfo(text: &[u8], name: &[u8]) -> Option<u64> {
    let line = parse::lines(text).find_map(|line| line.strip_prefix(name))?;
    parse::number(parse::words(line).next()?)?.checked_mul(1024)
}

struct Topology {
    cpus: u64,
    cores: u64,
    sockets: u64,
}

impl Topology {
    /// Of the CPUs that are online.
    fn read(roots: &Roots, page: &mut Page) -> Topology {
        let online = read_text(&roots.sys("devices/system/cpu/online"), page).unwrap_or_default();
        let cpus = list(&online);
        let mut cores = Vec::new();
        for cpu in &cpus {
            let mut number = |name: &str| {
                read_text(&roots.sys(&format!("devices/system/cpu/cpu{cpu}/topology/{name}")), page).ok()
            };
            cores.push((number("physical_package_id"), number("core_id")));
        }
        let known: Vec<_> = cores.into_iter().filter_map(|(socket, core)| Some((socket?, core?))).collect();
        let count = |mut values: Vec<String>| {
            values.sort_unstable();
            values.dedup();
            values.len() as u64
        };
        Topology {
            cpus: cpus.len() as u64,
            cores: count(known.iter().map(|(socket, core)| format!("{socket} {core}")).collect()),
            sockets: count(known.into_iter().map(|(socket, _)| socket).collect()),
        }
    }
}

/// The numbers in `0-3,5`.
fn list(text: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
        (to.checked_sub(from)? < 1 << 16).then_some(from..=to)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// One more than the highest number that a CPU may have.
pub(crate) fn possible_cpus(roots: &Roots, page: &mut Page) -> usize {
    let text = read_text(&roots.sys("devices/system/cpu/possible"), page).unwrap_or_default();
    list(&text).last().map_or(0, |last| *last as usize + 1)
}

/// The huge page sizes as the files of cgroups name them: `2MB`, `1GB`.
pub(crate) fn huge_sizes(roots: &Roots) -> Vec<String> {
    let Ok(entries) = fs::read_dir(roots.sys("kernel/mm/hugepages")) else { return Vec::new() };
    let kilobytes = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()
    });
    let mut sizes: Vec<u64> = kilobytes.collect();
    sizes.sort_unstable();
    let name = |size: &u64| match size {
        size if size % (1 << 20) == 0 => format!("{}GB", size >> 20),
        size if size % (1 << 10) == 0 => format!("{}MB", size >> 10),
        size => format!("{size}KB"),
    };
    sizes.iter().map(name).collect()
}

/// How many of the kernel's ticks a second has.
pub(crate) fn ticks() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0).unwrap_or(100)
}

/// When the machine was started, in seconds since the epoch.
pub(crate) fn booted(roots: &Roots, page: &mut Page) -> Option<f64> {
    let stat = taffrail_kernfs::read(&roots.proc("stat"), page).ok()?;
    let (_, seconds) = parse::pairs(stat).find(|(key, _)| *key == b"btime")?;
    Some(seconds as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(list("0-3,5\n"), [0, 1, 2, 3, 5]);
        assert_eq!(list(""), [0_u32; 0]);
        assert_eq!(list("7-3,x,1"), [1], "what is no range is passed over");
    }
}
