//! What an answer to `_bulk` means for each document.
//!
//! Guarantee: a document counts as stored only by an item of its own, in its place and with its id, which says so.

use serde::Deserialize;

use crate::client::Answer;
use crate::reason::Reason;

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Stored now.
    Stored,
    /// It was there already.
    Duplicate,
    /// To be sent again.
    Retry(Reason, String),
    /// Refused for good.
    Dead { status: u16, kind: String, reason: String },
}

/// What an answer means for the whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whole {
    /// A verdict for each document, in order.
    Each(Vec<Verdict>),
    /// Nothing was taken; all are sent again. Some say by whom: the node alone, or the cluster behind every node.
    Again { reason: Reason, text: String, by_node: bool },
    /// The request is larger than somebody takes.
    TooLarge(String),
    /// One of the documents makes the whole request invalid.
    Invalid { kind: String, reason: String },
}

#[derive(Deserialize)]
struct Bulk {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Created,
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "_id")]
    id: String,
    status: u16,
    #[serde(default)]
    error: Option<Cause>,
}

#[derive(Deserialize, Default)]
struct Cause {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    caused_by: Option<Box<Cause>>,
}

impl Cause {
    fn text(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or_default();
        match self.caused_by.as_ref().and_then(|cause| cause.reason.as_deref()) {
            Some(more) if !reason.contains(more) => format!("{reason}: {more}"),
            _ => reason.to_owned(),
        }
    }
}

/// An engine's own way to say that something is wrong.
#[derive(Deserialize)]
struct Wrong {
    error: Cause,
}

/// The parts of the answer that are of interest.
pub(crate) const FILTER: &str = "items.*._id,items.*.status,items.*.error.type,items.*.error.reason,\
                                 items.*.error.caused_by.reason";

/// Reads the answer to a request with documents of these ids.
pub(crate) fn read(answer: &Answer, ids: &[&str]) -> Whole {
    let again = |reason, text: String, by_node| Whole::Again { reason, text, by_node };
    let said = || said(answer);
    match answer.status {
        200 => each(answer, ids)
            .unwrap_or_else(|reason| again(reason, format!("answer 200, but {}", said()), true)),
        413 => Whole::TooLarge(said()),
        401 => again(Reason::Credentials, said(), false),
        403 => again(Reason::Forbidden, said(), false),
        429 => again(Reason::Busy, said(), false),
        408 | 500.. => again(Reason::ServerError, said(), true),
        400 => match serde_json::from_slice::<Wrong>(&answer.body) {
            Ok(Wrong { error }) => Whole::Invalid { reason: error.text(), kind: error.kind },
            Err(_) => again(Reason::WrongProduct, said(), true),
        },
        _ => again(Reason::WrongProduct, said(), true),
    }
}

fn each(answer: &Answer, ids: &[&str]) -> Result<Whole, Reason> {
    let wrong = || if looks_like_a_page(&answer.body) { Reason::WrongProduct } else { Reason::Garbled };
    let bulk: Bulk = serde_json::from_slice(&answer.body).map_err(|_| wrong())?;
    let fits =
        bulk.items.len() == ids.len() && bulk.items.iter().zip(ids).all(|(item, id)| item.create.id == *id);
    if !fits {
        return Err(Reason::Garbled);
    }
    Ok(Whole::Each(bulk.items.into_iter().map(|item| verdict(item.create)).collect()))
}

fn looks_like_a_page(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'<')
}

fn verdict(item: Created) -> Verdict {
    let error = item.error.unwrap_or_default();
    let text = || format!("{} {}: {}", item.status, error.kind, error.text());
    let retry = |reason| Verdict::Retry(reason, text());
    match item.status {
        200..=299 if error.kind.is_empty() => Verdict::Stored,
        409 if matches!(error.kind.as_str(), "" | "version_conflict_engine_exception") => Verdict::Duplicate,
        429 if error.kind == "cluster_block_exception" => retry(Reason::Blocked),
        429 => retry(Reason::Busy),
        500.. => retry(Reason::ServerError),
        401 => retry(Reason::Credentials),
        403 if error.kind == "cluster_block_exception" => retry(Reason::Blocked),
        403 => retry(Reason::Forbidden),
        404 => retry(Reason::IndexMissing),
        400..=499 if item.status != 409 => match of_the_index(&error) {
            Some(reason) => retry(reason),
            None => Verdict::Dead { status: item.status, reason: error.text(), kind: error.kind },
        },
        _ => retry(Reason::Garbled),
    }
}

/// What has the status of a document's mistake and is none: the next document would be refused as well.
fn of_the_index(error: &Cause) -> Option<Reason> {
    let text = error.text();
    if text.contains("maximum shards open") || text.contains("maximum normal shards open") {
        return Some(Reason::Shards);
    }
    let unusable = ["index_closed_exception", "invalid_index_name_exception"].contains(&error.kind.as_str())
        || text.starts_with("no write index is defined for alias");
    unusable.then_some(Reason::IndexUnusable)
}

/// The status, and the beginning of what came with it.
pub(crate) fn said(answer: &Answer) -> String {
    if let Ok(Wrong { error }) = serde_json::from_slice::<Wrong>(&answer.body) {
        return format!("answer {} {}: {}", answer.status, error.kind, error.text());
    }
    const ENOUGH: usize = 200;
    let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(ENOUGH)]);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.trim() {
        "" => format!("answer {} without content", answer.status),
        text => format!("answer {}: {text}", answer.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.as_bytes().to_vec(), ..Answer::default() }
    }

    fn item(status: u16, kind: &str, reason: &str) -> Verdict {
        let body = format!(
            r#"{{"items":[{{"create":{{"_id":"a","status":{status},"error":{{"type":"{kind}","reason":"{reason}"}}}}}}]}}"#
        );
        match read(&answer(200, &body), &["a"]) {
            Whole::Each(mut verdicts) => verdicts.remove(0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_item_that_says_so_is_stored() {
        let body = r#"{"items":[{"create":{"_id":"a","status":201}},{"create":{"_id":"b","status":409,
            "error":{"type":"version_conflict_engine_exception","reason":"[b]: document already exists"}}}]}"#;
        let expected = Whole::Each(vec![Verdict::Stored, Verdict::Duplicate]);
        assert_eq!(read(&answer(200, body), &["a", "b"]), expected);
    }

    #[test]
    fn each_status_of_an_item_has_its_verdict() {
        for (status, kind, reason, expected) in [
            (429, "es_rejected_execution_exception", "full", Some(Reason::Busy)),
            (429, "circuit_breaking_exception", "full", Some(Reason::Busy)),
            (429, "cluster_block_exception", "disk usage exceeded flood-stage", Some(Reason::Blocked)),
            (403, "cluster_block_exception", "index read-only", Some(Reason::Blocked)),
            (403, "security_exception", "no permissions", Some(Reason::Forbidden)),
            (401, "security_exception", "no", Some(Reason::Credentials)),
            (404, "index_not_found_exception", "no such index", Some(Reason::IndexMissing)),
            (500, "x", "y", Some(Reason::ServerError)),
            (503, "unavailable_shards_exception", "primary", Some(Reason::ServerError)),
            (
                400,
                "validation_exception",
                "this cluster currently has [9]/[9] maximum shards open",
                Some(Reason::Shards),
            ),
            (400, "index_closed_exception", "closed", Some(Reason::IndexUnusable)),
            (
                400,
                "illegal_argument_exception",
                "no write index is defined for alias [x]",
                Some(Reason::IndexUnusable),
            ),
            (409, "other_exception", "z", Some(Reason::Garbled)),
            (302, "", "", Some(Reason::Garbled)),
            (201, "mapper_parsing_exception", "both", Some(Reason::Garbled)),
            (400, "mapper_parsing_exception", "bad", None),
            (400, "document_parsing_exception", "bad", None),
            (400, "illegal_argument_exception", "immense term", None),
            (413, "too_large", "bad", None),
        ] {
            match (item(status, kind, reason), expected) {
                (Verdict::Retry(found, text), Some(expected)) => {
                    assert_eq!(found, expected, "{status} {kind}");
                    assert!(text.contains(kind) && text.contains(reason), "{text}");
                }
                (Verdict::Dead { status: found, .. }, None) => assert_eq!(found, status),
                other => panic!("{status} {kind}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_answer_that_does_not_fit_confirms_nothing() {
        for body in [
            "",
            "null",
            "{}",
            r#"{"errors":false}"#,
            r#"{"items":[]}"#,
            r#"{"items":[{"create":{"_id":"b","status":201}}]}"#,
            r#"{"items":[{"index":{"_id":"a","status":201}}]}"#,
            r#"{"items":[{"create":{"_id":"a"}}]}"#,
            r#"{"items":[{"create":{"_id":"a","status":201}},{"create":{"_id":"b","status":201}}]}"#,
            r#"{"items":[{"create":{"_id":"a","status":201}}"#,
        ] {
            let found = read(&answer(200, body), &["a"]);
            assert!(matches!(found, Whole::Again { reason: Reason::Garbled, .. }), "{body}: {found:?}");
        }
    }

    #[test]
    fn each_status_of_a_request_has_its_meaning() {
        let error = r#"{"error":{"type":"t","reason":"r"},"status":400}"#;
        for (status, body, expected, by_node) in [
            (200, "<html>hello", Reason::WrongProduct, true),
            (204, "", Reason::WrongProduct, true),
            (301, "", Reason::WrongProduct, true),
            (400, "<html>The plain HTTP request was sent to HTTPS port", Reason::WrongProduct, true),
            (401, "", Reason::Credentials, false),
            (403, "", Reason::Forbidden, false),
            (404, "page not found", Reason::WrongProduct, true),
            (408, "", Reason::ServerError, true),
            (429, error, Reason::Busy, false),
            (500, error, Reason::ServerError, true),
            (503, "", Reason::ServerError, true),
        ] {
            match read(&answer(status, body), &["a"]) {
                Whole::Again { reason, by_node: found, text } => {
                    assert_eq!((reason, found), (expected, by_node), "{status}");
                    assert!(text.contains(&status.to_string()), "{text}");
                }
                other => panic!("{status}: {other:?}"),
            }
        }
        assert!(matches!(read(&answer(413, ""), &["a"]), Whole::TooLarge(_)));
        let Whole::Invalid { kind, reason } = read(&answer(400, error), &["a"]) else {
            panic!("not invalid")
        };
        assert_eq!((kind.as_str(), reason.as_str()), ("t", "r"));
    }
}
