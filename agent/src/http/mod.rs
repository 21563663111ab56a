//! What the agent shows: metrics and health over TCP, records and the ledger over a Unix socket.
//!
//! One thread serves both. Nothing here can hold up the pipeline: scrapes run on threads of their own, and
//! listeners that are too slow miss records. TCP listens on loopback unless configured otherwise, and under TLS and
//! passwords when a web configuration asks for them; what is sensitive, the records themselves, is only on the
//! socket, which its owner alone can open.

mod answers;
mod doors;
mod guard;
mod pages;
mod requests;
mod routes;
mod socket;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use taffrail_exec::Audit;
use taffrail_prometheus::Scraper;
use taffrail_record::{Ask, Budget, Ledger};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::components::Components;
use crate::config::Config;
use crate::events::Timelines;
use crate::ledger_metrics::LedgerMetrics;
use crate::reload::Reload;
use crate::tap::TapHub;
use crate::web::{PERIOD, Web};
pub use answers::{AuditedBy, Readiness, Shipper};
pub(crate) use doors::Doors;
pub use pages::Page;
use pages::Served;
pub use requests::FAMILIES as REQUEST_FAMILIES;
use requests::Requests;
pub use socket::{SocketError, look as look_for_socket};

/// What can be seen of a running agent.
pub struct Surface {
    /// Where every byte is.
    pub ledger: Arc<Ledger>,
    /// Memory between reading and confirmation.
    pub budget: Arc<Budget>,
    /// What `/metrics` asks, besides what the surface knows itself (ledger, components, tap, reload, requests).
    pub asks: Vec<Arc<dyn Ask>>,
    /// Metrics under paths of their own.
    pub pages: Vec<Page>,
    /// The shippers of the moment and what troubles them.
    pub shippers: Box<dyn Fn() -> Vec<Shipper> + Send + Sync>,
    /// How each part is doing.
    pub components: Arc<Components>,
    /// Live records.
    pub tap: Arc<TapHub>,
    /// Who tells what happened to somebody.
    pub timelines: Timelines,
    /// Who comes into containers, where that is audited.
    pub audit: Option<Audit>,
    /// The configuration in force.
    pub config: Arc<ArcSwap<Config>>,
    /// The way to reload.
    pub reload: Arc<Reload>,
    /// TLS and users of the TCP side; without it, plain HTTP for everybody.
    pub web: Option<Arc<Web>>,
}

/// Why the agent cannot be seen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {cause}; set http.listen to a free address, or http.enabled to false"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        cause: std::io::Error,
    },
    /// The socket cannot be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The thread cannot be started.
    #[error("cannot start the thread that serves HTTP: {0}")]
    Thread(std::io::Error),
}

/// A served surface; dropping it ends the serving.
pub struct Handle {
    address: Option<SocketAddr>,
    scheme: &'static str,
    socket: Option<PathBuf>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// What every handler works with.
struct Shared {
    surface: Surface,
    scraper: Scraper,
    pages: Vec<Served>,
    requests: Arc<Requests>,
    stop: watch::Receiver<bool>,
}

/// Serves `surface` at `listen` and at the Unix socket `socket`, each when it is given.
///
/// # Errors
/// [`ServeError`]; then nothing is served.
pub fn serve(
    surface: Surface,
    listen: Option<SocketAddr>,
    socket: Option<&Path>,
) -> Result<Handle, ServeError> {
    let tcp = listen.map(bind).transpose()?;
    let scheme = if surface.web.as_ref().is_some_and(|web| web.has_tls()) { "https" } else { "http" };
    let address = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
    let unix = socket.map(socket::bind).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(KEPT)
        .build()
        .map_err(ServeError::Thread)?;
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::new(shared(surface, stopped));
    let run = move || run(&runtime, &shared, tcp, unix);
    let thread =
        std::thread::Builder::new().name("http".to_owned()).spawn(run).map_err(ServeError::Thread)?;
    Ok(Handle { address, scheme, socket: socket.map(Path::to_owned), stop, thread: Some(thread) })
}

fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|cause| ServeError::Listen { address, cause })
}

fn shared(surface: Surface, stop: watch::Receiver<bool>) -> Shared {
    let requests = Arc::new(Requests::new());
    let http = surface.config.load().http.clone();
    let ledger = LedgerMetrics::new(
        Arc::clone(&surface.ledger),
        Arc::clone(&surface.budget),
        usize::try_from(http.container_series).unwrap_or(usize::MAX),
    );
    let mut asks: Vec<Arc<dyn Ask>> = vec![
        Arc::new(ledger),
        Arc::clone(&surface.components) as _,
        Arc::clone(&surface.tap) as _,
        Arc::clone(&surface.reload) as _,
        Arc::new(requests.ask()),
    ];
    asks.extend(surface.asks.iter().cloned());
    let scraper = Scraper::new(asks, http.collector_timeout.0);
    let pages = surface.pages.iter().map(|page| Served::new(page, http.collector_timeout.0)).collect();
    Shared { surface, scraper, pages, requests, stop }
}

fn run(runtime: &Runtime, shared: &Arc<Shared>, tcp: Option<TcpListener>, unix: Option<UnixListener>) {
    runtime.block_on(async {
        let watched = shared.surface.web.clone().map(|web| tokio::spawn(watch(web)));
        let over_tcp = over_tcp(shared, tcp);
        let over_unix = over_unix(shared, unix);
        // A client that keeps its connection open must not keep the agent from ending.
        let both = futures_util::future::join(over_tcp, over_unix);
        let late = async {
            until(shared).await;
            tokio::time::sleep(GRACE).await;
        };
        futures_util::future::select(std::pin::pin!(both), std::pin::pin!(late)).await;
        watched.inspect(tokio::task::JoinHandle::abort);
    });
}

async fn over_tcp(shared: &Arc<Shared>, tcp: Option<TcpListener>) {
    let Some(Ok(listener)) = tcp.map(tokio::net::TcpListener::from_std) else { return };
    let routes = routes::public(shared);
    match shared.surface.web.clone() {
        None => listen(axum::serve(listener, routes).with_graceful_shutdown(until(shared)), "TCP").await,
        Some(web) => {
            let doors = Doors::open(listener, move || web.current().tls.clone());
            listen(axum::serve(doors, routes).with_graceful_shutdown(until(shared)), "TCP").await;
        }
    }
}

async fn over_unix(shared: &Arc<Shared>, unix: Option<UnixListener>) {
    let Some(Ok(listener)) = unix.map(tokio::net::UnixListener::from_std) else { return };
    let routes = routes::private(shared);
    listen(axum::serve(listener, routes).with_graceful_shutdown(until(shared)), "socket").await;
}

/// Looks at the files of the web configuration from time to time.
async fn watch(web: Arc<Web>) {
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        tick.tick().await;
        let web = Arc::clone(&web);
        // On a thread of its own: the files may lie where reading takes long.
        let _ = tokio::task::spawn_blocking(move || web.look()).await;
    }
}

/// For how long a thread that waited for a scrape waits for the next.
const KEPT: Duration = Duration::from_secs(65);

/// How long open requests may take to end.
const GRACE: Duration = Duration::from_millis(500);

async fn listen(serving: impl IntoFuture<Output = std::io::Result<()>>, over: &str) {
    if let Err(error) = serving.await {
        tracing::error!("serving over {over} ended: {error}");
    }
}

/// Completes when the handle is stopped or dropped.
fn until(shared: &Shared) -> impl Future<Output = ()> + Send + 'static {
    let mut stop = shared.stop.clone();
    async move {
        let _ = stop.wait_for(|stopped| *stopped).await;
    }
}

impl Handle {
    /// The address that is really listened on: with port 0 configured, the one the kernel gave.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Where the metrics are, for people.
    pub(crate) fn metrics_url(&self) -> Option<String> {
        Some(format!("{}://{}/metrics", self.scheme, self.address?))
    }

    /// Ends the serving: requests under way may finish within half a second, the socket is removed.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(socket) = self.socket.take() {
            let _ = std::fs::remove_file(socket);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// Under the rules of the web configuration.
    fn guarded(self: &Arc<Self>, router: Router<Arc<Shared>>) -> Router<Arc<Shared>> {
        router.layer(axum::middleware::from_fn_with_state(Arc::clone(self), guard::admit))
    }

    fn counted(self: &Arc<Self>, router: Router<Arc<Shared>>) -> Router {
        let layer = axum::middleware::from_fn_with_state(Arc::clone(self), requests::count);
        router.layer(layer).with_state(Arc::clone(self))
    }
}
