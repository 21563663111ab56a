//! The probe before it is there: what it is loaded with, and how it is loaded and attached.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use aya::maps::Map;
use aya::programs::BtfTracePoint;
use aya::programs::links::FdLink;
use aya::{Btf, Ebpf, EbpfLoader};

use super::{Held, MAPS, Probe};
use crate::pins::{Pinning, Pins};
use crate::recording::attachment::{self, Programs};
use crate::recording::hooks;

/// Made of `probe/audit.bpf.c` by `probe/build`; a test holds that it is.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../probe/audit.bpf.o");

/// Programs that are attached for as long as the probe is there, and where in the kernel.
pub(super) const HOOKS: [(&str, &str); 5] = [
    ("mkdir", "cgroup_mkdir"),
    ("rmdir", "cgroup_rmdir"),
    ("fork", "sched_process_fork"),
    ("exec", "sched_process_exec"),
    ("exit", "sched_process_exit"),
];
/// Attached besides where files or connections are told: it looks at every system call.
const OPENS: (&str, &str) = ("open", "sys_exit");
/// Attached besides where connections are.
const CONNECTS: (&str, &str) = ("connect", "inet_sock_set_state");
/// Attached besides where sessions are recorded: it tells that one may begin soon.
const FORESEES: (&str, &str) = ("attach", "cgroup_attach_task");

/// What the probe is loaded with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Options {
    /// Whether every exec and exit of the machine is told, not only those of sessions.
    pub whole_node: bool,
    /// Whether the environment of each member of a session is told, not only that of the first.
    pub with_environment: bool,
    /// Bytes of the ring; a power of two.
    pub ring_bytes: u32,
    /// Bytes that wait in the ring before this process is woken; 0 for each record.
    pub wake_at: u32,
    /// Records of one container in a second.
    pub rate: u32,
    /// And at once.
    pub burst: u32,
    /// Whether files are told that members of sessions open to write.
    pub files: bool,
    /// Whether it is told whom they connect to.
    pub connections: bool,
    /// Inodes of the machine's own namespaces, as [`crate::scan::machine`] finds them; it only saves time to know them.
    pub machine: [u32; 5],
    /// What is recorded, if anything may be.
    pub recording: Option<Recorded>,
}

/// How sessions are recorded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recorded {
    /// Bytes of each session at most.
    pub session_bytes: u64,
    /// Bytes of the ring of pieces; a power of two.
    pub ring_bytes: u32,
    /// Whether containers that are added to a pod may be.
    pub debug: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            whole_node: false,
            with_environment: false,
            ring_bytes: 4 << 20,
            wake_at: 0,
            rate: 5000,
            burst: 20_000,
            files: false,
            connections: false,
            machine: [0; 5],
            recording: None,
        }
    }
}

/// Why there is no probe.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel says nothing of its own types.
    #[error(
        "the kernel does not describe its types ({0}); it takes one with CONFIG_DEBUG_INFO_BTF, 5.17 or newer"
    )]
    NoTypes(String),
    /// Nobody may read the kernel's memory.
    #[error("the kernel is locked down ({LOCKDOWN} says confidentiality): it lets no probe read its memory")]
    LockedDown,
    /// Something is refused, or is not there.
    #[error(
        "the probe cannot be loaded: {0}; it takes CAP_BPF and CAP_PERFMON, a kernel of 5.17 or newer, and no lockdown"
    )]
    Refused(String),
}

/// How many sessions can be recorded at once.
const RECORDED: u32 = 4096;

/// Says how far the kernel is locked down.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// A probe that is in the kernel and not attached yet: its maps can be filled before the first thing happens.
pub struct Loaded {
    /// What will be attached.
    pub probe: Probe,
    /// Why it is not pinned although that was wanted.
    pub unpinned: Option<String>,
    /// Why it records nothing although that was wanted.
    pub unrecorded: Option<String>,
    /// Why neither files nor connections are told although that was wanted.
    pub unopened: Option<String>,
    /// Instructions that the kernel went through to verify all of it, and the most for one program; of a million that it grants
    /// to each. None where it does not say.
    pub verified: Option<(u64, u64)>,
    object: Ebpf,
    pinning: Option<Pinning>,
    options: Options,
    /// The maps of recordings, if anything is recorded.
    recording: Vec<(String, Map)>,
}

impl Options {
    /// What a probe with these options is called among its pins.
    pub(crate) fn name(&self) -> String {
        let mut hasher = DefaultHasher::new();
        (OBJECT, self).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    pub(super) fn tells_as(&self, options: &Options) -> bool {
        (self.files, self.connections) == (options.files, options.connections)
    }

    /// What of this may be had where the kernel refuses some of it: the most first.
    pub(super) fn variants(&self) -> Vec<Options> {
        let unopened = |options: &Options| Options { files: false, connections: false, ..options.clone() };
        let unrecorded = Options { recording: None, ..self.clone() };
        let mut variants = vec![self.clone(), unopened(self), unrecorded.clone(), unopened(&unrecorded)];
        variants.dedup();
        variants
    }

    /// These and what is attached besides with these options.
    pub(super) fn hooks(&self) -> Vec<(&'static str, &'static str)> {
        let mut hooks = HOOKS.to_vec();
        hooks.extend(self.recording.is_some().then_some(FORESEES));
        hooks.extend((self.files || self.connections).then_some(OPENS));
        hooks.extend(self.connections.then_some(CONNECTS));
        hooks
    }
}

impl Loaded {
    /// Loads it; its maps are pinned if that is wanted and possible.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn load(options: &Options, pins: Option<&Pins>) -> Result<Self, ProbeError> {
        let mut refused: Option<ProbeError> = None;
        // Where something besides is refused, what is done is audited all the same.
        for variant in options.variants() {
            match Loaded::load_as(&variant, pins) {
                Ok(mut loaded) => {
                    let refused = refused.map(|error| error.to_string());
                    loaded.unrecorded = refused.clone().filter(|_| variant.recording != options.recording);
                    loaded.unopened = refused.filter(|_| !variant.tells_as(options));
                    return Ok(loaded);
                }
                Err(error @ ProbeError::NoTypes(_)) => return Err(error),
                Err(_) if is_locked_down() => return Err(ProbeError::LockedDown),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| ProbeError::Refused(String::new())))
    }

    fn load_as(options: &Options, pins: Option<&Pins>) -> Result<Self, ProbeError> {
        let types = Btf::from_sys_fs().map_err(|error| ProbeError::NoTypes(chain(&error)))?;
        let [whole_node, with_environment] = [options.whole_node, options.with_environment].map(u32::from);
        let (wake_at, ring_bytes) = (u64::from(options.wake_at), u64::from(options.ring_bytes));
        let records = u32::from(options.recording.is_some());
        // What is not used takes the least that there can be.
        let recorded = options.recording.clone().unwrap_or(Recorded {
            session_bytes: 0,
            ring_bytes: 4096,
            debug: false,
        });
        let sessions = if records > 0 { RECORDED } else { 1 };
        let mut loader = EbpfLoader::new();
        for table in hooks::TABLES {
            loader.set_max_entries(table, sessions);
        }
        let mut object = loader
            .btf(Some(&types))
            // Storage of tasks is only used by the probe itself.
            .allow_unsupported_maps()
            .set_global("whole_node", &whole_node, true)
            .set_global("with_environment", &with_environment, true)
            .set_global("wake_at", &wake_at, true)
            .set_global("ring_bytes", &ring_bytes, true)
            .set_global("rate", &options.rate, true)
            .set_global("burst", &options.burst, true)
            .set_global("machine", &options.machine, true)
            .set_global("with_recording", &records, true)
            .set_global("with_files", &u32::from(options.files), true)
            .set_global("with_connections", &u32::from(options.connections), true)
            .set_global("session_bytes", &recorded.session_bytes, true)
            .set_global("with_debug", &u32::from(recorded.debug), true)
            .set_global("pieces_wake_at", &u64::from(recorded.ring_bytes / 4), true)
            .set_max_entries("records", options.ring_bytes)
            .set_max_entries("pieces", recorded.ring_bytes)
            .load(OBJECT)
            .map_err(refused)?;
        let mut maps = Vec::new();
        for (name, _) in MAPS {
            let map = object.take_map(name);
            let map = map.ok_or_else(|| ProbeError::Refused(format!("there is no map {name}")))?;
            maps.push((name.to_owned(), map));
        }
        let of_recording = attachment::HOOKS.into_iter().filter(|_| options.recording.is_some());
        let mut verified = Vec::new();
        for (name, at) in options.hooks().into_iter().chain(of_recording) {
            let program = hook(&mut object, name)?;
            program.load(at, &types).map_err(refused)?;
            verified.extend(program.info().ok().and_then(|info| info.verified_instruction_count()));
        }
        let verified: Vec<u64> = verified.into_iter().map(u64::from).collect();
        let mut recording = Vec::new();
        if options.recording.is_some() {
            for (name, _) in hooks::MAPS {
                let map = object.take_map(name);
                let map = map.ok_or_else(|| ProbeError::Refused(format!("there is no map {name}")))?;
                recording.push((name.to_owned(), map));
            }
        }
        let pinned = pins.map(|pins| pin(pins, &options.name(), maps.iter().chain(&recording))).transpose();
        let (pinning, unpinned) = match pinned {
            Ok(pinning) => (pinning, None),
            Err(why) => (None, Some(why)),
        };
        let mut probe = Probe::of(maps, Held::Nothing)?;
        probe.options = options.clone();
        let options = options.clone();
        let verified = verified.iter().max().map(|most| (verified.iter().sum(), *most));
        Ok(Loaded {
            probe,
            unpinned,
            unrecorded: None,
            unopened: None,
            verified,
            object,
            pinning,
            options,
            recording,
        })
    }

    /// Attaches it.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn attach(mut self) -> Result<Probe, ProbeError> {
        let mut links = Vec::new();
        let records = !self.recording.is_empty();
        for (name, _) in self.options.hooks() {
            let program = hook(&mut self.object, name)?;
            self.probe.runs.watch(name, program).map_err(ProbeError::Refused)?;
            let link = program.attach().map_err(refused)?;
            if let Some(pinning) = &self.pinning {
                let link = FdLink::from(program.take_link(link).map_err(refused)?);
                links.push(pinning.link(name, link).map_err(refused)?);
            }
        }
        let Some(pinning) = self.pinning else {
            if records {
                let programs = Programs::Loaded(Box::new(self.object));
                self.probe.record(programs, self.recording)?;
            } else {
                self.probe._held = Held::Loaded(Box::new(self.object));
            }
            return Ok(self.probe);
        };
        let folder = pinning.folder().to_owned();
        let recording = attachment::HOOKS.into_iter().filter(|_| records);
        for (name, _) in self.options.hooks().into_iter().chain(recording) {
            let program = hook(&mut self.object, name)?;
            program.pin(folder.join(format!("program_{name}"))).map_err(refused)?;
        }
        pinning.finish("numbers").map_err(ProbeError::Refused)?;
        // The links hold the programs: what these were made of takes memory, and is not needed any more.
        self.probe._held = Held::Pinned(links);
        if records {
            self.probe.record(Programs::Pinned(folder), self.recording)?;
        }
        Ok(self.probe)
    }
}

/// Where the kernel says it; on some machines nowhere.
fn is_locked_down() -> bool {
    std::fs::read_to_string(LOCKDOWN).is_ok_and(|modes| modes.contains("[confidentiality]"))
}

pub(crate) fn hook<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut BtfTracePoint, ProbeError> {
    let program = object.program_mut(&format!("on_{name}"));
    let program = program.ok_or_else(|| ProbeError::Refused(format!("there is no on_{name}")))?;
    program.try_into().map_err(refused)
}

fn pin<'a>(
    pins: &Pins,
    name: &str,
    maps: impl Iterator<Item = &'a (String, Map)>,
) -> Result<Pinning, String> {
    let pinning = pins.begin(name).map_err(|error| error.to_string())?;
    for (name, map) in maps {
        pinning.map(name, map).map_err(|error| chain(&error))?;
    }
    Ok(pinning)
}

pub(super) fn refused(error: impl std::error::Error) -> ProbeError {
    ProbeError::Refused(short(&chain(&error)))
}

/// What the kernel's verifier says of a program is as long as that is: its end says why it was refused.
fn short(text: &str) -> String {
    const END: usize = 400;
    let Some((what, said)) = text.split_once(" Verifier output:") else { return text.to_owned() };
    let end = said.char_indices().rev().nth(END).map_or(0, |(at, _)| at);
    format!("{what} …{}", said.get(end..).unwrap_or_default().replace('\n', "; "))
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_the_verifier_says_the_end_is_told() {
        let said =
            format!("it failed. Verifier output: {}\nR1 is not a scalar", "0: R1=ctx()\n".repeat(1000));
        let told = short(&said);
        assert!(told.starts_with("it failed. …") && told.ends_with("; R1 is not a scalar"), "{told}");
        assert!(told.chars().count() < 450 && short("it failed") == "it failed");
    }
}
