//! Reading the configuration again while the agent runs, counted wherever it was asked for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use taffrail_record::{Ask, AskError, Family, Kind, Samples};

type Action = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// The way to reload: the signal and `POST /-/reload` both come here, one at a time.
pub struct Reload {
    action: Mutex<Action>,
    done: AtomicU64,
    refused: AtomicU64,
    /// Seconds since the epoch of the last configuration that was taken.
    taken: AtomicU64,
    last_refused: AtomicU64,
}

static FAMILIES: [Family; 3] = [
    Family {
        name: "taffrail_config_last_reload_successful",
        kind: Kind::Gauge,
        help: "Whether the last configuration that was read is the one in force.",
        labels: &[],
    },
    Family {
        name: "taffrail_config_last_reload_success_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When the configuration in force was read, in seconds since the Unix epoch.",
        labels: &[],
    },
    Family {
        name: "taffrail_config_reloads_total",
        kind: Kind::Counter,
        help: "Reloads by result: taken, or refused with the old configuration kept.",
        labels: &["result"],
    },
];

impl Reload {
    /// Reloads by `action`, which validates first, keeps the old configuration when it fails, and says in one line
    /// what it did or what is wrong.
    pub fn new(action: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        Reload {
            action: Mutex::new(Box::new(action)),
            done: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            taken: AtomicU64::new(now()),
            last_refused: AtomicU64::new(0),
        }
    }

    /// Reloads now and logs the outcome.
    ///
    /// # Errors
    /// What is wrong with the new configuration; the old one stays in force.
    pub fn run(&self) -> Result<String, String> {
        let action = self.action.lock();
        let outcome = action();
        self.last_refused.store(u64::from(outcome.is_err()), Ordering::Relaxed);
        match &outcome {
            Ok(what) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                self.taken.store(now(), Ordering::Relaxed);
                tracing::info!("configuration reloaded: {what}");
            }
            Err(error) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!("configuration refused, the old one stays in force: {error}");
            }
        }
        outcome
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

impl Ask for Reload {
    fn name(&self) -> &'static str {
        "config"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64;
        samples.family(&FAMILIES[0]);
        samples.sample(&[], 1.0 - get(&self.last_refused));
        samples.family(&FAMILIES[1]);
        samples.sample(&[], get(&self.taken));
        samples.family(&FAMILIES[2]);
        samples.sample(&["taken"], get(&self.done));
        samples.sample(&["refused"], get(&self.refused));
        Ok(())
    }
}
