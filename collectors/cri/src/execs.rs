//! Programs that containerd is asked to begin in its containers (`kubectl exec`, `crictl exec`, `ctr tasks exec`): heard as it
//! tells of them.
//!
//! Guarantee: what runs already is told first, and then everything in its order. containerd remembers nothing: who asks again hears
//! what happens from then on. What it does for Docker is left out: Docker tells that itself, and more of it.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::time::timeout;

use crate::messages::containerd::{Details, Envelope, ExecStarted, Exited, Timestamp};
use crate::runtime::{Runtime, RuntimeError};
use crate::{CriConfig, Enabled};

/// The namespace of Docker.
const DOCKER: &str = "moby";
const STARTED: &str = "/tasks/exec-started";
const EXITED: &str = "/tasks/exit";
/// How long containerd has to take note of who listens, before it is asked what runs: it answers with the first event, not before.
const SOON: Duration = Duration::from_millis(200);
/// As containerd says of a container whose first process lives.
const RUNNING: i32 = 2;

/// A program that containerd was asked to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Of this containerd, the only one that is called so.
    pub id: String,
    /// Id of its container.
    pub container: String,
    /// Its process as the machine numbers it.
    pub pid: u32,
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
        /// Which, as [`Exec::id`].
        id: String,
        /// Its exit code, as a shell says it.
        code: i32,
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

/// Tells what containerd tells, until that ends: then why, for people.
///
/// # Errors
/// Always, in the end.
pub async fn hear_execs(config: &CriConfig, mut tell: impl FnMut(ExecEvent)) -> Result<Infallible, String> {
    if config.enabled == Enabled::Never {
        return Err("cri.enabled is never".to_owned());
    }
    hear(config, &mut tell).await.map_err(|error| error.to_string())
}

async fn hear(config: &CriConfig, tell: &mut impl FnMut(ExecEvent)) -> Result<Infallible, RuntimeError> {
    let runtime = Runtime::find(config).await?;
    let filters = [STARTED, EXITED].map(|topic| format!("topic==\"{topic}\",namespace!={DOCKER}"));
    let mut events = pin!(runtime.events(filters.into()));
    let mut next = timeout(SOON, events.next()).await.ok();
    if let Some(Some(Err(error))) = next {
        return Err(error);
    }
    tell(ExecEvent::There(running(&runtime).await?));
    loop {
        let event = match next.take() {
            Some(event) => event,
            None => events.next().await,
        };
        let Some(event) = event else { return Err(runtime.closed()) };
        read(&event?).into_iter().for_each(&mut *tell);
    }
}

/// What runs at somebody's request.
async fn running(runtime: &Runtime) -> Result<Vec<Exec>, RuntimeError> {
    let mut execs = Vec::new();
    for namespace in runtime.namespaces().await?.into_iter().filter(|namespace| namespace.name != DOCKER) {
        let tasks = runtime.tasks(&namespace.name).await?;
        for task in tasks.into_iter().filter(|task| task.status == RUNNING) {
            // It may have ended by now.
            let Ok(pids) = runtime.pids(&namespace.name, &task.id).await else { continue };
            let begun = pids.into_iter().filter_map(|pid| {
                let details = Details::decode(&*pid.info?.value).ok()?;
                let id = id(&namespace.name, &task.id, &details.exec);
                (!details.exec.is_empty()).then(|| Exec { id, container: task.id.clone(), pid: pid.pid })
            });
            execs.extend(begun);
        }
    }
    Ok(execs)
}

/// Two namespaces may each have a container of a name, and two containers a program.
fn id(namespace: &str, container: &str, exec: &str) -> String {
    format!("{namespace}/{container}/{exec}")
}

/// What an event says; nothing that is not understood.
fn read(envelope: &Envelope) -> Option<ExecEvent> {
    let value = &*envelope.event.as_ref()?.value;
    let time = nanoseconds(envelope.timestamp);
    match &*envelope.topic {
        STARTED => {
            let ExecStarted { container, exec, pid } = ExecStarted::decode(value).ok()?;
            let exec = Exec { id: id(&envelope.namespace, &container, &exec), container, pid };
            Some(ExecEvent::Began { exec, time })
        }
        EXITED => {
            let Exited { container, exec, status, at } = Exited::decode(value).ok()?;
            let time = at.map_or(time, |at| nanoseconds(Some(at)));
            if exec == container {
                return Some(ExecEvent::Gone { container, time });
            }
            let code = i32::try_from(status).unwrap_or(i32::MAX);
            Some(ExecEvent::Ended { id: id(&envelope.namespace, &container, &exec), code, time })
        }
        _ => None,
    }
}

fn nanoseconds(time: Option<Timestamp>) -> i64 {
    let time = time.unwrap_or_default();
    time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::containerd::Any;

    fn envelope(topic: &str, value: Vec<u8>) -> Envelope {
        Envelope {
            timestamp: Some(Timestamp { seconds: 1, nanos: 5 }),
            namespace: "k8s.io".to_owned(),
            topic: topic.to_owned(),
            event: Some(Any { value }),
        }
    }

    #[test]
    fn events_say_what_they_say() {
        let started = ExecStarted { container: "c".to_owned(), exec: "e".to_owned(), pid: 7 };
        let exec = Exec { id: "k8s.io/c/e".to_owned(), container: "c".to_owned(), pid: 7 };
        assert_eq!(
            read(&envelope(STARTED, started.encode_to_vec())),
            Some(ExecEvent::Began { exec, time: 1_000_000_005 })
        );
        let mut exited = Exited { container: "c".to_owned(), exec: "e".to_owned(), status: 137, at: None };
        assert_eq!(
            read(&envelope(EXITED, exited.encode_to_vec())),
            Some(ExecEvent::Ended { id: "k8s.io/c/e".to_owned(), code: 137, time: 1_000_000_005 })
        );
        exited.exec = "c".to_owned();
        exited.at = Some(Timestamp { seconds: 2, nanos: 0 });
        assert_eq!(
            read(&envelope(EXITED, exited.encode_to_vec())),
            Some(ExecEvent::Gone { container: "c".to_owned(), time: 2_000_000_000 })
        );
        assert_eq!(read(&envelope(STARTED, vec![0xff; 9])), None);
        assert_eq!(read(&envelope("/images/create", Vec::new())), None);
    }

    #[test]
    fn times_that_cannot_be_are_bounded() {
        let far = Timestamp { seconds: i64::MAX, nanos: i32::MAX };
        assert_eq!(nanoseconds(Some(far)), i64::MAX);
        assert_eq!(nanoseconds(None), 0);
    }
}
