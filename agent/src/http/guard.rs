//! Who may ask, and what goes on every answer, as the web configuration says.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::Shared;
use crate::web::Verdict;

/// What is asked of a client that has not said who it is.
const CHALLENGE: &str = "Basic realm=\"taffrail\", charset=\"UTF-8\"";

/// Lets a request through or answers in its place. The configuration is that of the moment, also on connections that
/// are older.
pub(super) async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let Some(web) = &shared.surface.web else { return next.run(request).await };
    let loaded = web.current();
    let verdict = web.judge(&loaded, request.headers().get(header::AUTHORIZATION)).await;
    let mut response = match verdict {
        Verdict::Right => next.run(request).await,
        Verdict::Wrong => {
            let challenge = [(header::WWW_AUTHENTICATE, CHALLENGE)];
            (StatusCode::UNAUTHORIZED, challenge, "user and password are needed\n").into_response()
        }
        Verdict::Busy => {
            let later = [(header::RETRY_AFTER, "2")];
            (StatusCode::TOO_MANY_REQUESTS, later, "too many passwords are being checked\n").into_response()
        }
    };
    for (name, value) in &loaded.headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}
