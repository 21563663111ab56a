//! One life of the collector: gives each lane its turn, lets idle ones rest, and ends in order.

mod mark;
mod rest;
mod search;
mod slots;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use taffrail_record::{Context, Node, OutletClosed};

use crate::collector::{LogsCollector, Settings};
use crate::config::LogsConfig;
use crate::decode::Now;
use crate::find::{Globs, Handed, Kubernetes, Listings, PodTeller, waking};
use crate::follow::{
    Claims, Counters, FileState, Happened, Keeper, Lane, Pace, Quotas, Schedule, Step, Tools, Watch,
};

use slots::{Slot, Slots};

/// How long a lane waits between looks when something is unfinished and nothing happens.
const SLOWEST_WAIT: Duration = Duration::from_secs(2);
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
/// How many sleepers are woken between two turns when there is nothing else to do.
const ROUSED: usize = 32;
/// How long a lane waits for a descriptor, and is idle before it gives its own away, when there are too few.
const DESCRIPTOR_WAIT: Duration = Duration::from_millis(100);
/// How often one is woken while there is.
const ROUSE_GAP: Duration = Duration::from_millis(2);

/// What all lanes work with.
struct Gear<'a> {
    context: &'a Context,
    config: Arc<LogsConfig>,
    pace: Pace,
    keeper: &'a Keeper,
    counters: &'a Counters,
    claims: Claims,
    listings: Listings,
    started: Instant,
}

impl Gear<'_> {
    fn steady(&self, clock: Instant) -> i64 {
        i64::try_from(clock.saturating_duration_since(self.started).as_nanos()).unwrap_or(i64::MAX)
    }

    fn tools(&mut self, clock: Instant) -> Tools<'_> {
        let now = Now { unix: unix_nanos(), steady: self.steady(clock) };
        Tools {
            context: self.context,
            config: &self.config,
            pace: self.pace,
            keeper: self.keeper,
            counters: self.counters,
            claims: &mut self.claims,
            listings: &self.listings,
            clock,
            now,
        }
    }
}

/// One life of the collector.
pub(crate) struct Run<'a> {
    settings: &'a Settings,
    settings_version: u64,
    gear: Gear<'a>,
    handed: &'a Handed,
    handed_version: u64,
    kubernetes: Option<Kubernetes>,
    /// The next scan says all there is, not only what has changed.
    kubernetes_anew: bool,
    globs: Vec<Globs>,
    quotas: Quotas,
    /// From the last life, by lane.
    known: BTreeMap<Arc<str>, Vec<FileState>>,
    /// From which lane on the last life's are to be looked through for orphans.
    bury_from: Option<Arc<str>>,
    burying: HashSet<usize>,
    node: Arc<Node>,
    slots: Slots,
    /// Lanes that were dropped; what else knows of them is tidied up for many at once.
    dropped: HashSet<usize>,
    finding: HashSet<Arc<Path>>,
    finding_globs: HashSet<Arc<Path>>,
    /// Directories in which lanes may appear and that the kernel would not watch when it was last asked.
    unwatched: Vec<Arc<Path>>,
    /// Lanes whose container id is not known yet.
    unnamed: HashSet<Arc<str>>,
    /// Lanes of whose pod the cluster has not told yet.
    untold: HashSet<Arc<str>>,
    teller: Option<Arc<dyn PodTeller>>,
    teller_version: u64,
    schedule: Schedule,
    watch: Watch,
    scan_at: Instant,
    globs_at: Instant,
    scanned_at: Instant,
    scan_gap: Duration,
    hear_at: Instant,
    progress_at: Instant,
    recheck_at: Instant,
    rechecked_at: Instant,
    /// The next lane at rest to look at.
    recheck: usize,
    /// Lanes asleep since the start, to be woken when there is time.
    to_rouse: VecDeque<usize>,
    rouse_at: Instant,
    most_open: usize,
    own: Arc<[PathBuf]>,
    /// Directories that could not be looked into, as reported, by who looks.
    refused: HashMap<&'static str, HashSet<PathBuf>>,
    shortage_reported: bool,
    /// There are sleepers that the kernel does not watch.
    blind: bool,
    /// The lane that was looked after last while nothing could be read.
    looked_after: usize,
}

impl<'a> Run<'a> {
    pub(crate) fn new(collector: &'a LogsCollector, context: &'a Context, keeper: &'a Keeper) -> Run<'a> {
        let now = Instant::now();
        let settings_version = collector.settings.version();
        let config = collector.settings.get();
        let tick = Duration::from_millis(config.poll_interval_ms);
        let mut known: BTreeMap<Arc<str>, Vec<FileState>> = BTreeMap::new();
        for state in collector.store.lock().iter().filter_map(|(key, value)| FileState::decode(key, value)) {
            known.entry(state.lane.clone()).or_default().push(state);
        }
        let watch = Watch::new(Arc::clone(&collector.counters));
        collector.handed.wakes(watch.waker());
        if let Some(teller) = &collector.teller {
            teller.wakes(waking(watch.waker()));
        }
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
                listings: Listings::default(),
                started: now,
            },
            handed: &collector.handed,
            handed_version: 0,
            kubernetes: None,
            kubernetes_anew: true,
            globs: Vec::new(),
            quotas: Quotas::default(),
            known,
            bury_from: None,
            burying: HashSet::new(),
            node: Arc::clone(&collector.node),
            slots: Slots::default(),
            dropped: HashSet::new(),
            finding: HashSet::new(),
            finding_globs: HashSet::new(),
            unwatched: Vec::new(),
            unnamed: HashSet::new(),
            untold: HashSet::new(),
            teller: collector.teller.clone(),
            teller_version: 0,
            schedule: Schedule::new(now, tick),
            watch,
            scan_at: now,
            globs_at: now,
            scanned_at: now,
            scan_gap: Duration::ZERO,
            hear_at: now,
            progress_at: now + collector.pace.progress,
            recheck_at: now,
            rechecked_at: now,
            recheck: usize::MAX,
            to_rouse: VecDeque::new(),
            rouse_at: now,
            most_open: collector.most_open,
            own: Arc::clone(&collector.own),
            refused: HashMap::new(),
            shortage_reported: false,
            blind: false,
            looked_after: 0,
        };
        run.plan_recheck(now);
        run.apply_settings();
        run
    }

    /// Takes up the settings: what is looked for, and who may send how much.
    fn apply_settings(&mut self) {
        let now = Instant::now();
        let (config, node) = (Arc::clone(&self.gear.config), &self.node);
        self.schedule.set_tick(Duration::from_millis(config.poll_interval_ms));
        let teller = &self.teller;
        let finder =
            || Kubernetes::new(config.kubernetes.clone(), Arc::clone(node)).with_teller(teller.clone());
        self.kubernetes = config.kubernetes.enabled.then(finder);
        self.kubernetes_anew = true;
        self.globs =
            config.files.iter().map(|input| Globs::new(input, Arc::clone(node)).without(&self.own)).collect();
        self.quotas = Quotas::new(&config.quotas);
        for slot in self.slots.all_awake() {
            slot.lane.bucket = self.quotas.bucket(slot.lane.target.origin.names(), now);
        }
        self.scan_at = now;
        self.globs_at = now;
    }

    /// Until the stop is raised.
    pub(crate) fn follow(&mut self) -> Result<(), OutletClosed> {
        while !self.gear.context.stop.is_raised() {
            self.gear.context.beat.beat();
            self.find();
            let now = Instant::now();
            if now >= self.hear_at {
                self.hear(Duration::ZERO);
            }
            if now >= self.progress_at {
                self.state_progress(now)?;
            }
            self.recheck(now)?;
            if now >= self.rouse_at {
                self.rouse_at = now + ROUSE_GAP;
                self.rouse_some(1);
            }
            let slots = &self.slots;
            let urgency = |id: usize| slots.awake(id).map_or(0, |slot| slot.lane.successors());
            match self.schedule.turn(now, urgency) {
                Some(id) => self.turn(id)?,
                None if !self.to_rouse.is_empty() => self.rouse_some(ROUSED),
                None => self.sleep(now),
            }
        }
        Ok(())
    }

    fn state_progress(&mut self, now: Instant) -> Result<(), OutletClosed> {
        self.progress_at = now + self.gear.pace.progress;
        let mut tools = self.gear.tools(now);
        self.slots.all_awake().try_for_each(|slot| slot.lane.state_progress(&mut tools))
    }

    fn sleep(&mut self, now: Instant) {
        if self.recheck < self.slots.end() || self.may_bury() {
            return;
        }
        let mut until =
            (now + NAP).min(self.scan_at).min(self.globs_at).min(self.recheck_at).min(self.progress_at);
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
            (0..self.slots.end()).for_each(|id| self.wake(id));
        }
        self.unwatched.extend(hints.removed.into_iter().filter(|directory| self.finding.contains(directory)));
        for (directory, happened) in hints.directories {
            self.heard(&directory, &happened, now);
        }
    }

    fn heard(&mut self, directory: &Path, happened: &Happened, now: Instant) {
        let soon = (self.scanned_at + self.scan_gap).max(now);
        if happened.renamed && self.finding.contains(directory) {
            self.scan_at = self.scan_at.min(soon);
        }
        let globbed = self.finding_globs.contains(directory);
        if happened.renamed && globbed {
            self.globs_at = self.globs_at.min(soon);
        }
        if self.slots.is_crowded(directory) {
            let concerned = self.slots.concerned(directory, &happened.names);
            concerned.into_iter().for_each(|id| self.wake(id));
            if happened.names.is_empty() || !self.is_quiet(directory, now) {
                self.watch.remove(directory);
                self.wake_directory(directory);
                self.globs_at = self.globs_at.min(now + search::GLOB_SCAN);
            }
        } else if !self.slots.in_directory(directory).is_empty() {
            if globbed && !self.is_quiet(directory, now) {
                self.watch.remove(directory);
                self.globs_at = self.globs_at.min(now + search::GLOB_SCAN);
            } else if !globbed && !self.finding.contains(directory) {
                self.watch.remove(directory);
            }
            self.wake_directory(directory);
        }
    }

    fn slot(&mut self, id: usize, target: crate::find::Target, states: Vec<FileState>) -> Slot {
        let now = Instant::now();
        let names = target.account_names();
        let account = self.gear.context.ledger.account([&names[0], &names[1], &names[2]]);
        let bucket = self.quotas.bucket(target.origin.names(), now);
        Slot::new(Lane::new(id, target, states, account, bucket, &self.gear.config, now), now)
    }

    fn turn(&mut self, id: usize) -> Result<(), OutletClosed> {
        let now = Instant::now();
        let crowded_out = self.is_short_of_descriptors();
        let patience = Duration::from_millis(self.gear.config.kubernetes.metadata_wait_ms);
        let Some(slot) = self.slots.awake_mut(id) else { return Ok(()) };
        if crowded_out && !slot.lane.looked {
            self.schedule.at(id, now + DESCRIPTOR_WAIT);
            return Ok(());
        }
        let blocks = if slot.lane.successors() > 0 { URGENT_BLOCKS } else { 1 };
        let mut tools = self.gear.tools(now);
        // A lane whose first file is not there yet has nothing but its directory to tell of it.
        if !slot.lane.looked || slot.lane.chain.is_empty() {
            slot.lane.look(&mut tools);
            slot.seen |= !slot.lane.chain.is_empty() || !slot.lane.finished.is_empty();
            // What is held back, too, is known to be there.
            slot.lane.measure(tools.keeper);
        }
        let (age, key) = (now.saturating_duration_since(slot.added_at), &slot.lane.target.key);
        if (age <= NAME_PATIENCE && self.unnamed.contains(key))
            || (age <= patience && self.untold.contains(key))
        {
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
        self.place(id, step, now)
    }

    /// Decides when a lane comes back.
    fn place(&mut self, id: usize, step: Step, now: Instant) -> Result<(), OutletClosed> {
        let Some(slot) = self.slots.awake_mut(id) else { return Ok(()) };
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
            Step::Idle | Step::Empty => return self.rest(id, now, tick),
        }
        Ok(())
    }

    /// Waits until the shippers have taken something or give memory back. Files are rotated and deleted meanwhile:
    /// some lanes are looked after, the others the next time.
    fn await_room(&mut self) {
        let now = Instant::now();
        let count = self.slots.end();
        for _ in 0..count.min(LOOKED_AFTER) {
            self.looked_after = (self.looked_after + 1) % count;
            // Each that is looked at for the first time takes a descriptor.
            let short = self.is_short_of_descriptors();
            if let Some(slot) = self.slots.awake_mut(self.looked_after)
                && (slot.lane.looked || !short)
            {
                slot.lane.keep_up(&mut self.gear.tools(now));
            }
        }
        if self.gear.context.outlet.is_full() || self.gear.keeper.is_behind() {
            std::thread::sleep(FULL_NAP);
            return;
        }
        let wanted = u64::from(self.gear.config.read_block_bytes);
        drop(self.gear.context.budget.take(wanted, Duration::from_millis(50)));
    }

    /// Waits for what is under way, says where every file stands, and waits for that too.
    pub(crate) fn end(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.await_settled(deadline);
        let mut tools = self.gear.tools(Instant::now());
        for slot in self.slots.all_awake() {
            if slot.lane.pause(&mut tools).is_err() {
                break;
            }
        }
        self.await_settled(deadline);
    }

    fn await_settled(&mut self, deadline: Instant) {
        while Instant::now() < deadline {
            self.gear.context.beat.beat();
            self.gear.keeper.pass_bridges();
            let settled = self.slots.all_awake().all(|slot| slot.lane.is_settled());
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
