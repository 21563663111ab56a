//! How far a spool is confirmed, in a file of its own. An old one costs repeats, and so does none.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// In the spool's folder.
pub(super) const NAME: &str = "confirmed.json";

/// How far it is confirmed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Confirmed {
    /// Everything before this place is.
    pub(crate) offset: u64,
    /// And everything up to this version.
    pub(crate) version: Option<u64>,
    /// Of the cluster with this id.
    pub(crate) cluster: String,
}

impl Confirmed {
    pub(super) fn read(folder: &Path) -> Confirmed {
        let text = std::fs::read(folder.join(NAME)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let aside = folder.join("confirmed.new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        std::fs::rename(aside, folder.join(NAME))
    }
}
