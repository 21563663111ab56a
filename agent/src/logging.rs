//! The agent's own log: on standard error, text for people or JSON for machines.

use std::io::{IsTerminal as _, stderr};
use std::sync::OnceLock;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat};

static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging as configured. Later calls change the level only: the format is for the life of the process.
///
/// # Errors
/// When the level cannot be read; a configuration that was loaded has a good one.
pub fn start(config: &LogConfig) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(with_quiet(&config.level))?;
    if let Some(handle) = LEVEL.get() {
        // Fails only when there is no subscriber any more, and then there is nothing to log to.
        let _ = handle.reload(filter);
        return Ok(());
    }
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    if registry.with(layer(config.format)).try_init().is_ok() {
        let _ = LEVEL.set(handle);
    }
    Ok(())
}

/// The client of the API server logs each failure as an error of its own; what matters of it is said by who asked.
fn with_quiet(level: &str) -> String {
    if level.contains("kube") { level.to_owned() } else { format!("{level},kube_client=off,tower=off") }
}

fn layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let terminal = stderr().is_terminal();
    match (format, terminal) {
        (LogFormat::Json, _) | (LogFormat::Auto, false) => {
            fmt::layer().json().flatten_event(true).with_writer(stderr).boxed()
        }
        (LogFormat::Text, false) => {
            fmt::layer().with_ansi(false).with_target(false).with_writer(stderr).boxed()
        }
        (LogFormat::Text | LogFormat::Auto, true) => {
            let layer = fmt::layer().with_ansi(colour()).with_target(false).with_timer(WallClock);
            layer.with_writer(stderr).boxed()
        }
    }
}

/// Whether a person reads along: a terminal, and not one that shall show JSON.
#[must_use]
pub fn for_people(config: &LogConfig) -> bool {
    stderr().is_terminal() && config.format != LogFormat::Json
}

/// The time of day here, for somebody who sits here.
struct WallClock;

impl FormatTime for WallClock {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", jiff::Zoned::now().strftime("%H:%M:%S"))
    }
}

/// Whether colour is welcome where there is a terminal: <https://no-color.org>.
#[must_use]
pub fn colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
