//! One API server: found, and asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::Mutex;
use taffrail_record::{Ask, AskError, Family, Kind, Samples};

use crate::lines::whole;
use crate::{ApiConfig, ApiError, ErrorKind, KubeletConfig};

/// How long a connection, and an answer's first byte, may take.
const CONNECT: Duration = Duration::from_secs(10);
pub(crate) const ANSWER: Duration = Duration::from_secs(60);

/// The largest answer that is taken: what cannot be asked for in smaller parts.
pub(crate) const LARGEST: usize = 64 << 20;
/// The largest page of several objects that is taken; a larger one is asked for in smaller parts.
const LARGEST_PAGE: usize = 8 << 20;

/// Says who asks in the server's audit log and metrics.
const AGENT: &str = concat!("taffrail/", env!("CARGO_PKG_VERSION"));

const JSON: &str = "application/json";

/// The API server, and who we are to it. Clones share everything.
#[derive(Clone)]
pub struct Server {
    config: ApiConfig,
    kubelet: Option<KubeletConfig>,
    /// The client of the moment, and where it asks.
    client: Arc<Mutex<(Client, String)>>,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Server {
    /// Finds the server that `config` or this pod's service account names. Sends nothing yet. Within a tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::NotConfigured`], when none is named; [`ErrorKind::Unusable`], when what is named cannot be used.
    pub async fn open(config: &ApiConfig, counters: Arc<Counters>) -> Result<Self, ApiError> {
        Self::made(config, None, counters).await
    }

    /// Kubelet, with the credentials of `config` where there are any. Sends nothing yet. Within a tokio runtime.
    ///
    /// # Errors
    /// As [`Server::open`], and when the authorities cannot be read.
    pub async fn open_kubelet(
        config: &ApiConfig,
        kubelet: &KubeletConfig,
        counters: Arc<Counters>,
    ) -> Result<Self, ApiError> {
        Self::made(config, Some(kubelet.clone()), counters).await
    }

    async fn made(
        config: &ApiConfig,
        kubelet: Option<KubeletConfig>,
        counters: Arc<Counters>,
    ) -> Result<Self, ApiError> {
        let client = client(config, kubelet.as_ref()).await?;
        Ok(Server { config: config.clone(), kubelet, client: Arc::new(Mutex::new(client)), counters })
    }

    /// Reads credentials and authorities anew, from where they were read at first.
    ///
    /// # Errors
    /// As [`Server::open`]; the old ones stay.
    pub async fn renew(&self) -> Result<(), ApiError> {
        let fresh = client(&self.config, self.kubelet.as_ref()).await?;
        *self.client.lock() = fresh;
        Ok(())
    }

    /// The body of what is at `path` (with its query).
    ///
    /// # Errors
    /// [`ApiError`], whatever it is.
    pub async fn get(&self, resource: &'static str, path: &str) -> Result<Vec<u8>, ApiError> {
        self.request(Method::GET, resource, path, None).await
    }

    /// As [`Server::get`], for a page of `objects`: one of several is bounded so that memory is.
    ///
    /// # Errors
    /// As [`Server::get`]; [`ErrorKind::TooLarge`] when fewer should be asked for.
    pub(crate) async fn get_page(
        &self,
        resource: &'static str,
        path: &str,
        objects: u32,
    ) -> Result<Vec<u8>, ApiError> {
        let most = if objects > 1 { LARGEST_PAGE } else { LARGEST };
        self.ask(&Method::GET, resource, path, None, JSON, most).await
    }

    /// The same in another form, such as only the metadata of an object:
    /// `application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1`.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub async fn get_as(
        &self,
        resource: &'static str,
        path: &str,
        accept: &'static str,
    ) -> Result<Vec<u8>, ApiError> {
        self.ask(&Method::GET, resource, path, None, accept, LARGEST).await
    }

    /// Sends `body` and returns what the server says to it. Asks once more with fresh credentials when it does not know us.
    ///
    /// # Errors
    /// [`ApiError`], whatever it is; [`ErrorKind::Conflict`] when a resourceVersion in the body is no longer the object's.
    pub async fn request(
        &self,
        method: Method,
        resource: &'static str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Vec<u8>, ApiError> {
        self.ask(&method, resource, path, body, JSON, LARGEST).await
    }

    async fn ask(
        &self,
        method: &Method,
        resource: &'static str,
        path: &str,
        body: Option<&serde_json::Value>,
        accept: &'static str,
        most: usize,
    ) -> Result<Vec<u8>, ApiError> {
        let what = named(method.as_str(), path);
        let sending = async {
            let answer = self.send_as(method, resource, path, body, accept).await?;
            whole(answer.into_body(), most).await.map_err(|kind| {
                self.counters.failed(verb(method), resource, &kind);
                ApiError::new(&what, kind)
            })
        };
        match tokio::time::timeout(ANSWER, sending).await {
            Ok(answer) => answer,
            Err(_) => {
                let kind = ErrorKind::Silent(ANSWER);
                self.counters.failed(verb(method), resource, &kind);
                Err(ApiError::new(what, kind))
            }
        }
    }

    /// An answer whose body is still to come.
    pub(crate) async fn send(
        &self,
        method: &Method,
        resource: &'static str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Response<Body>, ApiError> {
        self.send_as(method, resource, path, body, JSON).await
    }

    async fn send_as(
        &self,
        method: &Method,
        resource: &'static str,
        path: &str,
        body: Option<&serde_json::Value>,
        accept: &'static str,
    ) -> Result<Response<Body>, ApiError> {
        match self.send_once(method, resource, path, body, accept).await {
            Err(error) if matches!(error.kind, ErrorKind::Unauthorized(_)) => {
                self.renew().await?;
                self.send_once(method, resource, path, body, accept).await
            }
            other => other,
        }
    }

    async fn send_once(
        &self,
        method: &Method,
        resource: &'static str,
        path: &str,
        body: Option<&serde_json::Value>,
        accept: &'static str,
    ) -> Result<Response<Body>, ApiError> {
        let what = || named(method.as_str(), path);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, accept)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, AGENT)
            .body(Body::from(body.map(|body| body.to_string().into_bytes()).unwrap_or_default()))
            .map_err(|error| ApiError::new(what(), ErrorKind::NotConfigured(error.to_string())))?;
        let (client, address) = self.client.lock().clone();
        let answered = match client.send(request).await {
            Ok(answer) if answer.status().is_success() => Ok(answer),
            Ok(answer) => Err(refusal(what(), answer).await),
            Err(error) => Err(ApiError::new(what(), failure(&error, &address))),
        };
        match &answered {
            Ok(_) => self.counters.count(verb(method), resource, "ok"),
            Err(error) => self.counters.failed(verb(method), resource, &error.kind),
        }
        answered
    }
}

fn unusable(why: String) -> ApiError {
    ApiError::new("finding the API server", ErrorKind::Unusable(why))
}

async fn client(config: &ApiConfig, kubelet: Option<&KubeletConfig>) -> Result<(Client, String), ApiError> {
    let mut found = match kubelet {
        None => api_server(config).await?,
        Some(kubelet) => at_kubelet(config, kubelet).await?,
    };
    let scheme = found.cluster_url.scheme_str();
    if !matches!(scheme, Some("http" | "https")) || found.cluster_url.host().is_none() {
        return Err(unusable(format!("{} is no address; write https://HOST:PORT", found.cluster_url)));
    }
    found.connect_timeout = Some(CONNECT);
    // A watch may be silent for longer; who follows looks after it.
    found.read_timeout = None;
    // How often to try is said by who asks.
    found.default_retry = false;
    found.disable_compression = true;
    let address = found.cluster_url.to_string();
    let client = Client::try_from(found).map_err(|error| unusable(chain(&error)))?;
    Ok((client, address.trim_end_matches('/').to_owned()))
}

/// Authorities for who needs none: with those of the system instead, a machine without any would have no client.
const NOBODY: Option<Vec<Vec<u8>>> = Some(Vec::new());

async fn at_kubelet(config: &ApiConfig, kubelet: &KubeletConfig) -> Result<Config, ApiError> {
    let url: http::Uri = kubelet
        .url
        .parse()
        .map_err(|error| unusable(format!("kubernetes.kubelet.url {:?}: {error}", kubelet.url)))?;
    // The read-only port wants no credentials, and gets none.
    let mut found = if url.scheme_str() == Some("https") && config.is_wanted() {
        api_server(config).await?
    } else {
        let mut found = Config::new(url.clone());
        found.root_cert = NOBODY;
        found
    };
    found.cluster_url = url;
    if kubelet.insecure_skip_verify {
        found.accept_invalid_certs = true;
        (found.root_cert, found.root_cert_file) = (NOBODY, None);
    } else if let Some(path) = &kubelet.ca_file {
        std::fs::metadata(path)
            .map_err(|error| unusable(format!("cannot read {}: {error}", path.display())))?;
        (found.root_cert, found.root_cert_file) = (None, Some(path.clone()));
    }
    Ok(found)
}

async fn api_server(config: &ApiConfig) -> Result<Config, ApiError> {
    match &config.kubeconfig {
        Some(path) => {
            let failed = |error: &dyn std::error::Error| {
                unusable(format!("the kubeconfig {}: {}", path.display(), chain(error)))
            };
            std::fs::metadata(path).map_err(|error| failed(&error))?;
            let read = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(read, &options).await.map_err(|error| failed(&error))
        }
        None => Config::incluster().map_err(|error| {
            ApiError::new("finding the API server", ErrorKind::NotConfigured(chain(&error)))
        }),
    }
}

async fn refusal(what: String, answer: Response<Body>) -> ApiError {
    const MOST: usize = 1 << 20;
    let (parts, body) = answer.into_parts();
    let body = whole(body, MOST).await.unwrap_or_default();
    ApiError::of_answer(what, parts.status, retry_after(&parts.headers, parts.status), &body)
}

fn retry_after(headers: &http::HeaderMap, status: StatusCode) -> Option<Duration> {
    if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
        return None;
    }
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(600)))
}

fn failure(error: &kube::Error, address: &str) -> ErrorKind {
    let unreachable = |cause: String| {
        let why = format!("{address}: {cause}");
        // So rustls begins whatever it has against a certificate.
        if cause.contains("invalid peer certificate") {
            ErrorKind::Untrusted(why)
        } else {
            ErrorKind::Unreachable(why)
        }
    };
    match error {
        kube::Error::Auth(error) => ErrorKind::Unauthorized(chain(error)),
        // Its own words say nothing.
        kube::Error::Service(cause) => unreachable(chain(cause.as_ref())),
        other => unreachable(chain(other)),
    }
}

/// A request as people are told of it: its query would hide the rest.
pub(crate) fn named(method: &str, path: &str) -> String {
    format!("{method} {}", path.split('?').next().unwrap_or(path))
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "other",
    }
}

/// An error with all its causes, each said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        next = cause.source();
    }
    text
}

/// How often the API server was asked for what, and what came of it.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<[&'static str; 3], u64>>);

static FAMILIES: [Family; 1] = [Family {
    name: "taffrail_api_requests_total",
    kind: Kind::Counter,
    help: "Requests to the API server of the cluster by verb, resource and outcome; a watch counts when it begins and, with \
           another outcome than ok, when it breaks.",
    labels: &["verb", "resource", "outcome"],
}];

impl Counters {
    /// Of no requests yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn count(&self, verb: &'static str, resource: &'static str, outcome: &'static str) {
        *self.0.lock().entry([verb, resource, outcome]).or_default() += 1;
    }

    pub(crate) fn failed(&self, verb: &'static str, resource: &'static str, kind: &ErrorKind) {
        self.count(verb, resource, kind.label());
    }

    /// How many requests there were in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.lock().values().sum()
    }
}

impl Server {
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Ask for Counters {
    fn name(&self) -> &'static str {
        "api"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        samples.family(&FAMILIES[0]);
        for (labels, count) in self.0.lock().iter() {
            samples.sample(labels, *count as f64);
        }
        Ok(())
    }
}
