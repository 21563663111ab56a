//! Kernels: Debian's packages for the cloud, unpacked into the cache and not installed.
//!
//! Debian keeps only the newest of a series for long, so an entry is of a series and holds what was the newest when it was
//! made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cache::Entry;
use crate::{packages, tools};

/// Modules that a machine gets where its kernel has not built them in, each behind those that it needs.
const MODULES: &str =
    "virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk veth";

/// A series of kernels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kernel {
    /// Debian 12's own.
    V6_1,
    /// The newest long-term one for Debian 12.
    V6_12,
}

impl Kernel {
    /// All of them, the oldest first.
    pub const EACH: [Self; 2] = [Self::V6_1, Self::V6_12];

    /// Such as `6.1`.
    #[must_use]
    pub fn series(self) -> &'static str {
        match self {
            Kernel::V6_1 => "6.1",
            Kernel::V6_12 => "6.12",
        }
    }

    /// The series' place in the cache.
    pub(crate) const fn entry(self) -> Entry<'static> {
        match self {
            Kernel::V6_1 => Entry { part: "kernel", pins: &["6.1", MODULES] },
            Kernel::V6_12 => Entry { part: "kernel", pins: &["6.12", MODULES] },
        }
    }

    /// Downloads it unless the cache has it.
    pub(crate) fn get(self) -> Result<Installed> {
        ensure!(cfg!(target_arch = "x86_64"), "virtual machines are made for x86-64 only");
        packages::ensure(&[("dpkg-deb", "dpkg"), ("xz", "xz-utils")])?;
        Ok(Installed { folder: self.entry().get(|folder| fetch(self.series(), folder))? })
    }
}

/// A kernel in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    folder: PathBuf,
}

impl Installed {
    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// A folder with modules, and their names in the order of loading in the file `order`.
    pub(crate) fn modules(&self) -> PathBuf {
        self.folder.join("modules")
    }
}

fn fetch(series: &str, folder: &Path) -> Result<()> {
    let unpacked = folder.join("unpacked");
    tools::create_folder(&unpacked)?;
    let archive = download(series, folder)?;
    tools::run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&unpacked))?;
    let image = find(&unpacked.join("boot"), &|name| name.starts_with("vmlinuz-"));
    let image = image.with_context(|| format!("no kernel in {}", archive.display()))?;
    fs::rename(image, folder.join("vmlinuz")).context("cannot rename the kernel")?;
    keep_modules(&unpacked, &folder.join("modules"))?;
    fs::remove_dir_all(&unpacked).context("cannot remove what is not needed of the package")?;
    fs::remove_file(&archive).context("cannot remove the package")
}

/// The lists of a fresh machine are empty or old: they are fetched only when the package is not to be had.
fn download(series: &str, folder: &Path) -> Result<PathBuf> {
    let attempt = || -> Result<PathBuf> {
        let package = newest(series)?;
        tools::run(apt("apt-get").arg("download").arg(&package).current_dir(folder))?;
        find(folder, &|name| name.ends_with(".deb")).with_context(|| format!("{package} did not arrive"))
    };
    attempt().or_else(|_| {
        tools::run(apt("apt-get").arg("update"))?;
        attempt()
    })
}

fn apt(program: &str) -> Command {
    let mut apt = Command::new(program);
    // Its user for downloads may not write where this one does.
    apt.args(["-q", "-o", "APT::Sandbox::User=root"]);
    apt
}

/// The newest package of a series that apt knows.
fn newest(series: &str) -> Result<String> {
    let names = tools::run(apt("apt-cache").arg("pkgnames").arg(format!("linux-image-{series}.")))?;
    let names = String::from_utf8_lossy(&names).into_owned();
    match names
        .lines()
        .filter(|name| name.ends_with("-cloud-amd64-unsigned"))
        .max_by_key(|name| numbers(name))
    {
        Some(name) => Ok(name.to_owned()),
        None => bail!(
            "apt has no package linux-image-{series}.*-cloud-amd64-unsigned: it is of Debian 12 with its security updates"
        ),
    }
}

/// The numbers in a name, by which releases are ordered.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

fn keep_modules(unpacked: &Path, into: &Path) -> Result<()> {
    tools::create_folder(into)?;
    let mut order = String::new();
    for module in MODULES.split(' ') {
        let file =
            find(unpacked, &|name| name.strip_prefix(module).is_some_and(|end| end.starts_with(".ko")));
        let Some(file) = file else { continue };
        let content = match file.extension().and_then(|ending| ending.to_str()) {
            Some("ko") => fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?,
            Some("xz") => tools::run(Command::new("xz").arg("-dc").arg(&file))?,
            _ => bail!("{} is compressed in a way not known here", file.display()),
        };
        tools::write(&into.join(format!("{module}.ko")), content)?;
        order.push_str(module);
        order.push('\n');
    }
    tools::write(&into.join("order"), order)
}

/// The first file below a folder whose name is wanted.
fn find(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut below = Vec::new();
    for entry in fs::read_dir(folder).ok()?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below.push(entry.path());
        } else if entry.file_name().to_str().is_some_and(wanted) {
            return Some(entry.path());
        }
    }
    below.iter().find_map(|folder| find(folder, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        let mut names =
            ["linux-image-6.1.0-56-cloud", "linux-image-6.1.0-9-cloud", "linux-image-6.1.0-101-cloud"];
        names.sort_by_key(|name| numbers(name));
        assert_eq!(names.map(|name| numbers(name)[3]), [9, 56, 101]);
    }

    #[test]
    fn every_series_has_a_place_of_its_own() -> Result<()> {
        let places: Result<Vec<PathBuf>> = Kernel::EACH.iter().map(|kernel| kernel.entry().path()).collect();
        let mut places = places?;
        places.dedup();
        assert_eq!(places.len(), Kernel::EACH.len());
        Ok(())
    }
}
