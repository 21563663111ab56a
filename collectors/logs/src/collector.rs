//! The log collector: finds lanes, gives each its turn, and ends in order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use taffrail_checkpoint::Store;
use taffrail_record::{Ask, Collector, Context, Node, OutletClosed};

use crate::config::LogsConfig;
use crate::find::{Globs, Handed, Kubernetes, Target};
use crate::follow::{
    Claims, Counters, FileState, Keeper, Lane, Pace, Quotas, Rhythm, Schedule, Step, Tools, Watch,
};
use crate::orphans;

/// How long a lane waits between looks when something is unfinished and nothing happens.
const SLOWEST_WAIT: Duration = Duration::from_secs(2);
/// How long an idle lane waits between looks when the kernel does not watch its directory.
const SLOWEST_POLL: Duration = Duration::from_secs(10);
/// The least time between two scans for new lanes.
const SCAN_GAP: Duration = Duration::from_millis(100);
/// How often globs are looked through while files change in their directories (which are not watched then).
const GLOB_SCAN: Duration = Duration::from_secs(5);
/// How long the kernel's notices may lie while there is always something to read.
const HEAR_GAP: Duration = Duration::from_millis(20);
/// How long a new container's first records wait for kubelet to tell the container's id; its files are held open.
const NAME_PATIENCE: Duration = Duration::from_secs(2);
/// The longest sleep: bounds how late a raised stop is seen.
const NAP: Duration = Duration::from_millis(500);
/// How long a full pipeline is left alone.
const FULL_NAP: Duration = Duration::from_millis(1);
/// How many lanes are looked after at once while nothing can be read.
const LOOKED_AFTER: usize = 64;
/// Blocks that an endangered lane reads in one turn.
const URGENT_BLOCKS: usize = 4;

/// The settings of a running collector, to be replaced while it runs.
#[derive(Debug, Clone)]
pub struct Settings(Arc<SettingsInner>);

#[derive(Debug)]
struct SettingsInner {
    config: Mutex<Arc<LogsConfig>>,
    version: AtomicU64,
}

impl Settings {
    fn new(config: LogsConfig) -> Self {
        Settings(Arc::new(SettingsInner { config: Mutex::new(Arc::new(config)), version: AtomicU64::new(0) }))
    }

    /// Replaces them with valid ones. Files stay open and positions stay; lines already begun keep the old limits.
    pub fn set(&self, config: LogsConfig) {
        *self.0.config.lock() = Arc::new(config);
        self.0.version.fetch_add(1, Ordering::Release);
    }

    fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    fn get(&self) -> Arc<LogsConfig> {
        Arc::clone(&self.0.config.lock())
    }
}

/// Reads container logs and plain files.
pub struct LogsCollector {
    settings: Settings,
    node: Arc<Node>,
    handed: Arc<Handed>,
    store: Arc<Mutex<Store>>,
    rhythm: Rhythm,
    drain: Duration,
    pace: Pace,
    counters: Arc<Counters>,
}

impl LogsCollector {
    /// A collector for a valid configuration. `handed` are the lanes that others find; `drain` is how long it
    /// waits at its end for what is under way to be settled.
    #[must_use]
    pub fn new(
        config: LogsConfig,
        node: Arc<Node>,
        handed: Arc<Handed>,
        store: Arc<Mutex<Store>>,
        rhythm: Rhythm,
        drain: Duration,
    ) -> Self {
        let settings = Settings::new(config);
        LogsCollector {
            settings,
            node,
            handed,
            store,
            rhythm,
            drain,
            pace: Pace::default(),
            counters: Counters::new(),
        }
    }

    /// With other waiting times.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// One for another life, with the same store and the same counters.
    #[must_use]
    pub fn again(&self) -> Self {
        LogsCollector {
            settings: self.settings.clone(),
            node: Arc::clone(&self.node),
            handed: Arc::clone(&self.handed),
            store: Arc::clone(&self.store),
            rhythm: self.rhythm,
            drain: self.drain,
            pace: self.pace,
            counters: Arc::clone(&self.counters),
        }
    }

    /// Its settings, to be replaced while it runs.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn Ask> {
        Arc::clone(&self.counters) as Arc<dyn Ask>
    }
}

impl Collector for LogsCollector {
    fn name(&self) -> &'static str {
        "logs"
    }

    fn run(&mut self, context: &Context) -> Result<(), Box<dyn Error + Send + Sync>> {
        let keeper = Keeper::start(Arc::clone(&self.store), self.rhythm)?;
        let mut run = Run::new(self, context, &keeper);
        // A closed outlet is how a pipeline ends early; what is not settled is read again in the next life.
        let closed = run.follow().is_err();
        if !closed {
            run.end(self.drain);
        }
        keeper.flush()?;
        Ok(())
    }
}

/// A lane and how it is scheduled.
struct Slot {
    lane: Lane,
    /// Found by the last scan that looks for its kind.
    named: bool,
    /// A file of it was seen.
    seen: bool,
    added_at: Instant,
    active_at: Instant,
    pause: Duration,
    parking: bool,
    parked: bool,
    measured_at: Instant,
}

impl Slot {
    /// Whether something was read lately. Where there is no file yet, only the kernel's notice of the first is soon
    /// enough: its container may be removed a moment later.
    fn is_active(&self, now: Instant, park_after: Duration) -> bool {
        !self.lane.chain.is_empty() && now.saturating_duration_since(self.active_at) < park_after
    }
}

/// What all lanes work with.
struct Gear<'a> {
    context: &'a Context,
    config: Arc<LogsConfig>,
    pace: Pace,
    keeper: &'a Keeper,
    counters: &'a Counters,
    claims: Claims,
}

impl Gear<'_> {
    fn tools(&mut self, clock: Instant) -> Tools<'_> {
        Tools {
            context: self.context,
            config: &self.config,
            pace: self.pace,
            keeper: self.keeper,
            counters: self.counters,
            claims: &mut self.claims,
            clock,
            now: unix_nanos(),
        }
    }
}

/// One life of the collector.
struct Run<'a> {
    settings: &'a Settings,
    settings_version: u64,
    gear: Gear<'a>,
    handed: &'a Handed,
    handed_version: u64,
    kubernetes: Option<Kubernetes>,
    globs: Vec<Globs>,
    quotas: Quotas,
    /// From the last life, by lane.
    known: BTreeMap<String, Vec<FileState>>,
    node: Arc<Node>,
    slots: Vec<Option<Slot>>,
    by_key: HashMap<String, usize>,
    by_directory: HashMap<PathBuf, Vec<usize>>,
    finding: HashSet<PathBuf>,
    /// Lanes whose container id is not known yet.
    unnamed: HashSet<String>,
    schedule: Schedule,
    watch: Watch,
    scan_at: Instant,
    globs_at: Instant,
    scanned_at: Instant,
    hear_at: Instant,
    /// The lane that was looked after last while nothing could be read.
    looked_after: usize,
}

impl<'a> Run<'a> {
    fn new(collector: &'a LogsCollector, context: &'a Context, keeper: &'a Keeper) -> Run<'a> {
        let now = Instant::now();
        let settings_version = collector.settings.version();
        let config = collector.settings.get();
        let tick = Duration::from_millis(config.poll_interval_ms);
        let mut known: BTreeMap<String, Vec<FileState>> = BTreeMap::new();
        for state in collector.store.lock().iter().filter_map(|(key, value)| FileState::decode(key, value)) {
            known.entry(state.lane.clone()).or_default().push(state);
        }
        let node = &collector.node;
        let watch = Watch::new(Arc::clone(&collector.counters));
        collector.handed.wakes(watch.waker());
        let mut run = Run {
            settings: &collector.settings,
            settings_version,
            gear: Gear {
                context,
                config,
                pace: collector.pace,
                keeper,
                counters: &collector.counters,
                claims: Claims::default(),
            },
            handed: &collector.handed,
            handed_version: 0,
            kubernetes: None,
            globs: Vec::new(),
            quotas: Quotas::default(),
            known,
            node: Arc::clone(node),
            slots: Vec::new(),
            by_key: HashMap::new(),
            by_directory: HashMap::new(),
            finding: HashSet::new(),
            unnamed: HashSet::new(),
            schedule: Schedule::new(now, tick),
            watch,
            scan_at: now,
            globs_at: now,
            scanned_at: now,
            hear_at: now,
            looked_after: 0,
        };
        run.apply_settings();
        run
    }

    /// Takes up the settings: what is looked for, and who may send how much.
    fn apply_settings(&mut self) {
        let now = Instant::now();
        let (config, node) = (Arc::clone(&self.gear.config), &self.node);
        self.schedule.set_tick(Duration::from_millis(config.poll_interval_ms));
        let finder = || Kubernetes::new(config.kubernetes.clone(), Arc::clone(node));
        self.kubernetes = config.kubernetes.enabled.then(finder);
        self.globs = config.files.iter().map(|input| Globs::new(input, Arc::clone(node))).collect();
        self.quotas = Quotas::new(&config.quotas);
        for slot in self.slots.iter_mut().flatten() {
            slot.lane.bucket = self.quotas.bucket(slot.lane.target.origin.names(), now);
        }
        self.scan_at = now;
        self.globs_at = now;
    }

    /// Until the stop is raised.
    fn follow(&mut self) -> Result<(), OutletClosed> {
        while !self.gear.context.stop.is_raised() {
            self.gear.context.beat.beat();
            self.find();
            let now = Instant::now();
            if now >= self.hear_at {
                self.hear(Duration::ZERO);
            }
            let slots = &self.slots;
            let urgency =
                |id: usize| slots.get(id).and_then(Option::as_ref).map_or(0, |s| s.lane.successors());
            match self.schedule.turn(now, urgency) {
                Some(id) => self.turn(id)?,
                None => self.sleep(now),
            }
        }
        Ok(())
    }

    fn sleep(&mut self, now: Instant) {
        let mut until = (now + NAP).min(self.scan_at).min(self.globs_at);
        if let Some(timer) = self.schedule.wake_at(now) {
            until = until.min(timer);
        }
        self.hear(until.saturating_duration_since(now).max(Duration::from_millis(1)));
    }

    /// Takes the kernel's notices. Also while there is always something to read: one loud lane must not keep
    /// those waiting that rest.
    fn hear(&mut self, patience: Duration) {
        let hints = self.watch.wait(patience);
        let now = Instant::now();
        self.hear_at = now + HEAR_GAP;
        if hints.overflow {
            tracing::warn!("the kernel dropped file notices; looking through everything");
            self.scan_at = now;
            self.globs_at = now;
            (0..self.slots.len()).for_each(|id| self.wake(id));
        }
        for directory in hints.directories {
            if self.finding.contains(&directory) {
                self.scan_at = self.scan_at.min((self.scanned_at + SCAN_GAP).max(now));
                self.globs_at = self.globs_at.min((self.scanned_at + SCAN_GAP).max(now));
            }
            if let Some(ids) = self.by_directory.get(&directory).cloned() {
                if !self.finding.contains(&directory) || self.globs.is_empty() {
                    self.watch.remove(&directory);
                }
                ids.into_iter().for_each(|id| self.wake(id));
            }
        }
    }

    /// A parked lane has its turn again.
    fn wake(&mut self, id: usize) {
        let Some(slot) = self.slots.get_mut(id).and_then(Option::as_mut) else { return };
        slot.parking = false;
        if std::mem::take(&mut slot.parked) {
            self.gear.counters.parked.add(1_u64.wrapping_neg());
            slot.pause = Duration::ZERO;
            slot.lane.checked_at =
                Instant::now() - Duration::from_secs(60).min(slot.lane.checked_at.elapsed());
            self.schedule.ready(id);
        }
    }

    fn turn(&mut self, id: usize) -> Result<(), OutletClosed> {
        let now = Instant::now();
        let Some(slot) = self.slots.get_mut(id).and_then(Option::as_mut) else { return Ok(()) };
        let blocks = if slot.lane.successors() > 0 { URGENT_BLOCKS } else { 1 };
        let mut tools = self.gear.tools(now);
        // A lane whose first file is not there yet has nothing but its directory to tell of it.
        if !slot.lane.looked || slot.lane.chain.is_empty() {
            slot.lane.look(&mut tools);
            slot.seen |= !slot.lane.chain.is_empty() || !slot.lane.finished.is_empty();
        }
        let named = now.saturating_duration_since(slot.added_at) > NAME_PATIENCE;
        if !named && self.unnamed.contains(&slot.lane.target.key) {
            self.schedule.at(id, now + NAP / 10);
            return Ok(());
        }
        let mut step = Step::Idle;
        for _ in 0..blocks {
            step = slot.lane.step(&mut tools)?;
            if step != Step::Progress {
                break;
            }
        }
        if now.saturating_duration_since(slot.measured_at) >= Duration::from_secs(1) {
            slot.measured_at = now;
            slot.lane.measure(self.gear.keeper);
        }
        tracing::trace!(id, ?step, "turn");
        self.place(id, step, now);
        Ok(())
    }

    /// Decides when a lane comes back.
    fn place(&mut self, id: usize, step: Step, now: Instant) {
        let Some(slot) = self.slots.get_mut(id).and_then(Option::as_mut) else { return };
        let tick = Duration::from_millis(self.gear.config.poll_interval_ms);
        match step {
            Step::Progress => {
                slot.active_at = now;
                slot.pause = Duration::ZERO;
                slot.parking = false;
                self.schedule.ready(id);
            }
            Step::Until(due) => self.schedule.at(id, due),
            Step::Blocked => {
                self.schedule.again(id);
                self.await_room();
            }
            Step::Waiting => {
                slot.pause = next_pause(slot, self.gear.pace.park_after, now, tick, SLOWEST_WAIT);
                self.schedule.after(id, now, slot.pause);
            }
            Step::Idle | Step::Empty if !slot.named => self.drop_lane(id),
            Step::Idle | Step::Empty => self.rest(id, now, tick),
        }
    }

    /// A lane with nothing to do: polled for a while, then parked if the kernel will tell.
    fn rest(&mut self, id: usize, now: Instant, tick: Duration) {
        let Some(slot) = self.slots.get_mut(id).and_then(Option::as_mut) else { return };
        if slot.is_active(now, self.gear.pace.park_after) {
            slot.pause = tick;
            self.schedule.after(id, now, tick);
        } else if slot.parking {
            slot.parked = true;
            slot.parking = false;
            self.gear.counters.parked.add(1);
            self.schedule.park(id);
        } else {
            let directory = slot.lane.target.directory.clone();
            if self.is_quiet(&directory, now) && self.watch.add(&directory) {
                // One more look after the watch is set closes the gap before it.
                self.mark_parking(id);
                self.schedule.ready(id);
            } else if let Some(slot) = self.slots.get_mut(id).and_then(Option::as_mut) {
                slot.pause = next_pause(slot, self.gear.pace.park_after, now, tick, SLOWEST_POLL);
                self.schedule.after(id, now, slot.pause);
            }
        }
    }

    fn mark_parking(&mut self, id: usize) {
        if let Some(slot) = self.slots.get_mut(id).and_then(Option::as_mut) {
            slot.parking = true;
        }
    }

    /// Whether no lane of the directory was active lately: a busy directory is not worth its notices.
    fn is_quiet(&self, directory: &PathBuf, now: Instant) -> bool {
        let ids = self.by_directory.get(directory).map(Vec::as_slice).unwrap_or_default();
        ids.iter()
            .filter_map(|id| self.slots.get(*id).and_then(Option::as_ref))
            .all(|slot| !slot.is_active(now, self.gear.pace.park_after))
    }

    /// Waits until the shippers have taken something or give memory back. Files are rotated and deleted meanwhile:
    /// some lanes are looked after, the others the next time.
    fn await_room(&mut self) {
        let mut tools = self.gear.tools(Instant::now());
        let count = self.slots.len();
        for _ in 0..count.min(LOOKED_AFTER) {
            self.looked_after = (self.looked_after + 1) % count;
            if let Some(slot) = self.slots[self.looked_after].as_mut() {
                slot.lane.keep_up(&mut tools);
            }
        }
        if self.gear.context.outlet.is_full() || self.gear.keeper.is_behind() {
            std::thread::sleep(FULL_NAP);
            return;
        }
        let wanted = u64::from(self.gear.config.read_block_bytes);
        drop(self.gear.context.budget.take(wanted, Duration::from_millis(50)));
    }

    /// Looks for new lanes when it is time.
    fn find(&mut self) {
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
            self.take_in("docker:", targets);
        }
        let rescan = Duration::from_secs(self.gear.config.rescan_seconds);
        if now >= self.scan_at {
            self.gear.counters.scans.add(1);
            let found = self.kubernetes.as_ref().map(Kubernetes::scan).unwrap_or_default();
            self.take_in("kubernetes:", found.targets);
            self.unnamed = found.unnamed;
            let (_, fresh) = self.watch_finding(found.directories);
            self.bury_orphans();
            (0..self.slots.len()).for_each(|id| self.wake(id));
            self.scanned_at = Instant::now();
            self.scan_at = self.scanned_at + if fresh { SCAN_GAP } else { rescan };
        }
        if now >= self.globs_at {
            let (mut targets, mut directories) = (Vec::new(), Vec::new());
            for globs in &self.globs {
                let (found, looked) = globs.scan();
                targets.extend(found);
                directories.extend(looked);
            }
            self.take_in("file:", targets);
            let (watched, fresh) = self.watch_finding(directories);
            self.scanned_at = Instant::now();
            self.globs_at = self.scanned_at
                + match (watched, fresh) {
                    (_, true) => SCAN_GAP,
                    (true, false) => rescan,
                    (false, false) => GLOB_SCAN.min(rescan),
                };
        }
    }

    /// Watches directories in which lanes may appear, unless files are being written there. Returns whether all are
    /// watched, and whether one of them was not before: what appeared between the scan and its watch is found by
    /// another scan.
    fn watch_finding(&mut self, directories: Vec<PathBuf>) -> (bool, bool) {
        let now = Instant::now();
        let (mut all, mut fresh) = (true, false);
        for directory in directories {
            let before = self.watch.is_watching(&directory);
            let watched = self.is_quiet(&directory, now) && self.watch.add(&directory);
            all &= watched;
            fresh |= watched && !before;
            self.finding.insert(directory);
        }
        (all, fresh)
    }

    /// Takes in what one kind of finder found; lanes of that kind that it did not find are no longer named.
    fn take_in(&mut self, kind: &str, targets: Vec<Target>) {
        let mut named = HashSet::new();
        for target in targets {
            let id = match self.by_key.get(&target.key) {
                Some(id) => *id,
                None => self.add_lane(target.clone()),
            };
            named.insert(id);
            if let Some(slot) = self.slots.get_mut(id).and_then(Option::as_mut) {
                slot.named = true;
                if slot.lane.target.origin != target.origin {
                    slot.lane.target.origin = target.origin;
                }
            }
        }
        for (id, slot) in self.slots.iter_mut().enumerate() {
            if let Some(slot) =
                slot.as_mut().filter(|s| s.lane.target.key.starts_with(kind) && !named.contains(&id))
            {
                slot.named = false;
            }
        }
    }

    fn add_lane(&mut self, target: Target) -> usize {
        let now = Instant::now();
        let id = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let key = target.key.clone();
        let directory = target.directory.clone();
        let names = target.account_names();
        let account = self.gear.context.ledger.account([&names[0], &names[1], &names[2]]);
        let bucket = self.quotas.bucket(target.origin.names(), now);
        let known = self.known.remove(&key).unwrap_or_default();
        let lane = Lane::new(id, target, known, account, bucket, &self.gear.config, now);
        let slot = Slot {
            lane,
            named: true,
            seen: false,
            added_at: now,
            active_at: now,
            pause: Duration::ZERO,
            parking: false,
            parked: false,
            measured_at: now,
        };
        if id == self.slots.len() {
            self.slots.push(Some(slot));
        } else if let Some(free) = self.slots.get_mut(id) {
            *free = Some(slot);
        }
        self.by_key.insert(key, id);
        self.by_directory.entry(directory).or_default().push(id);
        self.gear.counters.lanes.set(self.by_key.len());
        self.schedule.ready(id);
        id
    }

    /// Follows a lane no longer. What is known of its files stays known, should the lane be named again.
    fn drop_lane(&mut self, id: usize) {
        let Some(mut slot) = self.slots.get_mut(id).and_then(Option::take) else { return };
        let states = slot.lane.leave(self.gear.keeper, self.gear.counters);
        if !states.is_empty() {
            self.known.entry(slot.lane.target.key.clone()).or_default().extend(states);
        }
        let target = &slot.lane.target;
        if !slot.seen {
            self.gear.counters.unseen.add(1);
            tracing::info!(container = %target.origin.display(), directory = %target.directory.display(), "gone before a log file of it was seen");
        }
        self.by_key.remove(&target.key);
        if let Some(ids) = self.by_directory.get_mut(&target.directory) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_directory.remove(&target.directory);
                self.watch.remove(&target.directory);
            }
        }
        self.gear.claims.files.retain(|_, lane| *lane != id);
        self.gear.counters.lanes.set(self.by_key.len());
        drop(slot);
        self.gear.context.ledger.close(|_| true);
    }

    /// Lanes of the last life whose directory is gone: their unread bytes are declared lost.
    fn bury_orphans(&mut self) {
        for target in orphans::find(&self.known, &self.node) {
            let id = self.add_lane(target);
            if let Some(slot) = self.slots.get_mut(id).and_then(Option::as_mut) {
                slot.named = false;
            }
        }
    }

    /// Waits for what is under way, says where every file stands, and waits for that too.
    fn end(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.await_settled(deadline);
        let mut tools = self.gear.tools(Instant::now());
        for slot in self.slots.iter_mut().flatten() {
            if slot.lane.pause(&mut tools).is_err() {
                break;
            }
        }
        self.await_settled(deadline);
    }

    fn await_settled(&self, deadline: Instant) {
        while Instant::now() < deadline {
            self.gear.context.beat.beat();
            self.gear.keeper.pass_bridges();
            let settled = self.slots.iter().flatten().all(|slot| slot.lane.is_settled());
            if settled {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn next_pause(slot: &Slot, fresh: Duration, now: Instant, tick: Duration, slowest: Duration) -> Duration {
    if now.saturating_duration_since(slot.active_at) < fresh {
        return tick;
    }
    (slot.pause * 2).clamp(tick, slowest.max(tick))
}

fn unix_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
