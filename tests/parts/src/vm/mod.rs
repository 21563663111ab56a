//! A virtual machine with a kernel of its own: boots in seconds, runs a script as root, and powers off.
//!
//! It has the cgroups of version 2 only, busybox, a console, loopback and the programs it is given; no network and no
//! system services. The processor is emulated, so it runs on every machine, some ten times slower.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use taffrail_parts::{Kernel, Vm};
//!
//! let end = Vm::new(Kernel::V6_12, "uname -r >/told/release").run()?;
//! assert!(end.told("release")?.starts_with("6.12"));
//! # Ok(())
//! # }
//! ```

mod initrd;
mod kernel;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

pub use kernel::Kernel;

use crate::janitor::Place;
use crate::process::Process;
use crate::{packages, tools};

const QEMU: &str = "qemu-system-x86_64";
const NEEDS: [(&str, &str); 1] = [(QEMU, "qemu-system-x86")];

/// For how long a machine may run unless it is told otherwise.
const LIMIT: Duration = Duration::from_secs(400);

/// How large a disk is on which it hands over what it tells.
const TOLD: u64 = 64 << 20;

const LOOK: Duration = Duration::from_millis(50);

/// A virtual machine that is yet to be run.
#[derive(Debug, Clone)]
pub struct Vm {
    kernel: Kernel,
    script: String,
    texts: Vec<(String, String)>,
    programs: Vec<PathBuf>,
    disks: Vec<u64>,
    options: String,
    limit: Duration,
}

/// What is left of a machine that has powered off.
#[derive(Debug)]
pub struct End {
    /// What it printed.
    pub console: String,
    told: BTreeMap<String, Vec<u8>>,
}

impl Vm {
    /// One that runs `script` with busybox's shell, as `sh -eu`. Each file that it leaves in `/told` comes back.
    #[must_use]
    pub fn new(kernel: Kernel, script: &str) -> Self {
        let script = script.to_owned();
        let (texts, programs, disks, options) = (Vec::new(), Vec::new(), Vec::new(), String::new());
        Self { kernel, script, texts, programs, disks, options, limit: LIMIT }
    }

    /// With a text at a path.
    #[must_use]
    pub fn text(mut self, path: &str, text: &str) -> Self {
        self.texts.push((path.to_owned(), text.to_owned()));
        self
    }

    /// With a program of this machine in `/bin`, its shared libraries included.
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        self.programs.push(program.to_owned());
        self
    }

    /// With an empty disk of so many bytes: the first is `/dev/vdb`, the next `/dev/vdc`.
    #[must_use]
    pub fn disk(mut self, bytes: u64) -> Self {
        self.disks.push(bytes);
        self
    }

    /// With a word more on its kernel's command line.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options = format!("{} {option}", self.options);
        self
    }

    /// Ended after so long.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Installs and downloads what it takes.
    pub fn fetch() -> Result<()> {
        packages::ensure(&NEEDS)?;
        packages::ensure_file(Path::new(crate::image::BUSYBOX), "busybox-static")?;
        Kernel::EACH.into_iter().try_for_each(|kernel| kernel.get().map(drop))
    }

    /// Boots it and waits until it has powered off.
    ///
    /// # Errors
    /// When it has not within its limit, when its kernel gives up, or when the script fails; each with the end of its console.
    pub fn run(&self) -> Result<End> {
        Self::fetch()?;
        let place = Place::new("vm")?;
        let told = place.join("told.raw");
        let command = self.command(&place, &told)?;
        let console = place.join("console.log");
        let process = Process::start(QEMU, command, &console)?;
        self.wait(process, &console)?;
        let printed = fs::read(&console).with_context(|| format!("cannot read {}", console.display()))?;
        let told = unpack(&told, &place.join("told")).with_context(|| {
            format!("the machine handed nothing over; its console ends:\n{}", last_words(&console))
        })?;
        let end = End { console: String::from_utf8_lossy(&printed).replace('\r', ""), told };
        let status = end.told(".status")?;
        ensure!(
            status.trim() == "0",
            "the script failed with {}; its console ends:\n{}",
            status.trim(),
            last_words(&console)
        );
        Ok(end)
    }

    fn command(&self, place: &Place, told: &Path) -> Result<Command> {
        let kernel = self.kernel.get()?;
        let initrd = initrd::Initrd::new(place.join("root"), &kernel, &self.script)?;
        self.texts.iter().try_for_each(|(path, text)| initrd.write(path, text))?;
        self.programs.iter().try_for_each(|program| initrd.add_program(program))?;
        let archive = place.join("initrd.cpio");
        initrd.pack(&archive)?;
        let mut command = Command::new(QEMU);
        // Where KVM is offered inside another virtual machine it may hang: the processor is always emulated.
        command.args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "768"]);
        command.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        command.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(archive);
        command.arg("-append").arg(format!("console=ttyS0 quiet loglevel=4 panic=-1{}", self.options));
        self.add_disk(&mut command, told, TOLD)?;
        for (number, bytes) in self.disks.iter().enumerate() {
            self.add_disk(&mut command, &place.join(&format!("disk-{number}.raw")), *bytes)?;
        }
        Ok(command)
    }

    fn add_disk(&self, command: &mut Command, file: &Path, bytes: u64) -> Result<()> {
        File::create(file)
            .and_then(|disk| disk.set_len(bytes))
            .with_context(|| format!("cannot create {}", file.display()))?;
        command.arg("-drive").arg(format!("file={},format=raw,if=virtio", file.display()));
        Ok(())
    }

    fn wait(&self, mut process: Process, console: &Path) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = process.ended() {
                ensure!(
                    status.success(),
                    "{QEMU} ended with {status}; its console ends:\n{}",
                    last_words(console)
                );
                return Ok(());
            }
            if start.elapsed() > self.limit {
                process.kill();
                let (series, limit) = (self.kernel.series(), self.limit);
                bail!(
                    "the machine with Linux {series} did not power off within {limit:?}; its console ends:\n{}",
                    last_words(console)
                );
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl End {
    /// A text that the machine left in `/told`.
    ///
    /// # Errors
    /// When it left none of this name.
    pub fn told(&self, name: &str) -> Result<&str> {
        let names = || self.told.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
        let told =
            self.told.get(name).with_context(|| format!("the machine told no {name}, only {}", names()))?;
        std::str::from_utf8(told).with_context(|| format!("{name} is no text"))
    }
}

/// The end of a console: from where the kernel gave up, if it did, for its traces push out everything before them.
fn last_words(console: &Path) -> String {
    const ENOUGH: usize = 60;
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut words = text.lines().skip_while(|line| !line.contains("Kernel panic")).take(ENOUGH).peekable();
    if words.peek().is_some() {
        return words.collect::<Vec<_>>().join("\n");
    }
    tools::tail(console).to_string()
}

/// The files in an archive that fills the beginning of a disk.
fn unpack(disk: &Path, into: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    tools::create_folder(into)?;
    tools::run(Command::new("tar").arg("-xf").arg(disk).arg("-C").arg(into))?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(into).with_context(|| format!("cannot list {}", into.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            files.insert(name, fs::read(entry.path())?);
        }
    }
    ensure!(!files.is_empty(), "the disk holds no files");
    Ok(files)
}

/// The kernels, and the installed emulator's version.
pub(crate) fn version() -> String {
    let series = Kernel::EACH.map(Kernel::series).join(" and ");
    let printed = tools::run(Command::new(QEMU).arg("--version")).unwrap_or_default();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let qemu = printed.split_whitespace().nth(3).unwrap_or_default();
    format!("Linux {series}, QEMU {qemu}").trim_end().to_owned()
}

/// Whether everything is there.
pub(crate) fn is_ready() -> bool {
    packages::find(QEMU).is_some() && Kernel::EACH.iter().all(|kernel| kernel.entry().is_ready())
}
