//! A timeline out of what the API server still has, for agents that do not watch.

use serde::Deserialize;
use serde_json::value::RawValue;
use taffrail_api::{ApiError, ErrorKind, Server};

use super::{Entry, Selector, merged};
use crate::event::Event;
use crate::owner::behind;

/// A timeline is for people: beyond so many events it keeps the newest.
const MOST: usize = 10_000;

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: Meta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Meta {
    #[serde(rename = "continue")]
    more: Option<String>,
}

/// Asks the server for every event of a timeline. The server sends all events of the namespace for a workload, and all there
/// are for a node: it cannot choose among them.
///
/// # Errors
/// [`ApiError`].
pub async fn from_server(server: &Server, selector: &Selector) -> Result<Vec<Entry>, ApiError> {
    let (mut entries, mut more) = (Vec::new(), None::<String>);
    loop {
        let path = path(selector, more.as_deref());
        let body = server.get("events", &path).await?;
        let page: Page<'_> = serde_json::from_slice(&body).map_err(|error| ApiError {
            what: format!("GET {path}"),
            kind: ErrorKind::Garbled(error.to_string()),
            retry_after: None,
        })?;
        let read = page.items.iter().flatten().filter_map(|item| Event::parse(item.get()).ok());
        entries.extend(read.map(|event| entry(&event)).filter(|entry| selector.takes(entry)));
        if entries.len() > 2 * MOST {
            entries = newest(entries);
        }
        match page.metadata.more.filter(|more| !more.is_empty()) {
            Some(next) => more = Some(next),
            None => return Ok(newest(entries)),
        }
    }
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

fn path(selector: &Selector, more: Option<&str>) -> String {
    let Selector { kind, namespace, name } = selector;
    let mut path = match kind.as_str() {
        "node" => "/api/v1/events?limit=200".to_owned(),
        "pod" => format!(
            "/api/v1/namespaces/{namespace}/events?limit=200&fieldSelector=involvedObject.kind%3DPod%2CinvolvedObject.name%3D{name}"
        ),
        _ => format!("/api/v1/namespaces/{namespace}/events?limit=200"),
    };
    if let Some(more) = more {
        path.push_str("&continue=");
        for byte in more.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    path.push(char::from(byte));
                }
                other => path.push_str(&format!("%{other:02X}")),
            }
        }
    }
    path
}
