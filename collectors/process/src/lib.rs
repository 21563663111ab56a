//! The agent's own process, under the names that every Prometheus client library uses.
//!
//! Read from `/proc/self` on each scrape. What cannot be read is left out, and the error says what it was.

use procfs::process::{LimitValue, Process, Stat};
use procfs::{ProcError, WithCurrentSystemInfo as _};
use taffrail_record::{Ask, AskError, Family, Kind, Samples};

const fn family(name: &'static str, kind: Kind, help: &'static str) -> Family {
    Family { name, kind, help, labels: &[] }
}

static FAMILIES: [Family; 8] = [
    family("process_cpu_seconds_total", Kind::Counter, "User and system CPU time spent, in seconds."),
    family("process_resident_memory_bytes", Kind::Gauge, "Resident memory, in bytes."),
    family("process_virtual_memory_bytes", Kind::Gauge, "Virtual address space in use, in bytes."),
    family("process_threads", Kind::Gauge, "Number of threads."),
    family(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started, in seconds since the Unix epoch.",
    ),
    family("process_open_fds", Kind::Gauge, "Number of open file descriptors."),
    family("process_max_fds", Kind::Gauge, "Largest number of open file descriptors."),
    family(
        "process_virtual_memory_max_bytes",
        Kind::Gauge,
        "Largest virtual address space, in bytes; 2^64 - 1 without a limit.",
    ),
];
const CPU: usize = 0;
const RESIDENT: usize = 1;
const VIRTUAL: usize = 2;
const THREADS: usize = 3;
const START: usize = 4;
const OPEN: usize = 5;
const MAX: usize = 6;
const VIRTUAL_MAX: usize = 7;

/// Answers for the process that asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct OwnProcess;

impl Ask for OwnProcess {
    fn name(&self) -> &'static str {
        "process"
    }

    fn families(&self) -> &'static [Family] {
        &FAMILIES
    }

    fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
        let process = Process::myself().map_err(failed("/proc/self"))?;
        let stat = process.stat().map_err(failed("/proc/self/stat"));
        let started = stat.as_ref().ok().map(start_time).transpose().map_err(failed("/proc/stat"));
        let open = process.fd_count().map_err(failed("/proc/self/fd"));
        let limits = process.limits().map_err(failed("/proc/self/limits"));
        if let Ok(stat) = &stat {
            write_stat(samples, stat);
        }
        write(samples, START, started.as_ref().ok().copied().flatten());
        write(samples, OPEN, open.as_ref().ok().map(|count| *count as f64));
        write(samples, MAX, limits.as_ref().ok().and_then(|l| limit(l.max_open_files.soft_limit)));
        // Other than descriptors, address space is commonly without a limit, and told so by client libraries.
        let most =
            limits.as_ref().ok().map(|l| limit(l.max_address_space.soft_limit).unwrap_or(u64::MAX as f64));
        write(samples, VIRTUAL_MAX, most);
        stat.and(started).and(open).and(limits).map(drop)
    }
}

fn write(samples: &mut dyn Samples, family: usize, value: Option<f64>) {
    if let Some(value) = value {
        samples.family(&FAMILIES[family]);
        samples.sample(&[], value);
    }
}

fn write_stat(samples: &mut dyn Samples, stat: &Stat) {
    let ticks = (stat.utime + stat.stime) as f64;
    write(samples, CPU, Some(ticks / procfs::ticks_per_second() as f64));
    write(samples, RESIDENT, Some(stat.rss_bytes().get() as f64));
    write(samples, VIRTUAL, Some(stat.vsize as f64));
    write(samples, THREADS, Some(stat.num_threads as f64));
}

/// Seconds since the epoch: boot time plus the ticks that had passed since.
fn start_time(stat: &Stat) -> Result<f64, ProcError> {
    let since_boot = stat.starttime as f64 / procfs::ticks_per_second() as f64;
    Ok(procfs::boot_time_secs()? as f64 + since_boot)
}

/// No number when there is no limit.
fn limit(value: LimitValue) -> Option<f64> {
    match value {
        LimitValue::Value(value) => Some(value as f64),
        LimitValue::Unlimited => None,
    }
}

fn failed(what: &'static str) -> impl Fn(ProcError) -> AskError {
    move |cause| AskError::Failed { what: what.to_owned(), cause: Box::new(cause) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::time::{SystemTime, UNIX_EPOCH};

    use taffrail_record::Gathered;

    use super::*;

    fn taken() -> BTreeMap<String, f64> {
        let mut taken = Gathered::default();
        OwnProcess.ask(&mut taken).expect("own process");
        taken.samples().iter().map(|sample| (sample.family.clone(), sample.value)).collect()
    }

    // One test: another thread's memory and descriptors would be in the figures.
    #[test]
    fn every_family_has_a_value_that_follows_what_the_process_does() {
        let before = taken();
        let mut declared: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        declared.sort_unstable();
        assert_eq!(before.keys().map(String::as_str).collect::<Vec<_>>(), declared);
        let block = vec![1_u8; 64 << 20];
        let files: Vec<File> = (0..50).map(|_| File::open("/proc/self/stat").expect("opens")).collect();
        let after = taken();
        let grown = |name: &str| after[name] - before[name];
        // The kernel sums resident pages per processor in batches, so the figure is not exact.
        assert!(grown("process_resident_memory_bytes") > (48 << 20) as f64);
        assert!(grown("process_virtual_memory_bytes") >= block.len() as f64);
        assert!(grown("process_open_fds") >= files.len() as f64);
        assert_eq!(before["process_start_time_seconds"], after["process_start_time_seconds"]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let age = now - after["process_start_time_seconds"];
        assert!((-2.0..3600.0).contains(&age), "{age}");
        assert!(after["process_max_fds"] >= after["process_open_fds"]);
        assert!(after["process_virtual_memory_max_bytes"] >= after["process_virtual_memory_bytes"]);
    }
}
