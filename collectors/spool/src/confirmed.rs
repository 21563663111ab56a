//! How far a spool is confirmed, in a file of its own. An old one costs repeats, and so does none.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// In the spool's folder.
pub(crate) const NAME: &str = "confirmed.json";

/// How far it is confirmed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confirmed {
    /// Everything before this place is.
    pub offset: u64,
    /// And everything up to this version.
    pub version: Option<u64>,
    /// Whose versions these are ([`Spool::belongs_to`](crate::Spool::belongs_to)); empty when nobody has said so.
    // On the disk it has the name that it had when clusters were all that had a spool.
    #[serde(rename = "cluster")]
    pub owner: String,
}

impl Confirmed {
    pub(crate) fn read(folder: &Path) -> Confirmed {
        let text = std::fs::read(folder.join(NAME)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        let aside = folder.join("confirmed.new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        std::fs::rename(aside, folder.join(NAME))
    }
}
