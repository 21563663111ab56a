//! cAdvisor by itself.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use taffrail_parts::machine::traces;
use taffrail_parts::{Cadvisor, CadvisorOptions, Docker, IMAGE, LabelSet, MetricSet};

const LABELLED: [&str; 4] = ["--name", "measured", "--label", "com.example.team=shop"];

/// The first page with such a line.
fn page_with(cadvisor: &Cadvisor, words: &[&str]) -> Result<String> {
    let start = Instant::now();
    loop {
        let page = cadvisor.scrape()?;
        if page.lines().any(|line| words.iter().all(|word| line.contains(word))) {
            return Ok(page);
        }
        ensure!(start.elapsed() < Duration::from_secs(180), "no line with {words:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn it_tells_of_an_engines_containers_with_the_labels_asked_for_and_leaves_nothing() -> Result<()> {
    let engine = Docker::start()?;
    engine.run_detached(&[&LABELLED[..], &[IMAGE, "sleep", "600"]].concat())?;
    let options = CadvisorOptions { docker: Some(engine.host()), ..CadvisorOptions::default() };
    let stored = Cadvisor::start(&options)?;
    let page = page_with(&stored, &["container_memory_rss{", "name=\"measured\""])?;
    assert!(page.contains("container_label_com_example_team=\"shop\""), "{page}");
    assert!(!page.contains("container_memory_numa_pages"), "more than kubelet's");

    let everything = CadvisorOptions { metrics: MetricSet::All, labels: LabelSet::Base, ..options.clone() };
    let page =
        page_with(&Cadvisor::start(&everything)?, &["container_memory_numa_pages", "name=\"measured\""])?;
    assert!(!page.contains("container_label_"), "{page}");

    let kubelets = CadvisorOptions { docker: Some(engine.host()), ..CadvisorOptions::as_kubelet() };
    page_with(&Cadvisor::start(&kubelets)?, &["namespace=\"\"", "name=\"measured\""])?;

    let folder = stored.log().parent().map(Path::to_owned).context("a folder")?;
    let process = format!("/proc/{}", stored.id());
    drop(stored);
    assert_eq!(traces(&folder), Vec::<String>::new());
    assert!(!Path::new(&process).exists());
    Ok(())
}
