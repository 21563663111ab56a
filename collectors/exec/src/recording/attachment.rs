//! The programs that look at every system call: attached and taken away, by whoever finds that they are needed or are not.
//!
//! Guarantee: they are attached both or not at all. Where they are pinned, whoever comes next finds them attached if they were.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::links::FdLink;

use crate::bpf;
use crate::probe::{chain, hook};
use crate::watch::since_start;

/// Programs, and where in the kernel each is attached. One after the other: the kernel attaches no two at once.
pub(crate) const HOOKS: [(&str, &str); 2] = [("leave", "sys_exit"), ("enter", "sys_enter")];

/// What the programs are held by.
pub(crate) enum Programs {
    Loaded(Box<Ebpf>),
    /// In this folder of bpffs.
    Pinned(PathBuf),
}

enum Link {
    Held(#[expect(dead_code, reason = "held")] FdLink),
    /// Its file, which keeps it there.
    Pinned(PathBuf),
}

/// What was attached, before it is kept.
enum Fresh {
    Loaded(FdLink),
    Pinned(OwnedFd),
}

/// What is attached, and for how long that is needed.
pub(crate) struct Attachment {
    programs: Programs,
    links: Vec<Link>,
    /// In the kernel: since when.
    attached: Array<MapData, u64>,
    /// Until when they are needed, as far as is known.
    needed: Instant,
}

impl Attachment {
    /// They may be attached already, where they are pinned; they are needed for so long at least.
    pub(crate) fn new(
        programs: Programs,
        attached: Array<MapData, u64>,
        needed: Duration,
    ) -> Result<Attachment, String> {
        let links = found(&programs);
        let mut attachment = Attachment { programs, links, attached, needed: Instant::now() + needed };
        if attachment.links.is_empty() {
            attachment.detach();
        }
        Ok(attachment)
    }

    /// They are needed for so long from now on.
    ///
    /// # Errors
    /// In words, when the kernel does not attach them.
    pub(crate) fn need(&mut self, long: Duration) -> Result<(), String> {
        self.needed = self.needed.max(Instant::now() + long);
        if self.is_attached() {
            return Ok(());
        }
        let links = HOOKS.map(|(name, _)| self.programs.attach(name));
        // It takes a while on some kernels: what is done meanwhile is not recorded.
        let since = since_start();
        for ((name, _), link) in HOOKS.into_iter().zip(links) {
            match link.and_then(|link| self.programs.keep(name, link)) {
                Ok(link) => self.links.push(link),
                Err(why) => {
                    self.detach();
                    return Err(why);
                }
            }
        }
        self.attached.set(0, since, 0).map_err(|error| chain(&error))
    }

    /// Takes them away from where they are, if they are not needed any more. Whether they are away.
    pub(crate) fn leave(&mut self) -> bool {
        if self.is_attached() && Instant::now() > self.needed {
            self.detach();
        }
        !self.is_attached()
    }

    /// Takes them away from where they are.
    pub(crate) fn detach(&mut self) {
        for link in self.links.drain(..) {
            if let Link::Pinned(path) = link {
                let _ = std::fs::remove_file(path);
            }
        }
        let _ = self.attached.set(0, 0, 0);
    }

    pub(crate) fn is_attached(&self) -> bool {
        !self.links.is_empty()
    }

    /// Since when, nanoseconds of `CLOCK_BOOTTIME`.
    pub(crate) fn since(&self) -> Option<u64> {
        self.attached.get(&0, 0).ok().filter(|since| *since > 0)
    }
}

impl Programs {
    fn attach(&mut self, name: &str) -> Result<Fresh, String> {
        match self {
            Programs::Loaded(object) => {
                let program = hook(object, name).map_err(|error| error.to_string())?;
                let link = program.attach().map_err(|error| chain(&error))?;
                let link = program.take_link(link).map_err(|error| chain(&error))?;
                Ok(Fresh::Loaded(FdLink::from(link)))
            }
            Programs::Pinned(folder) => {
                let program = bpf::get(&folder.join(format!("program_{name}")));
                let link = program.and_then(|program| bpf::attach(program.as_fd()));
                Ok(Fresh::Pinned(link.map_err(|error| format!("{name} cannot be attached: {error}"))?))
            }
        }
    }

    fn keep(&self, name: &str, link: Fresh) -> Result<Link, String> {
        match (self, link) {
            (_, Fresh::Loaded(link)) => Ok(Link::Held(link)),
            (Programs::Pinned(folder), Fresh::Pinned(link)) => {
                let path = folder.join(format!("link_{name}"));
                bpf::pin(link.as_fd(), &path)
                    .map_err(|error| format!("{} cannot be pinned: {error}", path.display()))?;
                Ok(Link::Pinned(path))
            }
            (Programs::Loaded(_), Fresh::Pinned(_)) => Err(format!("{name} is not pinned")),
        }
    }
}

/// What an earlier life has left attached: all, or nothing.
fn found(programs: &Programs) -> Vec<Link> {
    let Programs::Pinned(folder) = programs else { return Vec::new() };
    let paths = HOOKS.map(|(name, _)| folder.join(format!("link_{name}")));
    if paths.iter().all(|path| bpf::get(path).is_ok()) {
        return paths.into_iter().map(Link::Pinned).collect();
    }
    paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
    Vec::new()
}
