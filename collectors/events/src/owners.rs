//! Who made the pods that events are about: asked of the API server once per pod, remembered, and never waited for long.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use taffrail_api::{ApiError, ErrorKind, Server};
use taffrail_pods::{Owner, Pod, owners};

use crate::event::Event;
use crate::owner::behind;
use crate::status::Status;

/// Pods remembered.
const REMEMBERED: usize = 4096;
/// Pods that wait to be asked for; beyond it they are not.
const WAITING: usize = 512;
/// For how long a pod that was not found is not asked for again.
const NOT_FOUND: Duration = Duration::from_secs(30);
/// Requests a second in the long run, and at once.
const RATE: f64 = 20.0;
const BURST: f64 = 40.0;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Metadata alone: a pod without its spec and status.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// A pod by namespace and name.
pub(crate) type PodName = (Box<str>, Box<str>);

/// What is known of pods.
#[derive(Debug)]
pub(crate) struct Owners {
    known: HashMap<PodName, Known>,
    order: VecDeque<PodName>,
    wanted: VecDeque<PodName>,
    tokens: f64,
    filled: Instant,
}

#[derive(Debug)]
enum Known {
    Asked,
    Owned(Vec<Owner>),
    NotFound(Instant),
}

impl Owners {
    pub(crate) fn new() -> Self {
        Owners {
            known: HashMap::new(),
            order: VecDeque::new(),
            wanted: VecDeque::new(),
            tokens: BURST,
            filled: Instant::now(),
        }
    }

    /// Whether it makes sense to wait for the owner of what the event is about.
    pub(crate) fn is_awaited(&mut self, event: &Event) -> bool {
        let Some(pod) = pod_of(event) else { return false };
        match self.known.get(&pod) {
            Some(Known::Asked) => true,
            Some(Known::Owned(_)) => false,
            Some(Known::NotFound(when)) if when.elapsed() < NOT_FOUND => false,
            _ if self.wanted.len() >= WAITING => false,
            _ => {
                self.remember(pod.clone(), Known::Asked);
                self.wanted.push_back(pod);
                true
            }
        }
    }

    /// Who stands behind what the event is about, nearest first, as far as it is known.
    pub(crate) fn of(&self, event: &Event) -> Vec<Owner> {
        let object = &event.object;
        match pod_of(event).and_then(|pod| self.known.get(&pod)) {
            Some(Known::Owned(owners)) => owners.clone(),
            _ => behind(&object.kind, &object.name, event.time()).into_iter().collect(),
        }
    }

    /// The next pod to ask for, if there is one and the rate allows it.
    pub(crate) fn next(&mut self) -> Option<PodName> {
        let now = Instant::now();
        let more = now.duration_since(self.filled).as_secs_f64() * RATE;
        self.filled = now;
        self.tokens = (self.tokens + more).min(BURST);
        if self.tokens < 1.0 {
            return None;
        }
        let pod = self.wanted.pop_front()?;
        self.tokens -= 1.0;
        Some(pod)
    }

    /// Nobody waits any more for those that were not asked for yet.
    pub(crate) fn give_up(&mut self) {
        for pod in self.wanted.drain(..) {
            self.known.remove(&pod);
        }
    }

    /// What became of asking.
    pub(crate) fn learn(&mut self, pod: PodName, answer: Result<Vec<Owner>, ApiError>, status: &Status) {
        let (known, outcome) = match answer {
            Ok(owners) => (Known::Owned(owners), "found"),
            Err(error) if matches!(error.kind, ErrorKind::NotFound(_)) => {
                (Known::NotFound(Instant::now()), "not_found")
            }
            Err(error) => {
                tracing::debug!(pod = &*pod.1, %error, "the owner of a pod stays unknown");
                (Known::NotFound(Instant::now()), "failed")
            }
        };
        status.lookups.add(outcome);
        self.remember(pod, known);
    }

    fn remember(&mut self, pod: PodName, known: Known) {
        if self.known.insert(pod.clone(), known).is_none() {
            self.order.push_back(pod);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

fn pod_of(event: &Event) -> Option<PodName> {
    let object = &event.object;
    let plain = |text: &str| {
        !text.is_empty()
            && text.len() <= 253
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
    };
    let is_pod = object.kind == "Pod" && plain(&object.namespace) && plain(&object.name);
    is_pod.then(|| (object.namespace.as_str().into(), object.name.as_str().into()))
}

/// Asks for the metadata of a pod, as the API server's cache has it.
pub(crate) async fn ask(server: &Server, pod: &PodName) -> Result<Vec<Owner>, ApiError> {
    let path = format!("/api/v1/namespaces/{}/pods/{}?resourceVersion=0", pod.0, pod.1);
    let failed = |kind| ApiError { what: format!("GET {path}"), kind, retry_after: None };
    let asked = server.get_as("pods", &path, METADATA);
    let body =
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| failed(ErrorKind::Silent(PATIENCE)))??;
    let pod = Pod::parse(&body).map_err(|error| failed(ErrorKind::Garbled(error.to_string())))?;
    Ok(owners(&pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, name: &str) -> Event {
        let text = serde_json::json!({ "metadata": {}, "involvedObject": { "kind": kind, "namespace": "shop", "name": name } });
        Event::parse(&text.to_string()).expect("an event")
    }

    #[test]
    fn a_pod_is_asked_for_once_and_remembered_even_if_it_is_not_there() {
        let (mut owners, status) = (Owners::new(), Status::default());
        let (web, gone) = (event("Pod", "web-0"), event("Pod", "gone-0"));
        assert!(owners.is_awaited(&web) && owners.is_awaited(&web) && owners.is_awaited(&gone));
        let first = owners.next().expect("one");
        let second = owners.next().expect("two");
        assert_eq!(owners.next(), None, "each once");
        owners.learn(first, Ok(vec![Owner::new("StatefulSet", "web")]), &status);
        let error =
            ApiError { what: String::new(), kind: ErrorKind::NotFound(String::new()), retry_after: None };
        owners.learn(second, Err(error), &status);
        assert!(!owners.is_awaited(&web) && !owners.is_awaited(&gone));
        assert_eq!(owners.of(&web), [Owner::new("StatefulSet", "web")]);
        assert!(owners.of(&gone).is_empty());
        assert_eq!((status.lookups.get("found"), status.lookups.get("not_found")), (1, 1));
    }

    #[test]
    fn what_is_remembered_and_asked_for_is_bounded() {
        let (mut owners, status) = (Owners::new(), Status::default());
        let awaited = (0..10_000).filter(|n| owners.is_awaited(&event("Pod", &format!("web-{n}")))).count();
        assert_eq!(awaited, WAITING);
        let asked = std::iter::from_fn(|| owners.next()).count();
        assert!((40..60).contains(&asked), "{asked}");
        for n in 0..10_000 {
            owners.learn(("shop".into(), format!("x-{n}").into()), Ok(Vec::new()), &status);
        }
        assert_eq!((owners.known.len(), owners.order.len()), (REMEMBERED, REMEMBERED));
    }

    #[test]
    fn only_pods_with_names_that_can_be_are_asked_for() {
        let mut owners = Owners::new();
        for other in
            [event("Node", "n1"), event("Pod", "../secrets/x"), event("Pod", "a?b"), event("Pod", "")]
        {
            assert!(!owners.is_awaited(&other), "{other:?}");
        }
        assert_eq!(owners.of(&event("ReplicaSet", "web-7d4b")), [Owner::new("Deployment", "web")]);
    }
}
