//! The address at which API servers tell of requests, as a webhook and with their audit log, and agents pass on what is of each
//! other's pods: `POST /SECRET/admission`, `/SECRET/events` and `/SECRET/requests`, by TLS.
//!
//! Guarantee: nothing of a request is read before it is known that its path is the secret one. A review is answered before anything
//! is done with it, and allowed whatever it says.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::serve::Listener;
use serde_json::json;
use taffrail_exec::request::{self, Refusal, Request, Requests};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::courier::Courier;
use super::credentials::{Credentials, PERIOD, Validity, Watched};
use crate::http::Doors;

/// The largest that is read: a pod of the size that an API server takes at most, twice, or 400 events of its log.
const LARGEST: usize = 8 << 20;
/// How many are read at once, and how long another one waits for its turn.
const AT_ONCE: usize = 8;
const TURN: Duration = Duration::from_secs(1);
/// How long one may take to come in.
const ARRIVAL: Duration = Duration::from_secs(10);
/// How long nothing may happen on a connection; an API server makes another one then.
const IDLE: Duration = Duration::from_secs(60);

struct Inside {
    credentials: Arc<ArcSwap<Credentials>>,
    courier: Courier,
    requests: Requests,
    turns: Semaphore,
}

/// Listens until that cannot be done any more.
///
/// Returns why not.
pub(super) async fn serve(address: SocketAddr, courier: &Courier, requests: &Requests) -> String {
    let (mut watched, credentials) = match Watched::open(courier.credentials()) {
        Ok(opened) => opened,
        Err(error) => return error,
    };
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            return format!(
                "cannot listen on {address}: {error}; set audit.requests.listen to a free address"
            );
        }
    };
    let credentials = Arc::new(ArcSwap::from_pointee(credentials));
    let inside = Arc::new(Inside {
        credentials: Arc::clone(&credentials),
        courier: courier.clone(),
        requests: requests.clone(),
        turns: Semaphore::new(AT_ONCE),
    });
    let routes = Router::new().route("/{token}/{what}", post(told)).fallback(stranger).with_state(inside);
    let of_doors = Arc::clone(&credentials);
    let doors = Doors::open(listener, move || Some(Arc::clone(&of_doors.load().server)));
    let doors = Attended(doors);
    let mut warned = None;
    let look = async {
        loop {
            let validity = is_valid(&credentials.load(), courier, requests);
            if let Validity::Days(days) = validity
                && warned != Some(days)
            {
                warned = Some(days);
                tracing::warn!(days, folder = %courier.credentials().display(), "the certificate of the audit's webhook ends soon; `taffrail audit-webhook` makes another");
            }
            tokio::time::sleep(PERIOD).await;
            match watched.look() {
                None => {}
                Some(Ok(new)) => {
                    credentials.store(Arc::new(new));
                    tracing::info!(
                        "certificate and secret of the audit's webhook have changed and are in force"
                    );
                }
                Some(Err(error)) => requests.set_trouble(Requests::DOOR, Some(error)),
            }
        }
    };
    tokio::select! {
        served = axum::serve(doors, routes).into_future() => {
            format!("serving on {address} ended: {}", served.err().map_or_else(String::new, |error| error.to_string()))
        }
        never = look => never,
    }
}

/// Whoever comes does not come in any more when the certificate is over.
fn is_valid(credentials: &Credentials, courier: &Courier, requests: &Requests) -> Validity {
    requests.certificate_ends(credentials.until.as_second());
    let validity = credentials.validity(jiff::Timestamp::now());
    let over = (validity == Validity::Over).then(|| {
        format!(
            "the certificate in {} ended on {}, and API servers do not trust it; `taffrail audit-webhook` makes another",
            courier.credentials().display(),
            credentials.until
        )
    });
    requests.set_trouble(Requests::DOOR, over);
    validity
}

/// Nanoseconds since the Unix epoch.
fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

async fn stranger(State(inside): State<Arc<Inside>>) -> Response {
    inside.requests.refused(Refusal::Stranger);
    StatusCode::NOT_FOUND.into_response()
}

async fn told(
    State(inside): State<Arc<Inside>>,
    Path((token, what)): Path<(String, String)>,
    body: Body,
) -> Response {
    if !inside.credentials.load().is_token(&token) {
        return stranger(State(inside)).await;
    }
    let Ok(Ok(_turn)) = timeout(TURN, inside.turns.acquire()).await else {
        return inside.refuse(Refusal::TooMuch, StatusCode::TOO_MANY_REQUESTS, "too much at once");
    };
    let body = match timeout(ARRIVAL, to_bytes(body, LARGEST)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return inside.refuse(Refusal::TooMuch, StatusCode::PAYLOAD_TOO_LARGE, "too large"),
        Err(_) => return inside.refuse(Refusal::TooMuch, StatusCode::REQUEST_TIMEOUT, "too slow"),
    };
    match what.as_str() {
        "admission" => inside.review(&body),
        "events" => inside.events(&body),
        "requests" => inside.passed_on(&body),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Inside {
    fn refuse(&self, why: Refusal, status: StatusCode, text: &'static str) -> Response {
        self.requests.refused(why);
        (status, text).into_response()
    }

    fn malformed(&self, error: &serde_json::Error) -> Response {
        self.requests.refused(Refusal::Malformed);
        (StatusCode::BAD_REQUEST, format!("it cannot be understood: {error}\n")).into_response()
    }

    fn bring(&self, requests: Vec<Request>) {
        requests.into_iter().for_each(|request| self.courier.bring(request));
    }

    fn review(&self, body: &Bytes) -> Response {
        match request::review(body, now()) {
            Ok((uid, requests)) => {
                self.bring(requests);
                let answer = json!({
                    "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                    "response": { "uid": uid, "allowed": true },
                });
                axum::Json(answer).into_response()
            }
            Err(error) => self.malformed(&error),
        }
    }

    fn events(&self, body: &Bytes) -> Response {
        match request::events(body) {
            Ok(requests) => {
                self.bring(requests);
                StatusCode::OK.into_response()
            }
            Err(error) => self.malformed(&error),
        }
    }

    /// Another agent says that these are of pods here.
    fn passed_on(&self, body: &Bytes) -> Response {
        match request::passed_on(body) {
            Ok(requests) => {
                requests.into_iter().for_each(|request| self.requests.tell(request));
                StatusCode::OK.into_response()
            }
            Err(error) => self.malformed(&error),
        }
    }
}

/// Connections on which something happens: one on which nothing does is closed, so that whoever opens many and says nothing takes no
/// more than he goes on to open.
struct Attended(Doors);

impl Listener for Attended {
    type Io = Idle<<Doors as Listener>::Io>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (connection, address) = self.0.accept().await;
        (Idle::new(connection, IDLE), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct Idle<C> {
    connection: C,
    most: Duration,
    end: Pin<Box<Sleep>>,
}

impl<C> Idle<C> {
    /// A connection on which nothing may happen for so long.
    fn new(connection: C, most: Duration) -> Self {
        Idle { connection, most, end: Box::pin(sleep(most)) }
    }

    /// Puts the end off when something has happened, and comes to it when nothing has.
    fn attend<T>(&mut self, context: &mut Context<'_>, happened: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if happened.is_ready() {
            let end = Instant::now() + self.most;
            self.end.as_mut().reset(end);
            return happened;
        }
        self.end.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Idle<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let happened = Pin::new(&mut self.connection).poll_read(context, buffer);
        self.attend(context, happened)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Idle<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let happened = Pin::new(&mut self.connection).poll_write(context, bytes);
        self.attend(context, happened)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_connection_on_which_nothing_happens_is_closed_and_one_on_which_something_does_is_not() {
        const MOST: Duration = Duration::from_millis(200);
        let (near, mut far) = tokio::io::duplex(64);
        let mut idle = Idle::new(near, MOST);
        let mut byte = [0];
        for _ in 0..3 {
            sleep(MOST * 2 / 3).await;
            far.write_all(b"a").await.expect("sent");
            idle.read_exact(&mut byte).await.expect("read");
        }
        let begun = Instant::now();
        let error = idle.read(&mut byte).await.expect_err("closed");
        assert_eq!((error.kind(), begun.elapsed() >= MOST), (io::ErrorKind::TimedOut, true));
    }
}
