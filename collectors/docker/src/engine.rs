//! The engine's API, as far as it is needed here.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, EventMessage};
use bollard::query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use tokio::net::UnixStream;

use crate::ContainerInfo;
use crate::execs::Exec;

/// Longest wait for an answer. A busy engine may take long to inspect.
const ANSWER_SECONDS: u64 = 60;
/// Inspections under way at once.
const TOGETHER: usize = 8;
/// How far back events are asked for: those between the request and the listing must be among them.
const LOOK_BACK: Duration = Duration::from_secs(5);
/// What happens to containers that concerns their logs. Without health checks, which are most of all events.
const ACTIONS: [&str; 5] = ["create", "start", "die", "destroy", "rename"];

/// What is told of programs in containers: beginnings (with the command behind a colon), ends, and ends of containers.
const OF_EXECS: [&str; 3] = ["exec_start", "exec_die", "die"];

/// Why there is no engine to talk to, or no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// Nothing listens there: the normal case where there is no engine.
    #[error("no Docker engine at {}: {cause}", .path.display())]
    Absent { path: PathBuf, cause: io::Error },
    /// There is a socket that this process may not use.
    #[error("permission denied on {}; run as root, or as a member of the group docker", .path.display())]
    Denied { path: PathBuf },
    /// The path cannot be used with the engine's API.
    #[error("{} is not a path of UTF-8 text", .path.display())]
    Path { path: PathBuf },
    /// It answered wrongly, or not in time.
    #[error("the Docker engine at {} failed: {cause}", .path.display())]
    Failed { path: PathBuf, cause: bollard::errors::Error },
    /// The stream of its events ended: it is shutting down.
    #[error("the Docker engine at {} closed the connection", .path.display())]
    Closed { path: PathBuf },
}

impl EngineError {
    /// Whether only this one answer was wrong, and the engine may be asked on.
    pub(crate) fn concerns_one_answer(&self) -> bool {
        use bollard::errors::Error::{DockerResponseServerError, JsonDataError, JsonSerdeError};
        let EngineError::Failed { cause, .. } = self else { return false };
        matches!(cause, DockerResponseServerError { .. } | JsonDataError { .. } | JsonSerdeError { .. })
    }
}

/// Ids of containers to which something happened.
pub(crate) type Events = BoxStream<'static, Result<String, EngineError>>;

/// What a container is; `None` when it is gone.
pub(crate) type Inspected = Result<Option<ContainerInfo>, EngineError>;

/// A connection that has answered.
pub(crate) struct Engine {
    docker: Docker,
    path: PathBuf,
    data_root: Option<PathBuf>,
    /// The engine's version.
    pub(crate) version: String,
}

impl Engine {
    /// Connects and agrees on a version of the API.
    pub(crate) async fn connect(path: &Path) -> Result<Engine, EngineError> {
        // bollard's own error does not tell an engine that is not there from one that is locked.
        UnixStream::connect(path).await.map_err(|cause| refused(path, cause))?;
        let text = path.to_str().ok_or_else(|| EngineError::Path { path: path.to_owned() })?;
        let failed = |cause| EngineError::Failed { path: path.to_owned(), cause };
        let docker = Docker::connect_with_unix(text, ANSWER_SECONDS, API_DEFAULT_VERSION).map_err(failed)?;
        let docker = docker.negotiate_version().await.map_err(failed)?;
        let info = docker.info().await.map_err(failed)?;
        let data_root = info.docker_root_dir.filter(|root| !root.is_empty()).map(PathBuf::from);
        let version = info.server_version.unwrap_or_default();
        Ok(Engine { docker, path: path.to_owned(), data_root, version })
    }

    /// Ids of containers to which something happened, from shortly before now on. Ends with an error.
    pub(crate) fn events(&self) -> Events {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let filter =
            |name: &str, values: &[&str]| (name.to_owned(), values.iter().map(|v| (*v).to_owned()).collect());
        let options = EventsOptions {
            since: Some(since.saturating_sub(LOOK_BACK).as_secs().to_string()),
            until: None,
            filters: Some(HashMap::from([filter("type", &["container"]), filter("event", &ACTIONS)])),
        };
        let path = self.path.clone();
        let end = EngineError::Closed { path: path.clone() };
        let failed = move |cause| EngineError::Failed { path: path.clone(), cause };
        let ids = |event: EventMessage| async { Ok(event.actor.and_then(|actor| actor.id)) };
        let events = self.docker.events(Some(options)).map_err(failed).try_filter_map(ids);
        events.chain(futures_util::stream::once(async { Err(end) })).boxed()
    }

    /// Events of programs in containers, from this time on in nanoseconds since the Unix epoch. Ends with an error.
    pub(crate) fn exec_events(&self, since: i64) -> BoxStream<'static, Result<EventMessage, EngineError>> {
        let since = since.max(0);
        let filter =
            |name: &str, values: &[&str]| (name.to_owned(), values.iter().map(|v| (*v).to_owned()).collect());
        let options = EventsOptions {
            since: Some(format!("{}.{:09}", since / 1_000_000_000, since % 1_000_000_000)),
            until: None,
            filters: Some(HashMap::from([filter("type", &["container"]), filter("event", &OF_EXECS)])),
        };
        let path = self.path.clone();
        let end = EngineError::Closed { path: path.clone() };
        let failed = move |cause| EngineError::Failed { path: path.clone(), cause };
        let events = self.docker.events(Some(options)).map_err(failed);
        events.chain(futures_util::stream::once(async { Err(end) })).boxed()
    }

    /// A program that was asked for in a container, and whether it has ended; `None` when that is forgotten.
    pub(crate) async fn exec(&self, id: &str) -> Result<Option<(Exec, bool)>, EngineError> {
        let answer = match self.docker.inspect_exec(id).await {
            Ok(answer) => answer,
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409, .. }) => {
                return Ok(None);
            }
            Err(cause) => return Err(self.failed(cause)),
        };
        let asked = answer.process_config.unwrap_or_default();
        let words = asked.entrypoint.into_iter().chain(asked.arguments.into_iter().flatten());
        let exec = Exec {
            id: id.to_owned(),
            container: answer.container_id.unwrap_or_default(),
            arguments: words.collect(),
            is_known: true,
            user: asked.user.unwrap_or_default(),
            has_terminal: asked.tty.unwrap_or(false),
            pid: answer.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
        };
        Ok(Some((exec, answer.exit_code.is_some() && answer.running == Some(false))))
    }

    /// Programs that run in containers at somebody's request.
    pub(crate) async fn running_execs(&self) -> Result<Vec<Exec>, EngineError> {
        let running = self.list().await?.into_iter().filter(|it| it.state.as_ref().is_some_and(is_up));
        let mut execs = Vec::new();
        for id in running.filter_map(|container| container.id) {
            let container = match self.docker.inspect_container(&id, None::<InspectContainerOptions>).await {
                Ok(container) => container,
                Err(bollard::errors::Error::DockerResponseServerError { .. }) => continue,
                Err(cause) => return Err(self.failed(cause)),
            };
            for id in container.exec_ids.into_iter().flatten() {
                let exec = self.exec(&id).await?.filter(|(exec, has_ended)| !has_ended && exec.pid.is_some());
                execs.extend(exec.map(|(exec, _)| exec));
            }
        }
        Ok(execs)
    }

    /// All containers, running or not.
    pub(crate) async fn list(&self) -> Result<Vec<ContainerSummary>, EngineError> {
        let options = ListContainersOptions { all: true, ..ListContainersOptions::default() };
        self.docker.list_containers(Some(options)).await.map_err(|cause| self.failed(cause))
    }

    /// What the containers with these ids are.
    pub(crate) async fn inspect(&self, ids: BTreeSet<String>) -> Vec<(String, Inspected)> {
        let one = |id: String| async {
            let answer = self.inspect_one(&id).await;
            (id, answer)
        };
        futures_util::stream::iter(ids).map(one).buffer_unordered(TOGETHER).collect().await
    }

    async fn inspect_one(&self, id: &str) -> Inspected {
        match self.docker.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(answer) => Ok(Some(ContainerInfo::inspected(answer, self.data_root.as_deref()))),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(cause) => Err(self.failed(cause)),
        }
    }

    fn failed(&self, cause: bollard::errors::Error) -> EngineError {
        EngineError::Failed { path: self.path.clone(), cause }
    }
}

fn is_up(state: &ContainerSummaryStateEnum) -> bool {
    use ContainerSummaryStateEnum::{PAUSED, RUNNING};
    matches!(state, RUNNING | PAUSED)
}

fn refused(path: &Path, cause: io::Error) -> EngineError {
    let path = path.to_owned();
    match cause.kind() {
        io::ErrorKind::PermissionDenied => EngineError::Denied { path },
        _ => EngineError::Absent { path, cause },
    }
}
