//! What there is now, asked for once.

use std::fmt::Write as _;

use crate::follow::encoded;
use crate::objects::page;
use crate::server::named;
use crate::{ApiError, Change, ErrorKind, Listener, Server};

/// Calls `each` with everything that is at `path`, whose query may limit the size of a page; returns the list's version, which
/// kubelet does not have.
///
/// # Errors
/// [`ApiError`], whatever it is; some may have been told by then.
pub async fn pages(
    server: &Server,
    resource: &'static str,
    path: &str,
    mut each: impl FnMut(&str),
) -> Result<String, ApiError> {
    let mut more: Option<String> = None;
    loop {
        let mut next = path.to_owned();
        if let Some(more) = &more {
            let joint = if path.contains('?') { '&' } else { '?' };
            let _ = write!(next, "{joint}continue={}", encoded(more));
        }
        let body = server.get(resource, &next).await?;
        let body = String::from_utf8_lossy(&body);
        let garbled = |why| ApiError::new(named("GET", path), ErrorKind::Garbled(why));
        let page = page(body.as_bytes()).map_err(garbled)?;
        page.items.iter().flatten().for_each(|object| each(object.get()));
        match page.metadata.more.filter(|more| !more.is_empty()) {
            Some(next) => more = Some(next),
            None => return Ok(page.metadata.resource_version),
        }
    }
}

/// Tells `listener` of everything that is at `path`, as [`pages`] has it. For who has no watch.
///
/// # Errors
/// [`ApiError`], whatever it is; then the listener hears no end of the list.
pub async fn list(
    server: &Server,
    resource: &'static str,
    path: &str,
    listener: &mut dyn Listener,
) -> Result<(), ApiError> {
    listener.list_begins();
    let version = pages(server, resource, path, |object| listener.object(Change::Listed, object, "")).await?;
    listener.listed(&version);
    Ok(())
}
