//! The pages with the machine's metrics: who answers on which.

use std::sync::Arc;

use taffrail_cgroup::{Containers, KubeletPaths, MachineFacts, Names};
use taffrail_kernfs::Roots;

use crate::config::Config;
use crate::http::Page;

/// Where Prometheus finds what cAdvisor told it.
pub const CONTAINERS: &str = "/metrics/cadvisor";

/// Every page that the configuration asks for. `names` is what containers are called.
#[must_use]
pub fn pages(config: &Config, names: &Arc<Names>) -> Vec<Page> {
    let roots: Roots = config.metrics.roots();
    let mut pages = Vec::new();
    if config.metrics.containers.enabled {
        let mut containers =
            Containers::new(config.metrics.containers.clone(), roots.clone(), Arc::clone(names));
        let kubernetes = &config.logs.kubernetes;
        if kubernetes.enabled {
            let (pods, links) = (kubernetes.root.clone(), kubernetes.links.clone());
            containers = containers.with_kubelet(KubeletPaths { pods, links });
        }
        pages.push(Page {
            path: CONTAINERS,
            what: "containers, under the names of cAdvisor",
            asks: vec![Arc::new(MachineFacts::new(roots)), Arc::new(containers)],
            said: taffrail_prometheus::FAMILIES,
        });
    }
    pages
}
