//! How a pod is: its `status` as far as it is used.

use serde::Deserialize;
use serde::de::Deserializer;

use crate::text::{Text, message, or_none, seconds};

/// How a pod is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    #[serde(deserialize_with = "or_none")]
    pub phase: Text,
    /// Why, in a word, such as `Evicted`.
    #[serde(deserialize_with = "or_none")]
    pub reason: Text,
    /// Why, for people; cut.
    #[serde(deserialize_with = "message")]
    pub message: Text,
    /// Address of its node.
    #[serde(rename = "hostIP", deserialize_with = "or_none")]
    pub host_ip: Text,
    /// Its first address.
    #[serde(rename = "podIP", deserialize_with = "or_none")]
    pub pod_ip: Text,
    /// All its addresses.
    #[serde(rename = "podIPs", deserialize_with = "addresses")]
    pub pod_ips: Box<[Text]>,
    /// `Guaranteed`, `Burstable` or `BestEffort`.
    #[serde(deserialize_with = "or_none")]
    pub qos_class: Text,
    /// When kubelet accepted it.
    #[serde(rename = "startTime", deserialize_with = "seconds")]
    pub started: Option<i64>,
    /// Conditions.
    #[serde(deserialize_with = "or_none")]
    pub conditions: Box<[Condition]>,
    /// Of its containers.
    #[serde(rename = "containerStatuses", deserialize_with = "or_none")]
    pub containers: Box<[ContainerStatus]>,
    /// Of its init containers.
    #[serde(rename = "initContainerStatuses", deserialize_with = "or_none")]
    pub init_containers: Box<[ContainerStatus]>,
    /// Of containers that somebody added for a look.
    #[serde(rename = "ephemeralContainerStatuses", deserialize_with = "or_none")]
    pub ephemeral_containers: Box<[ContainerStatus]>,
    /// Devices that were claimed for it.
    #[serde(deserialize_with = "or_none")]
    pub resource_claim_statuses: Box<[ResourceClaimStatus]>,
}

impl Status {
    /// Of all its containers, whatever their sort.
    pub fn every_container(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.init_containers.iter().chain(&self.containers).chain(&self.ephemeral_containers)
    }
}

/// One condition of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`, `PodScheduled`, ...
    #[serde(rename = "type", deserialize_with = "or_none")]
    pub kind: Text,
    /// `True`, `False` or `Unknown`.
    #[serde(deserialize_with = "or_none")]
    pub status: Text,
    /// Why, in a word.
    #[serde(deserialize_with = "or_none")]
    pub reason: Text,
    /// When it last became another.
    #[serde(rename = "lastTransitionTime", deserialize_with = "seconds")]
    pub changed: Option<i64>,
}

/// How one container is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Its name in the pod.
    #[serde(deserialize_with = "or_none")]
    pub name: Text,
    /// Image as the runtime calls it.
    #[serde(deserialize_with = "or_none")]
    pub image: Text,
    /// Image by its content.
    #[serde(rename = "imageID", deserialize_with = "or_none")]
    pub image_id: Text,
    /// `containerd://` and 64 hex digits; empty before there is one.
    #[serde(rename = "containerID", deserialize_with = "or_none")]
    pub container_id: Text,
    /// Whether it is ready.
    #[serde(deserialize_with = "or_none")]
    pub ready: bool,
    /// Whether it has passed its start probe.
    pub started: Option<bool>,
    /// How often it was started again.
    #[serde(deserialize_with = "or_none")]
    pub restart_count: i64,
    /// How it is now.
    #[serde(deserialize_with = "or_none")]
    pub state: State,
    /// How the one before it ended.
    #[serde(deserialize_with = "or_none")]
    pub last_state: State,
}

/// One of three; all missing when nobody knows.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct State {
    /// It does not run yet, or not again.
    pub waiting: Option<Box<Waiting>>,
    /// It runs.
    pub running: Option<Running>,
    /// It has ended.
    pub terminated: Option<Box<Termination>>,
}

/// Why a container does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// In a word, such as `CrashLoopBackOff`.
    #[serde(deserialize_with = "or_none")]
    pub reason: Text,
    /// For people; cut.
    #[serde(deserialize_with = "message")]
    pub message: Text,
}

/// Since when a container runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Running {
    /// Since.
    #[serde(rename = "startedAt", deserialize_with = "seconds")]
    pub started: Option<i64>,
}

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Termination {
    /// In a word, such as `OOMKilled`.
    #[serde(deserialize_with = "or_none")]
    pub reason: Text,
    /// What it said itself, for people; cut.
    #[serde(deserialize_with = "message")]
    pub message: Text,
    /// As the process gave it, or 128 and its signal.
    #[serde(deserialize_with = "or_none")]
    pub exit_code: i64,
    /// The signal that ended it; 0 when none is told.
    #[serde(deserialize_with = "or_none")]
    pub signal: i64,
    /// When it had been started.
    #[serde(rename = "startedAt", deserialize_with = "seconds")]
    pub started: Option<i64>,
    /// When it ended.
    #[serde(rename = "finishedAt", deserialize_with = "seconds")]
    pub finished: Option<i64>,
    /// `containerd://` and 64 hex digits.
    #[serde(rename = "containerID", deserialize_with = "or_none")]
    pub container_id: Text,
}

/// A device that was claimed for a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourceClaimStatus {
    /// Its name in the pod.
    #[serde(deserialize_with = "or_none")]
    pub name: Text,
    /// The claim that was made of the template.
    pub resource_claim_name: Option<Text>,
}

fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Box<[Text]>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Address {
        #[serde(deserialize_with = "or_none")]
        ip: Text,
    }
    let all: Vec<Address> = or_none(from)?;
    Ok(all.into_iter().map(|address| address.ip).collect())
}
