//! Brings a request to the agent of the node that its pod is on.
//!
//! An API server tells any of the agents; the session is seen by one. Where the pod is, this node's own list says, else the API
//! server; which agent that is, the Service's EndpointSlices say. Agents know each other by the certificate of the webhook and its secret.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde::Deserialize;
use taffrail_api::{ApiConfig, ApiError, Counters, ErrorKind, Server};
use taffrail_exec::plain;
use taffrail_exec::request::{Request, Requests};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::credentials::Credentials;
use crate::config::Config;
use crate::kubernetes::{Cluster, Teller};

/// Between attempts; an agent that is begun anew is there again after some seconds.
const PAUSES: [u64; 6] = [0, 1, 2, 4, 8, 15];
const DEADLINE: Duration = Duration::from_secs(5);
/// How many are under way at most.
const UNDER_WAY: usize = 512;

/// Clones are the same.
#[derive(Clone)]
pub(super) struct Courier(Arc<Shared>);

struct Shared {
    requests: Requests,
    credentials: PathBuf,
    service: String,
    namespace: String,
    node: String,
    /// None, where nobody is asked: then every pod is this node's.
    cluster: Option<Nodes>,
    places: Semaphore,
}

struct Nodes {
    teller: Arc<Teller>,
    api: ApiConfig,
    counters: Arc<Counters>,
    server: OnceCell<Server>,
}

/// Why a request could not be brought where it belongs, and whether to try again.
struct Failed {
    why: String,
    for_good: bool,
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        let for_good = matches!(error.kind, ErrorKind::NotFound(_));
        Failed { why: format!("{error}; {}", error.kind.remedy()), for_good }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Failed { why: error.to_string(), for_good: false }
    }
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Failed { why, for_good: false }
    }
}

impl Courier {
    pub(super) fn new(config: &Config, requests: Requests, cluster: Option<&Cluster>) -> Courier {
        let api = &config.kubernetes.api;
        let cluster = cluster.filter(|_| api.is_wanted()).map(|cluster| Nodes {
            teller: cluster.teller(),
            api: api.clone(),
            counters: cluster.requests(),
            server: OnceCell::new(),
        });
        Courier(Arc::new(Shared {
            requests,
            credentials: config.audit.requests.credentials_directory.clone(),
            service: config.audit.requests.service.clone(),
            namespace: config.events.namespace(),
            node: config.node_name(),
            cluster,
            places: Semaphore::new(UNDER_WAY),
        }))
    }

    pub(super) fn credentials(&self) -> &Path {
        &self.0.credentials
    }

    /// Takes a request on; returns before it has arrived. Within a tokio runtime.
    pub(super) fn bring(&self, request: Request) {
        let shared = &self.0;
        match &shared.cluster {
            None => shared.requests.tell(request),
            Some(nodes) => match nodes.teller.uid_of(&request.namespace, &request.pod) {
                Some(uid) => shared.requests.tell(of_pod(request, uid)),
                None => {
                    tokio::spawn(Arc::clone(shared).carry(request));
                }
            },
        }
    }
}

fn of_pod(mut request: Request, uid: String) -> Request {
    if request.pod_uid.is_empty() {
        request.pod_uid = uid;
    }
    request
}

impl Shared {
    async fn carry(self: Arc<Self>, request: Request) {
        let Ok(_place) = self.places.try_acquire() else {
            return self.failed(&request, "too many requests are under way to other nodes");
        };
        let mut last = String::new();
        for pause in PAUSES {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            match self.carry_once(request.clone()).await {
                Ok(()) => return,
                Err(Failed { why, for_good }) => {
                    last = why;
                    if for_good {
                        break;
                    }
                }
            }
        }
        self.failed(&request, &last);
    }

    fn failed(&self, request: &Request, why: &str) {
        self.requests.forwarded(false);
        let (namespace, pod, user) =
            (plain(&request.namespace), plain(&request.pod), plain(&request.user.name));
        tracing::error!(
            namespace,
            pod,
            user,
            resource = request.asked.as_str(),
            why,
            "a request does not arrive at the agent of its pod's node: the session there will have no user"
        );
    }

    async fn carry_once(&self, request: Request) -> Result<(), Failed> {
        let Some(nodes) = &self.cluster else { return Ok(()) };
        let server =
            nodes.server.get_or_try_init(|| Server::open(&nodes.api, Arc::clone(&nodes.counters))).await?;
        let pod = pod(server, &request).await?;
        let request = of_pod(request, pod.metadata.uid);
        let node = pod.spec.node_name;
        if node.is_empty() {
            return Err(Failed { why: "the pod is on no node".to_owned(), for_good: true });
        }
        if node == self.node {
            self.requests.tell(request);
            return Ok(());
        }
        let address = self.agent_of(server, &node).await?;
        self.hand_over(address, &request).await?;
        self.requests.forwarded(true);
        Ok(())
    }

    /// Where the agent of a node listens.
    async fn agent_of(&self, server: &Server, node: &str) -> Result<SocketAddr, Failed> {
        let Shared { namespace, service, .. } = self;
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io/service-name={service}"
        );
        let slices: Slices = read(&server.get("endpointslices", &path).await?)?;
        slices.address_of(node).ok_or_else(|| {
            Failed::from(format!(
                "the Service {namespace}/{service} has no agent on the node {}",
                plain(node)
            ))
        })
    }

    async fn hand_over(&self, address: SocketAddr, request: &Request) -> Result<(), Failed> {
        // Each time anew: it is seldom, and they may have changed.
        let credentials = Credentials::read(&self.credentials)?;
        let name = ServerName::try_from(format!("{}.{}.svc", self.service, self.namespace))
            .map_err(|error| Failed::from(error.to_string()))?;
        let body = serde_json::to_vec(&[request]).map_err(|error| Failed::from(error.to_string()))?;
        match timeout(DEADLINE, post(address, name, &credentials, &body)).await {
            Ok(Ok(200)) => Ok(()),
            Ok(Ok(status)) => {
                Err(Failed::from(format!("the agent at {address} answers with the status {status}")))
            }
            Ok(Err(error)) => Err(Failed::from(format!("the agent at {address}: {error}"))),
            Err(_) => Err(Failed::from(format!("the agent at {address} does not answer in time"))),
        }
    }
}

async fn post(
    address: SocketAddr,
    name: ServerName<'static>,
    credentials: &Credentials,
    body: &[u8],
) -> io::Result<u16> {
    let stream = TcpStream::connect(address).await?;
    let host = name.to_str().into_owned();
    let mut stream = TlsConnector::from(Arc::clone(&credentials.client)).connect(name, stream).await?;
    let path = credentials.path("requests");
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    (&mut stream).take(64).read_to_end(&mut answer).await?;
    let status = String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what it answers is not HTTP"))
}

/// What is looked at of a pod.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    uid: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
}

/// Agents of a Service.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Slices {
    items: Vec<Slice>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Slice {
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Endpoint {
    addresses: Vec<String>,
    node_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Port {
    port: Option<u16>,
}

impl Slices {
    fn address_of(&self, node: &str) -> Option<SocketAddr> {
        let of_slice = |slice: &Slice| {
            let port = slice.ports.as_ref()?.iter().find_map(|port| port.port)?;
            let here = |endpoint: &&Endpoint| endpoint.node_name.as_deref() == Some(node);
            let address = slice
                .endpoints
                .as_ref()?
                .iter()
                .filter(here)
                .find_map(|endpoint| endpoint.addresses.first())?;
            Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, port))
        };
        self.items.iter().find_map(of_slice)
    }
}

fn read<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, Failed> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failed::from(format!("the API server's answer cannot be understood: {error}")))
}

async fn pod(server: &Server, request: &Request) -> Result<Pod, Failed> {
    // What a path could not take is no name of a pod.
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
    };
    let Request { namespace, pod, .. } = request;
    if !is_name(namespace) || !is_name(pod) {
        return Err(Failed { why: "it names no pod".to_owned(), for_good: true });
    }
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
    read(&server.get("pods", &path).await?)
}
