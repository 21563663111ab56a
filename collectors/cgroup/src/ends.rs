//! Ends of containers: their last totals, taken in the moment between the end of a container and that of its cgroup.
//!
//! A container that lives and dies between two scrapes would never be seen. So from the first scrape on a thread waits, without
//! any work in between, for the kernel to say that a cgroup was made, that its first process has ended, or (version 2)
//! that its last one has. Then it is read a last time. Its counters stay for a configured time after the cgroup is gone.
//! When the kernel grants no notices that is said once, and tried again, ever more seldom.

use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use taffrail_kernfs::{Page, parse};

use crate::containers::Inner;
use crate::hierarchy::{Hierarchy, within};
use crate::tree::Place;

/// Notices of several files at once are taken together.
const TOGETHER: Duration = Duration::from_millis(3);
/// A cgroup is made before a process is moved into it: so often it is looked for, each time after twice as long.
const LOOKS: u32 = 10;
const FIRST_LOOK: Duration = Duration::from_millis(5);
/// When there is nothing to wait for it is tried again after the first, each time after twice as long up to the last.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// The first process of a container, watched for its end.
#[derive(Debug, Default)]
pub(crate) struct Init {
    process: Option<Arc<OwnedFd>>,
    looks: u32,
    again: Option<Instant>,
}

impl Init {
    /// Whether its process is known or looked for in vain.
    fn is_settled(&self) -> bool {
        self.process.is_some() || self.looks >= LOOKS
    }

    /// Looks for the process. Returns when to look again.
    fn look(
        &mut self,
        hierarchy: &Hierarchy,
        place: &Place,
        page: &mut Page,
        now: Instant,
    ) -> Option<Instant> {
        if self.is_settled() {
            return None;
        }
        if let Some(again) = self.again.filter(|again| now < *again) {
            return Some(again);
        }
        let first = hierarchy.trees().into_iter().find_map(|tree| {
            let procs = taffrail_kernfs::read(&within(tree, place).join("cgroup.procs"), page).ok()?;
            parse::lines(procs).find_map(parse::number).filter(|pid| *pid > 0)
        });
        self.process = first.and_then(open_process).map(Arc::new);
        self.looks += 1;
        self.again = Some(now + FIRST_LOOK * 2_u32.pow(self.looks));
        if self.is_settled() { None } else { self.again }
    }
}

/// A descriptor that becomes readable when the process ends.
fn open_process(pid: u64) -> Option<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    // SAFETY: the call takes two numbers and returns a new descriptor or an error.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let descriptor = i32::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: it is open and nobody else's.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Starts the thread; it ends with `inner`. `alive` is readable no sooner than when the collector is dropped.
pub(crate) fn watch(inner: &Arc<Inner>, alive: OwnedFd) -> std::io::Result<()> {
    let inner = Arc::downgrade(inner);
    thread::Builder::new().name("containers".to_owned()).spawn(move || run(&inner, &alive))?;
    Ok(())
}

fn run(inner: &Weak<Inner>, alive: &OwnedFd) {
    let mut pause = PAUSES[0];
    loop {
        let Some(followed) = inner.upgrade().map(|inner| inner.follow(Instant::now())) else { return };
        let round = match followed {
            Ok(round) => round,
            Err(lack) => {
                lack.tell(pause == PAUSES[0]);
                if is_over(alive, pause) {
                    return;
                }
                pause = (pause * 2).min(PAUSES[1]);
                continue;
            }
        };
        pause = PAUSES[0];
        let wait = round.until.map_or(PollTimeout::NONE, |until| {
            let left = until.saturating_duration_since(Instant::now()).as_millis() + 1;
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let readable = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
        let mut descriptors = vec![readable(alive.as_fd()), readable(round.notices.as_fd())];
        descriptors.extend(round.processes.iter().map(|(_, process)| readable(process.as_fd())));
        if poll(&mut descriptors, wait).is_err() {
            thread::sleep(TOGETHER);
            continue;
        }
        let is_ready = |descriptor: &PollFd<'_>| descriptor.any().unwrap_or(false);
        if is_ready(&descriptors[0]) {
            return;
        }
        let ended =
            descriptors[2..].iter().zip(&round.processes).filter(|(descriptor, _)| is_ready(descriptor));
        let ended: Vec<Place> = ended.map(|(_, (place, _))| place.clone()).collect();
        let told = is_ready(&descriptors[1]);
        let Some(inner) = inner.upgrade() else { return };
        ended.iter().for_each(|place| inner.ended(place));
        drop(inner);
        if told {
            thread::sleep(TOGETHER);
        }
    }
}

/// Waits, unless the collector is dropped meanwhile. Returns whether it was.
fn is_over(alive: &OwnedFd, pause: Duration) -> bool {
    let pause = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
    poll(&mut [PollFd::new(alive.as_fd(), PollFlags::POLLIN)], pause).is_ok_and(|ready| ready > 0)
}

/// Why there is nothing to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// The machine has no cgroups, which whoever asks is told.
    Cgroups,
    /// The kernel grants no notices.
    Notices,
}

impl Lack {
    fn tell(self, first: bool) {
        if self == Lack::Notices && first {
            tracing::warn!(
                "containers that live for a moment are not seen: the kernel grants no notices of cgroups; raise \
                 fs.inotify.max_user_instances or the limit of open files; trying again"
            );
        }
    }
}

/// What the thread waits for.
pub(crate) struct Round {
    notices: OwnedFd,
    processes: Vec<(Place, Arc<OwnedFd>)>,
    until: Option<Instant>,
}

impl Inner {
    /// Takes up what was told, and says what to wait for.
    fn follow(&self, now: Instant) -> Result<Round, Lack> {
        let mut state = self.state.lock();
        let state = &mut *state;
        self.find(state, now);
        self.ask_for_names(state, now);
        let (Some(machine), Some(tree)) = (&state.machine, &state.tree) else { return Err(Lack::Cgroups) };
        let notices = tree.notices().ok_or(Lack::Notices)?;
        let hierarchy = &machine.hierarchy;
        let mut round = Round { notices, processes: Vec::new(), until: None };
        for (place, entry) in &mut state.entries {
            // In version 2 the cgroup itself tells when it is empty, but later, and to others at the same time: systemd removes
            // it then.
            if entry.owner.container.is_none() {
                continue;
            }
            let again = entry.init.look(hierarchy, place, &mut state.page, now);
            round.until = [round.until, again].into_iter().flatten().min();
            if let Some(process) = &entry.init.process {
                round.processes.push((place.clone(), Arc::clone(process)));
            }
        }
        Ok(round)
    }

    /// The first process of a container has ended: its totals are read, and the next one is watched, if there is one.
    fn ended(&self, place: &Place) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Some(entry) = state.entries.get_mut(place) {
            entry.read_last(&mut state.page);
            entry.init.process = None;
            entry.init.again = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use taffrail_kernfs::Roots;

    use super::*;
    use crate::{Containers, ContainersConfig, Names};

    #[test]
    fn who_is_refused_notices_tries_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let roots = Roots::below(folder.path());
        let groups = roots.sys("fs/cgroup");
        fs::create_dir_all(&groups).expect("made");
        fs::File::create(groups.join("cgroup.controllers")).expect("made");
        let inner = Containers::new(ContainersConfig::default(), roots, Names::new()).inner();
        assert_eq!(inner.follow(Instant::now()).err(), Some(Lack::Cgroups), "nobody has asked yet");
        inner.collect(&mut inner.state.lock(), Instant::now());
        inner.state.lock().tree.as_mut().expect("a tree").deafen();
        assert_eq!(inner.follow(Instant::now()).err(), Some(Lack::Notices));
        let (ours, theirs) = nix::unistd::pipe().expect("a pipe");
        watch(&inner, ours).expect("a thread");
        let place = Place::from(format!("docker/{}", "0".repeat(64)));
        fs::create_dir_all(groups.join(&place)).expect("made");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !inner.state.lock().entries.contains_key(&place) {
            assert!(Instant::now() < deadline, "nobody waits any more");
            thread::sleep(Duration::from_millis(50));
        }
        drop(theirs);
    }
}
