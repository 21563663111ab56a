//! Programs that an engine is asked to begin in its containers (`docker exec`): heard as the engine tells of them.
//!
//! Guarantee: what runs already is told first, and then everything in its order, each once. An engine that goes away ends this; who
//! asks again, from the last time that was told, hears what the engine remembers of the time between (256 events, none over a restart).

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bollard::models::EventMessage;
use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};

use crate::engine::{Engine, EngineError};
use crate::{DockerConfig, Enabled};

/// How often it is looked whether somebody still listens.
const TICK: Duration = Duration::from_millis(200);
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

/// An engine, listened to on a thread that ends with this.
#[derive(Debug)]
pub struct Execs {
    first: Option<ExecEvent>,
    events: Receiver<ExecEvent>,
    why: Receiver<String>,
    _listens: Arc<()>,
}

impl Execs {
    /// Listens to it; from `since` on (nanoseconds since the Unix epoch), as far as the engine remembers, or from now on.
    ///
    /// # Errors
    /// Why it cannot be listened to, for people.
    pub fn listen(config: &DockerConfig, since: Option<i64>) -> Result<Execs, String> {
        if config.enabled == Enabled::Never {
            return Err("docker.enabled is never".to_owned());
        }
        let ((sender, events), (say, why), listens) = (channel(), channel(), Arc::new(()));
        let (path, listened) = (config.path().to_owned(), Arc::downgrade(&listens));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime for the Docker engine: {error}"))?;
        let thread = std::thread::Builder::new().name("audit-docker".to_owned()).spawn(move || {
            let error = runtime.block_on(listen(path, since, &sender, &listened));
            let _ = say.send(error.map_or_else(|error| error.to_string(), |()| String::new()));
        });
        thread.map_err(|error| format!("no thread for the Docker engine: {error}"))?;
        let mut execs = Execs { first: None, events, why, _listens: listens };
        execs.first = execs.next(2 * ANSWER)?;
        if execs.first.is_none() { Err(execs.end()) } else { Ok(execs) }
    }

    /// The next thing that is told, waiting so long at most: none when there is none.
    ///
    /// # Errors
    /// Why nothing more will come.
    pub fn next(&mut self, patience: Duration) -> Result<Option<ExecEvent>, String> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match self.events.recv_timeout(patience) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.end()),
        }
    }

    fn end(&self) -> String {
        self.why.recv_timeout(ANSWER).unwrap_or_else(|_| "the Docker engine does not answer".to_owned())
    }
}

/// Tells until nobody listens any more.
async fn listen(
    path: PathBuf,
    since: Option<i64>,
    sender: &Sender<ExecEvent>,
    listens: &Weak<()>,
) -> Result<(), EngineError> {
    let connected = timeout(ANSWER, Engine::connect(&path)).await;
    let engine = connected.map_err(|_| EngineError::Closed { path: path.clone() })??;
    let begun = now();
    // What was told before by another is not told again.
    let from = since.map_or(begun, |since| since + 1);
    let events = engine.exec_events(from);
    let mut told = events.map(|event| async { detail(&engine, event?).await }).buffered(TOGETHER);
    // The events are asked for when they are waited for, and before what runs is asked for.
    let first = timeout(Duration::ZERO, told.next()).await.ok().flatten();
    if sender.send(ExecEvent::There(engine.running_execs().await?)).is_err() {
        return Ok(());
    }
    let mut next = first;
    while listens.strong_count() > 0 {
        if let Some(event) = next.take() {
            let event = event?.filter(|event| event.time() >= from);
            if event.is_some_and(|event| sender.send(event).is_err()) {
                return Ok(());
            }
        }
        next = match timeout(TICK, told.next()).await {
            Ok(None) => return Err(EngineError::Closed { path }),
            Ok(event) => event,
            Err(_) => None,
        };
    }
    Ok(())
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
