//! Leases: by whom one is held, until when as far as one's own clock tells, and writing them only if nobody else has.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Map, Value, json};
use taffrail_api::{ApiError, ErrorKind, Server};

/// On the Lease of who watches: everything up to this version is stored.
pub(crate) const POSITION: &str = "taffrail.io/events-position";

/// A Lease as the API server has it, with whatever others have put there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lease(Value);

impl Lease {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Lease(json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": name, "namespace": namespace },
            "spec": {},
        }))
    }

    fn text(&self, path: &str) -> &str {
        self.0.pointer(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// Empty when nobody holds it.
    pub(crate) fn holder(&self) -> &str {
        self.text("/spec/holderIdentity")
    }

    pub(crate) fn version(&self) -> &str {
        self.text("/metadata/resourceVersion")
    }

    pub(crate) fn transitions(&self) -> u64 {
        self.0.pointer("/spec/leaseTransitions").and_then(Value::as_u64).unwrap_or(0)
    }

    /// Since when it is held by who holds it, as that one's clock has it.
    pub(crate) fn acquired(&self) -> &str {
        self.text("/spec/acquireTime")
    }

    pub(crate) fn position(&self) -> Option<u64> {
        self.0.pointer("/metadata/annotations")?.get(POSITION)?.as_str()?.parse().ok()
    }

    /// Held by `holder`, from now on or still.
    pub(crate) fn held(mut self, holder: &str, duration: Duration, now: jiff::Timestamp) -> Self {
        let anew = self.holder() != holder;
        let transitions = self.transitions() + u64::from(anew && !self.version().is_empty());
        let spec = object(&mut self.0, "spec");
        spec.insert("holderIdentity".to_owned(), holder.into());
        spec.insert("leaseDurationSeconds".to_owned(), duration.as_secs().max(1).into());
        spec.insert("renewTime".to_owned(), format!("{now:.6}").into());
        if anew {
            spec.insert("acquireTime".to_owned(), format!("{now:.6}").into());
            spec.insert("leaseTransitions".to_owned(), transitions.into());
        }
        self
    }

    /// Held by nobody.
    pub(crate) fn released(mut self, now: jiff::Timestamp) -> Self {
        let spec = object(&mut self.0, "spec");
        spec.insert("holderIdentity".to_owned(), "".into());
        spec.insert("leaseDurationSeconds".to_owned(), 1.into());
        spec.insert("renewTime".to_owned(), format!("{now:.6}").into());
        self
    }

    pub(crate) fn at(mut self, position: Option<u64>) -> Self {
        let metadata = object(&mut self.0, "metadata");
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if !annotations.is_object() {
            *annotations = json!({});
        }
        if let Value::Object(annotations) = annotations {
            match position {
                Some(position) => annotations.insert(POSITION.to_owned(), position.to_string().into()),
                None => annotations.remove(POSITION),
            };
        }
        self
    }
}

fn object<'a>(tree: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !tree[key].is_object() {
        tree[key] = json!({});
    }
    match &mut tree[key] {
        Value::Object(object) => object,
        _ => unreachable!("it was just made one"),
    }
}

/// The Leases of a namespace.
#[derive(Clone)]
pub(crate) struct Leases {
    pub(crate) server: Server,
    pub(crate) namespace: String,
    /// How long the server may take to answer.
    pub(crate) patience: Duration,
}

impl Leases {
    fn path(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace)
    }

    /// The Lease of this name, if there is one, as the server's cache has it: thousands of agents may look at once. Who writes
    /// on what is older finds out.
    pub(crate) async fn look(&self, name: &str) -> Result<Option<Lease>, ApiError> {
        self.find(&format!("{}/{name}?resourceVersion=0", self.path())).await
    }

    /// The Lease of this name as it is now, if there is one.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Lease>, ApiError> {
        self.find(&format!("{}/{name}", self.path())).await
    }

    async fn find(&self, path: &str) -> Result<Option<Lease>, ApiError> {
        match self.ask(Method::GET, path, None).await {
            Ok(lease) => Ok(Some(lease)),
            Err(error) if matches!(error.kind, ErrorKind::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it: [`ErrorKind::Conflict`] when somebody else has, since it was read.
    pub(crate) async fn put(&self, lease: &Lease) -> Result<Lease, ApiError> {
        if lease.version().is_empty() {
            self.ask(Method::POST, &self.path(), Some(&lease.0)).await
        } else {
            let path = format!("{}/{}", self.path(), lease.text("/metadata/name"));
            self.ask(Method::PUT, &path, Some(&lease.0)).await
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Lease, ApiError> {
        let what = format!("{method} {path}");
        let failed = |kind| ApiError { what: what.clone(), kind, retry_after: None };
        let asked = self.server.request(method, "leases", path, body);
        let answer = tokio::time::timeout(self.patience, asked)
            .await
            .map_err(|_| failed(ErrorKind::Silent(self.patience)))??;
        let lease = Lease(
            serde_json::from_slice(&answer).map_err(|error| failed(ErrorKind::Garbled(error.to_string())))?,
        );
        if lease.version().is_empty() {
            return Err(failed(ErrorKind::Garbled("a Lease without a resourceVersion".to_owned())));
        }
        Ok(lease)
    }
}

/// What one has seen of a Lease with one's own clock.
#[derive(Debug, Default)]
pub(crate) struct Sight(Option<(String, Instant)>);

impl Sight {
    /// Notes a look; returns for how long nobody has written it, as far as was seen.
    pub(crate) fn see(&mut self, lease: &Lease, now: Instant) -> Duration {
        match &self.0 {
            Some((version, since)) if version == lease.version() => now.saturating_duration_since(*since),
            _ => {
                self.0 = Some((lease.version().to_owned(), now));
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_version(mut lease: Lease, version: &str) -> Lease {
        lease.0["metadata"]["resourceVersion"] = version.into();
        lease
    }

    #[test]
    fn a_lease_says_who_holds_it_and_how_often_that_changed() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let lease = Lease::new("n", "l").held("a", Duration::from_secs(15), now);
        assert_eq!((lease.holder(), lease.transitions()), ("a", 0));
        let lease = with_version(lease, "1").held("a", Duration::from_secs(15), now);
        assert_eq!(lease.transitions(), 0, "renewed");
        let lease = lease.released(now);
        assert_eq!(lease.holder(), "");
        let lease = lease.held("b", Duration::from_secs(15), now).at(Some(42));
        assert_eq!((lease.holder(), lease.transitions(), lease.position()), ("b", 1, Some(42)));
        assert_eq!(lease.text("/spec/renewTime"), "1970-01-01T00:00:00.000000Z");
        assert_eq!(lease.at(None).position(), None);
    }

    #[test]
    fn whatever_stands_there_already_is_no_reason_to_fail() {
        let odd = Lease(json!({"metadata": {"annotations": null, "resourceVersion": "1"}, "spec": null}));
        assert_eq!((odd.holder(), odd.position()), ("", None));
        let lease = odd.held("a", Duration::from_secs(15), jiff::Timestamp::UNIX_EPOCH).at(Some(1));
        assert_eq!((lease.holder(), lease.position()), ("a", Some(1)));
    }

    #[test]
    fn a_lease_is_only_as_old_as_it_was_seen_unchanged() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut sight = Sight::default();
        let lease = |version| with_version(Lease::new("n", "l"), version);
        assert_eq!(sight.see(&lease("1"), start), Duration::ZERO);
        assert_eq!(sight.see(&lease("1"), start + 14 * second), 14 * second);
        // Whoever slept through it all sees at the next look that others did not.
        assert_eq!(sight.see(&lease("2"), start + 600 * second), Duration::ZERO);
        assert_eq!(sight.see(&lease("2"), start + 601 * second), second);
    }
}
