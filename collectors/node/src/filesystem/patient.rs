//! Asks file systems how full they are, and waits for so long and no longer.
//!
//! One thread asks one after the other; when it gets stuck another goes on with the rest. At the deadline
//! threads that are stuck are left behind, and what they are stuck in is not asked again until they have come
//! back. So a file system that hangs costs one thread.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::statfs::statfs;
use parking_lot::{Condvar, Mutex};
use taffrail_record::Worker;

/// Size, free and available bytes, files and free files.
pub(super) type Figures = [f64; 5];
/// What a file system said.
pub(super) type Answer = Result<Figures, Errno>;
type Call = Arc<dyn Fn(&Path) -> Answer + Send + Sync>;

/// How long nothing may come before another thread helps.
const STUCK: Duration = Duration::from_millis(10);
const MOST_THREADS: usize = 64;
/// No scrape waits for longer, whatever is asked for.
const LONGEST: Duration = Duration::from_secs(60);

pub(super) struct Patient {
    patience: Duration,
    call: Call,
    worker: Arc<Worker>,
    hung: Arc<Mutex<HashSet<PathBuf>>>,
}

/// The questions of one scrape.
struct Round {
    paths: Arc<[PathBuf]>,
    call: Call,
    worker: Arc<Worker>,
    hung: Arc<Mutex<HashSet<PathBuf>>>,
    state: Mutex<State>,
    all: Condvar,
}

struct State {
    places: Vec<Place>,
    next: usize,
    left: usize,
    over: bool,
}

#[derive(Clone)]
enum Place {
    Waits,
    Asked,
    Answered(Answer),
    Hung,
}

impl Patient {
    pub(super) fn new(patience: Duration) -> Patient {
        Patient::with(patience, Arc::new(ask))
    }

    fn with(patience: Duration, call: Call) -> Patient {
        let worker = Arc::new(Worker::new("statfs"));
        Patient { patience: patience.min(LONGEST), call, worker, hung: Arc::default() }
    }

    /// What each of `paths` says, in their order; nothing for one that has not said it in time.
    pub(super) fn ask(&self, paths: &Arc<[PathBuf]>) -> io::Result<Vec<Option<Answer>>> {
        let round = self.round(paths);
        if !paths.is_empty() {
            round.wait(Instant::now() + self.patience)?;
        }
        let places = std::mem::take(&mut round.state.lock().places);
        let said = |place| if let Place::Answered(answer) = place { Some(answer) } else { None };
        Ok(places.into_iter().map(said).collect())
    }

    fn round(&self, paths: &Arc<[PathBuf]>) -> Arc<Round> {
        let hung = self.hung.lock();
        let place = |path| if hung.contains(path) { Place::Hung } else { Place::Waits };
        let places: Vec<Place> = paths.iter().map(place).collect();
        let left = places.iter().filter(|place| matches!(place, Place::Waits)).count();
        let state = Mutex::new(State { places, next: 0, left, over: false });
        let (call, hung) = (Arc::clone(&self.call), Arc::clone(&self.hung));
        let (paths, worker) = (Arc::clone(paths), Arc::clone(&self.worker));
        Arc::new(Round { paths, call, worker, hung, state, all: Condvar::new() })
    }
}

impl Round {
    /// Until all is answered or the deadline has come; what is stuck then is noted as hung.
    fn wait(self: &Arc<Self>, deadline: Instant) -> io::Result<()> {
        let mut threads = 1;
        self.start()?;
        let mut state = self.state.lock();
        while state.left > 0 && Instant::now() < deadline {
            let before = state.left;
            self.all.wait_until(&mut state, deadline.min(Instant::now() + STUCK));
            if state.left == before && state.next < self.paths.len() && threads < MOST_THREADS {
                threads += 1;
                self.start()?;
            }
        }
        state.over = true;
        let stuck = self.paths.iter().zip(&state.places).filter(|(_, place)| matches!(place, Place::Asked));
        self.hung.lock().extend(stuck.map(|(path, _)| path.clone()));
        Ok(())
    }

    fn start(self: &Arc<Self>) -> io::Result<()> {
        let round = Arc::clone(self);
        self.worker.run(move || round.work())
    }

    fn work(&self) {
        while let Some(at) = self.take() {
            let answer = (self.call)(&self.paths[at]);
            let mut state = self.state.lock();
            if state.over {
                self.hung.lock().remove(&self.paths[at]);
                return;
            }
            state.places[at] = Place::Answered(answer);
            state.left -= 1;
            if state.left == 0 {
                self.all.notify_one();
            }
        }
    }

    fn take(&self) -> Option<usize> {
        let mut state = self.state.lock();
        let from = state.next;
        let waits = |place: &Place| matches!(place, Place::Waits);
        let at = from + state.places.get(from..).filter(|_| !state.over)?.iter().position(waits)?;
        state.places[at] = Place::Asked;
        state.next = at + 1;
        Some(at)
    }
}

fn ask(path: &Path) -> Answer {
    let said = statfs(path)?;
    let block = said.block_size() as f64;
    let blocks = [said.blocks() as f64, said.blocks_free() as f64, said.blocks_available() as f64];
    let [size, free, available] = blocks.map(|blocks| blocks * block);
    Ok([size, free, available, said.files() as f64, said.files_free() as f64])
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[derive(Default)]
    struct Gate(Mutex<bool>, Condvar);

    impl Gate {
        fn open(&self) {
            *self.0.lock() = true;
            self.1.notify_all();
        }

        fn pass(&self) {
            self.1.wait_while(&mut self.0.lock(), |open| !*open);
        }
    }

    fn paths(names: &[&str]) -> Arc<[PathBuf]> {
        names.iter().map(PathBuf::from).collect()
    }

    fn answered(patient: &Patient, paths: &Arc<[PathBuf]>) -> Vec<bool> {
        patient.ask(paths).expect("threads").iter().map(Option::is_some).collect()
    }

    #[test]
    fn what_hangs_is_left_behind_and_asked_again_when_it_has_come_back() {
        let (gate, calls) = (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(0)));
        let (held, counted) = (Arc::clone(&gate), Arc::clone(&calls));
        let call: Call = Arc::new(move |path: &Path| {
            if path.starts_with("/hangs") {
                counted.fetch_add(1, Ordering::SeqCst);
                held.pass();
            }
            Ok([0.0; 5])
        });
        let patient = Patient::with(Duration::from_secs(2), call);
        let paths = paths(&["/a", "/hangs/1", "/b", "/hangs/2", "/c"]);
        for _ in 0..3 {
            assert_eq!(answered(&patient, &paths), [true, false, true, false, true]);
        }
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        gate.open();
        while !patient.hung.lock().is_empty() {
            thread::yield_now();
        }
        assert_eq!(answered(&patient, &paths), [true; 5]);
    }

    #[test]
    fn many_are_asked_and_none_is_no_question() {
        let patient = Patient::new(Duration::from_secs(60));
        let many: Arc<[PathBuf]> = (0..10_000).map(|_| PathBuf::from("/")).collect();
        assert!(answered(&patient, &many).iter().all(|answered| *answered));
        assert_eq!(answered(&patient, &paths(&[])), [true; 0]);
    }

    #[test]
    fn what_is_not_there_says_why() {
        let patient = Patient::new(Duration::from_secs(60));
        let said = patient.ask(&paths(&["/nowhere", "/"])).expect("threads");
        assert_eq!(said[0], Some(Err(Errno::ENOENT)));
        assert!(said[1].as_ref().is_some_and(|answer| answer.is_ok_and(|figures| figures[0] > 0.0)));
    }
}
