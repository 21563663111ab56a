//! What cgroups are called: asked for when nobody has told it, rendered when somebody has.

use std::time::Instant;

use super::{Inner, State};
use crate::asking::SOON;
use crate::config::LabelStyle;
use crate::entry::{Entry, Owner};

impl Inner {
    /// Who is of a pod and has no name is asked for.
    pub(crate) fn ask_for_names(&self, state: &mut State, now: Instant) {
        if state.asked.is_some_and(|asked| now.saturating_duration_since(asked) < SOON) {
            return;
        }
        let lacks = |entry: &&mut Entry| {
            let Owner { container, pod, .. } = &entry.owner;
            let is_due = pod.is_some() && entry.asking.is_due(now);
            is_due && self.names.lacks(container.as_deref(), pod.as_deref())
        };
        let lacking = state.entries.values_mut().filter(lacks).map(|entry| entry.asking.asked(now)).count();
        if lacking > 0 {
            state.asked = Some(now);
            self.names.lack();
            if let Some(kubelet) = &self.kubelet {
                kubelet.tell(&self.names);
            }
        }
    }

    pub(super) fn label(&self, state: &mut State) {
        let version = self.names.version();
        let current = |entry: &&mut Entry| entry.labelled != Some(version);
        let ended = state.ended.values_mut().map(|ended| &mut ended.entry);
        // Of one that lived for a moment the name may come after its end, and must not go again.
        let ended = ended.filter(|entry| {
            entry.labelled.is_none()
                || entry.owner.container.as_deref().is_some_and(|id| self.names.knows(id))
        });
        let mut stale = state.entries.values_mut().chain(ended).filter(current).peekable();
        if stale.peek().is_none() {
            return;
        }
        if self.config.labels == LabelStyle::Cadvisor {
            state.keys = self.names.label_keys();
        }
        for entry in stale {
            entry.labels =
                crate::labels::of(&entry.id, &entry.owner, &self.names, self.config.labels, &state.keys);
            entry.labelled = Some(version);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::super::tests::{POD, containers, machine};
    use super::*;
    use crate::config::ContainersConfig;

    #[test]
    fn what_nobody_answers_is_asked_ever_more_seldom() {
        let (_folder, roots) = machine(&[POD]);
        let containers = containers(ContainersConfig::default(), &roots);
        let inner = &containers.inner;
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        inner.names.when_lacking(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let (mut state, begin) = (State::default(), Instant::now());
        state.begin(&roots, &inner.config);
        let mut look = |second: u64| {
            let now = begin + Duration::from_secs(second);
            inner.find(&mut state, now);
            inner.ask_for_names(&mut state, now);
            asked.load(Ordering::Relaxed)
        };
        assert_eq!((look(0), look(1), look(2), look(3)), (1, 2, 2, 3), "soon at first");
        assert!((4..3600).map(&mut look).max().is_some_and(|asked| asked < 16), "seldom after that");
        let before = look(3600);
        let (uid, of) = (POD.rsplit_once("pod").map(|(_, uid)| uid.to_owned()), |name: &str| name.to_owned());
        let pod = crate::PodName { namespace: of("shop"), name: of("web-0") };
        inner.names.set_pods(uid.map(|uid| (uid, pod)).into_iter().collect());
        assert_eq!((3600..7200).map(&mut look).max(), Some(before), "it has a name");
    }
}
