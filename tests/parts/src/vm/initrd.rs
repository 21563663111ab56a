//! What a virtual machine has on board: busybox, the first process, modules, and the files of a test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::kernel::Installed;
use crate::{image, packages, tools};

const INIT: &str = include_str!("../../vm/init.sh");

/// A root file system that is being put together.
#[derive(Debug)]
pub(crate) struct Initrd {
    root: PathBuf,
}

impl Initrd {
    /// With what every machine has, in the folder `root`.
    pub(crate) fn new(root: PathBuf, kernel: &Installed, script: &str) -> Result<Self> {
        packages::ensure_file(Path::new(image::BUSYBOX), "busybox-static")?;
        for folder in ["bin", "dev", "etc", "mnt", "proc", "run", "sys", "tmp", "told", "var"] {
            tools::create_folder(&root.join(folder))?;
        }
        let initrd = Self { root };
        initrd.copy(Path::new(image::BUSYBOX), Path::new("/bin/busybox"))?;
        initrd.copy_all(&kernel.modules(), Path::new("/modules"))?;
        initrd.write("/init", INIT)?;
        initrd.write("/script", script)?;
        fs::set_permissions(initrd.inside(Path::new("/init")), fs::Permissions::from_mode(0o755))
            .context("cannot make the first process a program")?;
        Ok(initrd)
    }

    /// A text at a path of the machine.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.inside(Path::new(path));
        tools::create_folder(file.parent().unwrap_or(&self.root))?;
        tools::write(&file, text)
    }

    /// A program, as `/bin/<name>`, with the shared libraries that it names.
    ///
    /// What it has for debuggers stays behind: it would take the machine's memory.
    pub(crate) fn add_program(&self, program: &Path) -> Result<()> {
        packages::ensure(&[("strip", "binutils"), ("ldd", "libc-bin")])?;
        let name = program.file_name().with_context(|| format!("{} is no program", program.display()))?;
        let into = self.inside(&Path::new("/bin").join(name));
        tools::run(Command::new("strip").args(["--strip-debug", "-o"]).arg(into).arg(program))?;
        let libraries = tools::run(Command::new("ldd").arg(program))?;
        let libraries = String::from_utf8_lossy(&libraries).into_owned();
        // `libc.so.6 => /lib/…/libc.so.6 (0x…)`, or the loader's path alone.
        for path in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            self.copy(Path::new(path), Path::new(path))?;
        }
        Ok(())
    }

    /// Packs it.
    pub(crate) fn pack(&self, archive: &Path) -> Result<()> {
        let output =
            fs::File::create(archive).with_context(|| format!("cannot create {}", archive.display()))?;
        let pack = "find . | \"$1\" cpio -o -H newc";
        let mut shell = Command::new("sh");
        shell.args(["-c", pack, "sh", image::BUSYBOX]).current_dir(&self.root).stdout(output);
        tools::run(&mut shell).map(drop)
    }

    fn inside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let to = self.inside(to);
        tools::create_folder(to.parent().unwrap_or(&self.root))?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    }

    fn copy_all(&self, folder: &Path, to: &Path) -> Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            self.copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    }
}
