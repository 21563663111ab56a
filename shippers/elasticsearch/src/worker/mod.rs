//! The thread that sends: what is due goes, what comes back is settled, sent again or kept as a dead letter.
//!
//! It sleeps while there is nothing to send. Nothing is sent before a node has said who it is and the index template is
//! in place; that is looked at again after a connection was lost, and when an index is new.

mod bury;
mod rest;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use reqwest::Method;
use taffrail_record::{Batch, Payload};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::ElasticsearchConfig;
use crate::answer::{FILTER, Verdict, Whole, read};
use crate::bulk;
use crate::client::{Answer, Connector, Failure, Question};
use crate::dead::DeadLetters;
use crate::metrics::Counters;
use crate::nodes::{Backoff, Nodes};
use crate::reason::Reason;
use crate::setup::{Contact, Refusal, contact};
use crate::size::Size;
use crate::store::{Doc, Store};
use crate::trouble::Troubles;
use bury::Dead;
use rest::subject;

/// Between two looks at the template because of indices that are new: events may have any time.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Whole requests that an engine refuses because of a document in them, when that is alone.
const FAULTS_OF_ONE: [&str; 2] = ["action_request_validation_exception", "illegal_argument_exception"];

/// The subject of what concerns all requests.
const REQUESTS: &str = "requests";
const PAYLOAD: &str = "payload";

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// To be stored.
    Ship(Batch),
    /// To end when all is stored, at this time at the latest.
    Drain(Instant),
}

/// What has come of something that was under way.
enum Landed {
    Bulk(Flight, Result<Answer, Failure>),
    Contact(usize, Result<Contact, Refusal>),
}

struct Flight {
    node: usize,
    docs: Vec<Doc>,
    weight: u64,
    since: Instant,
}

/// The sending side.
pub(crate) struct Worker {
    pub(crate) config: Arc<ElasticsearchConfig>,
    pub(crate) connector: Arc<Connector>,
    pub(crate) nodes: Nodes,
    pub(crate) orders: UnboundedReceiver<Order>,
    pub(crate) store: Store,
    pub(crate) size: Size,
    pub(crate) dead: DeadLetters,
    pub(crate) troubles: Troubles,
    pub(crate) counters: Arc<Counters>,
    pub(crate) state: State,
}

/// What it does at the moment.
pub(crate) struct State {
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    /// Whether nodes and template are known to be well.
    contacted: bool,
    /// When that was found out last.
    contacted_at: Option<Instant>,
    /// No requests before.
    paused_until: Option<Instant>,
    backoff: Backoff,
    /// Documents that rest because of their index, and until when.
    resting: Vec<(Instant, Vec<Doc>)>,
    rests: HashMap<Arc<str>, Backoff>,
    /// Letters that could not be written.
    unwritten: Vec<Dead>,
    write_at: Option<Instant>,
    /// Since when the first of the queue waits.
    waiting: Option<Instant>,
    drain_by: Option<Instant>,
    longest: Duration,
}

impl State {
    pub(crate) fn new(longest: Duration) -> Self {
        State {
            flights: FuturesUnordered::new(),
            contacted: false,
            contacted_at: None,
            paused_until: None,
            backoff: Backoff::new(longest),
            resting: Vec::new(),
            rests: HashMap::new(),
            unwritten: Vec::new(),
            write_at: None,
            waiting: None,
            drain_by: None,
            longest,
        }
    }
}

impl Worker {
    /// Works until it is told to drain, or nobody can tell it anything any more.
    pub(crate) async fn run(mut self) {
        loop {
            self.write_again();
            self.wake_resting();
            let wake = self.launch();
            self.measure();
            if self.is_done() {
                return;
            }
            let sleep = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now).into());
            tokio::select! {
                biased;
                Some(landed) = self.state.flights.next() => self.land(landed),
                order = self.orders.recv() => match order {
                    Some(Order::Ship(batch)) => self.take(batch),
                    Some(Order::Drain(deadline)) => self.state.drain_by = Some(deadline),
                    None => return,
                },
                () = sleep, if wake.is_some() => {}
            }
        }
    }

    fn is_done(&self) -> bool {
        let Some(deadline) = self.state.drain_by else { return false };
        self.store.documents == 0 || Instant::now() >= deadline
    }

    fn take(&mut self, batch: Batch) {
        if batch.payload != Payload::Event {
            // Dropped unsettled: whoever read it reads it again, and nothing is lost by a mistake of this program.
            let text = format!(
                "was given {:?} records, which have no ids and belong to another output; report this mistake",
                batch.payload
            );
            self.troubles.set(PAYLOAD, &text);
            return;
        }
        let (unfit, is_new) = self.store.take(batch);
        let looked = self.state.contacted_at.is_some_and(|at| at.elapsed() < LOOK_AGAIN);
        if is_new && !looked {
            self.state.contacted = false;
        }
        let dead = unfit.into_iter().map(|(doc, why)| Dead {
            doc,
            status: 0,
            kind: why.kind.to_owned(),
            reason: why.reason.to_owned(),
        });
        self.bury(dead.collect());
    }

    /// Starts what is due and can be; says when to look again if nothing happens before.
    fn launch(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut wake = [self.state.drain_by, self.state.write_at].into_iter().flatten().min();
        wake = wake.into_iter().chain(self.state.resting.iter().map(|(until, _)| *until)).min();
        if self.store.queued().0 > 0 {
            self.state.waiting.get_or_insert(now);
        }
        while let Some(due) = self.due(now) {
            let due = self.state.paused_until.map_or(due, |until| due.max(until));
            let started = if due > now { Err(due) } else { self.nodes.pick(now) };
            match started {
                Ok(node) if self.state.contacted => self.send(node),
                Ok(node) => self.contact(node),
                Err(later) => {
                    wake = Some(wake.map_or(later, |wake| wake.min(later)));
                    break;
                }
            }
        }
        wake
    }

    /// When something should start; none when nothing should, or cannot before something lands.
    fn due(&self, now: Instant) -> Option<Instant> {
        let (documents, bytes) = self.store.queued();
        if !self.state.contacted {
            let wanted = documents > 0 || self.state.contacted_at.is_none();
            return (wanted && self.state.flights.is_empty()).then_some(now);
        }
        if documents == 0 || self.state.flights.len() >= self.config.requests as usize {
            return None;
        }
        let full = documents >= self.size.documents || bytes >= self.size.bytes;
        if full || self.state.drain_by.is_some() {
            return Some(now);
        }
        self.state.waiting.map(|since| since + Duration::from_millis(self.config.flush_ms))
    }

    fn contact(&mut self, node: usize) {
        let (connector, config) = (Arc::clone(&self.connector), Arc::clone(&self.config));
        let url = self.nodes.url(node).clone();
        self.state.flights.push(Box::pin(async move {
            Landed::Contact(node, contact(&connector, &url, &config, true).await)
        }));
    }

    fn send(&mut self, node: usize) {
        let (docs, weight) = self.store.next(self.size.bytes, self.size.documents);
        self.state.waiting = None;
        let gzip = self.config.gzip;
        let body = bulk::body(docs.iter().map(|doc| self.store.line(doc)), gzip);
        self.counters.sent_bytes.fetch_add(body.len() as u64, Relaxed);
        let path = format!("_bulk?filter_path={FILTER}");
        let question = Question { method: Method::POST, path, body, kind: "application/x-ndjson", gzip };
        let (connector, url) = (Arc::clone(&self.connector), self.nodes.url(node).clone());
        let flight = Flight { node, docs, weight, since: Instant::now() };
        self.state.flights.push(Box::pin(async move {
            let answer = connector.ask(&url, question).await;
            Landed::Bulk(flight, answer)
        }));
    }

    fn land(&mut self, landed: Landed) {
        match landed {
            Landed::Contact(node, Ok(contact)) => self.met(node, &contact),
            Landed::Contact(node, Err(refusal)) => self.refused(node, Vec::new(), &refusal, true),
            Landed::Bulk(flight, Err(failure)) => {
                self.counters.request(None);
                let of_node = !matches!(failure, Failure::Login(_));
                self.refused(flight.node, flight.docs, &failure.into(), of_node);
            }
            Landed::Bulk(flight, Ok(answer)) => self.answered(flight, &answer),
        }
    }

    fn met(&mut self, node: usize, contact: &Contact) {
        self.well(node);
        let first = self.state.contacted_at.replace(Instant::now()).is_none();
        self.state.contacted = true;
        let remarks = [contact.policy.remark("lifecycle policy"), contact.template.remark("index template")];
        let mut ok = true;
        for (text, remedy) in remarks.into_iter().flatten() {
            ok = false;
            if first {
                tracing::warn!("elasticsearch: {text}; {remedy}");
            }
        }
        self.counters.template_ok.store(ok, Relaxed);
        if first {
            let engine = &contact.engine;
            tracing::info!(version = engine.version, "elasticsearch: {} answers", engine.product.name());
        }
    }

    /// A node has answered as an engine does.
    fn well(&mut self, node: usize) {
        self.nodes.well(node);
        self.counters.node(node, true);
        self.state.backoff.reset();
        self.state.paused_until = None;
        self.troubles.clear(REQUESTS);
    }

    /// Nothing of a request was taken: by this node alone, or by the cluster behind all.
    fn refused(&mut self, node: usize, docs: Vec<Doc>, refusal: &Refusal, by_node: bool) {
        let Refusal { reason, text, retry_after } = refusal;
        self.counters.retried(*reason, docs.len() as u64);
        self.store.back(docs);
        let now = Instant::now();
        if by_node {
            self.nodes.failed(node, now, *retry_after);
            self.counters.node(node, false);
        } else {
            self.state.paused_until = Some(now + self.state.backoff.next(*retry_after));
        }
        match reason {
            Reason::Busy => self.size.busy(),
            Reason::Connection
            | Reason::Certificate
            | Reason::Timeout
            | Reason::WrongProduct
            | Reason::Garbled => {
                // Who comes back may be another, without our template, or with other certificates.
                self.state.contacted = false;
                self.connector.renew();
            }
            _ => {}
        }
        let text = format!("{}: {text}; {}", shown(self.nodes.url(node)), reason.remedy());
        if by_node && self.nodes.pick(now).is_ok() {
            self.troubles.mention(REQUESTS, &text);
        } else {
            self.troubles.set(REQUESTS, &text);
        }
    }

    fn answered(&mut self, flight: Flight, answer: &Answer) {
        let Flight { node, docs, weight, since } = flight;
        self.counters.request(Some(answer.status));
        self.counters.bulk(since.elapsed());
        let whole = {
            let ids: Vec<&str> = docs.iter().map(|doc| self.store.id(doc)).collect();
            read(answer, &ids)
        };
        match whole {
            Whole::Again { reason, text, by_node } => {
                let refusal = Refusal { reason, text, retry_after: answer.retry_after };
                self.refused(node, docs, &refusal, by_node);
            }
            Whole::TooLarge(reason) => {
                self.size.too_large(weight, docs.len());
                self.divide(docs, Reason::TooLarge, 413, "too_large", &reason);
            }
            Whole::Invalid { kind, reason } if docs.len() > 1 || FAULTS_OF_ONE.contains(&kind.as_str()) => {
                self.size.documents = (docs.len() / 2).max(1);
                self.divide(docs, Reason::Refused, 400, &kind, &reason);
            }
            Whole::Invalid { kind, reason } => {
                let text = format!("answer 400 {kind}: {reason}");
                let refusal = Refusal { reason: Reason::Refused, text, retry_after: None };
                self.refused(node, docs, &refusal, false);
            }
            Whole::Each(verdicts) => {
                self.well(node);
                self.each(docs, verdicts, answer.retry_after);
            }
        }
    }

    /// Sends the documents of a refused request again in smaller ones; one that is alone is a dead letter.
    fn divide(&mut self, docs: Vec<Doc>, reason: Reason, status: u16, kind: &str, text: &str) {
        if docs.len() > 1 {
            self.counters.retried(reason, docs.len() as u64);
            self.store.back(docs);
            return;
        }
        let dead = |doc| Dead { doc, status, kind: kind.to_owned(), reason: text.to_owned() };
        self.bury(docs.into_iter().map(dead).collect());
    }

    fn each(&mut self, docs: Vec<Doc>, verdicts: Vec<Verdict>, retry_after: Option<Duration>) {
        let mut dead = Vec::new();
        let mut again: HashMap<Arc<str>, (Vec<Doc>, Reason, String)> = HashMap::new();
        let mut well: Vec<Arc<str>> = Vec::new();
        for (doc, verdict) in docs.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Stored | Verdict::Duplicate => {
                    let is_new = verdict == Verdict::Stored;
                    let counter = if is_new { &self.counters.stored } else { &self.counters.duplicate };
                    counter.fetch_add(1, Relaxed);
                    let bytes = self.store.stored(&doc);
                    self.counters.bytes.fetch_add(bytes, Relaxed);
                    if well.last() != Some(&doc.index) {
                        well.push(doc.index);
                    }
                }
                Verdict::Dead { status, kind, reason } => dead.push(Dead { doc, status, kind, reason }),
                Verdict::Retry(reason, text) => {
                    self.counters.retried(reason, 1);
                    let entry = again.entry(Arc::clone(&doc.index));
                    entry.or_insert_with(|| (Vec::new(), reason, text)).0.push(doc);
                }
            }
        }
        for index in well.iter().filter(|index| !again.contains_key(*index)) {
            self.state.rests.remove(index);
            self.troubles.clear(&subject(index));
        }
        if again.is_empty() {
            self.size.taken();
        }
        for (index, (docs, reason, text)) in again {
            self.rest(&index, docs, reason, &text, retry_after);
        }
        self.bury(dead);
    }

    fn measure(&self) {
        let counters = &self.counters;
        for (counter, value) in [
            (&counters.queue_documents, self.store.documents),
            (&counters.queue_bytes, self.store.bytes),
            (&counters.batch_bytes, self.size.bytes),
            (&counters.batch_documents, self.size.documents as u64),
            (&counters.dead_bytes, self.dead.bytes),
            (&counters.dead_deleted, self.dead.deleted),
        ] {
            counter.store(value, Relaxed);
        }
    }
}

/// An address without the slash that parsing adds.
pub(crate) fn shown(url: &reqwest::Url) -> &str {
    url.as_str().trim_end_matches('/')
}
