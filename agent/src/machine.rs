//! The pages with the machine's metrics: who answers on which.

use std::sync::Arc;

use taffrail_cgroup::{Containers, KubeletPaths, MachineFacts, Names};
use taffrail_kernfs::Roots;
use taffrail_pods::PodSeries;
use taffrail_process::OwnProcess;
use taffrail_record::{Family, Kind};

use crate::config::Config;
use crate::http::Page;

/// Where Prometheus finds what cAdvisor told it.
pub const CONTAINERS: &str = "/metrics/cadvisor";

/// Where Prometheus finds what node_exporter told it.
pub const NODE: &str = "/metrics/node";

/// Where Prometheus finds what kube-state-metrics told it.
pub const PODS: &str = "/metrics/pods";

/// What node_exporter says of its own scrapes.
pub(crate) static SAID_OF_NODE: [Family; 2] = [
    Family {
        name: "node_scrape_collector_success",
        kind: Kind::Gauge,
        help: "Whether the collector could read everything that this machine has.",
        labels: &["collector"],
    },
    Family {
        name: "node_scrape_collector_duration_seconds",
        kind: Kind::Gauge,
        help: "How long the collector took in this scrape.",
        labels: &["collector"],
    },
];

/// Every page that the configuration asks for. `names` is what containers are called, `pods` who tells of pods.
#[must_use]
pub fn pages(config: &Config, names: &Arc<Names>, pods: Option<Arc<PodSeries>>) -> Vec<Page> {
    let roots: Roots = config.metrics.roots();
    let mut pages = Vec::new();
    if config.metrics.containers.enabled {
        let mut containers =
            Containers::new(config.metrics.containers.clone(), roots.clone(), Arc::clone(names))
                .with_layers(crate::cri::layers(config.cri.clone()));
        let kubernetes = &config.logs.kubernetes;
        if kubernetes.enabled {
            let (pods, links) = (kubernetes.root.clone(), kubernetes.links.clone());
            containers = containers.with_kubelet(KubeletPaths { pods, links });
        }
        pages.push(Page {
            path: CONTAINERS,
            what: "containers, under the names of cAdvisor",
            asks: vec![Arc::new(MachineFacts::new(roots.clone())), Arc::new(containers)],
            said: taffrail_prometheus::FAMILIES,
        });
    }
    let node = &config.metrics.node;
    pages.push(Page {
        path: NODE,
        what: "this node, under the names of node_exporter",
        // Dashboards look for them beside what they tell of the node.
        asks: taffrail_node::collectors_beside(vec![Arc::new(OwnProcess)], &SAID_OF_NODE, node, &roots),
        said: &SAID_OF_NODE,
    });
    pages.extend(pods.map(|pods| Page {
        path: PODS,
        what: "this node's pods, under the names of kube-state-metrics",
        asks: vec![pods],
        said: taffrail_prometheus::FAMILIES,
    }));
    pages
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::time::Duration;

    use taffrail_prometheus::{Format, Scraper};

    use super::*;

    #[test]
    fn a_text_file_says_nothing_that_the_page_of_the_node_says_itself() {
        let folder = tempfile::tempdir().unwrap();
        let text = "node_scrape_collector_success{collector=\"mine\"} 1\nprocess_max_fds 77\nmine 1\n";
        File::create(folder.path().join("a.prom"))
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .unwrap();
        let mut config = Config::default();
        config.metrics.containers.enabled = false;
        config.metrics.node.textfile.directories = vec![folder.path().to_owned()];
        let page = pages(&config, &Names::new(), None).pop().unwrap();
        let scraper = Scraper::new(page.asks, Duration::from_secs(60)).saying(page.said);
        let page = scraper.scrape(|name| ["process", "textfile"].contains(&name)).render(Format::Text);
        assert!(page.contains("\nmine 1\n") && page.contains("\nnode_textfile_scrape_error 1\n"), "{page}");
        assert!(page.contains("node_scrape_collector_success{collector=\"textfile\"} 0\n"), "{page}");
        assert!(!page.contains("collector=\"mine\"") && !page.contains("process_max_fds 77"), "{page}");
    }
}
