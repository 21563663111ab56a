//! Reads a cgroup of version 1, whose controllers have a directory each.

use std::path::Path;

use taffrail_kernfs::{Page, Troubles, parse};

use crate::attribute::Attribute;
use crate::figures::{Cpu, DeviceIo, Figures, Huge, Limits, Memory, Pids};
use crate::hierarchy::{Hierarchy, within};
use crate::tree::Place;

/// Nanoseconds of a second. Divided by, not multiplied with its inverse: the quotient is the nearest number.
const SECOND: f64 = 1e9;

/// Files that tell of block devices, by who schedules them; the first that names a device is right. The throttling layer
/// sees all requests, schedulers only their own.
const BLOCK: [[&str; 2]; 4] = [
    ["blkio.bfq.io_service_bytes_recursive", "blkio.bfq.io_serviced_recursive"],
    ["blkio.io_service_bytes_recursive", "blkio.io_serviced_recursive"],
    ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"],
    ["blkio.throttle.io_service_bytes", "blkio.throttle.io_serviced"],
];

/// The operations of v1, as they are named in series.
const OPERATIONS: [&str; 6] = ["Read", "Write", "Sync", "Async", "Discard", "Total"];

#[derive(Debug)]
pub(crate) struct V1 {
    cpu: Option<CpuFiles>,
    accounts: Option<AccountFiles>,
    memory: Option<MemoryFiles>,
    block: Vec<[Attribute; 2]>,
    huge: Vec<[Attribute; 3]>,
    pids: Option<[Attribute; 2]>,
    procs: Option<Attribute>,
    ticks: f64,
}

#[derive(Debug)]
struct CpuFiles {
    stat: Attribute,
    period: Attribute,
    quota: Attribute,
    shares: Attribute,
}

#[derive(Debug)]
struct AccountFiles {
    usage: Attribute,
    stat: Attribute,
    each: Option<Attribute>,
}

#[derive(Debug)]
struct MemoryFiles {
    /// Whether the figures of children are in `total_` lines.
    totals: bool,
    stat: Attribute,
    usage: Attribute,
    peak: Attribute,
    kernel: Attribute,
    failures: Attribute,
    limit: Attribute,
    swap_limit: Attribute,
    reservation: Attribute,
    oom: Attribute,
}

impl V1 {
    /// The files of the cgroup `place`. `sizes` are the names of huge page sizes, `ticks` how many of them a second has.
    pub(crate) fn new(
        hierarchy: &Hierarchy,
        place: &Place,
        sizes: &[String],
        per_cpu: bool,
        ticks: u64,
        page: &mut Page,
    ) -> V1 {
        let controller = |name: &str| Some(within(hierarchy.controller(name)?, place)).filter(|d| d.is_dir());
        let file = |directory: &Path, name: &str| Attribute::new(directory.join(name));
        let seldom = |directory: &Path, name: &str| Attribute::seldom(directory.join(name));
        let (cpu, accounts, memory) = (controller("cpu"), controller("cpuacct"), controller("memory"));
        let (block, huge, pids) = (controller("blkio"), controller("hugetlb"), controller("pids"));
        let procs = [&cpu, &memory, &pids, &accounts].into_iter().flatten().next();
        let huge_files = |size: &String| {
            let directory = huge.as_deref()?;
            let reserved = directory.join(format!("hugetlb.{size}.rsvd.usage_in_bytes")).exists();
            let prefix = format!("hugetlb.{size}{}", if reserved { ".rsvd" } else { "" });
            Some(
                ["usage_in_bytes", "max_usage_in_bytes", "failcnt"]
                    .map(|name| file(directory, &format!("{prefix}.{name}"))),
            )
        };
        V1 {
            procs: procs.map(|d| file(d, "cgroup.procs")),
            cpu: cpu.as_deref().map(|d| CpuFiles {
                stat: file(d, "cpu.stat"),
                period: seldom(d, "cpu.cfs_period_us"),
                quota: seldom(d, "cpu.cfs_quota_us"),
                shares: seldom(d, "cpu.shares"),
            }),
            accounts: accounts.as_deref().map(|d| AccountFiles {
                usage: file(d, "cpuacct.usage"),
                stat: file(d, "cpuacct.stat"),
                each: per_cpu.then(|| file(d, "cpuacct.usage_percpu")),
            }),
            memory: memory.as_deref().map(|d| MemoryFiles {
                totals: seldom(d, "memory.use_hierarchy").number(page, &mut Troubles::default()) != Some(0),
                stat: file(d, "memory.stat"),
                usage: file(d, "memory.usage_in_bytes"),
                peak: file(d, "memory.max_usage_in_bytes"),
                kernel: file(d, "memory.kmem.usage_in_bytes"),
                failures: file(d, "memory.failcnt"),
                limit: seldom(d, "memory.limit_in_bytes"),
                swap_limit: seldom(d, "memory.memsw.limit_in_bytes"),
                reservation: seldom(d, "memory.soft_limit_in_bytes"),
                oom: file(d, "memory.oom_control"),
            }),
            block: block
                .as_deref()
                .map_or(Vec::new(), |d| BLOCK.map(|names| names.map(|n| file(d, n))).into()),
            huge: sizes.iter().filter_map(huge_files).collect(),
            pids: pids.as_deref().map(|d| [file(d, "pids.current"), seldom(d, "pids.max")]),
            ticks: ticks.max(1) as f64,
        }
    }

    /// What was configured. Changes when somebody writes to the files.
    pub(crate) fn read_limits(&mut self, limits: &mut Limits, page: &mut Page, troubles: &mut Troubles) {
        *limits = Limits::default();
        if let Some(files) = &mut self.cpu {
            limits.period = files.period.number(page, troubles);
            limits.quota = files.quota.limit(page, troubles).filter(|quota| *quota > 0);
            limits.shares = files.shares.number(page, troubles);
        }
        if let Some(files) = &mut self.memory {
            limits.memory = files.limit.limit(page, troubles);
            limits.swap = files.swap_limit.limit(page, troubles);
            limits.reservation = files.reservation.limit(page, troubles);
        }
        if let Some([_, max]) = &mut self.pids {
            limits.pids = max.limit(page, troubles);
        }
    }

    /// What was used. Overwrites `figures`, but for the limits, which are to be read before. `block` is which of the
    /// [`BLOCK`] files are right on this machine, once that is known.
    pub(crate) fn read(
        &mut self,
        figures: &mut Figures,
        block: &mut Option<usize>,
        page: &mut Page,
        troubles: &mut Troubles,
    ) {
        self.read_cpu(figures, page, troubles);
        let (limits, before) = (&figures.limits, &figures.memory);
        let memory = self.memory.as_mut().map(|files| files.read(limits, before, page, troubles));
        figures.memory = memory.unwrap_or_default();
        self.read_block(&mut figures.io, block, page, troubles);
        figures.hugetlb.clear();
        for (size, [usage, peak, failures]) in self.huge.iter_mut().enumerate() {
            figures.hugetlb.push(Huge {
                size,
                usage: usage.number(page, troubles),
                peak: peak.number(page, troubles),
                failures: failures.number(page, troubles),
            });
        }
        let mut pids = Pids::default();
        if let Some([current, _]) = &mut self.pids {
            pids.current = current.number(page, troubles);
        }
        if let Some(text) = self.procs.as_mut().and_then(|procs| procs.read(page, troubles)) {
            pids.processes = Some(parse::lines(text).count() as u64);
            pids.first = first_process(text);
        }
        figures.pids = pids;
    }

    fn read_cpu(&mut self, figures: &mut Figures, page: &mut Page, troubles: &mut Troubles) {
        let cpu = &mut figures.cpu;
        let mut each = std::mem::take(&mut cpu.each);
        each.clear();
        *cpu = Cpu { each, ..Cpu::default() };
        if let Some(files) = &mut self.accounts {
            cpu.usage = files.usage.number(page, troubles).map(|nanos| nanos as f64 / SECOND);
            for (key, ticks) in files.stat.read(page, troubles).into_iter().flat_map(parse::pairs) {
                match key {
                    b"user" => cpu.user = Some(ticks as f64 / self.ticks),
                    b"system" => cpu.system = Some(ticks as f64 / self.ticks),
                    _ => {}
                }
            }
            if let Some(text) = files.each.as_mut().and_then(|file| file.read(page, troubles)) {
                let nanos = parse::words(text).filter_map(parse::number);
                cpu.each.extend(nanos.map(|nanos| nanos as f64 / SECOND));
            }
        }
        // It tells of quotas only.
        let Some(files) = self.cpu.as_mut().filter(|_| figures.limits.quota.is_some()) else { return };
        for (key, value) in files.stat.read(page, troubles).into_iter().flat_map(parse::pairs) {
            match key {
                b"nr_periods" => cpu.periods = Some(value),
                b"nr_throttled" => cpu.throttled_periods = Some(value),
                b"throttled_time" => cpu.throttled = Some(value as f64 / SECOND),
                b"nr_bursts" => cpu.burst_periods = Some(value),
                b"burst_time" => cpu.burst = Some(value as f64 / SECOND),
                _ => {}
            }
        }
    }

    fn read_block(
        &mut self,
        io: &mut Vec<DeviceIo>,
        right: &mut Option<usize>,
        page: &mut Page,
        troubles: &mut Troubles,
    ) {
        io.clear();
        let candidates = self.block.iter_mut().enumerate();
        for (group, [bytes, operations]) in
            candidates.filter(|(group, _)| right.is_none_or(|right| right == *group))
        {
            if let Some(text) = bytes.read(page, troubles) {
                each_operation(text, |device, operation, value| {
                    let device = of(io, device);
                    match operation {
                        "Read" => device.read_bytes = Some(value),
                        "Write" => device.written_bytes = Some(value),
                        _ => {}
                    }
                    device.operations.push((operation, value));
                });
            }
            if io.is_empty() {
                continue;
            }
            *right = Some(group);
            if let Some(text) = operations.read(page, troubles) {
                each_operation(text, |device, operation, value| match operation {
                    "Read" => of(io, device).reads = Some(value),
                    "Write" => of(io, device).writes = Some(value),
                    _ => {}
                });
            }
            return;
        }
    }

    pub(crate) fn attributes(&mut self) -> impl Iterator<Item = &mut Attribute> {
        let cpu = self.cpu.iter_mut().flat_map(|f| [&mut f.stat, &mut f.period, &mut f.quota, &mut f.shares]);
        let accounts =
            self.accounts.iter_mut().flat_map(|f| [&mut f.usage, &mut f.stat].into_iter().chain(&mut f.each));
        let memory = self.memory.iter_mut().flat_map(MemoryFiles::attributes);
        let block = self.block.iter_mut().flatten();
        let rest =
            self.huge.iter_mut().flatten().chain(self.pids.iter_mut().flatten()).chain(&mut self.procs);
        cpu.chain(accounts).chain(memory).chain(block).chain(rest)
    }
}

impl MemoryFiles {
    fn read(&mut self, limits: &Limits, before: &Memory, page: &mut Page, troubles: &mut Troubles) -> Memory {
        // Without a limit none is hit.
        let hit = if limits.memory == Some(0) { before.failures } else { None };
        let mut memory = Memory {
            usage: self.usage.number(page, troubles),
            peak: self.peak.number(page, troubles),
            kernel: self.kernel.number(page, troubles),
            failures: hit.or_else(|| self.failures.number(page, troubles)),
            ..Memory::default()
        };
        let text = self.oom.read(page, troubles);
        memory.oom_kills =
            text.and_then(|text| parse::pairs(text).find(|(key, _)| *key == b"oom_kill")).map(|(_, n)| n);
        for (key, value) in self.stat.read(page, troubles).into_iter().flat_map(parse::pairs) {
            match (self.totals, key) {
                (true, b"pgfault") => memory.own_faults[0] = Some(value),
                (true, b"pgmajfault") => memory.own_faults[1] = Some(value),
                _ => {}
            }
            let key = match (self.totals, key.strip_prefix(b"total_")) {
                (true, Some(key)) => key,
                (false, None) => key,
                _ => continue,
            };
            let field = match key {
                b"rss" => &mut memory.rss,
                b"cache" => &mut memory.cache,
                b"swap" => &mut memory.swap,
                b"mapped_file" => &mut memory.mapped,
                b"active_file" => &mut memory.active_file,
                b"inactive_file" => &mut memory.inactive_file,
                b"dirty" => &mut memory.dirty,
                b"writeback" => &mut memory.writeback,
                b"pgfault" => &mut memory.faults,
                b"pgmajfault" => &mut memory.major_faults,
                b"workingset_refault_file" => &mut memory.refault_file,
                b"workingset_refault_anon" => &mut memory.refault_anon,
                _ => continue,
            };
            *field = Some(value);
        }
        memory
    }

    fn attributes(&mut self) -> [&mut Attribute; 9] {
        [
            &mut self.stat,
            &mut self.usage,
            &mut self.peak,
            &mut self.kernel,
            &mut self.failures,
            &mut self.limit,
            &mut self.swap_limit,
            &mut self.reservation,
            &mut self.oom,
        ]
    }
}

/// Lines such as `8:0 Read 4096`.
fn each_operation(text: &[u8], mut take: impl FnMut((u32, u32), &'static str, u64)) {
    for line in parse::lines(text) {
        let mut words = parse::words(line);
        let Some(device) = words.next().and_then(device) else { continue };
        let operation = words.next().and_then(|word| OPERATIONS.iter().find(|o| o.as_bytes() == word));
        if let (Some(operation), Some(value)) = (operation, words.next().and_then(parse::number)) {
            take(device, operation, value);
        }
    }
}

/// A process of those in `cgroup.procs`. One that is in no PID namespace of ours is shown as 0, and cannot be asked anything.
pub(crate) fn first_process(procs: &[u8]) -> Option<u32> {
    let mut pids = parse::lines(procs).filter_map(|pid| u32::try_from(parse::number(pid)?).ok());
    pids.find(|pid| *pid > 0)
}

/// `8:0`.
pub(crate) fn device(word: &[u8]) -> Option<(u32, u32)> {
    let colon = word.iter().position(|byte| *byte == b':')?;
    let number = |word: &[u8]| u32::try_from(parse::number(word)?).ok();
    Some((number(&word[..colon])?, number(&word[colon + 1..])?))
}

fn of(io: &mut Vec<DeviceIo>, device: (u32, u32)) -> &mut DeviceIo {
    let index = io.iter().position(|io| io.device == device).unwrap_or_else(|| {
        io.push(DeviceIo { device, ..DeviceIo::default() });
        io.len() - 1
    });
    &mut io[index]
}
