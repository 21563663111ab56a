//! `netstat`: the chosen counters of the network protocols under their own names.

use taffrail_kernfs::parse::{decimal, lines, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles};
use taffrail_record::{AskError, Family, Kind, Samples};

use crate::device::valid;
use crate::families::{Collect, ended};
use crate::list::Make;
use crate::recall::Recall;
use crate::sources::net;
use crate::{FieldFilter, NodeMetricsConfig};

static FAMILIES: [Family; 1] = [Family {
    name: "node_netstat_*",
    kind: Kind::Untyped,
    help: "A counter of a network protocol, named <protocol>_<field>; of those that only grow the rate is meant.",
    labels: &[],
}];

pub(crate) struct NetStat {
    /// Two with a line of names above each line of values, and one with a name and a value in each line.
    files: [Kept; 3],
    shown: Shown,
}

struct Shown {
    fields: FieldFilter,
    names: Recall<Option<(String, String)>>,
    key: Vec<u8>,
}

impl Make for NetStat {
    fn make(config: &NodeMetricsConfig, roots: &Roots) -> Self {
        let files = ["netstat", "snmp", "snmp6"].map(|name| net(roots, name));
        let fields = config.netstat.clone();
        NetStat { files, shown: Shown { fields, names: Recall::default(), key: Vec::new() } }
    }
}

impl Collect for NetStat {
    const NAME: &'static str = "netstat";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let mut troubles = Troubles::default();
        self.shown.names.begin();
        let mut found = false;
        for (at, file) in self.files.iter_mut().enumerate() {
            // Without IPv6 there is no third file.
            let Some(text) = troubles.take(file.read(page)) else { continue };
            found = true;
            let read =
                if at < 2 { self.shown.tables(text, samples) } else { self.shown.pairs(text, samples) };
            if read.is_none() {
                troubles.note(ReadError::malformed(file.path(), "names and numbers do not go together"));
            }
        }
        ended(troubles, found, self.files[0].path())
    }
}

impl Shown {
    fn tables(&mut self, text: &[u8], samples: &mut dyn Samples) -> Option<()> {
        let mut all = Some(());
        let mut rows = lines(text);
        while let Some(names) = rows.next() {
            let (mut names, mut values) = (words(names), words(rows.next()?));
            let protocol = names.next()?.strip_suffix(b":")?;
            if values.next()?.strip_suffix(b":") != Some(protocol) {
                return None;
            }
            for name in names {
                let value = values.next().and_then(decimal);
                all = all.and(self.write(protocol, name, value, samples));
            }
        }
        all
    }

    /// `Ip6InReceives 7`: the protocol is what stands before the first field name, up to its 6.
    fn pairs(&mut self, text: &[u8], samples: &mut dyn Samples) -> Option<()> {
        let mut all = Some(());
        for line in lines(text) {
            let mut words = words(line);
            let name = words.next().unwrap_or_default();
            let Some(six) = name.iter().position(|byte| *byte == b'6') else { continue };
            let (protocol, field) = name.split_at(six + 1);
            all = all.and(self.write(protocol, field, words.next().and_then(decimal), samples));
        }
        all
    }

    fn write(
        &mut self,
        protocol: &[u8],
        field: &[u8],
        value: Option<f64>,
        samples: &mut dyn Samples,
    ) -> Option<()> {
        let Shown { fields, names, key } = self;
        key.clear();
        key.extend_from_slice(protocol);
        key.push(b'_');
        key.extend_from_slice(field);
        let name = names.next(key, |key| {
            let name =
                || (format!("node_netstat_{}", valid(key)), format!("{} counts.", key.replace('_', " ")));
            fields.shows(key).then(name)
        });
        if let Some((name, help)) = name {
            samples.named(name, Kind::Untyped, help);
            samples.sample(&[], value?);
        }
        Some(())
    }
}
