//! The log collector: its settings and what it is made of. One life of it is [`crate::run`].

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use parking_lot::Mutex;
use taffrail_checkpoint::Store;
use taffrail_record::{Ask, Collector, Context, Node};

use crate::config::LogsConfig;
use crate::find::{Handed, PodTeller};
use crate::follow::{Counters, Keeper, Pace, Rhythm};
use crate::run::Run;

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

    pub(crate) fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    pub(crate) fn get(&self) -> Arc<LogsConfig> {
        Arc::clone(&self.0.config.lock())
    }
}

/// Reads container logs and plain files.
pub struct LogsCollector {
    pub(crate) settings: Settings,
    pub(crate) node: Arc<Node>,
    pub(crate) handed: Arc<Handed>,
    pub(crate) store: Arc<Mutex<Store>>,
    rhythm: Rhythm,
    drain: Duration,
    pub(crate) pace: Pace,
    pub(crate) most_open: usize,
    pub(crate) own: Arc<[PathBuf]>,
    pub(crate) teller: Option<Arc<dyn PodTeller>>,
    pub(crate) counters: Arc<Counters>,
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
            most_open: most_open(),
            own: Arc::default(),
            teller: None,
            counters: Counters::new(),
        }
    }

    /// With other waiting times.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// With another bound of how many files are held open although they are idle and read to their end. The default
    /// leaves a quarter of the descriptors that the process may have.
    #[must_use]
    pub fn with_most_open(mut self, most_open: usize) -> Self {
        self.most_open = most_open;
        self
    }

    /// Never follows a plain file below one of these directories: the agent's own state and output, which would grow by
    /// what is read of them.
    #[must_use]
    pub fn with_own(mut self, own: impl IntoIterator<Item = PathBuf>) -> Self {
        self.own = own.into_iter().collect();
        self
    }

    /// With somebody who knows more of pods than their paths tell. The first records of a pod wait for it, up to
    /// `logs.kubernetes.metadata_wait_ms`.
    #[must_use]
    pub fn with_teller(mut self, teller: Option<Arc<dyn PodTeller>>) -> Self {
        self.teller = teller;
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
            most_open: self.most_open,
            own: Arc::clone(&self.own),
            teller: self.teller.clone(),
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

fn most_open() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(limit / 4 * 3).unwrap_or(usize::MAX)
}
