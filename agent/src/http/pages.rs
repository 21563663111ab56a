//! Scrapes: what a request wishes, and answers that several requests share.
//!
//! Figures of a whole machine cost something to collect. So who asks for the same within a second of another gets the same answer,
//! and who asks meanwhile waits for it: a thousand scrapers at once cost as much as one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use taffrail_prometheus::{Format, Scraper};
use taffrail_record::{Ask, Family};
use tokio::sync::Mutex;

use super::Shared;
use super::answers::{self, Choice};

/// For so long an answer is given again.
const FRESH: Duration = Duration::from_secs(1);

/// Metrics under a path of their own.
pub struct Page {
    /// The path.
    pub path: &'static str,
    /// What is there, for people.
    pub what: &'static str,
    /// Who answers.
    pub asks: Vec<Arc<dyn Ask>>,
    /// The names under which a scrape says how it went.
    pub said: &'static [Family; 2],
}

/// A page that is served.
pub(super) struct Served {
    pub(super) path: &'static str,
    pub(super) what: &'static str,
    pub(super) scraper: Scraper,
    last: Mutex<Option<(Instant, Wish, Answer)>>,
}

impl Served {
    pub(super) fn new(page: &Page, patience: Duration) -> Served {
        let scraper = Scraper::new(page.asks.clone(), patience).saying(page.said);
        Served { path: page.path, what: page.what, scraper, last: Mutex::default() }
    }
}

/// What a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    format: Format,
    gzip: bool,
    choice: Choice,
}

/// What it gets.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    format: Format,
    encoding: Option<HeaderValue>,
    body: Vec<Bytes>,
}

impl Wish {
    /// From a request that `scraper` is to answer.
    pub(super) fn of(
        query: Option<&str>,
        headers: &HeaderMap,
        scraper: &Scraper,
    ) -> Result<Wish, (StatusCode, String)> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let choice = Choice::of(query.unwrap_or_default(), scraper.names());
        Ok(Wish {
            format: Format::negotiate(text(header::ACCEPT)),
            gzip: answers::takes_gzip(text(header::ACCEPT_ENCODING)),
            choice: choice.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?,
        })
    }

    /// Blocks while collectors are asked.
    pub(super) fn answer(&self, scraper: &Scraper) -> Answer {
        let text = scraper.scrape(|name| self.choice.wants(name));
        let (body, encoding) = answers::body(text, self.format, self.gzip);
        Answer { format: self.format, encoding, body }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let length: usize = self.body.iter().map(Bytes::len).sum();
        let pieces = stream::iter(self.body.into_iter().map(Ok::<Bytes, Infallible>));
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(self.format.content_type())),
            (header::CONTENT_LENGTH, HeaderValue::from(length)),
        ];
        let mut response = (headers, Body::from_stream(pieces)).into_response();
        if let Some(encoding) = self.encoding {
            response.headers_mut().insert(header::CONTENT_ENCODING, encoding);
        }
        response
    }
}

/// The answer of a page; nothing when the scrape broke off.
pub(super) async fn answer(shared: Arc<Shared>, number: usize, wish: Wish) -> Option<Answer> {
    let mut last = shared.pages[number].last.lock().await;
    if let Some((at, same, answer)) = &*last
        && at.elapsed() < FRESH
        && *same == wish
    {
        return Some(answer.clone());
    }
    let asked = Instant::now();
    let (here, wished) = (Arc::clone(&shared), wish.clone());
    let answer =
        tokio::task::spawn_blocking(move || wished.answer(&here.pages[number].scraper)).await.ok()?;
    *last = Some((asked, wish, answer.clone()));
    drop(last);
    tokio::spawn(async move {
        tokio::time::sleep(FRESH).await;
        // Megabytes, which nobody will ask for again.
        let mut last = shared.pages[number].last.lock().await;
        if last.as_ref().is_some_and(|(at, ..)| *at == asked) {
            *last = None;
        }
    });
    Some(answer)
}
