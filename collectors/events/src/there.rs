//! What the API server has now, to be compared with what is stored.

use std::sync::Arc;

use taffrail_api::{ApiError, Server, pages};

use crate::config::EventsConfig;
use crate::document::Writer;
use crate::event::Event;
use crate::room::left_out;

/// An event that the API server has, in its present version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    /// The id of its document.
    pub id: String,
    /// For people: `default/web-0.17f3`.
    pub name: String,
}

/// Every event that the API server has and that `config` does not leave out; `cluster` is the cluster's id.
///
/// # Errors
/// [`ApiError`].
pub async fn there(server: &Server, config: &EventsConfig, cluster: &str) -> Result<Vec<There>, ApiError> {
    let writer = Writer::new(Arc::default(), cluster);
    let mut there = Vec::new();
    pages(server, "events", "/api/v1/events", |object| {
        // What is no event has an id of its own, made of its content; it is not compared.
        let Ok(event) = Event::parse(object) else { return };
        if left_out(config, &event).is_none() {
            let name = format!("{}/{}", event.meta.namespace, event.meta.name);
            there.push(There { id: writer.id(&event.meta.uid, &event.meta.version), name });
        }
    })
    .await?;
    Ok(there)
}
