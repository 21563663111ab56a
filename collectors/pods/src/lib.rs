//! The node's pods: what is known of them, kept small, and what Prometheus is told about them.
//!
//! This room makes no request. Somebody else watches the API server or asks kubelet, and hands over the JSON of each
//! object ([`PodStore::apply_json`] and its siblings); everybody who wants to know whose a container is asks the store.
//! It guarantees:
//!
//! - A large pod of three containers costs less than 20 KB with all that is told of it, however large its object is: what
//!   nobody uses is not kept, messages are cut, annotations are kept only when they are asked for by name.
//! - No object panics it. One that cannot be read is refused with the reason and leaves what was known as it was.
//! - What was known stays known while the source is away, and the store says that and why it is stale.
//! - A pod that is gone is still found for a while, marked as gone: its last lines are still being read.
//! - [`PodSeries`] says of a pod what kube-state-metrics says, series by series; each container's end is counted once.
//! - Who subscribed either gets every change or is told to look at everything.

mod allow;
mod amount;
mod config;
mod listeners;
mod namespace;
mod owner;
mod pod;
mod series;
mod spec;
mod status;
mod store;
mod terminations;
mod text;

pub use allow::AllowList;
pub use amount::{Amount, AmountError};
pub use config::PodsConfig;
pub use listeners::Change;
pub use namespace::Namespace;
pub use owner::{Owner, cron_job, owners};
pub use pod::{Meta, OwnerReference, Pod, PodError};
pub use series::PodSeries;
pub use spec::{Command, ContainerSpec, Resources, Spec, Toleration, Volume, VolumeClaim};
pub use spec::{PodResourceClaim, ResourceAmounts};
pub use status::{
    Condition, ContainerStatus, ResourceClaimStatus, Running, State, Status, Termination, Waiting,
};
pub use store::{Found, Freshness, FreshnessState, PodStore, StoreOptions};
pub use text::{Text, TextMap};
