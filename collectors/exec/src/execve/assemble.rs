//! Events of the kernel's audit, put together of their records: one that begins a program becomes an [`Execve`].
//!
//! Guarantee: what programs choose, be it their arguments, names or directories, decides nothing but the texts of their own event. What is
//! kept of events that are not whole is bounded, in number, bytes and time, and what is let go of is counted.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::Execve;
use super::records::{Arguments, Record, Unreadable};

const SYSCALL: u16 = 1300;
const PATH: u16 = 1302;
const CWD: u16 = 1307;
const EXECVE: u16 = 1309;
const END: u16 = 1320;
/// Events that are not whole: how many, how many bytes of their records in all and of one, and for how long.
const MOST: usize = 1024;
const MOST_BYTES: usize = 32 << 20;
const LARGEST: usize = 2 * Arguments::LARGEST + (1 << 20);
const LONGEST: Duration = Duration::from_secs(5);
/// An id that is none.
const NOBODY: u64 = u32::MAX as u64;

/// Events in the making.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    half: HashMap<u64, Half>,
    /// Their serials, the oldest first; of those that are whole already, too.
    order: VecDeque<u64>,
    bytes: usize,
    dropped: u64,
}

#[derive(Debug)]
struct Half {
    since: Instant,
    bytes: usize,
    execve: Execve,
    /// Whether its call was told, and had succeeded.
    is_call: bool,
    /// Why the arguments are not whole.
    unreadable: Option<Unreadable>,
    arguments: Option<Arguments>,
}

impl Assembler {
    /// Takes one record, and hands out the program that was begun when that was its last.
    pub(super) fn take(&mut self, kind: u16, text: &[u8], now: Instant) -> Option<Execve> {
        if !matches!(kind, SYSCALL | PATH | CWD | EXECVE | END) {
            return None;
        }
        let Ok(record) = Record::read(text) else {
            self.dropped += 1;
            return None;
        };
        if kind == END {
            return self.let_go(record.serial)?.whole();
        }
        let half = self.half.entry(record.serial).or_insert_with(|| {
            self.order.push_back(record.serial);
            Half::new(&record, now)
        });
        half.bytes += text.len();
        self.bytes += text.len();
        half.take(kind, &record);
        self.bound();
        None
    }

    /// How many were let go of, or could not be read, since this was asked last.
    pub(super) fn take_dropped(&mut self, now: Instant) -> u64 {
        while let Some(serial) = self.order.front().copied() {
            let is_old = |half: &Half| now.saturating_duration_since(half.since) > LONGEST;
            match self.half.get(&serial) {
                Some(half) if !is_old(half) => break,
                _ => self.drop_oldest(),
            }
        }
        std::mem::take(&mut self.dropped)
    }

    fn bound(&mut self) {
        while self.half.len() > MOST || self.bytes > MOST_BYTES {
            self.drop_oldest();
        }
        // Those that are whole leave their places to the next of them that is let go of.
        if self.order.len() > 2 * MOST {
            self.order.retain(|serial| self.half.contains_key(serial));
        }
    }

    fn drop_oldest(&mut self) {
        let Some(serial) = self.order.pop_front() else { return };
        // Of other calls nobody misses anything.
        self.dropped += u64::from(self.let_go(serial).is_some_and(|half| half.arguments.is_some()));
    }

    fn let_go(&mut self, serial: u64) -> Option<Half> {
        let half = self.half.remove(&serial)?;
        self.bytes -= half.bytes;
        Some(half)
    }
}

impl Half {
    fn new(record: &Record<'_>, now: Instant) -> Half {
        let execve = Execve { time: record.time, ..Execve::default() };
        Half { since: now, bytes: 0, execve, is_call: false, unreadable: None, arguments: None }
    }

    fn take(&mut self, kind: u16, record: &Record<'_>) {
        match kind {
            SYSCALL => self.call(record),
            CWD => self.execve.directory = text(record, "cwd"),
            PATH if record.number("item") == Some(0) => {
                self.execve.file = text(record, "name");
                self.execve.inode = record.number("inode").unwrap_or(0);
                self.execve.device = record.field("dev").and_then(device).unwrap_or(0);
            }
            EXECVE => {
                let arguments = self.arguments.get_or_insert_default();
                let taken =
                    if self.bytes > LARGEST { Err(Unreadable::TooLarge) } else { arguments.take(record) };
                if let Err(why) = taken {
                    // What is kept of them would be of no use.
                    (self.unreadable, self.arguments) = (Some(why), Some(Arguments::default()));
                }
            }
            _ => {}
        }
    }

    fn call(&mut self, record: &Record<'_>) {
        let id = |name: &str| record.number(name).and_then(|id| u32::try_from(id).ok());
        let some =
            |name: &str| record.number(name).filter(|id| *id != NOBODY).and_then(|id| u32::try_from(id).ok());
        let Some(pid) = id("pid") else { return };
        self.is_call = record.field("success") == Some(b"yes");
        self.execve = Execve {
            pid,
            parent: id("ppid").unwrap_or(0),
            user: id("uid").unwrap_or(0),
            group: id("gid").unwrap_or(0),
            effective_user: id("euid").unwrap_or(0),
            effective_group: id("egid").unwrap_or(0),
            login_user: some("auid"),
            audit_session: some("ses"),
            tty: record.field("tty").filter(|tty| *tty != b"(none)").unwrap_or_default().to_vec(),
            name: text(record, "comm"),
            executable: text(record, "exe"),
            ..std::mem::take(&mut self.execve)
        };
    }

    /// What it is of, if a program was begun by it.
    fn whole(self) -> Option<Execve> {
        let arguments = self.arguments.filter(|_| self.is_call)?;
        let arguments = if self.unreadable.is_some() { None } else { arguments.whole().ok() };
        Some(Execve { arguments, ..self.execve })
    }
}

fn text(record: &Record<'_>, name: &str) -> Vec<u8> {
    record.text(name).ok().flatten().unwrap_or_default()
}

/// Of `MAJOR:MINOR` in hexadecimal digits.
fn device(text: &[u8]) -> Option<u32> {
    let (major, minor) = std::str::from_utf8(text).ok()?.split_once(':')?;
    let (major, minor) = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    Some(major.checked_shl(20)? | (minor & 0xf_ffff))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(serial: u64, fields: &str) -> Vec<u8> {
        format!("audit(1700000000.123:{serial}): {fields}\0").into_bytes()
    }

    fn call(pid: u32) -> String {
        format!(
            r#"arch=c000003e syscall=59 success=yes exit=0 items=2 ppid=3 pid={pid} auid=4294967295 uid=5 gid=6 euid=7 suid=7 egid=8 tty=pts1 ses=9 comm="sh" exe="/bin/sh" key="k""#
        )
    }

    /// As the kernel writes what a program chose.
    fn written(argument: &[u8]) -> String {
        if argument.iter().all(|byte| (0x21..0x7f).contains(byte) && *byte != b'"') {
            return format!("\"{}\"", String::from_utf8_lossy(argument));
        }
        argument.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// An event's records, the arguments in several of them and the long ones in pieces.
    fn event(serial: u64, pid: u32, arguments: &[Vec<u8>], piece: usize) -> Vec<(u16, Vec<u8>)> {
        let mut records = vec![(SYSCALL, record(serial, &call(pid)))];
        let mut fields = format!("argc={}", arguments.len());
        for (index, argument) in arguments.iter().enumerate() {
            if argument.len() <= piece {
                fields += &format!(" a{index}={}", written(argument));
                continue;
            }
            let hex: String = argument.iter().map(|byte| format!("{byte:02X}")).collect();
            fields += &format!(" a{index}_len={}", hex.len());
            for (number, part) in hex.as_bytes().chunks(2 * piece).enumerate() {
                records.push((EXECVE, record(serial, &fields)));
                fields = format!("a{index}[{number}]={}", String::from_utf8_lossy(part));
            }
        }
        records.push((EXECVE, record(serial, &fields)));
        records.push((CWD, record(serial, r#"cwd="/tmp""#)));
        records.push((PATH, record(serial, r#"item=0 name="./sh" inode=77 dev=fe:02 mode=0100755"#)));
        records.push((PATH, record(serial, r#"item=1 name="/lib/ld.so" inode=78 dev=fe:01"#)));
        records.push((END, record(serial, "")));
        records
    }

    #[test]
    fn an_event_is_a_program_with_all_that_is_told_of_it() {
        let mut assembler = Assembler::default();
        let now = Instant::now();
        let records = event(7, 44, &[b"sh".to_vec(), b"a\nb".to_vec()], 100);
        let told: Vec<Execve> =
            records.iter().filter_map(|(kind, text)| assembler.take(*kind, text, now)).collect();
        let expected = Execve {
            time: 1_700_000_000_123,
            pid: 44,
            parent: 3,
            user: 5,
            group: 6,
            effective_user: 7,
            effective_group: 8,
            login_user: None,
            audit_session: Some(9),
            tty: b"pts1".to_vec(),
            name: b"sh".to_vec(),
            executable: b"/bin/sh".to_vec(),
            file: b"./sh".to_vec(),
            directory: b"/tmp".to_vec(),
            inode: 77,
            device: 0xfe << 20 | 2,
            arguments: Some(vec![b"sh".to_vec(), b"a\nb".to_vec()]),
        };
        assert_eq!(told, [expected]);
        assert_eq!((assembler.bytes, assembler.half.len()), (0, 0));
    }

    #[test]
    fn calls_that_failed_or_are_others_are_no_programs() {
        let mut assembler = Assembler::default();
        let now = Instant::now();
        let failed = call(4).replace("success=yes", "success=no");
        for (serial, kind, fields) in [
            (1, SYSCALL, failed.as_str()),
            (1, EXECVE, r#"argc=1 a0="x""#),
            (1, END, ""),
            (2, SYSCALL, &call(4)),
            (2, END, ""),
            (3, EXECVE, r#"argc=1 a0="x""#),
            (3, END, ""),
            (4, END, ""),
        ] {
            assert_eq!(assembler.take(kind, &record(serial, fields), now), None, "{serial}");
        }
        assert_eq!(assembler.take_dropped(now), 0);
    }

    #[test]
    fn what_is_not_whole_is_bounded_and_counted() {
        let mut assembler = Assembler::default();
        let now = Instant::now();
        for serial in 0..5 * MOST as u64 {
            assembler.take(EXECVE, &record(serial, r#"argc=2 a0="x""#), now);
        }
        assert_eq!((assembler.half.len(), assembler.take_dropped(now)), (MOST, 4 * MOST as u64));
        assert!(assembler.order.len() <= 2 * MOST);
        assert_eq!(assembler.take_dropped(now + 2 * LONGEST), MOST as u64);
        assert_eq!((assembler.bytes, assembler.half.len()), (0, 0));
        let large = format!("argc=1 a0={}", "41".repeat(1 << 20));
        for serial in 0..200 {
            assembler.take(EXECVE, &record(serial, &large), now);
            assert!(assembler.bytes <= MOST_BYTES);
        }
        assert!(assembler.take_dropped(now) > 0);
    }

    proptest! {
        #[test]
        fn events_come_out_as_they_were_however_they_are_mixed(
            arguments in prop::collection::vec(prop::collection::vec(
                prop::collection::vec(1_u8..=255, 0..40), 1..6), 1..6),
            piece in 1_usize..20,
            order in prop::collection::vec(any::<prop::sample::Index>(), 300),
        ) {
            let events = arguments.iter().enumerate();
            let mut events: Vec<_> = events
                .map(|(index, arguments)| event(index as u64, index as u32 + 1, arguments, piece))
                .map(std::collections::VecDeque::from)
                .collect();
            let mut assembler = Assembler::default();
            let mut told = HashMap::new();
            let mut order = order.iter().cycle();
            while events.iter().any(|event| !event.is_empty()) {
                let next = order.next().map_or(0, |index| index.index(events.len()));
                let next = (0..events.len()).map(|more| (next + more) % events.len());
                let Some(next) = next.into_iter().find(|next| !events[*next].is_empty()) else { break };
                let Some((kind, text)) = events[next].pop_front() else { continue };
                if let Some(execve) = assembler.take(kind, &text, Instant::now()) {
                    told.insert(execve.pid, execve.arguments);
                }
            }
            for (index, arguments) in arguments.iter().enumerate() {
                prop_assert_eq!(told.get(&(index as u32 + 1)), Some(&Some(arguments.clone())));
            }
            prop_assert_eq!((assembler.bytes, assembler.take_dropped(Instant::now())), (0, 0));
        }

        #[test]
        fn a_record_that_is_missing_makes_no_arguments_up(
            arguments in prop::collection::vec(prop::collection::vec(1_u8..=255, 0..40), 1..6),
            piece in 1_usize..20,
            missing in any::<prop::sample::Index>(),
        ) {
            let mut records = event(1, 2, &arguments, piece);
            let is_execve = |(kind, _): &(u16, Vec<u8>)| *kind == EXECVE;
            let places: Vec<usize> =
                (0..records.len()).filter(|index| is_execve(&records[*index])).collect();
            records.remove(places[missing.index(places.len())]);
            let mut assembler = Assembler::default();
            let told = records.iter().find_map(|(kind, text)| assembler.take(*kind, text, Instant::now()));
            prop_assert!(told.is_none_or(|execve| execve.arguments.is_none()));
        }

        #[test]
        fn whatever_comes_is_read_or_not(records in prop::collection::vec(
            (prop::sample::select(vec![SYSCALL, PATH, CWD, EXECVE, END]), 0_u64..3,
             prop_oneof!["[ -~]{0,60}", "(a[0-9](_len|\\[[0-9]\\])?=(\"[a-z]*\"|[0-9A-F]{0,8}) ?){0,5}"]), 0..40)
        ) {
            let mut assembler = Assembler::default();
            for (kind, serial, fields) in &records {
                let _ = assembler.take(*kind, &record(*serial, fields), Instant::now());
                let _ = assembler.take(*kind, fields.as_bytes(), Instant::now());
            }
        }
    }
}
