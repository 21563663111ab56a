//! The figures of all cgroups, and of the machine what goes with them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use taffrail_kernfs::{Page, Roots, Troubles};

use super::{Inner, State};
use crate::entry::Entry;
use crate::network::Membership;
use crate::tree::Place;

/// A descriptor takes kernel memory, and others need some: cgroups beyond this many descriptors' worth are opened for each reading.
const FILES_OF_ONE: usize = 40;

/// Bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meminfo {
    pub(super) total: Option<u64>,
    pub(super) swap: Option<u64>,
    pub(super) swap_free: Option<u64>,
}

impl Inner {
    pub(super) fn read(&self, state: &mut State, now: Instant, troubles: &mut Troubles) {
        let Some(machine) = &state.machine else { return };
        let page = &mut state.page;
        state.memory = Meminfo::read(&self.roots, page, troubles);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let kept = most_kept();
        for (number, entry) in state.entries.values_mut().enumerate() {
            if entry.is_root() {
                // It has all that any other has, and is the first.
                state.block = None;
            }
            entry.read(unix, &mut state.block, page, troubles);
            for io in &entry.figures.io {
                let device = state.devices.of(&self.roots, io.device, page);
                io.operations.iter().for_each(|(operation, _)| device.prepare(operation));
            }
            if number >= kept {
                entry.close();
            }
        }
        let every = Duration::from_secs(self.config.descriptors_seconds);
        let trees = machine.hierarchy.trees();
        for (place, entry) in &mut state.entries {
            let due = entry.processes.counted.is_none_or(|at| now.saturating_duration_since(at) >= every);
            if !every.is_zero()
                && due
                && let Some(tree) = trees.first()
            {
                entry.processes.count(&self.roots, tree, place, page, now);
            }
        }
        let holders = self.network_holders(&state.entries);
        for (place, entry) in &mut state.entries {
            let pid = holders.get(place);
            let network = pid.map(|pid| Membership::of(&self.roots, *pid, entry.network));
            entry.join(network, &state.networks);
        }
        let members = state.entries.values().filter_map(|entry| entry.network);
        state.networks.read(&self.roots, members, page, troubles);
        state.entries.values_mut().for_each(|entry| entry.part(&state.networks));
        state.filesystems.read(&self.roots, page, troubles);
    }

    /// Which cgroups show a network, and by which process: the machine by its first, a pod by its sandbox, a container without
    /// a pod by its own. A sandbox is the oldest container of its pod where no runtime has said which it is.
    fn network_holders(&self, entries: &BTreeMap<Place, Entry>) -> BTreeMap<Place, u32> {
        let mut holders = BTreeMap::new();
        let mut sandboxes: BTreeMap<&str, (bool, f64, &Place, u32)> = BTreeMap::new();
        for (place, entry) in entries {
            if entry.is_root() {
                holders.insert(place.clone(), 1);
            }
            let (Some(id), Some(pid)) = (&entry.owner.container, entry.figures.pids.first) else { continue };
            let Some(pod) = &entry.owner.pod else {
                holders.insert(place.clone(), pid);
                continue;
            };
            let said = self.names.container(id).is_some_and(|known| known.sandbox);
            let age = entry.started.unwrap_or(f64::INFINITY);
            let best = sandboxes.get(pod.as_str());
            if best.is_none_or(|(other, oldest, ..)| (said, -age) > (*other, -*oldest)) {
                sandboxes.insert(pod, (said, age, place, pid));
            }
        }
        holders.extend(sandboxes.into_values().map(|(_, _, place, pid)| (place.clone(), pid)));
        holders
    }
}

/// How many cgroups may keep their files open.
fn most_kept() -> usize {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    limit.map_or(0, |(soft, _)| usize::try_from(soft / 2).unwrap_or(usize::MAX) / FILES_OF_ONE)
}

impl Meminfo {
    fn read(roots: &Roots, page: &mut Page, troubles: &mut Troubles) -> Meminfo {
        let text = troubles.take(taffrail_kernfs::read(&roots.proc("meminfo"), page)).unwrap_or_default();
        let field = |name: &[u8]| crate::machine::meminfo(text, name);
        Meminfo { total: field(b"MemTotal:"), swap: field(b"SwapTotal:"), swap_free: field(b"SwapFree:") }
    }
}
