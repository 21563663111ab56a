//! Which lanes there are: taking in what the finders find, and letting go of what they no longer find.

use std::collections::HashSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Run;
use super::mark;
use super::slots::{Seat, Sleeper};
use crate::find::{RefusedDirectory, Target};
use crate::orphans;

/// How often globs are looked through while files change in their directories (which are not watched then).
pub(super) const GLOB_SCAN: Duration = Duration::from_secs(5);
/// How often kubelet's directories are looked through while the kernel will not watch them all.
const UNWATCHED_SCAN: Duration = Duration::from_secs(2);
/// The least time between two scans for new lanes.
const SCAN_GAP: Duration = Duration::from_millis(100);
/// A scan is made no sooner than after so many times what the last one took.
const SCAN_SHARE: u32 = 20;
/// How the keys of kubelet's lanes begin.
const KUBERNETES: &str = "kubernetes:";
/// How many lanes of the last life are buried at once.
const BURIED: usize = 64;

impl Run<'_> {
    /// Looks for new lanes when it is time.
    pub(super) fn find(&mut self) {
        let now = Instant::now();
        if self.settings.version() != self.settings_version {
            self.settings_version = self.settings.version();
            self.gear.config = self.settings.get();
            self.apply_settings();
            tracing::info!("log settings replaced; files stay open and positions stay");
        }
        if self.handed.version() != self.handed_version {
            self.handed_version = self.handed.version();
            let targets = self.handed.targets();
            self.take_in_all("docker:", targets);
        }
        self.hear_of_pods();
        if now >= self.scan_at {
            self.scan(now);
        }
        if now >= self.globs_at {
            self.scan_globs(now);
        }
        self.bury_orphans();
    }

    /// What the cluster says of pods goes on the records that are read from now on.
    fn hear_of_pods(&mut self) {
        let (Some(teller), Some(finder)) = (&self.teller, &self.kubernetes) else { return };
        let version = teller.version();
        if version == self.teller_version {
            return;
        }
        let changed = teller.changed_since(self.teller_version);
        self.teller_version = version;
        for id in self.slots.of_kind(KUBERNETES) {
            let Some(seat) = self.slots.get_mut(id) else { continue };
            let target = seat.target_mut();
            if !target.origin.pod.as_ref().is_some_and(|pod| changed.has(&pod.uid)) {
                continue;
            }
            if let Some(origin) = finder.told_anew(&target.origin) {
                target.origin = origin;
                if self.untold.remove(&target.key) {
                    self.schedule.ready(id);
                }
            }
        }
    }

    fn scan(&mut self, now: Instant) {
        self.gear.counters.scans.add(1);
        let found = self.kubernetes.as_mut().map(crate::find::Kubernetes::scan).unwrap_or_default();
        for directory in &found.closed {
            self.finding.remove(directory);
            self.watch.remove(directory);
        }
        let told = found.targets.iter().filter(|target| !found.unnamed.contains(&target.key));
        told.for_each(|target| {
            self.unnamed.remove(&target.key);
        });
        self.unnamed.extend(found.unnamed);
        self.untold.extend(found.untold);
        if std::mem::take(&mut self.kubernetes_anew) {
            self.take_in_all(KUBERNETES, found.targets);
        } else {
            found.targets.into_iter().for_each(|target| {
                self.take_in(target);
            });
            let gone: Vec<usize> = found.gone.iter().filter_map(|key| self.slots.id(key)).collect();
            gone.into_iter().for_each(|id| self.lose_name(id));
        }
        self.finding.extend(found.directories.iter().cloned());
        let mut directories = std::mem::take(&mut self.unwatched);
        directories.extend(found.directories);
        let fresh = self.watch_finding(&directories).1;
        let refused =
            directories.into_iter().filter(|d| !self.watch.is_watching(d) && self.finding.contains(d));
        self.unwatched.extend(refused);
        self.bury_from = (!self.known.is_empty()).then(|| "".into());
        let gap = self.scanned(now);
        let rescan = Duration::from_secs(self.gear.config.rescan_seconds);
        self.scan_at = self.scanned_at
            + match (fresh, self.unwatched.is_empty()) {
                (true, _) => gap,
                (false, true) => rescan,
                (false, false) => UNWATCHED_SCAN.max(gap).min(rescan),
            };
        self.report_refused("kubernetes", found.refused);
    }

    fn scan_globs(&mut self, now: Instant) {
        let (mut targets, mut directories, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for globs in &self.globs {
            let found = globs.scan();
            targets.extend(found.targets);
            directories.extend(found.directories);
            refused.extend(found.refused);
        }
        self.report_refused("file", refused);
        self.take_in_all("file:", targets);
        let (watched, fresh) = self.watch_finding(&directories);
        let before = std::mem::replace(&mut self.finding_globs, directories.into_iter().collect());
        for directory in before.difference(&self.finding_globs) {
            if self.slots.in_directory(directory).is_empty() {
                self.watch.remove(directory);
            }
        }
        let gap = self.scanned(now);
        let rescan = Duration::from_secs(self.gear.config.rescan_seconds);
        self.globs_at = self.scanned_at
            + match (watched, fresh) {
                (_, true) => gap,
                (true, false) => rescan,
                (false, false) => GLOB_SCAN.min(rescan),
            };
    }

    /// Reports and counts directories that are not looked into, each once until it can be.
    fn report_refused(&mut self, by: &'static str, refused: Vec<(PathBuf, RefusedDirectory)>) {
        let before = self.refused.remove(by).unwrap_or_default();
        for (directory, why) in &refused {
            if !before.contains(directory) {
                self.gear.counters.refused(why.reason());
                tracing::warn!(directory = %directory.display(), "a directory {why}");
            }
        }
        self.refused.insert(by, refused.into_iter().map(|(directory, _)| directory).collect());
    }

    /// Notes that a scan is over which began at `start`; returns how soon the next may be.
    fn scanned(&mut self, start: Instant) -> Duration {
        self.scanned_at = Instant::now();
        self.scan_gap = SCAN_GAP.max((self.scanned_at - start) * SCAN_SHARE);
        self.scan_gap
    }

    /// Watches directories in which lanes may appear, unless files are being written there. Returns whether all are
    /// watched, and whether one of them was not before: what appeared between the scan and its watch is found by
    /// another scan.
    fn watch_finding(&mut self, directories: &[Arc<Path>]) -> (bool, bool) {
        let now = Instant::now();
        let (mut all, mut fresh) = (true, false);
        for directory in directories {
            let before = self.watch.is_watching(directory);
            let watched = self.is_quiet(directory, now)
                && if self.is_configured(directory) {
                    self.watch.add_root(directory)
                } else {
                    self.watch.add(directory)
                };
            all &= watched;
            fresh |= watched && !before;
        }
        (all, fresh)
    }

    /// Whether the configuration names a directory, rather than a wildcard or what was found below it.
    fn is_configured(&self, directory: &Path) -> bool {
        let config = &self.gear.config;
        let named = |path: &String| Path::new(path).parent() == Some(directory);
        [&config.kubernetes.root, &config.kubernetes.links].iter().any(|root| **root == *directory)
            || config.files.iter().flat_map(|input| &input.paths).any(named)
    }

    /// Takes in all that one kind of finder found; lanes of that kind that it did not find are no longer named.
    fn take_in_all(&mut self, kind: &str, targets: Vec<Target>) {
        let named: HashSet<usize> = targets.into_iter().map(|target| self.take_in(target)).collect();
        for id in self.slots.of_kind(kind) {
            if !named.contains(&id) {
                self.lose_name(id);
            }
        }
    }

    fn take_in(&mut self, target: Target) -> usize {
        let Some(id) = self.slots.id(&target.key) else { return self.add_lane(target) };
        if let Some(seat) = self.slots.get_mut(id) {
            *seat.named_mut() = true;
            if seat.target().origin != target.origin {
                seat.target_mut().origin = target.origin;
            }
        }
        id
    }

    /// Nobody finds a lane any more: what is left of it is read.
    fn lose_name(&mut self, id: usize) {
        let Some(seat) = self.slots.get_mut(id) else { return };
        if std::mem::replace(seat.named_mut(), false) {
            self.wake(id);
        }
    }

    fn add_lane(&mut self, target: Target) -> usize {
        self.tidy();
        let mut states = self.known.remove(&target.key).unwrap_or_default();
        states.iter_mut().for_each(|state| state.lane = Arc::clone(&target.key));
        let asleep = mark::is_as_left(&states);
        // A number is needed to make a lane, and a place to have a number.
        let sleeper = Sleeper { target, states, _account: None, named: true, seen: false, mark: None };
        let id = self.slots.add(&self.gear.listings, |_| Seat::Asleep(Box::new(sleeper)));
        self.gear.counters.lanes.set(self.slots.count());
        if asleep {
            self.claim(id);
            self.to_rouse.push_back(id);
        } else {
            self.begin(id);
        }
        id
    }

    /// A lane of the last life keeps the files that it had, also from another name of theirs.
    fn claim(&mut self, id: usize) {
        if let Some(Seat::Asleep(sleeper)) = self.slots.get(id) {
            let keys = sleeper.states.iter().map(|state| (state.key, id));
            self.gear.claims.files.extend(keys);
        }
    }

    /// A lane that is new or was changed while nobody looked.
    fn begin(&mut self, id: usize) {
        let Some(Seat::Asleep(sleeper)) = self.slots.get_mut(id) else { return };
        let (target, states) = (sleeper.target.clone(), std::mem::take(&mut sleeper.states));
        let slot = self.slot(id, target, states);
        self.slots.replace(id, Seat::Awake(Box::new(slot)));
        self.schedule.ready(id);
    }

    /// Follows a lane no longer. What is known of its files stays known, should the lane be named again.
    pub(super) fn drop_lane(&mut self, id: usize) {
        let Some(Seat::Awake(mut slot)) = self.slots.remove(id, &self.gear.listings) else { return };
        let states = slot.lane.leave(self.gear.keeper, self.gear.counters);
        let target = &slot.lane.target;
        if !states.is_empty() {
            self.known.entry(target.key.clone()).or_default().extend(states);
        }
        if !slot.seen {
            self.gear.counters.unseen.add(1);
            tracing::info!(container = %target.origin.display(), directory = %target.directory.display(), "gone before a log file of it was seen");
        }
        self.unnamed.remove(&target.key);
        self.untold.remove(&target.key);
        if self.slots.in_directory(&target.directory).is_empty()
            && !self.finding_globs.contains(&target.directory)
        {
            self.watch.remove(&target.directory);
        }
        self.burying.remove(&id);
        self.dropped.insert(id);
        self.gear.counters.lanes.set(self.slots.count());
    }

    /// What else knows of lanes that were dropped forgets them.
    fn tidy(&mut self) {
        if self.dropped.is_empty() {
            return;
        }
        let dropped = std::mem::take(&mut self.dropped);
        self.gear.claims.files.retain(|_, lane| !dropped.contains(lane));
        self.gear.context.ledger.close(|_| true);
        self.slots.free(dropped);
    }

    /// Whether more lanes of the last life may be buried now.
    pub(super) fn may_bury(&self) -> bool {
        self.bury_from.is_some() && self.burying.len() < BURIED
    }

    /// Lanes of the last life whose directory is gone: their unread bytes are declared lost. Some at a time: there may
    /// be many, and others have something to read.
    fn bury_orphans(&mut self) {
        if self.may_bury()
            && let Some(from) = self.bury_from.take()
        {
            let range = self.known.range::<str, _>((Bound::Excluded(&*from), Bound::Unbounded));
            let some: Vec<_> = range.take(BURIED).collect();
            self.bury_from = some.last().filter(|_| some.len() == BURIED).map(|(lane, _)| (*lane).clone());
            let orphans: Vec<Target> = some
                .iter()
                .filter_map(|(lane, states)| {
                    orphans::target_of(lane, states, &self.node, &self.gear.config.files)
                })
                .collect();
            for target in orphans {
                let id = self.add_lane(target);
                self.burying.insert(id);
                if let Some(seat) = self.slots.get_mut(id) {
                    *seat.named_mut() = false;
                }
            }
        }
        // Dropped lanes wait for others so that tidying up is done for many at once.
        if self.dropped.len() >= BURIED || (!self.dropped.is_empty() && self.bury_from.is_none()) {
            self.tidy();
        }
    }
}
