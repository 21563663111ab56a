//! The term of the agent that watches: from the position on, and from the spool's end if that is further; paused while the
//! spool is full; all over when the API server turns out to be older than what it has told before.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use serde_json::Value;
use taffrail_api::{ApiError, Change, ErrorKind, Health, Listener, Pause, Resource, Server, follow};
use taffrail_spool::{Refusal, Spool};
use tokio::time::{sleep, timeout};

use crate::owners;
use crate::room::{Halt, Room};
use crate::status::Status;

const PATH: &str = "/api/v1/events";
/// Objects in a page: few, since somebody may have made large ones.
const PAGE: u32 = 100;
/// How often the server is asked whether it is older than what it told.
const LOOK_BACK: Duration = Duration::from_secs(300);
/// How long such an answer may take.
const ANSWER: Duration = Duration::from_secs(20);
/// How often what waits is looked at.
const TICK: Duration = Duration::from_millis(50);
const IDLE_TICK: Duration = Duration::from_secs(1);
const ROOM: Duration = Duration::from_millis(200);
/// Pods asked for at once.
const ASKING: usize = 4;

/// What a term works with.
pub(crate) struct Watch {
    pub(crate) server: Server,
    pub(crate) spool: Arc<Spool>,
    pub(crate) status: Arc<Status>,
    pub(crate) health: Health,
    pub(crate) room: Mutex<Room>,
    /// Everything up to this version is stored, says the Lease.
    pub(crate) floor: Mutex<Option<u64>>,
}

struct Ear<'a>(&'a Mutex<Room>);

impl Listener for Ear<'_> {
    fn list_begins(&mut self) {
        self.0.lock().list_begins();
    }

    fn object(&mut self, change: Change, object: &str, version: &str) {
        self.0.lock().observe(change, object, version);
    }

    fn listed(&mut self, version: &str) {
        self.0.lock().listed(version);
    }
}

/// Why watching is put off.
struct Put {
    why: String,
    /// For how long the server asks.
    asked: Option<Duration>,
}

impl From<String> for Put {
    fn from(why: String) -> Self {
        Put { why, asked: None }
    }
}

impl From<ApiError> for Put {
    fn from(error: ApiError) -> Self {
        Put { why: format!("{error}; {}", error.kind.remedy()), asked: error.retry_after }
    }
}

impl Watch {
    /// Everything up to this version is stored.
    pub(crate) fn position(&self) -> Option<u64> {
        let position = (*self.floor.lock()).max(self.spool.stored());
        self.status.view.lock().position = position;
        position
    }

    /// Watches; never ends by itself.
    pub(crate) async fn run(&self) {
        let mut pause = Pause::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            self.room.lock().begin();
            match self.start().await {
                Ok(version) => {
                    pause.reset();
                    self.status.set_trouble("watch", None);
                    self.from(version).await;
                }
                Err(Put { why, asked }) => {
                    self.status.set_trouble("watch", Some(format!("events are not watched: {why}")));
                    sleep(pause.next(asked)).await;
                }
            }
        }
    }

    /// The version to go on from, if the server still counts as it did.
    async fn start(&self) -> Result<Option<u64>, Put> {
        let start = (*self.floor.lock()).max(self.spool.newest());
        match start {
            Some(start) if self.is_older_than(start).await? => {
                self.reset(start)?;
                Ok(None)
            }
            start => Ok(start),
        }
    }

    fn reset(&self, reached: u64) -> Result<(), String> {
        tracing::warn!(
            reached,
            "the API server is older than what it told before: restored, it seems; all events are listed"
        );
        self.status.resets.add(1);
        self.spool.reset().map_err(|refusal| match refusal {
            Refusal::Full => "the spool is full".to_owned(),
            Refusal::Failed(error) => error.to_string(),
        })?;
        *self.floor.lock() = None;
        Ok(())
    }

    async fn is_older_than(&self, version: u64) -> Result<bool, ApiError> {
        let path = format!("{PATH}?limit=1");
        let failed = |kind| ApiError { what: format!("GET {path}"), kind, retry_after: None };
        let asked = timeout(ANSWER, self.server.get("events", &path)).await;
        let body = asked.map_err(|_| failed(ErrorKind::Silent(ANSWER)))??;
        let list: Value =
            serde_json::from_slice(&body).map_err(|error| failed(ErrorKind::Garbled(error.to_string())))?;
        let there = list.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        Ok(there.and_then(|there| there.parse::<u64>().ok()).is_some_and(|there| there < version))
    }

    /// Watches from this version, until it has to begin again.
    async fn from(&self, version: Option<u64>) {
        let resource = Resource { page: PAGE, ..Resource::uncached("events", PATH) };
        let version = version.map(|version| version.to_string());
        let mut ear = Ear(&self.room);
        tokio::select! {
            () = follow(&self.server, &resource, version, &self.health, &mut ear) => {}
            halt = self.attend() => self.sit_out(halt).await,
            reached = self.look_back() => {
                if let Err(why) = self.reset(reached) {
                    self.status.set_trouble("watch", Some(format!("events are not watched: {why}")));
                    sleep(ROOM).await;
                }
            }
        }
    }

    /// Sees to it that nothing waits for long; ends when nothing is taken any more.
    async fn attend(&self) -> Halt {
        let wake = Arc::clone(&self.room.lock().wake);
        let mut asking = FuturesUnordered::new();
        loop {
            while asking.len() < ASKING {
                let Some(pod) = self.room.lock().owners.next() else { break };
                asking.push(async { (owners::ask(&self.server, &pod).await, pod) });
            }
            let tick = if asking.is_empty() && !self.room.lock().has_waiting() { IDLE_TICK } else { TICK };
            tokio::select! {
                Some((answer, pod)) = asking.next(), if !asking.is_empty() => {
                    self.room.lock().owners.learn(pod, answer, &self.status);
                }
                () = wake.notified() => {}
                () = sleep(tick) => {}
            }
            let mut room = self.room.lock();
            room.flush();
            if let Some(halt) = room.halted() {
                return halt;
            }
        }
    }

    async fn sit_out(&self, halt: Halt) {
        match halt {
            Halt::Full => {
                self.status.full.add(1);
                let trouble = "the spool of events is full: watching goes on when the output takes some; see to the output, \
                               or raise events.spool_bytes";
                self.status.set_trouble("spool", Some(trouble.to_owned()));
                while !self.spool.has_room() {
                    sleep(ROOM).await;
                }
            }
            Halt::Disk(why) => {
                self.status.set_trouble("spool", Some(format!("events cannot be put aside: {why}")));
                sleep(Duration::from_secs(5)).await;
            }
            // The election says so in a moment.
            Halt::Deposed => sleep(Duration::from_secs(1)).await,
        }
        self.status.set_trouble("spool", None);
    }

    /// Ends when the server was found to be older than what it told.
    async fn look_back(&self) -> u64 {
        loop {
            sleep(LOOK_BACK).await;
            let Some(reached) = self.room.lock().reached() else { continue };
            match self.is_older_than(reached).await {
                Ok(true) => return reached,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, "not known whether the API server is older than what it told");
                }
            }
        }
    }
}
