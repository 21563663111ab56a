//! The runtime's services over its socket, as far as they are needed here. Each call has a deadline, and no answer
//! larger than [`LARGEST`] is read.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{Stream, TryFutureExt as _, TryStreamExt as _};
use http::uri::PathAndQuery;
use prost::Message;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::CriConfig;
use crate::messages::containerd::{
    Envelope, Namespace, Namespaces, Pid, Pids, PidsRequest, SubscribeRequest, Task, Tasks,
};
use crate::messages::{
    Container, ContainerStatsRequest, ContainerStatsResponse, Containers, Everything, FilesystemUsage, Image,
    Images, Sandbox, SandboxStatusRequest, SandboxStatusResponse, Sandboxes, VersionResponse,
};

/// Longest wait for an answer, and for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of the largest answer that is read. A thousand containers with many labels are a few megabytes.
const LARGEST: usize = 16 << 20;

const VERSION: &str = "/runtime.v1.RuntimeService/Version";
const LIST_SANDBOXES: &str = "/runtime.v1.RuntimeService/ListPodSandbox";
const SANDBOX_STATUS: &str = "/runtime.v1.RuntimeService/PodSandboxStatus";
const LIST_CONTAINERS: &str = "/runtime.v1.RuntimeService/ListContainers";
const CONTAINER_STATS: &str = "/runtime.v1.RuntimeService/ContainerStats";
const LIST_IMAGES: &str = "/runtime.v1.ImageService/ListImages";

// containerd's own.
const SUBSCRIBE: &str = "/containerd.services.events.v1.Events/Subscribe";
const LIST_NAMESPACES: &str = "/containerd.services.namespaces.v1.Namespaces/List";
const LIST_TASKS: &str = "/containerd.services.tasks.v1.Tasks/List";
const LIST_PIDS: &str = "/containerd.services.tasks.v1.Tasks/ListPids";
/// Says in which namespace is asked.
const NAMESPACE: &str = "containerd-namespace";

/// Why there is no runtime to talk to, or no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// Nothing listens there: the normal case where there is no runtime.
    #[error("no CRI runtime at {}: {cause}", .path.display())]
    Absent { path: PathBuf, cause: io::Error },
    /// The same of several places.
    #[error("no CRI runtime: nothing listens on {tried}")]
    Nowhere { tried: String },
    /// A containerd that serves Docker alone, with its CRI switched off, or one that is too old.
    #[error("what listens on {} does not serve the CRI, version v1", .path.display())]
    NotServed { path: PathBuf },
    /// A runtime other than containerd.
    #[error("the CRI runtime at {} does not tell what it is asked to begin: only containerd does", .path.display())]
    Silent { path: PathBuf },
    /// There is a socket that this process may not use.
    #[error("permission denied on {}; run as root", .path.display())]
    Denied { path: PathBuf },
    /// It took too long.
    #[error("the CRI runtime at {} did not answer within {PATIENCE:?} ({call})", .path.display())]
    Slow { path: PathBuf, call: &'static str },
    /// It said too much.
    #[error("the CRI runtime at {} answered with more than {} MiB ({call}); that is not read", .path.display(), LARGEST >> 20)]
    TooLarge { path: PathBuf, call: &'static str },
    /// It answered that it will not, or cannot.
    #[error("the CRI runtime at {} refused ({call}): {cause}", .path.display())]
    Refused { path: PathBuf, call: &'static str, cause: String },
    /// The connection broke, or what came back is not the CRI.
    #[error("the CRI runtime at {} failed ({call}): {cause}", .path.display())]
    Broken { path: PathBuf, call: &'static str, cause: String },
}

impl RuntimeError {
    /// Every word that [`RuntimeError::kind`] may say.
    pub(crate) const KINDS: [&str; 6] = ["absent", "broken", "denied", "refused", "slow", "too_large"];

    /// One word for counting.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Absent { .. } | Self::Nowhere { .. } | Self::NotServed { .. } | Self::Silent { .. } => {
                "absent"
            }
            Self::Denied { .. } => "denied",
            Self::Slow { .. } => "slow",
            Self::TooLarge { .. } => "too_large",
            Self::Refused { .. } => "refused",
            Self::Broken { .. } => "broken",
        }
    }

    /// Whether there is no CRI runtime there, rather than one that fails.
    pub(crate) fn is_absence(&self) -> bool {
        self.kind() == "absent"
    }
}

/// A connection that has answered.
#[derive(Debug)]
pub(crate) struct Runtime {
    channel: Channel,
    path: PathBuf,
}

impl Runtime {
    /// Connects to the first socket behind which a runtime answers. Otherwise the error that tells most.
    pub(crate) async fn find(config: &CriConfig) -> Result<Runtime, RuntimeError> {
        let paths = config.paths();
        let mut errors = Vec::new();
        for path in &paths {
            match Runtime::connect(path).await {
                Ok(runtime) => return Ok(runtime),
                Err(error) => errors.push(error),
            }
        }
        let tells = |error: &RuntimeError| match error {
            RuntimeError::Absent { .. } => 0,
            error if error.is_absence() => 1,
            _ => 2,
        };
        match errors.into_iter().max_by_key(tells) {
            Some(error) if tells(&error) > 0 || paths.len() == 1 => Err(error),
            _ => Err(RuntimeError::Nowhere { tried: listed(&paths) }),
        }
    }

    async fn connect(path: &Path) -> Result<Runtime, RuntimeError> {
        // The library's own error does not tell a runtime that is not there from one that is locked.
        drop(UnixStream::connect(path).await.map_err(|cause| refused(path, cause))?);
        let channel = open(path).await?;
        let runtime = Runtime { channel, path: path.to_owned() };
        runtime.version().await?;
        Ok(runtime)
    }

    /// The socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Who answers now: behind the channel a runtime may end and another begin.
    pub(crate) async fn version(&self) -> Result<VersionResponse, RuntimeError> {
        self.call(VERSION, Everything {}).await
    }

    /// All sandboxes, also those that have ended.
    pub(crate) async fn sandboxes(&self) -> Result<Vec<Sandbox>, RuntimeError> {
        Ok(self.call::<_, Sandboxes>(LIST_SANDBOXES, Everything {}).await?.items)
    }

    /// All containers, also those that have ended.
    pub(crate) async fn containers(&self) -> Result<Vec<Container>, RuntimeError> {
        Ok(self.call::<_, Containers>(LIST_CONTAINERS, Everything {}).await?.containers)
    }

    /// All images.
    pub(crate) async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        Ok(self.call::<_, Images>(LIST_IMAGES, Everything {}).await?.images)
    }

    /// The image that a sandbox was made from, where the runtime tells it: it does so in what is meant for debugging.
    pub(crate) async fn sandbox_image(&self, id: &str) -> Result<Option<String>, RuntimeError> {
        #[derive(serde::Deserialize)]
        struct Info {
            image: String,
        }
        let request = SandboxStatusRequest { id: id.to_owned(), verbose: true };
        let answer: SandboxStatusResponse = self.call(SANDBOX_STATUS, request).await?;
        let info = answer.info.get("info").and_then(|text| serde_json::from_str::<Info>(text).ok());
        Ok(info.map(|info| info.image))
    }

    /// What a container has written, where the runtime keeps it so that it can be known.
    pub(crate) async fn writable_layer(&self, id: &str) -> Result<Option<FilesystemUsage>, RuntimeError> {
        let request = ContainerStatsRequest { id: id.to_owned() };
        let answer: ContainerStatsResponse = self.call(CONTAINER_STATS, request).await?;
        Ok(answer.stats.and_then(|stats| stats.writable_layer))
    }

    /// containerd's events that any of these filters fits, from now on: it is asked when the first one is waited for.
    pub(crate) fn events(
        &self,
        filters: Vec<String>,
    ) -> impl Stream<Item = Result<Envelope, RuntimeError>> + use<'_> {
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST);
        let asked = async move {
            client.ready().await.map_err(|error| self.broken(SUBSCRIBE, &error))?;
            let path = PathAndQuery::from_static(SUBSCRIBE);
            let codec = ProstCodec::<SubscribeRequest, Envelope>::default();
            let answer = client.server_streaming(Request::new(SubscribeRequest { filters }), path, codec);
            let events = answer.await.map_err(|status| self.failed(SUBSCRIBE, &status))?.into_inner();
            Ok(events.map_err(|status| self.failed(SUBSCRIBE, &status)))
        };
        asked.try_flatten_stream()
    }

    /// Names of containerd's namespaces.
    pub(crate) async fn namespaces(&self) -> Result<Vec<Namespace>, RuntimeError> {
        Ok(self.call::<_, Namespaces>(LIST_NAMESPACES, Everything {}).await?.items)
    }

    /// Containers of one of containerd's namespaces that have processes, or had.
    pub(crate) async fn tasks(&self, namespace: &str) -> Result<Vec<Task>, RuntimeError> {
        Ok(self.call_in::<_, Tasks>(namespace, LIST_TASKS, Everything {}).await?.items)
    }

    /// All processes of one of these.
    pub(crate) async fn pids(&self, namespace: &str, container: &str) -> Result<Vec<Pid>, RuntimeError> {
        let request = PidsRequest { container: container.to_owned() };
        Ok(self.call_in::<_, Pids>(namespace, LIST_PIDS, request).await?.items)
    }

    async fn call_in<Q, A>(&self, namespace: &str, call: &'static str, message: Q) -> Result<A, RuntimeError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut request = Request::new(message);
        let named = MetadataValue::try_from(namespace).map_err(|error| self.broken(call, &error))?;
        request.metadata_mut().insert(NAMESPACE, named);
        self.ask(call, request).await
    }

    async fn call<Q, A>(&self, call: &'static str, message: Q) -> Result<A, RuntimeError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.ask(call, Request::new(message)).await
    }

    async fn ask<Q, A>(&self, call: &'static str, request: Request<Q>) -> Result<A, RuntimeError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST);
        let asked = async {
            client.ready().await.map_err(|error| self.broken(call, &error))?;
            let path = PathAndQuery::from_static(call);
            let answer = client.unary(request, path, ProstCodec::<Q, A>::default()).await;
            answer.map_err(|status| self.failed(call, &status))
        };
        let answer = timeout(PATIENCE, asked).await;
        Ok(answer.map_err(|_| RuntimeError::Slow { path: self.path.clone(), call })??.into_inner())
    }

    /// Its events have ended without an error.
    pub(crate) fn closed(&self) -> RuntimeError {
        RuntimeError::Broken { path: self.path.clone(), call: SUBSCRIBE, cause: "it has hung up".to_owned() }
    }

    fn failed(&self, call: &'static str, status: &Status) -> RuntimeError {
        let path = self.path.clone();
        match status.code() {
            Code::Unimplemented if call == VERSION => RuntimeError::NotServed { path },
            Code::Unimplemented if call == SUBSCRIBE => RuntimeError::Silent { path },
            Code::OutOfRange => RuntimeError::TooLarge { path, call },
            _ if status.source().is_some() || status.code() == Code::Internal => self.broken(call, status),
            _ => RuntimeError::Refused { path, call, cause: status.message().to_owned() },
        }
    }

    fn broken(&self, call: &'static str, error: &dyn Error) -> RuntimeError {
        RuntimeError::Broken { path: self.path.clone(), call, cause: innermost(error) }
    }
}

async fn open(path: &Path) -> Result<Channel, RuntimeError> {
    const CALL: &str = "connecting";
    let broken = |error| RuntimeError::Broken { path: path.to_owned(), call: CALL, cause: innermost(&error) };
    let endpoint = Endpoint::from_shared(format!("unix://{}", path.display())).map_err(broken)?;
    let connected = timeout(PATIENCE, endpoint.connect()).await;
    connected.map_err(|_| RuntimeError::Slow { path: path.to_owned(), call: CALL })?.map_err(broken)
}

fn refused(path: &Path, cause: io::Error) -> RuntimeError {
    let path = path.to_owned();
    match cause.kind() {
        io::ErrorKind::PermissionDenied => RuntimeError::Denied { path },
        _ => RuntimeError::Absent { path, cause },
    }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// What really happened: the outer errors only say that something did.
fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
