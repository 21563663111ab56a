//! The switches of the kernel's audit: how it stands, and its rules, by the messages of `linux/audit.h`.

use std::io;
use std::time::{Duration, Instant};

use nix::libc;

use super::NETLINK_AUDIT;
use crate::netlink::{HEADER, Netlink, Read, wait};

const GET: u16 = 1000;
const SET: u16 = 1001;
const ADD_RULE: u16 = 1011;
const DELETE_RULE: u16 = 1012;
const LIST_RULES: u16 = 1013;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST` and `NLM_F_ACK`.
const ASK: u16 = 1 | 4;
/// `AUDIT_STATUS_ENABLED`.
const ENABLED: u32 = 1;
/// `AUDIT_FILTER_TASK` and `AUDIT_FILTER_EXIT`, `AUDIT_NEVER` and `AUDIT_ALWAYS`.
const TASK: u32 = 1;
const EXIT: u32 = 4;
const NEVER: u32 = 0;
const ALWAYS: u32 = 2;
/// `AUDIT_ARCH`, `AUDIT_SUCCESS`, `AUDIT_FILTERKEY`, and the operator.
const ARCH: u32 = 11;
const SUCCESS: u32 = 104;
const KEY: u32 = 210;
const EQUAL: u32 = 0x4000_0000;
/// Of a rule: words of its mask, and how many fields it has room for.
const WORDS: usize = 64;
const FIELDS: usize = 64;
/// Where the lengths of a rule's texts stand, and where its texts begin.
const RULE: usize = 4 * (3 + WORDS + 3 * FIELDS + 1);
/// How long the kernel may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The architectures whose programs run here, with their numbers of `execve` and `execveat`.
#[cfg(target_arch = "x86_64")]
const CALLS: [(u32, [usize; 2]); 2] = [(0xC000_003E, [59, 322]), (0x4000_0003, [11, 358])];
#[cfg(target_arch = "aarch64")]
const CALLS: [(u32, [usize; 2]); 2] = [(0xC000_00B7, [221, 281]), (0x4000_0028, [11, 387])];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const CALLS: [(u32, [usize; 2]); 0] = [];

/// How the kernel's audit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    /// 0 off, 1 on, 2 on and locked.
    pub(super) enabled: u32,
    /// The audit daemon; 0 for none.
    pub(super) pid: u32,
    /// Records that were lost since the machine's start.
    pub(super) lost: u32,
}

/// A socket to the kernel's audit.
pub(super) struct Control {
    socket: Netlink,
    number: u32,
}

impl Control {
    /// # Errors
    /// When the kernel has none, or this process may not.
    pub(super) fn open() -> Result<Control, String> {
        let socket = Netlink::open(NETLINK_AUDIT, 0, 1 << 20).map_err(|error| told(&error))?;
        let mut control = Control { socket, number: 0 };
        control.status()?;
        Ok(control)
    }

    /// Whether rules would be heard.
    ///
    /// # Errors
    /// What is in the way.
    pub(super) fn is_usable(&mut self) -> Result<(), String> {
        if CALLS.is_empty() {
            return Err("the system calls of this machine are not known".to_owned());
        }
        let status = self.status()?;
        if status.enabled == 2 {
            return Err("it is locked until the next start of the machine (auditctl -e 2)".to_owned());
        }
        if status.enabled == 0 && status.pid != 0 {
            return Err("there is an audit daemon, and it has been switched off (auditctl -e 0)".to_owned());
        }
        if self.rules()?.iter().any(Rule::is_of_all_tasks) {
            return Err("a rule keeps all programs from it (auditctl -l: -a never,task)".to_owned());
        }
        Ok(())
    }

    pub(super) fn status(&mut self) -> Result<Status, String> {
        let mut status = None;
        self.ask(GET, &[], |kind, body| {
            let at = |index: usize| u32_at(body, 4 * index);
            if kind == GET
                && let (Some(enabled), Some(pid), Some(lost)) = (at(1), at(3), at(6))
            {
                status = Some(Status { enabled, pid, lost });
            }
        })?;
        status.ok_or_else(|| "the kernel does not say how its audit stands".to_owned())
    }

    pub(super) fn set_enabled(&mut self, is: bool) -> Result<(), String> {
        let mut body = [0; 40];
        body[..4].copy_from_slice(&ENABLED.to_ne_bytes());
        body[4..8].copy_from_slice(&u32::from(is).to_ne_bytes());
        self.ask(SET, &body, |_, _| {})
    }

    /// Adds what is missing of this key's rules: every program that is begun, by whatever call.
    pub(super) fn add_rules(&mut self, key: &str) -> Result<(), String> {
        let there = self.rules()?;
        for wanted in CALLS.map(|(arch, calls)| Rule::of(arch, calls, key)) {
            if !there.iter().any(|rule| rule.is(&wanted)) {
                self.ask(ADD_RULE, &wanted.0, |_, _| {})?;
            }
        }
        Ok(())
    }

    /// Removes all of this key's rules.
    pub(super) fn remove_rules(&mut self, key: &str) -> Result<(), String> {
        let of_key = self.rules()?.into_iter().filter(|rule| rule.key() == Some(key.as_bytes()));
        for rule in of_key.collect::<Vec<_>>() {
            self.ask(DELETE_RULE, &rule.0, |_, _| {})?;
        }
        Ok(())
    }

    /// Whether there is any.
    pub(super) fn has_rules(&mut self) -> Result<bool, String> {
        Ok(!self.rules()?.is_empty())
    }

    fn rules(&mut self) -> Result<Vec<Rule>, String> {
        let mut rules = Vec::new();
        self.ask(LIST_RULES, &[], |kind, body| {
            if kind == LIST_RULES {
                rules.push(Rule(body.to_vec()));
            }
        })?;
        Ok(rules)
    }

    /// Asks something, and hands on what is answered until that is all.
    fn ask(&mut self, kind: u16, body: &[u8], mut each: impl FnMut(u16, &[u8])) -> Result<(), String> {
        self.number = self.number.wrapping_add(1);
        let number = self.number;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(ASK.to_ne_bytes());
        message.extend(number.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        self.socket.send(&message).map_err(|error| told(&error))?;
        let mut wanted = Wanted::of(kind);
        let deadline = Instant::now() + ANSWER;
        while !wanted.is_all() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("the kernel does not answer for its audit".to_owned());
            }
            wait(&[&self.socket], left);
            while let Read::Message(bytes) = self.socket.read() {
                let Some((kind, body)) = message_of(bytes, number) else { continue };
                match (kind, u32_at(body, 0)) {
                    (ERROR, Some(0)) => wanted.acknowledged = true,
                    (ERROR, Some(error)) => {
                        return Err(told(&io::Error::from_raw_os_error((error as i32).wrapping_neg())));
                    }
                    (DONE, _) => wanted.told = true,
                    _ => {
                        wanted.told |= kind == GET;
                        each(kind, body);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What is still to come of an answer.
struct Wanted {
    acknowledged: bool,
    told: bool,
}

impl Wanted {
    fn of(kind: u16) -> Wanted {
        Wanted { acknowledged: false, told: !matches!(kind, GET | LIST_RULES) }
    }

    fn is_all(&self) -> bool {
        self.acknowledged && self.told
    }
}

/// Kind and body of an answer to the question of this number.
fn message_of(bytes: &[u8], number: u32) -> Option<(u16, &[u8])> {
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    (u32_at(bytes, 8)? == number).then_some((kind, bytes.get(HEADER..)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn told(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            "it takes CAP_AUDIT_CONTROL, in the machine's own pid namespace (hostPID)".to_owned()
        }
        Some(libc::ECONNREFUSED | libc::EPROTONOSUPPORT) => {
            "there is none here: the kernel is built without it (CONFIG_AUDIT), or this is not the machine's own user namespace".to_owned()
        }
        _ => error.to_string(),
    }
}

/// A rule, as `struct audit_rule_data` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule(Vec<u8>);

impl Rule {
    /// Of every call with one of these numbers that succeeds.
    fn of(arch: u32, calls: [usize; 2], key: &str) -> Rule {
        let mut words = [0_u32; RULE / 4];
        (words[0], words[1], words[2]) = (EXIT, ALWAYS, 3);
        for call in calls {
            words[3 + call / 32] |= 1 << (call % 32);
        }
        let fields = [(ARCH, arch), (SUCCESS, 1), (KEY, key.len() as u32)];
        for (index, (field, value)) in fields.into_iter().enumerate() {
            words[3 + WORDS + index] = field;
            words[3 + WORDS + FIELDS + index] = value;
            words[3 + WORDS + 2 * FIELDS + index] = EQUAL;
        }
        words[RULE / 4 - 1] = key.len() as u32;
        let words = words.iter().flat_map(|word| word.to_ne_bytes());
        Rule(words.chain(key.bytes()).collect())
    }

    fn word(&self, index: usize) -> Option<u32> {
        u32_at(&self.0, 4 * index)
    }

    /// Whether it says the same, and is kept under the same key.
    fn is(&self, other: &Rule) -> bool {
        let arch = |rule: &Rule| rule.field(ARCH).map(|(_, value)| value);
        self.key() == other.key()
            && arch(self) == arch(other)
            && self.0.get(..RULE - 4) == other.0.get(..RULE - 4)
    }

    /// The place and the value of its field of this kind.
    fn field(&self, wanted: u32) -> Option<(usize, u32)> {
        let count = (self.word(2)? as usize).min(FIELDS);
        let place = (0..count).find(|index| self.word(3 + WORDS + index) == Some(wanted))?;
        Some((place, self.word(3 + WORDS + FIELDS + place)?))
    }

    /// What it is kept under: its last text, here always its only one.
    fn key(&self) -> Option<&[u8]> {
        let (_, length) = self.field(KEY)?;
        let texts = self.0.get(RULE..RULE + self.word(RULE / 4 - 1)? as usize)?;
        texts.get(texts.len().checked_sub(length as usize)?..)
    }

    /// Whether it keeps every process from being audited at all.
    fn is_of_all_tasks(&self) -> bool {
        self.word(0).is_some_and(|list| list & 7 == TASK)
            && self.word(1) == Some(NEVER)
            && self.word(2) == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_known_again_by_its_key_and_what_it_is_of() {
        let rule = Rule::of(0xC000_003E, [59, 322], "mine");
        assert_eq!((rule.key(), rule.0.len()), (Some(&b"mine"[..]), 1040 + 4));
        assert_eq!(rule.word(3 + 1), Some(1 << 27), "59 is a bit of the second word");
        assert!(rule.is(&rule.clone()) && !rule.is_of_all_tasks());
        assert!(!rule.is(&Rule::of(0xC000_003E, [59, 322], "your")));
        assert!(!rule.is(&Rule::of(0x4000_0003, [59, 322], "mine")));
        assert_eq!(Rule(vec![255; RULE]).key(), None);
        assert_eq!(Rule(Vec::new()).key(), None);
        let mut never = vec![0; RULE];
        never[0] = TASK as u8;
        assert!(Rule(never).is_of_all_tasks());
    }
}
