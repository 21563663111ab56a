//! What the server sends: pages of a list, frames of a watch.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::Status;

/// What has happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is there, says a list.
    Listed,
    /// It is new, or we may see it only now.
    Added,
    /// It has changed.
    Modified,
    /// It is gone; the object is its last state.
    Deleted,
}

/// A page of a list.
#[derive(Deserialize)]
pub(crate) struct Page<'a> {
    #[serde(default)]
    pub(crate) metadata: PageMeta,
    #[serde(borrow, default)]
    pub(crate) items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PageMeta {
    pub(crate) resource_version: String,
    #[serde(rename = "continue")]
    pub(crate) more: Option<String>,
}

/// The part of an object that following needs.
#[derive(Deserialize, Default)]
pub(crate) struct Object {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ObjectMeta {
    pub(crate) resource_version: String,
    pub(crate) annotations: Option<Annotations>,
}

#[derive(Deserialize, Default)]
pub(crate) struct Annotations {
    /// On the bookmark that ends the objects there were.
    #[serde(rename = "k8s.io/initial-events-end", default)]
    pub(crate) initial_end: Option<String>,
}

/// One line of a watch.
#[derive(Deserialize)]
struct RawFrame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What a line of a watch says.
pub(crate) enum Frame<'a> {
    /// An object has changed.
    Change(Change, &'a RawValue, String),
    /// Everything up to this version has been told; and whether it ends the objects there were.
    Bookmark { version: String, initial_end: bool },
    /// The watch ends for this reason.
    Error(Status),
}

pub(crate) fn frame(line: &[u8]) -> Result<Frame<'_>, String> {
    let raw: RawFrame = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let change = match &*raw.kind {
        "ADDED" => Change::Added,
        "MODIFIED" => Change::Modified,
        "DELETED" => Change::Deleted,
        "BOOKMARK" => {
            let meta = meta(raw.object)?;
            let initial_end = meta.annotations.is_some_and(|a| a.initial_end.as_deref() == Some("true"));
            return Ok(Frame::Bookmark { version: meta.resource_version, initial_end });
        }
        "ERROR" => return Ok(Frame::Error(serde_json::from_str(raw.object.get()).unwrap_or_default())),
        other => return Err(format!("a change of unknown type {other:?}")),
    };
    let version = meta(raw.object)?.resource_version;
    Ok(Frame::Change(change, raw.object, version))
}

/// What every object has.
pub(crate) fn meta(object: &RawValue) -> Result<ObjectMeta, String> {
    let object: Object = serde_json::from_str(object.get()).map_err(|error| error.to_string())?;
    if object.metadata.resource_version.is_empty() {
        return Err("an object without a resourceVersion".to_owned());
    }
    Ok(object.metadata)
}

pub(crate) fn page(body: &[u8]) -> Result<Page<'_>, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}
