//! How far a figure may move between two readings.
//!
//! What is not listed here does not move: a limit, a size or a label's 1 is the same on both sides or it is a difference. A
//! counter that the peer has read between our readings lies between them.

use taffrail_text::split;

/// How the readings lie to each other, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Apart {
    /// From our first reading to our last.
    pub ours: f64,
    /// By how much the peer's figures that have no time of their own are older than our first reading.
    pub lead: f64,
    /// When our first reading began, since the epoch.
    pub began: f64,
}

impl Apart {
    /// For a figure that the peer has read at this time, in milliseconds since the epoch.
    pub(super) fn of(self, stamp: Option<i64>) -> Apart {
        let lead = |millis: i64| (self.began - millis as f64 / 1000.0).max(0.0);
        Apart { lead: stamp.map_or(self.lead, lead), ..self }
    }

    /// When our last reading ended, since the epoch.
    pub(super) fn end(self) -> f64 {
        self.began + self.ours
    }
}

/// One figure on both sides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure<'a> {
    pub(super) family: &'a str,
    pub(super) series: &'a str,
    /// Whether it is said to grow only.
    pub(super) counts: bool,
    /// Ours, before and after the peer's.
    pub(super) ours: [f64; 2],
    pub(super) theirs: f64,
    pub(super) apart: Apart,
}

/// What a comparison of a figure comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    /// It differs by as much as it moves.
    Moved(&'static str),
    Differs,
}

pub(super) const MOMENT: &str = "it moves, and was read at another moment";
/// Of a counter that a peer has read before us.
pub(super) const OLDER: &str = "the peer read it earlier, and counters only grow";
pub(super) const TICKS: &str = "a Go program and a Rust program add the clock's ticks at different moments";

pub(super) const HELD: &str =
    "node_exporter keeps the most idle and waiting time that it has seen; the kernel takes some back";

/// A gauge that moves: by this part of itself, and by so much in a second.
pub(super) struct Moves {
    pub(super) prefix: &'static str,
    share: f64,
    floor: f64,
}

const fn moves(prefix: &'static str, share: f64, floor: f64) -> Moves {
    Moves { prefix, share, floor }
}

const fn still(prefix: &'static str) -> Moves {
    moves(prefix, 0.0, 0.0)
}

const MIB: f64 = 1048576.0;

/// The first that fits is taken.
static MOVES: &[Moves] = &[
    moves("container_memory_", 0.1, 16.0 * MIB),
    moves("container_hugetlb_", 0.1, 16.0 * MIB),
    moves("container_threads_max", 0.0, 0.0),
    moves("container_threads", 0.25, 8.0),
    moves("container_processes", 0.25, 8.0),
    moves("container_file_descriptors", 0.25, 64.0),
    moves("container_sockets", 0.25, 32.0),
    moves("container_fs_io_current", 0.0, 256.0),
    moves("container_fs_inodes_free", 0.01, 4096.0),
    moves("container_fs_inodes_total", 0.0, 64.0),
    still("node_memory_MemTotal_bytes"),
    still("node_memory_SwapTotal_bytes"),
    still("node_memory_CommitLimit_bytes"),
    still("node_memory_VmallocTotal_bytes"),
    still("node_memory_Hugepagesize_bytes"),
    still("node_memory_HugePages_Total"),
    moves("node_memory_HugePages_", 0.25, 64.0),
    moves("node_memory_", 0.05, 64.0 * MIB),
    moves("node_filesystem_avail_bytes", 0.01, 64.0 * MIB),
    moves("node_filesystem_free_bytes", 0.01, 64.0 * MIB),
    moves("node_filesystem_files_free", 0.01, 4096.0),
    moves("node_sockstat_", 0.25, 64.0),
    moves("node_netstat_Tcp_CurrEstab", 0.25, 64.0),
    moves("node_tcp_connection_states", 0.25, 64.0),
    moves("node_udp_queues", 0.25, MIB),
    moves("node_arp_entries", 0.25, 16.0),
    still("node_nf_conntrack_entries_limit"),
    moves("node_nf_conntrack_entries", 0.25, 256.0),
    moves("node_procs_", 0.25, 32.0),
    still("node_processes_max_"),
    moves("node_processes_", 0.25, 32.0),
    moves("node_load", 0.1, 0.5),
    moves("node_filefd_allocated", 0.1, 1024.0),
    still("node_entropy_pool_size_bits"),
    moves("node_entropy_available_bits", 1.0, 256.0),
    moves("node_timex_offset_seconds", 0.5, 0.005),
    moves("node_timex_maxerror_seconds", 0.1, 0.01),
    moves("node_timex_estimated_error_seconds", 0.5, 0.005),
    moves("node_timex_frequency_adjustment_ratio", 1e-5, 0.0),
    moves("node_disk_io_now", 0.0, 256.0),
    moves("node_cpu_scaling_frequency_hertz", 0.9, 0.0),
    moves("node_cpu_frequency_hertz", 0.9, 0.0),
    moves("node_thermal_zone_temp", 0.1, 5.0),
    moves("node_cooling_device_cur_state", 0.0, 16.0),
    moves("node_hwmon_", 0.1, 5.0),
    moves("node_power_supply_", 0.1, 0.0),
    moves("node_md_blocks_synced", 0.05, 1e7),
    moves("node_systemd_units", 0.05, 4.0),
    moves("node_systemd_socket_current_connections", 0.25, 16.0),
    moves("node_time_seconds", 0.0, 2.0),
    moves("container_last_seen", 0.0, 60.0),
    moves("container_fs_usage_bytes", 0.25, 64.0 * MIB),
];

/// Figures of gauges that grow only although nobody says so.
const UNTYPED_COUNTERS: [&str; 2] = ["node_netstat_", "node_vmstat_"];

/// What a sum of floating point numbers may differ by, as a part of it.
const ROUNDING: f64 = 1e-12;
/// A counter that a peer read within the time of our first scrape, as a part of its growth.
const STALE: f64 = 0.05;
/// A clock that ticks in hundredths, read by two.
const TICK: f64 = 0.1;
/// What node_exporter keeps of a processor's idle time when the kernel takes it back, in seconds.
const TAKEN_BACK: f64 = 3.0;
/// The part of ours that an older figure of a peer that counts has reached.
const COUNTED: f64 = 0.5;
/// Times at which something began are told in whole seconds by some.
const SECOND: f64 = 1.0;
/// Figures are read one after the other, and the first of them before the rest.
const SCRAPE: f64 = 0.1;
/// Nobody's figures are believed to be older.
const LONGEST_LEAD: f64 = 60.0;

/// How two sides of a figure compare.
pub(super) fn verdict(figure: &Figure<'_>) -> Verdict {
    let (low, high) = bounds(figure.ours);
    let theirs = figure.theirs;
    if theirs.is_nan() || low.is_nan() {
        return if theirs.is_nan() && low.is_nan() { Verdict::Same } else { Verdict::Differs };
    }
    let rounding = if is_start(figure.family) { SECOND } else { ROUNDING * high.abs().max(theirs.abs()) };
    if (low - rounding..=high + rounding).contains(&theirs) {
        return Verdict::Same;
    }
    moved(figure, low, high).map_or(Verdict::Differs, Verdict::Moved)
}

fn moved(figure: &Figure<'_>, low: f64, high: f64) -> Option<&'static str> {
    let lead = if figure.apart.lead > 0.0 { figure.apart.lead.clamp(SCRAPE, LONGEST_LEAD) } else { 0.0 };
    let gauge = MOVES.iter().find(|moves| figure.family.starts_with(moves.prefix));
    let counts = figure.counts || gauge.is_none() && is_untyped_counter(figure.family);
    if counts && figure.theirs < low {
        let (missing, grown) =
            (low - figure.theirs, STALE * (high - low) + lead * growth(figure, high - low));
        let is_counted = figure.theirs >= COUNTED * low || missing <= rate(figure.family).little;
        return (missing <= grown && is_counted).then_some(OLDER);
    }
    if counts {
        return ahead(figure, figure.theirs - high);
    }
    let gauge = gauge?;
    let room = gauge.share * high.abs() + gauge.floor * (1.0 + lead);
    (low - room..=high + room).contains(&figure.theirs).then_some(MOMENT)
}

/// Why a peer counts so much more.
fn ahead(figure: &Figure<'_>, more: f64) -> Option<&'static str> {
    if figure.family.contains("_seconds") && more <= TICK {
        return Some(TICKS);
    }
    let mode = |(label, value): (&str, &str)| label == "mode" && matches!(value, "idle" | "iowait");
    let is_held = figure.family == "node_cpu_seconds_total" && split(figure.series).1.into_iter().any(mode);
    (is_held && more <= TAKEN_BACK).then_some(HELD)
}

/// By how much a counter may have grown in a second: ten times what it does now, or what an idle one may suddenly do.
fn growth(figure: &Figure<'_>, grown: f64) -> f64 {
    let now = if figure.apart.ours > 0.0 { 10.0 * grown / figure.apart.ours } else { 0.0 };
    now.max(rate(figure.family).suddenly)
}

/// What a counter does.
struct Rate {
    /// At most in a second, when it was idle before.
    suddenly: f64,
    /// So little that a peer that has not counted it is not told from one that has read it before.
    little: f64,
}

fn rate(family: &str) -> Rate {
    if family.contains("_seconds") {
        let processors = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        return Rate { suddenly: processors, little: 1.0 };
    }
    let is_bytes = family.contains("_bytes") || family.contains("Octets");
    let (suddenly, little) = if is_bytes { (64.0 * MIB, MIB) } else { (50_000.0, 1000.0) };
    Rate { suddenly, little }
}

fn bounds([before, after]: [f64; 2]) -> (f64, f64) {
    (before.min(after), before.max(after))
}

fn is_start(family: &str) -> bool {
    family.ends_with("_start_time_seconds") || family == "node_boot_time_seconds"
}

fn is_untyped_counter(family: &str) -> bool {
    UNTYPED_COUNTERS.iter().any(|prefix| family.starts_with(prefix))
}

/// Families that move, and how far; as people read them.
pub(super) fn listed() -> Vec<String> {
    let said = |moves: &Moves| match (moves.share * 100.0, amount(moves)) {
        (0.0, by) => format!("`{}*` by {by}", moves.prefix),
        (share, by) => format!("`{}*` by {share} % and {by}", moves.prefix),
    };
    MOVES.iter().filter(|moves| moves.share + moves.floor > 0.0).map(said).collect()
}

fn amount(moves: &Moves) -> String {
    let is_bytes = moves.floor > 0.0 && moves.floor % MIB == 0.0;
    if is_bytes { format!("{} MiB", moves.floor / MIB) } else { moves.floor.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(family: &str, counts: bool, ours: [f64; 2], theirs: f64, lead: f64) -> Verdict {
        of_series(family, family, counts, ours, theirs, lead)
    }

    fn of_series(
        family: &str,
        series: &str,
        counts: bool,
        ours: [f64; 2],
        theirs: f64,
        lead: f64,
    ) -> Verdict {
        let apart = Apart { ours: 1.0, lead, began: 0.0 };
        verdict(&Figure { family, series, counts, ours, theirs, apart })
    }

    #[test]
    fn a_gauge_moves_by_its_share_and_no_further() {
        let memory = |theirs: f64| figure("container_memory_rss", false, [100.0 * MIB; 2], theirs * MIB, 0.0);
        assert_eq!(
            [100.0, 80.0, 125.0].map(memory),
            [Verdict::Same, Verdict::Moved(MOMENT), Verdict::Moved(MOMENT)]
        );
        assert_eq!([0.0, 70.0, 130.0, 1e9].map(memory), [Verdict::Differs; 4]);
    }

    #[test]
    fn constants_do_not_move() {
        for (family, ours, theirs) in [
            ("container_spec_memory_limit_bytes", 67_108_864.0, 67_108_863.0),
            ("machine_memory_bytes", 25e9, 24.9e9),
            ("node_memory_MemTotal_bytes", 25e9, 25e9 + 1.0),
            ("container_threads_max", 100.0, 99.0),
            ("node_network_info", 1.0, 0.999),
            ("node_network_mtu_bytes", 1500.0, 1499.0),
        ] {
            assert_eq!(figure(family, false, [ours; 2], theirs, 5.0), Verdict::Differs, "{family}");
        }
    }

    #[test]
    fn a_start_is_the_same_within_a_second() {
        let start = |theirs| figure("container_start_time_seconds", false, [1.7e9; 2], theirs, 9.0);
        assert_eq!([start(1.7e9 + 1.0), start(1.7e9 - 1.0)], [Verdict::Same; 2]);
        assert_eq!([start(1.7e9 + 2.0), start(1.7e9 - 2.0)], [Verdict::Differs; 2]);
    }

    #[test]
    fn a_counter_lies_between_our_readings_unless_the_peer_read_it_before() {
        let count = |theirs, lead| figure("x_total", true, [1e6, 1e6 + 100.0], theirs, lead);
        assert_eq!([count(1e6 + 50.0, 0.0), count(1e6, 0.0)], [Verdict::Same; 2]);
        assert_eq!(count(1e6 - 4.0, 0.0), Verdict::Moved(OLDER), "within the time of our first reading");
        assert_eq!([count(1e6 - 500.0, 0.0), count(1e6 + 101.0, 0.0)], [Verdict::Differs; 2]);
        assert_eq!(count(1e6 - 500.0, 1.0), Verdict::Moved(OLDER));
        assert_eq!([count(0.0, 1.0), count(1e6 + 101.0, 9.0)], [Verdict::Differs; 2]);
    }

    #[test]
    fn a_peer_that_does_not_count_has_not_read_earlier() {
        let of = |family, ours, theirs| figure(family, true, [ours; 2], theirs, 15.0);
        assert_eq!(of("node_network_receive_packets_total", 41_623.0, 0.0), Verdict::Differs);
        assert_eq!(of("node_network_receive_bytes_total", 100.0 * MIB, 0.0), Verdict::Differs);
        assert_eq!(of("node_cpu_seconds_total", 9.0, 0.0), Verdict::Differs);
        assert_eq!(of("node_network_receive_packets_total", 41_623.0, 30_000.0), Verdict::Moved(OLDER));
        assert_eq!(of("node_network_receive_packets_total", 900.0, 0.0), Verdict::Moved(OLDER));
    }

    #[test]
    fn a_figure_is_as_old_as_its_own_time_says() {
        let apart = Apart { ours: 2.0, lead: 40.0, began: 1.7e9 };
        let leads =
            [None, Some(1_699_999_985_000), Some(1_700_000_001_000)].map(|stamp| apart.of(stamp).lead);
        assert_eq!(leads, [40.0, 15.0, 0.0]);
        assert_eq!(apart.end(), 1.7e9 + 2.0);
    }

    #[test]
    fn idle_time_that_the_kernel_took_back_is_kept_by_a_peer() {
        let of = |mode: &str, theirs| {
            let family = "node_cpu_seconds_total";
            of_series(family, &format!("{family}{{cpu=\"0\",mode=\"{mode}\"}}"), true, [50.0; 2], theirs, 0.0)
        };
        assert_eq!([of("idle", 52.9), of("iowait", 52.9)], [Verdict::Moved(HELD); 2]);
        assert_eq!([of("idle", 53.1), of("iowait", 53.1), of("user", 50.5)], [Verdict::Differs; 3]);
        assert_eq!(of("idle", 50.05), Verdict::Moved(TICKS));
    }

    #[test]
    fn only_bytes_are_told_in_bytes() {
        let listed = listed();
        assert!(listed.iter().any(|said| said == "`container_memory_*` by 10 % and 16 MiB"), "{listed:?}");
        assert!(
            listed.iter().any(|said| said == "`node_md_blocks_synced*` by 5 % and 10000000"),
            "{listed:?}"
        );
    }

    #[test]
    fn what_grows_without_a_type_is_a_counter() {
        let fault = |theirs, lead| figure("node_vmstat_pgfault", false, [1e6; 2], theirs, lead);
        assert_eq!(fault(9e5, 0.0), Verdict::Differs);
        assert_eq!(fault(9e5, 5.0), Verdict::Moved(OLDER));
        assert_eq!(figure("node_cpu_seconds_total", true, [9.0; 2], 9.01, 0.0), Verdict::Moved(TICKS));
        assert_eq!(figure("x", false, [f64::NAN; 2], f64::NAN, 0.0), Verdict::Same);
        assert_eq!(figure("x", false, [f64::NAN; 2], 1.0, 0.0), Verdict::Differs);
    }
}
