//! Containers' metrics beside a real cAdvisor that runs by itself, on a real engine's containers of which is known what
//! they do: with the labels of kubelet's endpoint, and with cAdvisor's own.
//!
//! Every difference is in a table here with its reason; another one fails the test. What users are told of differences,
//! `taffrail metrics --diff`, must explain all that it finds, too.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use support::{Agent, Exposition, Round, Series, agree, is_explained, until};
use taffrail_parts::docker::{Docker, IMAGE};
use taffrail_parts::{Cadvisor, CadvisorOptions, LabelSet};

const LOAD: &str = "always 0: its load reader is off unless asked for, and gone from newer releases";
const DISK: &str = "figures of the whole disk, in a container's series";
const WALK: &str = "found by a walk through file systems, which each of the two takes when it likes";
const MILLIONTH: &str = "it takes milliseconds for nanoseconds";
const NEWER: &str = "newer than cAdvisor 0.52";

/// Families, by the beginnings of their names, that are 0 there and missing here.
const ZERO: [(&str, &str); 5] = [
    ("container_fs_inodes_free", "a container has no inodes of its own"),
    ("container_cpu_load_", LOAD),
    ("container_tasks_state", LOAD),
    ("container_threads", "of the machine: on cgroup version 1 the kernel does not tell it"),
    ("machine_nvm_", "no such memory"),
];

/// Families, by the beginnings of their names, of the machine as a whole that only cAdvisor has.
const ONLY_MACHINE: [(&str, &str); 2] = [
    ("container_file_descriptors", "it counts those that it may look at, and calls it all"),
    ("container_sockets", "it counts those that it may look at, and calls it all"),
];

/// Families, by the beginnings of their names, that only cAdvisor has.
const ONLY_CADVISOR: [(&str, &str); 8] = [
    ("container_fs_io_", DISK),
    ("container_fs_read_seconds_total", DISK),
    ("container_fs_reads_merged_total", DISK),
    ("container_fs_reads_total", DISK),
    ("container_fs_sector_", DISK),
    ("container_fs_write_seconds_total", DISK),
    ("container_fs_writes_merged_total", DISK),
    ("container_fs_writes_total", DISK),
];

/// Families, by the beginnings of their names, that only the agent has.
const ONLY_HERE: [(&str, &str); 4] = [
    ("container_cpu_cfs_burst_", NEWER),
    ("container_memory_file_dirty_bytes", NEWER),
    ("container_memory_file_writeback_bytes", NEWER),
    ("container_memory_workingset_refault_", NEWER),
];

/// Families whose values differ.
const VALUES: [(&str, &str); 7] = [
    ("container_fs_io_time_", MILLIONTH),
    ("container_fs_read_seconds_total", MILLIONTH),
    ("container_fs_write_seconds_total", MILLIONTH),
    ("container_fs_usage_bytes", WALK),
    ("container_last_seen", "the time of the scrape"),
    ("container_pressure_", "0 there beside cgroup version 1, although the kernel tells it"),
    ("container_memory_failures_total", "on cgroup version 1 it leaves out what is in groups below"),
];

/// Two series are told apart by labels that have a value: to Prometheus one without is none.
fn comparable(page: &str, wanted: impl Fn(&Series) -> bool) -> Result<Exposition> {
    let read = Exposition::parse(page)?;
    let samples = read.samples.into_iter().filter(|(series, _)| wanted(series)).map(|(mut series, value)| {
        series.labels.retain(|_, value| !value.is_empty());
        (series, value)
    });
    Ok(Exposition { samples: samples.collect(), ..read })
}

fn in_table(name: &str, table: &[(&str, &str)]) -> bool {
    table.iter().any(|(beginning, _)| name.starts_with(beginning))
}

/// An engine with containers that work, an agent, and a cAdvisor.
struct Stage {
    engine: Docker,
    agent: Agent,
    cadvisor: Cadvisor,
    /// The containers' ids.
    ids: Vec<String>,
    _scratch: tempfile::TempDir,
}

impl Stage {
    fn set(labels: LabelSet, style: &str) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let engine = Docker::start()?;
        let mut agent = Agent::new(&format!(
            "docker: {{enabled: always, socket: {}}}\nlogs: {{kubernetes: {{enabled: false}}}}\n\
             metrics: {{containers: {{labels: {style}, descriptors_seconds: 1, disk_seconds: 1}}}}\n\
             output: {{file: {{directory: {}}}}}\n",
            engine.socket().display(),
            scratch.path().join("records").display()
        ))?;
        agent.start()?;
        let options = CadvisorOptions { labels, docker: Some(engine.host()), ..CadvisorOptions::default() };
        let cadvisor = Cadvisor::start(&options)?;
        let mut stage = Stage { engine, agent, cadvisor, ids: Vec::new(), _scratch: scratch };
        stage.load()?;
        Ok(stage)
    }

    /// Starts what is known to throttle, to fill its cache, to be killed, and to rest.
    fn load(&mut self) -> Result<()> {
        let busy = "dd if=/dev/zero of=/file bs=1M count=24; while :; do :; done";
        let killed = "tail /dev/zero; cat /etc/passwd; sleep 600";
        let containers: [(&str, &[&str], &str); 3] = [
            ("busy", &["--cpus", "0.2", "--memory", "64m", "--label", "com.example/team=shop"], busy),
            ("killed", &["--memory", "16m", "--memory-swap", "16m", "--label", "tier=back"], killed),
            ("idle", &["--pids-limit", "50", "--cpu-shares", "512"], "sleep 600"),
        ];
        for (name, options, script) in containers {
            let all = [&["--name", name], options, &[IMAGE, "sh", "-c", script]].concat();
            self.ids.push(self.engine.run_detached(&all)?);
        }
        until("both know all containers", || {
            let pages = [self.agent.page("/metrics/cadvisor")?, self.cadvisor.scrape()?];
            let names = containers.map(|(name, ..)| format!("name=\"{name}\""));
            Ok(pages.iter().all(|page| names.iter().all(|name| page.contains(name))))
        })
    }

    /// What is compared: the engine's containers, the machine as a whole, and facts of it.
    fn wants(&self, series: &Series) -> bool {
        let id = series.label("id");
        series.name.starts_with("machine_")
            || id == "/" && series.name.starts_with("container_")
            || self.ids.iter().any(|known| id.ends_with(known.as_str()))
    }

    fn ours(&self) -> Result<Exposition> {
        comparable(&self.agent.page("/metrics/cadvisor")?, |series| self.wants(series))
    }

    fn round(&self) -> Result<Round> {
        let before = self.ours()?;
        // It reads every second, the agent when asked and no more often than that.
        std::thread::sleep(Duration::from_millis(2200));
        let theirs = comparable(&self.cadvisor.scrape()?, |series| self.wants(series))?;
        Ok(Round { before, theirs, after: self.ours()? })
    }
}

/// Whether the machine's clock was set forward since it started (`booted`, by the clock as it is), and showed this time before.
/// Its oldest files have the time of its start.
fn shown_before_the_clock_was_set(time: f64, booted: f64) -> bool {
    let oldest = std::fs::metadata("/sys").and_then(|root| root.modified()).ok();
    let oldest = oldest.and_then(|time| Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64()));
    oldest.is_some_and(|oldest| oldest + 2.0 < booted && (oldest..booted).contains(&time))
}

/// What speaks against a series, if anything does.
fn complaint(round: &Round, series: &Series) -> Option<String> {
    let name = &series.name;
    match round.values(series) {
        (Some(before), Some(theirs), Some(after)) => {
            let is_start = name == "container_start_time_seconds";
            let room = if is_start { 2.0 } else { theirs.abs() * 1e-9 };
            // Of the machine it takes a file's time, by the clock as it was then.
            let of_then =
                is_start && series.label("id") == "/" && shown_before_the_clock_was_set(theirs, before);
            let within = theirs >= before.min(after) - room && theirs <= before.max(after) + room || of_then;
            (!within && !in_table(name, &VALUES))
                .then(|| format!("{before} here, then {theirs} there, then {after} here"))
        }
        (_, None, _) => (!in_table(name, &ONLY_HERE)).then(|| "only here".to_owned()),
        (_, Some(theirs), _) => {
            let known = in_table(name, &ONLY_CADVISOR)
                || theirs == 0.0 && in_table(name, &ZERO)
                || series.label("id") == "/" && in_table(name, &ONLY_MACHINE);
            (!known).then(|| format!("only there, {theirs}"))
        }
    }
}

fn play(labels: LabelSet, style: &str) -> Result<BTreeSet<Series>> {
    let mut stage = Stage::set(labels, style)?;
    let agreed = agree(|| stage.round(), complaint)?;
    is_explained(&stage.agent, "container", stage.cadvisor.address())?;
    stage.agent.stop()?;
    let of = |container: &str| agreed.iter().filter(|series| series.label("name") == container).count();
    for container in ["busy", "killed", "idle"] {
        ensure!(of(container) > 40, "only {} series of {container}", of(container));
    }
    Ok(agreed)
}

#[test]
fn containers_have_the_series_types_and_values_of_cadvisor_under_kubelets_labels() -> Result<()> {
    let agreed = play(LabelSet::Kubelet, "kubelet")?;
    assert!(
        agreed.iter().all(|series| !series.labels.keys().any(|label| label.starts_with("container_label")))
    );
    Ok(())
}

#[test]
fn containers_have_the_series_types_and_values_of_cadvisor_under_its_own_labels() -> Result<()> {
    let agreed = play(LabelSet::Stored, "cadvisor")?;
    let of_busy = |series: &&Series| series.label("name") == "busy";
    let labelled = |series: &&Series| series.label("container_label_com_example_team") == "shop";
    assert_eq!(agreed.iter().filter(of_busy).count(), agreed.iter().filter(of_busy).filter(labelled).count());
    Ok(())
}

#[test]
fn a_cadvisor_that_does_not_store_labels_is_explained() -> Result<()> {
    let mut stage = Stage::set(LabelSet::Base, "cadvisor")?;
    is_explained(&stage.agent, "container", stage.cadvisor.address())?;
    stage.agent.stop()
}
