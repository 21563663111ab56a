//! Who stands behind the object of an event, as far as names tell: a Deployment behind its ReplicaSet, a CronJob behind its
//! Job. Who made a pod only the pod says ([`taffrail_pods::owners`]).

use taffrail_pods::{Owner, cron_job};

/// Kubernetes makes hashes for names out of these.
const HASH_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const LONGEST_HASH: usize = 10;

/// Who stands behind an object of this kind and name, if its name tells. `time` is when it was alive, nanoseconds since the
/// Unix epoch.
#[must_use]
pub(crate) fn behind(kind: &str, name: &str, time: Option<i64>) -> Option<Owner> {
    match kind {
        "ReplicaSet" => {
            let (front, _) =
                name.rsplit_once('-').filter(|(front, hash)| !front.is_empty() && is_hash(hash))?;
            Some(Owner::new("Deployment", front))
        }
        "Job" => cron_job(name, time?.div_euclid(1_000_000_000)).map(|name| Owner::new("CronJob", name)),
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
    fn pods_are_known_by_the_name_of_their_controller() {
        for pod in ["web-7d4b9c6f5b-x2x9z", "web-x2x9z", "web-0", "web-29453750-x2x9z"] {
            assert!(may_have_made("web", pod), "{pod}");
        }
        for pod in ["web", "website-0", "web-api-0", "web-api-7d4b9c6f5b-x2x9z", "web-"] {
            assert!(!may_have_made("web", pod), "{pod}");
        }
    }
}
