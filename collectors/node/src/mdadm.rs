//! `mdadm`: the state of arrays of disks.

use taffrail_kernfs::parse::{number, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, flag, gauge};
use crate::list::Make;

static FAMILIES: [Family; 5] = [
    gauge("node_md_state", &["device", "state"], "Whether the array is in this state."),
    gauge("node_md_disks", &["device", "state"], "Disks of the array that are in this state."),
    gauge("node_md_disks_required", &["device"], "Disks of the array when it is healthy."),
    gauge("node_md_blocks", &["device"], "Blocks of the array."),
    gauge("node_md_blocks_synced", &["device"], "Blocks of the array that are in step."),
];
const STATES: [&str; 5] = ["active", "inactive", "recovering", "resync", "check"];
const INACTIVE: usize = 1;

pub(crate) struct Mdadm(Kept);

impl Make for Mdadm {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        Mdadm(Kept::new(roots.proc("mdstat")))
    }
}

impl Collect for Mdadm {
    const NAME: &'static str = "mdadm";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        let text = String::from_utf8_lossy(self.0.read(page)?);
        let mut arrays = Vec::new();
        for block in blocks(&text) {
            match Array::parse(&block) {
                Some(array) => arrays.push(array),
                None => troubles.note(ReadError::malformed(self.0.path(), format!("array {:?}", block[0]))),
            }
        }
        write(&arrays, samples);
        troubles.told()
    }
}

/// The lines of each array: those that begin with its name, and those further in that follow.
fn blocks(text: &str) -> Vec<Vec<&str>> {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    let mut within = false;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let indented = line.starts_with([' ', '\t']);
        if !indented {
            within = !line.starts_with("Personalities") && !line.starts_with("unused devices");
            if within {
                blocks.push(Vec::new());
            }
        }
        if let (true, Some(block)) = (within, blocks.last_mut()) {
            block.push(line);
        }
    }
    blocks
}

#[derive(Debug, PartialEq)]
struct Array<'a> {
    name: &'a str,
    state: usize,
    active: u64,
    failed: u64,
    spare: u64,
    required: u64,
    blocks: u64,
    synced: u64,
}

impl<'a> Array<'a> {
    fn parse(block: &[&'a str]) -> Option<Array<'a>> {
        let (head, status) = (block.first()?, block.get(1)?);
        let (name, rest) = head.split_once(" : ")?;
        let inactive = match rest.split_whitespace().next()? {
            "active" => false,
            "inactive" => true,
            _ => return None,
        };
        let blocks = number(words(status.as_bytes()).next()?)?;
        let (required, active) = disks(rest, status, inactive)?;
        let progress = block[2..].iter().find_map(|line| progress(line));
        let (state, synced) = match progress {
            Some((state, synced)) => (state, synced?),
            None => (if inactive { INACTIVE } else { 0 }, blocks),
        };
        let (failed, spare) = (rest.matches("(F)").count() as u64, rest.matches("(S)").count() as u64);
        Some(Array { name: name.trim(), state, active, failed, spare, required, blocks, synced })
    }
}

/// How many disks there should be and how many work.
fn disks(rest: &str, status: &str, inactive: bool) -> Option<(u64, u64)> {
    if inactive {
        return Some((0, 0));
    }
    let pair = |word: &str| {
        let (required, active) = word.strip_prefix('[')?.strip_suffix(']')?.split_once('/')?;
        Some((number(required.as_bytes())?, number(active.as_bytes())?))
    };
    // An array without redundancy has all of its disks or is not there.
    let all = || {
        let level = rest.split_whitespace().find(|word| *word == "raid0" || *word == "linear");
        level.map(|_| rest.matches('[').count() as u64).map(|count| (count, count))
    };
    status.split_whitespace().find_map(pair).or_else(all)
}

/// The state in a line such as `[=>..]  recovery =  8.5% (16775552/195310144) finish=...`, and how many
/// blocks are done. The inner nothing is a line that cannot be understood.
fn progress(line: &str) -> Option<(usize, Option<u64>)> {
    let state = [("recovery", 2), ("resync", 3), ("reshape", 3), ("check", 4)];
    let (_, state) = *state.iter().find(|(word, _)| {
        let begins = |found: &str| {
            found.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        line.split_whitespace().any(begins)
    })?;
    if line.contains("PENDING") || line.contains("DELAYED") {
        return Some((state, Some(0)));
    }
    let done = line
        .split_whitespace()
        .find_map(|word| number(word.strip_prefix('(')?.split_once('/')?.0.as_bytes()));
    Some((state, done))
}

fn write(arrays: &[Array<'_>], samples: &mut dyn Samples) {
    samples.family(&FAMILIES[0]);
    for array in arrays {
        for (at, state) in STATES.iter().enumerate() {
            samples.sample(&[array.name, state], flag(at == array.state));
        }
    }
    samples.family(&FAMILIES[1]);
    for array in arrays {
        for (state, count) in [("active", array.active), ("failed", array.failed), ("spare", array.spare)] {
            samples.sample(&[array.name, state], count as f64);
        }
    }
    let figures: [fn(&Array<'_>) -> u64; 3] =
        [|array| array.required, |array| array.blocks, |array| array.synced];
    for (family, figure) in FAMILIES[2..].iter().zip(figures) {
        samples.family(family);
        arrays.iter().for_each(|array| samples.sample(&[array.name], figure(array) as f64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Personalities : [raid1] [raid6] [raid0]
md0 : active raid6 sdd1[3] sdc1[2](F) sdb1[1] sda1[0] sde1[4](S)
      3906764800 blocks super 1.2 level 6, 512k chunk, algorithm 2 [4/3] [UU_U]
      [=>...................]  recovery =  8.5% (166123520/1953382400) finish=170.0min speed=175000K/sec
      bitmap: 2/15 pages [8KB], 65536KB chunk

md1 : active (auto-read-only) raid1 sdg1[1] sdf1[0]
      102400 blocks super 1.2 [2/2] [UU]
      \tresync=PENDING

md2 : active raid0 sdi1[1] sdh1[0]
      204800 blocks super 1.2 512k chunks

md3 : inactive sdj1[0](S)
      1024 blocks super 1.2

unused devices: <none>
";

    #[test]
    fn arrays_are_told_apart_with_their_states() {
        let blocks = blocks(TEXT);
        let array = |at: usize| Array::parse(&blocks[at]).expect("an array");
        let figures = |a: Array<'_>| (a.state, a.active, a.failed, a.spare, a.required, a.blocks, a.synced);
        assert_eq!(figures(array(0)), (2, 3, 1, 1, 4, 3_906_764_800, 166_123_520));
        assert_eq!(figures(array(1)), (3, 2, 0, 0, 2, 102_400, 0));
        assert_eq!(figures(array(2)), (0, 2, 0, 0, 2, 204_800, 204_800));
        assert_eq!(figures(array(3)), (1, 0, 0, 1, 0, 1024, 1024));
        assert_eq!((array(3).name, blocks.len()), ("md3", 4));
    }

    #[test]
    fn what_is_cut_is_no_array() {
        for lines in [
            &["md0 : active raid1 sda1[0]"][..],
            &["md0 : active raid1 sda1[0]", "  x blocks"],
            &["md0 : active raid1 sda1[0]", "  7 blocks [2/"],
            &["md0 : strange", " 7 blocks [2/2]"],
        ] {
            assert_eq!(Array::parse(lines), None, "{lines:?}");
        }
    }
}
