//! What containers have written to their own layers, as the runtime knows it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::messages::FilesystemUsage;
use crate::runtime::Runtime;
use crate::{CriConfig, Enabled};

/// A container's writable layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Bytes.
    pub bytes: u64,
    /// Inodes, if it says.
    pub inodes: Option<u64>,
    /// A folder on the file system that it lies on, as the host calls it.
    pub folder: PathBuf,
}

/// Asks for the layers of containers, by id, on a tokio runtime with I/O and time enabled. One that the runtime does not
/// know, or does not tell of, is missing; without a runtime all are.
pub async fn layers(config: &CriConfig, ids: &[String]) -> BTreeMap<String, Layer> {
    let mut found = BTreeMap::new();
    if config.enabled == Enabled::Never {
        return found;
    }
    let Ok(runtime) = Runtime::find(config).await else { return found };
    for id in ids {
        match runtime.writable_layer(id).await {
            Ok(usage) => found.extend(usage.and_then(layer).map(|layer| (id.clone(), layer))),
            // It has gone away; the others have not.
            Err(error) if error.kind() == "refused" => {}
            Err(error) => {
                tracing::debug!(%error, "the runtime does not say what containers have written");
                break;
            }
        }
    }
    found
}

fn layer(usage: FilesystemUsage) -> Option<Layer> {
    Some(Layer {
        bytes: usage.used_bytes?.value,
        inodes: usage.inodes_used.map(|inodes| inodes.value),
        folder: usage.id?.mountpoint.into(),
    })
}

#[cfg(test)]
mod tests {
    use crate::messages::{FilesystemId, Number};

    use super::*;

    #[test]
    fn what_the_runtime_does_not_say_is_missing() {
        let value = |value| Some(Number { value });
        let id = Some(FilesystemId { mountpoint: "/layers".to_owned() });
        let usage = FilesystemUsage { id, used_bytes: value(7), inodes_used: value(2) };
        let inodes = |usage: &FilesystemUsage| layer(usage.clone()).map(|layer| layer.inodes);
        assert_eq!(inodes(&usage), Some(Some(2)));
        assert_eq!(inodes(&FilesystemUsage { inodes_used: None, ..usage.clone() }), Some(None));
        assert_eq!(inodes(&FilesystemUsage { used_bytes: None, ..usage }), None);
    }
}
