//! Who stands behind the object of an event, as far as names tell: a Deployment behind its ReplicaSet, a CronJob behind its
//! Job. Who made a pod only the pod says ([`controller`]).

use serde_json::Value;

/// A controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// `Deployment`.
    pub kind: String,
    /// Name, in the namespace of what it owns.
    pub name: String,
}

/// Kubernetes makes hashes for names out of these.
const HASH_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const LONGEST_HASH: usize = 10;

/// A Job of a CronJob is named after the minute in which it was due, which is about when it has events.
const MINUTES_LATE: i64 = 14 * 24 * 60;
const MINUTES_EARLY: i64 = 60;

impl Owner {
    /// An owner of this kind and name.
    #[must_use]
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Owner { kind: kind.into(), name: name.into() }
    }
}

/// The controller of an object, out of its metadata.
#[must_use]
pub(crate) fn controller(object: &Value) -> Option<Owner> {
    let references = object.get("metadata")?.get("ownerReferences")?.as_array()?;
    let controls = |reference: &&Value| reference.get("controller").and_then(Value::as_bool) == Some(true);
    let found = references.iter().find(controls)?;
    Some(Owner::new(found.get("kind")?.as_str()?, found.get("name")?.as_str()?))
}

/// Who stands behind an object of this kind and name, if its name tells. `time` is when it was alive, nanoseconds since the
/// Unix epoch.
#[must_use]
pub(crate) fn behind(kind: &str, name: &str, time: Option<i64>) -> Option<Owner> {
    let (front, last) = name.rsplit_once('-').filter(|(front, _)| !front.is_empty())?;
    match kind {
        "ReplicaSet" if is_hash(last) => Some(Owner::new("Deployment", front)),
        "Job" if is_minute(last, time?) => Some(Owner::new("CronJob", front)),
        _ => None,
    }
}

/// Whether a pod's name is one that a controller of this name gives: `web-7d4b9c6f5b-x2x9z`, `web-x2x9z`, `web-0`.
#[must_use]
pub(crate) fn may_have_made(controller: &str, pod: &str) -> bool {
    let Some(rest) = pod.strip_prefix(controller).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    let is_minutes = |text: &str| text.len() >= 7 && is_number(text);
    match rest.split_once('-') {
        None => is_number(rest) || is_hash(rest),
        Some((middle, end)) => (is_hash(middle) || is_minutes(middle)) && (is_hash(end) || is_number(end)),
    }
}

fn is_hash(text: &str) -> bool {
    (1..=LONGEST_HASH).contains(&text.len()) && text.bytes().all(|byte| HASH_LETTERS.contains(&byte))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_minute(text: &str, time: i64) -> bool {
    let now = time / 60_000_000_000;
    let minute = is_number(text).then(|| text.parse::<i64>().ok()).flatten();
    minute.is_some_and(|due| (now - MINUTES_LATE..=now + MINUTES_EARLY).contains(&due))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In minute 29,453,760.
    const TIME: i64 = 1_767_225_600_000_000_000;

    #[test]
    fn a_deployment_stands_behind_a_replica_set_whose_name_ends_in_a_hash() {
        let of = |name| behind("ReplicaSet", name, None).map(|owner| (owner.kind, owner.name));
        assert_eq!(of("web-7d4b9c6f5b"), Some(("Deployment".into(), "web".into())));
        assert_eq!(of("web-api-7d4b9c6f5b").map(|o| o.1), Some("web-api".into()));
        for name in ["web", "web-", "-7d4b9c6f5b", "web-canary", "web-7d4b9c6f5b7", "web-7D4", ""] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn a_cron_job_stands_behind_a_job_of_about_that_minute() {
        let of = |name, time| behind("Job", name, time).map(|owner| owner.name);
        assert_eq!(of("backup-29453750", Some(TIME)), Some("backup".into()));
        for name in
            ["backup", "backup-1", "backup-29453900", "backup-20000000", "backup-99999999999999999999"]
        {
            assert_eq!(of(name, Some(TIME)), None, "{name}");
        }
        assert_eq!(of("backup-29453750", None), None);
        assert_eq!(behind("Pod", "web-7d4b9c6f5b", Some(TIME)), None);
    }

    #[test]
    fn a_controller_is_who_says_that_it_controls() {
        let object = serde_json::json!({"metadata": {"ownerReferences": [
            {"kind": "Node", "name": "n1"}, {"kind": "ReplicaSet", "name": "web-7d4b9c6f5b", "controller": true}]}});
        assert_eq!(controller(&object), Some(Owner::new("ReplicaSet", "web-7d4b9c6f5b")));
        for other in [serde_json::json!({"metadata": {"ownerReferences": null}}), serde_json::json!(null)] {
            assert_eq!(controller(&other), None);
        }
    }

    #[test]
    fn pods_are_known_by_the_name_of_their_controller() {
        for pod in ["web-7d4b9c6f5b-x2x9z", "web-x2x9z", "web-0", "web-29453750-x2x9z"] {
            assert!(may_have_made("web", pod), "{pod}");
        }
        for pod in ["web", "website-0", "web-api-0", "web-api-7d4b9c6f5b-x2x9z", "web-"] {
            assert!(!may_have_made("web", pod), "{pod}");
        }
    }
}
