//! Programs that an engine is asked to begin in its containers (`docker exec`): heard as the engine tells of them.
//!
//! Guarantee: what runs already is told first, and then everything in its order, each once. An engine that goes away ends this; who
//! asks again, from the last time that was told, hears what the engine remembers of the time between (256 events, none over a restart).

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use bollard::models::EventMessage;
use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};

use crate::engine::{Engine, EngineError};
use crate::{DockerConfig, Enabled};

/// How long the engine may take until it answers at all.
const ANSWER: Duration = Duration::from_secs(10);
/// Of how many programs details are asked at once.
const TOGETHER: usize = 16;
/// How often, and how far apart, a program is asked for that has begun and has no process yet.
const TRIES: usize = 20;
const BETWEEN: Duration = Duration::from_millis(10);

/// A program that an engine was asked to begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exec {
    /// The engine's id for it.
    pub id: String,
    /// Id of its container.
    pub container: String,
    /// The command, word by word; as one text when the engine has forgotten the words.
    pub arguments: Vec<String>,
    /// Whether the words are known.
    pub is_known: bool,
    /// As whom it was to be run, as it was asked for; empty: the container's own user.
    pub user: String,
    /// Whether it has a terminal.
    pub has_terminal: bool,
    /// Its process as the machine numbers it, if the engine still knew.
    pub pid: Option<u32>,
}

/// Something that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// These were there already: told once, before anything else.
    There(Vec<Exec>),
    /// A program has begun; `time` in nanoseconds since the Unix epoch, as with the others.
    Began {
        /// Which.
        exec: Exec,
        /// When.
        time: i64,
    },
    /// It has ended.
    Ended {
        /// The engine's id for it.
        id: String,
        /// Its exit code, as the engine has it.
        code: Option<i32>,
        /// When.
        time: i64,
    },
    /// A container has ended, and everything in it.
    Gone {
        /// Its id.
        container: String,
        /// When.
        time: i64,
    },
}

/// Tells what an engine tells, until that ends: then why, for people. From `since` on (nanoseconds since the Unix epoch), as far as the
/// engine remembers, or from now on.
///
/// # Errors
/// Always, in the end.
pub async fn hear_execs(
    config: &DockerConfig,
    since: Option<i64>,
    mut tell: impl FnMut(ExecEvent),
) -> Result<Infallible, String> {
    if config.enabled == Enabled::Never {
        return Err("docker.enabled is never".to_owned());
    }
    hear(config.path(), since, &mut tell).await.map_err(|error| error.to_string())
}

async fn hear(
    path: &Path,
    since: Option<i64>,
    tell: &mut impl FnMut(ExecEvent),
) -> Result<Infallible, EngineError> {
    let connected = timeout(ANSWER, Engine::connect(path)).await;
    let engine = connected.map_err(|_| EngineError::Closed { path: path.to_owned() })??;
    let begun = now();
    // What was told before by another is not told again.
    let from = since.map_or(begun, |since| since + 1);
    let events = engine.exec_events(from);
    let mut told = events.map(|event| async { detail(&engine, event?).await }).buffered(TOGETHER);
    // The events are asked for when they are waited for, and before what runs is asked for.
    let mut next = timeout(Duration::ZERO, told.next()).await.ok();
    tell(ExecEvent::There(engine.running_execs().await?));
    loop {
        let event = match next.take() {
            Some(event) => event,
            None => told.next().await,
        };
        let Some(event) = event else { return Err(EngineError::Closed { path: path.to_owned() }) };
        event?.filter(|event| event.time() >= from).into_iter().for_each(&mut *tell);
    }
}

impl ExecEvent {
    fn time(&self) -> i64 {
        match self {
            ExecEvent::There(_) => i64::MAX,
            ExecEvent::Began { time, .. } | ExecEvent::Ended { time, .. } | ExecEvent::Gone { time, .. } => {
                *time
            }
        }
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_nanosecond().try_into().unwrap_or(i64::MAX)
}

/// What an event says, with what the engine knows besides.
async fn detail(engine: &Engine, event: EventMessage) -> Result<Option<ExecEvent>, EngineError> {
    let time = event.time_nano.unwrap_or_default();
    let action = event.action.unwrap_or_default();
    let actor = event.actor.unwrap_or_default();
    let Some(container) = actor.id else { return Ok(None) };
    let attribute = |name: &str| actor.attributes.as_ref().and_then(|all| all.get(name)).cloned();
    Ok(match (action.split(':').next(), attribute("execID")) {
        (Some("die"), _) => Some(ExecEvent::Gone { container, time }),
        (Some("exec_die"), Some(id)) => {
            let code = attribute("exitCode").and_then(|code| code.parse().ok());
            Some(ExecEvent::Ended { id, code, time })
        }
        (Some("exec_start"), Some(id)) => {
            let command = action.split_once(": ").map_or("", |(_, command)| command);
            let exec = begun(engine, &id).await?;
            let exec =
                exec.unwrap_or_else(|| Exec { id, arguments: vec![command.to_owned()], ..Exec::default() });
            Some(ExecEvent::Began { exec: Exec { container, ..exec }, time })
        }
        _ => None,
    })
}

/// A program that is being begun: the engine says so before there is a process.
async fn begun(engine: &Engine, id: &str) -> Result<Option<Exec>, EngineError> {
    let mut last = None;
    for _ in 0..TRIES {
        let Some((exec, has_ended)) = engine.exec(id).await? else { break };
        let is_known = exec.pid.is_some() || has_ended;
        last = Some(exec);
        if is_known {
            break;
        }
        sleep(BETWEEN).await;
    }
    Ok(last)
}
