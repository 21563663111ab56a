//! Listing, and watching from there, for as long as it is asked for.
//!
//! ```text
//!            no version            a version
//! start --> list ------------------> watch --- ends in time, cut off, silent --+
//!             ^  stream of objects     |  ^                                    |
//!             |  or pages              |  +------- from the last version ------+
//!             +------ 410 -------------+
//! ```

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use http::Method;
use tokio::time::{sleep, timeout};

use crate::error::Status;
use crate::lines::Lines;
use crate::objects::{Frame, frame, meta, page};
use crate::pause::fraction;
use crate::server::{ANSWER, named};
use crate::{ApiError, Change, ErrorKind, Health, Pause, Server};

/// What is followed.
#[derive(Debug, Clone)]
pub struct Resource {
    /// In metrics and messages: `pods`.
    pub name: &'static str,
    /// Where the API server has it: `/api/v1/pods`.
    pub path: String,
    /// Only what fits it: `spec.nodeName=a`.
    pub field_selector: Option<String>,
    /// Whether the server has it in its cache: lists may then come from there, and bookmarks come.
    pub cached: bool,
    /// Objects in a page.
    pub page: u32,
    /// How long a watch lasts, in seconds; up to half of it more, at random.
    pub watch: u64,
    /// How long without a word before a watch is taken for dead.
    pub silence: Duration,
}

impl Resource {
    /// One that the server keeps in its cache, as it does all but events. Bookmarks come every minute.
    #[must_use]
    pub fn cached(name: &'static str, path: impl Into<String>) -> Self {
        let silence = Duration::from_secs(150);
        Resource {
            name,
            path: path.into(),
            field_selector: None,
            cached: true,
            page: 500,
            watch: 300,
            silence,
        }
    }

    /// One that the server reads from its store each time. No bookmarks: only the end of a short watch tells that the
    /// connection lives.
    #[must_use]
    pub fn uncached(name: &'static str, path: impl Into<String>) -> Self {
        let (watch, silence) = (60, Duration::from_secs(105));
        Resource { cached: false, watch, silence, ..Resource::cached(name, path) }
    }

    /// Only objects whose fields fit.
    #[must_use]
    pub fn only(self, selector: impl Into<String>) -> Self {
        Resource { field_selector: Some(selector.into()), ..self }
    }
}

/// Who is told. Calls come from one task, in the server's order.
pub trait Listener: Send {
    /// A list begins: the objects that are told from now on, up to [`Listener::listed`], are all there are. It may come again
    /// before the end of the last one.
    fn list_begins(&mut self) {}

    /// An object, as JSON, and its resourceVersion. One that cannot be understood is the listener's to count.
    fn object(&mut self, change: Change, object: &str, version: &str);

    /// The list is whole, and true as of this version.
    fn listed(&mut self, version: &str);

    /// Everything up to this version was told.
    fn reached(&mut self, _version: &str) {}

    /// The server is heard: what was told is how it is.
    fn heard(&mut self) {}

    /// The server is not heard, for this reason: what was told may be out of date.
    fn trouble(&mut self, _why: &str) {}
}

/// A watch that ends sooner than this was not worth its request: the next one waits.
const SHORT: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Where only a person can help, who is in no hurry.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// Tells `listener` what there is and what changes, from `version` on when it is given; never ends by itself.
///
/// `health` says at any time how it goes.
pub async fn follow(
    server: &Server,
    resource: &Resource,
    version: Option<String>,
    health: &Health,
    listener: &mut dyn Listener,
) {
    let pause = Pause::new(FIRST_PAUSE, LONGEST_PAUSE);
    let refused = Pause::new(FIRST_PAUSE * 2, REFUSED_PAUSE);
    Follower {
        server,
        resource,
        health,
        listener,
        version,
        pause,
        refused,
        streams: resource.cached,
        newest: None,
        page: resource.page,
        most: resource.page,
    }
    .go_on()
    .await;
}

struct Follower<'a> {
    server: &'a Server,
    resource: &'a Resource,
    health: &'a Health,
    listener: &'a mut dyn Listener,
    /// The version that was reached; none before a list and after 410.
    version: Option<String>,
    pause: Pause,
    refused: Pause,
    /// Whether the server can send a list as a stream.
    streams: bool,
    /// The newest version ever reached: a list from a cache must not be older.
    newest: Option<String>,
    /// Objects in a page: fewer while they are very large ...
    page: u32,
    /// ... and no more than this until a list is whole.
    most: u32,
}

/// Pages beyond so many bytes are too large.
const LARGE_PAGE: usize = 4 << 20;

impl Follower<'_> {
    async fn go_on(&mut self) {
        loop {
            let (begun, watched) = (Instant::now(), self.version.is_some() || self.streams);
            let done = match self.version.take() {
                Some(version) => self.watch(version).await,
                None if self.streams => self.stream().await,
                None => self.list().await,
            };
            let wait = match done {
                Ok(()) if watched && begun.elapsed() < SHORT => Some(self.pause.next(None)),
                Ok(()) => None,
                Err(error) => self.failed(&error),
            };
            if let Some(wait) = wait {
                sleep(wait).await;
            }
        }
    }

    /// What to do after an error; the pause before doing it.
    fn failed(&mut self, error: &ApiError) -> Option<Duration> {
        match &error.kind {
            ErrorKind::Gone(_) => {
                tracing::info!(resource = self.resource.name, %error, "listing again");
                self.newest = self.version.take().or(self.newest.take());
                return Some(self.pause.next(error.retry_after));
            }
            // A server that is too old to stream, or has it switched off.
            ErrorKind::Refused(400 | 422, _) if self.streams && self.version.is_none() => {
                self.streams = false;
                return None;
            }
            // Asked for a list that is newer than what this server has: it was restored, or lags far behind. What it has
            // is the truth then.
            ErrorKind::Failed(504, _) if self.version.is_none() && self.newest.take().is_some() => {
                return Some(self.pause.next(error.retry_after));
            }
            // What cannot be read would come again and again.
            ErrorKind::Garbled(_) => (self.version, self.newest) = (None, None),
            ErrorKind::TooLarge(_) if self.page > 1 => {
                self.most = (self.page / 4).max(1);
                self.page = self.most;
                return None;
            }
            _ => {}
        }
        let remedy = error.kind.remedy();
        self.listener.trouble(&error.to_string());
        if self.health.trouble(format!("{error}; {remedy}")) {
            tracing::warn!(resource = self.resource.name, %error, remedy, "what is known stays as it is for now");
        }
        let asks_for_a_person = matches!(
            error.kind,
            ErrorKind::Forbidden(_) | ErrorKind::NotFound(_) | ErrorKind::Unauthorized(_)
        );
        let pause = if asks_for_a_person { &mut self.refused } else { &mut self.pause };
        Some(pause.next(error.retry_after))
    }

    fn well(&mut self) {
        if let Some(trouble) = self.health.current_trouble() {
            tracing::info!(resource = self.resource.name, was = trouble, "the API server answers again");
        }
        self.heard();
    }

    fn heard(&mut self) {
        self.health.heard();
        self.listener.heard();
    }

    /// Every page of a list.
    async fn list(&mut self) -> Result<(), ApiError> {
        let mut more: Option<String> = None;
        self.listener.list_begins();
        loop {
            let path = self.list_path(more.as_deref());
            let body = self.server.get_page(self.resource.name, &path, self.page).await?;
            let garbled = |why| ApiError::new(named("GET", &path), ErrorKind::Garbled(why));
            let body = String::from_utf8_lossy(&body);
            let page = page(body.as_bytes()).map_err(garbled)?;
            if page.metadata.resource_version.is_empty() {
                return Err(garbled("a list without a resourceVersion".to_owned()));
            }
            for object in page.items.iter().flatten() {
                let version = meta(object).map_err(garbled)?.resource_version;
                self.listener.object(Change::Listed, object.get(), &version);
            }
            if body.len() > LARGE_PAGE {
                self.page = (self.page / 2).max(1);
            } else {
                self.page = self.most.min(self.page.saturating_mul(2));
            }
            match page.metadata.more.filter(|more| !more.is_empty()) {
                Some(next) => more = Some(next),
                None => {
                    self.finish_list(page.metadata.resource_version);
                    return Ok(());
                }
            }
            self.well();
        }
    }

    fn finish_list(&mut self, version: String) {
        self.most = self.resource.page;
        self.listener.listed(&version);
        self.well();
        self.health.listed();
        self.arrive(version);
    }

    fn arrive(&mut self, version: String) {
        self.newest = None;
        self.version = Some(version);
        self.pause.reset();
        self.refused.reset();
    }

    fn list_path(&self, more: Option<&str>) -> String {
        let mut path = self.path();
        let _ = write!(path, "limit={}", self.page);
        match (more, &self.newest) {
            (Some(more), _) => {
                let _ = write!(path, "&continue={}", encoded(more));
            }
            (None, Some(newest)) if self.resource.cached => {
                let _ = write!(path, "&resourceVersion={newest}&resourceVersionMatch=NotOlderThan");
            }
            // Whatever the server's cache has; the watch that follows brings what came since.
            (None, _) if self.resource.cached => path.push_str("&resourceVersion=0"),
            (None, _) => {}
        }
        path
    }

    fn path(&self) -> String {
        let mut path = format!("{}?", self.resource.path);
        if let Some(selector) = &self.resource.field_selector {
            let _ = write!(path, "fieldSelector={}&", encoded(selector));
        }
        path
    }

    /// A list as the beginning of a watch, which then goes on.
    async fn stream(&mut self) -> Result<(), ApiError> {
        let begin = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=";
        let newest = self.newest.clone().unwrap_or_default();
        let path = format!("{}{begin}{newest}", self.watch_path());
        self.listener.list_begins();
        self.read(path, None).await
    }

    async fn watch(&mut self, version: String) -> Result<(), ApiError> {
        let path = format!("{}&resourceVersion={}", self.watch_path(), encoded(&version));
        // What is not told any more is told by the next watch.
        self.version = Some(version.clone());
        self.read(path, Some(version)).await
    }

    fn watch_path(&self) -> String {
        let seconds = self.resource.watch as f64 * (1.0 + fraction() / 2.0);
        format!("{}watch=1&allowWatchBookmarks=true&timeoutSeconds={}", self.path(), seconds as u64)
    }

    /// Reads a watch to its end. Without a version it begins with everything there is.
    async fn read(&mut self, path: String, version: Option<String>) -> Result<(), ApiError> {
        let name = self.resource.name;
        let what = named("GET", &path);
        let counters = self.server.counters();
        let broke = |kind: ErrorKind| {
            counters.failed("watch", name, &kind);
            ApiError::new(&what, kind)
        };
        let answer = timeout(ANSWER, self.server.send(&Method::GET, name, &path, None))
            .await
            .map_err(|_| broke(ErrorKind::Silent(ANSWER)))??;
        let silence = self.resource.silence;
        let mut lines = Lines::new(answer.into_body());
        let mut listing = version.is_none();
        if !listing {
            // The server answers once it has the watch.
            self.well();
        }
        loop {
            let line = timeout(silence, lines.next()).await.map_err(|_| broke(ErrorKind::Silent(silence)))?;
            let Some(line) = line.map_err(|why| broke(ErrorKind::Unreachable(why)))? else {
                return if listing {
                    Err(broke(ErrorKind::Unreachable("the list ended before its end".to_owned())))
                } else {
                    Ok(())
                };
            };
            if line.is_empty() {
                continue;
            }
            // The API server sends nothing but UTF-8. If anything ever does, the object is told all the same.
            let line = String::from_utf8_lossy(line);
            match frame(line.as_bytes()).map_err(|why| broke(ErrorKind::Garbled(why)))? {
                Frame::Change(change, object, version) => {
                    let change = if listing { Change::Listed } else { change };
                    if !listing {
                        self.must_not_be_older(&version).map_err(&broke)?;
                    }
                    self.listener.object(change, object.get(), &version);
                    if !listing {
                        self.arrive(version);
                    }
                }
                Frame::Bookmark { version, initial_end: true } if listing => {
                    listing = false;
                    self.finish_list(version);
                }
                Frame::Bookmark { version, .. } if !listing => {
                    self.must_not_be_older(&version).map_err(&broke)?;
                    self.listener.reached(&version);
                    self.arrive(version);
                }
                Frame::Bookmark { .. } => {}
                Frame::Error(status) => return Err(self.ended(&what, status)),
            }
            if !listing {
                self.heard();
            }
        }
    }

    /// A server with a cache lets a watch wait for a version that it does not have yet, also when it was restored from a backup
    /// and counts from there: what it says next then has a version that lies behind.
    fn must_not_be_older(&mut self, version: &str) -> Result<(), ErrorKind> {
        let number = |version: &str| version.parse::<u64>().ok();
        let before = self.version.as_deref().and_then(number);
        if self.resource.cached
            && number(version).is_some_and(|now| before.is_some_and(|before| now < before))
        {
            (self.version, self.newest) = (None, None);
            let why =
                format!("the server is at version {version}, and was further before: restored, it seems");
            return Err(ErrorKind::Gone(why));
        }
        Ok(())
    }

    /// The server ends a watch with a reason.
    fn ended(&self, what: &str, status: Status) -> ApiError {
        let retry_after = status.retry_after();
        let kind = ErrorKind::of(status.code, status.message);
        self.server.counters().failed("watch", self.resource.name, &kind);
        ApiError { what: what.to_owned(), kind, retry_after }
    }
}

/// As a value in a query.
pub(crate) fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte));
            }
            other => {
                let _ = write!(text, "%{other:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn a_value_stays_one_value_in_a_query() {
        assert_eq!(encoded("spec.nodeName=a&b c"), "spec.nodeName%3Da%26b%20c");
    }
}
