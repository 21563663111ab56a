//! What there is now, asked for once.

use std::fmt::Write as _;

use crate::follow::encoded;
use crate::objects::{PageMeta, page};
use crate::server::named;
use crate::{ApiError, Change, ErrorKind, Listener, Server};

/// Objects in a page at first; fewer when they are very large.
const PAGE: u32 = 500;

/// Calls `each` with everything that is at `path`, page by page; returns the list's version.
///
/// # Errors
/// [`ApiError`], whatever it is; some may have been told by then.
pub async fn pages(
    server: &Server,
    resource: &'static str,
    path: &str,
    mut each: impl FnMut(&str),
) -> Result<String, ApiError> {
    let joint = if path.contains('?') { '&' } else { '?' };
    let mut more: Option<String> = None;
    let mut objects = PAGE;
    loop {
        let mut next = format!("{path}{joint}limit={objects}");
        if let Some(more) = &more {
            let _ = write!(next, "&continue={}", encoded(more));
        }
        let body = match server.get_page(resource, &next, objects).await {
            Err(ApiError { kind: ErrorKind::TooLarge(_), .. }) if objects > 1 => {
                objects = (objects / 4).max(1);
                continue;
            }
            body => body?,
        };
        let metadata = tell(path, &body, &mut each)?;
        match metadata.more.filter(|more| !more.is_empty()) {
            Some(next) => more = Some(next),
            None => return Ok(metadata.resource_version),
        }
    }
}

/// Tells `listener` of everything that is at `path`, whole: kubelet has no pages, no version and no watch.
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
    let body = server.get(resource, path).await?;
    let metadata = tell(path, &body, |object| listener.object(Change::Listed, object, ""))?;
    listener.listed(&metadata.resource_version);
    Ok(())
}

/// Calls `each` with every object of a page; what is known of the list.
fn tell(path: &str, body: &[u8], each: impl FnMut(&str)) -> Result<PageMeta, ApiError> {
    let body = String::from_utf8_lossy(body);
    let page =
        page(body.as_bytes()).map_err(|why| ApiError::new(named("GET", path), ErrorKind::Garbled(why)))?;
    page.items.iter().flatten().map(|object| object.get()).for_each(each);
    Ok(page.metadata)
}
