//! A timeline out of what the API server still has, for agents that do not watch.

use serde::Deserialize;
use taffrail_api::{ApiError, Server, pages};

use super::{Entry, Selector, merged};
use crate::event::Event;
use crate::owner::behind;

/// A timeline is for people: beyond so many events it keeps the newest.
const MOST: usize = 10_000;

/// Completes a node's selector with the pods that the node has now: what the scheduler and controllers say of them names no
/// node. Others stay as they are.
///
/// # Errors
/// [`ApiError`].
pub async fn with_pods(server: &Server, mut selector: Selector) -> Result<Selector, ApiError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Pod {
        metadata: Named,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Named {
        namespace: String,
        name: String,
    }
    if selector.kind == "node" {
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", selector.name);
        let each = |pod: &str| {
            if let Ok(Pod { metadata: Named { namespace, name } }) = serde_json::from_str(pod) {
                selector.pods.insert((namespace, name));
            }
        };
        pages(server, "pods", &path, each).await?;
    }
    Ok(selector)
}

/// Asks the server for every event of a timeline. The server sends all events of the namespace for a workload, and all there
/// are for a node: it cannot choose among them.
///
/// # Errors
/// [`ApiError`].
pub async fn from_server(server: &Server, selector: &Selector) -> Result<Vec<Entry>, ApiError> {
    let mut entries = Vec::new();
    let each = |object: &str| {
        let Ok(event) = Event::parse(object) else { return };
        entries.extend(Some(entry(&event)).filter(|entry| selector.takes(entry)));
        if entries.len() > 2 * MOST {
            entries = newest(std::mem::take(&mut entries));
        }
    };
    pages(server, "events", &path(selector), each).await?;
    Ok(newest(entries))
}

fn entry(event: &Event) -> Entry {
    let owner = behind(&event.object.kind, &event.object.name, event.time());
    Entry::new(event, owner.as_slice())
}

fn newest(entries: Vec<Entry>) -> Vec<Entry> {
    let mut entries = merged(entries);
    let older = entries.len().saturating_sub(MOST);
    entries.drain(..older);
    entries
}

fn path(selector: &Selector) -> String {
    let Selector { kind, namespace, name, .. } = selector;
    match kind.as_str() {
        "node" => "/api/v1/events".to_owned(),
        "pod" => format!(
            "/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.kind%3DPod%2CinvolvedObject.name%3D{name}"
        ),
        _ => format!("/api/v1/namespaces/{namespace}/events"),
    }
}
