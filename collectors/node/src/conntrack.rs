//! `conntrack`: the connections that the firewall tracks.

use taffrail_kernfs::parse::{hexadecimal, lines, words};
use taffrail_kernfs::{Kept, Page, Roots};
use taffrail_record::{AskError, Family, Samples};

use crate::NodeMetricsConfig;
use crate::families::{Collect, gauge, put, said};
use crate::list::Make;
use crate::single::{Single, write_all};
use crate::sources::net;

static FAMILIES: [Family; 10] = [
    gauge("node_nf_conntrack_entries", &[], "Connections that are tracked."),
    gauge("node_nf_conntrack_entries_limit", &[], "How many connections can be tracked."),
    gauge("node_nf_conntrack_stat_found", &[], "Lookups that found an entry."),
    gauge("node_nf_conntrack_stat_invalid", &[], "Packets that could not be tracked."),
    gauge("node_nf_conntrack_stat_ignore", &[], "Packets of connections that were tracked already."),
    gauge("node_nf_conntrack_stat_insert", &[], "Entries put into the table."),
    gauge("node_nf_conntrack_stat_insert_failed", &[], "Entries that could not be put into the table."),
    gauge("node_nf_conntrack_stat_drop", &[], "Packets dropped because tracking failed."),
    gauge("node_nf_conntrack_stat_early_drop", &[], "Entries removed to make room for new ones."),
    gauge("node_nf_conntrack_stat_search_restart", &[], "Lookups repeated because the table was resized."),
];
const PREFIX: &str = "node_nf_conntrack_stat_";

pub(crate) struct Conntrack {
    files: [Single; 2],
    per_cpu: Kept,
}

impl Make for Conntrack {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        let file = |name: &str| Kept::new(roots.proc(&format!("sys/net/netfilter/{name}")));
        let files = [(&FAMILIES[0], file("nf_conntrack_count")), (&FAMILIES[1], file("nf_conntrack_max"))];
        Conntrack { files, per_cpu: net(roots, "stat/nf_conntrack") }
    }
}

impl Collect for Conntrack {
    const NAME: &'static str = "conntrack";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        write_all(&mut self.files, page, samples)?;
        let text = match self.per_cpu.read(page) {
            Err(error) if error.is_expected() => return Ok(()),
            read => read?,
        };
        for family in &FAMILIES[2..] {
            let key = &family.name[PREFIX.len()..];
            if let Some(sum) =
                said(sum(text, key.as_bytes()), self.per_cpu.path(), "a row is cut or no number")?
            {
                put(samples, family, sum as f64);
            }
        }
        Ok(())
    }
}

/// The sum of a column over all processors. The inner nothing is a column that this kernel does not have.
fn sum(text: &[u8], key: &[u8]) -> Option<Option<u64>> {
    let mut rows = lines(text);
    let header = rows.next()?;
    let Some(column) = words(header).position(|name| name == key) else { return Some(None) };
    let figures = rows.map(|row| hexadecimal(words(row).nth(column)?));
    figures.reduce(|sum, figure| Some(sum?.wrapping_add(figure?)))?.map(Some)
}
