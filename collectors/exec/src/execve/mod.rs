//! What the kernel's audit tells of programs that are begun: heard by the group that reads along, whether or not there is an audit
//! daemon, put together of its records, and held beside what the process connector tells.
//!
//! Guarantee: the audit of the machine is left as it was found. The place of the audit daemon is nobody's here, rules are added under
//! a key of this agent's own, and what was changed is written down before, so that the next life takes it back if this one cannot.

mod assemble;
mod control;
mod pairs;
mod records;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use assemble::Assembler;
use control::Control;
pub(crate) use pairs::Pairs;

use crate::netlink::{HEADER, Netlink, Read};

const NETLINK_AUDIT: i32 = 9;
/// `AUDIT_NLGRP_READLOG`.
const READLOG: u32 = 1;
/// Bytes that may wait in the kernel: some thousand programs.
const BUFFER: i32 = 32 << 20;

/// A program that was begun, as the kernel's audit has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Execve {
    /// When the call was made, milliseconds since the Unix epoch, as coarse as the kernel's tick.
    pub(crate) time: u64,
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// Real ids, and effective ones.
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) effective_user: u32,
    pub(crate) effective_group: u32,
    pub(crate) login_user: Option<u32>,
    pub(crate) audit_session: Option<u32>,
    pub(crate) tty: Vec<u8>,
    /// The kernel's short name for the program.
    pub(crate) name: Vec<u8>,
    /// The program's path.
    pub(crate) executable: Vec<u8>,
    /// What it was called with.
    pub(crate) file: Vec<u8>,
    pub(crate) directory: Vec<u8>,
    pub(crate) inode: u64,
    /// As the kernel numbers it: what is before the twentieth bit is the minor number.
    pub(crate) device: u32,
    /// All of them, or none when they were not told whole.
    pub(crate) arguments: Option<Vec<Vec<u8>>>,
}

/// The kernel's audit, heard.
pub(crate) struct Heard {
    socket: Netlink,
    control: Control,
    assembler: Assembler,
    left: Left,
    /// What the kernel had lost when this was asked last.
    lost: u32,
    overruns: u64,
}

impl Heard {
    fn open(key: &str, note: &Path) -> Result<Heard, String> {
        let socket = Netlink::open(NETLINK_AUDIT, READLOG, BUFFER)
            .map_err(|error| format!("{error}; it takes CAP_AUDIT_READ, and a kernel with CONFIG_AUDIT"))?;
        let mut control = Control::open()?;
        let left = Left::begin(&mut control, key, note)?;
        let lost = control.status()?.lost;
        Ok(Heard { socket, control, assembler: Assembler::default(), left, lost, overruns: 0 })
    }

    /// Whether it could be heard, without changing anything.
    ///
    /// # Errors
    /// What is in the way, and what it takes.
    pub(crate) fn is_permitted() -> Result<(), String> {
        Netlink::open(NETLINK_AUDIT, READLOG, BUFFER)
            .map_err(|error| format!("{error}; it takes CAP_AUDIT_READ, and a kernel with CONFIG_AUDIT"))?;
        Control::open()?.is_usable()
    }

    /// What is to be waited for.
    pub(crate) fn socket(&self) -> &Netlink {
        &self.socket
    }

    /// Hands on the programs of which all is told.
    pub(crate) fn read(&mut self, mut each: impl FnMut(Execve)) {
        loop {
            match self.socket.read() {
                Read::Message(bytes) => {
                    let kind =
                        bytes.get(4..6).and_then(|kind| Some(u16::from_ne_bytes(kind.try_into().ok()?)));
                    let (Some(kind), Some(text)) = (kind, bytes.get(HEADER..)) else { continue };
                    if let Some(execve) = self.assembler.take(kind, text, Instant::now()) {
                        each(execve);
                    }
                }
                Read::Overrun => self.overruns += 1,
                Read::Nothing => return,
            }
        }
    }

    /// How many records are missing since this was asked last, at least.
    ///
    /// # Errors
    /// When the audit is not to be heard any more: somebody has switched it off, or the kernel does not answer.
    pub(crate) fn round(&mut self) -> Result<u64, String> {
        let status = self.control.status()?;
        if status.enabled == 0 {
            return Err("somebody has switched it off (auditctl -e 0)".to_owned());
        }
        // An audit daemon that is started takes all rules away.
        self.control.add_rules(&self.left.key)?;
        let lost = status.lost.wrapping_sub(std::mem::replace(&mut self.lost, status.lost));
        let dropped = self.assembler.take_dropped(Instant::now());
        Ok(u64::from(lost) + dropped + std::mem::take(&mut self.overruns))
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.left.restore(&mut self.control);
    }
}

/// The kernel's audit, as this agent uses it.
#[derive(Debug, Clone)]
pub(crate) struct KernelAudit {
    /// What its rules are kept under.
    key: String,
    /// The file that says what was changed.
    note: PathBuf,
}

impl KernelAudit {
    /// Of the agent whose folder this is.
    pub(crate) fn of(folder: &Path) -> KernelAudit {
        let name = crate::chain::hash(folder.as_os_str().as_encoded_bytes());
        let key = format!("taffrail-{}", name.get(..12).unwrap_or_default());
        KernelAudit { key, note: folder.join("kernel-audit") }
    }

    /// Hears it.
    ///
    /// # Errors
    /// What is in the way, and what it takes.
    pub(crate) fn open(&self) -> Result<Heard, String> {
        Heard::open(&self.key, &self.note)
    }

    /// Takes back what an earlier life has changed and left, if it did.
    ///
    /// # Errors
    /// When the kernel does not take it back.
    pub(crate) fn take_back(&self) -> Result<(), String> {
        let Some(left) = Left::of_before(&self.key, &self.note) else { return Ok(()) };
        left.take_back(&mut Control::open()?)
    }
}

/// What was changed of the machine's audit.
struct Left {
    key: String,
    note: PathBuf,
    was_off: bool,
}

/// What a machine's start is told from another by.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

impl Left {
    /// What an earlier life since the machine's start has written down. The note is not synced: what it is about does not outlive the
    /// kernel that would not write it.
    fn of_before(key: &str, note: &Path) -> Option<Left> {
        let text = std::fs::read_to_string(note).ok()?;
        let (was, boot) = text.split_once(' ').unwrap_or((&text, ""));
        let is_of_now = std::fs::read_to_string(BOOT).is_ok_and(|now| now == boot);
        Some(Left { key: key.to_owned(), note: note.to_owned(), was_off: was == "off" && is_of_now })
    }

    fn begin(control: &mut Control, key: &str, note: &Path) -> Result<Left, String> {
        control.is_usable()?;
        let is_off = control.status()?.enabled == 0;
        let was_off = is_off || Left::of_before(key, note).is_some_and(|left| left.was_off);
        let write = || -> io::Result<()> {
            let boot = std::fs::read_to_string(BOOT)?;
            write!(File::create(note)?, "{} {boot}", if was_off { "off" } else { "on" })
        };
        write().map_err(|error| {
            format!("how it is now cannot be written down in {}: {error}", note.display())
        })?;
        let left = Left { key: key.to_owned(), note: note.to_owned(), was_off };
        let changed =
            control.add_rules(key).and_then(|()| if is_off { control.set_enabled(true) } else { Ok(()) });
        match changed {
            Ok(()) => Ok(left),
            Err(why) => {
                left.restore(control);
                Err(why)
            }
        }
    }

    fn restore(&self, control: &mut Control) {
        if let Err(why) = self.take_back(control) {
            tracing::warn!(why, key = %self.key, "the kernel's audit could not be left as it was found; see auditctl -l");
        }
    }

    fn take_back(&self, control: &mut Control) -> Result<(), String> {
        control.remove_rules(&self.key)?;
        // Not from under an audit daemon that has come since, nor from under another agent.
        let others = control.has_rules()? || control.status()?.pid != 0;
        if self.was_off && !others && control.status()?.enabled == 1 {
            control.set_enabled(false)?;
        }
        std::fs::remove_file(&self.note).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(format!("{}: {error}", self.note.display())),
        })
    }
}
