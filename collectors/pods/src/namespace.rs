//! A namespace as far as anybody here uses it.

use serde::Deserialize;

use crate::pod::PodError;
use crate::text::{Text, TextMap, or_none};

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// Name.
    #[serde(deserialize_with = "or_none")]
    pub name: Text,
    /// Its own for ever.
    #[serde(deserialize_with = "or_none")]
    pub uid: Text,
    /// Labels.
    #[serde(deserialize_with = "or_none")]
    pub labels: TextMap,
}

impl Namespace {
    /// Reads the JSON of an object of kind `Namespace`.
    ///
    /// # Errors
    /// [`PodError`] when it is none with a name.
    pub fn parse(json: &[u8]) -> Result<Namespace, PodError> {
        #[derive(Deserialize)]
        struct Object {
            #[serde(default, deserialize_with = "or_none")]
            metadata: Namespace,
        }
        let text = String::from_utf8_lossy(json);
        let object: Object = serde_json::from_str(&text).map_err(|cause| PodError::Unreadable { cause })?;
        if object.metadata.name.is_empty() {
            let (namespace, name) = (Text::default(), Text::default());
            return Err(PodError::Nameless { what: "namespace", missing: "name", namespace, name });
        }
        Ok(object.metadata)
    }
}
