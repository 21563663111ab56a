//! Where the probe's maps and links are kept in the kernel while nobody runs: files of bpffs, in a folder of this agent.
//!
//! Guarantee: a folder is used again only when it was made whole, by a probe and options that are the same to the byte. What
//! another one left is taken away, so that no two of this agent's probes run for long.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData};
use aya::programs::links::{FdLink, PinnedLink};

/// The last thing that is pinned.
const LAST: &str = "whole";

/// A folder of bpffs for one agent, in which each kind of probe has a folder of its own.
#[derive(Debug, Clone)]
pub struct Pins {
    folder: PathBuf,
}

/// How to make a map of what is pinned.
pub(crate) type Kind = fn(MapData) -> Map;

impl Pins {
    /// In this folder, which need not be there.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Pins {
        Pins { folder: folder.into() }
    }

    /// Where things of this name are pinned.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What of this name is pinned whole.
    pub(crate) fn open(&self, name: &str, maps: &[(&str, Kind)], links: &[&str]) -> Option<Pinned> {
        let folder = self.folder.join(name);
        MapData::from_pin(folder.join(LAST)).ok()?;
        let maps = maps.iter().map(|(map, kind)| {
            let data = MapData::from_pin(folder.join(map)).ok()?;
            Some(((*map).to_owned(), kind(data)))
        });
        let links = links.iter().map(|link| PinnedLink::from_pin(folder.join(format!("link_{link}"))).ok());
        Some(Pinned { maps: maps.collect::<Option<_>>()?, _links: links.collect::<Option<_>>()? })
    }

    /// Makes the folder of this name, empty.
    pub(crate) fn begin(&self, name: &str) -> io::Result<Pinning> {
        let folder = self.folder.join(name);
        clear(&folder)?;
        fs::create_dir_all(&folder)?;
        Ok(Pinning { folder })
    }

    /// Takes away everything but what has this name.
    ///
    /// # Errors
    /// When the kernel does not let go of something.
    pub fn remove_others(&self, name: &str) -> io::Result<()> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name() != name {
                clear(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Takes everything away: probes of this agent end, unless it runs.
    ///
    /// # Errors
    /// When the kernel does not let go of something.
    pub fn remove(&self) -> io::Result<()> {
        self.remove_others("")?;
        match fs::remove_dir(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// What was pinned. Its links stay attached for as long as it, or their files, are there.
pub(crate) struct Pinned {
    pub(crate) maps: Vec<(String, Map)>,
    _links: Vec<PinnedLink>,
}

/// A folder that is being filled.
pub(crate) struct Pinning {
    folder: PathBuf,
}

impl Pinning {
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn map(&self, name: &str, map: &Map) -> Result<(), aya::pin::PinError> {
        map.pin(self.folder.join(name))
    }

    pub(crate) fn link(&self, name: &str, link: FdLink) -> Result<PinnedLink, aya::pin::PinError> {
        link.pin(self.folder.join(format!("link_{name}")))
    }

    /// Marks it as whole, by one of its maps.
    pub(crate) fn finish(self, map: &str) -> Result<(), String> {
        let data = MapData::from_pin(self.folder.join(map)).map_err(|error| error.to_string())?;
        data.pin(self.folder.join(LAST)).map_err(|error| error.to_string())
    }
}

fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
