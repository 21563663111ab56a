//! The probe's records, as `probe/record.h` lays them out.
//!
//! Whatever the bytes are, reading them neither fails in another way than by [`Malformed`] nor reads beyond them.

mod access;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use access::{Connected, Opened, To};

/// A record of the probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What there is to know of it.
    pub flags: Flags,
    /// When, nanoseconds of `CLOCK_BOOTTIME`.
    pub time: u64,
    /// Its session; 0 for none.
    pub session: u64,
    /// Its number in the session, from 0; without a session on the machine.
    pub number: u64,
    /// The kernfs id of the container's cgroup; 0 for none.
    pub container: u64,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A process began a program.
    Exec(Box<Process>, Box<Exec>),
    /// A process was made.
    Fork(Box<Process>),
    /// A process ended.
    Exit(Box<Process>, Exit),
    /// The last member of a session ended.
    End(Session),
    /// A file was opened to write.
    Opened(Box<Process>, Box<Opened>),
    /// Somebody connects to another, or sent something to an address.
    Connected(Box<Process>, Box<Connected>),
}

/// An id of a user or a group that is not known. The kernel gives it to nobody.
pub const NOBODY: u32 = u32::MAX;

/// A process. Its pid and start together name it for as long as the machine runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// When it was made, nanoseconds of `CLOCK_BOOTTIME`.
    pub start: u64,
    /// When its parent was.
    pub parent_start: u64,
    /// As the machine's first pid namespace numbers it.
    pub pid: u32,
    /// Which of its threads did it.
    pub thread: u32,
    /// Its parent.
    pub parent: u32,
    /// As its own pid namespace numbers it.
    pub inner_pid: u32,
    /// As its parent's own pid namespace numbers that.
    pub inner_parent: u32,
    /// Its process session (`setsid`).
    pub process_session: u32,
    /// Real and effective ids.
    pub user: u32,
    /// Real group.
    pub group: u32,
    /// Effective user.
    pub effective_user: u32,
    /// Effective group.
    pub effective_group: u32,
    /// The audit subsystem's login user, if it has one.
    pub login_user: Option<u32>,
    /// The audit subsystem's session, if it has one.
    pub audit_session: Option<u32>,
    /// Inode of its pid namespace.
    pub pid_namespace: u32,
    /// Inode of its mount namespace; 0 when it has left it.
    pub mount_namespace: u32,
    /// How many pid namespaces lie around its own.
    pub level: u32,
    /// The kernel's short name for it.
    pub name: Vec<u8>,
    /// Its terminal, such as `pts0`; empty for none.
    pub tty: Vec<u8>,
}

/// A program that was begun.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exec {
    /// Inode of the program's file.
    pub inode: u64,
    /// Its device, as the kernel numbers it.
    pub device: u32,
    /// Its names; 0 when it is deleted or never had one.
    pub links: u32,
    /// By which differences to its parent's surroundings it came in: [`differences`].
    pub entered_by: u32,
    /// What its session is.
    pub session_kind: u32,
    /// Pids of its ancestors, the parent first.
    pub ancestors: Vec<u32>,
    /// Inodes behind descriptors 0 to 2, of an entry.
    pub standard: [u64; 3],
    /// Bytes of all arguments, of which `arguments` are the first.
    pub arguments_total: u32,
    /// Bytes of the environment, of which `environment` are the first.
    pub environment_total: u32,
    /// The program's path, as its process sees it.
    pub path: Vec<u8>,
    /// What exec was called with.
    pub file: Vec<u8>,
    /// Each argument with a NUL behind it, but for one that is cut.
    pub arguments: Vec<u8>,
    /// The working directory, as the process sees it.
    pub directory: Vec<u8>,
    /// Names of the cgroup and the two around it, of an entry.
    pub cgroup: Vec<Vec<u8>>,
    /// As the arguments.
    pub environment: Vec<u8>,
    /// Who is to run it, where only a name is known; else empty.
    pub user_name: Vec<u8>,
}

/// What there is to know of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// Of an exec that a session begins with.
    pub(crate) const ENTRY: Flags = Flags(1);

    /// The same of an exec whose arguments are not known.
    pub(crate) fn with_arguments_unreadable(self) -> Flags {
        Flags(self.0 | 2)
    }

    /// With this exec a session began.
    #[must_use]
    pub fn is_entry(self) -> bool {
        self.0 & 1 != 0
    }

    /// The arguments' memory was not there.
    #[must_use]
    pub fn arguments_unreadable(self) -> bool {
        self.0 & 2 != 0
    }

    /// The environment's memory was not there.
    #[must_use]
    pub fn environment_unreadable(self) -> bool {
        self.0 & 4 != 0
    }

    /// Outer components of the program's path are missing.
    #[must_use]
    pub fn path_cut(self) -> bool {
        self.0 & 8 != 0
    }

    /// Outer components of the working directory are missing.
    #[must_use]
    pub fn directory_cut(self) -> bool {
        self.0 & 16 != 0
    }

    #[cfg(test)]
    pub(crate) fn of_init(is_entry: bool) -> Flags {
        Flags(32 | u16::from(is_entry))
    }

    /// Its session is a container's first process and what descends from that.
    #[must_use]
    pub fn is_of_init(self) -> bool {
        self.0 & 32 != 0
    }
}

/// The bits of [`Exec::entered_by`].
pub mod differences {
    /// Its pid namespace is not its parent's.
    pub const PID_NAMESPACE: u32 = 1;
    /// Its mount namespace is not.
    pub const MOUNT_NAMESPACE: u32 = 2;
    /// Its network namespace is not.
    pub const NETWORK_NAMESPACE: u32 = 4;
    /// Its IPC namespace is not.
    pub const IPC_NAMESPACE: u32 = 8;
    /// Its UTS namespace is not.
    pub const UTS_NAMESPACE: u32 = 16;
    /// Its cgroup is not.
    pub const CGROUP: u32 = 32;

    const NAMES: [(u32, &str); 6] = [
        (PID_NAMESPACE, "pid"),
        (MOUNT_NAMESPACE, "mount"),
        (NETWORK_NAMESPACE, "network"),
        (IPC_NAMESPACE, "ipc"),
        (UTS_NAMESPACE, "uts"),
        (CGROUP, "cgroup"),
    ];

    /// What they are called.
    pub fn names(bits: u32) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().filter(move |(bit, _)| bits & bit != 0).map(|(_, name)| name)
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exit {
    /// As wait(2) has it.
    pub status: i32,
    /// Nanoseconds that its threads ran.
    pub cpu: u64,
}

impl Exit {
    /// The exit code, where it exited.
    #[must_use]
    pub fn code(self) -> Option<u8> {
        (self.status & 0x7f == 0).then_some((self.status >> 8) as u8)
    }

    /// The signal that ended it, where one did.
    #[must_use]
    pub fn signal(self) -> Option<u8> {
        Some((self.status & 0x7f) as u8).filter(|signal| *signal != 0)
    }
}

/// What a session is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u32)]
pub enum SessionKind {
    /// A container's first process and its descendants.
    #[default]
    Init = 1,
    /// A process that came into a container from outside, and its descendants.
    Entered = 2,
    /// The same, begun before the probe was there.
    Adopted = 3,
}

/// A session as the probe counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// The kernfs id of the container's cgroup.
    pub container: u64,
    /// When it began, nanoseconds of `CLOCK_BOOTTIME`.
    pub begun: u64,
    /// Numbers that were given to records.
    pub records: u64,
    /// Of them, not told: the ring was full.
    pub lost: u64,
    /// Of them, not told: the container was over its rate.
    pub limited: u64,
    /// What happened and got no number: nobody had asked for it.
    pub unwanted: u64,
    /// Processes that could not be counted in.
    pub untracked: u64,
    /// Programs that its members began, told or not.
    pub execs: u64,
    /// Processes that they made.
    pub forks: u64,
    /// Members that ended.
    pub exits: u64,
    /// Files that they opened to write, where that is told.
    pub files: u64,
    /// Connections that they made, where that is told.
    pub connections: u64,
    /// Of these two how many were not told: the container was over the part of its rate that they have.
    pub limited_accesses: u64,
    /// The kernfs id of its first member's cgroup, when that came in.
    pub cgroup: u64,
    /// When its first process ended; 0 while it lives.
    pub ended: u64,
    /// Its first process.
    pub root: u32,
    /// How that ended, as wait(2) has it.
    pub status: i32,
    /// Processes that live; of an adopted one [`Session::HOLD`] more than were made since.
    pub members: u32,
    /// What it is.
    pub kind: SessionKind,
    /// Inodes of the first member's namespaces, when it came in: mount, pid, network, IPC and UTS.
    pub namespaces: [u32; 5],
}

/// What is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the probe's record is not what this program expects: they are of different versions")
    }
}

impl std::error::Error for Malformed {}

const ANCESTORS: usize = 8;
const NAME: usize = 16;

/// Takes fields off the front.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_ne_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_ne_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_ne_bytes(self.array()?))
    }

    /// A text that ends at the first NUL.
    fn name(&mut self) -> Result<Vec<u8>, Malformed> {
        let bytes = self.take(NAME)?;
        Ok(bytes.iter().copied().take_while(|byte| *byte != 0).collect())
    }

    fn text(&mut self, length: u16) -> Result<&'a [u8], Malformed> {
        self.take(usize::from(length))
    }
}

/// If it is the word that somebody may come into a container soon: when it was said, nanoseconds of `CLOCK_BOOTTIME`.
#[must_use]
pub(crate) fn foretold(bytes: &[u8]) -> Option<u64> {
    const FORESEEN: u16 = 5;
    let mut fields = Fields(bytes);
    let (_, kind, _) = (fields.u32().ok()?, fields.u16().ok()?, fields.u16().ok()?);
    fields.u64().ok().filter(|_| kind == FORESEEN)
}

impl Record {
    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(bytes: &[u8]) -> Result<Record, Malformed> {
        let mut fields = Fields(bytes);
        let (length, kind, flags) = (fields.u32()?, fields.u16()?, Flags(fields.u16()?));
        if length as usize > bytes.len() {
            return Err(Malformed);
        }
        let (time, session, number, container) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        let what = match kind {
            1 => {
                let process = process(&mut fields)?;
                What::Exec(Box::new(process), Box::new(exec(&mut fields, flags)?))
            }
            2 => What::Fork(Box::new(process(&mut fields)?)),
            3 => {
                let process = process(&mut fields)?;
                let status = fields.u32()? as i32;
                fields.u32()?;
                What::Exit(Box::new(process), Exit { status, cpu: fields.u64()? })
            }
            4 => {
                process(&mut fields)?;
                What::End(Session::read(fields.0)?)
            }
            7 => {
                let process = process(&mut fields)?;
                What::Opened(Box::new(process), Box::new(access::opened(&mut fields, flags)?))
            }
            8 => {
                let process = process(&mut fields)?;
                What::Connected(Box::new(process), Box::new(access::connected(&mut fields, flags)?))
            }
            _ => return Err(Malformed),
        };
        Ok(Record { flags, time, session, number, container, what })
    }
}

impl Session {
    /// Bytes of one.
    pub(crate) const SIZE: usize = 15 * 8 + 10 * 4;
    /// What holds an adopted session open in the kernel.
    pub const HOLD: u32 = 1 << 20;

    /// Reads one, as it is in the probe's map.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(bytes: &[u8]) -> Result<Session, Malformed> {
        let mut fields = Fields(bytes);
        let session = Session {
            container: fields.u64()?,
            begun: fields.u64()?,
            records: fields.u64()?,
            lost: fields.u64()?,
            limited: fields.u64()?,
            unwanted: fields.u64()?,
            untracked: fields.u64()?,
            execs: fields.u64()?,
            forks: fields.u64()?,
            exits: fields.u64()?,
            files: fields.u64()?,
            connections: fields.u64()?,
            limited_accesses: fields.u64()?,
            cgroup: fields.u64()?,
            ended: fields.u64()?,
            root: fields.u32()?,
            status: fields.u32()? as i32,
            members: fields.u32()?,
            kind: match fields.u32()? {
                1 => SessionKind::Init,
                2 => SessionKind::Entered,
                3 => SessionKind::Adopted,
                _ => return Err(Malformed),
            },
            namespaces: [fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?],
        };
        fields.u32()?;
        Ok(session)
    }

    /// As it is in the probe's map.
    pub(crate) fn write(&self) -> [u8; Self::SIZE] {
        let long = [
            self.container,
            self.begun,
            self.records,
            self.lost,
            self.limited,
            self.unwanted,
            self.untracked,
            self.execs,
            self.forks,
            self.exits,
            self.files,
            self.connections,
            self.limited_accesses,
            self.cgroup,
            self.ended,
        ];
        let short = [self.root, self.status as u32, self.members, self.kind as u32]
            .into_iter()
            .chain(self.namespaces);
        let bytes = long.iter().flat_map(|field| field.to_ne_bytes());
        let mut written = [0; Self::SIZE];
        for (place, byte) in written.iter_mut().zip(bytes.chain(short.flat_map(u32::to_ne_bytes))) {
            *place = byte;
        }
        written
    }

    /// How its first process ended, if it did.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        (self.ended > 0).then_some(Exit { status: self.status, cpu: 0 })
    }
}

fn process(fields: &mut Fields<'_>) -> Result<Process, Malformed> {
    let known = |id: u32| (id != u32::MAX).then_some(id);
    let process = Process {
        start: fields.u64()?,
        parent_start: fields.u64()?,
        pid: fields.u32()?,
        thread: fields.u32()?,
        parent: fields.u32()?,
        inner_pid: fields.u32()?,
        inner_parent: fields.u32()?,
        process_session: fields.u32()?,
        user: fields.u32()?,
        group: fields.u32()?,
        effective_user: fields.u32()?,
        effective_group: fields.u32()?,
        login_user: known(fields.u32()?),
        audit_session: known(fields.u32()?),
        pid_namespace: fields.u32()?,
        mount_namespace: fields.u32()?,
        level: fields.u32()?,
        ..Process::default()
    };
    fields.u32()?;
    Ok(Process { name: fields.name()?, tty: fields.name()?, ..process })
}

fn exec(fields: &mut Fields<'_>, flags: Flags) -> Result<Exec, Malformed> {
    let mut exec = Exec { inode: fields.u64()?, ..Exec::default() };
    (exec.device, exec.links) = (fields.u32()?, fields.u32()?);
    (exec.entered_by, exec.session_kind) = (fields.u32()?, fields.u32()?);
    for _ in 0..ANCESTORS {
        exec.ancestors.extend(Some(fields.u32()?).filter(|pid| *pid != 0));
    }
    exec.standard = [fields.u64()?, fields.u64()?, fields.u64()?];
    (exec.arguments_total, exec.environment_total) = (fields.u32()?, fields.u32()?);
    let mut lengths = [0; 6];
    for length in &mut lengths {
        *length = fields.u16()?;
    }
    fields.u32()?;
    let [path, file, arguments, directory, cgroup, environment] = lengths;
    exec.path = outwards(fields.text(path)?, flags.path_cut());
    exec.file = fields.text(file)?.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    exec.arguments = fields.text(arguments)?.to_vec();
    exec.directory = outwards(fields.text(directory)?, flags.directory_cut());
    exec.cgroup = parts(fields.text(cgroup)?).map(<[u8]>::to_vec).collect();
    exec.environment = fields.text(environment)?.to_vec();
    Ok(exec)
}

/// Texts with a NUL behind each.
fn parts(bytes: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == 0).map(|part| part.strip_suffix(&[0]).unwrap_or(part))
}

/// A path out of its components, the innermost first.
fn outwards(bytes: &[u8], is_cut: bool) -> Vec<u8> {
    let mut path = if is_cut { b"...".to_vec() } else { Vec::new() };
    for part in parts(bytes).rev() {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

#[cfg(test)]
mod tests;
