//! The lanes of one life: by number, by name and by directory.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use taffrail_record::Account;

use super::mark::Mark;
use crate::find::{Listings, Target, rotated_from};
use crate::follow::{FileState, Lane};

/// From how many lanes on a directory is listed once for all, and a notice wakes only those that it concerns.
const CROWD: usize = 9;
/// A crowded directory is quiet with so few of its lanes active: one in this many.
const FEW: usize = 64;
/// How long the answer whether a crowded directory is quiet is good for.
const QUIET_FOR: Duration = Duration::from_millis(250);

/// A lane that is followed.
pub(super) struct Slot {
    pub(super) lane: Lane,
    /// Found by the last scan that looks for its kind.
    pub(super) named: bool,
    /// A file of it was seen.
    pub(super) seen: bool,
    pub(super) added_at: Instant,
    pub(super) active_at: Instant,
    pub(super) pause: Duration,
    pub(super) parking: bool,
    pub(super) parked: bool,
    pub(super) measured_at: Instant,
    /// How its files lay before the look that found nothing to do.
    pub(super) mark: Option<Mark>,
}

impl Slot {
    pub(super) fn new(lane: Lane, now: Instant) -> Slot {
        Slot {
            lane,
            named: true,
            seen: false,
            added_at: now,
            active_at: now,
            pause: Duration::ZERO,
            parking: false,
            parked: false,
            measured_at: now,
            mark: None,
        }
    }

    /// Whether something was read lately. Where there is no file yet, only the kernel's notice of the first is soon
    /// enough: its container may be removed a moment later.
    pub(super) fn is_active(&self, now: Instant, park_after: Duration) -> bool {
        !self.lane.chain.is_empty() && now.saturating_duration_since(self.active_at) < park_after
    }

    /// Gives back memory that only a lane at work needs.
    pub(super) fn trim(&mut self) {
        let lane = &mut self.lane;
        lane.chain.shrink_to_fit();
        lane.chain.iter_mut().for_each(|file| file.carry.shrink_to_fit());
        lane.refused.shrink_to_fit();
    }
}

/// A lane none of whose files is open: as after a restart, what is known of them is all there is.
pub(super) struct Sleeper {
    pub(super) target: Target,
    pub(super) states: Vec<FileState>,
    /// Keeps the account open.
    pub(super) _account: Option<Arc<Account>>,
    pub(super) named: bool,
    pub(super) seen: bool,
    /// How its files lay when it was put to sleep; `None` when nobody has looked in this life.
    pub(super) mark: Option<Mark>,
}

/// A lane's place.
pub(super) enum Seat {
    Awake(Box<Slot>),
    Asleep(Box<Sleeper>),
}

impl Seat {
    pub(super) fn target(&self) -> &Target {
        match self {
            Seat::Awake(slot) => &slot.lane.target,
            Seat::Asleep(sleeper) => &sleeper.target,
        }
    }

    pub(super) fn target_mut(&mut self) -> &mut Target {
        match self {
            Seat::Awake(slot) => &mut slot.lane.target,
            Seat::Asleep(sleeper) => &mut sleeper.target,
        }
    }

    pub(super) fn named_mut(&mut self) -> &mut bool {
        match self {
            Seat::Awake(slot) => &mut slot.named,
            Seat::Asleep(sleeper) => &mut sleeper.named,
        }
    }
}

/// The lanes of one directory.
enum Residents {
    One(usize),
    Many(Box<Many>),
}

struct Many {
    ids: Vec<usize>,
    quiet: Option<(Instant, bool)>,
}

impl Residents {
    fn ids(&self) -> &[usize] {
        match self {
            Residents::One(id) => std::slice::from_ref(id),
            Residents::Many(many) => &many.ids,
        }
    }
}

/// All lanes.
#[derive(Default)]
pub(super) struct Slots {
    seats: Vec<Option<Seat>>,
    free: Vec<usize>,
    by_key: HashMap<Arc<str>, usize>,
    by_directory: HashMap<Arc<Path>, Residents>,
}

impl Slots {
    /// The highest number, and one.
    pub(super) fn end(&self) -> usize {
        self.seats.len()
    }

    /// How many lanes there are.
    pub(super) fn count(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn id(&self, key: &str) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, id: usize) -> Option<&Seat> {
        self.seats.get(id)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: usize) -> Option<&mut Seat> {
        self.seats.get_mut(id)?.as_mut()
    }

    /// A lane that is awake.
    pub(super) fn awake(&self, id: usize) -> Option<&Slot> {
        match self.get(id)? {
            Seat::Awake(slot) => Some(slot),
            Seat::Asleep(_) => None,
        }
    }

    pub(super) fn awake_mut(&mut self, id: usize) -> Option<&mut Slot> {
        match self.get_mut(id)? {
            Seat::Awake(slot) => Some(slot),
            Seat::Asleep(_) => None,
        }
    }

    /// Every lane that is awake.
    pub(super) fn all_awake(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.seats.iter_mut().flatten().filter_map(|seat| match seat {
            Seat::Awake(slot) => Some(&mut **slot),
            Seat::Asleep(_) => None,
        })
    }

    /// Gives a lane its place; `make` is told its number.
    pub(super) fn add(&mut self, listings: &Listings, make: impl FnOnce(usize) -> Seat) -> usize {
        let id = self.free.pop().unwrap_or(self.seats.len());
        let seat = make(id);
        let target = seat.target();
        self.by_key.insert(target.key.clone(), id);
        let directory = target.directory.clone();
        match self.by_directory.get_mut(&directory) {
            None => {
                self.by_directory.insert(directory.clone(), Residents::One(id));
            }
            Some(Residents::Many(many)) => many.ids.push(id),
            Some(residents @ Residents::One(_)) => {
                let mut ids = residents.ids().to_vec();
                ids.push(id);
                *residents = Residents::Many(Box::new(Many { ids, quiet: None }));
            }
        }
        if self.in_directory(&directory).len() == CROWD {
            listings.share(&directory, true);
        }
        if id == self.seats.len() {
            self.seats.push(Some(seat));
        } else {
            self.seats[id] = Some(seat);
        }
        id
    }

    /// Puts another in a lane's place.
    pub(super) fn replace(&mut self, id: usize, seat: Seat) -> Option<Seat> {
        self.seats.get_mut(id)?.replace(seat)
    }

    /// Takes a lane out; its number is not given again before [`Slots::free`].
    pub(super) fn remove(&mut self, id: usize, listings: &Listings) -> Option<Seat> {
        let seat = self.seats.get_mut(id)?.take()?;
        let target = seat.target();
        self.by_key.remove(&target.key);
        let directory = &target.directory;
        if let Some(Residents::Many(many)) = self.by_directory.get_mut(directory) {
            many.ids.retain(|other| *other != id);
        }
        let left = self.in_directory(directory).len();
        if left == CROWD - 1 {
            listings.share(directory, false);
        }
        if left == 0 || self.in_directory(directory) == [id] {
            self.by_directory.remove(directory);
        }
        Some(seat)
    }

    /// The numbers of removed lanes may be given again.
    pub(super) fn free(&mut self, ids: impl IntoIterator<Item = usize>) {
        self.free.extend(ids);
    }

    /// The lanes of a directory.
    pub(super) fn in_directory(&self, directory: &Path) -> &[usize] {
        self.by_directory.get(directory).map(Residents::ids).unwrap_or_default()
    }

    /// Whether a directory has so many lanes that most of what happens there does not concern most of them.
    pub(super) fn is_crowded(&self, directory: &Path) -> bool {
        self.in_directory(directory).len() >= CROWD
    }

    /// Those of a crowded directory whose files may be meant by these names.
    pub(super) fn concerned(&self, directory: &Path, names: &HashSet<OsString>) -> Vec<usize> {
        let lane_of = |base: &OsStr| self.id(&format!("file:{}", directory.join(base).display()));
        let concerned = names.iter().flat_map(|name| {
            let bases = rotated_from(name.as_bytes()).map(OsStr::from_bytes);
            std::iter::once(&**name).chain(bases).filter_map(lane_of).collect::<Vec<_>>()
        });
        concerned.collect()
    }

    /// Whether no lane of the directory was active lately, or few of a crowd: a busy directory is not worth its notices.
    pub(super) fn is_quiet(&mut self, directory: &Path, now: Instant, park_after: Duration) -> bool {
        let active = |id: &usize| self.awake(*id).is_some_and(|slot| slot.is_active(now, park_after));
        let many = match self.by_directory.get(directory) {
            None => return true,
            Some(Residents::One(id)) => return !active(id),
            Some(Residents::Many(many)) => many,
        };
        if many.ids.len() < CROWD {
            return !many.ids.iter().any(active);
        }
        if let Some((_, quiet)) =
            many.quiet.filter(|(at, _)| now.saturating_duration_since(*at) < QUIET_FOR.min(park_after))
        {
            return quiet;
        }
        let quiet = many.ids.iter().filter(|id| active(id)).count() * FEW <= many.ids.len();
        if let Some(Residents::Many(many)) = self.by_directory.get_mut(directory) {
            many.quiet = Some((now, quiet));
        }
        quiet
    }

    /// Lanes of a kind.
    pub(super) fn of_kind(&self, kind: &str) -> Vec<usize> {
        self.by_key.iter().filter(|(key, _)| key.starts_with(kind)).map(|(_, id)| *id).collect()
    }
}
