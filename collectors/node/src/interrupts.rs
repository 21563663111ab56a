//! `interrupts`: how often each processor was interrupted, and by what.

use taffrail_kernfs::parse::{lines, number, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles};
use taffrail_record::{AskError, Family, Labels, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, counter, said};
use crate::list::Make;
use crate::recall::Recall;

static FAMILIES: [Family; 1] = [counter(
    "node_interrupts_total",
    &["cpu", "type", "info", "devices"],
    "Interrupts that a processor serviced, by what interrupted it.",
)];

pub(crate) struct Interrupts {
    file: Kept,
    cpus: Vec<Labels>,
    sources: Recall<Labels>,
    key: Vec<u8>,
}

impl Make for Interrupts {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        let file = Kept::new(roots.proc("interrupts"));
        Interrupts { file, cpus: Vec::new(), sources: Recall::default(), key: Vec::new() }
    }
}

impl Collect for Interrupts {
    const NAME: &'static str = "interrupts";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let Interrupts { file, cpus, sources, key } = self;
        let mut troubles = Troubles::default();
        let mut rows = lines(file.read(page)?);
        let count = said(rows.next().map(|header| words(header).count()), file.path(), "nothing in it")?;
        columns(cpus, count);
        sources.begin();
        samples.family(&FAMILIES[0]);
        for row in rows {
            let named = said(split(row), file.path(), "a line without its name");
            let Some((kind, rest)) = troubles.take(named) else { continue };
            match words(rest).take_while(|word| number(word).is_some()).count() {
                figures if figures >= count => {}
                // What is counted for all processors together has no place here.
                1 => continue,
                _ => {
                    troubles.note(ReadError::malformed(file.path(), "a line lacks figures"));
                    continue;
                }
            }
            describe(key, kind, words(rest).skip(count));
            let labels = sources.next(key, source);
            for (cpu, value) in cpus.iter().zip(words(rest).filter_map(number)) {
                samples.labelled(&[cpu, labels], value as f64);
            }
        }
        sources.end();
        troubles.told()
    }
}

fn columns(cpus: &mut Vec<Labels>, count: usize) {
    cpus.truncate(count);
    while cpus.len() < count {
        cpus.push(Labels::new([("cpu", cpus.len().to_string().as_str())]));
    }
}

fn split(row: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', row)?;
    Some((row[..colon].trim_ascii(), &row[colon + 1..]))
}

/// The name and the words behind the figures.
fn describe<'a>(key: &mut Vec<u8>, kind: &[u8], words: impl Iterator<Item = &'a [u8]>) {
    key.clear();
    key.extend_from_slice(kind);
    for word in words {
        key.push(b' ');
        key.extend_from_slice(word);
    }
}

/// Numbered ones say their controller and then who uses them; named ones only what they are.
fn source(key: &str) -> Labels {
    let (kind, rest) = key.split_once(' ').unwrap_or((key, ""));
    let numbered = kind.bytes().all(|byte| byte.is_ascii_digit());
    let (info, devices) = if numbered { rest.split_once(' ').unwrap_or((rest, "")) } else { (rest, "") };
    Labels::new([("type", kind), ("info", info), ("devices", devices)])
}
