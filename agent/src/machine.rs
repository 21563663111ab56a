//! The pages with the machine's metrics: who answers on which.

use std::sync::Arc;

use taffrail_cgroup::{Containers, MachineFacts, Names};
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
        let containers = Containers::new(config.metrics.containers.clone(), roots.clone(), Arc::clone(names));
        pages.push(Page {
            path: CONTAINERS,
            what: "containers, under the names of cAdvisor",
            asks: vec![Arc::new(MachineFacts::new(roots)), Arc::new(containers)],
            said: taffrail_prometheus::FAMILIES,
        });
    }
    pages
}
