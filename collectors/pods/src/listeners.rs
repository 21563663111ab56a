//! Who is told of changes.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::pod::Pod;
use crate::text::Text;

/// What has become another.
#[derive(Debug, Clone)]
pub enum Change {
    /// A pod is new, or has changed.
    Pod {
        /// As it was; none when it is new.
        before: Option<Arc<Pod>>,
        /// As it is.
        now: Arc<Pod>,
    },
    /// A pod is gone. It is still found for a while.
    Gone(Arc<Pod>),
    /// A namespace is new, has changed or is gone.
    Namespace(Text),
    /// There were more changes than the receiver took: what it knows may be old, and it has to look at everything. All that
    /// comes behind this has happened later.
    Everything,
}

/// Receivers of changes, each with a queue of its own.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    sender: Sender<Change>,
    /// Its last place was taken by [`Change::Everything`]; until there is room again nothing need be said.
    full: bool,
}

impl Listeners {
    /// A new one, whose queue holds this many changes.
    pub(crate) fn add(&mut self, most: usize) -> Receiver<Change> {
        let (sender, receiver) = bounded(most.max(1) + 1);
        self.0.push(Listener { sender, full: false });
        receiver
    }

    /// Tells everybody, and forgets who has gone. Only ever called by one thread at a time.
    pub(crate) fn tell(&mut self, change: &Change) {
        self.0.retain_mut(|listener| listener.tell(change));
    }
}

impl Listener {
    /// Whether there still is a receiver. The last place of the queue is kept for [`Change::Everything`].
    fn tell(&mut self, change: &Change) -> bool {
        let last = self.sender.capacity().is_some_and(|most| self.sender.len() + 1 >= most);
        let said = match (last, self.full) {
            (false, _) => change.clone(),
            (true, false) => Change::Everything,
            // Asking costs nothing, and whoever has gone is forgotten when there is room.
            (true, true) => return true,
        };
        self.full = last;
        !matches!(self.sender.try_send(said), Err(TrySendError::Disconnected(_)))
    }
}
