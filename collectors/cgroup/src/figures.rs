//! What one cgroup's files say, in one form for both versions. What could not be read is missing, never 0.

/// Everything that was read of one cgroup. Units are the kernel's unless a field says otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) limits: Limits,
    pub(crate) cpu: Cpu,
    pub(crate) memory: Memory,
    pub(crate) io: Vec<DeviceIo>,
    pub(crate) hugetlb: Vec<Huge>,
    pub(crate) pressure: [Option<Pressure>; 3],
    pub(crate) pids: Pids,
}

impl Figures {
    /// Takes over what was read, in the memory that it has.
    pub(crate) fn remember(&mut self, read: &Figures) {
        let Figures { limits, cpu, memory, io, hugetlb, pressure, pids } = read;
        self.limits.clone_from(limits);
        self.cpu.clone_from(cpu);
        self.memory.clone_from(memory);
        self.io.clone_from(io);
        self.hugetlb.clone_from(hugetlb);
        self.pressure = *pressure;
        self.pids.clone_from(pids);
    }

    /// Whether a counter is missing that an earlier reading has.
    pub(crate) fn lacks_of(&self, before: &Figures) -> bool {
        let counters = |figures: &Figures| {
            let Figures { cpu, memory, io, .. } = figures;
            [cpu.usage.is_some(), memory.oom_kills.is_some(), memory.failures.is_some(), !io.is_empty()]
        };
        counters(before).into_iter().zip(counters(self)).any(|(before, now)| before && !now)
    }

    /// Takes from an earlier reading what this one lacks because the cgroup went away meanwhile.
    pub(crate) fn keep_of(&mut self, before: Figures) {
        if self.cpu.usage.is_none() || (self.cpu.periods.is_none() && before.cpu.periods.is_some()) {
            self.cpu = before.cpu;
        }
        // The last of its counters.
        if self.memory.oom_kills.is_none() && before.memory.oom_kills.is_some() {
            self.memory = before.memory;
        }
        if self.io.is_empty() {
            self.io = before.io;
        }
        if self.hugetlb.iter().all(|huge| huge.failures.is_none()) {
            self.hugetlb = before.hugetlb;
        }
        for (now, before) in self.pressure.iter_mut().zip(before.pressure) {
            *now = now.or(before);
        }
        if self.limits == Limits::default() {
            self.limits = before.limits;
        }
    }
}

/// What was configured. Memory in bytes; 0: none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Microseconds.
    pub(crate) period: Option<u64>,
    /// Microseconds of each period; `None` when unlimited or unknown.
    pub(crate) quota: Option<u64>,
    /// As v1 shares, 2 to 262,144.
    pub(crate) shares: Option<u64>,
    pub(crate) memory: Option<u64>,
    /// With v1 of memory and swap together.
    pub(crate) swap: Option<u64>,
    pub(crate) reservation: Option<u64>,
    /// Tasks.
    pub(crate) pids: Option<u64>,
}

/// Times are in seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) usage: Option<f64>,
    pub(crate) user: Option<f64>,
    pub(crate) system: Option<f64>,
    /// Seconds of each CPU, when that was asked for and the kernel says it.
    pub(crate) each: Vec<f64>,
    pub(crate) periods: Option<u64>,
    pub(crate) throttled_periods: Option<u64>,
    pub(crate) throttled: Option<f64>,
    pub(crate) burst_periods: Option<u64>,
    pub(crate) burst: Option<f64>,
}

/// Bytes, pages and events.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Memory {
    pub(crate) usage: Option<u64>,
    pub(crate) peak: Option<u64>,
    pub(crate) kernel: Option<u64>,
    pub(crate) failures: Option<u64>,
    pub(crate) rss: Option<u64>,
    pub(crate) cache: Option<u64>,
    pub(crate) swap: Option<u64>,
    pub(crate) mapped: Option<u64>,
    pub(crate) active_file: Option<u64>,
    pub(crate) inactive_file: Option<u64>,
    pub(crate) dirty: Option<u64>,
    pub(crate) writeback: Option<u64>,
    pub(crate) faults: Option<u64>,
    pub(crate) major_faults: Option<u64>,
    /// Faults and major faults of processes in the cgroup itself, where those below it are counted apart.
    pub(crate) own_faults: [Option<u64>; 2],
    pub(crate) scanned: Option<u64>,
    pub(crate) stolen: Option<u64>,
    pub(crate) refault_file: Option<u64>,
    pub(crate) refault_anon: Option<u64>,
    pub(crate) high_events: Option<u64>,
    pub(crate) max_events: Option<u64>,
    pub(crate) oom_kills: Option<u64>,
}

impl Memory {
    /// Usage without the file cache that is the first to go.
    pub(crate) fn working_set(&self) -> Option<u64> {
        Some(self.usage?.saturating_sub(self.inactive_file?))
    }
}

/// One block device.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceIo {
    pub(crate) device: (u32, u32),
    pub(crate) read_bytes: Option<u64>,
    pub(crate) written_bytes: Option<u64>,
    pub(crate) reads: Option<u64>,
    pub(crate) writes: Option<u64>,
    /// Bytes by operation, as v1 names them.
    pub(crate) operations: Vec<(&'static str, u64)>,
}

impl Clone for DeviceIo {
    fn clone(&self) -> Self {
        DeviceIo { operations: self.operations.clone(), ..*self }
    }

    fn clone_from(&mut self, from: &Self) {
        let mut operations = std::mem::take(&mut self.operations);
        operations.clone_from(&from.operations);
        *self = DeviceIo { operations, ..*from };
    }
}

/// One page size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Huge {
    /// Index into the sizes of the machine.
    pub(crate) size: usize,
    pub(crate) usage: Option<u64>,
    pub(crate) peak: Option<u64>,
    pub(crate) failures: Option<u64>,
}

/// Stall times in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Pressure {
    pub(crate) some: f64,
    /// The kernel may not say it for CPU.
    pub(crate) full: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pids {
    pub(crate) current: Option<u64>,
    /// Processes directly in the cgroup.
    pub(crate) processes: Option<u64>,
    /// One of them, for what is told of processes only.
    pub(crate) first: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cpu: Option<f64>, kills: Option<u64>, quota: Option<u64>, stalled: Option<f64>) -> Figures {
        let stalled = stalled.map(|some| Pressure { some, full: None });
        Figures {
            limits: Limits { quota, ..Limits::default() },
            cpu: Cpu { usage: cpu, ..Cpu::default() },
            memory: Memory { oom_kills: kills, usage: kills, ..Memory::default() },
            pressure: [stalled; 3],
            ..Figures::default()
        }
    }

    #[test]
    fn what_a_vanishing_cgroup_said_last_is_kept_part_by_part() {
        let before = || read(Some(1.0), Some(1), Some(1000), Some(0.5));
        for (after, expected) in [
            (read(None, None, None, None), before()),
            (read(Some(2.0), None, Some(1000), None), read(Some(2.0), Some(1), Some(1000), Some(0.5))),
            (
                read(Some(2.0), Some(3), Some(1000), Some(0.7)),
                read(Some(2.0), Some(3), Some(1000), Some(0.7)),
            ),
        ] {
            let mut kept = after;
            kept.keep_of(before());
            assert_eq!(kept, expected);
        }
    }
}
