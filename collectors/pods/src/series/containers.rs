//! What is told of a pod's containers and, under other names, of its init containers.

use crate::pod::Pod;
use crate::series::families::Of;
use crate::series::render::{Writer, flag};
use crate::series::resources;
use crate::spec::ContainerSpec;
use crate::status::ContainerStatus;

/// The families of one sort of containers. Those of the other stand in the same order behind them.
const SORT: u8 = Of::InitInfo as u8 - Of::MainInfo as u8;

/// A pod's containers of one sort.
struct Containers<'a> {
    writer: &'a mut Writer,
    /// What the numbers of the families are more than those of the first sort.
    sort: u8,
}

/// Writes all of them.
pub(super) fn write(writer: &mut Writer, pod: &Pod) {
    let Pod { spec, status, .. } = pod;
    for (sort, asked, are) in
        [(0, &spec.containers, &status.containers), (SORT, &spec.init_containers, &status.init_containers)]
    {
        let mut containers = Containers { writer, sort };
        for asked in asked {
            containers.resources(asked, &spec.node_name);
            are.iter().filter(|is| is.name == asked.name).for_each(|is| containers.info(asked, is));
        }
        are.iter().for_each(|is| containers.status(is));
    }
}

impl Containers<'_> {
    fn put(&mut self, family: Of, container: &str, more: &[(&str, &str)], value: f64) {
        self.writer.put_apart(family as u8 + self.sort, &[("container", container)], more, value);
    }

    fn info(&mut self, asked: &ContainerSpec, is: &ContainerStatus) {
        let policy = asked.restart_policy.as_deref().unwrap_or_default();
        let labels = [
            ("image_spec", &*asked.image),
            ("image", &is.image),
            ("image_id", &is.image_id),
            ("container_id", &is.container_id),
            ("restart_policy", policy),
        ];
        // Only init containers have the last one.
        let count = if self.sort == 0 { labels.len() - 1 } else { labels.len() };
        self.put(Of::MainInfo, &is.name, &labels[..count], 1.0);
    }

    fn resources(&mut self, asked: &ContainerSpec, node: &str) {
        let all = [(Of::MainLimits, &asked.resources.limits), (Of::MainRequests, &asked.resources.requests)];
        for (family, amounts) in all {
            for (resource, unit, value) in resources::shown(amounts) {
                let labels = [("node", node), ("resource", &resource), ("unit", unit.name())];
                self.put(family, &asked.name, &labels, value);
            }
        }
    }

    fn status(&mut self, is: &ContainerStatus) {
        let (name, state) = (&*is.name, &is.state);
        self.put(Of::MainReady, name, &[], flag(is.ready));
        self.put(Of::MainRestarts, name, &[], is.restart_count as f64);
        self.put(Of::MainRunning, name, &[], flag(state.running.is_some()));
        self.put(Of::MainTerminated, name, &[], flag(state.terminated.is_some()));
        self.put(Of::MainWaiting, name, &[], flag(state.waiting.is_some()));
        if let Some(waiting) = &state.waiting {
            self.put(Of::MainWaitingReason, name, &[("reason", &waiting.reason)], 1.0);
        }
        if let Some(ended) = &state.terminated {
            self.put(Of::MainTerminatedReason, name, &[("reason", &ended.reason)], 1.0);
        }
        let ended = || state.terminated.as_ref().and_then(|ended| ended.started);
        if let Some(started) = state.running.map_or_else(ended, |running| running.started) {
            self.put(Of::MainStarted, name, &[], started as f64);
        }
        self.last(is);
    }

    fn last(&mut self, is: &ContainerStatus) {
        let name = &*is.name;
        let Some(last) = &is.last_state.terminated else { return };
        self.put(Of::MainLastReason, name, &[("reason", &last.reason)], 1.0);
        self.put(Of::MainLastExitCode, name, &[], last.exit_code as f64);
        if let Some(finished) = last.finished {
            self.put(Of::MainLastTimestamp, name, &[], finished as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::families::OF_PODS;

    #[test]
    fn both_sorts_have_the_same_families_in_the_same_order() {
        for number in 0..SORT {
            let at = usize::from(Of::MainInfo as u8 + number);
            let (main, init) = (&OF_PODS[at], &OF_PODS[at + usize::from(SORT)]);
            assert_eq!(main.name.replace("kube_pod_", "kube_pod_init_"), init.name);
            assert_eq!(main.kind, init.kind);
            assert!(init.labels.starts_with(main.labels), "{}", init.name);
        }
    }
}
