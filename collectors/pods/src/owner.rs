//! Who made a pod, and who made that, without asking anybody.
//!
//! A pod names only its own controller. Who stands behind it is told by how controllers name what they make.

use crate::pod::Pod;
use crate::text::Text;

/// What a Deployment puts on the pods of its ReplicaSets, and at the end of their names.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// A CronJob names a Job after the minute in which it was due, which is before its pods are made ...
const LATEST_AFTER: i64 = 3600;
/// ... but not long before, unless pods could not be made at all.
const EARLIEST_BEFORE: i64 = 14 * 86_400;

/// One controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// `ReplicaSet`, `Deployment`, `Job`, ...
    pub kind: Text,
    /// Its name, in the pod's namespace but for a `Node`.
    pub name: Text,
}

impl Owner {
    /// A controller of this kind and name.
    #[must_use]
    pub fn new(kind: &str, name: &str) -> Self {
        Owner { kind: kind.into(), name: name.into() }
    }
}

/// The controllers of a pod, nearest first: `ReplicaSet` and `Deployment`, `Job` and `CronJob`, `StatefulSet`, `DaemonSet`,
/// `Node` for a static pod, or whatever else; none for a bare pod.
#[must_use]
pub fn owners(pod: &Pod) -> Vec<Owner> {
    let Some(nearest) = pod.controller() else { return Vec::new() };
    let behind = match &*nearest.kind {
        "ReplicaSet" => deployment(pod, &nearest.name).map(|name| Owner::new("Deployment", name)),
        "Job" => pod
            .meta
            .created
            .and_then(|created| cron_job(&nearest.name, created))
            .map(|name| Owner::new("CronJob", name)),
        _ => None,
    };
    [Owner::new(&nearest.kind, &nearest.name)].into_iter().chain(behind).collect()
}

fn deployment<'a>(pod: &Pod, replica_set: &'a str) -> Option<&'a str> {
    let hash = pod.meta.labels.get(TEMPLATE_HASH).filter(|hash| !hash.is_empty())?;
    replica_set.strip_suffix(hash)?.strip_suffix('-').filter(|name| !name.is_empty())
}

/// The CronJob behind a Job, by the Job's name and when it was alive, in seconds since the Unix epoch.
#[must_use]
pub fn cron_job(job: &str, alive: i64) -> Option<&str> {
    let (name, minutes) = job.rsplit_once('-').filter(|(name, _)| !name.is_empty())?;
    if !minutes.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let due = minutes.parse::<i64>().ok()?.checked_mul(60)?;
    let plausible = alive.saturating_sub(EARLIEST_BEFORE)..=alive.saturating_add(LATEST_AFTER);
    plausible.contains(&due).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(owner: &str, labels: &str) -> Vec<String> {
        let json = format!(
            r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u","creationTimestamp":"2025-06-01T12:00:30Z",
                "labels":{labels},"ownerReferences":[{owner}]}}}}"#
        );
        let pod = Pod::parse(json.as_bytes()).expect("a pod");
        owners(&pod).iter().map(|owner| format!("{}/{}", owner.kind, owner.name)).collect()
    }

    fn controller(kind: &str, name: &str) -> String {
        format!(r#"{{"kind":"{kind}","name":"{name}","uid":"o","controller":true}}"#)
    }

    #[test]
    fn a_deployment_stands_behind_its_replica_set() {
        let hash = r#"{"pod-template-hash":"7d9f"}"#;
        assert_eq!(
            chain(&controller("ReplicaSet", "cart-7d9f"), hash),
            ["ReplicaSet/cart-7d9f", "Deployment/cart"]
        );
        for (name, labels) in [("cart", hash), ("cart-7d9f", "null"), ("-7d9f", hash), ("cart7d9f", hash)] {
            let found = chain(&controller("ReplicaSet", name), labels);
            assert_eq!(found, [format!("ReplicaSet/{name}")], "{name} {labels}");
        }
    }

    #[test]
    fn a_cron_job_stands_behind_a_job_of_its_minute() {
        // The pod is of minute 29146320 and a half.
        assert_eq!(
            chain(&controller("Job", "night-ly-29146320"), "{}"),
            ["Job/night-ly-29146320", "CronJob/night-ly"]
        );
        for name in ["night", "night-1", "night-29146400", "night-29100000", "-29146320", "n-x9146320", "n-"]
        {
            assert_eq!(chain(&controller("Job", name), "{}"), [format!("Job/{name}")], "{name}");
        }
    }

    #[test]
    fn other_controllers_stand_alone() {
        for kind in ["StatefulSet", "DaemonSet", "Node", "Workflow"] {
            assert_eq!(chain(&controller(kind, "x-29146320"), "{}"), [format!("{kind}/x-29146320")]);
        }
    }

    #[test]
    fn who_only_owns_and_does_not_control_made_nothing() {
        assert!(chain(r#"{"kind":"Node","name":"x"}"#, "{}").is_empty());
        assert!(chain(r#"{"kind":"Node","name":"x","controller":false}"#, "{}").is_empty());
    }
}
