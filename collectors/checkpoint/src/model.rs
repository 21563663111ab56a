//! The store against a model, on a disk that fills up, dies or loses power after any operation.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use crate::disk::{Content, Disk};
use crate::format::Kind;
use crate::recovery::parse_name;
use crate::{Options, Recovery, Store};

type Files = BTreeMap<String, Vec<u8>>;
type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// A disk in memory that remembers what a power loss would leave.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    files: Files,
    /// The directory as of the last sync, and what was done since, in order.
    durable: Files,
    since: Vec<Done>,
    fault: Option<Fault>,
    dead: bool,
}

enum Done {
    Wrote(String, Vec<u8>),
    Renamed(String, String),
    Removed(String),
}

#[derive(Debug, Clone, Copy)]
struct Fault {
    /// Operations until it strikes.
    after: usize,
    /// Every operation from there on fails, instead of this one.
    deadly: bool,
    /// The failing operation takes effect all the same (a write: in part).
    effective: bool,
}

impl Done {
    fn apply(self, files: &mut Files) {
        match self {
            Done::Wrote(name, bytes) => drop(files.insert(name, bytes)),
            Done::Removed(name) => drop(files.remove(&name)),
            Done::Renamed(from, to) => {
                if let Some(bytes) = files.remove(&from) {
                    files.insert(to, bytes);
                }
            }
        }
    }
}

impl Memory {
    /// What a power loss leaves: the synced directory and any first part of what came after.
    fn after_power_loss(&self, kept: prop::sample::Index) -> Memory {
        let inner = std::mem::take(&mut *self.0.lock().unwrap());
        let mut files = inner.durable;
        let kept = kept.index(inner.since.len() + 1);
        inner.since.into_iter().take(kept).for_each(|done| done.apply(&mut files));
        Memory::holding(files)
    }

    /// What kill -9 leaves: everything as it was.
    fn after_kill(&self) -> Memory {
        Memory::holding(std::mem::take(&mut *self.0.lock().unwrap()).files)
    }

    fn holding(files: Files) -> Memory {
        let inner = Inner { durable: files.clone(), files, ..Inner::default() };
        Memory(Arc::new(Mutex::new(inner)))
    }

    fn operate(&self, mut done: Done) -> io::Result<()> {
        let inner = &mut *self.0.lock().unwrap();
        let (fails, effective) = inner.strike();
        if fails && !effective {
            return Err(ErrorKind::StorageFull.into());
        }
        if let (true, Done::Wrote(_, bytes)) = (fails, &mut done) {
            bytes.truncate(bytes.len() / 2);
        }
        match &done {
            Done::Wrote(name, bytes) => inner.since.push(Done::Wrote(name.clone(), bytes.clone())),
            Done::Renamed(from, to) => inner.since.push(Done::Renamed(from.clone(), to.clone())),
            Done::Removed(name) => inner.since.push(Done::Removed(name.clone())),
        }
        done.apply(&mut inner.files);
        if fails { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Inner {
    /// Whether the present operation fails, and whether it takes effect then.
    fn strike(&mut self) -> (bool, bool) {
        if self.dead {
            return (true, false);
        }
        let Some(fault) = &mut self.fault else { return (false, false) };
        if fault.after > 0 {
            fault.after -= 1;
            return (false, false);
        }
        let fault = *fault;
        self.fault = None;
        self.dead = fault.deadly;
        (true, fault.effective)
    }
}

impl Disk for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().files.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.0.lock().unwrap().files.get(name).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn write(&self, name: &str, content: Content<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        content(&mut bytes)?;
        self.operate(Done::Wrote(name.to_owned(), bytes))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.operate(Done::Renamed(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.operate(Done::Removed(name.to_owned()))
    }

    fn sync(&self) -> io::Result<()> {
        let inner = &mut *self.0.lock().unwrap();
        let (fails, effective) = inner.strike();
        if !fails || effective {
            inner.durable = inner.files.clone();
            inner.since.clear();
        }
        if fails { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8, usize),
    Remove(u8),
    Commit,
    /// A commit during which the disk fails; `None` in the end: the process goes on. Else it is killed
    /// (`Some(None)`) or the power goes (`Some(Some(..))`).
    Fault(Fault, Option<Option<prop::sample::Index>>),
    Reopen,
}

fn fault() -> impl Strategy<Value = Fault> {
    (0..14_usize, any::<bool>(), any::<bool>()).prop_map(|(after, deadly, effective)| Fault {
        after,
        deadly,
        effective,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..12_u8, any::<u8>(), 0..200_usize).prop_map(|(k, v, n)| Step::Put(k, v, n)),
        2 => (0..12_u8).prop_map(Step::Remove),
        4 => Just(Step::Commit),
        2 => (fault(), prop::option::of(prop::option::of(any::<prop::sample::Index>())))
            .prop_map(|(fault, end)| Step::Fault(fault, end)),
        1 => Just(Step::Reopen),
    ]
}

/// A store and what it must hold.
struct Bench {
    disk: Memory,
    store: Store,
    /// What is staged and committed together.
    now: State,
    /// What the last successful commit made durable.
    durable: State,
    /// What failed commits may have made durable since.
    possible: Vec<State>,
    /// The state at each sequence number.
    history: BTreeMap<u64, State>,
    nothing_left: bool,
}

fn open(disk: &Memory) -> (Store, Recovery) {
    // So small that a base comes after every few deltas.
    let options = Options { compact_min_bytes: 3 * 4096, keep_damaged: 3 };
    Store::open_on(Box::new(disk.clone()), Path::new("/state"), options).unwrap()
}

fn state(store: &Store) -> State {
    store.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

impl Bench {
    fn new(disk: Memory) -> Self {
        let (store, recovery) = open(&disk);
        let durable = state(&store);
        let history = BTreeMap::from([(recovery.sequence, durable.clone())]);
        Bench {
            disk,
            store,
            now: durable.clone(),
            durable,
            possible: Vec::new(),
            history,
            nothing_left: recovery.nothing_left,
        }
    }

    fn run(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        for step in steps {
            match step {
                Step::Put(key, byte, length) => {
                    let (key, value) = (vec![*key; usize::from(*key)], vec![*byte; *length]);
                    self.store.put(&key, &value);
                    self.now.insert(key, value);
                }
                Step::Remove(key) => {
                    let key = vec![*key; usize::from(*key)];
                    self.store.remove(&key);
                    self.now.remove(&key);
                }
                Step::Commit => self.commit()?,
                Step::Fault(fault, end) => self.fault(*fault, end.as_ref())?,
                Step::Reopen => self.reopen(self.disk.after_kill())?,
            }
            prop_assert_eq!(&state(&self.store), &self.now);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), TestCaseError> {
        match self.store.commit() {
            Ok(_) => {
                self.durable = self.now.clone();
                self.possible.clear();
                let sequence = self.store.sequence();
                self.history.insert(sequence, self.now.clone());
            }
            Err(_) => self.possible.push(self.now.clone()),
        }
        Ok(())
    }

    fn fault(
        &mut self,
        fault: Fault,
        end: Option<&Option<prop::sample::Index>>,
    ) -> Result<(), TestCaseError> {
        self.disk.0.lock().unwrap().fault = Some(Fault { deadly: fault.deadly && end.is_some(), ..fault });
        self.commit()?;
        self.disk.0.lock().unwrap().fault = None;
        match end {
            None => Ok(()),
            Some(None) => self.reopen(self.disk.after_kill()),
            Some(Some(kept)) => self.reopen(self.disk.after_power_loss(*kept)),
        }
    }

    fn reopen(&mut self, disk: Memory) -> Result<(), TestCaseError> {
        let (store, recovery) = open(&disk);
        let found = state(&store);
        prop_assert!(
            found == self.durable || self.possible.contains(&found),
            "{found:?} is neither the last commit {:?} nor one that may have been",
            self.durable
        );
        // That nothing was left is said until there is something again.
        let said_again = self.nothing_left && recovery.nothing_left && found.is_empty();
        prop_assert!(recovery.damaged.is_empty() && (!recovery.stale || said_again), "{recovery:?}");
        prop_assert_eq!(recovery.entries, found.len());
        self.history.insert(recovery.sequence, found.clone());
        (self.disk, self.store) = (disk, store);
        (self.now, self.durable) = (found.clone(), found);
        self.possible.clear();
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Harm {
    Flip(prop::sample::Index),
    Cut(prop::sample::Index),
    Foreign(Vec<u8>),
    Delete,
}

fn harm() -> impl Strategy<Value = (prop::sample::Index, Harm)> {
    let harm = prop_oneof![
        4 => any::<prop::sample::Index>().prop_map(Harm::Flip),
        2 => any::<prop::sample::Index>().prop_map(Harm::Cut),
        1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Harm::Foreign),
        1 => Just(Harm::Delete),
    ];
    (any::<prop::sample::Index>(), harm)
}

fn do_harm(files: &mut Files, name: &str, harm: &Harm) {
    let bytes = files.get_mut(name).unwrap();
    match harm {
        Harm::Flip(bit) if !bytes.is_empty() => {
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        Harm::Flip(_) => bytes.push(0),
        Harm::Cut(length) => bytes.truncate(length.index(bytes.len().max(1))),
        Harm::Foreign(other) => other.clone_into(bytes),
        Harm::Delete => drop(files.remove(name)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn after_any_crash_the_state_is_exactly_the_last_commit(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut bench = Bench::new(Memory::default());
        bench.run(&steps)?;
        bench.reopen(bench.disk.after_kill())?;
    }

    #[test]
    fn after_damage_every_entry_has_a_committed_value_no_older_than_the_newest_intact_base(
        before in prop::collection::vec(step(), 1..120),
        harms in prop::collection::vec(harm(), 1..4),
        after in prop::collection::vec(step(), 0..60),
    ) {
        let mut bench = Bench::new(Memory::default());
        bench.run(&before)?;
        bench.reopen(bench.disk.after_kill())?;
        let mut files = bench.disk.0.lock().unwrap().files.clone();
        let mut harmed = Vec::new();
        let mut deleted_last = false;
        for (which, harm) in &harms {
            if files.is_empty() { continue }
            let name = files.keys().nth(which.index(files.len())).unwrap().clone();
            let newest = files.keys().filter_map(|n| parse_name(n)).map(|(_, sequence)| sequence).max();
            let of_newest = parse_name(&name).map(|(_, sequence)| sequence) == newest;
            deleted_last |= matches!(harm, Harm::Delete) && of_newest;
            do_harm(&mut files, &name, harm);
            harmed.push(name);
        }
        let base = files.keys().filter(|name| !harmed.contains(name)).filter_map(|n| parse_name(n))
            .filter(|(kind, _)| *kind == Kind::Base).map(|(_, sequence)| sequence).max().unwrap_or(0);
        let was_empty = files.is_empty();

        let disk = Memory::holding(files);
        let (store, recovery) = open(&disk);
        let found = state(&store);
        let keys: std::collections::BTreeSet<_> = bench.history.values().flat_map(BTreeMap::keys).collect();
        prop_assert!(found.keys().all(|key| keys.contains(key)), "no key was made up");
        for key in keys {
            let committed = bench.history.range(base..).any(|(_, state)| state.get(key) == found.get(key))
                || (base == 0 && !found.contains_key(key));
            prop_assert!(committed, "{key:?} has a value that it never had since {base}");
        }
        // Files that vanish without a trace at the end cannot be missed; all other damage that matters is said.
        if !recovery.stale && !deleted_last {
            prop_assert_eq!(&found, &bench.durable);
        }
        prop_assert_eq!(recovery.first_start, was_empty);
        if found != bench.durable && !deleted_last {
            prop_assert!(recovery.stale);
        }

        // And it goes on from there as if nothing had been.
        let mut bench = Bench::new(disk);
        prop_assert_eq!(&bench.now, &found, "what was recovered is itself durable");
        bench.run(&after)?;
        bench.reopen(bench.disk.after_kill())?;
    }
}

#[test]
fn a_damaged_newest_base_costs_nothing() {
    let disk = Memory::default();
    let (mut store, _) = open(&disk);
    let mut compacted = 0;
    for round in 0..40_u32 {
        store.put(&(round % 7).to_le_bytes(), &round.to_le_bytes());
        compacted += usize::from(store.commit().unwrap().compacted);
    }
    assert!(compacted > 2, "there is a base before the newest");
    let expected = state(&store);
    let mut files = disk.after_kill().0.lock().unwrap().files.clone();
    let newest = files.keys().rfind(|name| name.starts_with("base-")).unwrap().clone();
    files.get_mut(&newest).unwrap()[50] ^= 1;

    let (store, recovery) = open(&Memory::holding(files));
    assert_eq!(state(&store), expected);
    assert!(recovery.from_previous && !recovery.stale && !recovery.nothing_left, "{recovery:?}");
    assert_eq!(recovery.damaged.len(), 1);
}

#[test]
fn a_failed_commit_is_part_of_the_next() {
    let disk = Memory::default();
    let (mut store, _) = open(&disk);
    for after in 0..3 {
        store.put(&[after as u8], b"v");
        disk.0.lock().unwrap().fault = Some(Fault { after, deadly: false, effective: false });
        let error = store.commit().unwrap_err();
        assert!(error.to_string().contains("free space there"), "{error}");
    }
    assert_eq!(store.commit().unwrap().entries, 3);
    assert_eq!(store.commit().unwrap().entries, 0, "nothing is staged any more");
    assert_eq!(open(&disk.after_kill()).0.len(), 3);
}

#[test]
fn old_files_are_removed_and_the_disk_stays_proportional_to_the_state() {
    let disk = Memory::default();
    let (mut store, _) = open(&disk);
    for round in 0..2000_u32 {
        store.put(&(round % 10).to_le_bytes(), &round.to_le_bytes());
        store.commit().unwrap();
    }
    let names = disk.list().unwrap();
    assert!(names.len() <= 2 + 2 * 3, "two bases and the deltas since the older: {names:?}");
}
