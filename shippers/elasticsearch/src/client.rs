//! Requests over HTTP: the only file that knows how they are made.
//!
//! Guarantee: no answer is waited for longer than configured, none is read beyond a bound, and redirects are not followed.

use std::error::Error as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::tls::{Certificate, Identity};
use reqwest::{Client, Method, Url};

use crate::{ElasticsearchConfig, ElasticsearchError, auth};

/// An answer that is longer is not the engine's.
const LONGEST_ANSWER: usize = 64 << 20;

const CONNECT: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) method: Method,
    /// Path and query, without a slash in front.
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
    pub(crate) kind: &'static str,
    pub(crate) gzip: bool,
}

impl Question {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        let body = Vec::new();
        Question { method: Method::GET, path: path.into(), body, kind: "application/json", gzip: false }
    }

    pub(crate) fn send(method: Method, path: impl Into<String>, body: &serde_json::Value) -> Self {
        let body = body.to_string().into_bytes();
        Question { method, path: path.into(), body, kind: "application/json", gzip: false }
    }
}

/// What somebody answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The login or a file of it cannot be used: nothing was sent.
    Login(String),
    /// Who answers does not prove to be the engine.
    Certificate(String),
    /// No connection, or it broke.
    Connection(String),
    /// No answer in time.
    Timeout(String),
    /// An answer that no engine gives.
    Answer(String),
}

/// Makes requests with what the files of the configuration hold at the time.
#[derive(Debug)]
pub(crate) struct Connector {
    config: ElasticsearchConfig,
    /// The client, and what its files held when it was made.
    client: Mutex<(Client, Vec<Vec<u8>>)>,
}

impl Connector {
    pub(crate) fn new(config: &ElasticsearchConfig) -> Result<Self, ElasticsearchError> {
        // Whoever was first has installed the same one: there is no other in the tree.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = (make(config)?, files(config));
        Ok(Connector { config: config.clone(), client: Mutex::new(made) })
    }

    /// After a connection failed: certificates that were exchanged meanwhile are used from now on.
    pub(crate) fn renew(&self) {
        let now = files(&self.config);
        let mut client = self.client.lock();
        if client.1 != now {
            match make(&self.config) {
                Ok(made) => *client = (made, now),
                Err(error) => tracing::warn!("elasticsearch: {error}"),
            }
        }
    }

    pub(crate) async fn ask(&self, node: &Url, question: Question) -> Result<Answer, Failure> {
        let login =
            auth::header(self.config.auth.as_ref()).map_err(|error| Failure::Login(error.to_string()))?;
        let url = format!("{}/{}", node.as_str().trim_end_matches('/'), question.path);
        let client = self.client.lock().0.clone();
        let mut request = client.request(question.method, url);
        if let Some(login) = login {
            request = request.header(AUTHORIZATION, login);
        }
        if !question.body.is_empty() {
            request = request.header(CONTENT_TYPE, question.kind);
        }
        if question.gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        let answer = request.body(question.body).send().await.map_err(failure)?;
        read(answer).await
    }
}

async fn read(mut answer: reqwest::Response) -> Result<Answer, Failure> {
    let status = answer.status().as_u16();
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| pause(value.to_str().ok()?));
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(failure)? {
        if body.len() + piece.len() > LONGEST_ANSWER {
            return Err(Failure::Answer(format!("an answer of more than {LONGEST_ANSWER} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer { status, retry_after, body })
}

/// `Retry-After`: seconds, or a date.
fn pause(text: &str) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(600);
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let left = date.as_millisecond() - jiff::Timestamp::now().as_millisecond();
    Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(LONGEST))
}

fn failure(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    if error.is_timeout() {
        Failure::Timeout(text)
    } else if text.contains("invalid peer certificate") {
        Failure::Certificate(text)
    } else {
        Failure::Connection(text)
    }
}

fn make(config: &ElasticsearchConfig) -> Result<Client, ElasticsearchError> {
    let timeout = Duration::from_millis(config.timeout_ms);
    let mut client = Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("taffrail/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout)
        .connect_timeout(CONNECT.min(timeout))
        .pool_idle_timeout(Duration::from_secs(55))
        .pool_max_idle_per_host(config.requests as usize)
        .tls_danger_accept_invalid_certs(config.tls.insecure_skip_verify);
    if let Some(path) = &config.tls.ca_file {
        let authorities =
            Certificate::from_pem_bundle(&bytes(path)?).map_err(|error| client_error(&error))?;
        client = client.tls_certs_only(authorities);
    }
    if let (Some(certificate), Some(key)) = (&config.tls.certificate_file, &config.tls.key_file) {
        let mut both = bytes(key)?;
        both.push(b'\n');
        both.extend(bytes(certificate)?);
        client = client.identity(Identity::from_pem(&both).map_err(|error| client_error(&error))?);
    }
    client.build().map_err(|error| client_error(&error))
}

fn client_error(error: &reqwest::Error) -> ElasticsearchError {
    let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
    ElasticsearchError::Client(format!("{error}{cause}"))
}

fn bytes(path: &Path) -> Result<Vec<u8>, ElasticsearchError> {
    fs::read(path).map_err(ElasticsearchError::file(path))
}

/// What the files of certificates hold; nothing for those that cannot be read.
fn files(config: &ElasticsearchConfig) -> Vec<Vec<u8>> {
    let tls = &config.tls;
    let named = [&tls.ca_file, &tls.certificate_file, &tls.key_file].into_iter().flatten();
    named.map(|path| fs::read(path).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_that_is_asked_for_is_seconds_or_a_date() {
        for (text, expected) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("999999999", Some(600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(pause(text).map(|pause| pause.as_secs()), expected, "{text}");
        }
    }
}
