//! What there is now, asked for once.

use crate::objects::page;
use crate::server::named;
use crate::{ApiError, Change, ErrorKind, Listener, Server};

/// Tells `listener` of everything that is at `path`, in one answer. For who has no watch: kubelet, whose lists have no
/// version.
///
/// # Errors
/// [`ApiError`], whatever it is; the listener was told of nothing then.
pub async fn list(
    server: &Server,
    resource: &'static str,
    path: &str,
    listener: &mut dyn Listener,
) -> Result<(), ApiError> {
    let body = server.get(resource, path).await?;
    let page = page(&body).map_err(|why| ApiError::new(named("GET", path), ErrorKind::Garbled(why)))?;
    listener.list_begins();
    for object in page.items.iter().flatten() {
        listener.object(Change::Listed, object.get(), "");
    }
    listener.listed(&page.metadata.resource_version);
    Ok(())
}
