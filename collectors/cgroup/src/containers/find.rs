//! Which cgroups have series: those that are there, as many as there is room for, and for a while those that have ended.

use std::time::{Duration, Instant};

use super::{Inner, State};
use crate::config::LabelStyle;
use crate::entry::{Entry, Owner, shown};
use crate::tree::Place;

/// A container whose cgroup is gone.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) entry: Entry,
    at: Instant,
}

impl Inner {
    /// Takes up which cgroups are new and gone.
    pub(crate) fn find(&self, state: &mut State, now: Instant) {
        let Some(changes) = state.tree.as_mut().map(|tree| tree.changes(now)) else { return };
        for place in &changes.populated {
            state.read_last(place);
        }
        for place in changes.lessened {
            if let Some(entry) = state.entries.get_mut(&place) {
                entry.leaving.get_or_insert(now);
            }
        }
        for place in changes.removed {
            self.remove(state, place, now);
        }
        state.write(&changes.written, changes.written_unheard);
        let left = self.forget(state, now);
        self.take_in(state, changes.added.into_iter().chain(left).collect());
    }

    fn remove(&self, state: &mut State, place: Place, now: Instant) {
        state.left_out.remove(&place);
        let Some(mut entry) = state.entries.remove(&place) else { return };
        // Of one that was never read there is nothing to tell.
        let is_known = entry.owner.container.is_some() && entry.figures.cpu.usage.is_some();
        if is_known && self.config.ended_seconds > 0 && state.ended.len() < self.config.most as usize {
            // Its files are gone, but the kernel keeps the cgroup for as long as they are open.
            entry.end(&state.networks);
            state.ended.insert(place, Ended { entry, at: now });
        }
    }

    /// Forgets who has ended long ago. Returns who was leaving and did not go: it goes on with what is left of it.
    fn forget(&self, state: &mut State, now: Instant) -> Vec<Place> {
        let stay = Duration::from_secs(self.config.ended_seconds);
        let is_over = |since| now.saturating_duration_since(since) >= stay;
        state.ended.retain(|_, ended| !is_over(ended.at));
        let left = state.entries.extract_if(.., |_, entry| entry.leaving.is_some_and(is_over));
        left.map(|(place, _)| place).collect()
    }

    fn take_in(&self, state: &mut State, added: Vec<Place>) {
        let Some(machine) = &mut state.machine else { return };
        if !added.is_empty() {
            // It changes when somebody sets the clock, and is compared with times of files.
            machine.booted = crate::machine::booted(&self.roots, &mut state.page);
        }
        state.left_out.extend(added.into_iter().filter(|place| self.wants(place)));
        while state.entries.len() < self.config.most as usize
            && let Some(place) = state.left_out.pop_first()
        {
            let entry = Entry::new(&place, machine, &mut state.page);
            // The same container begins again.
            state.ended.remove(&place);
            state.entries.insert(place, entry);
        }
    }

    /// Whether a cgroup has series.
    fn wants(&self, place: &Place) -> bool {
        let id = shown(place);
        let is_named = || Owner::of(&id).is_known() || id == "/" || self.config.roots.contains(&id);
        !id.ends_with(".mount") && (self.config.labels == LabelStyle::Cadvisor || is_named())
    }
}

impl State {
    /// A container has lost its last process, or got its first.
    fn read_last(&mut self, place: &Place) {
        let container = self.entries.get_mut(place).filter(|entry| entry.owner.container.is_some());
        if let Some(entry) = container {
            entry.read_last(&mut self.page);
        }
    }

    /// Limits may have changed, of all when that was not heard.
    fn write(&mut self, written: &[Place], unheard: bool) {
        if unheard {
            self.entries.values_mut().for_each(|entry| entry.limits_stale = true);
        }
        for place in written {
            if let Some(entry) = self.entries.get_mut(place) {
                entry.limits_stale = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use taffrail_kernfs::Troubles;

    use super::super::tests::{POD, containers, machine};
    use super::*;
    use crate::config::ContainersConfig;

    #[test]
    fn who_goes_while_all_are_read_keeps_what_was_read_last_and_who_only_cannot_be_read_does_not() {
        let place = format!("docker/{:064}", 7);
        let (_folder, roots) = machine(&[&place]);
        let group = roots.sys("fs/cgroup").join(&place);
        let tell = || {
            let mut file = fs::File::create(group.join("cpu.stat")).expect("made");
            std::io::Write::write_all(&mut file, b"usage_usec 5000000\n").expect("written");
        };
        let containers = containers(ContainersConfig::default(), &roots);
        let (inner, begin) = (&containers.inner, Instant::now());
        let mut state = State::default();
        let usage = |state: &State| {
            let entry = state.entries.get(std::ffi::OsStr::new(&place)).expect("an entry");
            entry.figures.cpu.usage
        };
        tell();
        inner.collect(&mut state, begin);
        assert_eq!(usage(&state), Some(5.0));
        let read = |state: &mut State| inner.read(state, begin, &mut Troubles::default());
        fs::remove_file(group.join("cpu.stat")).expect("removed");
        state.entries.values_mut().for_each(Entry::close);
        read(&mut state);
        assert_eq!(usage(&state), None, "it is there and does not say");
        tell();
        // It is not asked for at once again.
        (0..64).for_each(|_| read(&mut state));
        assert_eq!(usage(&state), Some(5.0));
        fs::remove_dir_all(&group).expect("removed");
        state.entries.values_mut().for_each(Entry::close);
        read(&mut state);
        assert_eq!(usage(&state), Some(5.0), "it has gone");
        inner.find(&mut state, begin);
        assert!(state.entries.len() < 3 && state.ended.len() == 1, "and is told of as one that has ended");
    }

    #[test]
    fn who_is_left_out_comes_in_when_there_is_room_and_goes_uncounted() {
        let pods: Vec<String> = (1..=5).map(|pod| format!("{}{pod}", &POD[..POD.len() - 1])).collect();
        let (_folder, roots) = machine(&pods.iter().map(String::as_str).collect::<Vec<_>>());
        // The root, the class of pods and two of them.
        let containers = containers(ContainersConfig { most: 4, ..ContainersConfig::default() }, &roots);
        let (inner, begin) = (&containers.inner, Instant::now());
        let mut state = State::default();
        let mut look = |second: u64| {
            inner.collect(&mut state, begin + Duration::from_secs(2 * second));
            (state.entries.len(), state.left_out.len())
        };
        let remove = |pod: &String| fs::remove_dir(roots.sys("fs/cgroup").join(pod)).expect("removed");
        assert_eq!(look(1), (4, 3));
        remove(&pods[0]);
        assert_eq!(look(2), (4, 2), "another has taken its place");
        remove(&pods[4]);
        assert_eq!(look(3), (4, 1), "it was left out");
        fs::create_dir(roots.sys("fs/cgroup").join(&pods[4])).expect("made");
        assert_eq!(look(4), (4, 2));
        pods[1..].iter().for_each(remove);
        assert_eq!(look(5), (2, 0));
    }
}
