//! What somebody else knows of pods, beyond what their paths tell.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use taffrail_record::{Container, Node, Pod};

use crate::follow::Waker;

/// Tells what the cluster says of pods. Asked on the collector's thread: it answers from memory.
pub trait PodTeller: Send + Sync + fmt::Debug {
    /// A pod and one of its containers, completed; `None` while the pod is not known.
    fn complete(&self, pod: &Pod, container: &Container) -> Option<(Pod, Container)>;

    /// The node, where more is known of it than when the collector was made.
    fn node(&self) -> Option<Arc<Node>> {
        None
    }

    /// A number that grows with each change.
    fn version(&self) -> u64;

    /// The pods (by the UID of their directories) that may have changed since this version.
    fn changed_since(&self, version: u64) -> Changed;

    /// Whom to wake when something changes.
    fn wakes(&self, wake: Box<dyn Fn() + Send + Sync>);
}

/// Which pods have changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Changed {
    /// These.
    Some(HashSet<String>),
    /// Perhaps any.
    All,
}

impl Changed {
    pub(crate) fn has(&self, uid: &str) -> bool {
        match self {
            Changed::Some(uids) => uids.contains(uid),
            Changed::All => true,
        }
    }
}

pub(crate) fn waking(waker: Waker) -> Box<dyn Fn() + Send + Sync> {
    Box::new(move || waker.wake())
}
