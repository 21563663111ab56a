//! What can go wrong with a request, and what to do about it.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

/// A request that was not answered as it should be.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {kind}")]
pub struct ApiError {
    /// The request: method and path.
    pub what: String,
    /// What happened.
    pub kind: ErrorKind,
    /// When the server wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// What happened to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// Where the server is, or who we are, cannot be told: kubeconfig, service account.
    NotConfigured(String),
    /// What is said of that cannot be used: a file that is not there, or is no kubeconfig.
    Unusable(String),
    /// Nobody answers.
    Unreachable(String),
    /// Who answers does not prove to be the server: its certificate.
    Untrusted(String),
    /// Nothing came for so long.
    Silent(Duration),
    /// The server does not know who we are (401).
    Unauthorized(String),
    /// We may not (403).
    Forbidden(String),
    /// It is not there (404).
    NotFound(String),
    /// Somebody else was faster (409).
    Conflict(String),
    /// The server has forgotten that version (410).
    Gone(String),
    /// The server asks for patience (429).
    TooMany(String),
    /// The server does not take it (any other 4xx).
    Refused(u16, String),
    /// The server failed (5xx).
    Failed(u16, String),
    /// The answer is longer than so many bytes.
    TooLarge(usize),
    /// What came is not what the API says.
    Garbled(String),
}

/// The part of a `Status` object that says why.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) message: String,
    pub(crate) code: u16,
    pub(crate) details: Option<Details>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Details {
    pub(crate) retry_after_seconds: u64,
}

impl Status {
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }
}

impl ErrorKind {
    /// By the status code of an answer and what its body says.
    #[must_use]
    pub fn of(code: u16, message: String) -> Self {
        match code {
            401 => ErrorKind::Unauthorized(message),
            403 => ErrorKind::Forbidden(message),
            404 => ErrorKind::NotFound(message),
            409 => ErrorKind::Conflict(message),
            410 => ErrorKind::Gone(message),
            429 => ErrorKind::TooMany(message),
            400..=499 => ErrorKind::Refused(code, message),
            _ => ErrorKind::Failed(code, message),
        }
    }

    /// The label of metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            ErrorKind::NotConfigured(_) => "not_configured",
            ErrorKind::Unusable(_) => "unusable",
            ErrorKind::Unreachable(_) => "unreachable",
            ErrorKind::Untrusted(_) => "untrusted",
            ErrorKind::Silent(_) => "silent",
            ErrorKind::Unauthorized(_) => "unauthorized",
            ErrorKind::Forbidden(_) => "forbidden",
            ErrorKind::NotFound(_) => "not_found",
            ErrorKind::Conflict(_) => "conflict",
            ErrorKind::Gone(_) => "gone",
            ErrorKind::TooMany(_) => "too_many_requests",
            ErrorKind::Refused(..) => "refused",
            ErrorKind::Failed(..) => "failed",
            ErrorKind::TooLarge(_) => "too_large",
            ErrorKind::Garbled(_) => "garbled",
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            ErrorKind::NotConfigured(_) => {
                "mount a service account's token, or set kubernetes.api.kubeconfig"
            }
            ErrorKind::Unusable(_) => {
                "mend what is named, or name another: kubernetes.api, kubernetes.kubelet"
            }
            ErrorKind::Unreachable(_) => {
                "see that the address is right, and that the network lets us through"
            }
            ErrorKind::Untrusted(why) => of_certificate(why),
            ErrorKind::Unauthorized(_) => "see that the token or certificate is valid for this cluster",
            ErrorKind::Forbidden(_) => {
                "bind the role in deploy/kubernetes/rbac.yaml to the agent's service account"
            }
            ErrorKind::NotFound(_) => {
                "see that the server is a Kubernetes API server that serves this resource"
            }
            ErrorKind::Garbled(_) => "see that nothing stands between the agent and the API server",
            ErrorKind::Silent(_)
            | ErrorKind::Conflict(_)
            | ErrorKind::Gone(_)
            | ErrorKind::TooLarge(_)
            | ErrorKind::TooMany(_)
            | ErrorKind::Refused(..)
            | ErrorKind::Failed(..) => "nothing: it is tried again",
        }
    }
}

/// What to do about a certificate that is not believed, by the words in which that is said.
fn of_certificate(why: &str) -> &'static str {
    let says = |words: &str| why.contains(words);
    if says("expired") || says("not valid yet") || says("Expired") || says("NotValidYet") {
        "renew the server's certificate, and see that both clocks are right"
    } else if says("not valid for name") || says("NotValidForName") {
        "ask it by a name or address that is in its certificate: `server` in the kubeconfig, or kubernetes.kubelet.url"
    } else {
        "give the authority that signs its certificate: `certificate-authority` in the kubeconfig, the service account's \
         ca.crt, or kubernetes.kubelet.ca_file; if that is right, somebody stands between"
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::NotConfigured(why) => write!(f, "no API server is configured: {why}"),
            ErrorKind::Unusable(why) => write!(f, "the way to the API server cannot be used: {why}"),
            ErrorKind::Unreachable(why) => write!(f, "the API server cannot be reached: {why}"),
            ErrorKind::Untrusted(why) => write!(f, "who answers does not prove to be the API server: {why}"),
            ErrorKind::Silent(time) => write!(f, "the API server said nothing for {} s", time.as_secs()),
            ErrorKind::Unauthorized(why) => write!(f, "the API server does not know us (401): {why}"),
            ErrorKind::Forbidden(why) => write!(f, "the API server does not let us (403): {why}"),
            ErrorKind::NotFound(why) => write!(f, "not found (404): {why}"),
            ErrorKind::Conflict(why) => write!(f, "changed by somebody else (409): {why}"),
            ErrorKind::Gone(why) => write!(f, "no longer known to the API server (410): {why}"),
            ErrorKind::TooMany(why) => write!(f, "the API server asks for patience (429): {why}"),
            ErrorKind::Refused(code, why) => write!(f, "refused by the API server ({code}): {why}"),
            ErrorKind::Failed(code, why) => write!(f, "the API server failed ({code}): {why}"),
            ErrorKind::TooLarge(most) => write!(f, "the API server answers more than {} MiB", most >> 20),
            ErrorKind::Garbled(why) => write!(f, "not what an API server answers: {why}"),
        }
    }
}

impl ApiError {
    pub(crate) fn new(what: impl Into<String>, kind: ErrorKind) -> Self {
        ApiError { what: what.into(), kind, retry_after: None }
    }

    /// From an answer that is no success. Bodies that are no `Status` are quoted by their beginning.
    pub(crate) fn of_answer(
        what: impl Into<String>,
        code: StatusCode,
        retry_after: Option<Duration>,
        body: &[u8],
    ) -> Self {
        const QUOTED: usize = 200;
        let status: Option<Status> = serde_json::from_slice(body).ok();
        let told = status.as_ref().and_then(Status::retry_after);
        let message = match status {
            Some(status) if !status.message.is_empty() => status.message,
            _ => String::from_utf8_lossy(&body[..body.len().min(QUOTED)]).trim().escape_debug().to_string(),
        };
        ApiError {
            what: what.into(),
            kind: ErrorKind::of(code.as_u16(), message),
            retry_after: retry_after.or(told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_why_and_when_to_ask_again() {
        let body = br#"{"kind":"Status","message":"slow down","code":429,"details":{"retryAfterSeconds":7}}"#;
        let error = ApiError::of_answer("GET /x", StatusCode::TOO_MANY_REQUESTS, None, body);
        assert_eq!(error.kind, ErrorKind::TooMany("slow down".to_owned()));
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
        let untrusted = |why: &str| ErrorKind::Untrusted(format!("invalid peer certificate: {why}")).remedy();
        assert!(untrusted("UnknownIssuer").contains("certificate-authority"));
        assert!(untrusted("certificate expired: verification time 1 (UNIX)").contains("clocks"));
        assert!(untrusted("certificate not valid for name \"a\"").contains("`server` in the kubeconfig"));
        let proxy = ApiError::of_answer("GET /x", StatusCode::BAD_GATEWAY, None, b"<html>\x1b[2J</html>");
        assert_eq!(proxy.to_string(), "GET /x: the API server failed (502): <html>\\u{1b}[2J</html>");
    }
}
