//! Reads a cgroup of version 2, which has everything in one directory.

use std::path::Path;

use taffrail_kernfs::{Page, Troubles, parse};

use crate::attribute::Attribute;
use crate::figures::{Cpu, DeviceIo, Figures, Huge, Limits, Memory, Pids, Pressure};
use crate::hierarchy::within;
use crate::tree::Place;
use crate::v1::{device, first_process};

/// Microseconds of a second.
const SECOND: f64 = 1e6;

#[derive(Debug)]
pub(crate) struct V2 {
    cpu_stat: Attribute,
    cpu_max: Attribute,
    cpu_weight: Attribute,
    memory: MemoryFiles,
    io_stat: Attribute,
    huge: Vec<[Attribute; 3]>,
    pressure: PressureFiles,
    pids_current: Attribute,
    pids_max: Attribute,
    procs: Attribute,
}

#[derive(Debug)]
struct MemoryFiles {
    stat: Attribute,
    events: Attribute,
    current: Attribute,
    peak: Attribute,
    max: Attribute,
    min: Attribute,
    swap: Attribute,
    swap_max: Attribute,
}

/// Stalls; in hybrid layouts the v2 hierarchy may have them beside v1's controllers.
#[derive(Debug)]
pub(crate) struct PressureFiles([Attribute; 3]);

impl V2 {
    /// The files of the cgroup `place` in the hierarchy mounted at `tree`. `sizes` are the names of huge page sizes.
    pub(crate) fn new(tree: &Path, place: &Place, sizes: &[String]) -> V2 {
        let directory = within(tree, place);
        let file = |name: &str| Attribute::new(directory.join(name));
        let seldom = |name: &str| Attribute::seldom(directory.join(name));
        let huge = |size: &String| {
            let reserved = directory.join(format!("hugetlb.{size}.rsvd.current")).exists();
            let prefix = format!("hugetlb.{size}{}", if reserved { ".rsvd" } else { "" });
            [format!("{prefix}.current"), format!("{prefix}.peak"), format!("hugetlb.{size}.events")]
                .map(|name| file(&name))
        };
        V2 {
            cpu_stat: file("cpu.stat"),
            cpu_max: seldom("cpu.max"),
            cpu_weight: seldom("cpu.weight"),
            memory: MemoryFiles {
                stat: file("memory.stat"),
                events: file("memory.events"),
                current: file("memory.current"),
                peak: file("memory.peak"),
                max: seldom("memory.max"),
                min: seldom("memory.min"),
                swap: file("memory.swap.current"),
                swap_max: seldom("memory.swap.max"),
            },
            io_stat: file("io.stat"),
            huge: sizes.iter().map(huge).collect(),
            pressure: PressureFiles::new(tree, place),
            pids_current: file("pids.current"),
            pids_max: seldom("pids.max"),
            procs: file("cgroup.procs"),
        }
    }

    /// What was configured. Changes when somebody writes to the files.
    pub(crate) fn read_limits(&mut self, limits: &mut Limits, page: &mut Page, troubles: &mut Troubles) {
        *limits = Limits::default();
        if let Some(text) = self.cpu_max.read(page, troubles) {
            let mut words = parse::words(text).map(parse::number);
            limits.quota = words.next().flatten();
            limits.period = words.next().flatten();
        }
        limits.shares = self.cpu_weight.number(page, troubles).map(shares);
        limits.memory = self.memory.max.limit(page, troubles);
        limits.reservation = self.memory.min.limit(page, troubles);
        limits.swap = self.memory.swap_max.limit(page, troubles);
        limits.pids = self.pids_max.limit(page, troubles);
    }

    /// What was used. Overwrites `figures`, but for the limits.
    pub(crate) fn read(&mut self, figures: &mut Figures, page: &mut Page, troubles: &mut Troubles) {
        figures.cpu = self.read_cpu(page, troubles);
        figures.memory = self.memory.read(page, troubles);
        self.read_io(&mut figures.io, page, troubles);
        figures.hugetlb.clear();
        for (size, [usage, peak, events]) in self.huge.iter_mut().enumerate() {
            let (usage, peak) = (usage.number(page, troubles), peak.number(page, troubles));
            let failures = event(events.read(page, troubles), b"max");
            figures.hugetlb.push(Huge { size, usage, peak, failures });
        }
        figures.pressure = self.pressure.read(page, troubles);
        let mut pids = Pids { current: self.pids_current.number(page, troubles), ..Pids::default() };
        if let Some(text) = self.procs.read(page, troubles) {
            pids.processes = Some(parse::lines(text).count() as u64);
            pids.first = first_process(text);
        }
        figures.pids = pids;
    }

    fn read_cpu(&mut self, page: &mut Page, troubles: &mut Troubles) -> Cpu {
        let mut cpu = Cpu::default();
        for (key, value) in self.cpu_stat.read(page, troubles).into_iter().flat_map(parse::pairs) {
            let seconds = Some(value as f64 / SECOND);
            match key {
                b"usage_usec" => cpu.usage = seconds,
                b"user_usec" => cpu.user = seconds,
                b"system_usec" => cpu.system = seconds,
                b"nr_periods" => cpu.periods = Some(value),
                b"nr_throttled" => cpu.throttled_periods = Some(value),
                b"throttled_usec" => cpu.throttled = seconds,
                b"nr_bursts" => cpu.burst_periods = Some(value),
                b"burst_usec" => cpu.burst = seconds,
                _ => {}
            }
        }
        cpu
    }

    fn read_io(&mut self, io: &mut Vec<DeviceIo>, page: &mut Page, troubles: &mut Troubles) {
        io.clear();
        for line in self.io_stat.read(page, troubles).into_iter().flat_map(parse::lines) {
            let Some(device) = parse::words(line).next().and_then(device) else { continue };
            let value = |key: &[u8]| parse::assigned(line, key);
            let (read_bytes, written_bytes) = (value(b"rbytes"), value(b"wbytes"));
            let operations = [("Read", read_bytes), ("Write", written_bytes)];
            io.push(DeviceIo {
                device,
                read_bytes,
                written_bytes,
                reads: value(b"rios"),
                writes: value(b"wios"),
                operations: operations.into_iter().filter_map(|(name, bytes)| Some((name, bytes?))).collect(),
            });
        }
    }

    pub(crate) fn attributes(&mut self) -> impl Iterator<Item = &mut Attribute> {
        let memory = &mut self.memory;
        let memory = [
            &mut memory.stat,
            &mut memory.events,
            &mut memory.current,
            &mut memory.peak,
            &mut memory.max,
            &mut memory.min,
            &mut memory.swap,
            &mut memory.swap_max,
        ];
        let own = [
            &mut self.cpu_stat,
            &mut self.cpu_max,
            &mut self.cpu_weight,
            &mut self.io_stat,
            &mut self.pids_current,
            &mut self.pids_max,
            &mut self.procs,
        ];
        own.into_iter().chain(memory).chain(self.huge.iter_mut().flatten()).chain(self.pressure.attributes())
    }
}

impl MemoryFiles {
    fn read(&mut self, page: &mut Page, troubles: &mut Troubles) -> Memory {
        let mut memory = Memory {
            usage: self.current.number(page, troubles),
            peak: self.peak.number(page, troubles),
            swap: self.swap.number(page, troubles),
            ..Memory::default()
        };
        for (key, value) in self.events.read(page, troubles).into_iter().flat_map(parse::pairs) {
            match key {
                b"high" => memory.high_events = Some(value),
                b"max" => memory.max_events = Some(value),
                b"oom_kill" => memory.oom_kills = Some(value),
                _ => {}
            }
        }
        memory.failures = memory.max_events;
        for (key, value) in self.stat.read(page, troubles).into_iter().flat_map(parse::pairs) {
            let field = match key {
                b"anon" => &mut memory.rss,
                b"file" => &mut memory.cache,
                b"kernel" => &mut memory.kernel,
                b"file_mapped" => &mut memory.mapped,
                b"active_file" => &mut memory.active_file,
                b"inactive_file" => &mut memory.inactive_file,
                b"file_dirty" => &mut memory.dirty,
                b"file_writeback" => &mut memory.writeback,
                b"pgfault" => &mut memory.faults,
                b"pgmajfault" => &mut memory.major_faults,
                b"pgscan" => &mut memory.scanned,
                b"pgsteal" => &mut memory.stolen,
                b"workingset_refault_file" => &mut memory.refault_file,
                b"workingset_refault_anon" => &mut memory.refault_anon,
                _ => continue,
            };
            *field = Some(value);
        }
        // The root cgroup has no usage of its own.
        if memory.usage.is_none() {
            memory.usage = memory.rss.zip(memory.cache).map(|(anon, file)| anon + file);
        }
        memory
    }
}

impl PressureFiles {
    pub(crate) fn new(tree: &Path, place: &Place) -> PressureFiles {
        let directory = within(tree, place);
        PressureFiles(
            ["cpu", "memory", "io"].map(|name| Attribute::new(directory.join(format!("{name}.pressure")))),
        )
    }

    /// CPU, memory, I/O.
    pub(crate) fn read(&mut self, page: &mut Page, troubles: &mut Troubles) -> [Option<Pressure>; 3] {
        self.0.each_mut().map(|file| file.read(page, troubles).and_then(pressure))
    }

    pub(crate) fn attributes(&mut self) -> impl Iterator<Item = &mut Attribute> {
        self.0.iter_mut()
    }
}

fn pressure(text: &[u8]) -> Option<Pressure> {
    let total = |word: &[u8]| {
        let line = parse::lines(text).find(|line| line.starts_with(word))?;
        Some(parse::assigned(line, b"total")? as f64 / SECOND)
    };
    Some(Pressure { some: total(b"some")?, full: total(b"full") })
}

fn event(text: Option<&[u8]>, name: &[u8]) -> Option<u64> {
    parse::pairs(text?).find(|(key, _)| *key == name).map(|(_, count)| count)
}

/// A weight of v2 (1 to 10,000) as shares of v1 (2 to 262,144).
fn shares(weight: u64) -> u64 {
    2 + weight.saturating_sub(1) * 262_142 / 9999
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_shown_as_shares() {
        assert_eq!([1, 39, 100, 10_000].map(shares), [2, 998, 2597, 262_144]);
    }

    #[test]
    fn pressure_has_one_line_or_two() {
        let both = b"some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n";
        assert_eq!(pressure(both), Some(Pressure { some: 2.5, full: Some(0.5) }));
        assert_eq!(pressure(b"some avg10=0.00 total=1\n").map(|p| p.full), Some(None));
        assert_eq!(pressure(b""), None);
    }
}
