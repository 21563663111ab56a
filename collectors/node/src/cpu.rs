//! `cpu`: what the processors spent their time on.
//!
//! The kernel's figures of idle time may step back a little; such a step keeps the last value, because a
//! counter that falls reads as a restart. Only an idle time that falls by seconds is taken for what it is:
//! the processor was away and counts anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use taffrail_kernfs::parse::{lines, number, only, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles, read};
use taffrail_record::{AskError, Family, Labels, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, counter, said};
use crate::list::Make;
use crate::sources::{names, trailing};

static FAMILIES: [Family; 4] = [
    counter("node_cpu_seconds_total", &["cpu", "mode"], "Seconds that a processor spent in each mode."),
    counter(
        "node_cpu_guest_seconds_total",
        &["cpu", "mode"],
        "Seconds that a processor spent running guests; they are in the modes user and nice as well.",
    ),
    counter(
        "node_cpu_core_throttles_total",
        &["package", "core"],
        "How often a core was slowed down because it was hot.",
    ),
    counter(
        "node_cpu_package_throttles_total",
        &["package"],
        "How often a package was slowed down because it was hot.",
    ),
];

/// In the order of the file; the last two are guests.
const MODES: [&str; 10] =
    ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "user", "nice"];
const IDLE: usize = 3;
const GUESTS: usize = 8;
/// The kernel's USER_HZ, the same on every architecture that matters.
const TICKS_PER_SECOND: f64 = 100.0;
/// An idle time that falls by this much is no inaccuracy.
const AWAY: u64 = 300;

type Ticks = [Option<u64>; MODES.len()];

pub(crate) struct Cpu {
    file: Kept,
    known: Vec<Known>,
    throttles: Throttles,
}

/// One processor as it was written last.
struct Known {
    number: u64,
    ticks: Ticks,
    labels: [Labels; MODES.len()],
    seen: bool,
}

impl Make for Cpu {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        Cpu { file: Kept::new(roots.proc("stat")), known: Vec::new(), throttles: Throttles::new(roots) }
    }
}

impl Collect for Cpu {
    const NAME: &'static str = "cpu";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        let done = self.read(page, &mut troubles);
        if done.is_ok() {
            self.write(samples);
        }
        self.throttles.collect(page, &mut troubles, samples);
        done?;
        troubles.told()
    }
}

impl Cpu {
    fn read(&mut self, page: &mut Page, troubles: &mut Troubles) -> Result<(), ReadError> {
        let text = self.file.read_once(page)?;
        self.known.iter_mut().for_each(|known| known.seen = false);
        for line in lines(text) {
            let Some((number, ticks)) = processor(line) else { continue };
            if ticks.iter().take(GUESTS).any(Option::is_none) {
                troubles.note(ReadError::malformed(self.file.path(), format!("cpu{number} lacks a mode")));
            }
            step(&mut self.known, number, &ticks);
        }
        self.known.retain(|known| known.seen);
        said((!self.known.is_empty()).then_some(()), self.file.path(), "no line of a processor")
    }

    fn write(&self, samples: &mut dyn Samples) {
        for (family, modes) in [(0, 0..GUESTS), (1, GUESTS..MODES.len())] {
            samples.family(&FAMILIES[family]);
            for known in &self.known {
                for mode in modes.clone() {
                    if let Some(ticks) = known.ticks[mode] {
                        samples.labelled(&[&known.labels[mode]], ticks as f64 / TICKS_PER_SECOND);
                    }
                }
            }
        }
    }
}

/// The number and the figures in a line `cpu<number> ...`; nothing for other lines and for the sum of all.
fn processor(line: &[u8]) -> Option<(u64, Ticks)> {
    let mut words = words(line.strip_prefix(b"cpu")?);
    let cpu = number(words.next().filter(|_| line.get(3).is_some_and(u8::is_ascii_digit))?)?;
    let mut ticks = [None; MODES.len()];
    ticks.iter_mut().zip(words).for_each(|(place, word)| *place = number(word));
    Some((cpu, ticks))
}

/// Takes the figures of one processor for the next that is written.
fn step(known: &mut Vec<Known>, number: u64, ticks: &Ticks) {
    let place = known.binary_search_by_key(&number, |known| known.number).unwrap_or_else(|place| {
        known.insert(place, Known::new(number));
        place
    });
    let known = &mut known[place];
    known.seen = true;
    if let (Some(before), Some(now)) = (known.ticks[IDLE], ticks[IDLE])
        && now + AWAY <= before
    {
        known.ticks = [None; MODES.len()];
    }
    for (before, now) in known.ticks.iter_mut().zip(ticks) {
        *before = now.map(|now| before.map_or(now, |before| before.max(now)));
    }
}

impl Known {
    fn new(number: u64) -> Known {
        let cpu = number.to_string();
        let labels = MODES.map(|mode| Labels::new([("cpu", cpu.as_str()), ("mode", mode)]));
        Known { number, ticks: [None; MODES.len()], labels, seen: true }
    }
}

/// How often processors were slowed down: once per core and once per package, whatever processors share them.
struct Throttles {
    folder: PathBuf,
    files: Option<Vec<Throttle>>,
}

struct Throttle {
    family: usize,
    labels: Labels,
    file: Kept,
}

impl Throttles {
    fn new(roots: &Roots) -> Throttles {
        Throttles { folder: roots.sys("devices/system/cpu"), files: None }
    }

    fn collect(&mut self, page: &mut Page, troubles: &mut Troubles, samples: &mut dyn Samples) {
        let folder = &self.folder;
        let files = self.files.get_or_insert_with(|| find(folder, page));
        for family in [2, 3] {
            samples.family(&FAMILIES[family]);
            for throttle in files.iter_mut().filter(|throttle| throttle.family == family) {
                let read = throttle.file.read_once(page).map(only);
                let value = read.and_then(|value| said(value, throttle.file.path(), "not a number"));
                if let Some(value) = troubles.take(value) {
                    samples.labelled(&[&throttle.labels], value as f64);
                }
            }
        }
    }
}

/// The counters that this machine has; where processors are in packages does not change.
fn find(folder: &Path, page: &mut Page) -> Vec<Throttle> {
    let mut found: BTreeMap<(u64, Option<u64>), Throttle> = BTreeMap::new();
    for name in names(folder).unwrap_or_default() {
        let cpu = folder.join(&name);
        if name.strip_prefix("cpu").is_none() || trailing(&name).is_none() {
            continue;
        }
        let mut id = |file: &str| read(&cpu.join(file), page).ok().and_then(only);
        let Some(package) = id("topology/physical_package_id") else { continue };
        let core = id("topology/core_id");
        let package_text = package.to_string();
        if let Some(core) = core {
            let core_text = core.to_string();
            let labels = Labels::new([("package", package_text.as_str()), ("core", core_text.as_str())]);
            add(
                &mut found,
                (package, Some(core)),
                2,
                labels,
                cpu.join("thermal_throttle/core_throttle_count"),
            );
        }
        let labels = Labels::new([("package", package_text.as_str())]);
        add(&mut found, (package, None), 3, labels, cpu.join("thermal_throttle/package_throttle_count"));
    }
    found.into_values().collect()
}

fn add(
    found: &mut BTreeMap<(u64, Option<u64>), Throttle>,
    place: (u64, Option<u64>),
    family: usize,
    labels: Labels,
    path: PathBuf,
) {
    if path.exists() {
        found.entry(place).or_insert_with(|| Throttle { family, labels, file: Kept::new(path) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stepped(figures: &[[u64; 2]]) -> [Option<u64>; 2] {
        let mut known = Vec::new();
        for [user, idle] in figures {
            let mut ticks = [Some(0); MODES.len()];
            (ticks[0], ticks[IDLE]) = (Some(*user), Some(*idle));
            step(&mut known, 0, &ticks);
        }
        [known[0].ticks[0], known[0].ticks[IDLE]]
    }

    #[test]
    fn a_small_step_back_keeps_the_last_value() {
        assert_eq!(stepped(&[[500, 9000], [490, 8701]]), [Some(500), Some(9000)]);
        assert_eq!(stepped(&[[500, 9000], [490, 8990], [510, 9010]]), [Some(510), Some(9010)]);
    }

    #[test]
    fn an_idle_time_that_falls_by_three_seconds_begins_anew() {
        assert_eq!(stepped(&[[500, 9000], [490, 8700]]), [Some(490), Some(8700)]);
        assert_eq!(stepped(&[[500, 9000], [7, 2]]), [Some(7), Some(2)]);
    }

    #[test]
    fn only_lines_of_one_processor_count() {
        assert_eq!(processor(b"cpu  1 2 3 4"), None);
        assert_eq!(processor(b"cpufreq 1 2"), None);
        let (cpu, ticks) = processor(b"cpu12 1 2 x 4").expect("a processor");
        assert_eq!((cpu, &ticks[..5]), (12, [Some(1), Some(2), None, Some(4), None].as_slice()));
    }
}
