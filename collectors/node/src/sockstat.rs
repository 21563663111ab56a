//! `sockstat`: how many sockets there are, and what memory they use.

use taffrail_kernfs::parse::{lines, number, words};
use taffrail_kernfs::{Kept, Page, ReadError, Roots, Troubles};
use taffrail_record::{AskError, Family, Kind, Samples};

use crate::NodeMetricsConfig;
use crate::device::valid;
use crate::families::{Collect, ended, gauge};
use crate::list::Make;
use crate::recall::Recall;
use crate::sources::net;

static FAMILIES: [Family; 2] = [
    gauge("node_sockstat_*", &[], "A figure of /proc/net/sockstat or sockstat6, named <protocol>_<figure>."),
    gauge("node_sockstat_*_mem_bytes", &[], "Memory of a protocol's sockets, in bytes."),
];

pub(crate) struct SockStat {
    files: [Kept; 2],
    names: Recall<Name>,
    key: Vec<u8>,
    page_size: f64,
}

struct Name {
    name: String,
    help: String,
    /// The name of the same in bytes, for what is in pages.
    bytes: Option<String>,
}

impl Make for SockStat {
    fn make(_: &NodeMetricsConfig, roots: &Roots) -> Self {
        let files = [net(roots, "sockstat"), net(roots, "sockstat6")];
        let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
        let page_size = size.unwrap_or(4096) as f64;
        SockStat { files, names: Recall::default(), key: Vec::new(), page_size }
    }
}

impl Collect for SockStat {
    const NAME: &'static str = "sockstat";
    const FAMILIES: &'static [Family] = &FAMILIES;

    fn collect(&mut self, page: &mut Page, samples: &mut dyn Samples) -> Result<(), AskError> {
        let SockStat { files, names, key, page_size } = self;
        let mut troubles = Troubles::default();
        names.begin();
        let mut found = false;
        for file in files.iter_mut() {
            // Without IPv6 there is no second file.
            let Some(text) = troubles.take(file.read(page)) else { continue };
            found = true;
            for (protocol, figure, value) in lines(text).flat_map(figures) {
                let Some(value) = value else {
                    troubles.note(ReadError::malformed(file.path(), "a figure that is no number"));
                    continue;
                };
                key.clear();
                key.extend_from_slice(protocol);
                key.push(b'_');
                key.extend_from_slice(figure);
                names.next(key, Name::new).write(value as f64, *page_size, samples);
            }
        }
        ended(troubles, found, files[0].path())
    }
}

/// Protocol, figure and value of each pair in a line such as `TCP: inuse 4 orphan 0`.
fn figures(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], Option<u64>)> {
    let mut words = words(line);
    let protocol = words.next().unwrap_or_default();
    let protocol = protocol.strip_suffix(b":").unwrap_or(protocol);
    std::iter::from_fn(move || Some((protocol, words.next()?, words.next().and_then(number))))
}

impl Name {
    fn new(key: &str) -> Name {
        let bytes = key.ends_with("_mem").then(|| format!("node_sockstat_{}_bytes", valid(key)));
        let help = format!("Sockets: {}.", key.replace('_', " "));
        Name { name: format!("node_sockstat_{}", valid(key)), help, bytes }
    }

    fn write(&self, value: f64, page_size: f64, samples: &mut dyn Samples) {
        samples.named(&self.name, Kind::Gauge, &self.help);
        samples.sample(&[], value);
        if let Some(bytes) = &self.bytes {
            samples.named(bytes, Kind::Gauge, &self.help);
            samples.sample(&[], value * page_size);
        }
    }
}
