//! A CRI runtime that answers as it is told to, and the bytes of its messages written by hand, so that field numbers are
//! not compared with themselves.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Collected, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;
use tokio::task::{JoinHandle, JoinSet};

type Body = BoxBody<Bytes, Infallible>;

/// How it answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// With this message.
    Message(Vec<u8>),
    /// With this status.
    Status(u32),
    /// Not at all.
    Hang,
    /// With bytes in which a message should be.
    Raw(Vec<u8>),
}

#[derive(Debug, Default)]
pub(crate) struct Script {
    /// By the call's last word; others are not implemented.
    pub(crate) answers: HashMap<&'static str, Answer>,
    /// How often each was called.
    pub(crate) calls: HashMap<String, usize>,
}

/// It listens until it is dropped.
pub(crate) struct Fake {
    script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(crate) fn listen(socket: &Path, answers: &[(&'static str, Answer)]) -> Fake {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).expect("a socket");
        let script = Script { answers: answers.iter().cloned().collect(), ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let task = tokio::spawn(serve(listener, Arc::clone(&script)));
        Fake { script, task }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no panic")
    }

    pub(crate) fn answer(&self, call: &'static str, answer: Answer) {
        self.script().answers.insert(call, answer);
    }

    pub(crate) fn calls(&self, call: &str) -> usize {
        self.script().calls.get(call).copied().unwrap_or_default()
    }
}

async fn serve(listener: UnixListener, script: Arc<Mutex<Script>>) {
    // Ends all connections with the listener.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let script = Arc::clone(&script);
        connections.spawn(async move {
            let answer = service_fn(move |request| answer(request, Arc::clone(&script)));
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Arc<Mutex<Script>>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let (service, call) = path.rsplit_once('/').expect("a path");
    let right = if call == "ListImages" { "/runtime.v1.ImageService" } else { "/runtime.v1.RuntimeService" };
    let answer = {
        let mut script = script.lock().expect("no panic");
        *script.calls.entry(call.to_owned()).or_default() += 1;
        script.answers.get(call).cloned().filter(|_| service == right).unwrap_or(Answer::Status(12))
    };
    // Its length comes first, its end when the client has said all.
    let asked = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
    assert!(asked.len() >= 5 && asked[0] == 0, "a request is one message that is not compressed");
    Ok(match answer {
        Answer::Hang => std::future::pending().await,
        Answer::Status(code) => response(Empty::new().boxed(), Some(code)),
        Answer::Raw(bytes) => response(body(bytes), None),
        Answer::Message(message) => {
            let length = u32::try_from(message.len()).expect("a length").to_be_bytes();
            response(body([&[0], &length[..], &message].concat()), None)
        }
    })
}

fn body(bytes: Vec<u8>) -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    Full::new(Bytes::from(bytes)).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed()
}

fn response(body: Body, status: Option<u32>) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    if let Some(code) = status {
        headers.insert("grpc-status", HeaderValue::from(code));
        headers.insert("grpc-message", HeaderValue::from_static("as it was told"));
    }
    response
}

/// A field that has a length: text, a message.
pub(crate) fn field(number: u32, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(u64::from(number << 3 | 2)), varint(content.len() as u64), content.to_vec()].concat()
}

/// A field that is a number.
pub(crate) fn number(number: u32, value: u64) -> Vec<u8> {
    [varint(u64::from(number << 3)), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Entries of a map.
pub(crate) fn map(tag: u32, entries: &[(&str, &str)]) -> Vec<u8> {
    let entry = |(key, value): &(&str, &str)| field(tag, [field(1, key), field(2, value)].concat());
    entries.iter().flat_map(entry).collect()
}

pub(crate) fn version(runtime: &str, version: &str) -> Answer {
    let fields = [field(1, "0.1.0"), field(2, runtime), field(3, version), field(4, "v1")];
    Answer::Message(fields.concat())
}

/// A sandbox of the pod `shop/cart`.
pub(crate) fn sandbox(id: &str) -> Vec<u8> {
    let metadata = [field(1, "cart"), field(2, "u-1"), field(3, "shop"), number(4, 1)].concat();
    let labels = map(5, &[("app", "cart")]);
    let rest =
        [number(3, 1), number(4, 7_000_000_000), map(6, &[("left", "out")]), field(7, "runc")].concat();
    field(1, [field(1, id), field(2, metadata), rest, labels].concat())
}

/// A container of the pod `shop/cart`.
pub(crate) fn container(id: &str, name: &str, image: &str, asked: &str) -> Vec<u8> {
    let metadata = [field(1, name), number(2, 3)].concat();
    let image_spec =
        [field(1, image), map(2, &[("left", "out")]), field(18, asked), field(19, "runc")].concat();
    let labels = map(
        8,
        &[
            ("io.kubernetes.pod.name", "cart"),
            ("io.kubernetes.pod.namespace", "shop"),
            ("io.kubernetes.pod.uid", "u-1"),
            ("io.kubernetes.container.name", name),
        ],
    );
    let rest = [field(5, image), number(6, 1), number(7, 9_000_000_000), map(9, &[("left", "out")])].concat();
    field(1, [field(1, id), field(2, "s1"), field(3, metadata), field(4, image_spec), rest, labels].concat())
}

pub(crate) fn image(id: &str, tags: &[&str]) -> Vec<u8> {
    let tags: Vec<u8> = tags.iter().flat_map(|tag| field(2, tag)).collect();
    field(1, [field(1, id), tags, number(4, 12_345)].concat())
}
