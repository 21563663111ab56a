//! Keeps collectors running: one that fails, panics or hangs is started afresh with backoff, counted and visible,
//! and never takes another with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use taffrail_record::{Beat, Collector, Context, Stop};

use crate::components::{Cause, Components, State};

/// How often a collector that was not told to end is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How collectors are judged.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A collector silent for this long is taken for hung. Its thread cannot be ended; it is told to stop and left
    /// behind, and whatever it still sends is at worst a repeat.
    pub hang: Duration,
    /// The pause before the first restart; it doubles with each further one.
    pub first_backoff: Duration,
    /// The longest pause.
    pub last_backoff: Duration,
    /// How long a told collector is given to end.
    pub end: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            hang: Duration::from_secs(60),
            first_backoff: Duration::from_secs(1),
            last_backoff: Duration::from_secs(60),
            end: Duration::from_secs(15),
        }
    }
}

/// Makes a fresh collector for each life.
pub type Make = Box<dyn FnMut() -> Box<dyn Collector> + Send>;

/// Runs what `make` makes until `context.stop` is raised, on threads of its own.
///
/// # Errors
/// When the system grants no thread.
pub fn supervise(
    name: &'static str,
    make: Make,
    context: Context,
    components: Arc<Components>,
    patience: Patience,
) -> std::io::Result<JoinHandle<()>> {
    let supervisor = Supervisor { name, make, context, components, patience };
    thread::Builder::new().name(format!("{name}-super")).spawn(move || supervisor.run())
}

struct Supervisor {
    name: &'static str,
    make: Make,
    context: Context,
    components: Arc<Components>,
    patience: Patience,
}

/// How a life ended.
enum End {
    Told,
    Failed(Cause, String),
}

impl Supervisor {
    fn run(mut self) {
        let mut backoff = self.patience.first_backoff;
        while !self.context.stop.is_raised() {
            let began = Instant::now();
            match self.live() {
                End::Told if self.context.stop.is_raised() => break,
                End::Told => self.failed(Cause::Error, "ended without being told to"),
                End::Failed(cause, error) => self.failed(cause, &error),
            }
            if began.elapsed() > self.patience.last_backoff * 5 {
                backoff = self.patience.first_backoff;
            }
            if self.context.stop.wait(backoff) {
                break;
            }
            backoff = (backoff * 2).min(self.patience.last_backoff);
        }
        self.components.set(self.name, State::Stopped);
    }

    fn failed(&self, cause: Cause, error: &str) {
        tracing::error!(
            component = self.name,
            cause = cause.as_str(),
            error,
            "a component failed; it will be started again"
        );
        self.components.fail(self.name, cause, error);
    }

    /// One life: from start to end, or to the moment at which it is given up.
    fn live(&mut self) -> End {
        let mut collector = (self.make)();
        let context = Context { stop: Stop::new(), beat: Beat::new(), ..self.context.clone() };
        let (stop, beat) = (context.stop.clone(), context.beat.clone());
        let spawned = thread::Builder::new().name(self.name.to_owned()).spawn(move || {
            catch_unwind(AssertUnwindSafe(|| collector.run(&context).map_err(|e| e.to_string())))
        });
        let life = match spawned {
            Ok(life) => life,
            Err(error) => return End::Failed(Cause::Error, format!("no thread: {error}")),
        };
        self.components.set(self.name, State::Running);
        let mut told: Option<Instant> = None;
        while !life.is_finished() {
            self.components.beat();
            if told.is_none() && self.context.stop.is_raised() {
                stop.raise();
                told = Some(Instant::now());
            }
            if told.is_some_and(|at| at.elapsed() > self.patience.end) {
                return End::Told;
            }
            if beat.silence() > self.patience.hang {
                stop.raise();
                return End::Failed(Cause::Hang, format!("no sign of life for {:?}", self.patience.hang));
            }
            if told.is_some() {
                thread::sleep(Duration::from_millis(5));
            } else {
                let _ = self.context.stop.wait(LOOK);
            }
        }
        match life.join() {
            Ok(Ok(Ok(()))) => End::Told,
            Ok(Ok(Err(error))) => End::Failed(Cause::Error, error),
            Ok(Err(panic)) | Err(panic) => End::Failed(Cause::Panic, panic_message(panic.as_ref())),
        }
    }
}

/// What a panic said.
#[must_use]
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use taffrail_record::{Budget, BufferPool, Ledger, Outlet};

    use super::*;

    /// Fails in one way first, then works until it is told to stop.
    struct Trouble(Option<Cause>);

    impl Collector for Trouble {
        fn name(&self) -> &'static str {
            "trouble"
        }

        fn run(&mut self, context: &Context) -> Result<(), Box<dyn Error + Send + Sync>> {
            match self.0 {
                Some(Cause::Error) => return Err("out of luck".into()),
                Some(Cause::Panic) => panic!("out of order"),
                Some(Cause::Hang) => thread::sleep(Duration::from_secs(2)),
                None => {}
            }
            while !context.stop.wait(Duration::from_millis(5)) {
                context.beat.beat();
            }
            Ok(())
        }
    }

    fn context() -> Context {
        Context {
            outlet: Outlet::channel(1).0,
            stop: Stop::new(),
            beat: Beat::new(),
            budget: Budget::new(1),
            pool: BufferPool::new(1, 1),
            ledger: Ledger::new(),
        }
    }

    #[test]
    fn a_collector_that_fails_panics_or_hangs_is_started_again_and_counted() {
        for cause in [Cause::Error, Cause::Panic, Cause::Hang] {
            let lives = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&lives);
            let make: Make = Box::new(move || {
                let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
                Box::new(Trouble(first.then_some(cause)))
            });
            let (context, components) = (context(), Components::new());
            let stop = context.stop.clone();
            let patience = Patience {
                // Writing a panic down takes its time, too.
                hang: Duration::from_secs(if cause == Cause::Hang { 1 } else { 60 }),
                first_backoff: Duration::from_millis(1),
                ..Patience::default()
            };
            let handle =
                supervise("trouble", make, context, Arc::clone(&components), patience).expect("a thread");
            let deadline = Instant::now() + Duration::from_secs(20);
            while lives.load(Ordering::SeqCst) < 2 || components.snapshot()[0].state != State::Running {
                assert!(Instant::now() < deadline, "not started again after {cause:?}");
                thread::sleep(Duration::from_millis(5));
            }
            let component = components.snapshot().remove(0);
            assert_eq!((component.restarts, component.panics), (1, u64::from(cause == Cause::Panic)));
            stop.raise();
            handle.join().expect("no panic");
            assert_eq!(components.snapshot()[0].state, State::Stopped);
        }
    }
}
