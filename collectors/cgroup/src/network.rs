//! What a network namespace has moved, read from the `net/dev` of one of its processes.
//!
//! The file is opened for each reading: an open one would keep the namespace, and with it the pod's interfaces, alive.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use taffrail_kernfs::{Page, ReadError, Roots, Troubles, parse};
use taffrail_record::Labels;

/// Interfaces whose names begin so are not counted: loopback, and the host's ends of pairs that others count.
const LEFT_OUT: [&[u8]; 4] = [b"lo", b"veth", b"docker", b"nerdctl"];

/// Columns of one line.
pub(crate) const COLUMNS: usize = 16;

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    name: Vec<u8>,
    /// `interface="eth0"`.
    pub(crate) labels: Labels,
    /// As in the file: eight of what was received, eight of what was sent.
    pub(crate) columns: [u64; COLUMNS],
}

/// The network namespaces of cgroups, each read once however many share it. Those of the last reading only are remembered.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    known: HashMap<u64, Vec<Interface>>,
    /// As they were read the time before, where they could not be read this time.
    lost: HashMap<u64, Vec<Interface>>,
}

/// Which network namespace a process is in. It need not be asked again while it is the same process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Membership {
    pid: u32,
    namespace: u64,
}

impl Membership {
    /// Asks the kernel, unless `known` is of the same process.
    pub(crate) fn of(roots: &Roots, pid: u32, known: Option<Membership>) -> Membership {
        let ask = || {
            // Processes have smaller numbers than namespaces.
            let namespace =
                fs::metadata(roots.proc(&format!("{pid}/ns/net"))).map_or(pid.into(), |ns| ns.ino());
            Membership { pid, namespace }
        };
        known.filter(|known| known.pid == pid).unwrap_or_else(ask)
    }
}

impl Networks {
    /// Reads the namespaces of all members; others are forgotten.
    pub(crate) fn read(
        &mut self,
        roots: &Roots,
        members: impl Iterator<Item = Membership>,
        page: &mut Page,
        troubles: &mut Troubles,
    ) {
        self.lost = std::mem::take(&mut self.known);
        for Membership { pid, namespace } in members {
            if self.known.contains_key(&namespace) {
                continue;
            }
            let mut interfaces = self.lost.remove(&namespace).unwrap_or_default();
            // Another process may be there when this one has just ended.
            let of = if troubles.take(read(roots, pid, &mut interfaces, page)).is_some() {
                &mut self.known
            } else {
                &mut self.lost
            };
            of.insert(namespace, interfaces);
        }
    }

    /// Whether it was read what a member sees.
    pub(crate) fn knows(&self, member: Membership) -> bool {
        self.known.contains_key(&member.namespace)
    }

    /// The interfaces that a member has seen last.
    pub(crate) fn last(&self, member: Membership) -> Option<&Vec<Interface>> {
        [&self.known, &self.lost].into_iter().find_map(|read| read.get(&member.namespace))
    }

    /// The interfaces that a member sees.
    pub(crate) fn of(&self, member: Membership) -> &[Interface] {
        self.known.get(&member.namespace).map_or(&[], Vec::as_slice)
    }
}

/// Reads the interfaces that the process `pid` sees. What is there stays when they cannot be read.
fn read(roots: &Roots, pid: u32, interfaces: &mut Vec<Interface>, page: &mut Page) -> Result<(), ReadError> {
    let path = roots.proc(&format!("{pid}/net/dev"));
    let text = taffrail_kernfs::read(&path, page)?;
    let mut seen = 0;
    for (name, columns) in parse::lines(text).filter_map(line) {
        // The order stays the same from one reading to the next, mostly.
        match interfaces.get_mut(seen) {
            Some(interface) if interface.name == name => interface.columns = columns,
            _ => {
                let labels = Labels::new([("interface", &*String::from_utf8_lossy(name))]);
                interfaces.truncate(seen);
                interfaces.push(Interface { name: name.to_owned(), labels, columns });
            }
        }
        seen += 1;
    }
    interfaces.truncate(seen);
    Ok(())
}

fn line(line: &[u8]) -> Option<(&[u8], [u64; COLUMNS])> {
    let colon = line.iter().rposition(|byte| *byte == b':')?;
    let name = line[..colon].trim_ascii();
    if LEFT_OUT.iter().any(|prefix| name.get(..prefix.len()).is_some_and(|n| n.eq_ignore_ascii_case(prefix)))
    {
        return None;
    }
    let mut columns = [0; COLUMNS];
    let mut words = parse::words(&line[colon + 1..]);
    for column in &mut columns {
        *column = parse::number(words.next()?)?;
    }
    Some((name, columns))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const DEV: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo:  100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n  \
        eth0: 11 12 13 14 15 16 17 18 21 22 23 24 25 26 27 28\nVETH1: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n \
        br0:1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\n";

    #[test]
    fn interfaces_are_those_that_nobody_else_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let roots = Roots::below(folder.path());
        fs::create_dir_all(roots.proc("7/net")).expect("made");
        let write = |text: &str| {
            let mut file = fs::File::create(roots.proc("7/net/dev")).expect("made");
            std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
        };
        write(DEV);
        let (mut interfaces, mut page) = (Vec::new(), Page::default());
        read(&roots, 7, &mut interfaces, &mut page).expect("read");
        assert_eq!(interfaces.len(), 1, "{interfaces:?}");
        assert_eq!(interfaces[0].labels.as_str(), "interface=\"eth0\"");
        assert_eq!((interfaces[0].columns[0], interfaces[0].columns[8]), (11, 21));
        write(&DEV.replace("eth0: 11", "eth0: 99"));
        read(&roots, 7, &mut interfaces, &mut page).expect("read");
        assert_eq!(interfaces[0].columns[0], 99);
    }

    #[test]
    fn what_cannot_be_read_is_missing_and_can_be_asked_for_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let roots = Roots::below(folder.path());
        fs::create_dir_all(roots.proc("7/net")).expect("made");
        let mut file = fs::File::create(roots.proc("7/net/dev")).expect("made");
        std::io::Write::write_all(&mut file, DEV.as_bytes()).expect("written");
        let (mut networks, mut page) = (Networks::default(), Page::default());
        let member = Membership { pid: 7, namespace: 1 };
        let mut read = |networks: &mut Networks| {
            networks.read(&roots, [member].into_iter(), &mut page, &mut Troubles::default());
        };
        read(&mut networks);
        assert_eq!((networks.knows(member), networks.of(member).len()), (true, 1));
        fs::remove_dir_all(roots.proc("7")).expect("removed");
        read(&mut networks);
        assert_eq!((networks.knows(member), networks.of(member)), (false, &[][..]));
        assert_eq!(networks.last(member).map(Vec::len), Some(1), "of the time before");
    }
}
