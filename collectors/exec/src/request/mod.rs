//! Who asked the API server for a session: requests as webhooks and audit logs tell them, and which session each explains.
//!
//! Guarantee: a request explains at most one session, and a session is called out-of-band only when whoever tells of requests
//! was heard all the while and told of none that fits. What a request says was sent by users: it is bounded when it is read,
//! and shown by nobody as it is.

mod attributor;
mod config;
mod event;
mod fits;
mod inbox;
mod log;
mod marker;
mod path;
mod review;

use serde::{Deserialize, Serialize};

pub(crate) use attributor::{Attributor, Verdict};
pub use config::RequestsConfig;
pub use event::events;
pub(crate) use fits::is_place;
use inbox::Inbox;
pub use inbox::{Refusal, Requests};
pub use log::AuditLog;
pub(crate) use marker::Marker;
pub use review::review;

/// The longest text of a request that is kept, in bytes, the most texts of a list, and the most of all of them.
const LONGEST: usize = 4 << 10;
const MOST: usize = 256;
const WHOLE: usize = 32 << 10;
/// As much of a command as is kept: more than the probe tells of one.
const COMMAND: usize = 16 << 10;

/// Where a request was heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The environment of the session's first program.
    Marker,
    /// An admission review.
    Webhook,
    /// The API server's audit log, read or sent.
    AuditLog,
}

impl Source {
    pub(crate) const ALL: [Source; 3] = [Source::Marker, Source::Webhook, Source::AuditLog];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Marker => "marker",
            Source::Webhook => "webhook",
            Source::AuditLog => "audit-log",
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// To run a command in a container: `pods/exec`.
    #[default]
    Exec,
    /// To be with a container's first process: `pods/attach`.
    Attach,
    /// A container more in a running pod: `pods/ephemeralcontainers`.
    Debug,
    /// To run a command past all this, by kubelet: `nodes/proxy`.
    Proxy,
}

impl Asked {
    /// The resource that is asked for.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Asked::Exec => "pods/exec",
            Asked::Attach => "pods/attach",
            Asked::Debug => "pods/ephemeralcontainers",
            Asked::Proxy => "nodes/proxy",
        }
    }
}

/// Somebody, as the API server knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// The name: `ana@example.org`, `system:serviceaccount:shop:robot`.
    #[serde(rename = "username")]
    pub name: String,
    /// The uid, where there is one.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// What somebody asked the API server for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Where it was heard of.
    pub sources: Vec<Source>,
    /// The uid of the admission review, or the id in the audit log: the same when the same is told twice.
    pub ids: Vec<String>,
    /// What was asked for.
    pub asked: Asked,
    /// When, nanoseconds since the Unix epoch.
    pub at: i64,
    /// When it was over, where that is known.
    pub over: Option<i64>,
    /// As whom it was done.
    pub user: User,
    /// Who it was really, when somebody acted as another.
    pub impersonator: Option<User>,
    /// Addresses it came from, the nearest to the user first.
    pub source_ips: Vec<String>,
    /// The program that asked, as it says itself.
    pub user_agent: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Uid of the pod, where it is known.
    pub pod_uid: String,
    /// The container; empty: the pod's only one.
    pub container: String,
    /// The command; none when it is not told.
    pub command: Option<Vec<String>>,
    /// Whether with a terminal, where that is told.
    pub tty: Option<bool>,
    /// Whether the API server did not do it.
    pub was_refused: bool,
}

impl Request {
    /// As much of it as is kept.
    fn bounded(mut self) -> Request {
        let mut room = Room(WHOLE);
        let Request { user, impersonator, .. } = &mut self;
        for user in [Some(user), impersonator.as_mut()].into_iter().flatten() {
            room.cut(&mut user.name);
            room.cut(&mut user.uid);
            room.cut_all(&mut user.groups);
        }
        let texts = [
            &mut self.namespace,
            &mut self.pod,
            &mut self.pod_uid,
            &mut self.container,
            &mut self.user_agent,
        ];
        texts.into_iter().for_each(|text| room.cut(text));
        room.cut_all(&mut self.ids);
        room.cut_all(&mut self.source_ips);
        if let Some(command) = &mut self.command {
            let mut room = Room(COMMAND);
            command.retain(|argument| room.takes(argument));
            if let Some(last) = command.last_mut() {
                cut(last, COMMAND);
            }
        }
        self
    }
}

/// How many bytes more of a request are kept.
struct Room(usize);

impl Room {
    fn cut(&mut self, text: &mut String) {
        cut(text, LONGEST.min(self.0));
        self.0 -= text.len();
    }

    fn cut_all(&mut self, texts: &mut Vec<String>) {
        texts.truncate(MOST);
        texts.iter_mut().for_each(|text| self.cut(text));
        texts.retain(|text| !text.is_empty());
    }

    /// Whether this argument begins where there is room still.
    fn takes(&mut self, argument: &str) -> bool {
        let takes = self.0 > 0;
        self.0 = self.0.saturating_sub(argument.len() + 1);
        takes
    }
}

/// What another agent has heard, as it passes it on: a list in JSON.
///
/// # Errors
/// What is wrong with it.
pub fn passed_on(bytes: &[u8]) -> Result<Vec<Request>, serde_json::Error> {
    let requests: Vec<Request> = serde_json::from_slice(bytes)?;
    Ok(requests.into_iter().map(Request::bounded).collect())
}

/// Cuts a text off at a character.
fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

/// How far it is known at whose request a session came about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// Nobody is asked: it is no session of a pod's, or not one that is asked for, or nobody tells.
    #[default]
    Unasked,
    /// Not yet.
    Awaited,
    /// It is known.
    Known,
    /// No request was told that explains it.
    OutOfBand,
    /// It cannot be said.
    Unknown,
}

impl Known {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Known::Unasked => "unasked",
            Known::Awaited => "awaited",
            Known::Known => "known",
            Known::OutOfBand => "out-of-band",
            Known::Unknown => "unknown",
        }
    }
}

/// At whose request a session came about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attribution {
    /// How far it is known.
    pub known: Known,
    /// The request.
    pub request: Option<Request>,
    /// Whether another user's request would fit as well.
    pub is_ambiguous: bool,
    /// Why it is not known.
    pub reason: String,
    /// How many documents said so.
    pub told: u32,
}

impl Attribution {
    /// Who it was, if that is known.
    #[must_use]
    pub fn user(&self) -> Option<&User> {
        self.request.as_ref().map(|request| &request.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_of_a_request_is_kept_than_there_is_room_for() {
        let long = "é".repeat(9000);
        let many = vec![long.clone(); 300];
        let user = User { name: long.clone(), uid: long.clone(), groups: many.clone() };
        let request = Request {
            ids: many.clone(),
            user: user.clone(),
            impersonator: Some(user),
            source_ips: many.clone(),
            user_agent: long.clone(),
            command: Some(many),
            ..Request::default()
        };
        let kept = serde_json::to_vec(&request.bounded()).expect("JSON").len();
        assert!((COMMAND..WHOLE + 2 * COMMAND).contains(&kept), "{kept}");
        let tiny = Request { command: Some(vec![String::new(); 1 << 20]), ..Request::default() }.bounded();
        assert_eq!(tiny.command.map(|command| command.len()), Some(COMMAND));
        let usual = Request { command: Some(vec!["sh".to_owned(); 3]), ..Request::default() };
        assert_eq!(usual.clone().bounded(), usual);
    }
}
