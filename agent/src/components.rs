//! How each part of the agent is doing, as the supervisor sees it.
//!
//! The supervisor writes; readiness, metrics and people read. A part that was never set is not there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use taffrail_record::{Ask, AskError, Beat, Family, Kind, Samples};

/// What a component is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Being started for the first time.
    Starting,
    /// Doing its work.
    Running,
    /// Ended by an error or a panic; waiting to be started again.
    Backoff,
    /// Alive without a sign of life.
    Hung,
    /// Ended because it was told to.
    Stopped,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Backoff => "backoff",
            State::Hung => "hung",
            State::Stopped => "stopped",
        })
    }
}

/// Why a component had to be started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It returned an error.
    Error,
    /// It panicked.
    Panic,
    /// It gave no sign of life.
    Hang,
}

impl Cause {
    const ALL: [Cause; 3] = [Cause::Error, Cause::Panic, Cause::Hang];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Error => "error",
            Cause::Panic => "panic",
            Cause::Hang => "hang",
        }
    }
}

/// One component at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Seconds it has been doing that.
    pub for_seconds: f64,
    /// How often it was started again.
    pub restarts: u64,
    /// How many of those followed a panic.
    pub panics: u64,
    /// The last thing that went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

struct Entry {
    state: State,
    since: Instant,
    /// In the order of [`Cause::ALL`].
    restarts: [u64; 3],
    last_error: Option<String>,
}

/// All components, by name.
pub struct Components {
    entries: Mutex<BTreeMap<String, Entry>>,
    supervisor: Beat,
}

static FAMILIES: [Family; 2] = [
    Family {
        name: "taffrail_component_up",
        kind: Kind::Gauge,
        help: "Whether the component is running.",
        labels: &["component"],
    },
    Family {
        name: "taffrail_component_restarts_total",
        kind: Kind::Counter,
        help: "How often the component failed and was started again, by cause: error, panic or hang.",
        labels: &["component", "cause"],
    },
];

impl Components {
    /// Without components; the supervisor counts as alive.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Components { entries: Mutex::default(), supervisor: Beat::new() })
    }

    /// Notes what a component is doing.
    pub fn set(&self, name: &str, state: State) {
        self.update(name, state, |_| {});
    }

    /// Counts a failure. The component is in backoff, or hung when that is the cause.
    pub fn fail(&self, name: &str, cause: Cause, error: impl Into<String>) {
        let state = if cause == Cause::Hang { State::Hung } else { State::Backoff };
        self.update(name, state, |entry| {
            entry.restarts[cause as usize] += 1;
            entry.last_error = Some(error.into());
        });
    }

    fn update(&self, name: &str, state: State, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.entries.lock();
        let fresh = || Entry { state, since: Instant::now(), restarts: [0; 3], last_error: None };
        let entry = entries.entry(name.to_owned()).or_insert_with(fresh);
        if entry.state != state {
            entry.state = state;
            entry.since = Instant::now();
        }
        change(entry);
    }

    /// The supervisor's sign of life, to be given every few seconds.
    pub fn beat(&self) {
        self.supervisor.beat();
    }

    /// How long ago the supervisor gave a sign of life.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.supervisor.silence()
    }

    /// Every component now, by name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Component> {
        let entries = self.entries.lock();
        let component = |(name, entry): (&String, &Entry)| Component {
            name: name.clone(),
            state: entry.state,
            for_seconds: entry.since.elapsed().as_secs_f64(),
            restarts: entry.restarts.iter().sum(),
            panics: entry.restarts[Cause::Panic as usize],
            last_error: entry.last_error.clone(),
        };
        entries.iter().map(component).collect()
    }
}

impl Ask for Components {
    fn name(&self) -> &'static str {
        "components"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let entries = self.entries.lock();
        samples.family(&FAMILIES[0]);
        for (name, entry) in entries.iter() {
            samples.sample(&[name], f64::from(u8::from(entry.state == State::Running)));
        }
        samples.family(&FAMILIES[1]);
        for (name, entry) in entries.iter() {
            for (cause, count) in Cause::ALL.into_iter().zip(entry.restarts) {
                samples.sample(&[name, cause.as_str()], count as f64);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use taffrail_prometheus::{Exposition, Format};

    use super::*;

    #[test]
    fn a_failure_is_counted_by_cause_and_remembered_after_the_restart() {
        let components = Components::new();
        components.set("logs", State::Running);
        components.fail("logs", Cause::Panic, "index out of bounds");
        assert_eq!(components.snapshot()[0].state, State::Backoff);
        components.set("logs", State::Running);
        components.fail("logs", Cause::Hang, "no sign of life for 30s");
        let [logs] = components.snapshot().try_into().expect("one component");
        assert_eq!((logs.state, logs.restarts, logs.panics), (State::Hung, 2, 1));
        assert_eq!(logs.last_error.as_deref(), Some("no sign of life for 30s"));
    }

    #[test]
    fn metrics_name_each_component_and_cause() {
        let components = Components::new();
        components.set("kafka", State::Running);
        components.fail("logs", Cause::Error, "x");
        let mut exposition = Exposition::new();
        components.ask(&mut exposition).expect("answers");
        let text = exposition.render(Format::Text);
        for line in [
            "taffrail_component_up{component=\"kafka\"} 1\n",
            "taffrail_component_up{component=\"logs\"} 0\n",
            "taffrail_component_restarts_total{component=\"logs\",cause=\"error\"} 1\n",
            "taffrail_component_restarts_total{component=\"logs\",cause=\"hang\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
