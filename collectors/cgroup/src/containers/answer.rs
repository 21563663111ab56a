//! The exposition: every family of every cgroup, and how the collector itself fares.

use std::sync::LazyLock;
use std::time::Instant;

use taffrail_kernfs::Reason;
use taffrail_record::{Ask, AskError, Family, Kind, Samples};

use super::find::Ended;
use super::{Containers, State};
use crate::entry::Scene;
use crate::families::rows;
use crate::written::Unknown;

/// The one gauge that a container keeps.
const LAST_SEEN: &str = "container_last_seen";

static ENDED: Family = Family {
    name: "taffrail_container_ended_seconds",
    kind: Kind::Gauge,
    help: "When a container was read last whose cgroup is gone, in seconds since the epoch; its counters stay for \
           metrics.containers.ended_seconds.",
    labels: &[],
};
static SCRAPE_ERROR: Family = Family {
    name: "container_scrape_error",
    kind: Kind::Gauge,
    help: "1 when the cgroups could not be listed.",
    labels: &[],
};
static ERRORS: Family = Family {
    name: "taffrail_containers_read_errors_total",
    kind: Kind::Counter,
    help: "Figures of cgroups that could not be read, by reason; absent and gone are in the course of events.",
    labels: &["reason"],
};
static LEFT_OUT: Family = Family {
    name: "taffrail_containers_left_out",
    kind: Kind::Gauge,
    help: "Cgroups without series because there are more than `containers.most`.",
    labels: &[],
};

static UNWRITTEN: Family = Family {
    name: "taffrail_containers_disk_unknown",
    kind: Kind::Gauge,
    help: "Containers of which it is not known what they have written to disk, by reason: denied, too_large (more than 500,000 \
           files, or too deep), no_layer (not an overlay), untrusted (an overlay that the container may have mounted itself), \
           no_process (none that could be asked) or failed.",
    labels: &["reason"],
};

/// Every family, for the reference.
static FAMILIES: LazyLock<Vec<Family>> = LazyLock::new(|| {
    let copy = |f: &Family| Family { name: f.name, kind: f.kind, help: f.help, labels: f.labels };
    rows()
        .map(|row| &row.family)
        .chain([&ENDED, &SCRAPE_ERROR, &ERRORS, &LEFT_OUT, &UNWRITTEN])
        .map(copy)
        .collect()
});

impl Ask for Containers {
    fn name(&self) -> &'static str {
        "containers"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let inner = &*self.inner;
        let mut state = inner.state.lock();
        inner.collect(&mut state, Instant::now());
        self.watch_ends();
        self.walk(Instant::now());
        let state = &*state;
        let memory = state.memory;
        let scene = Scene {
            devices: &state.devices,
            networks: &state.networks,
            filesystems: state.filesystems.shown(),
            huge: &state.huge,
            cpus: &state.cpus,
            machine_memory: memory.total,
            machine_swap: memory.swap,
            swap_used: memory.swap.zip(memory.swap_free).map(|(all, free)| all.saturating_sub(free)),
            compat: inner.config.compat,
        };
        for row in rows() {
            samples.family(&row.family);
            // Of those that are gone only what counts up to its last moment has a meaning.
            let stays = row.family.kind == Kind::Counter || row.family.name == LAST_SEEN;
            let ended = state.ended.values().map(|ended| &ended.entry).filter(|_| stays);
            for entry in state.entries.values().chain(ended) {
                (row.write)(entry, &scene, &mut |more, value| {
                    samples.labelled(&[more, &entry.labels], value);
                });
            }
        }
        state.write_own(samples);
        match (&state.machine, &state.told) {
            (None, _) => {
                Err(AskError::Absent(format!("no cgroups at {}", inner.roots.sys("fs/cgroup").display())))
            }
            (_, Some(told)) => {
                Err(AskError::Failed { what: "cgroups".to_owned(), cause: told.clone().into() })
            }
            _ => Ok(()),
        }
    }
}

impl State {
    /// How the collector itself fares.
    fn write_own(&self, samples: &mut dyn Samples) {
        samples.family(&ENDED);
        for Ended { entry, .. } in self.ended.values() {
            samples.labelled(&[&entry.labels], entry.seen);
        }
        samples.family(&SCRAPE_ERROR);
        samples.sample(&[], f64::from(u8::from(self.machine.is_none())));
        samples.family(&ERRORS);
        for reason in Reason::ALL {
            samples.sample(&[reason.name()], self.errors[reason as usize] as f64);
        }
        samples.family(&LEFT_OUT);
        samples.sample(&[], self.left_out.len() as f64);
        samples.family(&UNWRITTEN);
        for (why, count) in Unknown::ALL.iter().zip(self.unwritten) {
            samples.sample(&[why.name()], count as f64);
        }
    }
}
